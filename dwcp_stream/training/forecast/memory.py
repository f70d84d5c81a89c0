"""What the forecaster remembers of a target, as ONNX nodes: its scale, its level, and a value per slot of each season.

Two values per slot: the newest (a period ago) and a slow mean over periods. An entity that was never seen starts
from the shape that the training rows have in common, put through its first value, and its own days take over.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.forecast.layout import NUMBERS, Layout, Season
from dwcp_stream.training.graph import Graph

SCALE_ROWS, LEVEL_ROWS = 64.0, 256.0
"""Rows over which the scale and the level forget."""
SLOW = 0.25
"""Weight of the newest period in the slow mean."""
JUMP = 8.0
"""A step counts for at most so many scales, so that one odd sample does not widen everything; and the scale is at
least that part of the window's mean step, so that it soon follows a lasting change."""
YOUNG, SHOWN = 16.0, 3.0
"""Windows of an entity in which all steps count whole; steps in a window that tell of its scale."""
SMALLEST = 1e-6
"""Smallest scale, as a share of the value: about what float32 can tell apart."""
MAX_CATCH_UP = 32

Shapes = tuple[NDArray[np.float32], ...]
"""Per season the usual course [Y, slots], in transformed units, or in scales where a transform is `relative`."""


@dataclass(frozen=True)
class Memory:
    """Names of values in the graph.

    `scale`, `level` [B, Y]; `cold` [B, Y] 1 while no season has been seen whole, else 0; `seasons` per season the
    newest and the slow value, each [B, Y, 1 + H] at the newest row and at the horizons; `number` [B] int64 of the
    newest row; `out` [B, M] what is carried on.
    """

    scale: str
    level: str
    cold: str
    seasons: tuple[tuple[str, str], ...]
    number: str
    out: str


def add_memory(g: Graph, x: str, newest: str, time: str, state: str, shape: Layout, shapes: Shapes) -> Memory:
    """Read the memory and bring it up to date.

    Parameters
    ----------
    g
        The graph.
    x, newest
        Transformed targets [B, T, Y] and the newest known value of the window [B, Y]; NaN where missing.
    time
        [B, T] float64.
    state
        [B, S], NaN in all places where there is none yet.
    shape, shapes
        Sizes; usual courses that unseen entities start from.
    """
    y, t = len(shape.targets), shape.window
    state = g.where(g.is_nan(state), g.const(0.0), state)
    unknown = g.is_nan(newest)
    held = g.where(unknown, g.const(0.0), newest)
    head = g.reshape(g.slice(state, 1, 1, 1 + 3 * y), -1, y, 3)
    count, scale, level = (g.take(head, 2, i) for i in range(3))
    warm = g.op("Greater", count, g.const(0.5))

    new, before = g.take(x, 1, t - 1), g.take(x, 1, t - 2)
    moved = g.op("Abs", g.sub(new, before))
    moved_known = g.op("Not", g.is_nan(moved))
    floor = g.add(g.mul(g.op("Abs", held), g.const(SMALLEST)), g.const(1e-30))
    own, shown = _window_scale(g, x, t)
    usual = g.const([transform.step for transform in shape.transforms])
    first = g.where(g.op("Less", shown, g.const(SHOWN)), usual, own)
    scale = g.op("Max", g.where(warm, scale, first), floor)
    weight = g.op("Max", g.op("Reciprocal", g.add(g.op("Max", count, g.const(0.0)), g.const(8.0))),
                  g.const(1.0 / SCALE_ROWS))  # fmt: skip
    moved = g.where(moved_known, moved, scale)
    young = g.op("Less", count, g.const(YOUNG))
    capped = g.where(young, moved, g.op("Min", moved, g.mul(scale, g.const(JUMP))))
    scale = g.op("Max", g.add(scale, g.mul(weight, g.sub(capped, scale))), floor)
    scale = g.op("Max", scale, g.mul(own, g.const(1.0 / JUMP)))

    weight = g.op("Max", g.op("Reciprocal", g.add(g.op("Max", count, g.const(0.0)), g.const(1.0))),
                  g.const(1.0 / LEVEL_ROWS))  # fmt: skip
    level = g.where(warm, level, held)
    level = g.add(level, g.mul(weight, g.sub(g.where(g.is_nan(new), level, new), level)))
    count = g.op("Max", count, g.const(0.0))
    count = g.where(unknown, count, g.op("Min", g.add(count, g.const(1.0)), g.const(1e6)))

    relative = g.const([transform.relative for transform in shape.transforms], np.bool_)
    unit = g.where(relative, scale, g.const(1.0))
    cold = g.cast(g.op("LessOrEqual", count, g.const(shape.cold)), np.float32)
    seconds = g.take(time, 1, t - 1)
    number = _row_number(g, seconds, g.take(state, 1, 0), shape)
    kept = [g.op("Unsqueeze", g.cast(number, np.float32), g.ints(1))]
    kept.append(g.reshape(_stack(g, [count, scale, level]), -1, 3 * y))
    seasons, begin = [], 1 + 3 * y
    for season, course in zip(shape.seasons, shapes, strict=True):
        size = y * season.slots
        pair = []
        for part, rate in enumerate((1.0, SLOW)):
            held_slots = g.reshape(
                g.slice(state, 1, begin + part * size, begin + (part + 1) * size), -1, y, season.slots
            )
            slots = _Slots(g, shape, season)
            start = slots.start(held, unit, seconds, course)
            current = g.where(g.op("Unsqueeze", warm, g.ints(2)), held_slots, start)
            pair.append(slots.read(current, seconds))
            kept.append(g.reshape(slots.write(current, x, time, rate), -1, size))
        seasons.append((pair[0], pair[1]))
        begin += 2 * size
    return Memory(scale, level, cold, tuple(seasons), number, g.concat(kept, axis=1))


