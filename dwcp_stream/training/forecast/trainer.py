"""Trainer of the default forecaster: choose, fit, calibrate, judge, then fit once more on everything.

Of each entity the first 70 % of its time train, the next 15 % validate (seasons, ridge, epochs, whether the network
helps, intervals, threshold), the rest is the test; every fifth entity is left out and only tested. The report's
figures are of that model. What is published has the same settings, fitted on all rows: the newest ones tell most.
"""

import numpy as np

from dwcp_stream.training.dataset import Grid, load_grid
from dwcp_stream.training.forecast.fit import calibrate, choose_ridge, fit_weights
from dwcp_stream.training.forecast.graph import Parts, build
from dwcp_stream.training.forecast.judge import RESIDUAL_LIMIT
from dwcp_stream.training.forecast.layout import Layout, Season
from dwcp_stream.training.forecast.plan import aims, plan, season_choices, usual_courses
from dwcp_stream.training.forecast.report import Trial, write_report
from dwcp_stream.training.forecast.rows import F32, Split, make_table, split
from dwcp_stream.training.forecast.sequence import Progress, run_sequence
from dwcp_stream.training.job import Candidate, Job
from dwcp_stream.training.metrics import budget_threshold
from dwcp_stream.training.publish import reference

BUDGET = 0.2
"""False alarms per entity and day that the threshold may cost in validation time."""
MERGE = 10
GAIN = 0.003
"""Share of the validation error that a richer set of seasons must save."""
TRIAL_ENTITIES, TRIAL_ROWS = 8, 20_000
"""Entities, and windows of each, that seasons are chosen on."""
DAY = 86_400.0


def train_forecast(job: Job) -> Candidate:
    """Train, judge and describe a forecaster for any stream.

    Parameters
    ----------
    job
        Its binding may leave out targets (then all gauges) and horizons (then one row ahead).

    Raises
    ------
    PayloadError
        If the files hold too little, or a target has no numbers.
    """
    stream = job.stream
    label = job.binding.label or "label"
    grid = load_grid(stream, job.files, extra=(label,), entity=job.entity)
    parted = split(grid, max(aims(stream, job.binding)[1]), stream.stride)
    train_rows = parted.rows[parted.train]
    bare = plan(grid, job.binding, train_rows)
    job.progress(0.02, "choosing seasons")
    seasons, trials = choose_seasons(grid, parted, bare)
    shape = bare.with_seasons(seasons)
    shapes = usual_courses(shape, grid, train_rows)
    job.progress(0.2, "features")
    table = make_table(grid, parted.rows, shape, shapes, lambda s: job.progress(0.2 + 0.1 * s, "features"))
    fitted = fit_weights(
        table, parted.train, parted.valid, shape,
        seed=job.seed, epochs=job.epochs, progress=lambda s: job.progress(0.3 + 0.2 * s, "training"),
    )  # fmt: skip
    parts = Parts(shape, shapes, fitted.weights, calibrate(fitted.weights, table, parted.valid, shape))
    made = run(grid, parted, parts, lambda s: job.progress(0.5 + 0.15 * s, "judging"))
    threshold = choose_threshold(grid, parted, made["score"], label)
    made["score"] /= np.float32(threshold)

    final_shapes = usual_courses(shape, grid, parted.rows)
    everything = make_table(grid, parted.rows, shape, final_shapes, lambda s: job.progress(0.65 + 0.1 * s, "features"))
    final = fit_weights(
        everything, parted.fitted & np.isfinite(everything.actual).any(axis=(1, 2)), parted.valid, shape,
        seed=job.seed, epochs=job.epochs, progress=lambda s: job.progress(0.75 + 0.2 * s, "training on all rows"),
        like=fitted,
    )  # fmt: skip
    report, plots, metrics = write_report(job, grid, parted, table, fitted, parts, made, trials, label)
    published = Parts(shape, final_shapes, final.weights, parts.start, threshold)
    columns = [stream.field_index(name) for name in shape.fields]
    job.progress(1.0, "done")
    return Candidate(
        model=build(published),
        fields=shape.fields,
        window=shape.window,
        reference=reference(grid.values[parted.rows][:, columns], stream, shape.fields),
        metrics={**metrics, "threshold": threshold},
        report=report,
        plots=plots,
        severity=severity(threshold),
        horizons=shape.horizons,
        targets=shape.targets,
        state_size=shape.state,
        licence="that of the data it was trained on",
    )


def choose_seasons(grid: Grid, parted: Split, bare: Layout) -> tuple[tuple[Season, ...], list[Trial]]:
    """Return the plainest set of seasons that no richer one beats by more than `GAIN` on validation rows."""
    keep = _some(grid, parted)
    rows = parted.rows[keep]
    train, valid = parted.train[keep], parted.valid[keep]
    trials: list[Trial] = []
    for seasons in season_choices(bare, grid, rows[train]):
        shape = bare.with_seasons(seasons)
        table = make_table(grid, rows, shape, usual_courses(shape, grid, rows[train]))
        ridge, cost = choose_ridge(table, train, valid, shape)
        trials.append(Trial(seasons, ridge, cost))
    best = trials[0]
    for trial in trials[1:]:
        if trial.cost < best.cost * (1.0 - GAIN):
            best = trial
    return best.seasons, trials


def run(grid: Grid, parted: Split, parts: Parts, progress: Progress) -> dict[str, F32]:
    """Quantiles [N, H, Y, 3] and score [N] of all windows, run in order as the daemon would."""
    shape = parts.shape
    return run_sequence(
        build(parts), grid, parted.rows, [grid.stream.field_index(name) for name in shape.fields],
        window=shape.window, state=shape.state, names=("quantiles", "score"), progress=progress,
    )  # fmt: skip


def choose_threshold(grid: Grid, parted: Split, score: F32, label: str) -> float:
    """Lowest residual, in standard deviations, with at most `BUDGET` alarms per entity and day of validation."""
    rows = parted.rows[parted.valid]
    labels = np.nan_to_num(np.asarray(grid.columns.get(label, np.zeros(len(grid.ts))), np.float64))[rows]
    quiet = ~(labels > 0) if (labels <= 0).any() else np.ones(len(rows), bool)
    spans = [np.ptp(grid.ts[rows[grid.entity[rows] == e]]) for e in np.unique(grid.entity[rows])]
    budget = int(BUDGET * float(np.sum(spans)) / DAY)
    found = budget_threshold(
        score[parted.valid].astype(np.float64), quiet, budget, merge=MERGE, group=grid.entity[rows]
    )
    return float(np.clip(found * 1.001, 2.0, 0.9 * RESIDUAL_LIMIT))


def severity(threshold: float) -> tuple[float, float, float]:
    """Cut-offs at one and two thirds of the way from the threshold to the largest score there is."""
    room = max(RESIDUAL_LIMIT / threshold - 1.0, 0.3)
    return (1.0, round(1.0 + room / 3.0, 2), round(1.0 + 2.0 * room / 3.0, 2))


def _some(grid: Grid, parted: Split) -> np.ndarray:
    """Mask of the windows that seasons are chosen on: the newest of a few entities of training."""
    entity = grid.entity[parted.rows]
    keep = np.zeros(len(entity), bool)
    for e in np.unique(entity[parted.train])[:TRIAL_ENTITIES]:
        own = np.flatnonzero((entity == e) & (parted.train | parted.valid))
        keep[own[-TRIAL_ROWS:]] = True
    return keep
