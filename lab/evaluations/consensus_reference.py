"""The reference's consensus rows: single rows without order in time, normal or of four kinds of trouble.

Trained on the rows of its training part that are not also in its test part; judged on its 3,971 test windows of 30
rows, which count as abnormal if any row is. A window's score is the largest of its rows' scores.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from sklearn.metrics import roc_auc_score

from dwcp_stream.streams.definition import StreamDefinition
from dwcp_stream.training.consensus.data import UNKNOWN, Runs
from dwcp_stream.training.consensus.sequence import see
from dwcp_stream.training.dataset import Grid
from dwcp_stream.training.labels import Labelled
from dwcp_stream.training.metrics import number_events
from lab.evaluations.consensus_detectors import detectors, fitted

TRAIN_ROWS, PARTS, ROWS = 6000, 3, 30


def judge_reference(path: Path, stream: StreamDefinition, only: Sequence[str], seed: int) -> dict[str, Any]:
    """Judge detectors on the reference's rows.

    Parameters
    ----------
    path
        The reference's `consensus_pytorch_*.npz`.
    stream, only, seed
        The consensus stream; names of detectors, none for all; and the seed.
    """
    runs = read_reference(path, stream)
    seen = see(runs)
    with np.load(path, allow_pickle=False) as found:
        wanted = found["upstream_test_window_labels"] > 0
    test = seen.source == PARTS
    rows = []
    for name, detector in detectors().items():
        if only and name not in only:
            continue
        score, limit = fitted(detector, seen, ~test, seed)
        largest = np.lib.stride_tricks.sliding_window_view(np.nan_to_num(score(test)), ROWS).max(axis=1)
        hit = largest > limit
        right = int((hit & wanted).sum())
        precision, recall = right / max(int(hit.sum()), 1), right / int(wanted.sum())
        rows.append(
            {
                "detector": name,
                "ROC AUC": round(float(roc_auc_score(wanted, largest)), 5),
                "precision": round(precision, 4),
                "recall": round(recall, 4),
                "mean of both": round((precision + recall) / 2, 4),
            }
        )
    return {"windows": len(wanted), "abnormal": int(wanted.sum()), "detectors": rows}


def read_reference(path: Path, stream: StreamDefinition) -> Runs:
    """Lay the rows out as `PARTS` runs to train on and one to test."""
    with np.load(path, allow_pickle=False) as found:
        rows, labels = found["all_shuffled"], found["all_labels"]
        test, test_labels = found["upstream_test_rows"], found["upstream_test_row_labels"]
        names = [str(name) for name in found["feature_names"]]
    known = {row.tobytes() for row in test}
    fresh = np.array([row.tobytes() not in known for row in rows])
    rows, labels = rows[fresh][:TRAIN_ROWS], labels[fresh][:TRAIN_ROWS]
    parts = [*zip(np.array_split(rows, PARTS), np.array_split(labels, PARTS), strict=True), (test, test_labels)]
    order = [names.index(name) for name in stream.field_names]
    pad = stream.window - 1
    values = [np.concatenate([np.full((pad, len(order)), np.nan), part[:, order]]) for part, _ in parts]
    # the first rows of a run have a window, too, so that each test row has a score
    filled = [np.concatenate([np.zeros(pad, bool), np.ones(len(part), bool)]) for part, _ in parts]
    on = np.concatenate([np.concatenate([np.zeros(pad), label]) for _, label in parts])
    source = np.concatenate([np.full(len(part), i, np.int64) for i, part in enumerate(filled)])
    grid = Grid(
        stream=msgspec.structs.replace(stream, min_periods=1),
        values=np.concatenate(values).astype(np.float32),
        ts=np.concatenate([np.arange(len(part), dtype=np.float64) for part in filled]),
        entity=np.zeros(len(on), np.int64),
        entities=("reference",),
        filled=np.concatenate(filled),
        source=source,
        columns={},
    )
    quiet = grid.filled & (on == 0)
    data = Labelled(grid, grid.filled.copy(), quiet, number_events(on, source), source)
    return Runs(data, np.where(on > 0, UNKNOWN, -1), np.full(len(on), "", object), ("a", "b", "c", "test"))