class _Slots:
    """The slots of one season: where a time falls, and what is there."""

    def __init__(self, g: Graph, shape: Layout, season: Season) -> None:
        self.g, self.shape, self.season = g, shape, season

    def slot(self, seconds: str) -> str:
        """Slot of times [...] float64, as int64; samples sit in the middle of their slot where slots are steps."""
        g, slots = self.g, self.season.slots
        shifted = g.op("Add", seconds, g.const(0.5 * min(self.shape.step, self.season.seconds / slots), np.float64))
        periods = g.op("Div", shifted, g.const(self.season.seconds, np.float64))
        share = g.op("Sub", periods, g.op("Floor", periods))
        place = g.op("Floor", g.op("Mul", share, g.const(float(slots), np.float64)))
        return g.cast(g.op("Min", place, g.const(slots - 1.0, np.float64)), np.int64)

    def start(self, held: str, unit: str, seconds: str, course: NDArray[np.float32]) -> str:
        """Values [B, Y, slots] of an entity seen for the first time: the usual course through its newest value."""
        g = self.g
        here = g.op("Gather", g.const(course.T), self.slot(seconds), axis=0)  # [B, Y]
        off = g.sub(g.const(course[None]), g.op("Unsqueeze", here, g.ints(2)))
        return g.add(g.op("Unsqueeze", held, g.ints(2)), g.mul(off, g.op("Unsqueeze", unit, g.ints(2))))

    def read(self, values: str, seconds: str) -> str:
        """Values [B, Y, 1 + H] at the newest row and at the horizons after it."""
        g, y = self.g, len(self.shape.targets)
        ahead = g.const([[0.0, *(h * self.shape.step for h in self.shape.horizons)]], np.float64)
        place = self.slot(g.op("Add", g.op("Unsqueeze", seconds, g.ints(1)), ahead))  # [B, 1 + H]
        index = g.op("Expand", g.op("Unsqueeze", place, g.ints(1)), g.ints(1, y, 1))
        return g.op("GatherElements", values, index, axis=2)

    def write(self, values: str, x: str, time: str, rate: float) -> str:
        """Values after the rows since the window before have been learnt, oldest first."""
        g, t = self.g, self.shape.window
        for back in range(min(self.shape.stride, t, MAX_CATCH_UP) - 1, -1, -1):
            row = g.op("Unsqueeze", g.take(x, 1, t - 1 - back), g.ints(2))  # [B, Y, 1]
            place = g.op("Unsqueeze", self.slot(g.take(time, 1, t - 1 - back)), g.ints(1))
            here = g.op("Equal", g.const(np.arange(self.season.slots)[None], np.int64), place)  # [B, slots]
            here = g.op("And", g.op("Unsqueeze", here, g.ints(1)), g.op("Not", g.is_nan(row)))
            learnt = row if rate == 1.0 else g.add(values, g.mul(g.const(rate), g.sub(row, values)))
            values = g.where(here, learnt, values)
        return values


def _row_number(g: Graph, seconds: str, last: str, shape: Layout) -> str:
    """Return the newest row's number [B] int64, modulo `NUMBERS`: from the clock, or counted where rows have none."""
    if shape.irregular:
        return g.op("Mod", g.cast(g.add(g.op("Abs", last), g.const(float(shape.stride))), np.int64),
                    g.const(NUMBERS, np.int64))  # fmt: skip
    steps = g.op("Add", g.op("Div", seconds, g.const(shape.step, np.float64)), g.const(0.5, np.float64))
    return g.op("Mod", g.cast(g.op("Floor", steps), np.int64), g.const(NUMBERS, np.int64))


def fill_forward(g: Graph, x: str, rows: int) -> str:
    """Replace NaN in [B, T, ...] by the newest value before it; leading NaN stay."""
    back = 1
    while back < rows:  # each pass doubles the reach
        shifted = g.concat([g.slice(x, 1, 0, back), g.slice(x, 1, 0, rows - back)], axis=1)
        x = g.where(g.is_nan(x), shifted, x)
        back *= 2
    return x


def _window_scale(g: Graph, x: str, rows: int) -> tuple[str, str]:
    """Mean absolute step [B, Y] over the window, 0 if no two rows in a row are known; and how many there are."""
    moves = g.op("Abs", g.sub(g.slice(x, 1, 1), g.slice(x, 1, 0, rows - 1)))
    missing = g.is_nan(moves)
    count = running_sum(g, g.cast(g.op("Not", missing), np.float32), rows - 1)
    total = running_sum(g, g.where(missing, g.const(0.0), moves), rows - 1)
    return g.div(total, g.op("Max", count, g.const(1.0))), count


def running_sum(g: Graph, x: str, rows: int) -> str:
    """Sum [B, T, Y] over T row by row; a reduction's order may depend on where in memory a window begins."""
    return g.take(g.op("CumSum", x, g.const(1, np.int64)), 1, rows - 1)


def _stack(g: Graph, values: list[str]) -> str:
    return g.concat([g.op("Unsqueeze", v, g.ints(2)) for v in values], axis=2)
