"""What the loop is worth: realised errors of a stream that changes, with the trainer and without it.

python benchmarks/bench_loop.py
python benchmarks/bench_loop.py --data DIR --plot docs/images
python benchmarks/bench_loop.py --data DIR --only traffic --json

DIR holds isp_traffic/isp_traffic.csv.gz (changed twice here, see loop_series.py) and ripe_rtt/ripe_rtt.csv.gz (as it
is); without it there is a made-up series that changes once. A first version is trained on what is before the series
goes live. Six days before the traffic's end somebody promotes a version that forecasts 30 % too much.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.loop_plot import draw
from benchmarks.loop_run import PARTITIONS, Site, live, prepare, realised
from benchmarks.loop_series import DAY, Series, one_path, round_trips, simulated, traffic
from benchmarks.support import machine, options_of, run_benchmark, say, table
from dwcp_stream.backtest import backtest, read_records
from dwcp_stream.events import Accuracy
from dwcp_stream.loading import BoundModels
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.registry.promotion import promote
from dwcp_stream.settings import LogSettings
from dwcp_stream.telemetry.logs import configure_logging
from tests.kafka.broker import RealKafka

POLICY = {
    "interval_hours": 168, "collect_hours": 72, "history_hours": 240, "share": 50,
    "challenge_hours": 2, "max_age_hours": 240,
}  # fmt: skip
SETTLED = 10
"""Days after a change in which the loop is at work: drift, telemetry, training, three days of comparison."""
METHOD = (
    "Two hours of event time at a time go through real Kafka and a worker process; after each the trainer reads what"
    " the topics hold, decides and trains. Without the loop: the same samples through the same pipeline with the first"
    " version only. Errors are the champion's realised MAE as a share of repeating the last value's there."
)


def minutes(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


async def run(series: Series, bootstrap: str, directory: Path, sabotage: bool) -> dict[str, Any]:
    """Live through a series."""
    say(f"{series.name}: training the first version")
    site = prepare(series, bootstrap, directory, dict(POLICY))
    last = float(series.rows["ts"].max())  # type: ignore[arg-type]
    promoted: list[float] = []

    async def somebody_promotes(site: Site, now: float) -> None:
        if sabotage and not promoted and now > last - 6 * DAY:
            version = await asyncio.to_thread(site.sabotage)
            promote(site.repository, site.model, version, site.stream, by="somebody")
            promoted.append(now)

    with site.worker:
        await live(site, somebody_promotes)
        parts = await realised(site.settings)
    say(f"{series.name}: the same without the loop")
    alone = await asyncio.to_thread(without, site)
    return {
        "series": series.name,
        "samples": site.sent,
        "changes": [minutes(at) for at in series.changes],
        "promoted_by_somebody": [minutes(at) for at in promoted],
        "decisions": [
            {"time": d.event_time, "decision": d.decision, "version": d.version, "champion": d.champion,
             "reason": d.reason, "numbers": d.numbers}
            for d in site.decisions
        ],
        **phases(series, promoted, last, parts, alone),
        "curves": {"with": curve(series, parts), "without": curve(series, alone)},
    }  # fmt: skip


def without(site: Site) -> list[Accuracy]:
    """Realised errors of the first version on the same samples."""
    file = site.directory / "all.csv"
    site.series.rows.filter(pl.col("ts") >= site.series.live - 30 * site.series.step).write_csv(file)
    model = BoundModels(site.settings, site.stream).load(site.model, 1)
    pipeline = Pipeline(site.stream, [model], check_ahead=False)
    records = read_records([file], site.stream, None)
    return [part for result in backtest(pipeline, records, partitions=PARTITIONS) for part in result.accuracies]


def ratio(parts: Sequence[Accuracy], begin: float, end: float) -> float | None:
    """Error of what served as a share of persistence's: the mean over horizons."""
    sums: defaultdict[int, np.ndarray] = defaultdict(lambda: np.zeros(2))
    for part in parts:
        at = datetime.fromisoformat(part.bucket_end).timestamp()
        if part.arm == "champion" and begin < at <= end:
            sums[part.horizon] += part.paired_abs_error, part.persistence_abs_error
    shares = [float(mine / naive) for mine, naive in sums.values() if naive]
    return round(float(np.mean(shares)), 4) if shares else None


def phases(
    series: Series, promoted: Sequence[float], last: float, parts: Sequence[Accuracy], alone: Sequence[Accuracy]
) -> dict[str, Any]:
    """Errors with and without the loop, phase by phase; the time that the loop needs is a phase of its own."""
    edges = [series.live, *series.changes, *promoted, last]
    rows = []
    for begin, end in pairwise(edges):
        for name, a, b in (
            (f"first {SETTLED} days", begin, min(begin + SETTLED * DAY, end)),
            ("later", begin + SETTLED * DAY, end),
        ):
            if a < b:
                with_, alone_ = ratio(parts, a, b), ratio(alone, a, b)
                rows.append({"begins": minutes(a), "part": name, "with": with_, "without": alone_})
    return {
        "phases": rows,
        "whole": {"with": ratio(parts, series.live, last), "without": ratio(alone, series.live, last)},
    }


def curve(series: Series, parts: Sequence[Accuracy]) -> list[tuple[float, float]]:
    """Error of what served as a share of persistence's, by day."""
    end = float(series.rows["ts"].max())  # type: ignore[arg-type]
    days = np.arange(series.live, end, DAY / 2)
    found = [(float(day), ratio(parts, day - DAY / 2, day + DAY / 2)) for day in days]
    return [(at, value) for at, value in found if value is not None]


def chosen(options: argparse.Namespace) -> Iterator[tuple[Series, bool]]:
    """Each series, and whether somebody promotes a bad version."""
    if options.data is None:
        yield simulated(20.0), False
        return
    for name, make in (("traffic", traffic), ("path", one_path), ("rtt", round_trips)):
        if not options.only or name in options.only:
            yield make(options.data), name == "traffic"


def measure(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Each series on a broker of its own."""
    state, found = machine(), []
    for series, sabotage in chosen(options):
        with RealKafka(directory / f"kafka-{series.name}") as kafka:
            found.append(asyncio.run(run(series, kafka.bootstrap, directory / series.name, sabotage)))
        if options.plot:
            draw(found[-1], options.plot / f"loop-{series.name}.svg")
    ratios = {f"ratio_{f['series']}": round(f["whole"]["with"] / f["whole"]["without"], 4) for f in found}
    for one in found:
        one.pop("curves")
    return {"benchmark": "loop", "machine": state, "method": METHOD, "policy": POLICY, "series": found, **ratios}


def text(found: dict[str, Any]) -> str:
    """Decisions and errors as tables."""
    lines = []
    for one in found["series"]:
        lines.append(
            f"{one['series']}: {one['samples']} samples; changes at {', '.join(one['changes']) or 'no stated time'}"
        )
        rows = [(d["time"][:16], d["decision"], str(d["version"]), d["reason"][:70]) for d in one["decisions"]]
        lines += [table(("time", "decision", "version", "reason"), rows), ""]
        cells = [(p["begins"], p["part"], str(p["with"]), str(p["without"])) for p in one["phases"]]
        cells.append(("whole", "", str(one["whole"]["with"]), str(one["whole"]["without"])))
        lines += [table(("from", "part", "with the loop", "without"), cells), ""]
    return "\n".join(lines)


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--only", action="append", choices=["traffic", "path", "rtt"], help="only this series")
    parser.add_argument("--plot", type=Path, help="folder for the pictures")
    configure_logging(LogSettings(level="error"))
    run_benchmark(parser, measure, text)


if __name__ == "__main__":
    main()
