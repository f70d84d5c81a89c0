"""Evaluate the drift state: false alarms where nothing changes, and what it says of changes that people labelled.

    python -m lab.evaluations.drift [--data FOLDER] [--repeats 50] [--json]
    python -m lab.evaluations.drift --inputs [--repeats 50] [--json]

First, series of block means that stay what they are: Gaussian and autoregressive, with an autocorrelation from block to
block of 0 to 0.95, 1440 blocks each. Beside how often the state turns to drifted stands how many of shifts by three
standard deviations are found within 200 blocks, and how soon in the median. Then, with FOLDER, hourly means of the
round-trip times in `ripe_rtt/ripe_rtt.csv.gz` (see `changes`): a drift is told by a label in the day before it, a
labelled change is lasting if the medians of the 12 hours before and after differ by three robust deviations.

Beside `DriftMonitor` stand River's ADWIN and PageHinkley with their defaults on the same means.

With `--inputs` the population stability index instead: an input of 1, 10 or 50 entities, a value a minute each, over
the last 24 blocks of an hour against the histogram of 14 days of training. The input is Gaussian and autoregressive,
with a half-life of an hour or a day, or without memory; half of its variance may lie between entities, and training
may have had the same entities or others. False: how often in 1000 blocks the index is judged drifted (over 0.25)
or a warning (over 0.1) in 14 days that are like training. Found: the share of shifts by half a standard deviation and
by one that are judged drifted within 48 blocks, and the median number of blocks.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import click
import numpy as np
import polars as pl
from numpy.typing import NDArray
from river.drift import ADWIN, PageHinkley

from dwcp_stream.drift import DriftMonitor
from lab.evaluations.drift_inputs import CASES, shares_of_inputs
from lab.evaluations.output import emit_table

CORRELATIONS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.95)
BLOCKS, SHIFTED_AT, SHIFT, FOUND_WITHIN = 1440, 700, 3.0, 200
HOUR, DAY, AROUND = 3600.0, 24, 12
Floats = NDArray[np.float64]
Finder = Callable[[Floats], list[int]]


@click.command()
@click.option("--data", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--repeats", default=50, show_default=True, help="Series of each kind.")
@click.option("--inputs", is_flag=True, help="Evaluate the population stability index of inputs instead.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(folder: Path | None, repeats: int, inputs: bool, as_json: bool) -> None:
    """Run every detector on the same means."""
    if inputs:
        emit_table({"inputs": [shares_of_inputs(case, repeats) for case in CASES]}, as_json)
        return
    finders: dict[str, Finder] = {
        "DriftMonitor": monitor,
        "River ADWIN": lambda x: river_detector(ADWIN(), x),
        "River PageHinkley": lambda x: river_detector(PageHinkley(), x),
    }
    rows = [
        {"detector": name, "autocorrelation": rho, **simulated(find, rho, repeats)}
        for name, find in finders.items()
        for rho in CORRELATIONS
    ]
    result: dict[str, object] = {"simulated": rows}
    if folder is not None:
        traces = hourly(folder)
        result["ripe_rtt"] = [{"detector": name, **labelled(find, traces)} for name, find in finders.items()]
    emit_table(result, as_json)


def monitor(values: Floats) -> list[int]:
    """Return the blocks at whose end the state of a `DriftMonitor` turns to drifted."""
    watch = DriftMonitor("s", "m", {}, HOUR, (), version=1, partition=0)
    found = []
    for block, value in enumerate(values.tolist()):
        watch.observe(np.array([block * HOUR]), np.array([value], np.float32))
        events = watch.finish((block + 1) * HOUR)
        found += [int(datetime.fromisoformat(e.block_start).timestamp() / HOUR) for e in events if e.state == "drifted"]
    return found


def river_detector(detector: object, values: Floats) -> list[int]:
    """Return the blocks at which one of River's detectors says drift."""
    found = []
    for block, value in enumerate(values.tolist()):
        detector.update(value)  # type: ignore[attr-defined]
        if detector.drift_detected:  # type: ignore[attr-defined]
            found.append(block)
    return found


def autoregressive(rng: np.random.Generator, rho: float, n: int) -> Floats:
    """Return a stationary series of variance 1 around 5."""
    noise = rng.normal(0.0, np.sqrt(1 - rho**2), n)
    values = np.empty(n)
    last = rng.normal()
    for i, shock in enumerate(noise.tolist()):
        last = rho * last + shock
        values[i] = last
    return 5.0 + values


def simulated(find: Finder, rho: float, repeats: int) -> dict[str, float | None]:
    """Count false alarms per 1000 blocks, and see what becomes of a shift."""
    rng = np.random.default_rng(0)
    false = sum(len(find(autoregressive(rng, rho, BLOCKS))) for _ in range(repeats))
    delays = []
    for _ in range(repeats):
        values = autoregressive(rng, rho, SHIFTED_AT + FOUND_WITHIN)
        values[SHIFTED_AT:] += SHIFT
        delays.append(next((at - SHIFTED_AT for at in find(values) if at >= SHIFTED_AT), None))
    found = [delay for delay in delays if delay is not None]
    return {
        "false_per_1000": round(1000 * false / (repeats * BLOCKS), 2),
        "shifts_found": round(len(found) / repeats, 2),
        "median_delay": float(np.median(found)) if found else None,
    }


def hourly(folder: Path) -> list[tuple[Floats, NDArray[np.bool_]]]:
    """Return for each trace the hourly means [H] and whether a labelled change begins in the hour."""
    table = pl.read_csv(folder / "ripe_rtt" / "ripe_rtt.csv.gz")
    table = table.with_columns(hour=pl.col("timestamp").str.to_datetime().dt.epoch("s") // int(HOUR))
    traces = []
    for _, part in table.group_by(["probe"], maintain_order=True):
        by = part.group_by("hour", maintain_order=True).agg(pl.col("rtt_ms").mean(), pl.col("changepoint").max())
        by = by.filter(pl.col("rtt_ms").is_not_null())
        traces.append((by["rtt_ms"].cast(pl.Float64).to_numpy(), by["changepoint"].to_numpy() > 0))
    return traces


def lasting(values: Floats, at: int) -> bool:
    """Whether the level around an hour differs for half a day by three robust deviations."""
    before, after = values[max(at - AROUND, 0) : at], values[at : at + AROUND]
    if len(before) < AROUND or len(after) < AROUND:
        return False
    spread = 1.4826 * max(float(np.median(np.abs(part - np.median(part)))) for part in (before, after))
    return bool(abs(np.median(after) - np.median(before)) > 3 * max(spread, 1e-6))


def labelled(find: Finder, traces: list[tuple[Floats, NDArray[np.bool_]]]) -> dict[str, float]:
    """How often drift is said, how often a label tells why, and how many lasting changes it tells within a day."""
    days = drifts = told = changes = seen = 0
    for values, marks in traces:
        found = np.array(find(values), int)
        hours = np.flatnonzero(marks)
        days += len(values) / DAY
        drifts += len(found)
        told += sum(bool(((hours <= at) & (hours > at - DAY)).any()) for at in found)
        real = [at for at in hours if lasting(values, at)]
        changes += len(real)
        seen += sum(bool(((found >= at) & (found < at + DAY)).any()) for at in real)
    return {
        "drifts_per_day": round(drifts / days, 3),
        "told_by_a_label": round(told / max(drifts, 1), 3),
        "lasting_changes": changes,
        "found_within_a_day": round(seen / max(changes, 1), 3),
    }


if __name__ == "__main__":
    main()
