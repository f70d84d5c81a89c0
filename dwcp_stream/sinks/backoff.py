"""How long to wait before a request is sent again."""

from dataclasses import dataclass
from random import Random
from typing import Final

MOST_ASKED: Final = 300.0
"""Seconds that a server may ask for (Retry-After); more is cut."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter: evenly between 0 and `base * 2**attempt`, at most `most` seconds.

    Source: M. Brooker, Exponential Backoff and Jitter, AWS Architecture Blog, 2015.
    """

    base: float = 0.5
    most: float = 60.0

    def ceiling(self, attempt: int) -> float:
        """Return the longest wait in seconds after the failed attempt `attempt`, counted from 0."""
        return float(min(self.most, self.base * 2.0 ** min(attempt, 62)))

    def wait(self, attempt: int, random: Random, asked: float | None = None) -> float:
        """Return seconds to wait; no less than the server has asked for."""
        drawn = random.uniform(0.0, self.ceiling(attempt))
        return drawn if asked is None else max(drawn, min(max(asked, 0.0), MOST_ASKED))
