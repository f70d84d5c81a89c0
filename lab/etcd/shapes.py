"""Shapes of load: how the rate goes over time."""

import math
import random
from collections.abc import Callable
from typing import Final

Shape = Callable[[float], float]
"""Rate relative to the base, at a time in seconds since the start."""

SEGMENT: Final = 30.0  # seconds between two levels of `steps`
EVERY: Final = 45.0  # seconds in which `bursts` has one


def constant(_seed: int) -> Shape:
    """Return a rate that stays."""
    return lambda _t: 1.0


def sine(seed: int) -> Shape:
    """Return a day in some minutes: a sine between 0.5 and 1.5 whose period (3 to 8 min) and phase are drawn."""
    chance = random.Random(f"{seed}/sine")
    period, phase = chance.uniform(180, 480), chance.uniform(0, 2 * math.pi)
    return lambda t: 1 + 0.5 * math.sin(2 * math.pi * t / period + phase)


def steps(seed: int) -> Shape:
    """Return levels between 0.4 and 1.8, a new one every half minute."""
    return lambda t: random.Random(f"{seed}/steps/{int(t // SEGMENT)}").uniform(0.4, 1.8)


def bursts(seed: int) -> Shape:
    """Return 0.7 with a burst (x 2 to 4, 2 to 8 s) somewhere in every 45 s."""

    def rate(t: float) -> float:
        chance = random.Random(f"{seed}/bursts/{int(t // EVERY)}")
        begin, length, height = chance.uniform(0, EVERY - 8), chance.uniform(2, 8), chance.uniform(2, 4)
        return 0.7 * (height if begin <= t % EVERY < begin + length else 1.0)

    return rate


SHAPES: Final[dict[str, Callable[[int], Shape]]] = {
    "constant": constant,
    "sine": sine,
    "steps": steps,
    "bursts": bursts,
}
"""Name to maker; a maker takes a seed."""
