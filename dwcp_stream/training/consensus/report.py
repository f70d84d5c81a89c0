"""Report of the consensus model: held-out runs in turn beside the trivial rules, kinds, and where it loses."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dwcp_stream.training.consensus.data import KINDS, Mask
from dwcp_stream.training.consensus.features import SPANS
from dwcp_stream.training.consensus.recipe import Fitted
from dwcp_stream.training.consensus.sequence import Windows
from dwcp_stream.training.job import Job
from dwcp_stream.training.metrics import Detection, plain
from dwcp_stream.training.report import Number, document, score_plot, table

if TYPE_CHECKING:
    from dwcp_stream.training.consensus.trainer import HeldOut

HEADER = (
    *("detector", "events found", "false alarms", "per hour", "quiet time in alarm", "ROC AUC", "AP"),
    *("delay median s", "delay max s"),
)
DATA = """

Every file with faults was held out once, those without faults along with them (`Held-out runs in turn`): weights and
thresholds came from the other files alone. The published weights are fitted to all files, their thresholds to scores
of files that each fit did not see. Recovery rows and disturbed rows count neither way; hard negatives are quiet time.
The recipe (features, spans, floors) was chosen by people who had seen all these files: read the figures as those of a
development set."""
RESULT = """

An event is found if a scored row inside it is over 1. Alarm rows less than 10 rows apart are one false alarm.
Delay is from the beginning of the event's first row to the row in alarm, before the alert policy acts. ROC AUC
and AP (average precision) are per row, the mean over runs."""
CONFUSION = """

