"""Range-based precision and recall: how much of each labelled range is found, and in how many pieces.

Definition of N. Tatbul, T. J. Lee, S. Zdonik, M. Alam and J. Gottschlich, "Precision and Recall for Time Series",
NeurIPS 2018. With ranges of one row each they are the ordinary precision and recall of rows. There is no point
adjustment: rows of a range that are not flagged are missed, whatever else of it is found.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Bias = Literal["flat", "front", "middle", "back"]
Cardinality = Literal["one", "reciprocal"]

# of the place in a range, from 1, and its length: what finding that row is worth
_WORTH: Final[dict[Bias, Callable[[Floats, Floats], Floats]]] = {
    "flat": lambda place, length: np.ones_like(place + 0.0 * length),
    "front": lambda place, length: length - place + 1.0,
    "middle": lambda place, length: np.minimum(place, length - place + 1.0),
    "back": lambda place, length: place + 0.0 * length,
}


@dataclass(frozen=True)
class RangeScores:
    """Range-based precision, recall and their harmonic mean; NaN where there are no flagged or no labelled rows."""

    precision: float
    recall: float
    f1: float


def range_scores(
    label: NDArray[Any],
    alarm: NDArray[Any],
    *,
    alpha: float = 0.0,
    bias: Bias = "flat",
    cardinality: Cardinality = "reciprocal",
    group: Ints | None = None,
) -> RangeScores:
    """Compare flagged ranges with labelled ones.

    Parameters
    ----------
    label, alarm
        [N] rows that are labelled, and that are flagged; not 0 is yes.
    alpha
        Weight of finding anything of a labelled range at all, 0 to 1; precision has none, as in the paper.
    bias
        Rows of a range that are worth most; it holds for recall, precision is flat, as in the paper.
    cardinality
        `reciprocal` divides by the number of pieces that a range is found in, `one` does not.
    group
        [N] entity of each row; ranges do not reach over entities.
    """
    on, flagged = np.asarray(label) != 0, np.asarray(alarm) != 0
    labelled, found = _numbers(on, group), _numbers(flagged, group)
    recall = _reward(labelled, found, alpha, bias, cardinality)
    precision = _reward(found, labelled, 0.0, "flat", cardinality)
    both = precision + recall
    f1 = 2.0 * precision * recall / both if both > 0 else (0.0 if both == 0 else float("nan"))
    return RangeScores(precision, recall, f1)


def _numbers(on: Mask, group: Ints | None) -> Ints:
    """Return the number of the range that each row is in, -1 for none."""
    begins = on & ~np.concatenate([[False], on[:-1]])
    if group is not None and len(group):
        begins |= on & np.concatenate([[True], group[1:] != group[:-1]])
    return np.where(on, np.cumsum(begins) - 1, -1)


def _reward(mine: Ints, theirs: Ints, alpha: float, bias: Bias, cardinality: Cardinality) -> float:
    """Mean reward over the ranges `mine` of what `theirs` finds of them."""
    inside = mine >= 0
    count = int(mine.max(initial=-1)) + 1
    if not count:
        return float("nan")
    number = mine[inside]
    length = np.bincount(number, minlength=count).astype(np.float64)
    first = np.concatenate([[0], np.cumsum(length[:-1])])
    place = np.arange(len(number)) - first[number] + 1.0
    worth = _WORTH[bias](place, length[number])
    other = theirs[inside]
    overlap = np.bincount(number, worth * (other >= 0), count) / np.bincount(number, worth, count)
    pieces = np.bincount(np.unique(np.stack([number, other])[:, other >= 0], axis=1)[0], minlength=count)
    share = 1.0 / np.maximum(pieces, 1) if cardinality == "reciprocal" else 1.0
    return float(np.mean(alpha * (pieces > 0) + (1.0 - alpha) * share * overlap))
