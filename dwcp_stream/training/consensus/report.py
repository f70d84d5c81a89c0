"""Report of the consensus model: the model beside the trivial rules, and where it loses."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dwcp_stream.training.consensus import autoencoder as ae
from dwcp_stream.training.dataset import Grid
from dwcp_stream.training.job import Job
from dwcp_stream.training.labels import Labelled
from dwcp_stream.training.metrics import Detection, plain
from dwcp_stream.training.report import Number, document, line_plot, score_plot, table

if TYPE_CHECKING:
    from dwcp_stream.training.consensus.trainer import Trained

HEADER = (
    *("detector", "events found", "false alarms", "per hour", "quiet time in alarm", "ROC AUC", "AP"),
    *("delay median s", "delay max s"),
)

DATA = """

Training sees only quiet windows (no labelled and no recovery row in them). Residual sizes come from
validation quiet time; the threshold is the one with the most validation events found less false alarms (in
validation and training quiet time). Recovery rows count neither way. Test rows choose no weight and no
threshold; but the recipe (channels, floors of the residual sizes, rows that are averaged) was chosen by
people who had seen all these files, so read the figures as those of a development set."""
RESULT = """

An event is found if a scored row inside it is over 1. Alarm rows less than 10 rows apart are one false alarm.
Delay is from the beginning of the event's first row to the row in alarm, before the alert policy acts. ROC AUC
and AP (average precision) are per row."""
ROTATION = """The same recipe trained once per rotation of the labelled files, each file tested by a model that
never saw it: more events than the test files alone. Only the first rotation's weights are published.

"""
LIMITS = f"""- Levels are absolute: a cluster that is by nature slower or busier than those of training looks
  abnormal until the model is trained on it.
