"""Evaluate where detectors see the level of round-trip times change, against changes that people labelled.

    python -m lab.evaluations.changes --data FOLDER [--json]

FOLDER holds `ripe_rtt/ripe_rtt.csv.gz` with the columns probe, timestamp, rtt_ms and changepoint (RIPE Atlas traces
labelled by Shao et al., ITC 29, 2017; one sample in 240 s). The first 30 % of each trace are for training, the rest is
judged. A detector's change is the row in which its alert begins. It is right if a labelled change is at most `--within`
rows away that no other of its changes has taken; F1 is over all traces together, with an interval from drawing traces.

Nothing here was chosen by these labels but the median test, of which twelve settings had been looked at: the default
model and the one that needs no training are as a user gets them, and River's detectors have their defaults.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import polars as pl
from numpy.typing import NDArray
from river.drift import ADWIN, PageHinkley

from lab.evaluations.harness import aligned, definition, samples, train_and_score
from lab.evaluations.output import emit_table

STEP, TRAINED, RESOLVED = 240.0, 0.3, 0.8
ROWS, BEFORE, DEVIATIONS = 3, 30, 4.0
DRAWS = 1000
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@click.command()
@click.option("--data", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--within", default=2, show_default=True, help="Rows that a change may be off.")
@click.option("--traces", type=int, help="Only so many.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(folder: Path, within: int, traces: int | None, as_json: bool) -> None:
    """Judge every detector on the same rows."""
    table = pl.read_csv(folder / "ripe_rtt" / "ripe_rtt.csv.gz")
    table = table.with_columns(ts=pl.col("timestamp").str.to_datetime().dt.epoch("s").cast(pl.Float64))
    series = {str(name): part for (name,), part in table.group_by(["probe"], maintain_order=True)}
    series = dict(list(series.items())[:traces])
    labelled = {name: np.flatnonzero(part["changepoint"].to_numpy() > 0) for name, part in series.items()}
    result: dict[str, object] = {
        "traces": len(series),
        "changes": sum(int((labelled[n] >= first(p)).sum()) for n, p in series.items()),
        "within": within,
    }
    for detector, found in detections(series):
        judged = [
            counts(found[n][found[n] >= first(p)], labelled[n][labelled[n] >= first(p)], within)
            for n, p in series.items()
        ]
        result[detector] = summary(np.array(judged))
    emit_table(result, as_json)


def first(part: pl.DataFrame) -> int:
    """Return the row from which on a trace is judged."""
    return int(TRAINED * len(part))


def detections(series: dict[str, pl.DataFrame]) -> Iterator[tuple[str, dict[str, Ints]]]:
    """Yield each detector's name and its changes, row numbers by trace."""
    yield "dwcp-stream default", alerts(series, trained=True)
    yield "dwcp-stream, nothing trained", alerts(series, trained=False)
    by_hand: dict[str, Callable[[Floats], Ints]] = {
        "River ADWIN": lambda x: stream_detector(ADWIN(), x),
        "River PageHinkley": lambda x: stream_detector(PageHinkley(), x),
        "median of 3 rows, 4 robust deviations of 30": median_test,
    }
    for name, detector in by_hand.items():
        yield name, {trace: detector(filled(part)) for trace, part in series.items()}


def alerts(series: dict[str, pl.DataFrame], *, trained: bool) -> dict[str, Ints]:
    """Return where alerts begin: of one model trained on the beginnings of all traces, or of the untrained detector."""
    with tempfile.TemporaryDirectory() as path:
        where = Path(path)
        files = [where / "train.csv", where / "test.csv"]
        for file, cut in zip(files, (True, False), strict=True):
            parts = []
            for name, part in series.items():
                rows = part[: first(part)] if cut else part
                ts, rtt = rows["ts"].to_numpy(), rows["rtt_ms"].cast(pl.Float64).to_numpy()
                parts.append(samples(name, ts, {"rtt_ms": rtt}))
            pl.concat(parts).with_columns(pl.selectors.float().fill_nan(None)).write_csv(file)
        text = definition("rtt", ["rtt_ms"], STEP)
        scores = train_and_score("rtt", text, files[0] if trained else None, files[1], where)
    found = {}
    for name, part in series.items():
        own = scores.filter(pl.col("entity").cast(pl.String) == name)
        found[name] = onsets(np.nan_to_num(aligned(own, part["ts"].to_numpy())))
    return found


def onsets(score: Floats) -> Ints:
    """Return the rows in which an alert begins: over 1, until it has been under 0.8."""
    found, firing = [], False
    for row, value in enumerate(score.tolist()):
        if not firing and value > 1.0:
            found.append(row)
            firing = True
        elif firing and value < RESOLVED:
            firing = False
    return np.array(found, np.int64)


def filled(part: pl.DataFrame) -> Floats:
    """Return round-trip times with the last one in the place of those that were lost."""
    return np.asarray(part["rtt_ms"].cast(pl.Float64).forward_fill().backward_fill().to_numpy(), np.float64)


def stream_detector(detector: object, values: Floats) -> Ints:
    """Return where one of River's drift detectors says so."""
    found = []
    for row, value in enumerate(values.tolist()):
        detector.update(value)  # type: ignore[attr-defined]
        if detector.drift_detected:  # type: ignore[attr-defined]
            found.append(row)
    return np.array(found, np.int64)


def median_test(values: Floats) -> Ints:
    """Return where three rows in a row lie on one side of the 30 before, the median by four robust deviations."""
    found: list[int] = []
    begin = 0
    for row in range(ROWS, len(values) - ROWS + 1):
        before = values[max(begin, row - BEFORE) : row]
        if len(before) < ROWS + 2:
            continue
        level = float(np.median(before))
        spread = 1.4826 * float(np.median(np.abs(before - level))) + 1e-9
        off = (values[row : row + ROWS] - level) / spread
        if abs(np.median(off)) > DEVIATIONS and (np.sign(off) == np.sign(off[0])).all():
            found.append(row)
            begin = row
    return np.array(found, np.int64)


def counts(found: Ints, true: Ints, within: int) -> tuple[int, int, int]:
    """Return how many are right, how many were found, and how many there are: the most pairs that fit, in order."""
    right = i = j = 0
    while i < len(found) and j < len(true):
        if found[i] < true[j] - within:
            i += 1
        elif found[i] > true[j] + within:
            j += 1
        else:
            right, i, j = right + 1, i + 1, j + 1
    return right, len(found), len(true)


def summary(judged: Ints) -> dict[str, object]:
    """F1, precision and recall over all traces, and a 95 % interval of F1 by drawing traces with replacement."""
    right, found, true = judged.sum(axis=0)
    rng = np.random.default_rng(0)
    drawn = judged[rng.integers(0, len(judged), (DRAWS, len(judged)))].sum(axis=1)
    f1 = 2 * drawn[:, 0] / np.maximum(drawn[:, 1] + drawn[:, 2], 1)
    low, high = np.quantile(f1, [0.025, 0.975])
    return {
        "f1": round(float(2 * right / max(found + true, 1)), 3),
        "interval": [round(float(low), 3), round(float(high), 3)],
        "precision": round(float(right / max(found, 1)), 3),
        "recall": round(float(right / max(true, 1)), 3),
        "found": int(found),
    }


if __name__ == "__main__":
    main()
