"""What the model remembers of an entity: slow levels, and how large deviations have been lately.

A level is an exponentially weighted mean. The size of deviations is their 8-norm over time, (EW mean of |u|^8)^(1/8):
close to the largest of recent times, so that a deviation counts as unusual when it exceeds what the entity itself
has shown, not when it exceeds the average. What enters the mean is limited (winsorised) to three times the norm, so
that one fault does not hide the next.

The recursions are here in numpy, for training, and in `model` as a graph; a test holds the two together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.anomaly.ridge import Floats

Ints = NDArray[np.int64]
Predict = Callable[[Floats], Floats]
KINDS = ("prediction", "level", "mean")
"""What a deviation is from, or of."""
LEVEL_RATE = 1 / 1000
MEAN_RATES = (1 / 30,)
"""Of faster means (here one), whose distance from the level shows what is small but lasts."""
ANCHOR_RATE = 1 / 4000
"""Of a still slower level, to which rarity is relative: what stays for thousands of rows is normal in the end."""
ANCHOR_ROWS, ANCHOR_LIMIT = 200, 3.0
"""Rows in which a new entity may find its anchor faster, and how far off, in scaled units, a row counts as being."""
RARITY_RATE = 1 / 5
"""Of the mean of rarity, see `marginal`."""
NORM_RATE = 1 / 5000
WINSOR = 3.0
FLOOR = 0.05
"""No norm counts as smaller, in scaled units: a field may be constant for long."""
DEVIATION_LIMIT = 60.0
EIGHTH = 8


@dataclass(frozen=True)
class Rates:
    """Share of a new row in each of the means that the model keeps; a search of parameters tries others.

    Attributes
    ----------
    level, mean, anchor
        Of the slow level, the faster mean beside it, and the still slower level that rarity is relative to.
    norm, rarity
        Of the norms of deviations, and of the mean of rarity.
    """

    level: float = LEVEL_RATE
    mean: float = MEAN_RATES[0]
    anchor: float = ANCHOR_RATE
    norm: float = NORM_RATE
    rarity: float = RARITY_RATE


USUAL = Rates()


@dataclass(frozen=True)
class Turns:
    """Rows of several entities in the order in which they come: turn t of entity e is row `order[t, e]`, or -1."""

    order: Ints

    @classmethod
    def of(cls, entity: Ints) -> "Turns":
        """Order rows whose entities are [N], each entity's rows being in time order."""
        names, codes = np.unique(entity, return_inverse=True)
        rows = [np.flatnonzero(codes == code) for code in range(len(names))]
        order = np.full((max((len(r) for r in rows), default=0), len(rows)), -1, np.int64)
        for code, places in enumerate(rows):
            order[: len(places), code] = places
        return cls(order)


def track_levels(
    z: Floats, turns: Turns, start: Floats, rate: float = LEVEL_RATE, *, limit: float = np.inf
) -> tuple[Floats, Floats]:
    """Follow the exponentially weighted mean of rows.

    Parameters
    ----------
    z
        [N, F] scaled rows, NaN = missing.
    turns
        Their order.
    start
        [E, F] mean of each entity before its first row.
    rate
        Share of a new row in it.
    limit
        A row farther from the mean counts as being this far.

    Returns
    -------
    tuple
        The mean before each row [N, F], and after the last one [E, F].
    """
    level, before = start.copy(), np.zeros_like(z)
    for rows in turns.order:
        on = rows >= 0
        before[rows[on]] = level[on]
        level[on] += rate * np.clip(np.nan_to_num(z[rows[on]] - level[on]), -limit, limit)
    return before, level


def deviations(z: Floats, turns: Turns, start: Floats, predict: Predict, rates: Rates = USUAL) -> tuple[Floats, Floats]:
    """Deviations of rows from what was expected, of every kind.

    Parameters
    ----------
    z, turns, start
        As for `track_levels`; faster means begin at the level.
    predict
        From the levels before the rows [N, F] to residuals of the prediction [N, F].
    rates
        Of the level and the faster mean.

    Returns
    -------
    tuple
        [N, C F]: residual of the prediction, distance from the level, distances of the faster means from it (NaN
        where the row's value is missing); and the levels after the last row [E, F].
    """
    before, after = track_levels(z, turns, start, rates.level)
    mean, _ = track_levels(z, turns, start, rates.mean)
    kinds = [predict(before), z - before, mean + rates.mean * (z - mean) - before]
    return np.concatenate(kinds, axis=1), after


def track_norms(deviation: Floats, turns: Turns, start: Floats, rate: float = NORM_RATE) -> tuple[Floats, Floats]:
    """Measure deviations against the entity's recent norm.

    Parameters
    ----------
    deviation
        [N, C], NaN = missing.
    turns
        Order of the rows.
    start
        [C] eighth power of the norm, of every entity before its first row.
    rate
        Share of a new row in it.

    Returns
    -------
    tuple
        |deviation| in units of the norm before the row [N, C] (NaN where missing), and the eighth power of the norm
        after the last row [E, C].
    """
    power = np.repeat(start[None, :], turns.order.shape[1], axis=0)
    unusual = np.full_like(deviation, np.nan)
    for rows in turns.order:
        on = rows >= 0
        size = np.minimum(np.abs(deviation[rows[on]]), DEVIATION_LIMIT)
        base = power[on] + FLOOR**EIGHTH
        unusual[rows[on]] = size / base ** (1 / EIGHTH)
        step = rate * (np.minimum(size**EIGHTH, WINSOR**EIGHTH * base) - power[on])
        power[on] += np.where(np.isnan(step), 0.0, step)
    return unusual, power


def mean_power(deviation: Floats) -> Floats:
    """Mean eighth power [C] of known deviations [N, C]; 0 without any."""
    size = np.minimum(np.abs(deviation), DEVIATION_LIMIT) ** EIGHTH
    known = np.isfinite(size)
    return np.asarray(np.where(known, size, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))


def join_fields(unusual: NDArray[np.floating[Any]]) -> Floats:
    """Root mean square over known fields, [N, F] to [N]; 0 for a row without any."""
    known = np.isfinite(unusual)
    return np.asarray(np.sqrt(np.square(np.nan_to_num(unusual)).sum(axis=1) / np.maximum(known.sum(axis=1), 1)))
