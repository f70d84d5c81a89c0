"""The smallest change of one field that brings a score below the threshold, found by scoring the changed windows.

Counterfactual explanations after S. Wachter, B. Mittelstadt, C. Russell: Counterfactual explanations without opening
the black box. Harvard Journal of Law & Technology 31 (2018), with changes along one line per field: towards what was
expected.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.explanation.witness import Seen
from dwcp_stream.scoring import Model
from dwcp_stream.streams import Field, StreamDefinition

F32 = NDArray[np.float32]
STEPS: Final = 64
"""Parts of the way from the value that was measured to the usual one that are tried."""


@dataclass(frozen=True)
class Change:
    """What becomes of the score if one field had been nearer to what is usual.

    Attributes
    ----------
    field
        Its name.
    value, usual
        What was measured, and what the model expected or, where it expects nothing, the median of the window before.
    rows
        How many of the newest rows are changed.
    needed
        Value with which the score is below the threshold, the nearest one tried; None if none is. Where several rows
        are changed, that of the newest one.
    score
        With that value; if there is none, the lowest score that was found.
    """

    field: str
    value: float | None
    usual: float | None
    rows: int
    needed: float | None
    score: float

    @property
    def enough(self) -> bool:
        """Whether this field alone brings the score below the threshold."""
        return self.needed is not None


def changes(model: Model, stream: StreamDefinition, seen: Seen, threshold: float) -> list[Change]:
    """Return for each field of a model the nearest change that is enough; those first that need the smallest share.

    The newest row alone is changed first, then twice as many rows, until the whole window. Nothing is scored but
    windows of measured values and of values between these and the usual ones.
    """
    found = []
    for column, name in enumerate(model.fields):
        field = stream.fields[stream.field_index(name)]
        usual = usual_value(seen, column, stream.field_index(name), field)
        if usual is not None:
            found.append(_of_field(model, stream, seen, field, usual, threshold))
    return [change for _, change in sorted(found, key=lambda pair: pair[0])]


def together(model: Model, stream: StreamDefinition, seen: Seen, tried: list[Change], threshold: float) -> list[str]:
    """Return fields that together bring the score below the threshold where none does alone, the strongest first.

    Each is held at its usual value over the rows of its own change. Empty if all of them together are not enough.
    """
    window, names = seen.window.copy(), []
    for change in sorted(tried, key=lambda c: c.score):
        if change.usual is None:
            continue
        window[-change.rows :, stream.field_index(change.field)] = change.usual
        names.append(change.field)
        if _scores(model, seen, window[None])[0] < threshold:
            return names
    return []


def usual_value(seen: Seen, column: int, at: int, field: Field) -> float | None:
    """Return what a field should have been: expected by the model, else usual in the first half of its window.

    Parameters
    ----------
    column
        Of the field among the model's.
    at
        Of the field in the window.
    """
    if seen.expected is not None and np.isfinite(seen.expected[column]) and not field.coded:
        low, high = -np.inf if field.min is None else field.min, np.inf if field.max is None else field.max
        return float(np.clip(seen.expected[column], low, high))
    before = seen.window[: max(len(seen.window) // 2, 1), at]
    before = before[np.isfinite(before)]
    if not len(before):
        return None
    if field.coded:
        words, counts = np.unique(before, return_counts=True)
        return float(words[counts.argmax()])
    return float(np.median(before))


def _of_field(
    model: Model, stream: StreamDefinition, seen: Seen, field: Field, usual: float, threshold: float
) -> tuple[tuple[int, float, float], Change]:
    at = stream.field_index(field.name)
    value = float(seen.window[-1, at])
    measured = None if np.isnan(value) else value
    shares = np.ones(1) if field.coded else np.arange(1, STEPS + 1) / STEPS
    lowest, fewest, rows = np.inf, 1, 1
    while True:
        windows = np.repeat(seen.window[None], len(shares), axis=0)
        old = windows[:, -rows:, at].astype(np.float64)
        moved = old + shares[:, None] * (usual - old)
        windows[:, -rows:, at] = np.where(np.isnan(old), usual, moved)
        scores = _scores(model, seen, windows)
        enough = np.flatnonzero(scores < threshold)
        if len(enough):
            first = int(enough[0])
            needed = float(windows[first, -1, at])
            change = Change(field.name, measured, usual, rows, needed, float(scores[first]))
            return (rows, float(shares[first]), change.score), change
        if np.isfinite(scores).any() and float(np.nanmin(scores)) < lowest:
            lowest, fewest = float(np.nanmin(scores)), rows
        if rows >= len(seen.window):
            return (len(seen.window) + 1, 1.0, lowest), Change(field.name, measured, usual, fewest, None, lowest)
        rows = min(2 * rows, len(seen.window))


def _scores(model: Model, seen: Seen, windows: F32) -> F32:
    times = np.repeat(seen.times[None], len(windows), axis=0)
    state = None if seen.state is None else np.repeat(seen.state[None], len(windows), axis=0)
    return model.score(windows, times, state).score
