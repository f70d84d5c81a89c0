"""Incident model of the node stream: gradient-boosted trees over the 123 features.

The trees are trained by XGBoost (Chen and Guestrin 2016) on features that ONNX Runtime computes from the
graph that will serve them, then copied into that graph. Probability is the logistic of their sum; the score
is the sum itself, shifted and scaled so that 0 is a typical normal window and 1 the threshold.
"""

import json
from dataclasses import replace
from typing import Any, Final

import numpy as np
import xgboost
from numpy.typing import NDArray

from dwcp_stream.streams import StreamDefinition
from dwcp_stream.training.calibration import Calibration, calibrate
from dwcp_stream.training.ensemble import ML_OPSETS, Tree, add_ensemble, exact
from dwcp_stream.training.features import FIELDS, WINDOW, FeatureGraph, add_features
from dwcp_stream.training.graph import Graph, to_bytes
from dwcp_stream.training.job import Candidate, Job, Parameter, Space
from dwcp_stream.training.node_data import NodeData, Part, load_node_data, thinned, typical_values
from dwcp_stream.training.node_graph import add_contribution, add_expected, add_inputs
from dwcp_stream.training.node_report import STEP, node_candidate

SPACE: Final[Space] = {
    "max_depth": Parameter(5, 3, 9, whole=True),
    "eta": Parameter(0.1, 0.02, 0.3, log=True),
    "min_child_weight": Parameter(20.0, 1.0, 100.0, log=True),
    "subsample": Parameter(0.8, 0.5, 1.0),
    "colsample_bytree": Parameter(0.5, 0.2, 1.0),
    "lambda": Parameter(2.0, 0.1, 30.0, log=True),
}
ROUNDS: Final = 220
NORMAL_ROWS: Final = 300_000
SMALL: Final = 100_000  # training rows up to which one thread is as fast
PARAMETERS: Final[dict[str, Any]] = {
    "objective": "binary:logistic",
    "base_score": 0.5,  # so that the sum of the leaves is the whole margin
    "tree_method": "hist",
    "eval_metric": "logloss",
}
BUDGET: Final = 0.1  # false alarms per node and day on validation rows


def train_incident(job: Job) -> Candidate:
    """Train, convert and judge `node-gbt`.

    Raises
    ------
    PayloadError
        If the files cannot be read or do not suffice to split by entity and time.
    """
    job.progress(0.0, "reading")
    data = load_node_data(job)
    booster, loss = fit(data, job)
    trees = exact(from_xgboost(booster))
    typical = typical_values(data.train)
    job.progress(0.75, "choosing the threshold")
    raw = margin_model(job.stream, trees)
    margins = data.valid.run(raw, ["margin"])[0].astype(np.float64)
    calibration = calibrate(data.valid.rows, margins, step=STEP, budget=BUDGET)
    model = incident_model(job.stream, trees, calibration, typical)
    job.progress(0.85, "judging")
    scores, probability = data.test.run(model, ["score", "probability"])
    candidate = node_candidate(
        job,
        data,
        title="Node incidents: gradient-boosted trees",
        about=_about(trees, data, job),
        test=scores,
        calibration=calibration,
        budget=BUDGET,
        model=model,
        explain=explain_model(job.stream, trees, calibration, typical),
        extra={
            "trees": len(trees),
            "brier": float(np.mean((probability - data.test.label) ** 2)),
            "brier_of_the_base_rate": float(data.test.label.mean() * (1 - data.test.label.mean())),
        },
    )
    return replace(candidate, validation=loss)


