"""Alerts of all entities of one partition under one model: which fire, and what each verdict changes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.alerts.policy import Condition, Step
from dwcp_stream.alerts.severity import LEVELS, check_cutoffs, level
from dwcp_stream.errors import MISFITS, ConfigError, NewerStateError, StateError
from dwcp_stream.events import Action
from dwcp_stream.streams.checks import policy_problems
from dwcp_stream.streams.definition import AlertPolicy

STATE_VERSION = 1
_ACTIONS: dict[Step, tuple[Action, str]] = {
    Step.FIRING: ("firing", "threshold"),
    Step.ESCALATED: ("escalated", "threshold"),
    Step.RESOLVED: ("resolved", "recovered"),
}


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of one alert.

    `index` is the verdict's position in the observed arrays, -1 when expired. `starts_at` is the first
    verdict over the threshold; `ends_at` the first of the quiet verdicts that ended it, or the time of
    expiry, NaN while the alert lasts. `severity` is the highest reached since `starts_at`.
    """

    index: int
    slot: int
    action: Action
    starts_at: float
    ends_at: float
    event_time: float
    score: float
    severity: str
    reason: str


class TakenAlerts:
    """Copies of the conditions of some slots, for a checkpoint."""

    def __init__(self, conditions: list[Condition | None]) -> None:
        self._conditions = conditions

    def plain(self, i: int) -> list[Any] | None:
        """Return the i-th slot's condition as plain values, None if there is nothing to keep."""
        c = self._conditions[i]
        return None if c is None else [STATE_VERSION, c.since, c.active, c.level, c.below]


