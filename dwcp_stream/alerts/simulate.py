"""Alerts that a policy makes of scores that are known: no model runs, so that many policies can be tried."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.alerts.diff import Raised
from dwcp_stream.alerts.tracker import AlertTracker
from dwcp_stream.streams.definition import AlertPolicy


@dataclass(frozen=True)
class ScoreHistory:
    """Verdicts of one model over a history, those of an entity in the order of their time.

    Attributes
    ----------
    model
        Name of the model.
    cutoffs
        Its severity cut-offs.
    names
        Encoded entities.
    entity, ts, score
        Index into `names`, event time in epoch seconds and score of each verdict, [n].
    """

    model: str
    cutoffs: tuple[float, ...]
    names: Sequence[str]
    entity: NDArray[np.int64]
    ts: NDArray[np.float64]
    score: NDArray[np.float32]

    def between(self, begin: float, end: float) -> "ScoreHistory":
        """Return the verdicts of a time, `end` excluded."""
        inside = (self.ts >= begin) & (self.ts < end)
        return replace(self, entity=self.entity[inside], ts=self.ts[inside], score=self.score[inside])


def simulate(history: ScoreHistory, policy: AlertPolicy, expire_after: float) -> list[Raised]:
    """Return the alerts that a policy would have raised, in order of their beginning.

    Parameters
    ----------
    expire_after
        Seconds of silence of an entity after which its alert is over, as in the stream's definition.
    """
    order = np.lexsort((np.arange(len(history.ts)), history.entity))
    entity, ts, score = history.entity[order], history.ts[order], history.score[order]
    fresh = np.ones(len(ts), bool)
    fresh[1:] = (np.diff(entity) != 0) | (np.diff(ts) > expire_after)
    slots = np.cumsum(fresh) - 1
    tracker = AlertTracker(policy, history.cutoffs, int(slots[-1]) + 1 if len(slots) else 0)
    last = np.full(len(np.flatnonzero(fresh)), -math.inf)
    np.maximum.at(last, slots, ts)
    first = np.flatnonzero(fresh)
    open_: dict[int, Raised] = {}
    found = []
    for step in tracker.observe(slots, ts, score):
        name = history.names[int(entity[first[step.slot]])]
        one = Raised(name, history.model, step.starts_at, math.inf, step.severity)
        if step.action == "resolved":
            found.append(replace(one, ends=step.ends_at))
            del open_[step.slot]
        else:
            open_[step.slot] = one
    newest = float(ts.max()) if len(ts) else 0.0
    for slot, one in open_.items():
        expired = float(last[slot]) + expire_after
        found.append(replace(one, ends=expired) if expired < newest else one)
    return sorted(found, key=lambda r: (r.starts, r.entity))
