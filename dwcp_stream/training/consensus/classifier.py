"""The network that tells kinds of trouble from normal time: one hidden layer over the features.

Its suspicion of a window is -log p(normal), in nats. Faults in training are few and strong, so each is shown again
weaker: a random share of its deviations on top of a quiet window's, with what members and leaders did kept as it
was. Bursts of load that slow a cluster are few, too, and no trouble: some quiet windows are shown once more with
commits raised, and queues and latencies with them by a random share of as much. Members of an ensemble differ in
seed; their logits are averaged, which keeps one graph small, because their hidden layers stand side by side.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training import recurrent as rnn
from dwcp_stream.training.anomaly.products import wide_matmul
from dwcp_stream.training.consensus.data import KINDS
from dwcp_stream.training.consensus.features import COUNTS, EVENTS, FEATURES, LATENCIES
from dwcp_stream.training.fitting import fit
from dwcp_stream.training.graph import Graph

SQUASH: Final = 8.0
HIDDEN, MEMBERS, EPOCHS, BATCH, RATE = 16, 3, 25, 256, 5e-3
WEAKER, WEAKEST = 4, 0.35
BURSTS, BURST, SLOWED = 0.3, (1.0, 5.0), 1.2
"""Share of quiet windows shown as a burst, by how much, and how many times as much latencies rise at most."""
DECAY: Final = 1e-3
OUTPUTS: Final = len(KINDS)
"""Normal, and every kind but the last, which is `unknown`."""
EVENT: Final = np.array([name.split(" ")[0] in EVENTS for name in FEATURES])
SLOWER: Final = np.array([name.split(" ")[0] in (*COUNTS[:2], *LATENCIES) for name in FEATURES], np.float32)
MORE: Final = np.array([name.startswith("proposals_committed") for name in FEATURES], np.float32)
F32 = NDArray[np.float32]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


def fit_classifier(
    features: F32,
    kind: Ints,
    *,
    seed: int,
    epochs: int = EPOCHS,
    hidden: int = HIDDEN,
    members: int = MEMBERS,
    weaker: int = WEAKER,
    rate: float = RATE,
    progress: Callable[[float], None] = lambda _done: None,
) -> rnn.Params:
    """Train the ensemble.

    Parameters
    ----------
    features, kind
        [N, F] and [N]: kind of the fault, -1 in quiet time; a fault of unknown kind counts as any kind.
    seed, epochs, hidden, members, rate
        Of each member: random numbers, passes, hidden units, and the peak learning rate; and how many there are.
    weaker
        How many weaker copies of each fault window are shown beside it.
    progress
        Called with the share done.

    Returns
    -------
    Params
        One network that is the ensemble, as numpy arrays.
    """
    rng = np.random.default_rng(seed)
    x, kinds = _shown(features, kind, weaker, rng)
    target = _targets(kinds)
    counts = target.sum(axis=0)
    weight = (target / np.sqrt(np.maximum(counts, 1.0))).sum(axis=1)
    weight = (weight / weight.mean()).astype(np.float32)
    x = np.tanh(x / np.float32(SQUASH))
    rows = np.arange(len(x))
    trained = [
        fit(
            init(jax.random.key(seed * 1000 + member), x.shape[1], hidden),
            loss,
            rows,
            rows[: min(len(rows), 4 * BATCH)],
            lambda numbers: (x[numbers], target[numbers], weight[numbers]),
            epochs=epochs,
            batch=min(BATCH, len(rows)),
            rate=rate,
            seed=seed * 1000 + member,
            progress=lambda share, m=member: progress((m + share) / members),  # type: ignore[misc]
        ).params
        for member in range(members)
    ]
    return side_by_side(trained)


@partial(jax.jit, static_argnums=(1, 2))
def init(key: Any, inputs: int, hidden: int) -> rnn.Params:
    """Draw a member."""
    first, second = jax.random.split(key)
    return {
        "hidden": rnn.init_dense(first, inputs, hidden),
        "logits": rnn.init_dense(second, hidden, OUTPUTS, scale=0.5),
    }


@jax.jit
def logits(params: rnn.Params, squashed: Any) -> Any:
    """[B, OUTPUTS] from squashed features [B, F]."""
    return rnn.dense(params["logits"], jnp.maximum(rnn.dense(params["hidden"], squashed), 0.0))


def loss(params: rnn.Params, batch: tuple[Any, Any, Any]) -> Any:
    """Weighted cross entropy, plus `DECAY` times the squared weights."""
    x, target, weight = batch
    scores = jax.nn.log_softmax(logits(params, x))
    # where a target names several kinds, any of them will do
    fits = jax.scipy.special.logsumexp(jnp.where(target > 0, scores, -jnp.inf), axis=1)
    decay = sum((params[layer]["W"] ** 2).sum() for layer in ("hidden", "logits"))
    return -(weight * fits).sum() / weight.sum() + DECAY * decay


def probabilities(params: rnn.Params, features: F32) -> NDArray[np.float64]:
    """[N, OUTPUTS]: of normal time, and of the kinds."""
    scores = np.asarray(logits(jax.tree.map(jnp.asarray, params), np.tanh(features / np.float32(SQUASH))), np.float64)
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(scores / scores.sum(axis=1, keepdims=True))


def suspicion(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """-log p(normal) of [N, OUTPUTS], at most 20."""
    return np.asarray(-np.log(np.maximum(probability[:, 0], np.exp(-20.0))))


def side_by_side(members: list[rnn.Params]) -> rnn.Params:
    """Make one network whose logits are the mean of the members'."""
    share = np.float32(1.0 / len(members))
    return {
        "hidden": {
            "W": np.concatenate([m["hidden"]["W"] for m in members], axis=1),
            "b": np.concatenate([m["hidden"]["b"] for m in members]),
        },
        "logits": {
            "W": np.concatenate([m["logits"]["W"] * share for m in members]),
            "b": np.sum([m["logits"]["b"] * share for m in members], axis=0),
        },
    }


