"""Labelled public data sets as files and definitions of a stream: what a user of `train` would write.

Each set becomes tables with the columns of the stream, and pairs of training and test rows (`Trial`). Columns
that only the evaluation reads (cause, lead time) begin with `x_` and are no fields.
"""

import gzip
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

START: Final = 1_700_000_000
LABEL: Final = "label"


@dataclass(frozen=True)
class Trial:
    """One model to train and judge.

    Attributes
    ----------
    name
        Of the trial, for the table of results.
    train, test
        Rows; a null label is left out of training and judging.
    slices
        Column of `test` by whose values recall is told apart, or None.
    """

    name: str
    train: pl.DataFrame
    test: pl.DataFrame
    slices: str | None = None


@dataclass(frozen=True)
class IncidentSet:
    """A data set: the stream's definition (TOML) and its trials; `rule` is a field whose threshold is known."""

    definition: str
    trials: Callable[[], Iterator[Trial]]
    rule: str | None = None


def definition(
    name: str,
    entity: Sequence[str],
    fields: Sequence[str],
    *,
    step: str,
    window: int,
    words: dict[str, Sequence[str]] | None = None,
) -> str:
    """Write the definition that a user would: names only, no scale, no hint of what matters."""
    lines = [f'name = "{name}"', f'topic = "dwcp.telemetry.{name}"', f"entity = {list(entity)}".replace("'", '"')]
    lines += [f"step = {step}", f"window = {window}", "expire_after = 100000000.0", ""]
    for field in fields:
        lines += ["[[fields]]", f'name = "{field}"']
        if words and field in words:
            vocabulary = ", ".join(f'"{word}"' for word in words[field])
            lines += ['kind = "categorical"', f"vocabulary = [{vocabulary}]"]
        lines.append("")
    lines += ["[[models]]", f'name = "{name}-incidents"', 'task = "incident"', f'label = "{LABEL}"', ""]
    return "\n".join(lines)


def dbsherlock(data: Path) -> IncidentSet:
    """OLTP server under ten injected causes: runs of causes seen in training, and each cause unseen."""
    table = pl.read_csv(_unpacked(data / "dbsherlock" / "dbsherlock_tpcc16w.csv.gz"))
    names = {old: _identifier(old) for old in table.columns[6:]}
    runs = {run: i for i, run in enumerate(table["run"].unique(maintain_order=True))}
    table = table.rename(names).with_columns(
        ts=pl.col("epoch_s") + START + 1000 * pl.col("run").replace_strict(runs),
        x_cause=pl.when(pl.col(LABEL) == 1).then("cause"),
        label=pl.when(pl.col("use") == 1).then(LABEL),
    )
    place = pl.col("run").str.slice(-2).cast(pl.Int64)

    def trials() -> Iterator[Trial]:
        held = place.is_in(sorted(table["run"].str.slice(-2).cast(pl.Int64).unique())[1::3])
        yield Trial("causes seen", table.filter(~held), table.filter(held), "x_cause")
        for cause in table["cause"].unique(maintain_order=True):
            own = pl.col("cause") == cause
            yield Trial(f"unseen: {cause}", table.filter(~own), table.filter(own))

    return IncidentSet(definition("oltp", ["run"], list(names.values()), step="1.0", window=30), trials)


def nezha(data: Path) -> IncidentSet:
    """Pods of two systems, a day each: trained on one day, judged on the other; and the end of each day."""
    folder = data / "nezha"
    table = pl.read_csv(_unpacked(folder / "pod_metrics.csv.gz"))
    edges = pl.read_csv(_unpacked(folder / "edge_latency.csv.gz")).filter(pl.col("side") == "source")
    edges = edges.with_columns(
        minute=pl.col("ts") // 60,
        caller=pl.col("edge").str.split("_").list.get(0),
        callee=pl.col("edge").str.split("_").list.get(1),
    )
    table = table.with_columns(
        minute=pl.col("ts") // 60,
        service=pl.col("pod").str.replace(r"-[0-9a-f]+-[0-9a-z]+$", ""),
        label=pl.when((pl.col("any_fault_in_system") == 0) | (pl.col("fault") == 1)).then("fault"),
        x_cause=pl.when(pl.col("fault") == 1).then("fault_type"),
    )
    for side, part in (("edge_out_p50_s", "caller"), ("edge_in_p50_s", "callee")):
        slowest = edges.group_by("minute", service=part).agg(pl.col("p50_s").max().alias(side))
        table = table.join(slowest, on=["minute", "service"], how="left")
    fields = [name for name in table.columns if name.endswith(_NEZHA_FIELDS)]
    table = table.sort("ts", "pod")

    def trials() -> Iterator[Trial]:
        days = table["day"].unique().sort()
        for day in days:
            own = pl.col("day") == day
            yield Trial(f"unseen day {day}", table.filter(~own), table.filter(own), "x_cause")
        for day in days:
            own = table.filter(pl.col("day") == day)
            faults = own.filter(pl.col("fault") == 1)["ts"]
            cut = float(faults.quantile(0.6) or 0.0) + 600.0
            yield Trial(f"end of {day}", own.filter(pl.col("ts") < cut), own.filter(pl.col("ts") >= cut), "x_cause")

    return IncidentSet(definition("pods", ["pod"], fields, step="60.0", window=15), trials)


