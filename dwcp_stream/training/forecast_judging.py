"""Judging a published forecaster on files: errors by horizon and target beside those of simple and other forecasts.

Every error has an interval, and the model's median is compared with the best of the others on the rows that have all
forecasts, by draws of the same rows.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.errors import PayloadError
from dwcp_stream.scoring import Model
from dwcp_stream.training.dataset import Floats, Grid, Ints
from dwcp_stream.training.evaluation_plots import forecast_plots
from dwcp_stream.training.forecast_baselines import held_values, values_before
from dwcp_stream.training.in_turn import Progress, verdicts_in_turn
from dwcp_stream.training.intervals import Resampling, percentile, resampling, verdict
from dwcp_stream.training.judging import Options
from dwcp_stream.training.metrics import QUANTILES, coverage, mae, pinball, plain, skill
from dwcp_stream.training.peers import series
from dwcp_stream.training.peers.fitting import Fitting
from dwcp_stream.training.peers.forecast import has_autoets

DAY = 86_400.0
ENOUGH = 8
"""Rows that AutoETS must have been asked at."""


def judge_forecaster(
    model: Model,
    grid: Grid,
    progress: Progress,
    plots: dict[str, bytes] | None = None,
    options: Options | None = None,
) -> dict[str, Any]:
    """Judge a forecast model; parameters as for `judging.judge_detector`.

    Returns
    -------
    dict
        `forecasts`: a list with horizon, target, n, mae, pinball, coverage, mae and skill per simple forecast, the
        same per peer, `intervals`, `comparison` with the best of the others, and `entities`: how many there are, how
        many are better forecast by their last value, and which is worst; `repeating`, the entities that got their last
        value as forecast in most of their rows; `resampling`; with peers `peers`.

    Raises
    ------
    PayloadError
        If no window has a target.
    """
    options = options or Options()
    fitting = options.fitting
    columns = [grid.stream.field_index(name) for name in model.targets]
    actual = grid.values[:, columns].astype(np.float64)
    ends, quantiles = _quantiles(model, grid, progress)
    if plots is not None:
        plots |= forecast_plots(grid, ends, quantiles, model.horizons, model.targets)
    if fitting is not None:
        counted = fitting.judged[ends]
        ends, quantiles = ends[counted], quantiles[counted]
        if not len(ends):
            raise PayloadError("no window to judge has a target", remedy="Give longer histories")
    group = grid.source[ends] * (len(grid.entities) + 1) + grid.entity[ends]
    draws = resampling(group, np.full(len(ends), -1), max(grid.stream.window, *model.horizons), options.seed)
    held, others = held_values(grid, actual), _peers(fitting, model, grid, ends)
    results = []
    for i, horizon in enumerate(model.horizons):
        day = _day_before(grid, actual, ends + horizon)
        for j, target in enumerate(model.targets):
            truth = actual[ends + horizon, j]
            simple = {"persistence": held[ends, j], "a day before": day[:, j]}
            results.append(
                {"horizon": horizon, "target": target}
                | _figures(truth, quantiles[:, i, j], simple, others.get((horizon, target), {}), draws)
                | {"entities": _by_entity(grid, ends, truth - quantiles[:, i, j, 1], truth - held[ends, j])}
                | {"repeating": _repeating(grid, ends, quantiles[:, i, j, 1], held[ends, j])}
            )
    said = {}
    if fitting is not None:
        missing = "" if has_autoets() else "statsforecast is not installed"
        names = sorted({name for made in others.values() for name in made})
        said = {"peers": {"said": fitting.said, "names": names, "missing": missing}}
    return {**said, "forecasts": results, "resampling": draws.plain()}


def _day_before(grid: Grid, actual: Floats, rows: Ints) -> Floats:
    if isinstance(grid.stream.step, str):  # rows cannot be counted back without a step
        return np.full((len(rows), actual.shape[1]), np.nan)
    return values_before(grid, actual, rows, DAY)


def _quantiles(model: Model, grid: Grid, progress: Progress) -> tuple[Ints, Floats]:
    """Rows that have a target within their entity, and the model's quantiles [N, H, Y, 3] there."""
    ends = grid.ends()
    ends = ends[ends + max(model.horizons) < len(grid.ts)]
    ends = ends[grid.entity[ends + max(model.horizons)] == grid.entity[ends]]
    if not len(ends):
        raise PayloadError("no window has a target", remedy="Give longer histories")
    quantiles = np.empty((len(ends), len(model.horizons), len(model.targets), len(QUANTILES)))
    for rows, verdicts in verdicts_in_turn(model, grid, ends, progress):
        if verdicts.quantiles is None:
            raise PayloadError("the model gives no quantiles", where=model.name, remedy="Evaluate a forecast model")
        quantiles[rows] = verdicts.quantiles
    return ends, quantiles


def _peers(
    fitting: Fitting | None, model: Model, grid: Grid, ends: Ints
) -> dict[tuple[int, str], dict[str, NDArray[np.float64]]]:
    """Forecasts [N] of peers by name, for each horizon and target."""
    if fitting is None:
        return {}
    made, season = {}, series.day_rows(grid)
    for target in model.targets:
        own = list(series.histories(fitting, grid, ends, grid.stream.field_index(target)))
        for horizon in model.horizons:
            made[horizon, target] = series.simple_peers(own, len(ends), horizon, season)
            if has_autoets():
                made[horizon, target]["AutoETS"] = series.autoets(own, len(ends), horizon, season)
    return made


