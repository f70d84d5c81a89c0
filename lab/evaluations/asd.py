"""Evaluate the default anomaly model on the Application Server Dataset (Li et al., KDD 2021).

    python -m lab.evaluations.asd --data FOLDER [--peers] [--json]

FOLDER holds `data.npz` with `NAME_train`, `NAME_test` [N, 19] and `NAME_label` [N] per server. Each server is trained
on its train part and scored on its test part by the command line, with the same definition. VUS-PR with a window of
20, the mean over servers; the share of quiet rows over the threshold, and the segments that any row over it touches.
"""

import tempfile
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.metrics import number_events
from dwcp_stream.training.vus import vus_pr
from lab.evaluations.harness import aligned, definition, train_and_score, write_samples
from lab.evaluations.output import emit_table
from lab.evaluations.peers import peers

STEP = 300.0
START = 1_700_006_400.0
MODEL = "dwcp-stream default"
Floats = NDArray[np.float64]


@click.command()
@click.option("--data", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--peers", "with_peers", is_flag=True, help="Run the other detectors too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(folder: Path, with_peers: bool, as_json: bool) -> None:
    """Evaluate on the servers in FOLDER/data.npz."""
    rows = []
    with np.load(folder / "data.npz", allow_pickle=False) as data:
        names = sorted({key.rsplit("_", 1)[0] for key in data.files}, key=lambda n: int(n.split("-")[1]))
        for name in names:
            train, test = (np.asarray(data[f"{name}_{part}"], np.float64) for part in ("train", "test"))
            label = np.asarray(data[f"{name}_label"]) > 0
            scores = {MODEL: score_server(name, train, test)}
            scores |= {peer: make(train, test) for peer, make in (peers() if with_peers else {}).items()}
            rows += [{"server": name, "detector": n, **judge(label, s)} for n, s in scores.items()]
            click.echo(f"{name}: VUS-PR {rows[-len(scores)]['vus_pr']:.3f}", err=True)
    detectors = list(dict.fromkeys(row["detector"] for row in rows))
    result = {
        "mean_vus_pr": {
            d: round(float(np.mean([float(r["vus_pr"]) for r in rows if r["detector"] == d])), 4) for d in detectors
        },
        "servers": rows,
    }
    emit_table(result, as_json)


def score_server(name: str, train: Floats, test: Floats) -> Floats:
    """Scores [N] of a server's test part by the command line."""
    fields = [f"m{i}" for i in range(train.shape[1])]
    times = START + STEP * np.arange(len(train) + len(test))
    with tempfile.TemporaryDirectory() as path:
        where = Path(path)
        files = [
            write_samples(where / f"{part}.csv", name, ts, dict(zip(fields, values.T, strict=True)))
            for part, ts, values in (("train", times[: len(train)], train), ("test", times[len(train) :], test))
        ]
        found = train_and_score("server", definition("server", fields, STEP), files[0], files[1], where)
    return np.nan_to_num(aligned(found, times[len(train) :]), nan=0.0)


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
