"""The training loop that all networks share: Adam on shuffled batches, the best epoch on validation kept."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import numpy as np
import optax

Params = Any
Batch = Any  # a pytree of arrays
Loss = Callable[..., Any]
Batches = Callable[[np.ndarray], Batch]


@dataclass(frozen=True)
class Fit:
    """A trained network: the parameters of the best epoch, and the losses of all of them."""

    params: Params
    train_loss: list[float]
    valid_loss: list[float]
    best_epoch: int


def fit(
    params: Params,
    loss: Loss,
    train: np.ndarray,
    valid: np.ndarray,
    batches: Batches,
    *,
    epochs: int,
    batch: int,
    rate: float,
    seed: int,
    progress: Callable[[float], None],
) -> Fit:
    """Train a network.

    Parameters
    ----------
    params
        Initial parameters, a pytree.
    loss
        `loss(params, batch)` -> scalar.
    train, valid
        Numbers of the training and validation windows.
    batches
        Makes the arrays of a batch from such numbers.
    epochs, batch, rate
        Passes over `train`, windows per step, peak learning rate of a cosine decay.
    seed
        Order of the batches.
    progress
        Called with the share done.

    Returns
    -------
    Fit
        Parameters of the epoch with the smallest validation loss, as numpy arrays.
    """
    rng = np.random.default_rng(seed)
    steps = max(len(train) // batch, 1)
    optimizer, step, judge = _compiled(loss)
    state = optimizer.init(params)
    best, best_epoch, train_loss, valid_loss = params, 0, [], []
    for epoch in range(epochs):
        order = rng.permutation(train)
        total = 0.0
        for i in range(steps):
            share = (epoch + i / steps) / epochs
            now = np.float32(rate * 0.5 * (1.0 + np.cos(np.pi * share)))
            params, state, value = step(params, state, batches(order[i * batch : (i + 1) * batch]), now)
            total += float(value)
            progress((epoch + (i + 1) / steps) / epochs)
        train_loss.append(total / steps)
        valid_loss.append(_mean_loss(judge, params, valid, batches, batch))
        if valid_loss[-1] <= min(valid_loss):
            best, best_epoch = params, epoch
    return Fit(jax.tree.map(np.asarray, best), train_loss, valid_loss, best_epoch)


@lru_cache(maxsize=8)
def _compiled(loss: Loss) -> tuple[Any, Any, Any]:
    """Optimizer, training step and loss, compiled once per loss: several folds of one recipe share them.

    The rate is an argument of the step (the optimizer's own is 1), so that another schedule is no other program.
    """
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1.0, weight_decay=1e-4))

    @jax.jit
    def step(params: Params, state: Any, arrays: Batch, rate: Any) -> tuple[Params, Any, Any]:
        value, gradient = jax.value_and_grad(loss)(params, arrays)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, jax.tree.map(lambda u: rate * u, updates)), state, value

    return optimizer, step, jax.jit(loss)


def _mean_loss(judge: Loss, params: Params, numbers: np.ndarray, batches: Batches, batch: int) -> float:
    """Mean over whole batches (one shape, so one compilation), weighted alike."""
    size = min(batch, len(numbers))
    starts = range(0, len(numbers) - size + 1, size)
    return float(np.mean([float(judge(params, batches(numbers[i : i + size]))) for i in starts]))
