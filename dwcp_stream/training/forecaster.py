"""The link forecaster: LSTM with attention and quantile heads, in jax and as one ONNX graph.

One causal LSTM runs over the window. From its state at the last row comes the forecast. From its states one
horizon before the last row, by the same head, come the forecasts that the last row is judged by: one step
shows a jump, the longer horizons show what creeps in. Attention looks back over the states up to the row that
is forecast from (scaled dot product, Vaswani et al. 2017). A linear path from the distance of the newest value
to the link's level starts the network off as an autoregression. The head gives the median as a multiple of the
window's spread over the newest value, and the distances of q10 and q90 from it, which a softplus keeps
positive, so that quantiles never cross.

Score. Per horizon and target the residual of the last row in standard deviations of the forecast, only in the
harmful direction (bandwidth down, the others up) and up to a limit; root mean square over targets; the largest
over horizons, divided by the threshold.
"""

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwcp_stream.training import recurrent as rnn
from dwcp_stream.training.graph import Graph, to_bytes
from dwcp_stream.training.link_features import OFFSETS, Features, Layout, add_features

LEVELS = (0.1, 0.5, 0.9)
SIGMA = 2.5631  # q90 - q10 of a normal distribution, in standard deviations
RESIDUAL_FLOOR = 0.02
RESIDUAL_LIMIT = 4.0  # low, so that one target's outlier weighs less than several that move together
GOOD_UP = frozenset({"bandwidth_mbps"})  # more of it is good news


@dataclass(frozen=True)
class Sizes:
    """Sizes of the network."""

    hidden: int
    wide: int
    horizons: tuple[int, ...]
    targets: int

    @property
    def outputs(self) -> int:
        """Numbers that the head gives: three per horizon and target."""
        return 3 * len(self.horizons) * self.targets


@partial(jax.jit, static_argnums=(1, 2))
def init(key: Any, sizes: Sizes, shape: Layout) -> rnn.Params:
    """Draw the network."""
    keys = jax.random.split(key, 4)
    head_in = 2 * sizes.hidden + sizes.targets + shape.context
    wide = rnn.init_dense(keys[2], head_in, sizes.wide)
    words = sum(shape.sizes)
    # a word that training never saw must not speak at serving time: its weights start, and stay, at zero
    wide["W"] = wide["W"].at[head_in - words :].set(0.0)
    return {
        "lstm": rnn.init_lstm(keys[0], shape.channels, sizes.hidden),
        "query": rnn.init_dense(keys[1], sizes.hidden, sizes.hidden),
        "wide": wide,
        "head": rnn.init_dense(keys[3], sizes.wide, sizes.outputs, scale=0.1),
        "skip": {"W": jnp.zeros((sizes.hidden + sizes.targets, sizes.outputs)), "b": jnp.zeros(sizes.outputs)},
    }


@partial(jax.jit, static_argnames=("lag", "base"))
def forecast(params: rnn.Params, inputs: rnn.Params, lag: int = 0, base: int = 0) -> Any:
    """Forecast quantiles of the logs.

    Parameters
    ----------
    params
        From `init`.
    inputs
        The features by name, see `link_features.Features`.
    lag, base
        Rows before the last row to forecast from, and the position in `bases` that belongs to it.

    Returns
    -------
    Array
        [B, H, Y, 3].
    """
    states = _run(params, inputs)
    return _read(params, states[:, : states.shape[1] - lag], inputs, base)


@lru_cache(maxsize=8)
def make_loss(horizons: tuple[int, ...]) -> Any:
    """Return the loss: mean pinball over known actuals, in units that make horizons and targets count alike.

    Its batch holds the features by name, `later` [B, H, Y], the actual logs at the horizons after the last row
    (NaN = unknown), and `unit` [H, Y]. A third of the loss is for the forecasts that the last row is judged by.
    """
    level = jnp.asarray(LEVELS)

    def pinball(quantiles: Any, actual: Any, known: Any, unit: Any) -> Any:
        error = (jnp.where(known, actual, 0.0)[..., None] - quantiles) / unit[..., None]
        lost = jnp.maximum(level * error, (level - 1.0) * error).mean(-1) * known
        return lost.sum() / jnp.maximum(known.sum(), 1)

    def loss(params: rnn.Params, batch: rnn.Params) -> Any:
        states = _run(params, batch)
        later, unit = batch["later"], batch["unit"]
        total = pinball(_read(params, states, batch, 0), later, jnp.isfinite(later), unit)
        for i, lag in enumerate(horizons):
            judged = _read(params, states[:, : states.shape[1] - lag], batch, i + 1)[:, i]
            part = pinball(judged, batch["actual"], batch["present"] > 0, unit[i])
            total = total + 0.5 * part / len(horizons)
        return total

    return loss


