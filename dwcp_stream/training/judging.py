"""Judging a published model on files: what `dwcp-stream evaluate` prints.

Detectors are judged on labelled rows beside the simple rules of their stream; forecasters on what came,
beside repeating the last value and the value of a day before. Windows are those that the daemon would score.
"""

from typing import Any

import numpy as np

from dwcp_stream.errors import PayloadError
from dwcp_stream.scoring import Model
from dwcp_stream.training.dataset import Floats, Grid, Ints
from dwcp_stream.training.evaluation_plots import detector_plots, forecast_plots
from dwcp_stream.training.forecast_baselines import held_values, values_before
from dwcp_stream.training.in_turn import Progress, verdicts_in_turn
from dwcp_stream.training.labels import labelled
from dwcp_stream.training.metrics import coverage, mae, pinball, plain, skill
from dwcp_stream.training.rules import ANY_STREAM, BY_STREAM

DAY = 86_400.0


def judge_detector(
    model: Model, grid: Grid, label: str, progress: Progress, plots: dict[str, bytes] | None = None
) -> dict[str, Any]:
    """Judge an anomaly or incident model.

    Parameters
    ----------
    model
        Bound to the grid's stream.
    grid
        With the label's column, and `x_recovery` if there are rows to leave out.
    label
        Name of the column that is 1 in a fault.
    progress
        Called with the share done.
    plots
        Gets pictures by file name, if given.

    Returns
    -------
    dict
        `detectors`: name -> numbers of `metrics.Detection`; the model's own name first.

    Raises
    ------
    PayloadError
        If the files have no such column.
    """
    data = labelled(grid, label)
    ends = grid.ends()
    own, probability = np.full(len(grid.ts), np.nan), None
    for rows, verdicts in verdicts_in_turn(model, grid, ends, progress):
        own[ends[rows]] = verdicts.score
        if verdicts.probability is not None:
            probability = np.full(len(grid.ts), np.nan) if probability is None else probability
            probability[ends[rows]] = verdicts.probability
    scores = {model.name: own} | {name: rule(grid) for name, rule in BY_STREAM.get(model.stream, ANY_STREAM).items()}
    everything = np.ones(len(grid.ts), bool)
    judged = {name: data.judge(score, everything) for name, score in scores.items()}
    if plots is not None:
        plots |= detector_plots(data, scores, probability)
    return {"detectors": {name: result.plain() for name, result in judged.items()}}


def judge_forecaster(
    model: Model, grid: Grid, progress: Progress, plots: dict[str, bytes] | None = None
) -> dict[str, Any]:
    """Judge a forecast model; parameters as for `judge_detector`.

    Returns
    -------
    dict
        `forecasts`: a list with horizon, target, n, mae, pinball, coverage, mae and skill per simple forecast,
        `repeating`: the entities that got the last value as their forecast in most of their rows.

    Raises
    ------
    PayloadError
        If no window has a target.
    """
    columns = [grid.stream.field_index(name) for name in model.targets]
    actual = grid.values[:, columns].astype(np.float64)
    ends = grid.ends()
    ends = ends[ends + max(model.horizons) < len(grid.ts)]
    ends = ends[grid.entity[ends + max(model.horizons)] == grid.entity[ends]]
    if not len(ends):
        raise PayloadError("no window has a target", remedy="Give longer histories")
    quantiles = np.empty((len(ends), len(model.horizons), len(model.targets), 3))
    for rows, verdicts in verdicts_in_turn(model, grid, ends, progress):
        if verdicts.quantiles is None:
            raise PayloadError("the model gives no quantiles", where=model.name, remedy="Evaluate a forecast model")
        quantiles[rows] = verdicts.quantiles
    held = held_values(grid, actual)
    results = []
    for i, horizon in enumerate(model.horizons):
        day = values_before(grid, actual, ends + horizon, DAY)
        for j, target in enumerate(model.targets):
            truth, made = actual[ends + horizon, j], quantiles[:, i, j]
            error = mae(truth, made[:, 1])
            simple = {"persistence": mae(truth, held[ends, j]), "a day before": mae(truth, day[:, j])}
            results.append(
                plain(
                    {
                        "horizon": horizon,
                        "target": target,
                        "n": int(np.isfinite(truth).sum()),
                        "mae": error,
                        "pinball": pinball(truth, made),
                        "coverage": coverage(truth, made[:, 0], made[:, 2]),
                        "simple": {n: {"mae": e, "skill": skill(error, e)} for n, e in simple.items()},
                        "repeating": _repeating(grid, ends, made[:, 1], held[ends, j]),
                    }
                )
            )
    if plots is not None:
        plots |= forecast_plots(grid, ends, quantiles, model.horizons, model.targets)
    return {"forecasts": results}


def _repeating(grid: Grid, ends: Ints, made: Floats, held: Floats) -> list[str]:
    """Names of the entities whose forecasts [N] are the values held at their rows [N], most of the time."""
    known = np.isfinite(made) & np.isfinite(held)
    same = known & np.isclose(made, held, rtol=1e-5, atol=0.0)  # a value seen as a logarithm comes back a little off
    size = len(grid.entities)
    rows, repeated = (np.bincount(grid.entity[ends[mask]], minlength=size) for mask in (known, same))
    return [grid.entities[e] for e in np.flatnonzero(2 * repeated > np.maximum(rows, 1))]
