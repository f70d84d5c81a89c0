"""Trainer of the consensus stream's model: judge the recipe on held-out runs, then fit it to all of them.

Every file with faults (or, of more than `TURNS`, every group of them) is held out once: the recipe, its threshold
included, is fitted to the other files and judged on it. What is published is the same recipe fitted to all files; its
threshold comes from cross-fitting, so no threshold ever sees a row that it is judged by.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from dwcp_stream.training.consensus import classifier
from dwcp_stream.training.consensus.data import KINDS, Mask, read_runs
from dwcp_stream.training.consensus.features import STATE_SIZE
from dwcp_stream.training.consensus.folds import Floats, deal
from dwcp_stream.training.consensus.model import build
from dwcp_stream.training.consensus.recipe import Fitted, fit_recipe
from dwcp_stream.training.consensus.report import write_report
from dwcp_stream.training.consensus.sequence import Windows, see
from dwcp_stream.training.job import Candidate, Job, Parameter, Space
from dwcp_stream.training.publish import reference
from dwcp_stream.training.rules import RULES

SPACE: Final[Space] = {
    "hidden": Parameter(classifier.HIDDEN, 6, 64, log=True, whole=True),
    "rate": Parameter(classifier.RATE, 1e-3, 2e-2, log=True),
}
TURNS: Final = 6


@dataclass(frozen=True)
class HeldOut:
    """What was said of windows by recipes that did not see them; NaN where none did.

    Attributes
    ----------
    parts
        Windows [N] of each part that was held out.
    scores, kinds
        [N] and [N, K], by the recipe fitted to the other parts.
    """

    parts: list[Mask]
    scores: Floats
    kinds: Floats


def train_consensus(job: Job) -> Candidate:
    """Train, judge and describe the consensus model; see the module for the split.

    Raises
    ------
    PayloadError
        If a file has no label, or there is no quiet time or no fault to learn from.
    """
    runs = read_runs(job.stream, job.files, label=job.binding.label or "label", entity=job.entity)
    job.progress(0.0, "reading")
    seen = see(runs)
    everything = seen.usable
    fitted = _fit(job, seen, everything, lambda share: job.progress(0.3 * share, "training"))
    held_out = hold_out(job, seen)
    rules = {name: np.asarray(rule(runs.grid), np.float64)[seen.ends] for name, rule in RULES.items()}
    job.progress(0.95, "judging")
    report, plots, metrics = write_report(job, seen, fitted, held_out, rules)
    fields, rows = job.stream.field_names, job.stream.window
    return Candidate(
        model=build(fitted.recipe, fields, rows),
        explain=build(fitted.recipe, fields, rows, explain=True),
        fields=fields,
        window=rows,
        reference=reference(runs.grid.values[runs.data.quiet], job.stream, fields),
        metrics=metrics,
        report=report,
        plots=plots,
        severity=severity(fitted.scores, seen),
        kinds=KINDS,
        state_size=STATE_SIZE,
        validation=_validation(fitted.scores, seen),
        licence="see the data's own licence; the committed version is trained on the project's own etcd runs",
    )


def hold_out(job: Job, seen: Windows) -> HeldOut:
    """Score each part of the files by the recipe fitted to all others."""
    parts = deal(seen, seen.usable, TURNS)
    scores = np.full(len(seen.ends), np.nan)
    kinds = np.full((len(seen.ends), len(KINDS)), np.nan)
    for number, part in enumerate(parts):
        rest = seen.usable & ~part
        if not (seen.event[part] >= 0).any() or not (seen.event[rest] >= 0).any():
            continue
        recipe = _fit(job, seen, rest, _turn(job, number, len(parts))).recipe
        scores[part] = recipe.score(seen.features[part])
        kinds[part] = recipe.kinds(seen.features[part])
    return HeldOut(parts, scores, kinds)


def severity(scores: Floats, seen: Windows) -> tuple[float, float, float]:
    """Cut-offs: 1, then the 50 % and 90 % quantiles of the cross-fitted alarming scores inside events."""
    over = scores[(seen.event >= 0) & (np.nan_to_num(scores) > 1.0)]
    if len(over) < 10:
        return (1.0, 2.0, 4.0)
    critical = max(round(float(np.quantile(over, 0.5)), 2), 1.1)
    return (1.0, critical, max(round(float(np.quantile(over, 0.9)), 2), critical + 0.1))


def _turn(job: Job, number: int, count: int) -> Callable[[float], None]:
    what = f"held-out run {number + 1} of {count}"
    return lambda share: job.progress(0.3 + 0.65 * (number + share) / count, what)


def _fit(job: Job, seen: Windows, rows: Mask, progress: Callable[[float], None]) -> Fitted:
    return fit_recipe(
        seen,
        rows,
        seed=job.seed,
        epochs=job.epochs,
        hidden=int(job.told(SPACE, "hidden")),
        rate=job.told(SPACE, "rate"),
        progress=progress,
    )


def _validation(scores: Floats, seen: Windows) -> float:
    """How much average precision lacks to 1 on cross-fitted scores."""
    full = np.full(len(seen.runs.grid.ts), np.nan)
    full[seen.ends] = scores
    return 1.0 - seen.runs.data.judge(full, np.ones(len(full), bool)).average_precision
