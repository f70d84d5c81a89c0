"""When a version is trained, how long it is compared, and what decides: numbers that the settings give."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of the loop for one model. Times are event time, in seconds.

    Attributes
    ----------
    interval
        From one training to the next; 0: none by schedule.
    on_drift
        Whether a model that has drifted, or whose forecasts are no better than the last value any more, is trained
        again.
    collect
        How long telemetry is collected after that was found before training: of what has changed there must be
        something to learn from.
    share
        Percentage of entities that a challenger serves; 0: a shadow that is better becomes champion at once.
    block
        Paired buckets of realised errors that are taken together; longer than errors stay alike.
    challenge
        How long a challenger serves its share before it can become champion.
    max_age
        After so long a version about which nothing can be said is dropped.
    alpha
        How likely a version that is no better may be promoted, and one that is no worse be dropped for being worse.
    """

    interval: float = 86_400.0
    on_drift: bool = True
    collect: float = 86_400.0
    share: int = 10
    block: int = 36
    challenge: float = 3_600.0
    max_age: float = 864_000.0
    alpha: float = 0.05
