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
    return Kept(
        days, [alert for history in histories for alert in simulate(history, policy.of(history.model), expire_after)]
    )


def recall(alerts: Sequence[Raised], troubles: Sequence[Trouble]) -> Recall:
    """Count the troubles during which an alert of the entity fired, whichever model raised it."""
    return Recall(len(told(alerts, troubles)), len(troubles))


def told(alerts: Sequence[Raised], troubles: Sequence[Trouble]) -> list[int]:
    """Return the numbers of the troubles during which an alert of the entity fired."""
    by_entity: dict[str, list[Raised]] = {}
    for alert in alerts:
        by_entity.setdefault(alert.entity, []).append(alert)
    return [
        number
        for number, trouble in enumerate(troubles)
        if any(a.starts <= trouble.ends and trouble.starts <= a.ends for a in by_entity.get(trouble.entity, ()))
    ]


@dataclass(frozen=True)
class Budget:
    """What a team will bear.

    Parameters
    ----------
    per_day
        Alerts a day that the whole stream may raise.
    days
        Length of the history.
    every_day
        No single day (UTC) may have more; else it is the mean.
    """

    per_day: float
    days: float
    every_day: bool = False

    def allows(self, alerts: Counter[str]) -> bool:
        """Return whether alerts by day keep to it."""
        if self.every_day and max(alerts.values(), default=0) > self.per_day:
            return False
        return alerts.total() <= self.per_day * self.days


@dataclass(frozen=True, slots=True)
class _Tried:
    """One model at one threshold: its alerts by day, and which troubles (by number) it tells of."""

    threshold: float
    alerts: Counter[str]
    found: frozenset[int]


def choose(
    histories: Sequence[ScoreHistory],
    policy: AlertPolicy,
    budget: Budget,
    expire_after: float,
    durations: Sequence[float],
    trials: Sequence[ScoreHistory] = (),
    troubles: Sequence[Trouble] = (),
) -> AlertPolicy:
    """Return the policy within a budget that finds most trouble.

    Each model has a threshold of its own, never below the one that it came with. All begin where nothing is raised;
    then the one is lowered by a step that finds most more trouble, of equals the one that raises fewest more alerts, as
    long as the budget allows a step. A model whose next step raises too many stays where it is: an alert that never
    ends is one alert, and no way to keep to a budget.

    Parameters
    ----------
    histories
        Verdicts of each model of the stream.
    policy
        Its `resolve_below` is kept.
    durations
        Values of `min_duration` that are tried, seconds; of equals the first is taken.
    trials, troubles
        Verdicts of each model over a history with trouble in it, and the troubles.

    Raises
    ------
    PayloadError
        Infinite scores alone are too many: no threshold helps.
    """
    best: tuple[int, AlertPolicy] | None = None
    for duration in durations:
        own = msgspec.structs.replace(policy, min_duration=duration, threshold=1.0, thresholds={})
        chosen = _descend([_ladder(history, own, expire_after, trials, troubles) for history in histories], budget)
        if chosen is None:
            continue
        found = len(_union(chosen))
        pairs = zip(histories, chosen, strict=True)
        thresholds = {history.model: step.threshold for history, step in pairs if step.threshold != 1.0}
        if best is None or found > best[0]:
            best = found, msgspec.structs.replace(own, thresholds=thresholds)
    if best is None:
        raise PayloadError(
            f"more than {budget.per_day:g} alerts a day come from scores that are infinite: no threshold helps",
            remedy="Look at the model: `dwcp-stream explain` one of its alerts",
        )
    return best[1]


def _ladder(
    history: ScoreHistory,
    policy: AlertPolicy,
    expire_after: float,
    trials: Sequence[ScoreHistory],
    troubles: Sequence[Trouble],
) -> list[_Tried]:
    """Return what a model does at each threshold, the highest first."""
    trial = next((trial for trial in trials if trial.model == history.model), None)
    top = max(float(np.max(history.score, where=np.isfinite(history.score), initial=1.0)), 1.0)
    steps = []
    for threshold in sorted({1.0, *(float(f"{t:.4g}") for t in np.geomspace(1.0, 1.001 * top, STEPS))}, reverse=True):
        tried = msgspec.structs.replace(policy, threshold=threshold)
        alerts = Counter(alert.day for alert in simulate(history, tried, expire_after))
        hits = [] if trial is None else told(simulate(trial, tried, expire_after), troubles)
        steps.append(_Tried(threshold, alerts, frozenset(hits)))
    return steps


def _descend(ladders: Sequence[Sequence[_Tried]], budget: Budget) -> list[_Tried] | None:
    """Return a step of each ladder, as `choose` says; None if not even the first ones keep to the budget."""
    steps, at = [ladder[0] for ladder in ladders], [0] * len(ladders)
    if not budget.allows(_total(steps)):
        return None
    while True:
        lower = [
            (number, [*steps[:number], ladder[at[number] + 1], *steps[number + 1 :]])
            for number, ladder in enumerate(ladders)
            if at[number] + 1 < len(ladder)
        ]
        lower = [(number, tried) for number, tried in lower if budget.allows(_total(tried))]
        if not lower:
            return steps
        number, steps = max(lower, key=lambda one: (len(_union(one[1])), -_total(one[1]).total()))
        at[number] += 1


def _total(steps: Sequence[_Tried]) -> Counter[str]:
    total: Counter[str] = Counter()
    for step in steps:
        total.update(step.alerts)
    return total


def _union(steps: Sequence[_Tried]) -> frozenset[int]:
    return frozenset(number for step in steps for number in step.found)
