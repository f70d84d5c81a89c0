"""Networks that learn quiet time of a consensus cluster and score by what surprises them.

Each sees the channels of `dwcp_stream.training.consensus.features`, relative to the cluster's own normal, squashed (one
of them, as the reference's, absolute levels in units of training time), and gives what the rows should be: an
autoencoder rebuilds them from a narrow code, a forecaster predicts each row from those before. The score is the root
mean square over channels of the harmful part of the mean error in the last `TAIL` rows, in units of its size in quiet
time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training import recurrent as rnn
from dwcp_stream.training.consensus.data import Mask
from dwcp_stream.training.consensus.features import CHANNELS, LOGGED
from dwcp_stream.training.consensus.sequence import Windows
from dwcp_stream.training.fitting import fit

F32 = NDArray[np.float32]
Floats = NDArray[np.float64]
SQUASH, TAIL, LIMIT, SMALLEST = 4.0, 4, 8.0, 0.05
BATCH, RATE = 128, 4e-3
HARM: Final = np.array([1, 1, -1, 1, 1, 1, 1, 1, 1, 1], np.float32)
SIZE: Final = len(CHANNELS)
ABSOLUTE: Final = (*LOGGED, "leader_changes")
ABSOLUTE_HARM: Final = np.array([1, 1, -1, 1, 1, 1, 1, -1], np.float32)


@dataclass(frozen=True)
class Network:
    """An architecture.

    Attributes
    ----------
    init
        From a key to parameters.
    apply
        `apply(params, x)` -> what [B, rows, C] should be, of squashed channels [B, rows, C].
    rows
        Newest rows that it sees.
    epochs
        Passes over the quiet windows.
    absolute
        Whether it sees absolute levels.
    """

    init: Callable[[Any], rnn.Params]
    apply: Callable[[rnn.Params, Any], Any]
    rows: int
    epochs: int
    absolute: bool = False


def _init_dense_ae(key: Any) -> rnn.Params:
    keys, size = jax.random.split(key, 4), 12 * SIZE
    shapes = ((size, 32), (32, 8), (8, 32), (32, size))
    return {str(i): rnn.init_dense(k, *shape) for i, (k, shape) in enumerate(zip(keys, shapes, strict=True))}


def _dense_ae(params: rnn.Params, x: Any) -> Any:
    value = x.reshape(x.shape[0], -1)
    for layer in "012":
        value = jnp.tanh(rnn.dense(params[layer], value))
    return rnn.dense(params["3"], value).reshape(x.shape)


def _init_lstm_ae(key: Any, size: int = SIZE) -> rnn.Params:
    keys = jax.random.split(key, 5)
    return {
        "encoder": rnn.init_lstm(keys[0], size, 24),
        "code": rnn.init_dense(keys[1], 24, 6),
        "unfold": rnn.init_dense(keys[2], 6, 24),
        "decoder": rnn.init_lstm(keys[3], 24, 24),
        "head": rnn.init_dense(keys[4], 24, size, scale=0.3),
    }


def _lstm_ae(params: rnn.Params, x: Any) -> Any:
    code = jnp.tanh(rnn.dense(params["code"], rnn.lstm(params["encoder"], x.transpose(1, 0, 2))[-1]))
    seed = jnp.tanh(rnn.dense(params["unfold"], code))
    repeated = jnp.broadcast_to(seed[None], (x.shape[1], *seed.shape))
    return rnn.dense(params["head"], rnn.lstm(params["decoder"], repeated)).transpose(1, 0, 2)


def _absolute_ae(params: rnn.Params, x: Any) -> Any:
    """Do the same in a function of its own, because programs are kept by function."""
    return _lstm_ae(params, x)


def _init_next_step(key: Any) -> rnn.Params:
    first, second = jax.random.split(key)
    return {"lstm": rnn.init_lstm(first, SIZE, 24), "head": rnn.init_dense(second, 24, SIZE, scale=0.3)}


def _next_step(params: rnn.Params, x: Any) -> Any:
    states = rnn.lstm(params["lstm"], _before(x).transpose(1, 0, 2))
    return rnn.dense(params["head"], states).transpose(1, 0, 2)


def _init_tcn(key: Any) -> rnn.Params:
    keys = jax.random.split(key, 4)
    sizes = ((3 * SIZE, 24), (3 * 24, 24), (3 * 24, 24))
    layers = {str(i): rnn.init_dense(k, *size) for i, (k, size) in enumerate(zip(keys[:3], sizes, strict=True))}
    return layers | {"head": rnn.init_dense(keys[3], 24, SIZE, scale=0.3)}


def _tcn(params: rnn.Params, x: Any) -> Any:
    """Dilated causal convolutions of three taps (Bai, Kolter and Koltun 2018), dilations 1, 3 and 9."""
    value = _before(x)
    for layer, dilation in (("0", 1), ("1", 3), ("2", 9)):
        taps = [jnp.pad(value, ((0, 0), (lag, 0), (0, 0)))[:, : x.shape[1]] for lag in (0, dilation, 2 * dilation)]
        made = jax.nn.relu(rnn.dense(params[layer], jnp.concatenate(taps, axis=2)))
        value = made + value if layer != "0" else made
    return rnn.dense(params["head"], value)


def _before(x: Any) -> Any:
    """Shift rows [B, rows, C] by one, so that a row is predicted from those before it."""
    return jnp.pad(x, ((0, 0), (1, 0), (0, 0)))[:, :-1]


NETWORKS: Final = {
    "MLP autoencoder, 12 rows": Network(_init_dense_ae, jax.jit(_dense_ae), 12, 30),
    "LSTM autoencoder, absolute levels": Network(
        partial(_init_lstm_ae, size=8), jax.jit(_lstm_ae), 30, 12, absolute=True
    ),
    "LSTM autoencoder": Network(_init_lstm_ae, jax.jit(_lstm_ae), 30, 12),
    "next-step LSTM": Network(_init_next_step, jax.jit(_next_step), 30, 12),
    "temporal convolution": Network(_init_tcn, jax.jit(_tcn), 30, 12),
}


def fit_network(network: Network, seen: Windows, train: Mask, seed: int) -> Callable[[Mask], Floats]:
    """Fit to the windows marked that hold no labelled row and no row to leave out; return what scores others."""
    data, ends = seen.runs.data, seen.ends
    pure = ~data.grid.any_in_window(data.grid.filled & ~data.quiet, ends)
    rows = np.flatnonzero(train & pure)
    valid = rows[::5]
    values, known = _absolute(seen, rows) if network.absolute else (seen.channels, seen.known)
    x = np.tanh(values[:, -network.rows :] / np.float32(SQUASH))
    known = known[:, -network.rows :]
    params = fit(
        network.init(jax.random.key(seed)),
        LOSSES[network.apply],
        rows,
        valid,
        lambda numbers: (x[numbers], known[numbers]),
        epochs=network.epochs,
        batch=min(BATCH, len(valid)),
        rate=RATE,
        seed=seed,
        progress=lambda _share: None,
    ).params
    spread = np.maximum(np.sqrt(np.square(_harm(network, params, x[rows], known[rows])).mean(axis=0)), SMALLEST)

    def score(wanted: Mask) -> Floats:
        parts = np.minimum(_harm(network, params, x[wanted], known[wanted]) / spread, LIMIT)
        weighted = parts * np.where(harm(network) < 0, 0.5, 1.0)  # fewer commits may rightly follow a falling load
        return np.asarray(np.sqrt(np.square(weighted).mean(axis=1)), np.float64)

    return score


def _harm(network: Network, params: rnn.Params, x: F32, known: F32) -> F32:
    """Harmful part of the mean error of the last rows [B, C]."""
    made = np.concatenate([np.asarray(network.apply(params, part)) for part in _parts(x)])
    error, present = (x - made)[:, -TAIL:] * known[:, -TAIL:], known[:, -TAIL:]
    mean = error.sum(axis=1) / np.maximum(present.sum(axis=1), 1.0)
    return np.asarray(np.maximum(mean * harm(network), 0.0), np.float32)


def harm(network: Network) -> F32:
    """Direction of each channel that is bad news [C]."""
    return ABSOLUTE_HARM if network.absolute else HARM


def _absolute(seen: Windows, rows: NDArray[np.int64]) -> tuple[F32, F32]:
    """Logarithms of the rows' fields and the share of members that are active, scaled by the windows `rows`."""
    window, _ = seen.runs.grid.windows(seen.ends)
    names = seen.runs.grid.stream.field_names
    logs = np.log1p(np.maximum(window[:, :, [names.index(name) for name in ABSOLUTE]], 0.0))
    members = 2.0 * window[:, :, names.index("quorum_size")] - 1.0
    share = window[:, :, names.index("active_nodes")] / np.maximum(members, 1.0)
    values = np.concatenate([logs, share[:, :, None]], axis=2)
    center, spread = np.nanmean(values[rows], axis=(0, 1)), np.nanstd(values[rows], axis=(0, 1))
    known = np.isfinite(values)
    scaled = np.where(known, (np.nan_to_num(values) - center) / np.maximum(spread, 0.1), 0.0)
    return np.clip(scaled, -20.0, 20.0).astype(np.float32), known.astype(np.float32)


def _parts(x: F32) -> list[F32]:
    """Whole batches of one size, so that one program is compiled; the last is filled up and cut by its user."""
    return [x[i : i + 2048] for i in range(0, len(x), 2048)]


def _loss(apply: Callable[[rnn.Params, Any], Any]) -> Callable[[rnn.Params, tuple[Any, Any]], Any]:
    def loss(params: rnn.Params, batch: tuple[Any, Any]) -> Any:
        x, known = batch
        return (jnp.square(apply(params, x) - x) * known).sum() / jnp.maximum(known.sum(), 1.0)

    return loss


LOSSES: Final = {network.apply: _loss(network.apply) for network in NETWORKS.values()}
"""One function per architecture, because `fit` compiles each only once."""
