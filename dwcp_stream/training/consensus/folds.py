"""Thresholds from rows that the networks did not see: cross-fitting by file.

The files are dealt to folds, those with faults first, so that every fold has some; with fewer than two such files
every file is cut into two halves. Each fold's windows are scored by what was fitted to the others; on these scores the
threshold is chosen. What is used afterwards is fitted to all.
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
    """Windows [N] of each fold among the training windows; fewer folds if fewer files have faults."""
    sources = np.unique(seen.source[train])
    with_faults = [s for s in sources if (seen.event[train & (seen.source == s)] >= 0).any()]
    if len(with_faults) < 2:
        late = np.zeros(len(train), bool)
        for source in sources:
            rows = np.flatnonzero(train & (seen.source == source))
            late[rows[len(rows) // 2 :]] = True
        return [train & late, train & ~late]
    others = [s for s in sources if s not in with_faults]
    count = min(folds, len(with_faults))
    dealt = [with_faults[fold::count] + others[fold::count] for fold in range(count)]
    return [train & np.isin(seen.source, part) for part in dealt]


def cross_fit(seen: Windows, train: Mask, fitter: Fitter, folds: int = FOLDS) -> Floats:
    """Scores [N] (or [N, columns]) of the training windows by what did not see them, NaN elsewhere."""
    scores: Floats | None = None
    for part in deal(seen, train, folds):
        found = fitter(train & ~part)(part)
        if scores is None:
            scores = np.full((len(train), *found.shape[1:]), np.nan)
        scores[part] = found
    assert scores is not None  # noqa: S101 - there are at least two parts
    return scores


def threshold(seen: Windows, scores: Floats, rows: Mask) -> float:
    """Threshold with the most events found less false alarms among the rows marked, by `best_threshold`."""
    rows = rows & seen.usable & np.isfinite(scores)
    return best_threshold(scores[rows], seen.event[rows], seen.quiet[rows], group=seen.group[rows])
