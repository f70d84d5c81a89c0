"""LSTM, dense and attention layers twice: in jax for training, in ONNX for serving.

Weights are kept in ONNX's own layout (gates i, o, f, c), so that exporting is copying: W [4H, I],
R [4H, H], b [4H]. ONNX adds an input and a recurrent bias; the second is written as zeros. The cell is that
of Hochreiter and Schmidhuber (1997) with forget gates, without peepholes, as ONNX's `LSTM` defines it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwcp_stream.training.graph import Graph

Params = dict[str, Any]
Key = Any
Array = Any


def init_lstm(key: Key, inputs: int, hidden: int) -> Params:
    """Draw LSTM weights: uniform in ±1/sqrt(H), forget bias 1 (Jozefowicz et al. 2015)."""
    k1, k2 = jax.random.split(key)
    bound = hidden**-0.5
    bias = jnp.zeros(4 * hidden).at[2 * hidden : 3 * hidden].set(1.0)
    return {
        "W": jax.random.uniform(k1, (4 * hidden, inputs), minval=-bound, maxval=bound),
        "R": jax.random.uniform(k2, (4 * hidden, hidden), minval=-bound, maxval=bound),
        "b": bias,
    }


def init_dense(key: Key, inputs: int, outputs: int, *, scale: float = 1.0) -> Params:
    """Draw a dense layer: Glorot normal times `scale`, zero bias."""
    spread = scale * (2.0 / (inputs + outputs)) ** 0.5
    return {"W": spread * jax.random.normal(key, (inputs, outputs)), "b": jnp.zeros(outputs)}


@jax.jit
def lstm(params: Params, x: Array) -> Array:
    """Run an LSTM from a zero state.

    Parameters
    ----------
    params
        From `init_lstm`.
    x
        [T, B, I], time first.

    Returns
    -------
    Array
        Hidden states [T, B, H].
    """
    hidden = params["R"].shape[1]
    zero = jnp.zeros((x.shape[1], hidden))
    gates_in = x @ params["W"].T + params["b"]  # one product for all steps; the scan only carries the recurrence

    def step(carry: tuple[Array, Array], gates_x: Array) -> tuple[tuple[Array, Array], Array]:
        h, c = carry
        i, o, f, g = jnp.split(gates_x + h @ params["R"].T, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    return jax.lax.scan(step, (zero, zero), gates_in)[1]


def dense(params: Params, x: Array) -> Array:
    """Affine map of the last axis."""
    return x @ params["W"] + params["b"]


def export_lstm(g: Graph, name: str, params: Params, x: str) -> str:
    """Add the same LSTM to a graph.

    Parameters
    ----------
    g, name
        Graph and the prefix of the constants' and node's names.
    params
        As in `lstm`.
    x
        Value [T, B, I].

    Returns
    -------
    str
        Hidden states [T, B, H].
    """
    W, R, b = (np.asarray(params[k], np.float32) for k in ("W", "R", "b"))
    states = g.multi(
        "LSTM",
        [
            x,
            g.const(W[None], name=f"{name}.W"),
            g.const(R[None], name=f"{name}.R"),
            g.const(np.concatenate([b, np.zeros_like(b)])[None], name=f"{name}.B"),
        ],
        3,
        name=name,
        hidden_size=R.shape[1],
    )[0]
    return g.op("Squeeze", states, g.ints(1))  # [T, directions = 1, B, H]


def export_dense(g: Graph, name: str, params: Params, x: str) -> str:
    """Add the same affine map to a graph; returns the mapped value."""
    weights = g.const(np.asarray(params["W"], np.float32), name=f"{name}.W")
    bias = g.const(np.asarray(params["b"], np.float32), name=f"{name}.b")
    return g.add(g.op("MatMul", x, weights), bias)


def time_first(g: Graph, x: str) -> str:
    """[B, T, F] to [T, B, F]."""
    return g.op("Transpose", x, perm=[1, 0, 2])
