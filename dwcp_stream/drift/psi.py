"""Population stability index: how far the inputs are from what the model was trained on.

References
----------
N. Siddiqi: Credit Risk Scorecards. Wiley 2006 (index and the rule of thumb 0.1 and 0.25).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.drift.blocks import split
from dwcp_stream.errors import ModelError

MODERATE, SIGNIFICANT = 0.1, 0.25
"""Levels of a small and of a large shift, the rule of thumb of credit scoring."""
MIN_N = 500
"""Values of a field below which its index is not judged: chance alone makes it about (bins - 1) / n."""
WINDOW_BLOCKS = 24
"""Blocks over which shares are taken."""
FLOOR = 1e-4
"""Least share of a bin, so that an empty one gives a large index instead of an infinite one."""


def psi(reference: NDArray[np.float64], actual: NDArray[np.float64]) -> float:
    """Return sum((a - r) * ln(a / r)) over the shares of bins, both floored at `FLOOR`.

    Examples
    --------
    >>> same = np.array([0.5, 0.5])
    >>> psi(same, same)
    0.0
    >>> round(psi(same, np.array([0.9, 0.1])), 3)
    0.879
    """
    r, a = np.maximum(reference, FLOOR), np.maximum(actual, FLOOR)
    return float(((a - r) * np.log(a / r)).sum())


class InputShares:
    """Counts per bin of each input over the last blocks, against the training histogram.

    Parameters
    ----------
    reference
        `{field: {"edges": k inner cuts, "share": k + 1 shares}}` of the manifest; a value equal to a cut
        falls in the bin above it. Fields with fewer than two bins are not watched.
    fields
        Names of the columns that `add` is given.
    window
        Blocks over which shares are taken.
    minimum
        Values of a field needed to judge it.
    """

    def __init__(
        self,
        reference: Mapping[str, Mapping[str, Sequence[float]]],
        fields: Sequence[str],
        window: int = WINDOW_BLOCKS,
        minimum: int = MIN_N,
    ) -> None:
        self._window, self._minimum = window, minimum
        self.names = [name for name in fields if len(reference.get(name, {}).get("share", ())) > 1]
        self._columns = np.array([list(fields).index(name) for name in self.names], np.int64)
        self._cuts = [np.asarray(reference[name]["edges"], np.float64) for name in self.names]
        self._shares = [np.asarray(reference[name]["share"], np.float64) for name in self.names]
        for name, cuts, shares in zip(self.names, self._cuts, self._shares, strict=True):
            if len(cuts) + 1 != len(shares) or np.any(np.diff(cuts) <= 0) or np.any(shares < 0):
                raise ModelError(
                    f"{len(shares)} shares and {len(cuts)} cuts, or cuts that do not ascend",
                    where=f"reference.{name}",
                    remedy="Publish k ascending inner cuts and the k + 1 shares between them.",
                )
        self._begin = np.concatenate(([0], np.cumsum([len(s) for s in self._shares]))).astype(np.int64)
        self._counts: dict[int, NDArray[np.int64]] = {}
        self._first: int | None = None

    def add(self, blocks: NDArray[np.int64], inputs: NDArray[np.float32]) -> None:
        """Count rows, shape (n,) and (n, F); values that are not finite are left out."""
        if not self.names or not len(blocks):
            return
        bins = np.empty((len(blocks), len(self.names)), np.int64)
        for i, cuts in enumerate(self._cuts):
            bins[:, i] = np.searchsorted(cuts, inputs[:, self._columns[i]].astype(np.float64), side="right")
        bins += self._begin[:-1]
        total = int(self._begin[-1])
        bins[~np.isfinite(inputs[:, self._columns])] = total  # a place of its own, cut off below
        for block, mine in split(blocks):
            counts = np.bincount(bins[mine].ravel(), minlength=total + 1)[:total]
            held = self._counts.get(block)
            self._counts[block] = counts if held is None else held + counts

    def finish(self, block: int) -> tuple[dict[str, float], int]:
        """Return the index of each field over the window that ends with a block, and the least n among them.

        Empty until a whole window has passed since the first block: part of a day is not what was trained on.
        """
        if self._first is None:
            self._first = block
        oldest = block - self._window
        for old in [b for b in self._counts if b <= oldest]:
            del self._counts[old]
        if block - self._first + 1 < self._window:
            return {}, 0
        inside = [counts for b, counts in sorted(self._counts.items()) if b <= block]
        if not inside:
            return {}, 0
        counts = np.sum(inside, axis=0)
        found, least = {}, 0
        for i, name in enumerate(self.names):
            mine = counts[self._begin[i] : self._begin[i + 1]]
            n = int(mine.sum())
            if n >= self._minimum:
                found[name] = psi(self._shares[i], mine / n)
                least = min(least or n, n)
        return found, least

    def state(self) -> dict[str, Any]:
        """Return the counts as plain values."""
        return {
            "names": list(self.names),
            "bins": [int(b) for b in self._begin],
            "first": self._first,
            "counts": [[block, counts.tolist()] for block, counts in sorted(self._counts.items())],
        }

    def load(self, plain: Any) -> str | None:
        """Take over what `state` gave; None, or why counting starts anew."""
        if plain["names"] != self.names or plain["bins"] != self._begin.tolist():
            return "psi starts anew: the model watches other fields or bins"
        self._counts = {int(block): np.array(counts, np.int64) for block, counts in plain["counts"]}
        self._first = None if plain["first"] is None else int(plain["first"])
        return None
