"""Volume under the surface of precision and recall (VUS-PR): how well a score ranks labelled ranges.

Definition of Paparrizos et al., "Volume Under the Surface: A New Accuracy Evaluation Measure for Time-Series
Anomaly Detection", PVLDB 15(11), 2022, in the discrete form of the authors' published code: for each buffer of
0 to `window` rows the label is softened at the ends of each range, precision and recall are taken over
thresholds at ranks of the score, and the areas under the curves are averaged over the buffers. There is no
point adjustment: a range counts by the rows that are flagged, times the share of ranges that are touched at all.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
THRESHOLDS = 250


def vus_pr(
    label: NDArray[Any], score: NDArray[np.floating[Any]], *, window: int = 20, thresholds: int = THRESHOLDS
) -> float:
    """Return the VUS-PR of a score, from 0 to 1; random scores get about the share of labelled rows.

    Parameters
    ----------
    label
        [N] of one entity in time order; not 0 is anomalous.
    score
        [N], larger is more anomalous; NaN ranks last.
    window
        Rows of the largest buffer; half of it lies on each side of a range.
    thresholds
        Number of ranks at which a threshold is put, evenly spaced from the largest score to the smallest.

    Returns
    -------
    float
        NaN if no row is labelled.

    Raises
    ------
    ValueError
        If the lengths differ or there are no rows.
    """
    marked = np.asarray(label) != 0
    ranked = np.nan_to_num(np.asarray(score, np.float64), nan=-np.inf)
    if marked.shape != ranked.shape or not marked.size:
        raise ValueError(f"{marked.shape} labels for {ranked.shape} scores")
    if not marked.any():
        return float("nan")
    first, last = _ranges(marked)
    order = np.argsort(-ranked, kind="stable")
    descending = ranked[order]
    levels = descending[np.linspace(0, len(ranked) - 1, thresholds).astype(np.int64)]
    # rows at or over each level: ties fall on the same side
    flagged = np.searchsorted(-descending, -levels, side="right")
    areas = []
    for buffer in range(window + 1):
        soft = _soften(marked, first, last, buffer)
        found = np.concatenate([[0.0], np.cumsum(soft[order])])[flagged]
        margin = np.concatenate([[0.0], np.cumsum(np.where(marked, 0.0, soft)[order])])[flagged]
        best = _best_per_range(ranked, first, last, buffer)
        touched = (best[None, :] >= levels[:, None]).mean(axis=1)
        positives = marked.sum() + margin / 2.0
        recall = np.concatenate([[0.0], np.minimum(found / positives, 1.0) * touched])
        areas.append(float(np.dot(np.diff(recall), found / flagged)))
    return float(np.mean(areas))


def _ranges(marked: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """First and last row of each run of marked rows."""
    edge = np.diff(np.concatenate([[0], marked.astype(np.int8), [0]]))
    return np.flatnonzero(edge == 1), np.flatnonzero(edge == -1) - 1


def _soften(marked: NDArray[np.bool_], first: Ints, last: Ints, buffer: int) -> Floats:
    """Label that falls off as sqrt(1 - d / buffer) over half a buffer around each range; sums stop at 1."""
    soft = marked.astype(np.float64)
    for begin, end in zip(first, last, strict=True):
        after = np.arange(end + 1, min(end + buffer // 2 + 1, len(soft)))
        soft[after] += np.sqrt(1.0 - (after - end) / buffer)
        before = np.arange(max(begin - buffer // 2, 0), begin)
        soft[before] += np.sqrt(1.0 - (begin - before) / buffer)
    return np.minimum(soft, 1.0)


def _best_per_range(score: Floats, first: Ints, last: Ints, buffer: int) -> Floats:
    """Largest score in each range with its buffers; ranges whose buffers meet are one."""
    half = buffer // 2
    apart = np.flatnonzero(last[:-1] + half < first[1:] - half)
    begins = np.maximum(first[np.concatenate([[0], apart + 1])] - half, 0)
    ends = np.minimum(last[np.concatenate([apart, [len(last) - 1]])] + half, len(score) - 1)
    return np.array([score[b : e + 1].max() for b, e in zip(begins, ends, strict=True)])
