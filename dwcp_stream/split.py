"""Which entities a challenger serves: a share of them, drawn by a hash that is always the same."""

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


class Split:
    """Which entities of a partition a model's challenger serves: those whose hash is below its share.

    Parameters
    ----------
    salt
        Model and version: of two experiments each draws entities of its own.
    share
        Percentage.
    """

    def __init__(self, salt: str, share: int) -> None:
        self._salt, self._limit = salt, min(share, 100) / 100
        self._draws: NDArray[np.float64] = np.zeros(0)

    def resize(self, capacity: int) -> None:
        """Make room for slots 0 .. capacity - 1."""
        more = capacity - len(self._draws)
        if more > 0:
            self._draws = np.concatenate((self._draws, np.full(more, np.nan)))

    def clear(self, slots: NDArray[np.int64]) -> None:
        """Forget slots, so that other entities may use them."""
        self._draws[slots] = np.nan

    def __call__(self, slots: NDArray[np.int64], entity_of: Callable[[int], str]) -> NDArray[np.bool_]:
        """Return which slots the challenger serves, bool of the shape of `slots`."""
        for slot in np.unique(slots[np.isnan(self._draws[slots])]).tolist():
            self._draws[slot] = draw(self._salt, entity_of(slot))
        served: NDArray[np.bool_] = self._draws[slots] < self._limit
        return served


def draw(salt: str, entity: str) -> float:
    """Return a number in [0, 1) that is always the same for an entity, and as good as random over entities."""
    digest = hashlib.blake2b(f"{salt}\0{entity}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)