def build(params: rnn.Params, sizes: Sizes, shape: Layout, threshold: float, *, explain: bool = False) -> bytes:
    """Serialise the model: raw window to quantiles, score and expected values, or to contributions."""
    g = Graph("link_explain" if explain else "link_forecaster")
    window = g.input("window", np.float32, ["batch", shape.window, len(shape.fields)])
    time = g.input("time", np.float64, ["batch", shape.window])
    made = add_features(g, window, time, shape)
    states = rnn.time_first(g, rnn.export_lstm(g, "lstm", params["lstm"], rnn.time_first(g, made.sequence)))
    weights = {
        name: g.const(np.asarray(value, np.float32), name=name.replace("/", "."))
        for layer in ("query", "wide", "head", "skip")
        for name, value in ((f"{layer}/{k}", v) for k, v in params[layer].items())
    }
    read = _Reader(g, weights, made, sizes)
    judged = []  # [B, Y, 3] per horizon: what was forecast for the last row
    for i, lag in enumerate(sizes.horizons):
        seen = g.slice(states, 1, 0, shape.window - lag)
        judged.append(g.take(read(seen, i + 1, shape.window - lag), 1, i))
    parts = [_add_residual(g, forecasts, made, shape) for forecasts in judged]
    if explain:
        squared = g.op("Sum", *(g.mul(part, part) for part in parts))
        share = g.div(
            squared, g.op("Max", g.op("Unsqueeze", g.row_sum(squared, sizes.targets), g.ints(1)), g.const(1e-12))
        )
        _spread_to_fields(g, share, g.const(0.0), shape, "contribution")
        return to_bytes(g.model())
    nothing = g.const(np.nan)
    count = g.row_sum(made.present, sizes.targets)
    some = g.op("Max", count, g.const(1.0))
    sums = [g.row_sum(g.mul(part, part), sizes.targets) for part in parts]
    worst = g.op("Max", *sums)
    score = g.div(g.op("Sqrt", g.div(worst, some)), g.const(threshold))
    g.output(g.where(g.op("Greater", count, g.const(0.0)), score, nothing), "score", np.float32, ["batch"])

    offsets = g.const([OFFSETS[n] for n in shape.targets])
    later = read(states, 0, shape.window)
    raw = g.op(
        "Max",
        g.sub(
            g.smooth("Exp", later, len(sizes.horizons), sizes.targets, 3), g.reshape(offsets, 1, 1, sizes.targets, 1)
        ),
        g.const(0.0),
    )
    g.output(raw, "quantiles", np.float32, ["batch", len(sizes.horizons), sizes.targets, 3])
    middle = g.op("Max", g.sub(g.smooth("Exp", g.take(judged[0], 2, 1), sizes.targets), offsets), g.const(0.0))
    _spread_to_fields(g, middle, nothing, shape, "expected")
    return to_bytes(g.model())


def _run(params: rnn.Params, inputs: rnn.Params) -> Any:
    return rnn.lstm(params["lstm"], inputs["sequence"].transpose(1, 0, 2)).transpose(1, 0, 2)


