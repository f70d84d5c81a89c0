"""How the forecaster watches itself, as ONNX nodes: forecasts wait in the state until their time has come.

What came then moves three things per target and horizon. `edge`: the running difference between the model's own
error and that of repeating the last value; while it is over 0 the last value is repeated. `lower` and `upper`: the
logarithms of the factors on the half-widths, which grow after a miss and shrink after a hit, so that each entity
gets intervals that cover what they promise (quantile tracking: Angelopoulos, Candes and Tibshirani 2023).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.forecast.layout import NUMBERS, PER_FORECAST, Layout
from dwcp_stream.training.graph import Graph

F32 = NDArray[np.float32]

RATE = 0.04
"""Step of a factor's logarithm per forecast and unit of the share missed."""
SETTLED = 50.0
"""Forecasts over which the step of a long horizon falls to `RATE` over the horizon's root: such forecasts overlap, so
their misses come in runs, which a larger step takes for a wider world."""
TAIL = 0.1
"""Share of actuals that may lie under q10, and over q90."""
REACH = 3.0
"""Bound of a factor's logarithm around its start."""
EDGE_LIMIT = 30.0
"""One forecast moves the edge by at most so many scales."""
PATIENCE = 2000.0
"""Forecasts over which `edge` forgets: long, because a forecast's errors overlap those of its neighbours."""
SIGMA = 1.2815515655446004
"""Half-width of an 80 % interval of a normal distribution, in standard deviations."""
RESIDUAL_LIMIT = 50.0
TOGETHER = 3
"""Targets, the farthest off, whose residuals are weighed together."""
FREEDOM = 3.0
"""Degrees of freedom of the distribution (Student's t) that residuals are thought to have: with heavy tails, so that
three targets off by four deviations tell more than one that is off by ten."""


@dataclass(frozen=True)
class Start:
    """Where an unseen entity starts, from validation rows; each [H, Y].

    Attributes
    ----------
    edge, prior
        In scales, and how many forecasts it counts as.
    lower, upper
        Logarithms of the factors.
    """

    edge: F32
    prior: F32
    lower: F32
    upper: F32


@dataclass(frozen=True)
class Judged:
    """Names of values in the graph.

    `trusted` [B, H, Y] bool, whether the model is used; `lower`, `upper` [B, H, Y] the factors' logarithms; `score`
    [B] the newest row's residual in standard deviations, see `together`, 0 where nothing was forecast for it;
    `expected` [B, Y] the forecast of the shortest horizon for it (NaN: none); `counts` the numbers to carry on.
    """

    trusted: str
    lower: str
    upper: str
    score: str
    expected: str
    counts: str


def add_judgement(g: Graph, newest: str, scale: str, number: str, state: str, shape: Layout, start: Start) -> Judged:
    """Settle the forecasts that were made for the newest row.

    Parameters
    ----------
    g
        The graph.
    newest, scale
        [B, Y] the newest row, NaN if missing, and the unit.
    number
        [B] int64 of the newest row.
    state
        [B, S], NaN in all places where there is none yet.
    shape, start
        Sizes; where unseen entities start.
    """
    y, h = len(shape.targets), len(shape.horizons)
    begin = shape.blocks[-1][1]
    held = g.reshape(g.slice(state, 1, begin, shape.state), -1, h, y, 4)
    first = np.stack([start.edge, start.lower, start.upper, np.zeros_like(start.edge)], axis=2)
    held = g.where(g.is_nan(held), g.const(first[None]), held)
    edge, lower, upper, seen = (g.take(held, 3, i) for i in range(4))
    due = [_due(g, state, number, shape, i) for i in range(h)]
    made = g.concat([g.op("Unsqueeze", values, g.ints(1)) for values, _ in due], axis=1)  # [B, H, Y, 5]
    hit = g.concat([g.op("Unsqueeze", found, g.ints(1)) for _, found in due], axis=1)  # [B, H, 1]
    actual = g.op("Unsqueeze", newest, g.ints(1))
    settled = g.op("And", hit, g.op("Not", g.is_nan(actual)))  # [B, H, Y]
    low, middle, high, own, repeated = (g.take(made, 3, i) for i in range(PER_FORECAST))
    actual = g.where(settled, actual, middle)

    came, told = (_distance(g, value, repeated, shape) for value in (actual, own))
    worse = g.sub(g.op("Abs", g.sub(came, told)), g.op("Abs", came))
    worse = g.clip(g.div(worse, g.op("Unsqueeze", scale, g.ints(1))), -EDGE_LIMIT, EDGE_LIMIT)
    weight = g.op("Max", g.op("Reciprocal", g.add(g.op("Max", seen, g.const(0.0)), g.const(start.prior[None]))),
                  g.const(1.0 / PATIENCE))  # fmt: skip
    new_edge = g.where(settled, g.add(edge, g.mul(weight, g.sub(worse, edge))), edge)
    new_seen = g.where(settled, g.op("Min", g.add(seen, g.const(1.0)), g.const(1e6)), seen)
    least = np.sqrt(1.0 / np.asarray(shape.horizons, np.float64))[None, :, None]
    early = g.div(g.const(SETTLED), g.add(g.op("Max", seen, g.const(0.0)), g.const(SETTLED)))
    rate = g.mul(g.op("Max", early, g.const(least)), g.const(RATE))
    new_lower = _tracked(g, lower, g.op("Less", actual, low), settled, start.lower, rate)
    new_upper = _tracked(g, upper, g.op("Greater", actual, high), settled, start.upper, rate)

    above = g.op("Greater", actual, middle)
    width = g.where(above, g.sub(high, middle), g.sub(middle, low))
    floor = g.mul(g.op("Unsqueeze", scale, g.ints(1)), g.const(0.05))
    residual = g.div(g.op("Abs", g.sub(actual, middle)), g.mul(g.op("Max", width, floor), g.const(1.0 / SIGMA)))
    residual = g.where(settled, g.clip(residual, 0.0, RESIDUAL_LIMIT), g.const(0.0))
    score = together(g, residual, shape)
    expected = g.where(g.take(settled, 1, 0), g.take(middle, 1, 0), g.const(np.nan))
    counts = g.concat([g.op("Unsqueeze", v, g.ints(3)) for v in (new_edge, new_lower, new_upper, new_seen)], axis=3)
    trusted = g.op("LessOrEqual", new_edge, g.const(0.0))
    return Judged(trusted, new_lower, new_upper, score, expected, g.reshape(counts, -1, 4 * h * y))