def fit(data: NodeData, job: Job) -> tuple[xgboost.Booster, float]:
    """Train on all labelled and a sample of the other rows, stop when validation loss stops falling; and that loss."""
    features = FeatureGraph(job.stream)
    # by the size of the data, not of the machine, so that a run repeats; small data loses more than it wins
    threads = 2 if len(data.train.ends) > SMALL else 1

    def matrix(part: Part, most: int, reference: Any = None) -> Any:
        rows, weight = thinned(part, most, job.seed)
        x = np.concatenate([features(part.windows(some)) for some in np.array_split(rows, len(rows) // 20_000 + 1)])
        return xgboost.QuantileDMatrix(x, label=part.label[rows], weight=weight, ref=reference, nthread=threads)

    job.progress(0.1, "computing features")
    train = matrix(data.train, NORMAL_ROWS)
    valid = matrix(data.valid, NORMAL_ROWS // 3, train)
    rounds = job.epochs or ROUNDS

    class Progress(xgboost.callback.TrainingCallback):
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002
            job.progress(0.25 + 0.5 * (epoch + 1) / rounds, "boosting")
            return False

    booster = xgboost.train(
        {**PARAMETERS, **{name: job.told(SPACE, name) for name in SPACE}, "seed": job.seed, "nthread": threads},
        train,
        rounds,
        evals=[(valid, "valid")],
        early_stopping_rounds=25,
        verbose_eval=False,
        callbacks=[Progress()],
    )
    return booster[: booster.best_iteration + 1], float(booster.best_score)


def from_xgboost(booster: Any) -> list[Tree]:
    """Copy the trees of a booster (numerical splits only, `value < threshold`)."""
    learner = json.loads(bytes(booster.save_raw(raw_format="json")))["learner"]
    trees = []
    for dump in learner["gradient_booster"]["model"]["trees"]:
        left = np.array(dump["left_children"], np.int64)
        leaf = left < 0
        values = np.array(dump["split_conditions"], np.float32)  # holds the value of a leaf too
        trees.append(
            Tree(
                feature=np.where(leaf, -1, np.array(dump["split_indices"], np.int64)),
                threshold=np.where(leaf, np.float32(0), values),
                left=left,
                right=np.array(dump["right_children"], np.int64),
                missing_left=np.array(dump["default_left"], bool),
                leaf=np.where(leaf, values.astype(np.float64), 0.0),
            )
        )
    return trees


def margin_model(stream: StreamDefinition, trees: list[Tree]) -> bytes:
    """Graph from the window to the sum of the leaves, `margin` [B]."""
    g = Graph("node-gbt-margin")
    margin = add_ensemble(g, "trees", trees, add_features(g, add_inputs(g), stream))
    g.output(g.op("Squeeze", margin, g.ints(1)), "margin", np.float32, ["batch"])
    return to_bytes(g.model(opsets=ML_OPSETS))


def incident_model(
    stream: StreamDefinition, trees: list[Tree], calibration: Calibration, typical: NDArray[np.float32]
) -> bytes:
    """Graph from the window to `score`, `probability` [B] and `expected` [B, 12]."""
    g = Graph("node-gbt")
    window = add_inputs(g)
    margin = g.op("Squeeze", add_ensemble(g, "trees", trees, add_features(g, window, stream)), g.ints(1))
    g.output(calibration.add_score(g, margin), "score", np.float32, ["batch"])
    g.output(g.op("Sigmoid", margin), "probability", np.float32, ["batch"])
    g.output(add_expected(g, window, stream, typical), "expected", np.float32, ["batch", len(FIELDS)])
    return to_bytes(g.model(opsets=ML_OPSETS))


def explain_model(
    stream: StreamDefinition, trees: list[Tree], calibration: Calibration, typical: NDArray[np.float32]
) -> bytes:
    """Graph from the window to `contribution` [B, 12], in units of the score."""
    g = Graph("node-gbt-explain")
    window = add_inputs(g)
    contribution = add_contribution(
        g,
        window,
        add_expected(g, window, stream, typical),
        lambda graph, x: add_ensemble(graph, "trees", trees, add_features(graph, x, stream)),
        unit=calibration.unit,
    )
    g.output(contribution, "contribution", np.float32, ["batch", len(FIELDS)])
    return to_bytes(g.model(opsets=ML_OPSETS))


def _about(trees: list[Tree], data: NodeData, job: Job) -> str:
    return (
        f"{len(trees)} trees of depth {job.told(SPACE, 'max_depth'):g} on the 123 features of windows of {WINDOW} "
        f"rows, trained on all {int(data.train.label.sum())} labelled and up to {NORMAL_ROWS} other rows "
        f"(weighted back), stopped by the loss of the validation part. Seed {job.seed}. `probability` is "
        "the logistic of the trees' sum; `score` is the same sum, 0 at the median of normal validation rows "
        "and 1 at the threshold."
    )
