"""Trainer of the link stream's forecaster: split by time and by link, fit, threshold, judge, report.

Time is cut at 70 % and 85 % of its span; every fifth link is held out of training altogether. Training sees
the other links before the first cut; validation (best epoch, threshold) is between the cuts; test is after
the second, told apart for links that training knows and links that it does not.
"""

from dataclasses import dataclass
from typing import Final

import jax
import numpy as np
from numpy.typing import NDArray

from dwcp_stream.errors import PayloadError
from dwcp_stream.training import forecaster as net
from dwcp_stream.training import link_features as features
from dwcp_stream.training.dataset import Grid, Ints, load_grid
from dwcp_stream.training.fitting import fit
from dwcp_stream.training.forecast_baselines import Baselines
from dwcp_stream.training.job import Candidate, Job, Parameter, Space
from dwcp_stream.training.link_alarms import judge_alarms
from dwcp_stream.training.link_batches import Maker
from dwcp_stream.training.link_report import write_report
from dwcp_stream.training.publish import reference

SPACE: Final[Space] = {
    "hidden": Parameter(32, 8, 96, log=True, whole=True),
    "wide": Parameter(64, 16, 192, log=True, whole=True),
    "rate": Parameter(3e-3, 3e-4, 2e-2, log=True),
}
EPOCHS, BATCH = 10, 256
TRAIN_WINDOWS, VALID_WINDOWS, TEST_WINDOWS = 48_000, 8_000, 16_000
CUTS, HELD_OUT = (0.70, 0.85), 5


@dataclass(frozen=True)
class Split:
    """Rows that windows end at, and the time at which training ends."""

    train: Ints
    valid: Ints
    known: Ints
    unknown: Ints
    train_end: float


def train_link(job: Job) -> Candidate:
    """Train, judge and describe the link forecaster; see the module for the split.

    Raises
    ------
    PayloadError
        If the files hold too little.
    """
    grid = load_grid(job.stream, job.files, extra=("label",), entity=job.entity)
    shape = features.layout(job.stream, job.binding.targets, job.binding.horizons)
    horizons = job.binding.horizons
    sizes = net.Sizes(int(job.told(SPACE, "hidden")), int(job.told(SPACE, "wide")), horizons, len(shape.targets))
    split = cut(grid, max(horizons), job.seed)
    maker = Maker(grid, shape, split.train)
    fitted = fit(
        net.init(jax.random.key(job.seed), sizes, shape),
        net.make_loss(sizes.horizons),
        split.train,
        split.valid,
        maker,
        epochs=job.epochs or EPOCHS,
        batch=BATCH,
        rate=job.told(SPACE, "rate"),
        seed=job.seed,
        progress=lambda share: job.progress(0.8 * share, "training"),
    )
    job.progress(0.8, "judging")
    alarms = judge_alarms(maker, net.build(fitted.params, sizes, shape, 1.0), CUTS)
    model = net.build(fitted.params, sizes, shape, alarms.threshold)
    baselines = Baselines(grid, maker.logs, split.train, split.train_end)
    report, plots, metrics = write_report(
        job, maker, split, fitted, run(model, maker, split), baselines, alarms=alarms.test
    )
    rows = grid.values[np.unique(split.train)]
    columns = [job.stream.field_index(name) for name in shape.fields]
    job.progress(1.0, "done")
    return Candidate(
        model=model,
        explain=net.build(fitted.params, sizes, shape, alarms.threshold, explain=True),
        fields=shape.fields,
        window=shape.window,
        reference=reference(rows[:, columns], job.stream, shape.fields),
        metrics={**metrics, "threshold": alarms.threshold},
        report=report,
        plots=plots,
        severity=severity(alarms.threshold),
        horizons=tuple(horizons),
        targets=shape.targets,
        validation=min(fitted.valid_loss),
        licence="see the data's own licence; the committed version is trained on the project's own simulator",
    )


def cut(grid: Grid, reach: int, seed: int) -> Split:
    """Split the rows that windows end at; a window's targets, too, stay on its side of a cut."""
    rng = np.random.default_rng(seed)
    ends = grid.ends()
    ends = ends[ends + reach < len(grid.ts)]
    ends = ends[grid.entity[ends + reach] == grid.entity[ends]]
    if not len(ends):
        raise PayloadError("no window has a target", remedy="Give longer histories")
    first, span = grid.ts[ends].min(), np.ptp(grid.ts[ends])
    low, high = first + CUTS[0] * span, first + CUTS[1] * span
    target = grid.ts[ends + reach]
    held = grid.entity[ends] % HELD_OUT == HELD_OUT - 1
    parts = (
        ends[(target < low) & ~held],
        ends[(grid.ts[ends] >= low) & (target < high) & ~held],
        ends[(grid.ts[ends] >= high) & ~held],
        ends[(grid.ts[ends] >= high) & held],
    )
    limits = (TRAIN_WINDOWS, VALID_WINDOWS, TEST_WINDOWS, TEST_WINDOWS)
    chosen = [_sample(rng, rows, limit) for rows, limit in zip(parts, limits, strict=True)]
    if min(len(chosen[0]), len(chosen[1])) < 2 or not len(chosen[2]):
        raise PayloadError("too little data to split by time", remedy="Give longer histories")
    return Split(chosen[0], chosen[1], chosen[2], chosen[3], float(low))


def run(model: bytes, maker: Maker, split: Split) -> dict[str, NDArray[np.float32]]:
    """Quantiles [N, H, Y, 3] of the published graph for the two test sets, by name."""
    return {name: maker.run(model, getattr(split, name), "quantiles") for name in ("known", "unknown")}


def severity(threshold: float) -> tuple[float, float, float]:
    """Cut-offs at one and two thirds of the way from the threshold to the largest score there is."""
    room = max(net.RESIDUAL_LIMIT / threshold - 1.0, 0.3)
    return (1.0, round(1.0 + room / 3.0, 2), round(1.0 + 2.0 * room / 3.0, 2))


def _sample(rng: np.random.Generator, rows: Ints, limit: int) -> Ints:
    """At most `limit` of the rows, in order."""
    return rows if len(rows) <= limit else np.sort(rng.choice(rows, limit, replace=False))
