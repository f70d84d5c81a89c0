"""Thresholds from rows that the networks did not see: cross-fitting by file.

The files are dealt to folds, those with faults first, so that every fold has some. Each fold's windows are scored
by what was fitted to the others; on these scores the threshold is chosen. What is used afterwards is fitted to all.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.consensus.data import Mask
from dwcp_stream.training.consensus.sequence import Windows
from dwcp_stream.training.metrics import best_threshold

FOLDS: Final = 3
Floats = NDArray[np.float64]
Scorer = Callable[[Mask], Floats]
"""Scores of the windows marked, [their number] or [their number, columns]."""
Fitter = Callable[[Mask], Scorer]
"""Fits to the windows marked."""


def deal(seen: Windows, train: Mask, folds: int = FOLDS) -> list[Mask]:
    """Windows [N] of each fold among the training windows; fewer folds if there are fewer files."""
    sources = np.unique(seen.source[train])
    with_faults = [s for s in sources if (seen.event[train & (seen.source == s)] >= 0).any()]
    others = [s for s in sources if s not in with_faults]
    ordered = [*with_faults, *others]
    count = min(folds, len(ordered))
    return [train & np.isin(seen.source, ordered[fold::count]) for fold in range(count)]


def cross_fit(seen: Windows, train: Mask, fitter: Fitter, folds: int = FOLDS) -> Floats:
    """Scores [N] (or [N, columns]) of the training windows by what did not see them, NaN elsewhere.

    With one file only there are no folds: its second half is scored by what was fitted to the first.
    """
    parts = deal(seen, train, folds)
    if len(parts) < 2:
        rows = np.flatnonzero(train)
        half = np.zeros(len(train), bool)
        half[rows[len(rows) // 2 :]] = True
        parts = [half]
    scores: Floats | None = None
    for part in parts:
        found = fitter(train & ~part)(part)
        if scores is None:
            scores = np.full((len(train), *found.shape[1:]), np.nan)
        scores[part] = found
    assert scores is not None  # noqa: S101 - there is at least one part
    return scores


def threshold(seen: Windows, scores: Floats, rows: Mask) -> float:
    """Threshold with the most events found less false alarms among the rows marked, by `best_threshold`."""
    rows = rows & seen.usable & np.isfinite(scores)
    return best_threshold(scores[rows], seen.event[rows], seen.quiet[rows], group=seen.group[rows])