def _figures(
    truth: Floats, made: Floats, simple: Mapping[str, Floats], peers: Mapping[str, Floats], draws: Resampling
) -> dict[str, Any]:
    error, middle = mae(truth, made[:, 1]), np.abs(truth - made[:, 1])
    inside = np.where(np.isfinite(truth), (truth >= made[:, 0]) & (truth <= made[:, 2]), np.nan)
    found: dict[str, Any] = {
        "n": int(np.isfinite(truth).sum()),
        "mae": error,
        "pinball": pinball(truth, made),
        "coverage": coverage(truth, made[:, 0], made[:, 2]),
        "simple": {name: _beside(middle, np.abs(truth - forecast)) for name, forecast in simple.items()},
        "intervals": {
            name: percentile(_drawn(values, draws))
            for name, values in (("mae", middle), ("coverage", inside), ("pinball", _pinballs(truth, made)))
        },
    }
    whole, asked = {n: f for n, f in peers.items() if n != "AutoETS"}, peers.get("AutoETS")
    if peers:
        found["peers"] = {name: _beside(middle, np.abs(truth - forecast)) for name, forecast in whole.items()}
    if asked is not None and (rows := np.isfinite(asked + middle)).sum() >= ENOUGH:
        # it is asked at few rows, so the model is judged on the same ones
        its, ours = float(np.abs(truth - asked)[rows].mean()), float(middle[rows].mean())
        found["autoets"] = {"n": int(rows.sum()), "mae": its, "model_mae": ours, "skill": skill(ours, its)}
    found["comparison"] = _compared(truth, middle, {**simple, **whole}, draws)
    return plain(found)


def _beside(ours: Floats, its: Floats) -> dict[str, float]:
    """Mean of another forecast's errors [N], and the model's skill over it on the rows that both have."""
    both = np.isfinite(ours + its)
    return {"mae": _mean(its), "skill": skill(_mean(ours[both]), _mean(its[both]))}


def _compared(truth: Floats, middle: Floats, others: Mapping[str, Floats], draws: Resampling) -> dict[str, Any] | None:
    """Skill over the best of the others, on the rows that have all forecasts."""
    errors = {name: error for name, f in others.items() if np.isfinite(error := np.abs(truth - f)).any()}
    if not errors:
        return None
    common = np.isfinite(np.sum([middle, *errors.values()], axis=0))
    ours = np.where(common, middle, np.nan)
    theirs = {name: np.where(common, error, np.nan) for name, error in errors.items()}
    best = min(theirs, key=lambda name: np.nan_to_num(_mean(theirs[name]), nan=np.inf))
    with np.errstate(divide="ignore", invalid="ignore"):
        interval = percentile(1.0 - _drawn(ours, draws) / _drawn(theirs[best], draws))
    return {
        "with": best,
        "n": int(common.sum()),
        "skill": skill(_mean(ours), _mean(theirs[best])),
        "interval": interval,
        "verdict": verdict(interval),
    }


def _by_entity(grid: Grid, ends: Ints, ours: Floats, last: Floats) -> dict[str, Any]:
    """Compare the errors [N] of the model and of the last value within each entity."""
    both = np.isfinite(ours) & np.isfinite(last)
    sums = [
        np.bincount(grid.entity[ends[both]], np.abs(error[both]), minlength=len(grid.entities))
        for error in (ours, last)
    ]
    there = np.flatnonzero(sums[1] > 0)
    if not len(there):
        return {"count": 0, "worse": 0, "worst": None, "worst_skill": None}
    skills = 1.0 - sums[0][there] / sums[1][there]
    worst = int(there[skills.argmin()])
    found = {"count": len(there), "worse": int((skills < 0).sum())}
    return plain({**found, "worst": grid.entities[worst], "worst_skill": float(skills.min())})


def _repeating(grid: Grid, ends: Ints, made: Floats, held: Floats) -> list[str]:
    """Names of the entities whose forecasts [N] are the values held at their rows [N], most of the time."""
    known = np.isfinite(made) & np.isfinite(held)
    same = known & np.isclose(made, held, rtol=1e-5, atol=0.0)  # a value seen as a logarithm comes back a little off
    size = len(grid.entities)
    rows, repeated = (np.bincount(grid.entity[ends[mask]], minlength=size) for mask in (known, same))
    return [grid.entities[e] for e in np.flatnonzero(2 * repeated > np.maximum(rows, 1))]


def _drawn(values: Floats, draws: Resampling) -> Floats:
    """Mean of known values [N] in each draw."""
    known = np.isfinite(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(draws.sums(np.where(known, values, 0.0)) / draws.sums(known.astype(np.float64)))


def _pinballs(truth: Floats, made: Floats) -> Floats:
    error, level = truth[:, None] - made, np.asarray(QUANTILES)
    return np.asarray(np.maximum(level * error, (level - 1.0) * error).mean(axis=1))


def _mean(values: Floats) -> float:
    known = np.isfinite(values)
    return float(values[known].mean()) if known.any() else float("nan")
