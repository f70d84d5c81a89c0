"""The rules by which verdicts become an alert and end it, for one entity and one model."""

from dataclasses import dataclass
from enum import Enum

SLACK = 1e-6
"""Seconds by which a duration may fall short: epoch seconds in float64 are exact to 0.2 microseconds only."""


class Step(Enum):
    """What a verdict did to a condition."""

    NONE = "none"
    DROPPED = "dropped"
    FIRING = "firing"
    ESCALATED = "escalated"
    RESOLVED = "resolved"


@dataclass(slots=True)
class Condition:
    """A run of verdicts over the threshold: pending, then firing until it has been quiet for long enough.

    Attributes
    ----------
    since
        Event time of the first verdict over the threshold.
    active
        Whether the alert fires; before that the condition is pending.
    level
        Highest severity level reached since `since`; it never goes down.
    below
        Event time since when every verdict has been under the resolve threshold, or None.
    """

    since: float
    active: bool = False
    level: int = 0
    below: float | None = None

    def step(self, ts: float, score: float, level: int, min_duration: float, resolve_below: float) -> Step:
        """Apply one verdict; `level` is the score's own severity level (0 if not over the threshold).

        Pending breaks at the first verdict that is not over the threshold. While firing, a score between
        `resolve_below` and the threshold neither ends nor renews anything, but breaks a run of quiet
        verdicts.
        """
        if not self.active:
            return self._pending(ts, level, min_duration)
        if score < resolve_below:
            if self.below is None:
                self.below = ts
            return Step.RESOLVED if ts - self.below >= min_duration - SLACK else Step.NONE
        self.below = None
        if level > self.level:
            self.level = level
            return Step.ESCALATED
        return Step.NONE

    def _pending(self, ts: float, level: int, min_duration: float) -> Step:
        if level == 0:
            return Step.DROPPED
        self.level = max(self.level, level)
        if ts - self.since < min_duration - SLACK:
            return Step.NONE
        self.active = True
        return Step.FIRING
