"""What a model remembers of each entity between two windows: its `state_out`, fed back as `state_in`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.errors import MISFITS, StateError

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


@dataclass(slots=True)
class TakenStates:
    """Copies of the states of some slots, [n, S]."""

    states: F32
    version: int

    def plain(self, i: int) -> tuple[int, bytes] | None:
        """Return version and state of the i-th slot, None if the model has not seen the entity."""
        state = self.states[i]
        return None if np.isnan(state).all() else (self.version, state.astype("<f4", copy=False).tobytes())


class ModelState:
    """States of one model for all slots of a partition (a `SlotPart`).

    A row of NaN means: no state yet. The graph sees it as such and starts on its own.

    Parameters
    ----------
    size
        S, numbers per entity.
    version
        Version of the model whose states these are; states of another version are not loaded.
    """

    def __init__(self, size: int, *, version: int = 0) -> None:
        self.size, self.version = size, version
        self._states = np.full((0, size), np.nan, np.float32)

    def resize(self, capacity: int) -> None:
        """Make room for slots 0 .. capacity - 1; never shrinks."""
        held = len(self._states)
        if capacity > held:
            grown = np.full((capacity, self.size), np.nan, np.float32)
            grown[:held] = self._states
            self._states = grown

    def clear(self, slots: I64) -> None:
        """Forget the states of these slots."""
        self._states[slots] = np.nan

    def take(self, slots: I64) -> TakenStates:
        """Copy the states of these slots."""
        return TakenStates(self._states[slots], self.version)

    def load(self, slot: int, plain: Sequence[Any] | Any) -> None:
        """Put back what `TakenStates.plain` gave.

        A state of another version or size belongs to another model: it is left out and the graph starts anew.

        Raises
        ------
        StateError
            If it is not such a state.
        """
        try:
            version, packed = plain
            if version == self.version and len(packed) == 4 * self.size:
                self._states[slot] = np.frombuffer(packed, "<f4")
        except MISFITS as error:
            raise StateError(f"not the state of a model: {error}", where="state") from error

    def absorb(self, other: "ModelState") -> None:
        """Take over what another holds of the same version; what it knows nothing of stays."""
        self.resize(len(other._states))
        known = np.flatnonzero(~np.isnan(other._states).all(axis=1))
        self._states[known] = other._states[known]

    def read(self, slots: I64) -> F32:
        """Return the states of these slots, [n, S], for `Model.score`."""
        return self._states[slots]

    def write(self, slots: I64, states: F32) -> None:
        """Keep new states [n, S]; no slot may occur twice (see `rounds`)."""
        self._states[slots] = states
