"""Fit everything that the graph needs, from scaled rows: season, levels, regression, norms, tails."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.errors import PayloadError
from dwcp_stream.training.anomaly import marginal as marginals
from dwcp_stream.training.anomaly.channels import Channels, fit_channels
from dwcp_stream.training.anomaly.marginal import Marginal
from dwcp_stream.training.anomaly.memory import (
    ANCHOR_LIMIT,
    EIGHTH,
    FLOOR,
    KINDS,
    USUAL,
    Ints,
    Rates,
    Turns,
    deviations,
    join_fields,
    mean_power,
    track_levels,
    track_norms,
)
from dwcp_stream.training.anomaly.regression import LAGS, REACH, Regression, fit_regression, lagged
from dwcp_stream.training.anomaly.ridge import Floats
from dwcp_stream.training.anomaly.season import Season, fit_season
from dwcp_stream.training.anomaly.tail import Tail, fit_tail, norm_of
from dwcp_stream.training.dataset import Grid

MIN_ROWS = 40
MAX_VALUES = 6_000_000
"""Values (rows times fields) that are fitted to: enough for any constant here, and what fits in memory."""
MIN_VARIANCE = 1e-4
START_ROWS = 200


@dataclass(frozen=True)
class Recipe:
    """All constants of the model.

    Attributes
    ----------
    channels, season, regression
        From a window to the two deviations.
    reach
        Rows back that a missing row may be replaced from.
    level
        [F] level of an entity that was not seen before, in scaled units.
    between
        [F] variance of levels between entities over that of rows within one: 0 for a single entity. A new entity's
        level is its mean of n rows, shrunk to the usual one by n b / (n b + 1).
    power
        [C F] eighth power of the norms of deviations to begin with.
    tails
        Scale of each kind of evidence, C of them.
    marginal, rarity
        Rarity among all training rows, and the scale of its mean over a few rows; None with too few rows.
    anchor
        [F] slower level of an entity that was not seen before, to which rarity is relative.
    rates
        How fast the means forget.
    """

    channels: Channels
    season: Season
    regression: Regression
    reach: int
    level: NDArray[np.float32]
    between: NDArray[np.float32]
    power: NDArray[np.float32]
    tails: tuple[Tail, ...]
    anchor: NDArray[np.float32]
    marginal: Marginal | None
    rarity: Tail | None
    rates: Rates = USUAL


def fit_recipe(grid: Grid, ends: Ints, rates: Rates = USUAL) -> Recipe:
    """Fit on the windows that end at the rows `ends`.

    Raises
    ------
    PayloadError
        If there are too few.
    """
    stream = grid.stream
    ends = _latest(grid, ends)
    if len(ends) < MIN_ROWS:
        raise PayloadError(
            f"{len(ends)} rows can be scored, at least {MIN_ROWS} are needed to train on",
            where=stream.name,
            remedy="Give a longer history, or lower window and min_periods in the stream's definition",
        )
    if not np.isfinite(grid.values[ends]).any():
        raise PayloadError(
            "no field has a value in any row", where=stream.name, remedy="Check the columns' names against the stream's"
        )
    channels = fit_channels(grid.values[ends], stream.fields)
    turns = Turns.of(grid.entity[ends])
    codes = np.unique(grid.entity[ends], return_inverse=True)[1]
    scaled = channels.apply(grid.values)
    season = fit_season(grid.ts[ends], scaled[ends] - _means(scaled[ends], turns)[codes])
    z = scaled - season(grid.ts)
    start, between = _start_levels(z[ends], turns)
    lags = tuple(lag for lag in LAGS if lag < stream.window)
    reach = min(REACH, stream.window - 1)
    past = lagged(z, ends, lags, reach)
    fitted: list[Regression] = []

    def held_out_residual(level: Floats) -> Floats:
        made, residual = fit_regression(past - level[:, None, :], z[ends] - level, lags)
        fitted.append(made)
        return residual

    deviation, after = deviations(z[ends], turns, start, held_out_residual, rates)
    # an entity's first window lacks a past, and its level is a guess
    settled = turns.order[min(stream.window, len(turns.order) // 4) :]
    rows = np.sort(settled[settled >= 0])
    start_power = mean_power(deviation[rows])
    unusual, power = track_norms(deviation, turns, start_power, rates.norm)
    usual = np.abs(deviation[rows]) / (start_power + FLOOR**EIGHTH) ** (1 / EIGHTH)
    slow, anchor = track_levels(z[ends], turns, _means(z[ends], turns), rates.anchor, limit=ANCHOR_LIMIT)
    marginal, rarity = _fit_rarity(z[ends] - slow, turns, rates.rarity)
    return Recipe(
        channels=channels,
        season=season,
        regression=fitted[0],
        reach=reach,
        level=after.mean(axis=0).astype(np.float32),
        between=between.astype(np.float32),
        power=power.mean(axis=0).astype(np.float32),
        tails=_fit_tails(unusual[rows], usual, len(stream.fields)),
        anchor=anchor.mean(axis=0).astype(np.float32),
        marginal=marginal,
        rarity=rarity,
        rates=rates,
    )


def _fit_tails(unusual: Floats, usual: Floats, fields: int) -> tuple[Tail, ...]:
    """Fit the scale of each kind of evidence from rows [N, C F], measured against recent and against all time."""
    tails = []
    for kind, name in enumerate(KINDS):
        columns = slice(kind * fields, (kind + 1) * fields)
        norm = norm_of(join_fields(usual[:, columns]))
        tails.append(fit_tail(join_fields(unusual[:, columns]), norm, mean="mean" in name))
    return tuple(tails)


def _fit_rarity(z: Floats, turns: Turns, rate: float) -> tuple[Marginal | None, Tail | None]:
    """Fit rarity to rows [N, F] less their entity's anchor, and its scale to held-out quarters."""
    if len(z) < marginals.MIN_ROWS:
        return None, None
    joined = join_fields(marginals.held_out_rarity(z))[:, None]
    before, _ = track_levels(joined, turns, np.zeros((turns.order.shape[1], 1)), rate)
    evidence = (before + rate * (joined - before))[:, 0]
    return marginals.fit_marginal(z), fit_tail(evidence, norm_of(evidence), mean=True)


