"""Evaluate the default anomaly model on the Application Server Dataset (Li et al., KDD 2021).

    python -m lab.evaluations.asd --data FOLDER [--together] [--peers] [--json]

FOLDER holds `data.npz` with `NAME_train`, `NAME_test` [N, 19] and `NAME_label` [N] per server. Each server is trained
on its train part and scored on its test part by the command line, with the same definition; with --together one
model is trained on the train parts of all. VUS-PR with a window of
20, the mean over servers; the share of quiet rows over the threshold, and the segments that any row over it touches.
"""

import tempfile
from pathlib import Path

import click
import numpy as np
import polars as pl
from numpy.typing import NDArray

from dwcp_stream.training.metrics import number_events
from dwcp_stream.training.vus import vus_pr
from lab.evaluations.harness import aligned, definition, samples, train_and_score
from lab.evaluations.output import emit_table
from lab.evaluations.peers import peers

STEP = 300.0
PARTS = ("train", "test", "label")
START = 1_700_006_400.0
MODEL = "dwcp-stream default"
Floats = NDArray[np.float64]


@click.command()
@click.option("--data", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--together", is_flag=True, help="One model for all servers, as a stream of several entities.")
@click.option("--peers", "with_peers", is_flag=True, help="Run the other detectors too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(folder: Path, together: bool, with_peers: bool, as_json: bool) -> None:
    """Evaluate on the servers in FOLDER/data.npz."""
    with np.load(folder / "data.npz", allow_pickle=False) as data:
        names = sorted({key.rsplit("_", 1)[0] for key in data.files}, key=lambda n: int(n.split("-")[1]))
        servers = {name: tuple(np.asarray(data[f"{name}_{part}"], np.float64) for part in PARTS) for name in names}
    groups = [names] if together else [[name] for name in names]
    found = {name: score for group in groups for name, score in score_servers({n: servers[n] for n in group}).items()}
    rows = []
    for name, (train, test, label) in servers.items():
        scores = {MODEL: found[name]}
        scores |= {peer: make(train, test) for peer, make in (peers() if with_peers else {}).items()}
        rows += [{"server": name, "detector": n, **judge(label > 0, s)} for n, s in scores.items()]
    detectors = list(dict.fromkeys(row["detector"] for row in rows))
    result = {
        "mean_vus_pr": {
            d: round(float(np.mean([float(r["vus_pr"]) for r in rows if r["detector"] == d])), 4) for d in detectors
        },
        "servers": rows,
    }
    emit_table(result, as_json)


def score_servers(servers: dict[str, tuple[Floats, ...]]) -> dict[str, Floats]:
    """Scores [N] of the test parts of servers, by one model trained on all of their train parts."""
    first = next(iter(servers.values()))[0]
    fields = [f"m{i}" for i in range(first.shape[1])]
    with tempfile.TemporaryDirectory() as path:
        where = Path(path)
        train, test, times = [], [], {}
        for name, (before, after, *_) in servers.items():
            ts = START + STEP * np.arange(len(before) + len(after))
            times[name] = ts[len(before) :]
            train.append(samples(name, ts[: len(before)], dict(zip(fields, before.T, strict=True))))
            test.append(samples(name, times[name], dict(zip(fields, after.T, strict=True))))
        files = [where / "train.csv", where / "test.csv"]
        for file, parts in zip(files, (train, test), strict=True):
            pl.concat(parts).write_csv(file)
        found = train_and_score("server", definition("server", fields, STEP), files[0], files[1], where)
    return {
        name: np.nan_to_num(aligned(found.filter(pl.col("entity") == name), ts), nan=0.0) for name, ts in times.items()
    }


def judge(label: NDArray[np.bool_], score: Floats) -> dict[str, object]:
    """VUS-PR, and what the threshold 1 finds (peers have no threshold: theirs are of no meaning)."""
    event = number_events(label.astype(np.float64))
    over = score > 1.0
    return {
        "vus_pr": round(vus_pr(label, score), 4),
        "labelled": round(float(label.mean()), 4),
        "segments": int(event.max()) + 1,
        "segments_found": len(np.unique(event[over & label])),
        "quiet_over": round(float(over[~label].mean()), 5),
    }


if __name__ == "__main__":
    main()
