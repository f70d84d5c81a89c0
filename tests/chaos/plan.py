"""The plan: which faults, in which order, drawn from a seed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

WORKERS = ("kill", "term", "sleep", "join", "leave", "throttle", "clock")
BROKER = ("broker-restart", "broker-kill", "broker-pause", "broker-timeout")
PRODUCER = ("state-refused", "outputs-refused")
TELEMETRY = ("resent", "reordered", "time-jumps")
ALWAYS = (*WORKERS, *BROKER, *PRODUCER, *TELEMETRY)
ON_REQUEST = ("swap",)
"""Classes that a run has only if they are named."""

AT_ONCE = 0.3
"""Share of the faults after which the next one comes before the site has worked off what was waiting."""


@dataclass(frozen=True)
class Fault:
    """One fault of a plan.

    Parameters
    ----------
    kind
        Its class, a name of `ALWAYS` or `ON_REQUEST`.
    draw
        A number in [0, 1) from which the fault takes its victim, length or size.
    settle
        Wait afterwards until all is worked off that was in the topic when the fault ended.
    """

    kind: str
    draw: float
    settle: bool

    def __str__(self) -> str:
        return f"{self.kind}({self.draw:.3f}){'' if self.settle else ' at once'}"


def make_plan(seed: int, count: int, kinds: Sequence[str] = ALWAYS) -> list[Fault]:
    """Return `count` faults: shuffled decks of all kinds, so that each comes as often as any other."""
    dice = random.Random(seed)
    drawn = itertools.islice(_decks(dice, kinds), count)
    return [Fault(kind, dice.random(), dice.random() >= AT_ONCE) for kind in drawn]


def _decks(dice: random.Random, kinds: Sequence[str]) -> Iterator[str]:
    while True:
        yield from dice.sample(kinds, len(kinds))
