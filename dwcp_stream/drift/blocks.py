"""Means over blocks of event time, the same however the rows are cut into calls."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class BlockMeans:
    """Sums and counts of a signal per block; not a number and infinity count nowhere.

    Rows are added one after the other in their order, so the sums do not depend on how a log is cut into
    calls.
    """

    def __init__(self) -> None:
        self._open: dict[int, list[float]] = {}

    def add(self, blocks: NDArray[np.int64], values: NDArray[np.floating]) -> None:
        """Add values to their blocks, both of shape (n,)."""
        known = np.isfinite(values)
        if not known.all():
            blocks, values = blocks[known], values[known]
        if not len(values):
            return
        wide = values.astype(np.float64)
        for block, mine in split(blocks):
            total, n = self._open.setdefault(block, [0.0, 0.0])
            some = wide[mine]
            total = float(np.add.accumulate(np.concatenate(([total], some)))[-1])
            self._open[block] = [total, n + len(some)]

    def pop(self, block: int) -> tuple[float | None, int]:
        """Remove a block and return its mean, None if it is empty, and how many values it has."""
        total, n = self._open.pop(block, (0.0, 0.0))
        return (total / n if n else None), int(n)

    def blocks(self) -> set[int]:
        """Return the blocks that have values."""
        return set(self._open)

    def state(self) -> list[list[float]]:
        """Return the open blocks as plain values."""
        return [[block, *sums] for block, sums in sorted(self._open.items())]

    def load(self, plain: Any) -> None:
        """Take over what `state` gave."""
        self._open = {int(block): [float(total), float(n)] for block, total, n in plain}


def split(blocks: NDArray[np.int64]) -> list[tuple[int, Any]]:
    """Return (block, index of its rows) for each block in ascending order; rows keep their order."""
    if not len(blocks):
        return []
    if blocks[0] == blocks[-1] and (blocks == blocks[0]).all():
        return [(int(blocks[0]), slice(None))]
    order = np.argsort(blocks, kind="stable")
    cuts = np.flatnonzero(np.diff(blocks[order])) + 1
    return [(int(blocks[part[0]]), part) for part in np.split(order, cuts)]
