"""Anomaly model of the node stream: an Isolation Forest over the 123 features.

Isolation Forest (Liu, Ting and Zhou 2008) needs no labels: rows that random cuts separate early are unusual.
Its score is s = 2 ** (-E[h] / c(n)), with h the path length in a tree (its depth plus c of the leaf's size)
and c(n) = 2 H(n - 1) - 2 (n - 1) / n the mean path length of an unsuccessful search among n points. Labels
are used only to choose the threshold in normal time, and to judge.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from dwcp_stream.streams import StreamDefinition
from dwcp_stream.training.calibration import Calibration, calibrate
from dwcp_stream.training.ensemble import ML_OPSETS, Tree, add_ensemble, exact, strict_threshold
from dwcp_stream.training.features import FIELDS, WINDOW, FeatureGraph, add_features
from dwcp_stream.training.graph import Graph, to_bytes
from dwcp_stream.training.job import Candidate, Job
from dwcp_stream.training.node_data import NodeData, load_node_data, typical_values
from dwcp_stream.training.node_graph import add_contribution, add_expected, add_inputs
from dwcp_stream.training.node_report import STEP, node_candidate

TREES: Final = 100
SAMPLES: Final = 256
ROWS: Final = 60_000
BUDGET: Final = 0.1  # false alarms per node and day on validation rows


def train_forest(job: Job) -> Candidate:
    """Train, convert and judge `node-iforest`.

    Raises
    ------
    PayloadError
        If the files cannot be read or do not suffice to split by entity and time.
    """
    job.progress(0.0, "reading")
    data = load_node_data(job)
    job.progress(0.2, "computing features")
    picked = np.random.default_rng(job.seed).choice(
        len(data.train.ends), min(ROWS, len(data.train.ends)), replace=False
    )
    x = FeatureGraph(job.stream)(data.train.windows(np.sort(picked)))
    middle = np.nan_to_num(np.nanmedian(x, axis=0)).astype(np.float32)
    job.progress(0.4, "growing the forest")
    forest = fit(np.where(np.isnan(x), middle, x), job.seed, job.epochs or TREES)
    trees, scale = exact(from_forest(forest)), path_scale(forest)
    typical = typical_values(data.train)
    job.progress(0.6, "choosing the threshold")
    raw = data.valid.run(isolation_model(job.stream, trees, scale, middle), ["isolation"])[0]
    calibration = calibrate(data.valid.rows, raw, step=STEP, budget=BUDGET)
    model = anomaly_model(job.stream, trees, scale, middle, calibration=calibration, typical=typical)
    job.progress(0.8, "judging")
    return node_candidate(
        job,
        data,
        title="Node anomalies: Isolation Forest",
        about=_about(trees, len(x), job, data),
        test=data.test.run(model, ["score"])[0],
        calibration=calibration,
        budget=BUDGET,
        model=model,
        explain=explain_model(job.stream, trees, scale, middle, calibration=calibration, typical=typical),
        supervised=False,
        extra={"trees": len(trees)},
    )


def fit(x: NDArray[np.float32], seed: int, trees: int = TREES) -> IsolationForest:
    """Grow the forest on features [N, 123] without missing values, incidents included."""
    samples = min(SAMPLES, len(x))
    return IsolationForest(n_estimators=trees, max_samples=samples, random_state=seed, n_jobs=1).fit(x)


def mean_path(n: NDArray[np.float64]) -> NDArray[np.float64]:
    """c(n): mean path length of an unsuccessful search in a binary tree of n points; 0 for one, 1 for two."""
    n = np.asarray(n, np.float64)
    many = np.maximum(n, 3.0)
    value = 2.0 * (np.log(many - 1.0) + np.euler_gamma) - 2.0 * (many - 1.0) / many
    return np.where(n > 2, value, np.where(n == 2, 1.0, 0.0))


def path_scale(forest: IsolationForest) -> float:
    """Return the summed path length whose score is 1/2: number of trees times c(samples)."""
    return float(len(forest.estimators_) * mean_path(np.array(forest.max_samples_)))


def from_forest(forest: Any) -> list[Tree]:
    """Copy the trees: each leaf holds the path length of the rows that end in it."""
    trees = []
    for estimator, columns in zip(forest.estimators_, forest.estimators_features_, strict=True):
        inner = estimator.tree_
        leaf = inner.children_left < 0
        depth = np.zeros(inner.node_count)
        for node in np.flatnonzero(~leaf):  # a parent's number is below its children's
            depth[[inner.children_left[node], inner.children_right[node]]] = depth[node] + 1.0
        trees.append(
            Tree(
                feature=np.where(leaf, -1, columns[np.maximum(inner.feature, 0)]).astype(np.int64),
                threshold=np.where(leaf, np.float32(0), strict_threshold(inner.threshold)),
                left=inner.children_left.astype(np.int64),
                right=inner.children_right.astype(np.int64),
                missing_left=np.zeros(inner.node_count, bool),  # the graph fills missing values before
                leaf=np.where(leaf, depth + mean_path(inner.n_node_samples.astype(np.float64)), 0.0),
            )
        )
    return trees


def add_isolation(
    g: Graph,
    window: str,
    stream: StreamDefinition,
    *,
    trees: list[Tree],
    scale: float,
    middle: NDArray[np.float32],
) -> str:
    """Add features, filled with their training medians, forest and original score: [B, 1] in 0..1."""
    features = add_features(g, window, stream)
    filled = g.where(g.is_nan(features), g.const(middle), features)
    path = g.div(add_ensemble(g, "trees", trees, filled), g.const(scale))
    return g.op("Pow", g.const(2.0), g.op("Neg", path))


def isolation_model(stream: StreamDefinition, trees: list[Tree], scale: float, middle: NDArray[np.float32]) -> bytes:
    """Graph from the window to the original score, `isolation` [B]."""
    g = Graph("node-iforest-isolation")
    isolation = add_isolation(g, add_inputs(g), stream, trees=trees, scale=scale, middle=middle)
    g.output(g.op("Squeeze", isolation, g.ints(1)), "isolation", np.float32, ["batch"])
    return to_bytes(g.model(opsets=ML_OPSETS))


def anomaly_model(
    stream: StreamDefinition,
    trees: list[Tree],
    scale: float,
    middle: NDArray[np.float32],
    *,
    calibration: Calibration,
    typical: NDArray[np.float32],
) -> bytes:
    """Graph from the window to `score` [B] and `expected` [B, 12]."""
    g = Graph("node-iforest")
    window = add_inputs(g)
    isolation = add_isolation(g, window, stream, trees=trees, scale=scale, middle=middle)
    g.output(calibration.add_score(g, g.op("Squeeze", isolation, g.ints(1))), "score", np.float32, ["batch"])
    g.output(add_expected(g, window, stream, typical), "expected", np.float32, ["batch", len(FIELDS)])
    return to_bytes(g.model(opsets=ML_OPSETS))


def explain_model(
    stream: StreamDefinition,
    trees: list[Tree],
    scale: float,
    middle: NDArray[np.float32],
    *,
    calibration: Calibration,
    typical: NDArray[np.float32],
) -> bytes:
    """Graph from the window to `contribution` [B, 12], in units of the score."""
    g = Graph("node-iforest-explain")
    window = add_inputs(g)
    contribution = add_contribution(
        g,
        window,
        add_expected(g, window, stream, typical),
        lambda graph, x: add_isolation(graph, x, stream, trees=trees, scale=scale, middle=middle),
        unit=calibration.unit,
    )
    g.output(contribution, "contribution", np.float32, ["batch", len(FIELDS)])
    return to_bytes(g.model(opsets=ML_OPSETS))


def _about(trees: list[Tree], rows: int, job: Job, data: NodeData) -> str:
    return (
        f"{len(trees)} trees of {SAMPLES} rows each, drawn from {rows} training rows with their incidents "
        f"left in ({data.train.label.mean():.2%} labelled), on the 123 features of windows of {WINDOW} rows. "
        f"Seed {job.seed}. `score` is the forest's original score, 0 at its median in normal validation rows "
        "and 1 at the threshold. It knows no labels: hard negatives are as unusual to it as incidents."
    )