Rows are what was done, columns what was said of the events found, by the sum of `kind` over the rows in alarm; by
models that did not see the run. A kind that is in one file only was never shown to the model that judged it."""
LIMITS = f"""- A cluster's normal is what it did before: one that is in trouble from its first row on looks normal.
- A fault that no client sees (a short delay to one of many followers) leaves no trace in the twelve fields.
- The network looks at {SPANS[-1]} rows: what creeps in over many minutes becomes normal before it is seen.
- Test time is minutes, not days: one false alarm more or less moves the hourly rate by several."""


def write_report(
    job: Job, seen: Windows, fitted: Fitted, held_out: "HeldOut", rules: Mapping[str, np.ndarray]
) -> tuple[str, dict[str, bytes], dict[str, Any]]:
    """Write the report.

    Parameters
    ----------
    job, seen, fitted
        What was trained on what.
    held_out
        What recipes said of runs that they did not see.
    rules
        Scores [N] of the rules.

    Returns
    -------
    tuple
        Markdown, plots by file name, metrics for the manifest.
    """
    parts = [part for part in held_out.parts if np.isfinite(held_out.scores[part]).any()]
    found = {"model": [_judge(seen, held_out.scores, part) for part in parts]}
    found |= {name: [_judge(seen, scores, part) for part in parts] for name, scores in rules.items()}
    sums = {name: total(results) for name, results in found.items()}
    matrix, kinds_right = confusion(seen, held_out, parts)
    plots, lost = {}, []
    for part in parts:
        for source in np.unique(seen.source[part]):
            rows, name = part & (seen.source == source), seen.runs.names[source]
            lost += _losses(seen, held_out.scores, rows, name)
            if (seen.event[rows] >= 0).any():
                plots[f"scores_{name}.png"] = _plot(seen, held_out.scores, rows, name)
    parameters = sum(int(np.size(leaf)) for layer in fitted.recipe.params.values() for leaf in layer.values())
    made = (
        f"Kinds network of {parameters} parameters over deviations from the cluster's own normal, and the size of "
        f"harmful deviations beside it; window {job.stream.window} rows, seed {job.seed}. Made by\n\n    {job.command}"
    )
    files = [f"- {path.name}: {_contents(seen, number)}" for number, path in enumerate(job.files)]
    sections = {
        "": made,
        "Data": "\n".join(files) + DATA,
        "Held-out runs in turn": table(HEADER, [_row(n, s) for n, s in sums.items()]) + RESULT,
        "Kinds": _confusion_table(matrix) + CONFUSION + f"\n\nRight: {kinds_right}.",
        "Where it loses": "\n".join([*lost, LIMITS]),
        "Plots": "\n".join(f"![{name}]({name})" for name in plots),
    }
    thresholds = {"suspicion": fitted.recipe.suspicion, "surprise": fitted.recipe.surprise}
    metrics = plain({"held_out": sums, "kinds_right": kinds_right, "threshold": thresholds})
    return document(f"{job.binding.name}: report", sections), plots, metrics


def total(results: Sequence[Detection]) -> dict[str, Any]:
    """Add up test parts; ranks and the median delay are means over parts."""
    hours, false = sum(d.quiet_hours for d in results), sum(d.false_alarms for d in results)
    delays = [d.delay_median for d in results if np.isfinite(d.delay_median)]
    return {
        "events": sum(d.events for d in results),
        "found": sum(d.found for d in results),
        "false_alarms": false,
        "quiet_hours": hours,
        "false_alarms_per_hour": false / hours if hours else float("nan"),
        "quiet_in_alarm": sum(d.quiet_in_alarm * d.quiet_hours for d in results) / hours if hours else float("nan"),
        "roc_auc": float(np.mean([d.roc_auc for d in results])) if results else float("nan"),
        "average_precision": float(np.mean([d.average_precision for d in results])) if results else float("nan"),
        "delay_median": float(np.median(delays)) if delays else float("nan"),
        "delay_max": max((d.delay_max for d in results if d.found), default=float("nan")),
    }


def confusion(seen: Windows, held_out: "HeldOut", parts: Sequence[Mask]) -> tuple[np.ndarray, str]:
    """Count events by kind [K, K + 1], the last column those that were missed; and say how many are right."""
    matrix = np.zeros((len(KINDS), len(KINDS) + 1), np.int64)
    for part in parts:
        for event in np.unique(seen.event[part & (seen.event >= 0)]):
            rows = part & (seen.event == event)
            on = rows & (np.nan_to_num(held_out.scores) > 1.0)
            said = int(held_out.kinds[on].sum(axis=0).argmax()) if on.any() else len(KINDS)
            matrix[seen.kind[rows][0], said] += 1
    caught = int(matrix[:-1, :-1].sum())
    return matrix, f"{int(np.trace(matrix[:-1, :-2]))} of {caught} events found"


def _judge(seen: Windows, scores: np.ndarray, part: Mask) -> Detection:
    data = seen.runs.data
    full, rows = np.full(len(data.scored), np.nan), np.zeros(len(data.scored), bool)
    full[seen.ends], rows[seen.ends] = scores, part
    return data.judge(full, rows)


def _row(name: str, s: Mapping[str, Any]) -> list[Number]:
    counts: list[Number] = [f"{s['found']} of {s['events']}", s["false_alarms"], s["false_alarms_per_hour"]]
    quiet = f"{s['quiet_in_alarm']:.2%}"
    return [name, *counts, quiet, s["roc_auc"], s["average_precision"], s["delay_median"], s["delay_max"]]


def _confusion_table(matrix: np.ndarray) -> str:
    here = np.flatnonzero(matrix.sum(axis=1))
    header = ("kind", *KINDS, "missed")
    return table(header, [[KINDS[i], *(int(n) if n else "" for n in matrix[i])] for i in here])


def _contents(seen: Windows, source: int) -> str:
    rows = seen.source == source
    events = len(np.unique(seen.event[rows & (seen.event >= 0)]))
    return f"{events} faults, {(rows & seen.quiet).sum() / 60:.0f} quiet minutes"


def _plot(seen: Windows, scores: np.ndarray, rows: Mask, name: str) -> bytes:
    ts = seen.runs.grid.ts[seen.ends[rows]]
    kept = np.nan_to_num(scores[rows])
    return score_plot(f"{name} (held out)", ts - ts[0], kept, seen.event[rows] >= 0)


def _losses(seen: Windows, scores: np.ndarray, rows: Mask, name: str) -> list[str]:
    """Say in words which events were missed, and what was going on at each false alarm."""
    lost, ts = [], seen.runs.grid.ts[seen.ends]
    alarm, begin = np.nan_to_num(scores) > 1.0, seen.runs.grid.ts[seen.ends[rows]][0]
    for event in np.unique(seen.event[rows & (seen.event >= 0)]):
        inside = rows & (seen.event == event)
        if not (alarm & inside).any():
            best, kind = float(np.nanmax(scores[inside])), KINDS[seen.kind[inside][0]]
            lost.append(f"- {name}: missed {kind} at {ts[inside][0] - begin:.0f} s (largest score {best:.2f}).")
    false = np.flatnonzero(alarm & rows & seen.quiet)
    for i, row in enumerate(false):
        if i and row - false[i - 1] < 10:
            continue
        note = str(seen.runs.negative[seen.ends[row]]) or "nothing in particular"
        lost.append(f"- {name}: false alarm at {ts[row] - begin:.0f} s during {note}.")
    return lost
