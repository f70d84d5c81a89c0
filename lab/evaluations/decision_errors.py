"""Paired errors to try decisions on: real ones of simple forecasters, and series made after them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.signal import lfilter

from dwcp_stream.loop.pairs import WARM_UP, differences

HORIZONS = (1, 4, 15)
TRAINED, TRIMMED = 0.3, 0.005
DAY = 288
TOGETHER = 4500
EFFECTS = (0.0, 0.02, 0.05, 0.1, -0.02, -0.05, -0.1)
PAIRS = (
    ("persistence", "AR(3)"),
    ("EWMA 0.3", "AR(3)"),
    ("EWMA 0.6", "AR(6)"),
    ("AR(1)", "AR(3)"),
    ("AR(3)", "AR(12)"),
    ("AR(3) first half", "AR(3) second half"),
    ("AR(12) first half", "AR(12) second half"),
)
LEVEL_PAIRS = (
    ("level AR(1)", "level AR(3)"),
    ("level AR(3)", "level AR(12)"),
    ("persistence", "level AR(3)"),
    ("EWMA 0.3", "level AR(12)"),
)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Source:
    """Differences of a champion and a candidate that are equally good, and of the candidate made better or worse.

    Parameters
    ----------
    differences
        By effect (0.05: the candidate's errors are 5 % smaller), shape (n,).
    champion, candidate
        Errors in units of the champion's mean, horizons averaged, the candidate's without effect, shape (n,).
    """

    differences: dict[float, Floats]
    champion: Floats
    candidate: Floats


def traces(folder: Path) -> Iterator[Floats]:
    """Yield the round-trip times of each trace, the last one in the place of those that were lost."""
    table = pl.read_csv(folder / "ripe_rtt" / "ripe_rtt.csv.gz")
    for _, part in table.group_by(["probe"], maintain_order=True):
        yield np.asarray(part["rtt_ms"].cast(pl.Float64).forward_fill().backward_fill().to_numpy(), np.float64)


def errors(values: Floats) -> dict[str, Floats]:
    """Return absolute errors of each forecaster on the rows after the training part, shape (n, horizons).

    AR(p) regresses the change over a horizon on the last p changes, by least squares with the outer changes trimmed;
    a level AR(p) regresses the value on the last p values, so it is off for as long as the level is a new one.
    """
    until = int(TRAINED * len(values))
    changes = np.diff(values, prepend=values[0])
    found: dict[str, list[Floats]] = {}
    for horizon in HORIZONS:
        now, then = values[:-horizon], values[horizon:]
        forecasts = {"persistence": now}
        for weight in (0.3, 0.6):
            start = np.array([(1 - weight) * values[0]])
            forecasts[f"EWMA {weight}"] = lfilter([weight], [1, weight - 1], values, zi=start)[0][:-horizon]
        for order in (1, 3, 6, 12):
            parts = {"": (order, until), " first half": (order, until // 2), " second half": (until // 2, until)}
            lags, tame = _lags(changes, order)[:-horizon], _lags(_trimmed(changes, until), order)[:-horizon]
            target = _trimmed(then - now, until)
            for name, (begin, end) in parts.items():
                weights = _fit(tame[begin : end - horizon], target[begin : end - horizon])
                forecasts[f"AR({order}){name}"] = now + lags @ weights
            level, tame = (np.c_[_lags(x, order), np.ones(len(x))] for x in (values, _trimmed(values, until)))
            weights = _fit(tame[order : until - horizon], _trimmed(values, until)[horizon:][order : until - horizon])
            forecasts[f"level AR({order})"] = level[:-horizon] @ weights
        for name, forecast in forecasts.items():
            found.setdefault(name, []).append(np.abs(forecast - then)[until + HORIZONS[-1] - horizon :])
    return {name: np.stack(by_horizon, axis=1) for name, by_horizon in found.items()}


def _trimmed(x: Floats, until: int) -> Floats:
    return np.clip(x, *np.quantile(x[:until], [TRIMMED, 1 - TRIMMED]))


def _lags(x: Floats, order: int) -> Floats:
    return np.stack([np.r_[np.zeros(k), x[: len(x) - k]] for k in range(order)], axis=1)


def _fit(x: Floats, y: Floats) -> Floats:
    return np.asarray(np.linalg.lstsq(x, y, rcond=None)[0], np.float64)


def alone(found: list[dict[str, Floats]], pairs: tuple[tuple[str, str], ...], **how: bool) -> list[Source]:
    """Return a source for each trace and pair, in both directions."""
    made = [source(e[a], e[b], **how) for e in found for pair in pairs for a, b in (pair, pair[::-1])]
    return [each for each in made if each is not None]


def together(found: list[dict[str, Floats]], pairs: tuple[tuple[str, str], ...], **how: bool) -> list[Source]:
    """Return a source for each pair, in both directions: the errors of all long traces, begun together, added up."""
    sums = {name: sum(e[name][:TOGETHER] for e in found if len(e[name]) >= TOGETHER) for name in found[0]}
    return alone([{name: np.asarray(total) for name, total in sums.items()}], pairs, **how)


def source(champion: Floats, candidate: Floats, *, by_mae: bool = False) -> Source | None:
    """Make the candidate as good as the champion by one factor on its errors, and then better and worse.

    Parameters
    ----------
    champion, candidate
        Errors, shape (n, horizons).
    by_mae
        As good in the plain MAE of each horizon; else in the mean of the differences that the test sees.

    Returns
    -------
    Source or None
        None if no factor between 0.2 and 5 makes them equal.
    """
    if by_mae:
        candidate = candidate * (champion.mean(axis=0) / candidate.mean(axis=0))
    else:
        low, high = 0.2, 5.0
        for _ in range(45):
            factor = (low * high) ** 0.5
            low, high = (factor, high) if paired(champion, factor * candidate).mean() > 0 else (low, factor)
        candidate = factor * candidate
        if abs(paired(champion, candidate).mean()) > 1e-6:
            return None
    unit = champion.mean(axis=0)
    return Source(
        {effect: paired(champion, (1 - effect) * candidate) for effect in EFFECTS},
        (champion / unit).mean(axis=1)[WARM_UP:],
        (candidate / unit).mean(axis=1)[WARM_UP:],
    )


def paired(champion: Floats, candidate: Floats) -> Floats:
    """Return the differences of the buckets after the first, which tell the scale."""
    return differences(np.ones_like(champion), champion, candidate)[WARM_UP:]


@dataclass(frozen=True)
class Runs:
    """Series of differences by effect, shape (runs, buckets), and the observed MAE ratio without effect, if known."""

    differences: dict[float, Floats]
    ratio: Floats | None = None


def resampled(rng: np.random.Generator, sources: list[Source], runs: int, buckets: int) -> Runs:
    """Put days of one source, drawn with replacement, one after the other: a circular block bootstrap per run."""
    made = {effect: np.empty((runs, buckets), np.float32) for effect in EFFECTS}
    ratio = np.empty((runs, buckets), np.float32)
    for run in range(runs):
        one = sources[rng.integers(len(sources))]
        starts = rng.integers(0, len(one.champion), -(-buckets // DAY))
        rows = ((starts[:, None] + np.arange(DAY)) % len(one.champion)).ravel()[:buckets]
        for effect, series in one.differences.items():
            made[effect][run] = series[rows]
        ratio[run] = np.cumsum(one.candidate[rows]) / np.cumsum(one.champion[rows])
    return Runs(made, ratio)


def changing_places(rng: np.random.Generator, drawn: Runs) -> Runs:
    """Draw anew for each day which version is the champion, so that neither is better in any sense."""
    runs, buckets = drawn.differences[0.0].shape
    signs = np.repeat(rng.choice([-1, 1], (runs, -(-buckets // DAY))), DAY, axis=1)[:, :buckets]
    return Runs({0.0: drawn.differences[0.0] * signs})


def fitted(rng: np.random.Generator, sources: list[Source], runs: int, buckets: int) -> Runs:
    """Draw from the ARMA(1, 1) of one source per run: its own innovations, shuffled with replacement.

    The process has the source's autocorrelation from bucket to bucket and its variance of means of a day.
    """
    made = {effect: np.empty((runs, buckets), np.float32) for effect in EFFECTS}
    for run in range(runs):
        one = sources[rng.integers(len(sources))]
        series = one.differences[0.0]
        phi, theta = arma(series)
        shocks = rng.choice(lfilter([1, -phi], [1, theta], series), buckets + 1000)
        path = lfilter([1, theta], [1, -phi], shocks - shocks.mean())[1000:]
        for effect in EFFECTS:
            made[effect][run] = path + one.differences[effect].mean()
    return Runs(made)


def arma(series: Floats) -> tuple[float, float]:
    """Return phi and theta of the ARMA(1, 1) with this series' lag-one autocorrelation and long-run variance."""
    rho, inflation = lag_one(series), daily_inflation(series)
    if rho <= 0 or inflation <= 1 + 2 * rho / (1 - rho):
        return max(rho, 0.0), 0.0  # no memory beyond what order one has
    phi = min(1 - 2 * rho / (inflation - 1), 0.99)
    # rho (1 + 2 phi theta + theta^2) = (1 + phi theta) (phi + theta): of two roots, r and 1 / r, the invertible one
    roots = np.roots([rho - phi, 2 * phi * rho - 1 - phi**2, rho - phi]).real
    return phi, float(roots[np.argmin(np.abs(roots))])


def lag_one(series: Floats) -> float:
    """Return the autocorrelation from bucket to bucket."""
    around = series - series.mean()
    return float(around[1:] @ around[:-1] / (around @ around))


def daily_inflation(series: Floats) -> float:
    """Return how many times larger the variance of a day's mean is than without autocorrelation."""
    days = series[: len(series) // DAY * DAY].reshape(-1, DAY).mean(axis=1)
    return float(days.var(ddof=1) * DAY / series.var())


def autoregressive(rng: np.random.Generator, phi: float, deviation: float, runs: int, buckets: int) -> Runs:
    """Draw from an AR(1) whose innovations are Student's t with three degrees of freedom."""
    shocks = rng.standard_t(3, (runs, buckets + 1000)) * deviation * np.sqrt((1 - phi**2) / 3)
    path = lfilter([1], [1, -phi], shocks, axis=1)[:, 1000:]
    return Runs({effect: path + effect for effect in EFFECTS})
