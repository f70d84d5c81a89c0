"""Trainer of the default forecaster: choose, fit, calibrate, judge, then fit once more on everything.

Of each entity the first 70 % of its time train, the next 15 % validate (seasons, ridge, epochs, whether the network
helps, intervals, threshold), the rest is the test; every fifth entity is left out and only tested. The report's
figures are of that model. What is published has the same settings, fitted on all rows: the newest ones tell most.
"""

import math
from statistics import NormalDist

import numpy as np

from dwcp_stream.training.dataset import Grid, Ints, load_grid
from dwcp_stream.training.forecast.fit import RATE, USUAL, Fitted, calibrate, choose_ridge, fit_weights
from dwcp_stream.training.forecast.graph import Parts, build
from dwcp_stream.training.forecast.judge import RESIDUAL_LIMIT
from dwcp_stream.training.forecast.layout import Layout, Season
from dwcp_stream.training.forecast.memory import Shapes
from dwcp_stream.training.forecast.network import HIDDEN
from dwcp_stream.training.forecast.plan import plan, season_choices, usual_courses
from dwcp_stream.training.forecast.report import Trial, write_report
from dwcp_stream.training.forecast.rows import F32, Mask, Split, Table, add_cold, make_table, split
from dwcp_stream.training.job import Candidate, Job, Parameter, Space
from dwcp_stream.training.metrics import budget_threshold
from dwcp_stream.training.publish import reference
from dwcp_stream.training.sequence import Progress, run_sequence

SPACE: Space = {
    "hidden": Parameter(HIDDEN, 8, 128, log=True, whole=True),
    "rate": Parameter(RATE, 3e-4, 2e-2, log=True),
}
"""Width of the network and its peak learning rate; ridge, seasons and epochs are chosen on validation rows anyway."""
BUDGET = 0.2
"""False alarms per entity and day that the threshold may cost in validation time."""
MERGE = 10
GAIN, DOUBT = 0.003, 0.5
"""Share of the validation error that a richer set of seasons must save; more by `DOUBT` over the root of its rows."""
TRIAL_ENTITIES, TRIAL_ROWS = 8, 20_000
"""Entities, and windows of each, that seasons are chosen on."""
DAY = 86_400.0


def train_forecast(job: Job) -> Candidate:
    """Train, judge and describe a forecaster for any stream.

    Parameters
    ----------
    job
        Its binding names targets and horizons; loading a definition fills in what it leaves out.

    Raises
    ------
    PayloadError
        If the files hold too little, or a target has no numbers.
    """
    stream = job.stream
    label = job.binding.label or "label"
    grid = load_grid(stream, job.files, extra=(label,), entity=job.entity)
    targets, horizons = job.binding.targets, job.binding.horizons
    parted = split(grid, max(horizons), stream.stride, len(targets))
    train_rows = parted.rows[parted.train]
    bare = plan(grid, job.binding, train_rows)
    job.progress(0.02, "choosing seasons")
    seasons, trials = choose_seasons(grid, parted, bare)
    shape = bare.with_seasons(seasons)
    shapes = usual_courses(shape, grid, train_rows)
    job.progress(0.2, "features")
    table = make_table(grid, parted.rows, shape, shapes, lambda s: job.progress(0.2 + 0.05 * s, "features"))
    fitted = _fit(job, grid, parted, table, parted.train, shape, shapes, None, (0.25, 0.5))
    parts = Parts(shape, shapes, fitted.weights, calibrate(fitted.weights, table, parted.valid, shape))
    made = run(grid, parted.rows, parts, lambda s: job.progress(0.5 + 0.1 * s, "judging"))
    judged = parted.test | parted.unknown
    made["new"] = np.full_like(made["quantiles"], np.nan)
    made["new"][judged] = run(grid, parted.rows[judged], parts, lambda s: job.progress(0.6 + 0.05 * s, "judging"))[
        "quantiles"
    ]
    threshold = choose_threshold(grid, parted, made["score"], label, shape.step * shape.stride)
    made["score"] /= np.float32(threshold)

    final_shapes = usual_courses(shape, grid, parted.rows)
    everything = make_table(grid, parted.rows, shape, final_shapes, lambda s: job.progress(0.65 + 0.05 * s, "features"))
    known: Mask = np.asarray(np.isfinite(everything.actual).any(axis=(1, 2)), np.bool_)
    final = _fit(job, grid, parted, everything, known, shape, final_shapes, fitted, (0.7, 0.95))
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
        validation=min(fitted.valid_loss),
    )