def _latest(grid: Grid, ends: Ints) -> Ints:
    """Keep the newest rows of each entity, few enough to fit on."""
    most = MAX_VALUES // grid.values.shape[1]
    if len(ends) <= most:
        return ends
    entity = grid.entity[ends]
    names = np.unique(entity)
    share = max(most // len(names), MIN_ROWS)
    return np.concatenate([ends[entity == e][-share:] for e in names])


def _means(z: Floats, turns: Turns) -> Floats:
    """Mean of each entity's rows [E, F], 0 where it has none."""
    means = np.zeros((turns.order.shape[1], z.shape[1]))
    for number, rows in enumerate(turns.order.T):
        own = z[rows[rows >= 0]]
        means[number] = np.nan_to_num(own).sum(axis=0) / np.maximum(np.isfinite(own).sum(axis=0), 1)
    return means


def _start_levels(z: Floats, turns: Turns) -> tuple[Floats, Floats]:
    """Level of each entity to begin with [E, F], and the variance of these over that within entities [F]."""
    fields = z.shape[1]
    start = _means(z, Turns(turns.order[:START_ROWS]))
    within = np.zeros(fields)
    for number, rows in enumerate(turns.order.T):
        own = z[rows[rows >= 0]]
        within += np.nan_to_num(np.square(own - start[number])).sum(axis=0) / max(len(own), 1) / len(turns.order.T)
    if len(start) < 2:
        return start, np.zeros(fields)
    return start, start.var(axis=0, ddof=1) / np.maximum(within, MIN_VARIANCE)