def backblaze(data: Path) -> IncidentSet:
    """Disks: failure within 30 days from a snapshot of SMART values; disks of the test part are unseen.

    Failing disks have three snapshots in the set and healthy ones one, so the mere number of rows would tell them
    apart: every snapshot is an entity of its own here.
    """
    table = pl.read_csv(_unpacked(data / "backblaze" / "snapshots.csv.gz"))
    fields = [n for n in table.columns if n.startswith("smart_")] + ["h_since_change", "changes_720h", "size_tb"]
    words = {name: sorted(table[name].drop_nulls().unique()) for name in ("model", "manufacturer")}
    table = table.with_columns(
        ts=START + 3600.0 * pl.col("t_h"),
        label=pl.col("fails_within_720h"),
        snapshot=pl.format("{}-{}", "disk", pl.int_range(pl.len())),
        x_lead=pl.when(pl.col("lead_h") > 0).then(pl.format("{} h", "lead_h")),
    ).sort("ts", "disk")
    held = (pl.col("disk") * 2654435761) % 100 < 40  # Knuth's multiplicative hash: no order of the ids is kept

    def trials() -> Iterator[Trial]:
        yield Trial("unseen disks", table.filter(~held), table.filter(held), "x_lead")

    text = definition("disks", ["snapshot"], [*fields, *words], step='"irregular"', window=2, words=words)
    return IncidentSet(text, trials)


def reference(data: Path) -> IncidentSet:
    """Rows of the reference system's node generator with labels that are aligned with their rows."""
    tables = {n: pl.read_csv(_unpacked(data / "reference" / f"reliability_{n}.csv.gz")) for n in _RELIABILITY}
    fields = list(tables["fast_n5000_r02"].columns[5:15])
    words = {"dwcp_mode": ("fallback", "optimized", "standard"), "network_tier": ("tier1", "tier2", "tier3")}

    def trials() -> Iterator[Trial]:
        for name, table in tables.items():
            rows = table.rename({"timestamp": "ts"}).sort("ts", "node_id", "row_id", maintain_order=True)
            rows = rows.with_columns(pl.col("ts").str.to_datetime(time_zone="UTC").dt.epoch("s"))
            # node ids are drawn per row: two rows of one node at one time would be one sample
            rows = rows.unique(["ts", "node_id"], keep="first", maintain_order=True)
            # every incident lies in the first part of the time, so rows are told apart by node
            held = pl.col("node_id").str.slice(-3).cast(pl.Int64) % 10 < 3
            yield Trial(name, rows.filter(~held), rows.filter(held))

    text = definition("members", ["node_id"], [*fields, *words], step='"irregular"', window=15, words=words)
    return IncidentSet(text, trials, rule="error_rate")


SETS: Final[dict[str, Callable[[Path], IncidentSet]]] = {
    "reference": reference,
    "dbsherlock": dbsherlock,
    "nezha": nezha,
    "backblaze": backblaze,
}
_RELIABILITY: Final = ("base_n10000_r02", "fast_n5000_r02")
_NEZHA_FIELDS: Final = (
    "cpu_m", "cpu_pct", "mem_mi", "mem_pct", "syscall_read", "syscall_write", "rx_bytes", "tx_bytes", "_s", "ops",
    "success_pct",
)  # fmt: skip


def _identifier(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")


def _unpacked(path: Path) -> io.BytesIO:
    with gzip.open(path) as stream:
        return io.BytesIO(stream.read())
