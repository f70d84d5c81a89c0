"""Trainer of the consensus stream's anomaly model: split, fit, threshold, judge, report.

With three labelled files or more the first gives its quiet time to training, the second is for validation
(threshold and residual sizes), the rest are test; files without any label are training. With fewer, every
file is cut by time, 60 / 20 / 20. No threshold ever sees test rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import jax
import numpy as np
from numpy.typing import NDArray

from dwcp_stream.errors import PayloadError
from dwcp_stream.scoring.session import make_session
from dwcp_stream.training.consensus import autoencoder as ae
from dwcp_stream.training.consensus.report import write_report
from dwcp_stream.training.dataset import Floats, Grid, Ints, load_grid
from dwcp_stream.training.fitting import Fit, fit
from dwcp_stream.training.job import Candidate, Job, Parameter, Space
from dwcp_stream.training.labels import Labelled, labelled
from dwcp_stream.training.metrics import best_threshold
from dwcp_stream.training.publish import reference
from dwcp_stream.training.rules import RULES

SPACE: Final[Space] = {
    "hidden": Parameter(32, 12, 96, log=True, whole=True),
    "code": Parameter(8, 2, 24, log=True, whole=True),
    "rate": Parameter(3e-3, 3e-4, 2e-2, log=True),
}
EPOCHS, BATCH = 60, 64
TRAIN, VALID, TEST = 0, 1, 2
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Trained:
    """One trained model, with its scores [R] for every row of the grid (NaN where not scored)."""

    model: bytes
    explain: bytes
    scores: Floats
    fit: Fit
    threshold: float


def train_consensus(job: Job) -> Candidate:
    """Train, judge and describe the consensus autoencoder; see the module for the split.

    Raises
    ------
    PayloadError
        If there are no labels or no quiet training windows in the files.
    """
    grid = load_grid(job.stream, job.files, extra=("label", "x_recovery", "note"), entity=job.entity)
    data = labelled(grid, job.binding.label or "label")
    folds = split(data)
    results = []
    for number, roles in enumerate(folds):
        fold_job = replace(job, progress=_share(job.progress, number, len(folds)))
        results.append(fit_fold(data, roles, fold_job))
    model, roles = results[0], folds[0]
    tests = [roles == TEST for roles in folds]
    found = {"model": data.judge(model.scores, tests[0])}
    rule_scores = {name: rule(grid) for name, rule in RULES.items()}
    found |= {name: data.judge(scores, tests[0]) for name, scores in rule_scores.items()}
    rotated = {"model": [data.judge(r.scores, t) for r, t in zip(results, tests, strict=True)]}
    rotated |= {n: [data.judge(s, t) for t in tests] for n, s in rule_scores.items()}
    normal = {
        name: data.judge(scores, (roles == TRAIN) & data.quiet)
        for name, scores in {"model": model.scores, **rule_scores}.items()
    }
    report, plots, metrics = write_report(
        job,
        grid,
        data,
        roles,
        model,
        found=found,
        rotated=rotated,
        normal=normal,
        parameters=_size(model.fit),
    )
    training_rows = grid.values[(roles == TRAIN) & data.quiet & grid.filled]
    return Candidate(
        model=model.model,
        explain=model.explain,
        fields=job.stream.field_names,
        window=job.stream.window,
        reference=reference(training_rows, job.stream, job.stream.field_names),
        metrics=metrics,
        report=report,
        plots=plots,
        severity=severity(model.scores, data, roles),
        validation=validation_loss(data, results, folds),
        licence="see the data's own licence; the committed version is trained on the project's own etcd runs",
    )


def validation_loss(data: Labelled, results: Sequence[Trained], folds: Sequence[Ints]) -> float | None:
    """Return how much average precision lacks to 1 on the rotations' validation rows; None if no fault is in them."""
    judged = [data.judge(r.scores, roles == VALID) for r, roles in zip(results, folds, strict=True)]
    precision = [found.average_precision for found in judged if found.events]
    return 1.0 - float(np.mean(precision)) if precision else None


def split(data: Labelled) -> list[NDArray[np.int64]]:
    """Role of each row, for the model to publish and for each rotation of the labelled files after it."""
    source = data.grid.source
    with_events = [int(s) for s in np.unique(source[data.event >= 0])]
    if len(with_events) < 3:
        roles = np.zeros(len(source), np.int64)
        for number in np.unique(source):
            rows = np.flatnonzero(source == number)
            roles[rows] = np.searchsorted([0.6, 0.8], np.arange(len(rows)) / len(rows), side="right")
        return [roles]
    rotations = []
    for shift in range(len(with_events)):
        turned = with_events[shift:] + with_events[:shift]
        role = np.full(int(source.max()) + 1, TRAIN)
        role[turned[1]], role[turned[2:]] = VALID, TEST
        rotations.append(role[source])
    return rotations


