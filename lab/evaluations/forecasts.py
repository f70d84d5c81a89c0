"""Judge the default forecaster on public series it was not made from: `python -m lab.evaluations.forecasts --data DIR`.

Each task is what a user would do: write a stream definition, `dwcp-stream train` on one file, `dwcp-stream backtest
--scores` on another. The figures come from the file of scores and nothing else; the same defaults for all tasks.
"""

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import polars as pl

from dwcp_stream.cli.main import run
from lab.evaluations import forecast_peers as peers
from lab.evaluations.forecast_scores import Series, align, figures
from lab.evaluations.forecast_sets import Task, tasks


def evaluate(task: Task, folder: Path, seed: int, *, with_autoets: bool) -> dict[str, Any]:
    """Train and backtest one task through the commands, and return its figures."""
    scores, metrics = train_and_backtest(task, folder, seed)
    results = horizons_of(task, scores, with_autoets=with_autoets)
    return {"task": task.name, "target": task.target, "seasons": metrics["seasons"], "horizons": results}


def horizons_of(task: Task, scores: pl.DataFrame, *, with_autoets: bool) -> list[dict[str, Any]]:
    """Figures of the forecasts in a file of scores beside the peers', an entry per horizon of the task."""
    results = []
    for horizon in task.horizons:
        series = align(task, scores, horizon)
        results.append(figures(series, horizon, forecasts_of(task, series, horizon)))
        if with_autoets:
            results[-1]["autoets"] = _beside_autoets(task, series, horizon)
    return results


def train_and_backtest(task: Task, folder: Path, seed: int) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Run the two commands in a folder; the table of scores and the metrics that `train` printed.

    Raises
    ------
    click.ClickException
        If one of the commands fails, or the folder holds models of another run.
    """
    if (folder / "models").exists():
        # only a model's first version becomes champion by itself: the old one would be judged
        raise click.ClickException(f"{folder} holds models already: give another --work")
    folder.mkdir(parents=True, exist_ok=True)
    streams = folder / "streams"
    streams.mkdir(exist_ok=True)
    (streams / f"{task.stream}.toml").write_text(task.definition())
    files = {name: folder / f"{name}.csv" for name in ("train", "test", "scores")}
    task.train.write_csv(files["train"])
    task.test.write_csv(files["test"])
    entity = ["--entity", task.entity] if task.entity else []
    models = str(folder / "models")
    os.environ["DWCP_STREAMS_DIR"] = str(streams)
    printed = command(
        ["train", task.stream, "--data", str(files["train"]), "--out", models, "--seed", str(seed), *entity]
    )
    command(["backtest", str(files["test"]), "--stream", task.stream, "--models", models,
              "--scores", str(files["scores"]), *entity])  # fmt: skip
    return pl.read_csv(files["scores"]), json.loads(printed)["trained"][0]["metrics"]


def forecasts_of(task: Task, series: list[Series], horizon: int) -> dict[str, list[Any]]:
    """Medians of the model and of the simple peers, an array per series."""
    ways: dict[str, Callable[[Series], Any]] = {
        "model": lambda s: s.quantiles[:, 1],
        "persistence": peers.persistence,
        "seasonal naive": lambda s: peers.seasonal_naive(s, horizon, task.season),
        "AR(12)": lambda s: peers.autoregression(s, horizon, first_row(task, s)),
        "AR(12), day before": lambda s: peers.autoregression(s, horizon, first_row(task, s), task.season),
    }
    return {name: [way(s) for s in series] for name, way in ways.items()}


def first_row(task: Task, series: Series) -> int:
    """Position in the history of the first row of the test; peers of unseen entities may fit on a third of it."""
    return int(series.origin[0]) if task.seen else len(series.history) // 3


def _beside_autoets(task: Task, series: list[Series], horizon: int) -> dict[str, Any]:
    """Errors of the model and of AutoETS at the rows that AutoETS was asked at, as shares of the last value's."""
    own, its = [], []
    for s in series:
        made, chosen = peers.autoets(s, task, horizon, first_row(task, s))
        actual = s.actual[chosen]
        cost = max(float(np.abs(actual - s.last[chosen]).mean()), 1e-12)
        own.append(float(np.abs(actual - s.quantiles[chosen, 1]).mean()) / cost)
        its.append(float(np.abs(actual - made).mean()) / cost)
    return {
        "rows_per_series": peers.ORIGINS,
        "model_skill": 1.0 - float(np.exp(np.mean(np.log(np.maximum(own, 1e-12))))),
        "autoets_skill": 1.0 - float(np.exp(np.mean(np.log(np.maximum(its, 1e-12))))),
        "model_better_on": int((np.array(own) < np.array(its)).sum()),
    }


def command(words: list[str]) -> str:
    """Run a command of dwcp-stream with --json and return what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = run([*words, "--json"])
    if code:
        raise click.ClickException(f"dwcp-stream {' '.join(words)} ended with {code}")
    return printed.getvalue()


def render(results: list[dict[str, Any]]) -> str:
    """Tables for a terminal: a row per task, horizon and forecast."""
    lines = []
    for result in results:
        for h in result["horizons"]:
            lines.append(
                f"{result['task']} +{h['horizon']}: {h['rows']} rows, {h['better']} of {h['entities']} entities better "
                f"than persistence, {h['worse_significantly']} significantly worse, coverage {h['coverage']:.3f}"
            )
            lines += [
                f"  {name:<19} MAPE {f['mape']:6.2f} %  correlation {f['correlation']:.4f} "
                f"(within {f['correlation_within']:.4f})  skill {f['skill']:+.3f} "
                f"({f['skill_95'][0]:+.3f} to {f['skill_95'][1]:+.3f})"
                for name, f in h["forecasts"].items()
            ]
            if "autoets" in h:
                a = h["autoets"]
                lines.append(f"  beside AutoETS: skill {a['model_skill']:+.3f} against {a['autoets_skill']:+.3f}")
    return "\n".join(lines)


@click.command(help=__doc__)
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True,
              help="Folder that holds isp_traffic/ and ripe_rtt/.")  # fmt: skip
@click.option("--only", multiple=True, help="Tasks whose name begins with this; may be repeated.")
@click.option("--seed", default=0, show_default=True, help="Of the training.")
@click.option(
    "--work", type=click.Path(path_type=Path), help="Keep files and models here; default: a temporary folder."
)
@click.option("--autoets", is_flag=True, help="Also ask AutoETS; needs statsforecast.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(*, data: Path, only: tuple[str, ...], seed: int, work: Path | None, autoets: bool, as_json: bool) -> None:
    """Judge all tasks."""
    if autoets and not peers.has_autoets():
        raise click.ClickException("--autoets needs statsforecast: install it into a folder on PYTHONPATH")
    with tempfile.TemporaryDirectory() as made:
        folder = work or Path(made)
        results = []
        for task in tasks(data):
            if not only or any(task.name.startswith(name) for name in only):
                results.append(evaluate(task, folder / task.stream, seed, with_autoets=autoets))
                if not as_json:
                    click.echo(render(results[-1:]))
    if as_json:
        click.echo(json.dumps({"results": results}, indent=1))


if __name__ == "__main__":
    main()
