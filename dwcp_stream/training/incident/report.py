"""What came out of training an incident model, in words, tables and pictures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from dwcp_stream.training import report
from dwcp_stream.training.calibration import Calibration
from dwcp_stream.training.ensemble import Tree
from dwcp_stream.training.incident.data import Folds, IncidentData
from dwcp_stream.training.incident.design import Design
from dwcp_stream.training.incident.features import Column
from dwcp_stream.training.incident.judging import Judgement, plain_table, reliability
from dwcp_stream.training.incident.thresholds import MOST_FALSE, RESERVE
from dwcp_stream.training.job import Job

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

FALSE_RATES: Final = np.logspace(-4, 0, 200)
RECALLS: Final = np.linspace(0.0, 1.0, 200)
SHOWN: Final = 15  # features listed
HEADER: Final = (
    "on rows that the scoring model had not seen",
    "ROC AUC",
    "average precision",
    "recall at 5 % FPR",
    "recall",
    "false positives",
    "incidents found",
    "median delay, s",
)
HOW: Final = """\
Every row is scored by a model that was grown without its part, and judged at a threshold from the scores of the other
parts: the most useful one with at most {limit:.0%} of normal rows over it ({reserve:.0%} less while choosing, because
new rows are noisier). `recall at 5 % FPR` puts every threshold where these very rows give 5 % false positives: it
compares, and was not to be had beforehand. An incident counts as found with its first row over the threshold; the delay
is from its first labelled row.

![Recall over false positive rate](roc.png)

