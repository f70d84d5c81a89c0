"""The last score of each entity, for whoever looks; it decides nothing, so no checkpoint keeps it."""

import numpy as np
from numpy.typing import NDArray


class LatestScores:
    """Last scores of one champion for all slots of a partition; NaN until the entity is scored again."""

    def __init__(self) -> None:
        self._scores: NDArray[np.float32] = np.full(0, np.nan, np.float32)

    def resize(self, capacity: int) -> None:
        """Make room for slots 0 .. capacity - 1; never shrinks."""
        held = len(self._scores)
        if capacity > held:
            self._scores = np.concatenate([self._scores, np.full(capacity - held, np.nan, np.float32)])

    def clear(self, slots: NDArray[np.int64]) -> None:
        """Forget these slots."""
        self._scores[slots] = np.nan

    def write(self, slots: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
        """Keep scores (b,) of slots (b,); where a slot occurs twice, the last one."""
        self._scores[slots] = scores

    def read(self, slots: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the scores of these slots, (b,)."""
        return self._scores[slots]
