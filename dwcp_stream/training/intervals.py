"""How far a figure can be trusted: 95 % intervals by resampling what can be taken for independent, and by counting.

Rows next to each other are much alike, so rows are not resampled one by one: whole entities are, or, where these are
few, blocks of time that cut no event in two. Events that were found are counted (Wilson 1927), false alarms too (exact
Poisson limits, Garwood 1936).
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from dwcp_stream.wilson import wilson

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Interval = list[float]

LEVEL: Final = 0.95
DRAWS, LEAST_DRAWS, MOST_VALUES = 500, 200, 50_000_000
"""Draws, fewer where rows are so many that draws times rows would be more than that."""
LEAST_UNITS: Final = 10
"""Fewer entities are cut into blocks; of fewer blocks nothing is said."""
UNDECIDED: Final = "no difference shown"
BLOCKS: Final = 60
"""Blocks that all rows together are cut into, where windows are not longer than these."""


@dataclass(frozen=True)
class Resampling:
    """How rows are drawn again.

    Attributes
    ----------
    unit
        [N] unit of each row.
    weights
        [D, U] how often each unit is in a draw; no draws where there are too few units.
    said
        What the units are, in words.
    seed
        Of the draws.
    """

    unit: Ints
    weights: Floats
    said: str
    seed: int

    def sums(self, values: NDArray[np.floating[Any]]) -> Floats:
        """Sum values [N] over the rows of each draw, [D]."""
        return np.asarray(self.weights @ np.bincount(self.unit, values, self.weights.shape[1]))

    def plain(self) -> dict[str, Any]:
        """Describe it for a report."""
        return {"units": self.said, "draws": len(self.weights), "seed": self.seed, "level": LEVEL}


def resampling(group: Ints, event: Ints, least_rows: int, seed: int, draws: int | None = None) -> Resampling:
    """Choose units and draw them with replacement.

    Parameters
    ----------
    group
        [N] entity of each row, its rows together and in order of time.
    event
        [N] number of the event that a row is in, -1 for none; no block ends in one.
    least_rows
        Rows of the shortest block.
    seed, draws
        Same seed, same draws; how many, None: as many as the rows allow.
    """
    names, unit = np.unique(group, return_inverse=True)
    said = f"{len(names)} entities"
    if len(names) < LEAST_UNITS:
        rows = max(least_rows, -(-len(group) // BLOCKS))
        unit = _blocks(unit, event, rows)
        said = f"{int(unit.max(initial=-1)) + 1} blocks of about {rows} rows"
    count = int(unit.max(initial=-1)) + 1
    if count < LEAST_UNITS:
        return Resampling(unit, np.zeros((0, count)), f"{said}, too few", seed)
    wanted = draws or max(min(DRAWS, MOST_VALUES // len(group)), LEAST_DRAWS)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1.0 / count), wanted)
    return Resampling(unit, drawn.astype(np.float64), said, seed)


def _blocks(group: Ints, event: Ints, rows: int) -> Ints:
    """Cut each group into blocks of so many rows, the first of a block not being inside an event."""
    begin = np.append(True, np.diff(group) != 0)
    within = (event[1:] >= 0) & (event[1:] == event[:-1])
    since, blocks = 0, np.empty(len(group), np.int64)
    number = -1
    for row in range(len(group)):
        if begin[row] or (since >= rows and not within[row - 1]):
            number, since = number + 1, 0
        blocks[row] = number
        since += 1
    return blocks


def percentile(values: NDArray[np.floating[Any]]) -> Interval | None:
    """Middle 95 % of a statistic's draws; None without draws that have a value."""
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return [float(low), float(high)]


def share(found: int, events: int) -> Interval | None:
    """Limits of the share of events that are found; None without events."""
    return list(wilson(found, events)) if events else None


def poisson_rate(count: int, exposure: float) -> Interval | None:
    """Exact limits of a rate of which `count` came up in `exposure`; None without exposure."""
    if exposure <= 0:
        return None
    tail = (1.0 - LEVEL) / 2.0
    low = float(chi2.ppf(tail, 2 * count)) / 2.0 if count else 0.0
    return [low / exposure, float(chi2.ppf(1.0 - tail, 2 * count + 2)) / 2.0 / exposure]


def verdict(difference: Interval | None, *, more_is_better: bool = True) -> str:
    """Say what the interval of "ours less theirs" shows: `better`, `worse` or `no difference shown`."""
    if difference is None:
        return UNDECIDED
    low, high = difference if more_is_better else (-difference[1], -difference[0])
    return "better" if low > 0 else "worse" if high < 0 else UNDECIDED
