"""Whether a version's forecasts are still worth more than the last value, by realised errors.

A model can become worthless without any drift of its inputs or scores: a link behaves otherwise, the forecasts of it
are worse than the last value, and the daemon publishes that instead. From then on errors are those of the last value,
which no detector of change objects to.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

WINDOW: Final = 86_400.0
"""Seconds over which skill is measured: a day, since many links are other links by night."""
WORTHLESS: Final = 0.02
"""Skill over persistence at which it is lost."""
WORTH: Final = 0.05
"""Skill at which it is there again; between the two what was known stays."""

F64 = NDArray[np.float64]


def lost(ends: F64, mine: F64, naive: F64) -> float | None:
    """Return since when forecasts have had no skill.

    Parameters
    ----------
    ends
        Ends of buckets, epoch seconds, rising, shape (t,).
    mine, naive
        Sums of absolute errors of the version, and of repeating the last value, on the same forecasts, shape
        (t, lines) for lines of horizon and target.

    Returns
    -------
    float or None
        End of the first bucket with which the day before it was without skill, and none was since that had any; None
        if there is skill, or no day is known. Skill is 1 - mean over the lines of mine / naive.

    Examples
    --------
    >>> ends, naive = np.arange(1.0, 97.0) * 3600.0, np.ones((96, 1))
    >>> mine = np.where(ends[:, None] < 2 * 86_400.0, 0.8, 1.1)
    >>> (lost(ends, mine, naive) or 0.0) / 3600
    64.0
    >>> lost(ends[:60], mine[:60], naive[:60]) is None
    True
    """
    if not len(ends) or ends[-1] - ends[0] < WINDOW:
        return None
    begin = np.searchsorted(ends, ends - WINDOW, side="right")
    mine, naive = (_over(sums, begin) for sums in (mine, naive))
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(naive > 0, mine / naive, 0.0)
    lines = (naive > 0).sum(axis=1)
    known = (ends - ends[0] >= WINDOW) & (lines > 0)
    skill = 1.0 - shares.sum(axis=1) / np.maximum(lines, 1)
    with_skill = np.flatnonzero(known & (skill >= WORTH))
    since = with_skill[-1] + 1 if len(with_skill) else 0
    without = np.flatnonzero((known & (skill <= WORTHLESS))[since:])
    return float(ends[since + without[0]]) if len(without) else None


def _over(sums: F64, begin: NDArray[np.int64]) -> F64:
    """Return the sums from `begin` up to each row.

    Added up anew for each: a difference of running sums keeps nothing small once a large error has gone by.
    """
    edges = np.stack((begin, np.arange(1, len(sums) + 1)), axis=1).ravel()
    return np.asarray(np.add.reduceat(np.concatenate((sums, sums[:1])), edges, axis=0)[::2], np.float64)
