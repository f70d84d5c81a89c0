"""From features to quantiles: a linear median, and a small network that bends it and sets the interval's width.

In units of the scale, from the newest value on: median = linear + gate * network, half-widths = softplus(linear +
network). The linear median comes from regression and is not moved by training, so that `gate` (0 or 1 per target
and horizon) can leave the network's median out where validation says that it does not help. Each target has
weights of its own. Trained on the pinball loss (Koenker and Bassett 1978), in units of what repeating the last
value costs, so that all horizons count alike.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.forecast.layout import Layout
from dwcp_stream.training.graph import Graph

HIDDEN = 32
NARROWEST = 0.01
"""Least half-width, in scales."""
FARTHEST = 20.0
"""A median moves by at most so many scales."""
LEVELS = (0.1, 0.5, 0.9)
Params = dict[str, Any]
F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Weights:
    """All numbers of the forecaster's middle part, for Y targets, H horizons, I + J features.

    Attributes
    ----------
    mean, spread
        [Y, I + H * J] of the flattened features in training.
    linear
        [2, Y, H, I + J + 1] of the standardised features of the horizon, the intercept last: first for entities whose
        season has been seen, then for the others.
    network
        `first` W [Y, I + H * J, hidden], b [Y, 1, hidden]; `last` and `skip` W [Y, hidden or I + H * J, 3 * H],
        `last` b [Y, 1, 3 * H].
    gate
        [Y, H], 1 where the network may bend the median.
    """

    mean: F32
    spread: F32
    linear: F32
    network: Params
    gate: F32


def flatten(common: F32, seasonal: F32 | None) -> F32:
    """Features of all horizons side by side: [N, Y, I] and [N, Y, H, J] to [N, Y, I + H * J]."""
    if seasonal is None:
        return common
    return np.concatenate([common, seasonal.reshape(*seasonal.shape[:2], -1)], axis=2)


def columns(shape: Layout, horizon: int) -> NDArray[np.int64]:
    """Columns of the flattened features that the linear median of the horizon (its position) uses."""
    first = shape.common + horizon * shape.seasonal
    return np.concatenate([np.arange(shape.common), np.arange(first, first + shape.seasonal)])


def init(seed: int, targets: int, inputs: int, widths: F32, hidden: int = HIDDEN) -> Params:
    """Draw the network: it starts as no bend at all, and as the half-widths [Y, H] given."""
    horizons = widths.shape[1]
    first = jax.random.normal(jax.random.key(seed), (targets, inputs, hidden)) * inputs**-0.5
    start = np.log(np.expm1(np.clip(widths, 1e-3, 50.0)))  # inverse of softplus
    bias = np.stack([np.zeros_like(start), start, start], axis=2).reshape(targets, 1, 3 * horizons)
    return {
        "first": {"W": first, "b": jnp.zeros((targets, 1, hidden))},
        "last": {"W": jnp.zeros((targets, hidden, 3 * horizons)), "b": jnp.asarray(bias, jnp.float32)},
        "skip": {"W": jnp.zeros((targets, inputs, 3 * horizons))},
    }


@jax.jit
def forward(params: Params, x: Any) -> tuple[Any, Any, Any]:
    """Bend of the median, lower and upper half-width, each [B, Y, H], of standardised features [B, Y, I + H * J]."""
    rows = jnp.swapaxes(x, 0, 1)
    hidden = jnp.tanh(rows @ params["first"]["W"] + params["first"]["b"])
    skip = params["skip"]["W"].reshape(*rows.shape[::2], -1, 3).at[..., 0].set(0.0)  # the bend has no linear part
    out = hidden @ params["last"]["W"] + params["last"]["b"] + rows @ skip.reshape(params["skip"]["W"].shape)
    out = jnp.swapaxes(out, 0, 1).reshape(len(x), x.shape[1], -1, 3)
    return out[..., 0], jax.nn.softplus(out[..., 1]) + NARROWEST, jax.nn.softplus(out[..., 2]) + NARROWEST


@jax.jit
def loss(params: Params, batch: dict[str, Any]) -> Any:
    """Mean pinball loss of a batch with `x` [B, Y, K], `base` and `actual` [B, Y, H] (NaN unknown), `unit` [Y, H]."""
    bend, lower, upper = forward(params, batch["x"])
    known = jnp.isfinite(batch["actual"])
    actual = jnp.where(known, batch["actual"], 0.0)
    middle = batch["base"] + bend
    total = jnp.zeros_like(actual)
    for level, quantile in zip(LEVELS, (middle - lower, middle, middle + upper), strict=True):
        error = (actual - quantile) / batch["unit"]
        total += jnp.where(known, jnp.maximum(level * error, (level - 1.0) * error), 0.0)
    return total.sum() / jnp.maximum(known.sum(), 1)


def export(g: Graph, common: str, seasonal: str | None, weights: Weights, shape: Layout) -> tuple[str, str, str]:
    """Add the same to a graph: median, lower and upper half-width, each [B, H, Y], in units of the scale."""
    y, h = len(shape.targets), len(shape.horizons)
    parts = [common] if seasonal is None else [common, g.reshape(seasonal, 0, y, h * shape.seasonal)]
    x = g.div(g.sub(g.concat(parts, axis=2), g.const(weights.mean)), g.const(weights.spread))
    rows = g.op("Transpose", x, perm=[1, 0, 2])  # a product per target
    net = weights.network
    hidden = g.op("Tanh", g.add(g.op("MatMul", rows, g.const(net["first"]["W"])), g.const(net["first"]["b"])))
    linear, offset = _wide(weights, shape)
    # the linear median fills the columns of the bend, which has no linear part of its own
    out = g.add(g.op("MatMul", hidden, g.const(_gated(net["last"]["W"], weights.gate))),
                g.op("MatMul", rows, g.const(linear)))  # fmt: skip
    out = g.add(out, g.const(offset))
    other = _difference(weights, shape)
    more = g.add(g.op("MatMul", rows, g.const(other[:, :-1])), g.const(other[:, -1:]))
    more = g.op("Transpose", more, perm=[1, 2, 0])  # [B, H, Y]
    cold = g.slice(common, 2, shape.common - 1, shape.common) if shape.seasons else g.const(np.zeros((1, y, 1)))
    new = g.op("Greater", g.op("Transpose", cold, perm=[0, 2, 1]), g.const(0.5))  # [B, 1, Y]
    out = g.reshape(g.op("Transpose", out, perm=[1, 0, 2]), 0, y, h, 3)
    out = g.op("Transpose", out, perm=[0, 2, 1, 3])
    return (
        g.clip(g.add(g.take(out, 3, 0), g.where(new, more, g.const(0.0))), -FARTHEST, FARTHEST),
        g.add(g.smooth("Softplus", g.take(out, 3, 1), h, y), g.const(NARROWEST)),
        g.add(g.smooth("Softplus", g.take(out, 3, 2), h, y), g.const(NARROWEST)),
    )


def predict(weights: Weights, x: F32, shape: Layout) -> tuple[F32, F32, F32]:
    """Compute the same in numpy and jax from flattened raw features [N, Y, K]: each [N, Y, H]."""
    standard = (x - weights.mean) / weights.spread
    bend, lower, upper = (np.asarray(a) for a in forward(weights.network, standard))
    middle = linear_median(weights.linear, standard, is_cold(x, shape), shape) + weights.gate * bend
    return np.clip(middle, -FARTHEST, FARTHEST), lower, upper


def is_cold(x: F32, shape: Layout) -> NDArray[np.bool_]:
    """Mask [N, Y] of raw features [N, Y, K] of entities whose season has not been seen whole."""
    if not shape.seasons:
        return np.zeros(x.shape[:2], bool)
    return np.asarray(x[..., shape.common - 1] > 0.5)


def linear_median(linear: F32, standard: F32, cold: NDArray[np.bool_], shape: Layout) -> F32:
    """Median [N, Y, H] of the linear part alone, from standardised features [N, Y, K]; `cold` as of `is_cold`."""
    result = np.empty((*cold.shape, len(shape.horizons)), np.float32)
    for i in range(len(shape.horizons)):
        used = standard[..., columns(shape, i)]
        warm, other = (np.einsum("nyk,yk->ny", used, part[:, i, :-1]) + part[:, i, -1] for part in linear)
        result[..., i] = np.where(cold, other, warm)
    return result


def _gated(last: Any, gate: F32) -> F32:
    """Weights of the last layer with the bend's columns switched off where the gate says so."""
    shaped = np.array(last, np.float32).reshape(*last.shape[:2], gate.shape[1], 3)
    shaped[..., 0] *= gate[:, None, :]
    return shaped.reshape(last.shape)