- Residuals are averaged over {ae.TAIL} rows: an event shorter than that is diluted by the rows before it.
- Test time is minutes, not days: one false alarm more or less moves the hourly rate by several."""


def write_report(
    job: Job,
    grid: Grid,
    data: Labelled,
    roles: np.ndarray,
    model: "Trained",
    *,
    found: Mapping[str, Detection],
    rotated: Mapping[str, Sequence[Detection]],
    normal: Mapping[str, Detection],
    parameters: int,
) -> tuple[str, dict[str, bytes], dict[str, Any]]:
    """Write the report.

    Parameters
    ----------
    job, grid, data, roles, model
        What was trained on what.
    found, normal
        Detector -> result on the test files, and on quiet training time (false alarms only).
    rotated
        Detector -> results on each rotation's test files.
    parameters
        Numbers in the network.

    Returns
    -------
    tuple
        Markdown, plots by file name, metrics for the manifest.
    """
    names = [path.name for path in job.files]
    parts = {
        word: ", ".join(names[s] for s in np.unique(grid.source[roles == role]))
        for role, word in enumerate(("training", "validation", "test"))
    }
    plots = {"training.png": _loss_plot(model)}
    lost = []
    for source in np.unique(grid.source[roles == 2]):
        rows = (grid.source == source) & (roles == 2) & data.scored
        name = f"scores_{names[source].split('.')[0]}.png"
        aside = grid.filled[rows] & ~data.quiet[rows] & (data.event[rows] < 0)
        plots[name] = score_plot(
            f"{names[source]} (test)",
            grid.ts[rows] - grid.ts[rows][0],
            model.scores[rows],
            data.event[rows] >= 0,
            aside=aside,
        )
        lost += _losses(grid, data, model, rows, names[source])
    sums = {name: _sum(results) for name, results in rotated.items()}
    made = (
        f"LSTM autoencoder, {parameters} parameters, window {job.stream.window} rows, seed {job.seed}, "
        f"best epoch {model.fit.best_epoch + 1} of {len(model.fit.train_loss)}. Made by\n\n    {job.command}"
    )
    quiet: list[list[Number]] = [
        [n, d.false_alarms, d.quiet_hours, f"{d.quiet_in_alarm:.2%}"] for n, d in normal.items()
    ]
    sections = {
        "": made,
        "Data": "\n".join(f"- {word}: {files}" for word, files in parts.items()) + DATA,
        "Result on the test files": table(HEADER, [_row(n, d) for n, d in found.items()]) + RESULT,
        "All labelled files in turn": ROTATION + table(HEADER[:4] + HEADER[5:7], _turns(sums)),
        "Quiet training time": table(("detector", "false alarms", "hours", "time in alarm"), quiet),
        "Where it loses": _words(lost, found),
        "Plots": "\n".join(f"![{name}]({name})" for name in plots),
    }
    metrics = plain({"test": {n: d.plain() for n, d in found.items()}, "rotation": sums, "threshold": model.threshold})
    return document(f"{job.binding.name}: report", sections), plots, metrics


def _row(name: str, d: Detection) -> list[Number]:
    counts: list[Number] = [
        f"{d.found} of {d.events}",
        d.false_alarms,
        d.false_alarms_per_hour,
        f"{d.quiet_in_alarm:.2%}",
    ]
    return [name, *counts, d.roc_auc, d.average_precision, d.delay_median, d.delay_max]


def _turns(sums: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    keys = ("false_alarms", "false_alarms_per_hour", "roc_auc", "average_precision")
    return [[n, f"{s['found']} of {s['events']}", *(s[k] for k in keys)] for n, s in sums.items()]


def _sum(results: Sequence[Detection]) -> dict[str, Any]:
    hours, false = sum(d.quiet_hours for d in results), sum(d.false_alarms for d in results)
    return {
        "events": sum(d.events for d in results),
        "found": sum(d.found for d in results),
        "false_alarms": false,
        "quiet_hours": hours,
        "false_alarms_per_hour": false / hours if hours else float("nan"),
        "roc_auc": float(np.mean([d.roc_auc for d in results])),
        "average_precision": float(np.mean([d.average_precision for d in results])),
    }


def _losses(grid: Grid, data: Labelled, model: "Trained", rows: np.ndarray, file: str) -> list[str]:
    """Say in words which events were missed, and what was going on at each false alarm."""
    lost = []
    alarm = np.nan_to_num(model.scores) > 1.0
    begin = grid.ts[rows][0]
    for number in np.unique(data.event[rows & (data.event >= 0)]):
        inside = rows & (data.event == number)
        if not (alarm & inside).any():
            first = grid.ts[inside][0] - begin
            best = float(np.nanmax(model.scores[inside]))
            lost.append(f"- {file}: missed the event at {first:.0f} s (largest score {best:.2f}).")
    false = np.flatnonzero(alarm & rows & data.quiet)
    notes = grid.columns.get("note", np.full(len(grid.ts), "", dtype=object))
    for i, row in enumerate(false):
        if i and row - false[i - 1] < 10:
            continue
        note = str(notes[row]) or "nothing in particular"
        lost.append(f"- {file}: false alarm at {grid.ts[row] - begin:.0f} s during {note}.")
    return lost


def _words(lost: Sequence[str], found: Mapping[str, Detection]) -> str:
    model = found["model"]
    better = [
        f"- The rule `{name}` finds {d.found} events at {d.false_alarms_per_hour:.1f} false alarms an hour: no worse."
        for name, d in found.items()
        if name != "model" and d.found >= model.found and d.false_alarms <= model.false_alarms
    ]
    return "\n".join([*lost, *better, LIMITS])


def _loss_plot(model: "Trained") -> bytes:
    epochs = np.arange(1, len(model.fit.train_loss) + 1)
    lines = {"training": np.asarray(model.fit.train_loss), "validation": np.asarray(model.fit.valid_loss)}
    return line_plot("Loss", epochs, lines, xlabel="epoch", ylabel="Huber loss", log=True)
