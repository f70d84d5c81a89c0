"""Evaluate the default anomaly model on the Numenta Anomaly Benchmark, by its own rules (`nab_scoring`).

    python -m lab.evaluations.nab --data FOLDER [--check] [--peers] [--json]

FOLDER holds `nab_corpus.csv.gz` (file, timestamp, value), `combined_windows.json`, `profiles.json` and, for --check,
`published_final_results.json`. There is no look-ahead: a model is trained on each file's first 15 % (750 rows at most,
the part that the benchmark does not score) and the file is scored row by row, both by the command line. --check
scores detectors whose published results are known instead, to show that the rules are the benchmark's.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import polars as pl
from numpy.typing import NDArray

from lab.evaluations.harness import aligned, definition, samples, train_and_score
from lab.evaluations.nab_scoring import Profile, Series, corpus_score, probation_rows, profiles
from lab.evaluations.output import emit_table
from lab.evaluations.peers import peers
from lab.evaluations.windowed_gaussian import windowed_gaussian

MODEL = "dwcp-stream default"
QUIET_ROWS = 100
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class File:
    """A series with its labelled windows (first and last row)."""

    name: str
    ts: Floats
    value: Floats
    windows: list[tuple[int, int]]


@click.command()
@click.option("--data", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--check", is_flag=True, help="Score detectors with published results instead.")
@click.option("--peers", "with_peers", is_flag=True, help="Run the other detectors too.")
@click.option("--only", metavar="TEXT", default="", help="Files whose name holds TEXT (the score is theirs alone).")
@click.option("--scores", type=click.Path(dir_okay=False, path_type=Path), help="Write the model's scores (Parquet).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(folder: Path, check: bool, with_peers: bool, only: str, scores: Path | None, as_json: bool) -> None:
    """Evaluate on the corpus in FOLDER."""
    costs = profiles(json.loads((folder / "profiles.json").read_text()))
    files = [file for file in read_corpus(folder) if only in file.name]
    if check:
        emit_table(
            check_rules(files, costs, json.loads((folder / "published_final_results.json").read_text())), as_json
        )
        return
    found: dict[str, list[Floats]] = {MODEL: []}
    for file in files:
        found[MODEL].append(score_file(file))
        click.echo(f"{file.name}: {int((np.nan_to_num(found[MODEL][-1]) > 1).sum())} rows over 1", err=True)
        if with_peers:
            for name, score in peer_scores(file).items():
                found.setdefault(name, []).append(score)
    if scores:
        parts = [
            pl.DataFrame({"file": [f.name] * len(s), "score": s}) for f, s in zip(files, found[MODEL], strict=True)
        ]
        pl.concat(parts).write_parquet(scores)
    rows = [
        {"detector": name, "scores": kind, **result(files, [change(s) for s in parts], costs)}
        for name, parts in found.items()
        for kind, change in (("as they are", lambda s: s), (f"highest of {QUIET_ROWS} rows", records))
    ]
    emit_table({"files": len(files), "results": rows}, as_json)


def read_corpus(folder: Path) -> list[File]:
    """Read the series and find their windows' rows."""
    table = pl.read_csv(folder / "nab_corpus.csv.gz")
    labels = json.loads((folder / "combined_windows.json").read_text())
    files = []
    for (name,), part in table.group_by(["file"], maintain_order=True):
        ts = _seconds(part["timestamp"])
        windows = []
        for begin, end in labels[str(name)]:
            first, last = _seconds(pl.Series([begin[:19], end[:19]]))
            inside = np.flatnonzero((ts >= first) & (ts <= last))
            windows.append((int(inside[0]), int(inside[-1])))
        files.append(File(str(name), ts, part["value"].cast(pl.Float64).to_numpy(), windows))
    return files


def score_file(file: File) -> Floats:
    """Scores [N] of a file by the command line, trained on its first part."""
    count = probation_rows(len(file.ts))
    with tempfile.TemporaryDirectory() as path:
        where = Path(path)
        paths = [where / "train.csv", where / "test.csv"]
        whole = samples("nab", file.ts, {"value": file.value})
        whole[:count].write_csv(paths[0])
        whole.write_csv(paths[1])
        found = train_and_score("nab", definition("nab", ["value"], "irregular"), paths[0], paths[1], where)
    return aligned(found, file.ts)


def peer_scores(file: File) -> dict[str, Floats]:
    """Scores [N] of the other detectors, fitted to the same first part (a single column has no plane: no PCA)."""
    count = probation_rows(len(file.ts))
    column = file.value[:, None]
    found = {"windowed Gaussian": np.round(windowed_gaussian(file.value), 12)}
    for name, make in peers().items():
        if not name.startswith("PCA"):
            found[name] = make(column[:count], column)
    return found


def records(scores: Floats) -> Floats:
    """Keep a score only where it is over all of the rows before it in `QUIET_ROWS`: a lasting alarm counts once."""
    known = np.nan_to_num(scores, nan=0.0)
    padded = np.concatenate([np.zeros(QUIET_ROWS), known])
    before = np.lib.stride_tricks.sliding_window_view(padded, QUIET_ROWS)[: len(known)].max(axis=1)
    return np.where(known > before, known, 0.0)


def result(files: list[File], scores: list[Floats], costs: dict[str, Profile]) -> dict[str, Any]:
    """Scores by profile with the best threshold of each, and the standard one's details and its score at 1."""
    series = [Series(s, f.windows) for f, s in zip(files, scores, strict=True)]
    best = {name: corpus_score(series, profile) for name, profile in costs.items()}
    at_one = corpus_score(series, costs["standard"], threshold=1.0)
    return {
        **{name: round(found.score, 2) for name, found in best.items()},
        "threshold": float(f"{best['standard'].threshold:.6g}"),
        "found": best["standard"].found,
        "windows": best["standard"].windows,
        "false_rows": best["standard"].false_rows,
        "standard_at_1": round(at_one.score, 2),
    }


def check_rules(files: list[File], costs: dict[str, Profile], published: dict[str, Any]) -> dict[str, Any]:
    """Score detectors whose results are known: published ones, one that never fires, and a perfect one.

    The benchmark's own run wrote scores with twelve digits, which matters for a detector whose scores crowd at 1.
    """
    makers = {
        "windowedGaussian": lambda f: np.round(windowed_gaussian(f.value), 12),
        "null": lambda f: np.full(len(f.ts), 0.5),
        "perfect": _perfect,
    }
    rows = []
    for name, make in makers.items():
        series = [Series(make(file), file.windows) for file in files]
        for profile, cost in costs.items():
            theirs = published.get(name, {}).get(profile)
            ours = corpus_score(series, cost).score
            rows.append({"detector": name, "profile": profile, "score": round(ours, 4), "published": theirs})
    return {"check": rows}


def _perfect(file: File) -> Floats:
    scores = np.zeros(len(file.ts))
    scores[[begin for begin, _ in file.windows]] = 1.0
    return scores


def _seconds(column: pl.Series) -> Floats:
    times = column.str.to_datetime(time_zone="UTC")
    return np.asarray(times.dt.epoch("us").to_numpy(), np.float64) / 1e6


if __name__ == "__main__":
    main()