def fit_fold(data: Labelled, roles: NDArray[np.int64], job: Job) -> Trained:
    """Train on the quiet windows of TRAIN, set sizes and threshold on VALID, score every row."""
    grid, stream = data.grid, job.stream
    fields = stream.field_names
    ends = grid.ends()
    pure = ~grid.any_in_window(grid.filled & ~data.quiet, ends)
    train, valid = (np.flatnonzero(pure & (roles[ends] == role)) for role in (TRAIN, VALID))
    if len(train) < BATCH or not len(valid):
        raise PayloadError("too little quiet time to train on", remedy="Give more files without faults")
    values, known = _channels(grid, ends, fields)
    center, scale = scaling(values[train], known[train])
    x = (np.clip((values - center) / scale, -20.0, 20.0) * known).astype(np.float32)

    def batches(numbers: NDArray[Any]) -> tuple[Any, ...]:
        return x[numbers], known[numbers]

    fitted = fit(
        ae.init(jax.random.key(job.seed), int(job.told(SPACE, "hidden")), int(job.told(SPACE, "code"))),
        ae.loss,
        train,
        valid,
        batches,
        epochs=job.epochs or EPOCHS,
        batch=BATCH,
        rate=job.told(SPACE, "rate"),
        seed=job.seed,
        progress=lambda share: job.progress(share, "training"),
    )
    rebuilt = np.asarray(ae.reconstruct(fitted.params, x))
    quiet_valid = (roles[ends] == VALID) & data.quiet[ends]
    constants = ae.Constants(center, scale, residual_spread(x - rebuilt, known, quiet_valid))
    raw = _score(ae.build(fitted.params, constants, fields, stream.window), grid, ends)
    # Quiet training time helps to judge false alarms; it has no events, so it cannot flatter recall.
    choice = (roles[ends] == VALID) | ((roles[ends] == TRAIN) & data.quiet[ends])
    quiet = data.quiet[ends][choice]
    threshold = best_threshold(
        raw[choice],
        np.where(roles[ends] == VALID, data.event[ends], -1)[choice],
        quiet,
        group=data.group[ends][choice],
    )
    constants = replace(constants, threshold=threshold)
    scores = np.full(len(grid.ts), np.nan)
    scores[ends] = raw / np.float32(threshold)
    return Trained(
        model=ae.build(fitted.params, constants, fields, stream.window),
        explain=ae.build(fitted.params, constants, fields, stream.window, explain=True),
        scores=scores,
        fit=fitted,
        threshold=threshold,
    )


def scaling(values: Floats, known: Floats) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Median, and 75 % quantile of the distance to it (with a floor), of each channel's known values."""
    masked = np.where(known > 0, values, np.nan)
    center = np.nanmedian(masked, axis=(0, 1))
    scale = np.nanquantile(np.abs(masked - center), 0.75, axis=(0, 1))
    return center.astype(np.float32), np.maximum(scale, ae.SCALE_FLOOR).astype(np.float32)


def residual_spread(residual: Floats, known: Floats, rows: Mask) -> NDArray[np.float32]:
    """Root mean square of the harmful part of the tail's mean residual per channel, with a floor."""
    tail, present = residual[rows, -ae.TAIL :], known[rows, -ae.TAIL :]
    mean = (tail * present).sum(axis=1) / np.maximum(present.sum(axis=1), 1.0)
    harmful = np.maximum(mean * ae.HARM, 0.0)
    spread: NDArray[np.float32] = np.maximum(np.sqrt((harmful**2).mean(axis=0)), ae.SPREAD_FLOOR)
    return spread.astype(np.float32)


def severity(scores: Floats, data: Labelled, roles: NDArray[np.int64]) -> tuple[float, float, float]:
    """Cut-offs: 1, then the 50 % and 90 % quantiles of the alarming scores inside validation events."""
    over = scores[(roles == VALID) & (data.event >= 0) & (np.nan_to_num(scores) > 1.0)]
    if len(over) < 10:
        return (1.0, 2.0, 4.0)
    critical = max(round(float(np.quantile(over, 0.5)), 2), 1.1)
    return (1.0, critical, max(round(float(np.quantile(over, 0.9)), 2), critical + 0.1))


def _channels(grid: Grid, ends: Ints, fields: Sequence[str]) -> tuple[Floats, Floats]:
    windows, _ = grid.windows(ends)
    model = ae.channels_model(tuple(fields), grid.stream.window)
    session = make_session(model, where="training")
    values, known = session.run(["values", "known"], {"window": windows})
    return np.asarray(values), np.asarray(known)


def _score(model: bytes, grid: Grid, ends: Ints) -> Floats:
    windows, times = grid.windows(ends)
    session = make_session(model, where="training")
    scores: Floats = session.run(["score"], {"window": windows, "time": times})[0]
    return scores


def _size(fitted: Fit) -> int:
    return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(fitted.params))


def _share(progress: Callable[[float, str], None], number: int, count: int) -> Callable[[float, str], None]:
    return lambda done, what: progress((number + done) / count, f"{what} {number + 1} of {count}")