def _fit(
    job: Job,
    grid: Grid,
    parted: Split,
    table: Table,
    use: Mask,
    shape: Layout,
    shapes: Shapes,
    like: Fitted | None,
    share: tuple[float, float],
) -> Fitted:
    """Fit weights on some rows, and on the same as they are to a new entity; `like` as for `fit_weights`."""
    middle, end = share[0] + 0.05, share[1]
    longer, used = add_cold(
        table, grid, parted, use, shape, shapes, lambda s: job.progress(share[0] + 0.05 * s, "features")
    )
    valid = np.zeros(len(used), bool)
    valid[: len(use)] = parted.valid
    return fit_weights(
        longer, used, valid, shape, seed=job.seed, epochs=job.epochs, like=like,
        progress=lambda s: job.progress(middle + (end - middle) * s, "training"),
        hidden=int(job.told(SPACE, "hidden")), rate=job.told(SPACE, "rate"),
    )  # fmt: skip


def choose_seasons(grid: Grid, parted: Split, bare: Layout) -> tuple[tuple[Season, ...], list[Trial]]:
    """Return the plainest set of seasons that no richer one beats by enough on validation rows."""
    keep = _some(grid, parted)
    rows = parted.rows[keep]
    train, valid = parted.train[keep], parted.valid[keep]
    trials: list[Trial] = []
    for seasons in season_choices(bare, grid, rows[train]):
        shape = bare.with_seasons(seasons)
        table = make_table(grid, rows, shape, usual_courses(shape, grid, rows[train]))
        ridge, cost = choose_ridge(table, train, valid, shape, (USUAL,))
        trials.append(Trial(seasons, ridge, cost))
    best, gain = trials[0], GAIN + DOUBT / math.sqrt(max(int(valid.sum()), 1))
    for trial in trials[1:]:
        if trial.cost < best.cost * (1.0 - gain):
            best = trial
    return best.seasons, trials


def run(grid: Grid, rows: Ints, parts: Parts, progress: Progress) -> dict[str, F32]:
    """Quantiles [N, H, Y, 3] and score [N] of windows, run in order as the daemon would from the first of them on."""
    shape = parts.shape
    return run_sequence(
        build(parts), grid, rows, ("quantiles", "score"), state=shape.state,
        columns=[grid.stream.field_index(name) for name in shape.fields], window=shape.window, progress=progress,
    )  # fmt: skip


def choose_threshold(grid: Grid, parted: Split, score: F32, label: str, step: float) -> float:
    """Lowest residual, in standard deviations, with at most `BUDGET` alarms per entity and day of validation.

    It is at least what a normal residual would need for that, a window being `step` seconds: validation time may be
    too short to hold a single alarm that the budget allows.
    """
    rows = parted.rows[parted.valid]
    labels = np.nan_to_num(np.asarray(grid.columns.get(label, np.zeros(len(grid.ts))), np.float64))[rows]
    quiet = ~(labels > 0) if (labels <= 0).any() else np.ones(len(rows), bool)
    spans = [np.ptp(grid.ts[rows[grid.entity[rows] == e]]) for e in np.unique(grid.entity[rows])]
    budget = int(BUDGET * float(np.sum(spans)) / DAY)
    found = budget_threshold(
        score[parted.valid].astype(np.float64), quiet, budget, merge=MERGE, group=grid.entity[rows]
    )
    least = NormalDist().inv_cdf(1.0 - 0.5 * min(BUDGET * step / DAY, 0.1))
    return float(np.clip(found * 1.001, least, 0.9 * RESIDUAL_LIMIT))


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