def _wide(weights: Weights, shape: Layout) -> tuple[F32, F32]:
    """Linear weights [Y, K, 3 * H] and offsets [Y, 1, 3 * H] of all three outputs on the flattened features."""
    skip = np.array(weights.network["skip"]["W"], np.float32)
    y, inputs, _ = skip.shape
    h = len(shape.horizons)
    wide = skip.reshape(y, inputs, h, 3)
    wide[..., 0] = 0.0
    offset = np.array(weights.network["last"]["b"], np.float32).reshape(y, 1, h, 3)
    offset[..., 0] *= weights.gate[:, None, :]
    for i in range(h):
        wide[:, columns(shape, i), i, 0] = weights.linear[0, :, i, :-1]
        offset[:, 0, i, 0] += weights.linear[0, :, i, -1]
    return wide.reshape(y, inputs, 3 * h), offset.reshape(y, 1, 3 * h)


def _difference(weights: Weights, shape: Layout) -> F32:
    """Return by what cold entities' linear weights differ, [Y, K + 1, H], the intercept last."""
    y, inputs = weights.mean.shape
    result = np.zeros((y, inputs + 1, len(shape.horizons)), np.float32)
    change = weights.linear[1] - weights.linear[0]
    for i in range(len(shape.horizons)):
        result[:, columns(shape, i), i] = change[:, i, :-1]
        result[:, -1, i] = change[:, i, -1]
    return result