![Precision over recall](precision.png)"""


@dataclass(frozen=True)
class Findings:
    """Everything the report tells of.

    Attributes
    ----------
    data, folds, design
        Rows, their parts, and the graph's constants.
    columns, trees
        Features, and published trees.
    depth
        Of the trees, at most.
    overlap
        Whether judged windows shared rows with windows that taught.
    at, probability
        Judged rows [K] (positions in `data`), and their probability by a model that had not seen them.
    judged
        The model first, then the baselines, by name.
    calibration
        Of the published score.
    later
        Judgements of later rows by a model of earlier ones, by name; None if the files do not suffice.
    """

    data: IncidentData
    folds: Folds
    design: Design
    columns: list[Column]
    trees: list[Tree]
    depth: int
    overlap: bool
    at: Ints
    probability: Floats
    judged: Mapping[str, Judgement]
    calibration: Calibration
    later: Mapping[str, Judgement] | None


def write_report(job: Job, found: Findings) -> tuple[str, dict[str, bytes], dict[str, Any]]:
    """Write the report.

    Returns
    -------
    tuple
        Markdown, plots by file name, metrics for the manifest.
    """
    name = next(iter(found.judged))
    label = found.data.incident[found.at]
    diagram = reliability(label, found.probability)
    metrics = {
        **found.judged[name].numbers,
        "brier": diagram["brier"],
        "brier_of_the_base_rate": diagram["brier_of_the_base_rate"],
        "reliability": {"said": diagram["said"], "came": diagram["came"]},
        "trees": len(found.trees),
        "baselines": {other: each.numbers for other, each in found.judged.items() if other != name},
    }
    if found.later is not None:
        metrics["later"] = {other: each.numbers for other, each in found.later.items()}
    return _text(job, found, diagram), _plots(found, label, diagram), metrics


def _text(job: Job, found: Findings, diagram: Mapping[str, Any]) -> str:
    data, folds = found.data, found.folds
    kind = "whole entities" if folds.by_entity else "stretches of time, cut between incidents; windows never cross"
    parts = [
        (
            str(number + 1),
            len(np.unique(data.group[inside])),
            int((inside & data.known).sum()),
            f"{data.incident[inside & data.known].mean():.2%}",
            len(np.unique(data.event[inside & data.incident])),
        )
        for number in range(folds.count)
        if (inside := folds.number == number).any()
    ]
    aside = int((~data.known).sum())
    sections = {
        "": _about(job, found),
        "Data": f"The parts hold {kind}. Rows without a label: {aside}; they only move an entity's normal.\n\n"
        + report.table(("part", "entities", "rows", "in an incident", "incidents"), parts),
        "Result": report.table(HEADER, plain_table(found.judged))
        + "\n\n"
        + HOW.format(limit=MOST_FALSE, reserve=RESERVE),
    }
    if found.later is not None:
        sections["Later rows"] = (
            "Grown on the first part of the time, judged on the rest, threshold from the first part.\n\n"
            + report.table(HEADER, plain_table(found.later))
        )
    sections |= {
        "Probability": f"Brier score {diagram['brier']:.3g}; always saying the base rate would have "
        f"{diagram['brier_of_the_base_rate']:.3g}. The line from margin to probability is fitted on these same "
        "scores, two numbers in all.\n\n![Reliability](reliability.png)",
        "What it looks at": report.table(("feature", "share of splits"), _uses(found)),
        "Severity of alerts": f"Critical from a score of {found.calibration.severity[1]}, emergency from "
        f"{found.calibration.severity[2]}: half and 85 % of the detected incident rows lie below.",
        "What is not known": _limits(found),
    }
    if job.command:
        sections["Again"] = f"```\n{job.command}\n```"
    return report.document(f"Incidents of {job.stream.name}: {job.binding.name}", sections)


def _about(job: Job, found: Findings) -> str:
    design = found.design
    dropped = [name for name in job.stream.field_names if name not in design.fields]
    text = (
        f"{len(found.trees)} boosted trees of depth {found.depth} at most on {len(found.columns)} features "
        f"of {len(design.fields)} fields, from windows of {design.window} rows and from what the graph remembers of "
        f"each entity ({design.state_size} numbers: level, spread and weight of each numeric field). Seed {job.seed}. "
        "`score` is 0 at the median of normal rows and 1 at the threshold; `probability` is the logistic of the same "
        "sum; `expected` is the entity's own level."
    )
    if dropped:
        text += f" Left out, because they never change in these rows: {', '.join(dropped)}."
    return text


def _uses(found: Findings) -> list[tuple[str, float]]:
    used = np.concatenate([tree.feature[tree.feature >= 0] for tree in found.trees])
    count = np.bincount(used, minlength=len(found.columns)) / max(len(used), 1)
    return [(found.columns[i].name, float(count[i])) for i in np.argsort(-count, kind="stable")[:SHOWN] if count[i] > 0]


def _limits(found: Findings) -> str:
    lines = [
        "The published trees are grown on all rows; the figures are those of models of the other parts only.",
        "The number of trees was chosen by the loss on the same parts, one number for all.",
        "A cause that no row shows is found only as far as fields leave the entity's own normal.",
    ]
    if not found.folds.by_entity:
        lines.append("The parts are times of the same entities: nothing is known of an entity that is new.")
    if found.overlap:
        lines.append("So few rows that judged windows share rows with those that taught: the figures flatter.")
    if found.later is None:
        lines.append("Too few incidents lie in the later part of the time to judge later rows by earlier ones.")
    return "\n".join(f"- {line}" for line in lines)


def _plots(found: Findings, label: NDArray[np.bool_], diagram: Mapping[str, Any]) -> dict[str, bytes]:
    roc, precision = {}, {}
    for name, each in found.judged.items():
        false_rate, recall, _ = roc_curve(label, each.scores)
        roc[name] = np.asarray(np.interp(FALSE_RATES, false_rate, recall))
        exact, reached, _ = precision_recall_curve(label, each.scores)
        precision[name] = np.asarray(np.interp(RECALLS, reached[::-1], exact[::-1]))
    said, came = np.array(diagram["said"]), np.array(diagram["came"])
    return {
        "roc.png": report.line_plot(
            "Recall over false positive rate",
            np.log10(FALSE_RATES),
            roc,
            xlabel="log10 of the false positive rate",
            ylabel="recall",
        ),
        "precision.png": report.line_plot(
            "Precision over recall", RECALLS, precision, xlabel="recall", ylabel="precision"
        ),
        "reliability.png": report.line_plot(
            "Ten bins of rows: what was said and what came",
            said,
            {"what came": came, "perfect": said},
            xlabel="mean probability",
            ylabel="share in an incident",
        ),
    }
