"""Watches one entity's windows as they are scored."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.scoring import Model, Verdicts

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

TRAIL: Final = 240
"""Verdicts before the one in question that are kept, for the picture and for what the model usually misses by."""
ROUNDING: Final = 5e-4
"""Seconds that a time which was written in milliseconds may be off."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One window and its verdict.

    Attributes
    ----------
    ts
        Time of the newest row, epoch seconds.
    window, times
        [T, F] of the stream, and [T].
    state
        [S] that the model remembered before, None if it has none.
    score
        The model's.
    expected
        [M] of the model's fields, None if it expects nothing.
    """

    ts: float
    window: F32
    times: F64
    state: F32 | None
    score: np.float32
    expected: F32 | None


class Witness:
    """Remembers the verdict on one entity at one time, and those before it.

    Parameters
    ----------
    entity
        Encoded.
    model
        Name of the model.
    at
        Epoch seconds of the newest row.
    within
        Seconds by which the row may be off, half a step: where the first samples of an entity are not known any more,
        the rows of its grid lie elsewhere. The nearest one is taken.
    nearest
        Take the last verdict at or before `at` instead.

    Attributes
    ----------
    found
        The verdict in question.
    done
        Whether it will not be another one: it is exactly at that time, or the entity is past it.
    trail
        Those up to it, the newest last.
    """

    def __init__(self, entity: str, model: str, at: float, within: float = ROUNDING, *, nearest: bool = False) -> None:
        self._entity, self._model, self._at, self._nearest = entity, model, at, nearest
        self._within = max(within, ROUNDING)
        self.found: Seen | None = None
        self.done = False
        self.trail: deque[Seen] = deque(maxlen=TRAIL)

    def __call__(
        self,
        model: Model,
        entities: Sequence[str],
        ts: F64,
        windows: F32,
        times: F64,
        before: F32 | None,
        verdicts: Verdicts,
    ) -> None:
        """Look at what was scored; see `stages.Witness`."""
        if model.name != self._model:
            return
        for i, entity in enumerate(entities):
            at = float(ts[i])
            if entity != self._entity:
                continue
            if at > self._at + (ROUNDING if self._nearest else self._within):
                self.done = True
                continue
            seen = Seen(
                at,
                windows[i].copy(),
                times[i].copy(),
                None if before is None else before[i].copy(),
                verdicts.score[i],
                None if verdicts.expected is None else verdicts.expected[i].copy(),
            )
            self.trail.append(seen)
            off = abs(at - self._at)
            if self._nearest or (off <= self._within and (self.found is None or off < abs(self.found.ts - self._at))):
                self.found = seen
            self.done = self.done or off <= ROUNDING
