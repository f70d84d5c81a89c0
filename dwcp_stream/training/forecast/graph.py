"""The forecaster as one ONNX graph, from raw window and state to quantiles, score and next state."""

from dataclasses import dataclass

import numpy as np

from dwcp_stream.training.forecast.features import add_features
from dwcp_stream.training.forecast.judge import Start, add_judgement, remember
from dwcp_stream.training.forecast.layout import Layout
from dwcp_stream.training.forecast.memory import Shapes
from dwcp_stream.training.forecast.network import Weights, export
from dwcp_stream.training.graph import Graph, to_bytes


@dataclass(frozen=True)
class Parts:
    """Everything a forecaster consists of.

    Attributes
    ----------
    shape, shapes
        Sizes, and the seasons' usual courses.
    weights
        Regression and network.
    start
        Where unseen entities start.
    threshold
        Residual in standard deviations at which the score is 1.
    """

    shape: Layout
    shapes: Shapes
    weights: Weights
    start: Start
    threshold: float = 1.0


def build(parts: Parts) -> bytes:
    """Build the graph; see docs/models.md for its inputs and outputs."""
    shape = parts.shape
    g = Graph("forecast")
    y, h = len(shape.targets), len(shape.horizons)
    window = g.input("window", np.float32, ["batch", shape.window, len(shape.fields)])
    time = g.input("time", np.float64, ["batch", shape.window])
    state = g.input("state_in", np.float32, ["batch", shape.state])
    made = add_features(g, window, time, state, shape, parts.shapes)
    number = made.memory.number
    judged = add_judgement(g, made.newest, made.scale, number, state, shape, parts.start)
    middle, lower, upper = export(g, made.common, made.seasonal, parts.weights, shape)

    scale, origin = (g.op("Unsqueeze", v, g.ints(1)) for v in (made.scale, made.origin))  # [B, 1, Y]
    away = g.mul(middle, scale)
    own = g.add(origin, away)
    moved = g.where(judged.trusted, away, g.const(0.0))
    q50 = g.add(origin, moved)
    widths = [
        g.mul(g.mul(width, g.smooth("Exp", factor, h, y)), scale)
        for width, factor in ((lower, judged.lower), (upper, judged.upper))
    ]
    q10, q90 = g.sub(q50, widths[0]), g.add(q50, widths[1])
    repeated = g.add(origin, g.mul(away, g.const(0.0)))
    waiting = g.concat([g.op("Unsqueeze", v, g.ints(3)) for v in (q10, q50, q90, own, repeated)], axis=3)
    following = g.concat([made.memory.out, *remember(g, waiting, number, state, shape), judged.counts], axis=1)

    values = g.concat([g.op("Unsqueeze", v, g.ints(3)) for v in (q10, q50, q90)], axis=3)
    values = _in_units(g, values, shape, (h, y, 3))
    blank = g.reshape(made.unknown, -1, 1, y, 1)
    g.output(g.where(blank, g.const(np.nan), values), "quantiles", np.float32, ["batch", h, y, 3])
    g.output(g.div(judged.score, g.const(parts.threshold)), "score", np.float32, ["batch"])
    expected = _in_units(g, g.reshape(judged.expected, -1, 1, y, 1), shape, (1, y, 1))
    _to_fields(g, g.reshape(expected, -1, y), shape)
    g.output(following, "state_out", np.float32, ["batch", shape.state])
    return to_bytes(g.model())


def _in_units(g: Graph, values: str, shape: Layout, size: tuple[int, int, int]) -> str:
    """Undo the transformation of [B, n, Y, m] and keep to the fields' ranges; NaN stays NaN."""
    logs = [t.log for t in shape.transforms]
    if any(logs):
        grown = g.smooth("Exp", g.clip(values, -80.0, 80.0), *size)
        values = g.where(g.const(np.array(logs)[:, None], np.bool_), grown, values)
    for kind, bounds in (("Max", [t.low for t in shape.transforms]), ("Min", [t.high for t in shape.transforms])):
        if any(b is not None for b in bounds):
            open_end = -np.inf if kind == "Max" else np.inf
            limits = np.array([open_end if b is None else b for b in bounds], np.float32)[:, None]
            limited = g.op(kind, values, g.const(np.nan_to_num(limits, posinf=3.4e38, neginf=-3.4e38)))
            values = g.where(g.is_nan(values), values, limited)
    return values


def _to_fields(g: Graph, expected: str, shape: Layout) -> None:
    """Add the output `expected` [B, F]: targets as forecast, NaN elsewhere."""
    rest = len(shape.fields) - len(shape.targets)
    if rest:
        one = g.slice(expected, 1, 0, 1)
        blank = g.where(g.op("Equal", one, one), g.const(np.nan), g.const(np.nan))
        expected = g.concat([expected, g.op("Expand", blank, g.ints(1, rest))], axis=1)
    g.output(expected, "expected", np.float32, ["batch", len(shape.fields)])
