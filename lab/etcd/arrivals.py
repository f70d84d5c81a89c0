"""When requests are planned, and what they ask for: a Poisson process whose rate may change at any time."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

KEYS: Final = 10_000
SIZES: Final = (128, 4096)  # bytes of a value; drawn so that each doubling is as likely
IDLE: Final = 0.05  # seconds until the rate is looked at again where it is nearly zero
NEARLY: Final = 0.05  # requests per second


@dataclass(frozen=True)
class Operation:
    """One request.

    Attributes
    ----------
    number
        0 for the first.
    planned
        Time it is to be sent, in seconds since the start.
    kind
        `put` or `get`.
    key
        Key to write or read.
    size
        Bytes of the value of a put.
    """

    number: int
    planned: float
    kind: Literal["put", "get"]
    key: str
    size: int


class Arrivals:
    """The requests, one after another.

    Parameters
    ----------
    seed
        Same seed and same rates, same requests.
    rate
        Requests per second at a time in seconds since the start; asked once per request.
    gets
        Share of the requests that read.
    """

    def __init__(self, seed: int, rate: Callable[[float], float], gets: float = 0.1) -> None:
        self._chance = random.Random(f"{seed}/arrivals")
        self._rate, self._gets = rate, gets
        self._time, self._count = 0.0, 0

    def next(self) -> Operation:
        """Return the next request; its time depends on the rates so far, never on any answer."""
        chance = self._chance
        while (rate := self._rate(self._time)) < NEARLY:
            self._time += IDLE
        self._time += chance.expovariate(rate)
        low, high = (math.log2(size) for size in SIZES)
        operation = Operation(
            number=self._count,
            planned=self._time,
            kind="get" if chance.random() < self._gets else "put",
            key=f"lab/{chance.randrange(KEYS):05d}",
            size=round(2 ** chance.uniform(low, high)),
        )
        self._count += 1
        return operation
