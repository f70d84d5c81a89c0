"""Trainer of the default anomaly model: split by time and by entity, judge, then fit to everything.

The recipe is judged on the last fifth of each entity's time, and where there are five entities or more on all rows of
every fifth, by a model that saw neither. What is published is the same recipe fitted to all rows. Nothing is chosen on
test rows, labels choose nothing at all: thresholds follow from held-out quarters of the training rows. A search of
parameters goes by how well made-up trouble is told from held-out training rows, see `surrogate`.
"""

from typing import Final

import numpy as np

from dwcp_stream.training.anomaly.judging import Judgement, judge
from dwcp_stream.training.anomaly.memory import Ints, Rates
from dwcp_stream.training.anomaly.model import build, state_size
from dwcp_stream.training.anomaly.recipe import MIN_ROWS, fit_recipe
from dwcp_stream.training.anomaly.report import write_report
from dwcp_stream.training.anomaly.surrogate import validation_loss
from dwcp_stream.training.dataset import Grid, load_grid
from dwcp_stream.training.job import Candidate, Job, Parameter, Space
from dwcp_stream.training.publish import reference

SPACE: Final[Space] = {
    "level_rows": Parameter(1000, 100, 10_000, log=True),
    "mean_rows": Parameter(30, 5, 200, log=True),
    "anchor_rows": Parameter(4000, 500, 40_000, log=True),
    "norm_rows": Parameter(5000, 500, 50_000, log=True),
    "rarity_rows": Parameter(5, 1, 50, log=True),
}
"""Rows that each of the means goes back, one over the rate of `memory.Rates`."""
TEST_SHARE, HELD_OUT = 0.2, 5
SEVERITY = (1.0, 1.5, 2.5)
"""Evidence of the threshold, and one and a half and two and a half times as much."""


def train_anomaly(job: Job) -> Candidate:
    """Train, judge and describe the default anomaly model of a stream; see the module for the split.

    Parameters
    ----------
    job
        The stream, its files, and the binding, whose `label` column, if it has one, serves for judging only.

    Raises
    ------
    PayloadError
        If the files cannot be read, or hold too few rows or no values.
    """
    stream, label = job.stream, job.binding.label
    rates = Rates(**{name.removesuffix("_rows"): 1.0 / job.told(SPACE, name) for name in SPACE})
    job.progress(0.0, "reading")
    grid = load_grid(stream, job.files, extra=(label,) if label else (), entity=job.entity)
    ends = grid.ends()
    job.progress(0.1, "judging")
    judged = _judge(grid, ends, label, rates)
    job.progress(0.6, "fitting")
    recipe = fit_recipe(grid, ends, rates)
    fields = stream.field_names
    report, plots, metrics = write_report(job, grid, recipe, judged, len(ends))
    job.progress(1.0, "done")
    return Candidate(
        model=build(recipe, stream.window),
        explain=build(recipe, stream.window, explain=True),
        fields=fields,
        window=stream.window,
        reference=reference(grid.values[ends], stream, fields),
        metrics=metrics,
        report=report,
        plots=plots,
        severity=SEVERITY,
        state_size=state_size(len(fields)),
        licence="see the data's own licence",
        # only a search needs it, and it costs a fit
        validation=validation_loss(grid, split(grid, ends)[0], rates, job.seed) if job.parameters else None,
    )


def split(grid: Grid, ends: Ints) -> tuple[Ints, Ints]:
    """Rows to fit the judged model on, and rows to judge it on."""
    entity = grid.entity[ends]
    test = np.zeros(len(ends), bool)
    names = np.unique(entity)
    for number in names:
        rows = np.flatnonzero(entity == number)
        test[rows[int((1.0 - TEST_SHARE) * len(rows)) :]] = True
    if len(names) >= HELD_OUT:
        test |= np.isin(entity, names[HELD_OUT - 1 :: HELD_OUT])
    return ends[~test], ends[test]


def _judge(grid: Grid, ends: Ints, label: str | None, rates: Rates) -> Judgement | None:
    """Judge the recipe on rows that it did not see; None if there are too few to split."""
    fitted, test = split(grid, ends)
    if len(fitted) < MIN_ROWS or not np.isfinite(grid.values[fitted]).any():
        return None
    recipe = fit_recipe(grid, fitted, rates)
    return judge(grid, fitted, test, recipe, build(recipe, grid.stream.window), label)
