"""Batches whose results do not depend on how the windows were put together.

ONNX Runtime computes some operators (Log, Pow, Sin, Softplus, ...) four float32 at a time and the rest one by
one with another routine, and sums the rows of a single window differently from those of several. Both move
the last bit. When the batch is a multiple of four, every tensor of the graph is, and neither happens: a
window gets the same bits in any batch and at any position, so a replay decides alike.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH_QUANTUM = 4
"""Windows per run are a multiple of this; what is missing is filled with copies of the last window."""

MAX_BATCH = 256
"""Most windows of one run: a larger batch is no faster per window and leaves the cache."""

Arrays = Mapping[str, NDArray[Any]]


def padded(arrays: Arrays) -> Arrays:
    """Bring arrays to the next multiple of `BATCH_QUANTUM` windows; no copy if they are one already."""
    size = len(next(iter(arrays.values())))
    missing = -size % BATCH_QUANTUM
    if not missing:
        return arrays
    return {name: np.concatenate([a, np.repeat(a[-1:], missing, axis=0)]) for name, a in arrays.items()}


def run_batched(run: Callable[[Arrays], Arrays], arrays: Arrays, limit: int = MAX_BATCH) -> Arrays:
    """Run a graph over any number of windows, at least one.

    Parameters
    ----------
    run
        Takes and gives arrays by name, all with the windows along the first axis.
    arrays
        C-contiguous, so that a slice of them goes to the runtime without a copy.
    limit
        Most windows per run, a multiple of `BATCH_QUANTUM`.

    Returns
    -------
    Mapping
        The outputs for exactly the windows given.
    """
    size = len(next(iter(arrays.values())))
    if size <= limit:
        found = run(padded(arrays))
        return found if not size % BATCH_QUANTUM else {name: a[:size] for name, a in found.items()}
    parts = []
    for begin in range(0, size, limit):
        end = min(begin + limit, size)
        found = run(padded({name: a[begin:end] for name, a in arrays.items()}))
        parts.append({name: a[: end - begin] for name, a in found.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def rounds(slots: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Cut a batch so that no slot occurs twice in a part, for models that carry state from row to row.

    Parameters
    ----------
    slots
        [B], slot of each window; windows of one slot in order of time.

    Returns
    -------
    list
        Indices into the batch, ascending: the k-th part holds the k-th window of every slot.
    """
    order = np.argsort(slots, kind="stable")
    ordered = slots[order]
    position = np.arange(len(slots))
    begins = np.r_[True, ordered[1:] != ordered[:-1]] if len(slots) else np.zeros(0, bool)
    rank = np.empty(len(slots), np.int64)
    rank[order] = position - np.maximum.accumulate(np.where(begins, position, 0))
    return [np.flatnonzero(rank == k) for k in range(int(rank.max()) + 1)] if len(slots) else []
