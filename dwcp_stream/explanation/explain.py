"""All that can be said of one verdict, from the window that it is about."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from dwcp_stream.events import rfc3339
from dwcp_stream.explanation.counterfactual import Change, changes, together
from dwcp_stream.explanation.witness import Seen
from dwcp_stream.scoring import Model
from dwcp_stream.streams import Field, StreamDefinition

Cell = float | str | None


@dataclass(frozen=True)
class Explanation:
    """Why a score is what it is.

    Attributes
    ----------
    score, threshold
        The model's score, and the one over which the stream's policy raises an alert.
    told
        The score that the alert has, None without an alert.
    times, window
        Times of the window's rows, and the values of each of the model's fields, oldest first; words for categories.
    expected, contribution
        By field, of the newest row; what the model does not say is left out.
    changes
        By field what change would have been enough, the smallest first; none if the score is below the threshold.
    together
        Fields that are enough only together, where none is alone.
    trail
        Times, scores, values and expected values of the verdicts before, for a picture.
    """

    stream: str
    entity: str
    model: str
    version: int
    at: str
    score: float
    threshold: float
    told: float | None
    times: list[str]
    window: dict[str, list[Cell]]
    expected: dict[str, Cell]
    contribution: dict[str, float]
    changes: list[Change]
    together: list[str]
    trail: Sequence[Seen] = field(default=(), repr=False)

    @property
    def exact(self) -> bool | None:
        """Whether the score is the alert's, bit for bit; None without an alert."""
        return None if self.told is None else self.score == self.told

    def plain(self) -> dict[str, Any]:
        """Return plain values, for JSON; without the trail."""
        names = [f for f in self.__dataclass_fields__ if f not in ("trail", "changes")]
        found = {name: getattr(self, name) for name in names}
        reproduced = {
            "score": self.score,
            "alert_score": self.told,
            "exact": self.exact,
            "difference": None if self.told is None else self.score - self.told,
        }
        return {**found, "reproduced": reproduced, "changes": [asdict(c) | {"enough": c.enough} for c in self.changes]}


def explain(
    model: Model,
    stream: StreamDefinition,
    entity: str,
    seen: Seen,
    *,
    told: float | None = None,
    trail: Sequence[Seen] = (),
) -> Explanation:
    """Explain a verdict.

    Parameters
    ----------
    model
        The version that gave it, bound to the stream.
    entity
        Encoded.
    seen
        Window and verdict.
    told
        Score of the alert that is explained.
    trail
        Verdicts of the entity before.
    """
    threshold = stream.alert.of(model.name).threshold
    columns = [stream.field_index(name) for name in model.fields]
    fields = [stream.fields[at] for at in columns]
    weights = model.explain(
        seen.window[None], seen.times[None], None if seen.state is None else seen.state[None]
    )  # fmt: skip
    tried = changes(model, stream, seen, threshold) if seen.score >= threshold else []
    alone = any(change.enough for change in tried)
    return Explanation(
        stream=stream.name,
        entity=entity,
        model=model.name,
        version=model.version,
        at=rfc3339(seen.ts),
        score=float(seen.score),
        threshold=threshold,
        told=told,
        times=[rfc3339(ts) for ts in seen.times.tolist()],
        window={
            f.name: [cell(f, v) for v in seen.window[:, at].tolist()] for f, at in zip(fields, columns, strict=True)
        },
        expected={} if seen.expected is None else _known(fields, seen.expected.tolist()),
        contribution={}
        if weights is None
        else {f.name: w for f, w in zip(fields, weights[0].tolist(), strict=True) if np.isfinite(w)},
        changes=tried,
        together=[] if alone or not tried else together(model, stream, seen, tried, threshold),
        trail=trail,
    )


def cell(about: Field, value: float) -> Cell:
    """Return a value as people write it: None where it is missing, the word of a code."""
    if not np.isfinite(value):
        return None
    if about.coded:
        code = round(value)
        return about.vocabulary[code] if 0 <= code < len(about.vocabulary) else None
    return value


def _known(fields: Sequence[Field], values: Sequence[float]) -> dict[str, Cell]:
    shown = {f.name: cell(f, value) for f, value in zip(fields, values, strict=True)}
    return {name: value for name, value in shown.items() if value is not None}
