"""Trainer of the default incident model: any stream, any fields, labels of 0 and 1.

Rows are split into parts (`data.split`). Each part is scored by a model of the other parts; from those scores come
the number of trees, the threshold, the probability's line and every figure of the report. The published model is
then grown on all rows with the same recipe, because incidents are few and each teaches.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.errors import PayloadError
from dwcp_stream.training.ensemble import evaluate, exact
from dwcp_stream.training.incident.boosting import DEPTH, PARAMETERS, Capacity, capacity, grow
from dwcp_stream.training.incident.comparing import both, compare, judge_later
from dwcp_stream.training.incident.data import Folds, IncidentData, apart, load_incident_data, split
from dwcp_stream.training.incident.design import fit_design
from dwcp_stream.training.incident.graphs import explain_model, incident_model
from dwcp_stream.training.incident.report import Findings, write_report
from dwcp_stream.training.incident.table import Table, build_table
from dwcp_stream.training.incident.thresholds import calibrate, fit_platt
from dwcp_stream.training.job import Candidate, Job, Parameter, Space
from dwcp_stream.training.metrics import plain
from dwcp_stream.training.publish import reference

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]
SPACE: Final[Space] = {
    "max_depth": Parameter(DEPTH, 2, 9, whole=True),
    "eta": Parameter(PARAMETERS["eta"], 0.02, 0.3, log=True),
    "min_child_weight": Parameter(PARAMETERS["min_child_weight"], 1.0, 50.0, log=True),
    "subsample": Parameter(PARAMETERS["subsample"], 0.4, 1.0),
    "lambda": Parameter(PARAMETERS["lambda"], 1.0, 100.0, log=True),
}
"""As XGBoost calls them."""


@dataclass(frozen=True)
class Unseen:
    """Margins [K] by trees that had not seen the row's part (NaN where `judged` is false), and the best rounds.

    `loss` is the mean loss of the parts after these rounds, each by trees of the others. `overlap` says that
    some windows shared rows with windows that the trees had seen.
    """

    margin: Floats
    rounds: int
    judged: Bools
    overlap: bool
    loss: float


def train_incident(job: Job) -> Candidate:
    """Train, calibrate and judge an incident model.

    Raises
    ------
    PayloadError
        If the files cannot be read, have no usable labels, or no field that changes.
    """
    job.progress(0.0, "reading")
    data = load_incident_data(job)
    folds = split(data, job.seed)
    where = ", ".join(path.name for path in job.files)
    design = fit_design(job.stream, data.newest, data.group, data.normal, where=where)
    job.progress(0.05, "computing features")
    table = build_table(data, folds, design, job.seed)
    allowed = replace(
        capacity(int(data.event.max()) + 1, job.epochs),
        depth=int(job.told(SPACE, "max_depth")),
        told={name: job.told(SPACE, name) for name in SPACE if name != "max_depth"},
    )
    unseen = score_unseen(data, folds, table, allowed, job)
    chosen = replace(allowed, rounds=unseen.rounds)
    seen = table.select(unseen.judged)
    margin = unseen.margin[unseen.judged]
    calibration = calibrate(seen.rows.label, margin)
    platt = fit_platt(seen.rows.label, margin, seen.rows.share)
    job.progress(0.75, "growing the published trees")
    trees = exact(grow(table.rows, table.columns, job.seed, chosen).trees)
    job.progress(0.9, "judging")
    findings = Findings(
        data=data,
        folds=folds,
        design=design,
        columns=table.columns,
        trees=trees,
        depth=allowed.depth,
        overlap=unseen.overlap,
        at=seen.at,
        probability=platt.probability(margin),
        judged=compare(job, data, design, seen, margin),
        calibration=calibration,
        later=judge_later(job, data, folds, design, table, chosen),
    )
    report, plots, metrics = write_report(job, findings)
    job.progress(1.0, "done")
    return Candidate(
        model=incident_model(design, trees, calibration, platt),
        explain=explain_model(design, trees, calibration),
        fields=design.fields,
        window=design.window,
        reference=reference(data.newest[data.normal][:, design.columns(job.stream)], job.stream, design.fields),
        metrics=plain(metrics),
        report=report,
        plots=plots,
        severity=calibration.severity,
        state_size=design.state_size,
        licence="that of the training files",
        validation=unseen.loss,
    )


def score_unseen(data: IncidentData, folds: Folds, table: Table, allowed: Capacity, job: Job) -> Unseen:
    """Score each part by trees of the others, and choose the number of rounds that suits the parts together.

    Raises
    ------
    PayloadError
        If no part leaves both incident and normal rows to the others.
    """
    parts, overlap = [], False
    for number in range(folds.count):
        inside, others = table.fold == number, apart(data, folds.number == number)[table.at]
        if inside.any() and not both(table.rows.label[others]):
            overlap, others = True, ~inside  # too short to leave out what shares rows of a window
        if inside.any() and both(table.rows.label[others]):
            parts.append((inside, others))
    judged = np.any([inside for inside, _ in parts], axis=0) if parts else np.zeros(len(table.at), bool)
    if not both(table.rows.label[judged]):
        raise PayloadError(
            "the incidents and the normal rows cannot be split into two parts that have both",
            where=", ".join(path.name for path in job.files),
            remedy="Give a longer file, with a second incident and normal time around it",
        )
    losses, grown = [], []
    for i, (inside, others) in enumerate(parts):

        def progress(share: float, done: int = i) -> None:
            job.progress(0.15 + 0.6 * (done + share) / len(parts), "boosting")

        watched, rows = table.rows.select(inside), table.rows.select(others)
        result = grow(rows, table.columns, job.seed, allowed, watched=watched, progress=progress)
        losses.append(np.pad(result.losses, (0, allowed.rounds - len(result.losses)), mode="edge"))
        grown.append(result.trees)
    mean = np.mean(losses, axis=0)
    rounds = int(np.argmin(mean)) + 1
    margin = np.full(len(table.at), np.nan)
    for (inside, _), trees in zip(parts, grown, strict=True):
        margin[inside] = evaluate(trees[:rounds], table.rows.x[inside])
    return Unseen(margin, rounds, judged, overlap, float(mean[rounds - 1]))