def add_network(g: Graph, params: rnn.Params, squashed: str, name: str) -> str:
    """Add `logits` to a graph, [..., F] to [..., OUTPUTS]; `name` is for its constants."""
    hidden = g.op("Relu", rnn.export_dense(g, f"{name}.hidden", params["hidden"], squashed))
    return g.add(wide_matmul(g, hidden, np.asarray(params["logits"]["W"])), g.const(params["logits"]["b"]))


def add_classifier(g: Graph, params: rnn.Params, features: str) -> tuple[str, str]:
    """Add the network: log probabilities [B, OUTPUTS], and the suspicion [B]."""
    squashed = g.smooth("Tanh", g.div(features, g.const(SQUASH)), len(FEATURES))
    scores = add_network(g, params, squashed, "kinds")
    scores = g.sub(scores, g.reduce("ReduceMax", scores, [1]))
    powers = g.smooth("Exp", scores, OUTPUTS)
    total = g.op("Unsqueeze", g.row_sum(powers, OUTPUTS), g.ints(1))
    logs = g.sub(scores, g.smooth("Log", total, 1))
    return logs, g.clip(g.op("Neg", g.take(logs, 1, 0)), 0.0, 20.0)


def _targets(kind: Ints) -> F32:
    """Which of the outputs are right [N, OUTPUTS]: one, or every kind where the kind is not known."""
    target = np.zeros((len(kind), OUTPUTS), np.float32)
    known = kind < len(KINDS) - 1
    target[np.flatnonzero(known), kind[known] + 1] = 1.0
    target[~known, 1:] = 1.0
    return target


def _shown(features: F32, kind: Ints, weaker: int, rng: np.random.Generator) -> tuple[F32, Ints]:
    """Add weaker copies of the fault windows and bursts, and shuffle."""
    fault, quiet = features[kind >= 0], features[kind < 0]
    parts, kinds = [features], [kind]
    for _ in range(weaker if len(quiet) else 0):
        share = rng.uniform(WEAKEST, 1.0, (len(fault), 1)).astype(np.float32)
        base = quiet[rng.integers(0, len(quiet), len(fault))]
        parts.append(np.where(EVENT, fault, base + share * (fault - base)).astype(np.float32))
        kinds.append(kind[kind >= 0])
    raised = quiet[rng.random(len(quiet)) < BURSTS]
    more = rng.uniform(*BURST, (len(raised), 1)).astype(np.float32)
    slowed = rng.uniform(0.0, SLOWED, (len(raised), 1)).astype(np.float32)
    parts.append(raised + more * (MORE + slowed * SLOWER))
    kinds.append(np.full(len(raised), -1, np.int64))
    order = rng.permutation(sum(map(len, parts)))
    return np.concatenate(parts)[order], np.concatenate(kinds)[order]
