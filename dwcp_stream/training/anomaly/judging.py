"""Judge a model on rows that it was not fitted to, beside the simple rules."""

from dataclasses import dataclass

import numpy as np

from dwcp_stream.training.anomaly.baselines import ewma_z, pca_mean
from dwcp_stream.training.anomaly.memory import Ints
from dwcp_stream.training.anomaly.model import state_size
from dwcp_stream.training.anomaly.recipe import Recipe
from dwcp_stream.training.anomaly.ridge import Floats
from dwcp_stream.training.anomaly.tail import RATE
from dwcp_stream.training.dataset import Grid
from dwcp_stream.training.labels import abnormal
from dwcp_stream.training.metrics import Detection, count_runs, detection, number_events
from dwcp_stream.training.rules import EWMA_LIMIT
from dwcp_stream.training.sequence import run_sequence
from dwcp_stream.training.vus import vus_pr

MAX_TEST_ROWS = 40_000
MERGE = 10


@dataclass(frozen=True)
class Judgement:
    """Results on test rows.

    Attributes
    ----------
    rows
        Rows judged.
    over, runs
        Per detector: share of test rows over the threshold, and runs of them.
    labelled
        Share of labelled rows; None without labels.
    detections, vus
        Per detector against the labels; empty without labels, or if no test row is labelled.
    ts, scores, label
        [N] of the first judged entity, for the plot.
    """

    rows: int
    over: dict[str, float]
    runs: dict[str, int]
    labelled: float | None
    detections: dict[str, Detection]
    vus: dict[str, float]
    ts: Floats
    scores: Floats
    label: Floats


def judge(grid: Grid, fitted: Ints, test: Ints, recipe: Recipe, model: bytes, label: str | None) -> Judgement:
    """Score test rows with a model fitted to others and with the simple rules.

    Parameters
    ----------
    grid, fitted, test
        All rows, those that the model was fitted to, and those to judge on (the newest of each entity, if many).
    recipe, model
        The fitted model.
    label
        Column that says whether a row is abnormal.
    """
    test = _newest(grid, test)
    entity = grid.entity[test]
    z, train = recipe.channels.apply(grid.values[test]), recipe.channels.apply(grid.values[fitted])
    pca_train = pca_mean(train, train, grid.entity[fitted])
    scores: dict[str, Floats] = {
        "model": run_sequence(model, grid, test, ["score"], state=state_size(z.shape[1]))["score"].astype(np.float64),
        f"EWMA z over {EWMA_LIMIT:.0f}": ewma_z(z, entity) / EWMA_LIMIT,
        "PCA, mean of 5 rows": pca_mean(train, z, entity) / max(float(np.quantile(pca_train, 1 - RATE)), 1e-12),
    }
    marks = grid.columns.get(label or "", np.zeros(0))
    known = len(marks) > 0
    on = abnormal(marks[test]) if known else np.zeros(len(test), bool)
    group = entity.astype(np.int64)
    detections, vus = {}, {}
    if on.any():
        event = number_events(on.astype(np.float64), group)
        for name, score in scores.items():
            detections[name] = detection(score, grid.ts[test], event, ~on, step=_step(grid), merge=MERGE, group=group)
            parts = [vus_pr(on[entity == e], score[entity == e]) for e in np.unique(entity) if on[entity == e].any()]
            vus[name] = float(np.mean(parts))
    first = entity == entity[0]
    return Judgement(
        rows=len(test),
        over={name: float((score > 1.0).mean()) for name, score in scores.items()},
        runs={name: count_runs(np.flatnonzero(score > 1.0), MERGE, group) for name, score in scores.items()},
        labelled=float(on.mean()) if known else None,
        detections=detections,
        vus=vus,
        ts=grid.ts[test][first],
        scores=scores["model"][first],
        label=on[first].astype(np.float64),
    )


def _newest(grid: Grid, test: Ints) -> Ints:
    entity = grid.entity[test]
    names = np.unique(entity)
    share = max(MAX_TEST_ROWS // len(names), 1)
    return np.concatenate([test[entity == e][-share:] for e in names])


def _step(grid: Grid) -> float:
    step = grid.stream.step
    return float(np.median(np.diff(np.unique(grid.ts)))) if isinstance(step, str) else float(step)
