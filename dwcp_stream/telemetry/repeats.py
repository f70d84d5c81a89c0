"""Rate limit of repeated warnings and errors: a poison flood must not become a log flood."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable

MOST_KEYS = 1000
KEY_FIELDS = ("event", "error_type", "stage", "stream", "model", "topic")


class RepeatLimiter:
    """Lets one occurrence of a key through in each interval and counts the others.

    Parameters
    ----------
    interval
        Seconds; 0 lets everything through.
    clock
        Monotonic seconds.
    """

    def __init__(self, interval: float, clock: Callable[[], float]) -> None:
        self._interval, self._clock = interval, clock
        self._seen: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def admit(self, key: Hashable) -> int | None:
        """Return how many were held back since the last one let through; None: hold this one back."""
        now = self._clock()
        since, held = self._seen.get(key, (-float("inf"), 0))
        if now - since < self._interval:
            self._seen[key] = (since, held + 1)
            return None
        self._seen[key] = (now, 0)
        self._seen.move_to_end(key)
        if len(self._seen) > MOST_KEYS:
            self._seen.popitem(last=False)
        return held


class RepeatFilter(logging.Filter):
    """Applies a limiter to records of level warning and above, of structlog and of plain logging alike.

    Records are alike when their event and bounded words are, whatever their offsets and times; the one that
    is written says in `held_back` how many were not.
    """

    def __init__(self, limiter: RepeatLimiter) -> None:
        super().__init__()
        self._limiter = limiter

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write a record."""
        if record.levelno < logging.WARNING:
            return True
        event = record.msg  # structlog hands over its event dictionary here, plain logging a template
        words = [event.get(name) for name in KEY_FIELDS] if isinstance(event, dict) else [str(event)]
        held = self._limiter.admit((record.name, record.levelno, *map(str, words)))
        if held is None:
            return False
        if held:
            if isinstance(event, dict):
                record.msg = {**event, "held_back": held}
            else:
                record.held_back = held
        return True
