"""Evaluate what training again is worth on links that nobody changed.

    python -m lab.evaluations.retraining --data FOLDER [--traces 3] [--json]

FOLDER holds `ripe_rtt/ripe_rtt.csv.gz` (RIPE Atlas traces, one round-trip time in four minutes). Each trace of at least
two weeks is a stream of its own. One version of the default forecaster is trained on its first five days, another on
the ten days (or fewer) before 60 % of it are over; the rest is judged. Errors are realised errors as the pipeline
publishes them, so a version that is worse than the last value gives the last value; as a share of repeating that value,
mean over 1, 6 and 12 steps ahead.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
import polars as pl

from dwcp_stream.backtest import backtest, read_records
from dwcp_stream.events import Accuracy
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.registry import ModelRepository
from dwcp_stream.streams import StreamDefinition, load_stream
from dwcp_stream.training.job import Job
from dwcp_stream.training.publish import publish
from dwcp_stream.training.trainers import find_trainer
from lab.evaluations.output import emit_table

DAY, STEP, HORIZONS = 86_400.0, 240.0, (1, 6, 12)
FIRST, AGAIN, SHARE, SHORTEST = 5, 10, 0.6, 14
QUANTILES = {"least": 0.0, "lower quartile": 0.25, "median": 0.5, "upper quartile": 0.75, "most": 1.0}

DEFINITION = f"""name = "path"
topic = "lab.path"
entity = ["entity"]
step = {STEP}
window = 30
min_periods = 24
expire_after = 1e8

[[fields]]
name = "rtt_ms"
min = 0

[[models]]
name = "path-forecast"
task = "forecast"
targets = ["rtt_ms"]
horizons = {list(HORIZONS)}
"""


@click.command()
@click.option("--data", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--traces", type=int, help="Only so many.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(folder: Path, traces: int | None, as_json: bool) -> None:
    """Judge both versions on every trace."""
    rows: list[dict[str, Any]] = []
    for name, trace in list(paths(folder))[:traces]:
        click.echo(f"trace {name} ({len(rows) + 1})", err=True)
        rows.append({"trace": name, **judged(trace)})
    ratios = np.array([row["again"] / row["first"] for row in rows])
    found = {
        "traces": len(rows),
        "smaller": int((ratios < 1).sum()),
        "again / first": {name: round(float(np.quantile(ratios, q)), 3) for name, q in QUANTILES.items()},
        "rows": rows,
    }
    emit_table(found, as_json)


def paths(folder: Path) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield the traces that are long enough, each with the columns ts, entity and rtt_ms."""
    table = pl.read_csv(folder / "ripe_rtt" / "ripe_rtt.csv.gz")
    for (probe,), part in table.group_by(["probe"], maintain_order=True):
        trace = part.select(
            ts=pl.col("timestamp").str.to_datetime().dt.epoch("s").cast(pl.Float64),
            entity=pl.col("probe").cast(pl.String),
            rtt_ms=pl.col("rtt_ms").cast(pl.Float64),
        ).drop_nulls()
        if trace["ts"][-1] - trace["ts"][0] >= SHORTEST * DAY:
            yield str(probe), trace


def judged(trace: pl.DataFrame) -> dict[str, Any]:
    """Return both versions' errors on the rest of a trace, and the days that it begins after."""
    begin, end = float(trace["ts"][0]), float(trace["ts"][-1])
    cut, ts = begin + SHARE * (end - begin), pl.col("ts")
    early = trace.filter(ts < begin + FIRST * DAY)
    late = trace.filter(ts.is_between(cut - AGAIN * DAY, cut, closed="left"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "path.toml").write_text(DEFINITION)
        stream = load_stream(folder / "path.toml")
        return {
            "from day": round((cut - begin) / DAY, 1),
            **{name: error(stream, part, trace, cut, folder) for name, part in (("first", early), ("again", late))},
        }


def error(stream: StreamDefinition, train: pl.DataFrame, trace: pl.DataFrame, cut: float, folder: Path) -> float:
    """Return the realised error after `cut` of a version trained on rows."""
    binding, repository = stream.models[0], ModelRepository(folder / "models")
    file, rest = folder / "train.parquet", folder / "rest.csv"
    train.write_parquet(file)
    job = Job(stream, binding, (file,), command="lab.evaluations.retraining")
    version = publish(find_trainer(binding, stream.name)(job), job, repository)
    trace.filter(pl.col("ts") >= cut - 2 * DAY).write_csv(rest)  # what it remembers of a link takes time to come
    pipeline = Pipeline(stream, [repository.load(binding.name, version).bind(stream)], check_ahead=False)
    results = backtest(pipeline, read_records([rest], stream, None))
    return share_of_naive([part for result in results for part in result.accuracies if after(part, cut)])


def after(part: Accuracy, cut: float) -> bool:
    """Whether a bucket ends after a time."""
    return datetime.fromisoformat(part.bucket_end).timestamp() > cut


def share_of_naive(parts: list[Accuracy]) -> float:
    """Return the errors as a share of those of repeating the last value, mean over horizons."""
    sums: defaultdict[int, np.ndarray[Any, Any]] = defaultdict(lambda: np.zeros(2))
    for part in parts:
        sums[part.horizon] += part.paired_abs_error, part.persistence_abs_error
    return round(float(np.mean([mine / naive for mine, naive in sums.values()])), 4)


if __name__ == "__main__":
    main()
