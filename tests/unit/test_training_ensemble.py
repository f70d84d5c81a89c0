"""Trees as arrays and as an ONNX node: the same decisions and sums as the library, whatever the batch."""

import numpy as np
import onnxruntime as ort
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import IsolationForest

from dwcp_stream.training.ensemble import ML_OPSETS, Tree, add_ensemble, evaluate, exact, strict_threshold
from dwcp_stream.training.forest import from_forest, mean_path, path_scale
from dwcp_stream.training.graph import Graph, to_bytes
from dwcp_stream.training.trees import from_xgboost

FEATURES = 6


def run(trees: list[Tree], x: np.ndarray, threads: int = 1) -> np.ndarray:
    g = Graph("ensemble")
    rows = g.input("x", np.float32, ["batch", FEATURES])
    g.output(add_ensemble(g, "trees", trees, rows), "sum", np.float32, ["batch", 1])
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(to_bytes(g.model(opsets=ML_OPSETS)), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x.astype(np.float32)})[0][:, 0]


def rows(seed: int, n: int = 400) -> np.ndarray:
    """Values on a coarse lattice, so that many lie exactly on a split, some of them missing."""
    rng = np.random.default_rng(seed)
    x = np.round(rng.gamma(2.0, 1.0, (n, FEATURES)), 1).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = np.nan
    return x


@pytest.fixture(scope="module")
def booster() -> xgboost.Booster:
    x = rows(0)
    y = (np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 1]) ** 2 > 5).astype(float)
    parameters = {
        "objective": "binary:logistic",
        "base_score": 0.5,
        "max_depth": 4,
        "eta": 0.3,
        "seed": 1,
        "nthread": 1,
    }
    return xgboost.train(parameters, xgboost.DMatrix(x, label=y), 60)


@pytest.fixture(scope="module")
def forest() -> IsolationForest:
    return IsolationForest(n_estimators=40, max_samples=128, max_features=0.75, random_state=1).fit(
        np.nan_to_num(rows(0))
    )


@given(
    limit=st.floats(-1e6, 1e6) | st.integers(-50, 50).map(lambda i: i / 10) | st.floats(-1e6, 1e6, width=32),
    other=st.floats(-1e6, 1e6, width=32),
)
@settings(max_examples=200, deadline=None)
def test_strict_threshold_decides_alike(limit: float, other: float) -> None:
    threshold = strict_threshold(np.array([limit]))[0]
    near = np.float32(limit)
    for x in (
        np.float32(other),
        near,
        np.nextafter(near, np.float32(np.inf)),
        np.nextafter(near, np.float32(-np.inf)),
    ):
        assert (x < threshold) == (float(x) <= limit)


def test_xgboost_parity(booster: xgboost.Booster) -> None:
    x = rows(1)
    margin = booster.predict(xgboost.DMatrix(x), output_margin=True)
    got = run(exact(from_xgboost(booster)), x)
    np.testing.assert_allclose(got, margin, atol=1e-5)
    probability = 1 / (1 + np.exp(-got.astype(np.float64)))
    np.testing.assert_allclose(probability, booster.predict(xgboost.DMatrix(x)), atol=1e-5)
    assert np.ptp(margin) > 1.0


def test_isolation_forest_parity(forest: IsolationForest) -> None:
    x = np.nan_to_num(rows(2))
    path = run(exact(from_forest(forest)), x)
    np.testing.assert_allclose(2.0 ** (-path / path_scale(forest)), -forest.score_samples(x), atol=1e-5)


def test_mean_path_is_that_of_the_paper() -> None:
    # c(n) = 2 H(n - 1) - 2 (n - 1) / n, the harmonic number approximated by ln(n - 1) + 0.5772156649
    np.testing.assert_allclose(mean_path(np.array([1.0, 2.0, 256.0])), [0.0, 1.0, 10.244770920], atol=1e-8)


@pytest.mark.parametrize("kind", ["booster", "forest"])
def test_graph_equals_the_plain_definition_to_the_bit(request: pytest.FixtureRequest, kind: str) -> None:
    model = request.getfixturevalue(kind)
    trees = exact(from_xgboost(model) if kind == "booster" else from_forest(model))
    x = rows(3) if kind == "booster" else np.nan_to_num(rows(3))
    expected = evaluate(trees, x)
    np.testing.assert_array_equal(expected.astype(np.float32).astype(np.float64), expected)
    for threads in (1, 2):
        np.testing.assert_array_equal(run(trees, x, threads), expected)
        for batch in (1, 2, 7, 64):
            parts = [run(trees, x[i : i + batch], threads) for i in range(0, 2 * batch, batch)]
            np.testing.assert_array_equal(np.concatenate(parts), expected[: 2 * batch])


def test_exact_moves_leaves_by_less_than_it_says(booster: xgboost.Booster) -> None:
    before = from_xgboost(booster)
    after = exact(before)
    quantum = 2.0 ** (np.ceil(np.log2(sum(tree.bound() for tree in before))) - 24)
    assert max(np.abs(a.leaf - b.leaf).max() for a, b in zip(before, after, strict=True)) <= quantum / 2
    leaves = np.concatenate([tree.leaf for tree in after])
    np.testing.assert_array_equal(leaves / quantum, np.round(leaves / quantum))


def test_missing_values_go_where_the_tree_says() -> None:
    def stump(missing_left: bool) -> Tree:
        return Tree(
            feature=np.array([2, -1, -1]),
            threshold=np.array([1.0, 0.0, 0.0], np.float32),
            left=np.array([1, -1, -1]),
            right=np.array([2, -1, -1]),
            missing_left=np.array([missing_left, False, False]),
            leaf=np.array([0.0, 3.0, 5.0]),
        )

    x = np.zeros((3, FEATURES), np.float32)
    x[:, 2] = [0.5, 1.0, np.nan]
    assert run([stump(True)], x).tolist() == evaluate([stump(True)], x).tolist() == [3.0, 5.0, 3.0]
    assert run([stump(False)], x).tolist() == evaluate([stump(False)], x).tolist() == [3.0, 5.0, 5.0]
