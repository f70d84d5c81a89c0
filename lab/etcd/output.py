"""Writing a recording: a CSV of rows, a JSON of events beside it, and lines for people."""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from lab.etcd.errors import LabError
from lab.etcd.fields import Row
from lab.etcd.recorder import Options, Recording
from lab.etcd.schedule import Event
from lab.files import write_table

ENDINGS: Final = (".csv.gz", ".csv", ".parquet")


def events_path(out: Path) -> Path:
    """Return where the events of a recording stand.

    Raises
    ------
    LabError
        If the name does not say a format.
    """
    for ending in ENDINGS:
        if out.name.endswith(ending):
            return out.with_name(out.name.removesuffix(ending) + ".events.json")
    raise LabError("cannot tell the format", where=str(out), remedy="End the name in .csv.gz, .csv or .parquet")


def write(recording: Recording, options: Options, schedule: list[Event], out: Path) -> dict[str, Any]:
    """Write rows and events; return the summary."""
    events = events_path(out)
    write_table(pl.DataFrame(recording.rows, infer_schema_length=None), out)
    content = {
        "run": events.name.removesuffix(".events.json"),
        "seed": options.seed,
        "members": options.members,
        "quorum": options.members // 2 + 1,
        "duration_s": options.seconds,
        "shape": options.shape,
        "base_rate": options.base,
        "gets": options.gets,
        "data_on": recording.data_on,
        "types": _kinds(schedule, fault=True),
        "hard_negatives": _kinds(schedule, fault=False),
        "complete": recording.complete,
        "rows": len(recording.rows),
        "events": [happening.plain() for happening in recording.happenings],
    }
    events.write_text(json.dumps(content, indent=1) + "\n")
    return {"out": str(out), "events_out": str(events), **summary(recording)}


def summary(recording: Recording) -> dict[str, Any]:
    """Return the figures of a recording: rows by kind, events, the quiet rows' latency."""
    rows = recording.rows
    quiet = [row for row in rows if row["phase"] == "steady" and not row["disturbed"]]
    p50, p99 = (_median(quiet, name) for name in ("latency_p50", "latency_p99"))
    return {
        "complete": recording.complete,
        "rows": len(rows),
        "labelled": sum(int(row["x_fault"] or 0) for row in rows),
        "disturbed": sum(int(row["disturbed"] or 0) for row in rows),
        "faults": sum(h.event.fault for h in recording.happenings),
        "negatives": sum(not h.event.fault for h in recording.happenings),
        "missed": [h.event.kind for h in recording.happenings if "error" in h.info],
        "leader_changes": sum(float(row["leader_changes"] or 0) for row in rows),
        "quiet_p50_ms": p50,
        "quiet_p99_ms": p99,
    }


def line(row: Row, second: int, left: list[Event]) -> str:
    """Return one line on what is going on."""

    def shown(name: str) -> str:
        value = row[name]
        return "-" if value is None else f"{value:.0f}"

    on = row["label"] or row["negative"] or row["phase"]
    coming = f"; next {left[0].kind} at {left[0].start:.0f} s" if left else ""
    leader = row["x_leader_id"]
    return (
        f"{second:5d} s  {on:<18} leader {'-' if leader == -1 else f'm{leader}'}, "
        f"{row['active_nodes']}/{row['x_members']} active, {shown('proposals_committed')} commits/s, "
        f"p50 {shown('latency_p50')} p99 {shown('latency_p99')} ms, queue {row['queue_depth']}"
        f"{', disturbed' if row['disturbed'] else ''}{coming}"
    )


def table(schedule: list[Event]) -> str:
    """Return a schedule as lines."""
    lines = [
        f"{event.start:7.1f} - {event.end:7.1f} s  {'fault   ' if event.fault else 'negative'}  {event.kind:<18} "
        f"{event.how:<17} {', '.join(f'{k}={v}' for k, v in event.params.items())}".rstrip()
        for event in schedule
    ]
    return "\n".join(lines) or "nothing happens"


def _kinds(schedule: list[Event], *, fault: bool) -> str:
    return ",".join(dict.fromkeys(event.kind for event in schedule if event.fault is fault))


def _median(rows: list[Row], name: str) -> float | None:
    values = [float(value) for row in rows if (value := row[name]) is not None]
    return round(float(np.median(values)), 3) if values else None
