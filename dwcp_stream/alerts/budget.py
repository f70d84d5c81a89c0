"""The alert policy that keeps to a budget of alerts a day on a history, and finds as much trouble as it can."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from dwcp_stream.alerts.diff import Raised
from dwcp_stream.alerts.simulate import ScoreHistory, simulate
from dwcp_stream.errors import PayloadError
from dwcp_stream.streams.definition import AlertPolicy
from dwcp_stream.wilson import wilson

DAY: Final = 86_400.0
STEPS: Final = 48
"""Thresholds that are tried between the models' own and the highest score."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Trouble of an entity, from its first to its last row, epoch seconds."""

    entity: str
    starts: float
    ends: float


@dataclass(frozen=True)
class Recall:
    """How many troubles an alert told of, while they lasted."""

    found: int
    of: int

    @property
    def share(self) -> float:
        """The share, NaN without trouble."""
        return self.found / self.of if self.of else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % interval (Wilson), NaN without trouble."""
        return wilson(self.found, self.of)


@dataclass(frozen=True)
class Kept:
    """What a policy makes of a part of the history.

    Attributes
    ----------
    days
        Length of the part.
    alerts
        All of them.
    """

    days: float
    alerts: list[Raised]

    @property
    def per_day(self) -> float:
        """Alerts a day."""
        return len(self.alerts) / self.days

    @property
    def worst_day(self) -> int:
        """The largest number of alerts that began on one day (UTC)."""
        return max(Counter(alert.day for alert in self.alerts).values(), default=0)


def keep(histories: Sequence[ScoreHistory], policy: AlertPolicy, days: float, expire_after: float) -> Kept:
    """Return what a policy makes of the verdicts of all models of a stream."""
    return Kept(days, [alert for history in histories for alert in simulate(history, policy, expire_after)])


def recall(alerts: Sequence[Raised], troubles: Sequence[Trouble]) -> Recall:
    """Count the troubles during which an alert of the entity fired, whichever model raised it."""
    by_entity: dict[str, list[Raised]] = {}
    for alert in alerts:
        by_entity.setdefault(alert.entity, []).append(alert)
    found = sum(
        any(
            alert.starts <= trouble.ends and trouble.starts <= alert.ends for alert in by_entity.get(trouble.entity, ())
        )
        for trouble in troubles
    )
    return Recall(found, len(troubles))


def within(
    histories: Sequence[ScoreHistory],
    policy: AlertPolicy,
    per_day: float,
    days: float,
    expire_after: float,
    *,
    every_day: bool = False,
) -> AlertPolicy:
    """Return the policy with the lowest threshold that keeps to the budget; never below the models' own.

    Thresholds are tried from the highest score downwards, until one raises too many: an alert that never ends is one
    alert,
    and no way to keep to a budget.

    Parameters
    ----------
    histories
        Verdicts of each model of the stream.
    policy
        Its `min_duration` and `resolve_below` are kept.
    per_day
        Alerts a day that the whole stream may raise.
    days
        Length of the history.
    every_day
        No single day (UTC) may have more; else it is the mean.

    Raises
    ------
    PayloadError
        Infinite scores alone are too many: no threshold helps.
    """
    scores = np.concatenate([history.score for history in histories]) if histories else np.zeros(0, np.float32)
    top = max(float(np.max(scores, where=np.isfinite(scores), initial=1.0)), 1.0)
    best: AlertPolicy | None = None
    for threshold in sorted({1.0, *(float(f"{t:.4g}") for t in np.geomspace(1.0, 1.001 * top, STEPS))}, reverse=True):
        tried = msgspec.structs.replace(policy, threshold=threshold)
        kept = keep(histories, tried, days, expire_after)
        if len(kept.alerts) > per_day * days or (every_day and kept.worst_day > per_day):
            break
        best = tried
    if best is None:
        raise PayloadError(
            f"more than {per_day:g} alerts a day come from scores that are infinite: no threshold helps",
            remedy="Look at the model: `dwcp-stream explain` one of its alerts",
        )
    return best


def choose(
    histories: Sequence[ScoreHistory],
    policy: AlertPolicy,
    per_day: float,
    days: float,
    expire_after: float,
    durations: Sequence[float],
    tests: tuple[Sequence[ScoreHistory], Sequence[Trouble]],
    *,
    every_day: bool = False,
) -> AlertPolicy:
    """Return the policy within a budget that finds most trouble; of equals the one that fires soonest.

    Parameters
    ----------
    durations
        Values of `min_duration` that are tried, seconds.
    tests
        Verdicts over a history with trouble in it, and the troubles.
    """
    trials, troubles = tests
    tried = []
    for duration in durations:
        own = msgspec.structs.replace(policy, min_duration=duration)
        own = within(histories, own, per_day, days, expire_after, every_day=every_day)
        found = recall(keep(trials, own, days, expire_after).alerts, troubles)
        tried.append((-found.found, own.min_duration, own.threshold, own))
    return min(tried, key=lambda row: row[:3])[3]
