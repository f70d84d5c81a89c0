"""When a model is to be trained again, and on telemetry since when."""

from dataclasses import dataclass
from typing import Literal

from dwcp_stream.loop.policy import Policy

Change = Literal["drift", "skill"]
"""What may tell that a model is no longer the right one: a drift state, or that its forecasts are worth nothing."""
Reason = Literal["command", "schedule"] | Change


@dataclass(frozen=True, slots=True)
class Trainings:
    """What is known of a model's trainings; times are event time, epoch seconds.

    Attributes
    ----------
    last
        Of the last attempt, or since when the model is known where there was none; None: not at all.
    accepted
        Of the last one that gave a candidate, None if there was none.
    changed, change
        When its champion was last found to have drifted, or to have lost its skill, None if it was not; and which.
    attempts
        Attempts since then.
    commanded
        Whether somebody has asked for one.
    """

    last: float | None = None
    accepted: float | None = None
    changed: float | None = None
    change: Change = "drift"
    attempts: int = 0
    commanded: bool = False


def due(now: float, trainings: Trainings, policy: Policy) -> tuple[Reason, float | None] | None:
    """Return why a model is to be trained now, and the time of the change if that is why; None if it is not.

    After a change telemetry is collected first. If what it gave is not good enough, the next attempt waits twice as
    long, until there is a candidate; what becomes of that is another matter.
    """
    if trainings.commanded:
        return "command", None
    changed = trainings.changed
    if policy.on_drift and changed is not None and (trainings.accepted is None or trainings.accepted < changed):
        if now - changed >= policy.collect * 2**trainings.attempts:
            return trainings.change, changed
        return None  # a training by schedule would learn from what is over
    if policy.interval and trainings.last is not None and now - trainings.last >= policy.interval:
        return "schedule", None
    return None
