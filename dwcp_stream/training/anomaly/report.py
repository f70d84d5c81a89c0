"""Report of the default anomaly model."""

from typing import Any

import numpy as np

from dwcp_stream.training.anomaly.judging import MERGE, Judgement
from dwcp_stream.training.anomaly.memory import KINDS
from dwcp_stream.training.anomaly.recipe import Recipe
from dwcp_stream.training.anomaly.tail import RATE
from dwcp_stream.training.dataset import Grid
from dwcp_stream.training.job import Job
from dwcp_stream.training.metrics import plain
from dwcp_stream.training.report import Number, document, score_plot, table

HOW = """Per field, the newest row is compared with a linear prediction from the rows before it and with a slow level
that the model keeps per entity, and a mean over about 30 rows with that level. Deviations are in units of the
largest that the entity has shown lately. Labels, if there are any, chose nothing: they only judge."""
JUDGED = """Judged on the last fifth of each entity's time (and on every fifth entity, if there are five or more), by a
model fitted to the rest; the published model is the same recipe fitted to all rows. The rules beside it see the same
rows; the PCA's threshold is the same share of its training rows as the model's."""
LIMITS = f"""- A score over 1 is meant to come up in one of {1 / RATE:.0f} rows like those of training, faults included.
  A short training part cannot show that: the threshold then is twice the usual largest deviation, whatever its rate.
- Training rows are taken as they are: faults among them make the model less sensitive to their like.
- A level that stays changed is news for a while only; the model takes it as the new normal within about a thousand
  rows, and its alarm ends much sooner.
- Seasons other than day and week (UTC), such as holidays, are unknown to it."""


def write_report(
    job: Job, grid: Grid, recipe: Recipe, judged: Judgement | None, rows: int
) -> tuple[str, dict[str, bytes], dict[str, Any]]:
    """Write the report: Markdown, plots by file name, metrics for the manifest."""
    names = np.array(job.stream.field_names)
    seasonal = ", ".join(names[recipe.season.fields]) or "none"
    empty = ", ".join(names[~np.isfinite(grid.values).any(axis=0)])
    thresholds = ", ".join(f"{kind} {tail.threshold:.3g}" for kind, tail in zip(KINDS, recipe.tails, strict=True))
    about = (
        f"{HOW}\n\n- {rows} rows of {len(grid.entities)} entities, {len(names)} fields\n"
        f"- fields with a daily or weekly season: {seasonal}\n"
        f"- thresholds, in units of the usual largest evidence: {thresholds}\n"
    )
    about += f"- fields without a value, of no use: {empty}\n" if empty else ""
    sections = {"": f"Seed {job.seed} (nothing is random). Made by\n\n    {job.command}", "Model": about}
    plots: dict[str, bytes] = {}
    metrics: dict[str, Any] = {
        "rows": rows,
        "thresholds": {kind: tail.threshold for kind, tail in zip(KINDS, recipe.tails, strict=True)},
    }
    if judged is None:
        sections["Result"] = "Too few rows to hold some out: not judged."
    else:
        sections["Result"] = f"{JUDGED}\n\n{_result(judged)}"
        metrics |= {
            "test_rows": judged.rows,
            "over": judged.over,
            "runs": judged.runs,
            "labelled": judged.labelled,
            "vus_pr": judged.vus,
            "detection": {name: found.plain() for name, found in judged.detections.items()},
        }
        plots["scores.png"] = score_plot("test rows", judged.ts - judged.ts[0], judged.scores, judged.label)
        sections["Result"] += "\n\n![scores](scores.png)"
    sections["Limits"] = LIMITS
    return document(f"Anomalies of {job.stream.name}", sections), plots, plain(metrics)


def _result(judged: Judgement) -> str:
    if not judged.detections:
        why = "The files have no labels" if judged.labelled is None else "No test row is labelled"
        rows: list[list[Number]] = [[n, f"{over:.3%}", judged.runs[n]] for n, over in judged.over.items()]
        return (
            f"{why}, so only alarms can be counted ({judged.rows} rows; runs less than {MERGE} rows apart are one).\n\n"
            + table(("detector", "rows over the threshold", "runs"), rows)
        )
    header = ("detector", "VUS-PR", "events found", "false alarms", "quiet rows over", "ROC AUC", "AP")
    lines: list[list[Number]] = [
        [n, judged.vus[n], f"{d.found} of {d.events}", d.false_alarms, d.quiet_in_alarm, d.roc_auc, d.average_precision]
        for n, d in judged.detections.items()
    ]
    return (
        f"{judged.rows} rows, {judged.labelled:.2%} labelled. VUS-PR with buffers of up to 20 rows, mean over "
        f"entities: that of random scores is near the labelled share.\n\n{table(header, lines)}"
    )
