"""Evaluate what the conformal correction makes of the intervals: the share of actuals inside them, before and after it.

    python -m lab.evaluations.calibration --data DIR [--only A5M] [--json]

The tasks are those of `forecasts`, whose entities training has seen. Each is trained once and run through the daemon's
pipeline, in which forecasts meet their actuals; the shares are added up from what it publishes on `dwcp.accuracy`, as
`dwcp-stream accuracy` does. The promise is 80 %. Then the same once more with a change that training knows nothing of:
in the second half of the test every movement away from the series' mean level of then is three times as large; the
shares are those of the last quarter, when the correction has had a quarter to see it.
"""

import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import click
import polars as pl

from dwcp_stream.backtest import backtest, read_records
from dwcp_stream.events import Accuracy
from dwcp_stream.forecasts import statistics
from dwcp_stream.loading import bound_models
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.settings import Settings
from dwcp_stream.streams import load_streams
from lab.evaluations.forecast_sets import Task, tasks
from lab.evaluations.forecasts import train_and_backtest
from lab.evaluations.output import emit_table

LARGER = 3.0
PROMISED = 0.8


@click.command(help=__doc__)
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--only", multiple=True, help="Tasks whose name begins with this; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(data: Path, only: tuple[str, ...], as_json: bool) -> None:
    """Run the tasks that are wanted."""
    rows = []
    for task in tasks(data):
        if task.seen and (not only or task.name.startswith(only)):
            rows += evaluate(task)
    emit_table({"promised": PROMISED, "rows": rows}, as_json)


def evaluate(task: Task) -> list[dict[str, Any]]:
    """Return a row for each horizon: shares on the test as it is, and at the end of the changed one."""
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        train_and_backtest(task, folder, 0)
        changed = folder / "changed.csv"
        wilder(task.test, task.target).write_csv(changed)
        whole = by_horizon(realised(task, folder, folder / "test.csv"))
        parts = realised(task, folder, changed)
        ends = sorted({part.bucket_end for part in parts})
        late = by_horizon([part for part in parts if part.bucket_end > ends[3 * len(ends) // 4]])
    return [
        {
            "task": task.name,
            "horizon": horizon,
            "n": int(found["n"]),
            "model": round(found["coverage_raw"], 3),
            "corrected": round(found["coverage"], 3),
            "changed: model": round(late[horizon]["coverage_raw"], 3),
            "changed: corrected": round(late[horizon]["coverage"], 3),
        }
        for horizon, found in whole.items()
    ]


def realised(task: Task, folder: Path, file: Path) -> list[Accuracy]:
    """Run a file through the pipeline and return the realised errors that it publishes."""
    stream = load_streams(folder / "streams")[task.stream]
    pipeline = Pipeline(stream, bound_models(Settings(models_dir=folder / "models"), stream), check_ahead=False)
    records = read_records([file], stream, task.entity)
    return [part for result in backtest(pipeline, records) for part in result.accuracies]


def by_horizon(parts: list[Accuracy]) -> dict[int, dict[str, float]]:
    """Add parts up by horizon."""
    lines: dict[int, list[Accuracy]] = defaultdict(list)
    for part in parts:
        lines[part.horizon].append(part)
    return {horizon: statistics(lines[horizon]) for horizon in sorted(lines)}


def wilder(test: pl.DataFrame, target: str) -> pl.DataFrame:
    """Make the movements of each series' second half larger, around the mean of that half; nothing falls below 0."""
    by = ["entity"] if "entity" in test.columns else []
    number = pl.int_range(pl.len())
    late = number >= pl.len() // 2
    level = pl.when(late).then(pl.col(target)).mean()
    value = (
        pl.when(late).then((level + LARGER * (pl.col(target) - level)).clip(lower_bound=0.0)).otherwise(pl.col(target))
    )
    return test.with_columns((value.over(by) if by else value).alias(target))


if __name__ == "__main__":
    main()
