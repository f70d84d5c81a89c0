"""What the demo plays: a recorded etcd run, and the liveliest hours of simulated nodes and links."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from dwcp_stream.backtest import read_records
from dwcp_stream.errors import ConfigError
from dwcp_stream.streams import StreamDefinition

ETCD_RUN = Path(__file__).resolve().parents[2] / "tests" / "data" / "etcd" / "dev_r1.csv.gz"
ENTITIES, HOURS, DAYS, SEED = 10, 12, 8, 5


@dataclass(frozen=True, slots=True)
class TimedRecord:
    """A record and when to send it, seconds after the start."""

    due: float
    stream: str
    topic: str
    key: bytes
    value: bytes


def tables(run: Path = ETCD_RUN) -> dict[str, pl.DataFrame]:
    """Return a table of telemetry by stream.

    Raises
    ------
    ConfigError
        The recorded run or the simulators are not there (they come with the repository, not with the package).
    """
    try:
        from lab.links import simulate_links  # noqa: PLC0415  only the demo needs the simulators
        from lab.nodes import simulate_nodes  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError("the simulators are missing", where="lab/", remedy="Run the demo in a clone") from error
    if not run.exists():
        raise ConfigError("the recorded run is missing", where=str(run), remedy="Run the demo in a clone")
    consensus = pl.read_csv(run, infer_schema_length=None).with_columns(pl.lit("etcd-lab").alias("cluster_id"))
    return {
        "consensus": consensus,
        "node": liveliest(simulate_nodes(ENTITIES, DAYS, SEED)),
        "link": liveliest(simulate_links(ENTITIES, DAYS, SEED)),
    }


def liveliest(table: pl.DataFrame, hours: float = HOURS) -> pl.DataFrame:
    """Return the hours of a labelled table in which most goes on."""
    begin, end, span = float(table["ts"].min() or 0), float(table["ts"].max() or 0), hours * 3600  # type: ignore[arg-type]
    starts = [begin + i * span / 2 for i in range(max(1, int((end - begin) / (span / 2)) - 1))]
    busy = [float(table.filter(pl.col("ts").is_between(s, s + span))["label"].sum()) for s in starts]
    start = starts[busy.index(max(busy))]
    return table.filter(pl.col("ts").is_between(start, start + span))


def schedule(
    table: pl.DataFrame, stream: StreamDefinition, topic: str, seconds: float, now: float, folder: Path
) -> Iterator[TimedRecord]:
    """Squeeze a table into the next seconds; its last sample is as new as the moment it is sent.

    Parameters
    ----------
    seconds
        How long sending takes.
    now
        Epoch seconds at the start.
    folder
        For a file in between: the records are made as `replay` makes them.
    """
    last, first = float(table["ts"].max()), float(table["ts"].min())  # type: ignore[arg-type]
    shift = now + seconds - last
    path = folder / f"{stream.name}.parquet"
    table.with_columns(pl.col("ts") + shift).sort("ts").write_parquet(path)
    pace = seconds / max(last - first, 1e-9)
    for key, value, ts_ms in read_records([path], stream, None):
        due = (ts_ms / 1000 - shift - first) * pace
        yield TimedRecord(due, stream.name, topic, key, value)
