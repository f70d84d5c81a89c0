"""Judging a published model on files: what `dwcp-stream evaluate` prints.

Detectors are judged on labelled rows beside the simple rules of their stream; forecasters on what came,
beside repeating the last value and the value of a day before. Windows are those that the daemon would score.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dwcp_stream.errors import PayloadError
from dwcp_stream.scoring.model import Model
from dwcp_stream.training.anomaly.memory import Turns
from dwcp_stream.training.dataset import Floats, Grid, Ints
from dwcp_stream.training.forecast_baselines import held_values, values_before
from dwcp_stream.training.labels import labelled
from dwcp_stream.training.metrics import coverage, mae, pinball, plain, skill
from dwcp_stream.training.rules import ANY_STREAM, BY_STREAM

BATCH = 1024
DAY = 86_400.0
Progress = Callable[[float], None]


def judge_detector(model: Model, grid: Grid, label: str, progress: Progress) -> dict[str, Any]:
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
    scores = np.full(len(grid.ts), np.nan)
    parts = _turns(model, grid, ends, progress) if model.state_size else _plain(model, grid, ends, progress)
    for rows, made in parts:
        scores[rows] = made
    everything = np.ones(len(grid.ts), bool)
    rules = BY_STREAM.get(model.stream, ANY_STREAM)
    judged = {model.name: data.judge(scores, everything)}
    judged |= {name: data.judge(rule(grid), everything) for name, rule in rules.items()}
    return {"detectors": {name: result.plain() for name, result in judged.items()}}


def _plain(model: Model, grid: Grid, ends: Ints, progress: Progress) -> Iterator[tuple[Ints, Floats]]:
    """Score windows in batches."""
    for rows in _parts(ends, progress):
        yield rows, model.score(*grid.windows(rows)).score


def _turns(model: Model, grid: Grid, ends: Ints, progress: Progress) -> Iterator[tuple[Ints, Floats]]:
    """Score windows in order of time, each entity's state going from one to its next."""
    turns = Turns.of(grid.entity[ends]).order
    state = np.full((turns.shape[1], model.state_size), np.nan, np.float32)
    for number, turn in enumerate(turns):
        on = np.flatnonzero(turn >= 0)
        rows = ends[turn[on]]
        made = model.score(*grid.windows(rows), state[on])
        if made.state_out is not None:
            state[on] = made.state_out
        yield rows, made.score
        if not number % BATCH:
            progress(number / len(turns))


def judge_forecaster(model: Model, grid: Grid, progress: Progress) -> dict[str, Any]:
    """Judge a forecast model.

    Returns
    -------
    dict
        `forecasts`: a list with horizon, target, n, mae, pinball, coverage, mae and skill per simple forecast.

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
    quantiles = np.concatenate([_quantiles(model, grid, rows) for rows in _parts(ends, progress)])
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
                    }
                )
            )
    return {"forecasts": results}


def _quantiles(model: Model, grid: Grid, rows: Ints) -> Floats:
    made = model.score(*grid.windows(rows)).quantiles
    if made is None:
        raise PayloadError("the model gives no quantiles", where=model.name, remedy="Evaluate a forecast model")
    return np.asarray(made, np.float64)


def _parts(rows: Ints, progress: Progress) -> Iterator[Ints]:
    for i in range(0, len(rows), BATCH):
        yield rows[i : i + BATCH]
        progress(min(1.0, (i + BATCH) / len(rows)))
