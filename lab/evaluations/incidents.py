"""Judge the default incident model on labelled public data, through the commands that a user runs.

For every trial of a set: `dwcp-stream train` on the training rows, `dwcp-stream backtest --scores` on the test
rows, and the scores joined with the labels. Beside them stand a rule, the best single field and logistic
regression, fitted on the same rows. Run `python -m lab.evaluations.incidents --help`.
"""

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import polars as pl
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from dwcp_stream.cli.main import run
from dwcp_stream.streams import StreamDefinition, load_stream
from dwcp_stream.training.dataset import Grid, load_grid
from dwcp_stream.training.incident.baselines import FIELD, contenders, field_name
from dwcp_stream.training.incident.data import IncidentData
from dwcp_stream.training.incident.design import fit_design
from dwcp_stream.training.incident.judging import judge
from dwcp_stream.training.metrics import plain
from lab.evaluations.incident_sets import LABEL, SETS, IncidentSet, Trial

COLUMNS = ("roc_auc", "average_precision", "recall_at_5", "recall", "false_rate")


def evaluate(found: IncidentSet, folder: Path, seed: int, only: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the figures of each trial whose name contains `only`."""
    streams = folder / "streams"
    streams.mkdir()
    path = streams / "stream.toml"
    path.write_text(found.definition)
    stream = load_stream(path)
    os.environ["DWCP_STREAMS_DIR"] = str(streams)
    for number, trial in enumerate(found.trials()):
        if only is None or only in trial.name:
            place = folder / str(number)
            place.mkdir()
            yield {"trial": trial.name, **judge_trial(stream, found, trial, place, seed)}


def judge_trial(stream: StreamDefinition, found: IncidentSet, trial: Trial, place: Path, seed: int) -> dict[str, Any]:
    """Train and test once, in an empty folder."""
    train, test, models, scores = (place / name for name in ("train.csv", "test.csv", "models", "scores.csv"))
    columns = [stream.time, *stream.entity, *stream.field_names, LABEL]
    trial.train.select(columns).write_csv(train)
    trial.test.select([*columns, *([trial.slices] if trial.slices else [])]).write_csv(test)
    _command("train", stream.name, "--data", str(train), "--out", str(models), "--seed", str(seed))
    _command("backtest", str(test), "--stream", stream.name, "--models", str(models), "--scores", str(scores))
    before = load_grid(stream, [train], extra=[LABEL])
    after = load_grid(stream, [test], extra=[LABEL, *([trial.slices] if trial.slices else [])])
    data = IncidentData(after, after.ends(), after.columns[LABEL][after.ends()])
    known = np.flatnonzero(data.known)
    verdicts = joined(after, data.ends[known], pl.read_csv(scores))
    seen = np.isfinite(verdicts)
    rows, verdicts = known[seen], verdicts[seen]
    detectors = {"model": (verdicts, verdicts > 1.0), **baselines(stream, before, after, data.ends[rows], found.rule)}
    slices = after.columns[trial.slices][data.ends[rows]] if trial.slices else np.full(len(rows), "")
    return {
        "rows": len(rows),
        "incident_rows": int(data.incident[rows].sum()),
        "unscored": int((~seen).sum()),
        "detectors": {
            name: figures(data.incident[rows], score, alarm, slices)
            | {"recall_at_5_95": interval(data.incident[rows], score, data.event[rows])}
            | in_time(data, rows, score, alarm)
            for name, (score, alarm) in detectors.items()
        },
    }


def in_time(data: IncidentData, rows: np.ndarray, score: np.ndarray, alarm: np.ndarray) -> dict[str, Any]:
    """Return how many incidents alarms found, and how long after their first row."""
    numbers = judge(data, rows, score, alarm).numbers
    return {name: numbers[name] for name in ("incidents", "incidents_found", "delay_median_seconds")}


def joined(grid: Grid, ends: np.ndarray, scores: pl.DataFrame) -> np.ndarray:
    """Find the score of each row; NaN where there is no verdict.

    A verdict has its sample's time, which may be up to half a step away from the row's time on the grid.
    """
    rows = pl.DataFrame({"entity": [grid.entities[i] for i in grid.entity[ends]], "ts": grid.ts[ends]})
    reach = 1e-3 if grid.stream.irregular else float(grid.stream.step) / 2.0
    verdicts = scores.select(pl.col("entity").cast(pl.String), pl.col("ts").cast(pl.Float64), "score").sort("ts")
    together = (
        rows.with_row_index()
        .sort("ts")
        .join_asof(verdicts, on="ts", by="entity", strategy="nearest", tolerance=reach, check_sortedness=False)
        .sort("index")
    )
    return together["score"].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def figures(label: np.ndarray, score: np.ndarray, alarm: np.ndarray, slices: np.ndarray) -> dict[str, Any]:
    """Return ranking figures, and those of the alarms; recall by slice at 5 % false positives of all normal rows."""
    false_rate, recall, levels = roc_curve(label, score)
    level = float(levels[np.searchsorted(false_rate, 0.05, side="right") - 1])
    words = sorted({str(word) for word in slices[label]} - {""})
    return {
        "roc_auc": float(roc_auc_score(label, score)),
        "average_precision": float(average_precision_score(label, score)),
        "recall_at_5": float(np.interp(0.05, false_rate, recall)),
        "recall": float(alarm[label].mean()),
        "false_rate": float(alarm[~label].mean()),
        "by": {
            word: {
                "rows": int((inside := label & (slices == word)).sum()),
                "recall_at_5": float((score[inside] >= level).mean()),
                "recall": float(alarm[inside].mean()),
            }
            for word in words
        },
    }


def interval(
    label: np.ndarray, score: np.ndarray, event: np.ndarray, *, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of the recall at 5 % false positives, from drawing incidents again.

    Rows of one incident are much alike, so incidents are drawn, each with all its rows; the normal rows stay.
    """
    level = np.quantile(score[~label], 0.95)
    numbers, of = np.unique(event[label], return_inverse=True)
    rows, hits = np.bincount(of), np.bincount(of, weights=score[label] > level)
    rng = np.random.default_rng(seed)
    found = [
        hits[drawn].sum() / rows[drawn].sum()
        for drawn in (rng.integers(0, len(numbers), len(numbers)) for _ in range(draws))
    ]
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def baselines(
    stream: StreamDefinition, before: Grid, after: Grid, ends: np.ndarray, rule: str | None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Fit the simple detectors on training rows: scores and alarms, these at 5 % false positives of those rows."""
    rows = before.ends()
    rows = rows[np.isfinite(before.columns[LABEL][rows])]
    old, new = before.values[rows], after.values[ends]
    label = before.columns[LABEL][rows] > 0
    design = fit_design(stream, old, before.entity[rows], ~label)
    columns = design.columns(stream)
    detectors = {}
    for name, scorer in contenders(design, old[:, columns], label).items():
        limit = np.quantile(scorer(old[:, columns])[~label], 0.95)
        score = scorer(new[:, columns])
        full = f"{name}: {field_name(design, old[:, columns], label)}" if name == FIELD else name
        detectors[full] = (score, score > limit)
    if rule is not None:
        at = stream.field_index(rule)
        limit = np.nanquantile(old[~label, at], 0.95)
        detectors[f"rule: {rule} alone"] = (np.nan_to_num(new[:, at]), new[:, at] > limit)
    return detectors


def table(results: Sequence[dict[str, Any]]) -> str:
    """Write the results as Markdown."""
    lines = ["| trial | detector | " + " | ".join([*COLUMNS, "recall_at_5 95 %", "found", "delay_s", "by"]) + " |"]
    lines.append("|" + "---|" * (len(COLUMNS) + 6))
    for result in results:
        for name, numbers in result["detectors"].items():
            cells = [f"{numbers[column]:.3f}" for column in COLUMNS]
            cells.append("{:.3f} to {:.3f}".format(*numbers["recall_at_5_95"]))
            cells += [f"{numbers['incidents_found']} of {numbers['incidents']}", f"{numbers['delay_median_seconds']:g}"]
            by = ", ".join(f"{word} {part['recall_at_5']:.2f}" for word, part in numbers["by"].items())
            lines.append("| " + " | ".join([result["trial"], name, *cells, by]) + " |")
    return "\n".join(lines)


def plain_json(found: dict[str, Any]) -> str:
    """Write JSON with null where a number is not known."""
    return json.dumps(plain({**found, "trials": [plain(trial) for trial in found["trials"]]}))


def _command(*words: str) -> dict[str, Any]:
    """Run a `dwcp-stream` command in this process and return what it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = run([*words, "--json"])
    if code:
        raise click.ClickException(f"dwcp-stream {' '.join(words)} ended with {code}")
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


@click.command(help=__doc__)
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--set", "name", type=click.Choice(sorted(SETS)), required=True, help="Which data set.")
@click.option("--only", help="Only the trials whose names contain this.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(*, data: Path, name: str, only: str | None, seed: int, as_json: bool) -> None:
    """Print the figures of a set."""
    with tempfile.TemporaryDirectory() as folder:
        results = list(evaluate(SETS[name](data), Path(folder), seed, only))
    unseen = [r["detectors"]["model"]["recall_at_5"] for r in results if r["trial"].startswith("unseen")]
    mean = float(np.mean(unseen)) if unseen else None
    if as_json:
        click.echo(plain_json({"set": name, "seed": seed, "mean_recall_at_5_unseen": mean, "trials": results}))
    else:
        click.echo(table(results))
        if mean is not None:
            click.echo(f"\nmean recall at 5 % false positives over the trials on unseen rows: {mean:.3f}")


if __name__ == "__main__":
    main()
