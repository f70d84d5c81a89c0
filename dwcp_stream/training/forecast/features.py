"""What the forecaster sees: the newest value as origin, everything else as a distance from it in units of the scale.

So a link of 10 ms and one of 300 ms look alike, and repeating the last value is the forecast of zero. Distances are
cut at `LIMIT` scales. Targets may be seen as logarithms; gaps are bridged by the value before.
"""

from dataclasses import dataclass

import numpy as np

from dwcp_stream.training.forecast.layout import Layout
from dwcp_stream.training.forecast.memory import Memory, Shapes, add_memory, fill_forward, running_sum
from dwcp_stream.training.graph import Graph, to_bytes

LIMIT = 20.0


@dataclass(frozen=True)
class Features:
    """Names of values in the graph.

    `common` [B, Y, I] and `seasonal` [B, Y, H, J] the features; `origin` [B, Y] the newest known value, transformed
    (0 if there is none); `scale` [B, Y] the unit; `unknown` [B, Y] bool, no value in the whole window; `newest`
    [B, Y] the newest row itself, NaN if missing; `memory` what is carried on.
    """

    common: str
    seasonal: str | None
    origin: str
    scale: str
    unknown: str
    newest: str
    memory: Memory


def add_features(g: Graph, window: str, time: str, state: str, shape: Layout, shapes: Shapes) -> Features:
    """Add the features to a graph whose inputs are `window` [B, T, F], `time` [B, T] and `state` [B, S]."""
    t, y = shape.window, len(shape.targets)
    x = _transformed(g, g.slice(window, 2, 0, y), shape)
    filled = fill_forward(g, x, t)
    last = g.take(filled, 1, t - 1)
    unknown = g.is_nan(last)
    origin = g.where(unknown, g.const(0.0), last)
    memory = add_memory(g, x, last, time, state, shape, shapes)
    # rows before the first value are as if it had always been there; the origin goes first, for float32's sake
    off = g.sub(filled, g.op("Unsqueeze", origin, g.ints(1)))
    off = g.where(g.is_nan(off), g.const(0.0), off)
    columns = [g.take(off, 1, t - 1 - lag) for lag in range(1, shape.lags + 1)]
    columns += [_median(g, g.slice(off, 1, t - k), k) for k in shape.medians]
    columns.append(g.mul(running_sum(g, off, t), g.const(1.0 / t)))
    columns.append(g.sub(memory.level, origin))
    columns += [g.sub(g.take(part, 2, 0), origin) for pair in memory.seasons for part in pair]
    unit = g.op("Reciprocal", memory.scale)
    away = [g.mul(column, unit) for column in columns]
    away.append(_activity(g, off, unit, shape))
    away += _covariates(g, window, shape)
    if shape.seasons:
        away.append(memory.cold)
    common = g.clip(_stack(g, away, 2), -LIMIT, LIMIT)
    moves = [
        g.mul(g.sub(g.slice(part, 2, 1), g.slice(part, 2, 0, 1)), g.op("Unsqueeze", unit, g.ints(2)))
        for pair in memory.seasons
        for part in pair
    ]
    seasonal = g.clip(_stack(g, moves, 3), -LIMIT, LIMIT) if moves else None
    return Features(common, seasonal, origin, memory.scale, unknown, g.take(x, 1, t - 1), memory)


def features_model(shape: Layout, shapes: Shapes) -> bytes:
    """Build the graph of the features alone, which makes the training rows: what serves is what was trained on."""
    g = Graph("forecast-features")
    y, h = len(shape.targets), len(shape.horizons)
    window = g.input("window", np.float32, ["batch", shape.window, len(shape.fields)])
    time = g.input("time", np.float64, ["batch", shape.window])
    state = g.input("state_in", np.float32, ["batch", shape.memory])
    made = add_features(g, window, time, state, shape, shapes)
    g.output(made.common, "common", np.float32, ["batch", y, shape.common])
    if made.seasonal:
        g.output(made.seasonal, "seasonal", np.float32, ["batch", y, h, shape.seasonal])
    g.output(made.origin, "origin", np.float32, ["batch", y])
    g.output(made.scale, "scale", np.float32, ["batch", y])
    g.output(made.memory.out, "state_out", np.float32, ["batch", shape.memory])
    return to_bytes(g.model())


def _transformed(g: Graph, values: str, shape: Layout) -> str:
    """Targets [B, T, Y] as the forecaster sees them; what is below a logarithm's floor counts as the floor."""
    logs = [t.log for t in shape.transforms]
    if not any(logs):
        return values
    floors = g.const([t.floor if t.log else 1.0 for t in shape.transforms])
    missing = g.is_nan(values)
    safe = g.op("Max", g.where(missing, floors, values), floors)
    taken = g.smooth("Log", safe, shape.window, len(shape.targets))
    return g.where(missing, g.const(np.nan), g.where(g.const(logs, np.bool_), taken, values))


def _median(g: Graph, rows: str, k: int) -> str:
    """Median [B, Y] of k (odd) rows [B, k, Y]."""
    return g.take(g.multi("TopK", [rows, g.ints(k // 2 + 1)], 2, axis=1)[0], 1, k // 2)


def _activity(g: Graph, off: str, unit: str, shape: Layout) -> str:
    """Logarithm of the mean step in the window over the scale [B, Y]: how restless it is just now."""
    t = shape.window
    steps = g.op("Abs", g.sub(g.slice(off, 1, 1), g.slice(off, 1, 0, t - 1)))
    mean = g.mul(running_sum(g, steps, t - 1), g.const(1.0 / (t - 1)))
    ratio = g.clip(g.mul(mean, unit), 1e-3, 1e3)
    return g.smooth("Log", ratio, len(shape.targets))


def _covariates(g: Graph, window: str, shape: Layout) -> list[str]:
    """Newest distance to the window's mean and newest step of other columns, in their own spread, each [B, Y]."""
    if not shape.covariates:
        return []
    t, size = shape.window, len(shape.covariates)
    filled = fill_forward(g, g.take(window, 2, shape.covariates), t)
    last = g.slice(filled, 1, t - 1)
    last = g.where(g.is_nan(last), g.const(0.0), last)
    past = g.where(g.is_nan(filled), last, filled)
    mean = g.op("Unsqueeze", g.mul(running_sum(g, past, t), g.const(1.0 / t)), g.ints(1))
    off = g.sub(past, mean)
    spread = g.mul(running_sum(g, g.op("Abs", off), t), g.const(1.0 / t))
    spread = g.add(spread, g.add(g.mul(g.op("Abs", g.reshape(last, -1, size)), g.const(1e-6)), g.const(1e-30)))
    distance = g.div(g.take(off, 1, t - 1), spread)
    step = g.div(g.sub(g.take(past, 1, t - 1), g.take(past, 1, t - 2)), spread)
    return [
        g.op("Expand", g.slice(made, 1, i, i + 1), g.ints(1, len(shape.targets)))
        for made in (distance, step)
        for i in range(size)
    ]


def _stack(g: Graph, values: list[str], axis: int) -> str:
    return g.concat([g.op("Unsqueeze", v, g.ints(axis)) for v in values], axis=axis)
