"""Watches one entity's windows as they are scored."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.scoring import Model, Verdicts

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

TRAIL: Final = 240
"""Verdicts before the one in question that are kept, for the picture and for what the model usually misses by."""
ROUNDING: Final = 5e-4
"""Seconds that a time which was written in milliseconds may be off."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One window and its verdict.

    Attributes
    ----------
    ts
        Time of the newest row, epoch seconds.
    window, times
        [T, F] of the stream, and [T].
    state
        [S] that the model remembered before, None if it has none.
    score
        The model's.
    expected
        [M] of the model's fields, None if it expects nothing.
    """

    ts: float
    window: F32
    times: F64
    state: F32 | None
    score: np.float32
    expected: F32 | None


class Witness:
    """Remembers the verdict on one entity at one time, and those before it.

    Parameters
    ----------
    entity
        Encoded.
    model
        Name of the model.
    at
        Epoch seconds of the newest row; a verdict within half a millisecond is the one.
    nearest
        Take the last verdict at or before `at` instead.

    Attributes
    ----------
    found
        The verdict in question.
    trail
        Those up to it, the newest last.
    """

    def __init__(self, entity: str, model: str, at: float, *, nearest: bool = False) -> None:
        self._entity, self._model, self._at, self._nearest = entity, model, at, nearest
        self.found: Seen | None = None
        self.trail: deque[Seen] = deque(maxlen=TRAIL)

    def __call__(
        self,
        model: Model,
        entities: Sequence[str],
        ts: F64,
        windows: F32,
        times: F64,
        before: F32 | None,
        verdicts: Verdicts,
    ) -> None:
        """Look at what was scored; see `stages.Witness`."""
        if model.name != self._model:
            return
        for i, entity in enumerate(entities):
            at = float(ts[i])
            if entity != self._entity or at > self._at + ROUNDING:
                continue
            seen = Seen(
                at,
                windows[i].copy(),
                times[i].copy(),
                None if before is None else before[i].copy(),
                verdicts.score[i],
                None if verdicts.expected is None else verdicts.expected[i].copy(),
            )
            self.trail.append(seen)
            if self._nearest or abs(at - self._at) <= ROUNDING:
                self.found = seen
