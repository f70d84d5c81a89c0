"""What a model says of a batch of windows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


@dataclass(slots=True, frozen=True)
class Verdicts:
    """Verdicts on B windows; an array that the model's task does not give is None.

    Attributes
    ----------
    score
        [B], 1.0 at the threshold; NaN is no verdict (a window without a single value, say).
    expected
        [B, F], the value each field of the last row should have had, in the field's unit and in the order of
        `Model.fields`; NaN where the model has no opinion.
    kind
        [B, K], how much each of `Model.kinds` is like it.
    probability
        [B], of an incident.
    quantiles
        [B, H, Y, 3], q10, q50 and q90 per horizon and target, in the target's unit.
    state_out
        [B, S], what the model remembers of the entity.
    """

    score: F32
    expected: F32 | None = None
    kind: F32 | None = None
    probability: F32 | None = None
    quantiles: F32 | None = None
    state_out: F32 | None = None

    @classmethod
    def of(cls, outputs: Mapping[str, NDArray[Any]]) -> "Verdicts":
        """Name the arrays that a graph gave."""
        return cls(**outputs)

    def __len__(self) -> int:
        return len(self.score)
