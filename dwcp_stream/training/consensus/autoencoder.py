"""The LSTM autoencoder of the consensus stream: network in jax, and the whole model as one ONNX graph.

Channels. The six loads and latencies as log(1 + x); leader changes likewise; the share of members that are
active (of 2 quorum - 1, so a cluster of an even size shows as one short); and whether a row that arrived has
no latency (nothing was committed in it). Codes and quorum size take no part in the network.

Score. Encoder and decoder see all rows; what is scored is the mean signed residual of the last `TAIL` rows,
so that an alert comes within a few rows and one noisy row counts less than a step. Per channel it is divided
by its size on validation quiet time, only the harmful direction counts (slow, long, few), it is limited to
`LIMIT`, and the root mean square over channels, divided by the threshold, is the score.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training import recurrent as rnn
from dwcp_stream.training.graph import Graph, to_bytes

LOGGED = (
    "queue_depth",
    "proposals_pending",
    "proposals_committed",
    "latency_p50",
    "latency_p95",
    "latency_p99",
    "leader_changes",
)
CHANNELS = (*LOGGED, "active_nodes", "no_completions")
HARM = np.array([1, 1, -1, 1, 1, 1, 1, -1, 1], np.float32)  # the direction that is bad news
# Commits follow the load, which may rightly fall: they count for half.
WEIGHT = np.array([1, 1, 0.5, 1, 1, 1, 1, 1, 1], np.float32)
# No channel is taken to be finer than this, in its own unit (logs, shares): normal time may be constant.
SCALE_FLOOR = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.35, 0.1, 0.5], np.float32)
SPREAD_FLOOR = np.array([0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.19, 0.5, 0.5], np.float32)
TAIL, LIMIT, SQUASH = 4, 8.0, 4.0


@dataclass(frozen=True)
class Constants:
    """What the graph needs beside weights: scaling of the channels [C], size of residuals [C], threshold."""

    center: NDArray[np.float32]
    scale: NDArray[np.float32]
    spread: NDArray[np.float32]
    threshold: float = 1.0


@partial(jax.jit, static_argnums=(1, 2))
def init(key: Any, hidden: int, code: int) -> rnn.Params:
    """Draw the network: encoder LSTM -> tanh code -> tanh -> decoder LSTM -> channels."""
    keys = jax.random.split(key, 5)
    return {
        "encoder": rnn.init_lstm(keys[0], len(CHANNELS), hidden),
        "code": rnn.init_dense(keys[1], hidden, code),
        "unfold": rnn.init_dense(keys[2], code, hidden),
        "decoder": rnn.init_lstm(keys[3], hidden, hidden),
        "head": rnn.init_dense(keys[4], hidden, len(CHANNELS), scale=0.3),
    }


@jax.jit
def reconstruct(params: rnn.Params, x: Any) -> Any:
    """Reconstruct scaled channels [B, T, C] from a code of the whole window."""
    squashed = jnp.tanh(x / SQUASH).transpose(1, 0, 2)  # an outlier may not drown the rest of its window
    code = jnp.tanh(rnn.dense(params["code"], rnn.lstm(params["encoder"], squashed)[-1]))
    seed = jnp.tanh(rnn.dense(params["unfold"], code))
    repeated = jnp.broadcast_to(seed[None], (x.shape[1], *seed.shape))
    return rnn.dense(params["head"], rnn.lstm(params["decoder"], repeated)).transpose(1, 0, 2)


def loss(params: rnn.Params, batch: tuple[Any, Any]) -> Any:
    """Huber loss of the reconstruction of `(x, known)` over known values, half of it on the last rows."""
    x, known = batch
    error = jnp.abs(reconstruct(params, x) - x)
    huber = jnp.where(error < 3.0, 0.5 * error**2, 3.0 * error - 4.5) * known
    everything = huber.sum() / known.sum()
    last = huber[:, -TAIL:].sum() / jnp.maximum(known[:, -TAIL:].sum(), 1.0)
    return 0.5 * everything + 0.5 * last


def add_channels(g: Graph, window: str, fields: tuple[str, ...], rows: int) -> tuple[str, str]:
    """Add the channels to a graph.

    Returns
    -------
    tuple
        Values [B, T, C] (NaN replaced by 0 where unknown), and whether they are known [B, T, C] (float).
    """
    position = {name: i for i, name in enumerate(fields)}
    logged = g.take(window, 2, [position[n] for n in LOGGED])
    missing_logged = g.is_nan(logged)
    zero, one = g.const(0.0), g.const(1.0)
    floored = g.op("Max", g.where(missing_logged, zero, logged), zero)
    logs = g.smooth("Log", g.add(floored, one), rows, len(LOGGED))

    quorum = g.take(window, 2, [position["quorum_size"]])
    active = g.take(window, 2, [position["active_nodes"]])
    members = g.sub(g.mul(quorum, g.const(2.0)), one)
    missing_share = g.op("Or", g.is_nan(quorum), g.is_nan(active))
    share = g.div(g.where(missing_share, zero, active), g.op("Max", g.where(missing_share, one, members), one))

    no_queue = g.is_nan(g.take(window, 2, [position["queue_depth"]]))
    no_latency = g.is_nan(g.take(window, 2, [position["latency_p50"]]))
    silent = g.cast(g.op("And", no_latency, g.op("Not", no_queue)), np.float32)
    values = g.concat([logs, share, silent])
    unknown = g.concat([missing_logged, missing_share, no_queue])
    return values, g.cast(g.op("Not", unknown), np.float32)


def channels_model(fields: tuple[str, ...], window: int) -> bytes:
    """Serialise the graph of the channels alone: training reads what serving will compute."""
    g = Graph("channels")
    source = g.input("window", np.float32, ["batch", window, len(fields)])
    values, known = add_channels(g, source, fields, window)
    shape: list[int | str] = ["batch", window, len(CHANNELS)]
    g.output(values, "values", np.float32, shape)
    g.output(known, "known", np.float32, shape)
    return to_bytes(g.model())


def build(
    params: rnn.Params, constants: Constants, fields: tuple[str, ...], window: int, *, explain: bool = False
) -> bytes:
    """Serialise the model, from raw window to score and expected values, or to contributions.

    Parameters
    ----------
    params, constants
        The trained network and its scaling.
    fields, window
        Columns and rows of the input.
    explain
        Make the graph whose output is `contribution` [B, F], shares of the squared score that sum to 1
        (0 when nothing contributes), instead of `score` and `expected`.
    """
    g = Graph("consensus_explain" if explain else "consensus_autoencoder")
    source = g.input("window", np.float32, ["batch", window, len(fields)])
    g.input("time", np.float64, ["batch", window])
    values, known = add_channels(g, source, fields, window)
    center, scale = g.const(constants.center, name="center"), g.const(constants.scale, name="scale")
    scaled = g.mul(g.div(g.sub(values, center), scale), known)
    scaled = g.clip(scaled, -20.0, 20.0)
    rebuilt = _add_network(g, params, scaled, window)
    parts = _add_parts(g, scaled, rebuilt, known, constants)
    if explain:
        _explain(g, parts, fields)
    else:
        mean = g.mul(g.row_sum(parts, len(CHANNELS)), g.const(1.0 / len(CHANNELS)))
        g.output(g.div(g.op("Sqrt", mean), g.const(constants.threshold)), "score", np.float32, ["batch"])
        natural = g.add(g.mul(rebuilt, scale), center)
        _expected(g, g.take(natural, 1, window - 1), source, fields, window)
    return to_bytes(g.model())


def _add_network(g: Graph, params: rnn.Params, scaled: str, window: int) -> str:
    """Add `reconstruct`."""
    squashed = g.smooth("Tanh", g.div(scaled, g.const(SQUASH)), window, len(CHANNELS))
    states = rnn.export_lstm(g, "encoder", params["encoder"], rnn.time_first(g, squashed))
    code = rnn.export_dense(g, "code", params["code"], g.take(states, 0, window - 1))
    code = g.smooth("Tanh", code, params["code"]["b"].shape[0])
    seed = rnn.export_dense(g, "unfold", params["unfold"], code)
    seed = g.smooth("Tanh", seed, params["unfold"]["b"].shape[0])
    repeated = g.op("Expand", g.op("Unsqueeze", seed, g.ints(0)), g.ints(window, 1, 1))
    decoded = rnn.export_lstm(g, "decoder", params["decoder"], repeated)
    return rnn.time_first(g, rnn.export_dense(g, "head", params["head"], decoded))


def _add_parts(g: Graph, scaled: str, rebuilt: str, known: str, constants: Constants) -> str:
    """Squared harmful residual of the last rows per channel, weighted: [B, C]."""
    tail_known = g.slice(known, 1, -TAIL)
    residual = g.mul(g.slice(g.sub(scaled, rebuilt), 1, -TAIL), tail_known)
    count = g.op("Max", g.reduce("ReduceSum", tail_known, [1], keep=False), g.const(1.0))
    mean = g.div(g.reduce("ReduceSum", residual, [1], keep=False), count)
    harmful = g.mul(mean, g.const(HARM / constants.spread))
    limited = g.mul(g.clip(harmful, 0.0, LIMIT), g.const(WEIGHT))
    return g.mul(limited, limited)


def _expected(g: Graph, natural: str, source: str, fields: tuple[str, ...], window: int) -> None:
    """Add the output `expected`: the last row's reconstruction in raw units, NaN for fields without one."""
    last = g.take(source, 1, window - 1)
    logs = g.slice(natural, 1, 0, len(LOGGED))
    raw = g.op("Max", g.sub(g.smooth("Exp", logs, len(LOGGED)), g.const(1.0)), g.const(0.0))
    quorum = g.take(last, 1, [fields.index("quorum_size")])
    members = g.sub(g.mul(quorum, g.const(2.0)), g.const(1.0))
    active = g.mul(g.take(natural, 1, [CHANNELS.index("active_nodes")]), members)
    none = g.mul(quorum, g.const(np.nan))
    columns = {name: g.take(raw, 1, [i]) for i, name in enumerate(LOGGED)} | {"active_nodes": active}
    expected = g.concat([columns.get(name, none) for name in fields], axis=1)
    g.output(expected, "expected", np.float32, ["batch", len(fields)])


def _explain(g: Graph, parts: str, fields: tuple[str, ...]) -> None:
    """Add the output `contribution`; a row without latencies is put down to latency_p50."""
    to_field = np.zeros((len(CHANNELS), len(fields)), np.float32)
    for i, name in enumerate(CHANNELS):
        to_field[i, fields.index("latency_p50" if name == "no_completions" else name)] = 1.0
    total = g.op("Unsqueeze", g.row_sum(parts, len(CHANNELS)), g.ints(1))
    share = g.div(g.op("MatMul", parts, g.const(to_field)), g.op("Max", total, g.const(1e-12)))
    g.output(share, "contribution", np.float32, ["batch", len(fields)])