class AlertTracker:
    """Turns verdicts into transitions, with hysteresis in time and level.

    Per slot: fires once the score, divided by `policy.threshold`, has been over 1 for `policy.min_duration`, escalates
    when a higher
    severity is reached, resolves once it has been under `policy.resolve_below` for as long, but at least
    one verdict. What becomes of a slot depends only on that slot's verdicts and their order.

    Parameters
    ----------
    policy
        Durations in seconds, the resolve threshold, in (0, 1], and the multiplier of the models' threshold.
    cutoffs
        Severity cut-offs `[1, a, b]` of the model.
    capacity
        Number of slots to begin with.
    """

    def __init__(self, policy: AlertPolicy, cutoffs: Sequence[float], capacity: int = 0) -> None:
        for problem in policy_problems(policy):
            raise ConfigError(problem.what, where=problem.key, remedy=problem.remedy)
        self.policy = policy
        self._cutoffs = check_cutoffs(cutoffs)
        self._conditions: dict[int, Condition] = {}
        self._tracked: NDArray[np.bool_] = np.zeros(capacity, np.bool_)

    @property
    def cutoffs(self) -> tuple[float, ...]:
        """Severity cut-offs; set them when another version of the model takes over."""
        return self._cutoffs

    @cutoffs.setter
    def cutoffs(self, cutoffs: Sequence[float]) -> None:
        self._cutoffs = check_cutoffs(cutoffs)

    @property
    def firing(self) -> int:
        """Number of alerts that fire."""
        # a list is made in one go: metrics ask while another thread processes a chunk
        return sum(c.active for c in list(self._conditions.values()))

    def active(self, slots: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of the slots have a firing alert, bool of the shape of `slots`."""
        result = self._tracked[slots]
        for i in np.flatnonzero(result).tolist():
            result[i] = self._conditions[int(slots[i])].active
        return result

    def stale(
        self, slots: NDArray[np.int64], last_ts: NDArray[np.float64], watermark: float, after: float
    ) -> NDArray[np.bool_]:
        """Return which slots' alerts fire although the entity has been silent for more than `after` seconds.

        Parameters
        ----------
        slots, last_ts
            Slots and the event time of the last sample of each, epoch seconds.
        watermark
            Event time the partition has reached.
        """
        return self.active(slots) & (watermark - last_ts > after)

    def observe(
        self, slots: NDArray[np.int64], ts: NDArray[np.float64], scores: NDArray[np.float32]
    ) -> list[Transition]:
        """Apply verdicts; the verdicts of one slot come in the order of their time.

        Parameters
        ----------
        slots, ts, scores
            Slot, event time (epoch seconds) and score (1.0 = threshold) of each verdict, shape (b,). A NaN
            score is no verdict and changes nothing; infinity is over every cut-off.

        Returns
        -------
        list of Transition
            In the order of the verdicts.
        """
        relative = scores.astype(np.float64) / self.policy.threshold
        over = relative > 1
        if over.any():
            self._tracked[slots[over]] = True
        elif not self._conditions:
            return []
        rows = np.flatnonzero(self._tracked[slots])
        if not len(rows):
            return []
        result: list[Transition] = []
        picked = zip(
            rows.tolist(),
            slots[rows].tolist(),
            ts[rows].tolist(),
            scores[rows].astype(np.float64).tolist(),
            relative[rows].tolist(),
            strict=True,
        )
        for row, slot, when, score, times in picked:
            if score == score:  # noqa: PLR0124 (the quick test for NaN)
                transition = self._verdict(row, slot, when, score, times)
                if transition is not None:
                    result.append(transition)
        return result

    def _verdict(self, row: int, slot: int, ts: float, score: float, times: float) -> Transition | None:
        """Apply one verdict; `times` is how often the threshold is in the score."""
        severity = level(times, self._cutoffs)
        condition = self._conditions.get(slot)
        if condition is None:
            if severity == 0:
                return None
            condition = self._conditions[slot] = Condition(ts)
            self._tracked[slot] = True
        step = condition.step(ts, times, severity, self.policy.min_duration, self.policy.resolve_below)
        if step is Step.NONE:
            return None
        ends_at = math.nan
        if step in (Step.DROPPED, Step.RESOLVED):
            del self._conditions[slot]
            self._tracked[slot] = False
            if step is Step.DROPPED:
                return None
            ends_at = ts if condition.below is None else condition.below
        action, reason = _ACTIONS[step]
        return Transition(row, slot, action, condition.since, ends_at, ts, score, LEVELS[condition.level], reason)

    def expire(self, slots: NDArray[np.int64], event_times: NDArray[np.float64]) -> list[Transition]:
        """Resolve what fires in slots whose entity has been silent too long, and forget all about them.

        Parameters
        ----------
        slots, event_times
            Slots and the event time at which each expires, epoch seconds.
        """
        result: list[Transition] = []
        hit = np.flatnonzero(self._tracked[slots])
        for slot, when in zip(slots[hit].tolist(), event_times[hit].tolist(), strict=True):
            c = self._conditions.pop(slot)
            self._tracked[slot] = False
            if c.active:
                name = LEVELS[c.level]
                result.append(Transition(-1, slot, "resolved", c.since, when, when, math.nan, name, "expired"))
        return result

    def resize(self, capacity: int) -> None:
        """Make room for `capacity` slots; never shrinks."""
        if capacity > len(self._tracked):
            grown = np.zeros(capacity, np.bool_)
            grown[: len(self._tracked)] = self._tracked
            self._tracked = grown

    def clear(self, slots: NDArray[np.int64]) -> None:
        """Forget the slots without a transition."""
        for slot in slots[self._tracked[slots]].tolist():
            del self._conditions[slot]
        self._tracked[slots] = False

    def take(self, slots: NDArray[np.int64]) -> TakenAlerts:
        """Copy the slots' conditions."""
        taken: list[Condition | None] = [None] * len(slots)
        for i in np.flatnonzero(self._tracked[slots]).tolist():
            c = self._conditions[int(slots[i])]
            taken[i] = Condition(c.since, c.active, c.level, c.below)
        return TakenAlerts(taken)

    def load(self, slot: int, plain: Any) -> None:
        """Put a condition back, as `TakenAlerts.plain` gave it.

        Raises
        ------
        StateError
            If it is not a condition; `NewerStateError` if a later version wrote it.
        """
        self.clear(np.array([slot]))
        if plain is None:
            return
        try:
            version = int(plain[0])
            if version > STATE_VERSION:
                raise NewerStateError(
                    f"alert state version {version}, this daemon knows {STATE_VERSION}",
                    where="alert",
                    remedy="Run the version that wrote it, or a later one.",
                )
            _, since, active, severity, below = plain
            condition = Condition(float(since), bool(active), int(severity), None if below is None else float(below))
            if not (math.isfinite(condition.since) and math.isfinite(condition.below or 0.0)):
                raise ValueError("a time that is not finite")
            if not 0 <= condition.level < len(LEVELS):
                raise ValueError(f"severity {condition.level}")
        except MISFITS as error:
            raise StateError(f"not an alert's state: {error}", where="alert") from error
        self._conditions[slot] = condition
        self._tracked[slot] = True
