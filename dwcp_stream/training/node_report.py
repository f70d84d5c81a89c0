"""Judging a node model beside simple rules on the same rows, and writing what came out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from dwcp_stream.training import report
from dwcp_stream.training.alarms import Outcome, choose_threshold, judge
from dwcp_stream.training.calibration import Calibration, calibrate
from dwcp_stream.training.features import FIELDS, WINDOW
from dwcp_stream.training.job import Candidate, Job
from dwcp_stream.training.metrics import plain
from dwcp_stream.training.node_baselines import RULE, contenders
from dwcp_stream.training.node_data import NodeData, Part
from dwcp_stream.training.publish import reference

Floats = NDArray[np.floating[Any]]

STEP: Final = 60.0
LEVELS: Final = (("low", 0.0, 0.5), ("medium", 0.5, 0.82), ("high", 0.82, np.inf))
FALSE_RATES: Final = np.logspace(-4, 0, 200)
HOW: Final = """\
Thresholds (the rule's aside) are the lowest with at most {budget} false alarms per node and day on the
validation rows. An alarm lasts until the score is under 0.8. An incident counts from its first labelled row,
in the lead-up, where nothing can be seen yet. Lead is the time from the first alarm to full size, over the
caught incidents. The last column puts every threshold where these rows give {budget} false alarms: it compares,
and was not to be had beforehand.

![Recall over false positive rate](roc.png)

![A day of test rows](incident.png)"""
UNKNOWN: Final = """\
The incidents are of the kinds that the training rows hold; another kind is not covered by these figures.
Expected values are medians by mode and tier over all nodes, not the node's own."""


@dataclass(frozen=True)
class Result:
    """A contender's scores on the test rows (threshold 1), and what they were worth."""

    scores: Floats
    outcome: Outcome
    numbers: dict[str, Any]


def evaluate(part: Part, scores: Floats, budget: float) -> Result:
    """Judge scores with the threshold 1: ranking of rows, caught incidents, false alarms, lead.

    Thresholds chosen on other rows cost each contender another number of false alarms here; so their recall at
    exactly `budget` is given too, with a threshold from these rows that serves the comparison only.
    """
    exact = np.asarray(scores, np.float64)
    outcome = judge(part.rows, exact, step=STEP)
    base = float(np.median(exact[~part.label]))
    level = choose_threshold(part.rows, exact, step=STEP, budget=budget, base=base)
    at_budget = judge(part.rows, (exact - base) / (level - base), step=STEP)
    false_rate, recall, _ = roc_curve(part.label, scores)
    before = outcome.lead[np.isfinite(outcome.lead)]
    numbers = {
        "roc_auc": float(roc_auc_score(part.label, scores)),
        "average_precision": float(average_precision_score(part.label, scores)),
        "recall_at_5_percent_fpr": float(np.interp(0.05, false_rate, recall)),
        "incidents": outcome.incidents,
        "incident_recall": outcome.recall,
        "incident_recall_at_budget": at_budget.recall,
        "false_alarms_per_node_day": outcome.false_per_day,
        "lead_median_seconds": float(np.median(before)) if len(before) else float("nan"),
        "caught_before_full_size": float((before > 0).sum() / max(outcome.incidents, 1)),
        "delay_median_seconds": float(np.nanmedian(outcome.delay)) if outcome.caught else float("nan"),
        "by_severity": {
            level: {"incidents": int(inside.sum()), "recall": float(outcome.hit[inside].mean())}
            for level, low, high in LEVELS
            if (inside := (outcome.severity >= low) & (outcome.severity < high)).any()
        },
    }
    return Result(scores, outcome, numbers)


def node_candidate(
    job: Job,
    data: NodeData,
    *,
    title: str,
    about: str,
    test: Floats,
    calibration: Calibration,
    budget: float,
    model: bytes,
    explain: bytes | None,
    supervised: bool = True,
    extra: Mapping[str, Any] | None = None,
) -> Candidate:
    """Compare with the baselines and assemble the candidate.

    Parameters
    ----------
    job, data
        What was asked for, and the rows.
    title, about
        Of the report.
    test
        The model's scores of the test rows, as its graph computes them.
    calibration, budget
        How the model's threshold was chosen; the baselines' are chosen in the same way.
    model, explain
        Serialised graphs.
    supervised
        Whether the model saw labels; decides which baselines are fair.
    extra
        Further numbers for the manifest.
    """
    results = {job.binding.name: evaluate(data.test, test, budget)}
    for name, scorer in contenders(data, job.seed, supervised=supervised).items():
        raw = scorer(data.test)
        if name != RULE:  # the rule has its threshold in its name
            raw = calibrate(data.valid.rows, scorer(data.valid), step=STEP, budget=budget).scores(raw)
        results[name] = evaluate(data.test, raw, budget)
        job.progress(0.9 + 0.02 * len(results), "judging")
    own = results[job.binding.name].numbers
    metrics = plain(
        {
            **own,
            **(extra or {}),
            "baselines": {name: r.numbers for name, r in results.items() if name != job.binding.name},
        }
    )
    plots = {
        "roc.png": report.line_plot(
            "Test rows: recall over false positive rate",
            np.log10(FALSE_RATES),
            {name: _recall_at(data.test, r.scores) for name, r in results.items()},
            xlabel="log10 of the false positive rate",
            ylabel="recall",
        ),
        "incident.png": _incident_plot(data.test, results[job.binding.name]),
    }
    return Candidate(
        model=model,
        explain=explain,
        fields=FIELDS,
        window=WINDOW,
        reference=reference(data.train.last, job.stream, FIELDS),
        metrics=metrics,
        report=_text(
            job,
            data,
            title=title,
            about=about,
            results=results,
            calibration=calibration,
            budget=budget,
        ),
        plots=plots,
        severity=calibration.severity,
        licence="that of the training files; the simulators of lab/ make rows that are free of rights",
    )


def _recall_at(part: Part, scores: Floats) -> Floats:
    false_rate, recall, _ = roc_curve(part.label, scores)
    return np.asarray(np.interp(FALSE_RATES, false_rate, recall))


def _incident_plot(part: Part, result: Result) -> bytes:
    """Score around the first caught incident, half a day to each side."""
    rows = part.rows
    over = np.flatnonzero(rows.label & (result.scores > 1.0))
    middle = int(over[0]) if len(over) else int(np.flatnonzero(rows.label)[0])
    near = np.flatnonzero((rows.entity == rows.entity[middle]) & (np.abs(rows.ts - rows.ts[middle]) < 43_200))
    seconds = rows.ts[near] - rows.ts[near[0]]
    return report.score_plot(
        f"{part.grid.entities[rows.entity[middle]]}: a day of test rows",
        seconds,
        result.scores[near],
        rows.label[near],
    )


def _text(
    job: Job,
    data: NodeData,
    *,
    title: str,
    about: str,
    results: Mapping[str, Result],
    calibration: Calibration,
    budget: float,
) -> str:
    header = (
        "on the test rows",
        "ROC AUC",
        "average precision",
        "recall at 5 % FPR",
        "incidents caught",
        "false alarms per node and day",
        "median lead, min",
        "caught before full size",
        f"caught at {budget} false alarms",
    )
    table = [
        (
            name,
            r.numbers["roc_auc"],
            r.numbers["average_precision"],
            r.numbers["recall_at_5_percent_fpr"],
            f"{r.outcome.caught} of {r.outcome.incidents}",
            r.numbers["false_alarms_per_node_day"],
            r.numbers["lead_median_seconds"] / 60.0,
            r.numbers["caught_before_full_size"],
            r.numbers["incident_recall_at_budget"],
        )
        for name, r in results.items()
    ]
    levels = list(results[job.binding.name].numbers["by_severity"])
    by_level = [
        (name, *(f"{r.numbers['by_severity'][level]['recall']:.2f}" for level in levels)) for name, r in results.items()
    ]
    count = results[job.binding.name].numbers["by_severity"]
    parts = [
        (
            name,
            len({*p.rows.entity.tolist()}),
            len(p.ends),
            f"{p.label.mean():.2%}",
            len(p.rows.ts) * STEP / 86400,
        )
        for name, p in (("training", data.train), ("validation", data.valid), ("test", data.test))
    ]
    sections = {
        "": about,
        "Data": "No node is in two parts, and test rows lie after all others in time.\n\n"
        + report.table(("part", "nodes", "rows", "labelled", "node-days"), parts),
        "Result": report.table(header, table) + f"\n\n{HOW.format(budget=budget)}",
        "Severity of alerts": f"Critical from a score of {calibration.severity[1]}, emergency from "
        f"{calibration.severity[2]}: half and 85 % of the detected labelled validation rows lie below.",
        "What is not known": UNKNOWN,
    }
    if by_level:
        sections["Share caught by size of the incident"] = report.table(
            ("", *(f"{level} ({count[level]['incidents']})" for level in levels)), by_level
        )
    if job.command:
        sections["Again"] = f"```\n{job.command}\n```"
    return report.document(title, sections)