def together(g: Graph, residual: str, shape: Layout) -> str:
    """Weigh the residuals [B, H, Y] of several targets together, by horizon, and take the largest [B].

    The mean, over the targets that are farthest off, of what a residual takes from the logarithm of Student's density;
    given as the residual that would take as much if it were the only one. With one target it is that residual.
    """
    h, most = len(shape.horizons), min(TOGETHER, len(shape.targets))
    farthest, _ = g.multi("TopK", [residual, g.ints(most)], 2, axis=2)
    ratio = g.mul(g.mul(farthest, farthest), g.const(1.0 / FREEDOM))
    cost = g.smooth("Log", g.add(ratio, g.const(1.0)), h, most)
    mean = g.op("Sum", *(g.mul(g.take(cost, 2, i), g.const(1.0 / most)) for i in range(most)))  # [B, H]
    back = g.sub(g.smooth("Exp", mean, h), g.const(1.0))
    alone = g.op("Sqrt", g.mul(g.op("Max", back, g.const(0.0)), g.const(FREEDOM)))
    return g.reshape(g.reduce("ReduceMax", alone, [1]), -1)


def remember(g: Graph, made: str, number: str, state: str, shape: Layout) -> list[str]:
    """Put new forecasts [B, H, Y, 5] where those for the newest row were; the blocks of the next state."""
    blocks = []
    for i, horizon in enumerate(shape.horizons):
        begin, end = shape.blocks[i]
        places, width = shape.tracked(horizon), PER_FORECAST * len(shape.targets) + 1
        block = g.reshape(g.slice(state, 1, begin, end), -1, places, width)
        block = g.where(g.is_nan(block), g.const(-1.0), block)
        target = g.op("Mod", g.op("Add", number, g.const(horizon, np.int64)), g.const(NUMBERS, np.int64))
        row = [g.op("Unsqueeze", g.cast(target, np.float32), g.ints(1)), g.reshape(g.take(made, 1, i), -1, width - 1)]
        row_value = g.op("Unsqueeze", g.concat(row, axis=1), g.ints(1))
        blocks.append(g.reshape(g.where(_place(g, number, horizon, places), row_value, block), -1, end - begin))
    return blocks


def _due(g: Graph, state: str, number: str, shape: Layout, i: int) -> tuple[str, str]:
    """Forecast of the i-th horizon for the newest row [B, Y, 5] (0 if there is none), and whether there is [B, 1]."""
    horizon, (begin, end) = shape.horizons[i], shape.blocks[i]
    places, y = shape.tracked(horizon), len(shape.targets)
    block = g.reshape(g.slice(state, 1, begin, end), -1, places, PER_FORECAST * y + 1)
    chosen = g.op("And", _place(g, number, horizon, places), g.op("Not", g.is_nan(block)))
    row = g.reduce("ReduceSum", g.where(chosen, block, g.const(0.0)), [1], keep=False)  # one of them is not 0
    there = g.reduce("ReduceMax", g.cast(g.slice(chosen, 2, 0, 1), np.float32), [1], keep=False)  # [B, 1]
    same = g.op("Equal", g.slice(row, 1, 0, 1), g.op("Unsqueeze", g.cast(number, np.float32), g.ints(1)))
    return g.reshape(g.slice(row, 1, 1), -1, y, PER_FORECAST), g.op("And", same, g.op("Greater", there, g.const(0.5)))


def _place(g: Graph, number: str, horizon: int, places: int) -> str:
    """Mask [B, places, 1] of where forecasts for a row number wait; none where that number is not followed."""
    at = g.op("Mod", number, g.const(horizon, np.int64))
    return g.op("Equal", g.const(np.arange(places)[None, :, None], np.int64), g.reshape(at, -1, 1, 1))


def _distance(g: Graph, value: str, origin: str, shape: Layout) -> str:
    """Distance [B, H, Y] of a value from the one that was repeated; of a logarithm as a share of that one.

    What counts in the end are errors in the target's own unit, where a logarithm that is too high costs far more
    than one that is too low.
    """
    away = g.sub(value, origin)
    logs = [t.log for t in shape.transforms]
    if not any(logs):
        return away
    grown = g.smooth("Exp", g.clip(away, -10.0, 10.0), len(shape.horizons), len(shape.targets))
    return g.where(g.const(logs, np.bool_), g.sub(grown, g.const(1.0)), away)


def _tracked(g: Graph, factor: str, missed: str, settled: str, start: Any, rate: str) -> str:
    """Factor's logarithm after a hit or a miss; it stays within `REACH` of where it started."""
    step = g.mul(g.sub(g.cast(missed, np.float32), g.const(TAIL)), rate)
    moved = g.op("Min", g.add(factor, step), g.const(start[None] + REACH))
    moved = g.op("Max", moved, g.const(start[None] - REACH))
    return g.where(settled, moved, factor)