def _read(params: rnn.Params, states: Any, inputs: rnn.Params, base: int) -> Any:
    """Attention and head over states [B, t, H], as quantiles [B, H, Y, 3] of the logs."""
    newest, middle = states[:, -1], inputs["bases"][:, base, None, :]
    score = jnp.einsum("bh,bth->bt", rnn.dense(params["query"], newest), states) * newest.shape[-1] ** -0.5
    attended = jnp.einsum("bt,bth->bh", jax.nn.softmax(score, axis=-1), states)
    gap = jnp.clip((middle[:, 0] - inputs["level"]) / inputs["spread"], -12.0, 12.0)
    seen = jnp.concatenate([newest, attended, gap, inputs["context"]], axis=-1)
    linear = rnn.dense(params["skip"], jnp.concatenate([newest, gap], axis=-1))
    out = rnn.dense(params["head"], jnp.tanh(rnn.dense(params["wide"], seen))) + linear
    out = out.reshape(len(newest), -1, middle.shape[-1], 3)
    scale = inputs["spread"][:, None, :]
    middle = middle + scale * out[..., 1]
    low = middle - scale * jax.nn.softplus(out[..., 0])
    high = middle + scale * jax.nn.softplus(out[..., 2])
    return jnp.stack([low, middle, high], axis=-1)


@dataclass(frozen=True)
class _Reader:
    """Adds `_read` to a graph, twice with the same weights."""

    g: Graph
    weights: dict[str, str]
    made: Features
    sizes: Sizes

    def __call__(self, states: str, base: int, rows: int) -> str:
        g, sizes = self.g, self.sizes
        newest = g.take(states, 1, rows - 1)
        query = g.op("Unsqueeze", self._affine("query", newest), g.ints(1))  # [B, 1, H]
        score = g.reduce("ReduceSum", g.mul(states, query), [2], keep=False)
        attention = g.op("Softmax", g.mul(score, g.const(sizes.hidden**-0.5)), axis=-1)
        weighted = g.mul(states, g.op("Unsqueeze", attention, g.ints(2)))
        attended = g.reduce("ReduceSum", weighted, [1], keep=False)
        newest_known = g.take(self.made.bases, 1, base)
        gap = g.clip(g.div(g.sub(newest_known, self.made.level), self.made.spread), -12.0, 12.0)
        seen = g.concat([newest, attended, gap, self.made.context], axis=1)
        wide = g.smooth("Tanh", self._affine("wide", seen), sizes.wide)
        linear = self._affine("skip", g.concat([newest, gap], axis=1))
        out = g.add(self._affine("head", wide), linear)
        out = g.reshape(out, -1, len(sizes.horizons), sizes.targets, 3)
        grid = (len(sizes.horizons), sizes.targets)
        scale = g.op("Unsqueeze", self.made.spread, g.ints(1))
        middle = g.add(g.take(self.made.bases, 1, [base]), g.mul(scale, g.take(out, 3, 1)))
        low = g.sub(middle, g.mul(scale, g.smooth("Softplus", g.take(out, 3, 0), *grid)))
        high = g.add(middle, g.mul(scale, g.smooth("Softplus", g.take(out, 3, 2), *grid)))
        return g.concat([g.op("Unsqueeze", q, g.ints(3)) for q in (low, middle, high)], axis=3)

    def _affine(self, layer: str, x: str) -> str:
        return self.g.add(self.g.op("MatMul", x, self.weights[f"{layer}/W"]), self.weights[f"{layer}/b"])


def _add_residual(g: Graph, forecasts: str, made: Features, shape: Layout) -> str:
    """Standardised harmful residual of the last row per target [B, Y]; 0 where it has no value."""
    harm = g.const([-1.0 if name in GOOD_UP else 1.0 for name in shape.targets])
    width = g.sub(g.take(forecasts, 2, 2), g.take(forecasts, 2, 0))
    sigma = g.add(g.mul(width, g.const(1.0 / SIGMA)), g.const(RESIDUAL_FLOOR))
    residual = g.div(g.mul(g.sub(made.actual, g.take(forecasts, 2, 1)), harm), sigma)
    return g.mul(g.clip(residual, 0.0, RESIDUAL_LIMIT), made.present)


def _spread_to_fields(g: Graph, values: str, filler: str, shape: Layout, name: str) -> None:
    """Add an output [B, F] with `values` [B, Y] in the targets' columns and `filler` in the others."""
    rest = len(shape.fields) - len(shape.targets)
    one = g.slice(values, 1, 0, 1)
    blank = g.where(g.op("Equal", one, one), filler, filler)  # [B, 1] of filler, whatever the batch
    blanks = g.op("Expand", blank, g.ints(1, rest))
    g.output(g.concat([values, blanks], axis=1), name, np.float32, ["batch", len(shape.fields)])
