"""The graph builder: what it builds computes what it says, and the same graph gives the same bytes."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from dwcp_stream.training.graph import Graph, initializers, set_metadata, to_bytes


def run(g: Graph, **inputs: np.ndarray) -> list[np.ndarray]:
    return ort.InferenceSession(to_bytes(g.model())).run(None, inputs)


def test_short_hands_compute_what_they_say() -> None:
    g = Graph("demo")
    x = g.input("x", np.float32, ["batch", 3])
    masked = g.where(g.is_nan(x), g.const(0.0), x)
    g.output(g.clip(g.add(masked, masked), None, 5.0), "twice", np.float32, ["batch", 3])
    g.output(g.reduce("ReduceSum", masked, [1], keep=False), "sum", np.float32, ["batch"])
    g.output(g.slice(x, 1, -2), "tail", np.float32, ["batch", 2])
    g.output(g.take(x, 1, [2, 0]), "picked", np.float32, ["batch", 2])
    g.output(g.concat([g.take(x, 1, [1]), g.cast(g.is_nan(x), np.float32)]), "joined", np.float32, ["batch", 4])
    twice, total, tail, picked, joined = run(g, x=np.array([[1, np.nan, 3]], np.float32))
    assert twice.tolist() == [[2.0, 0.0, 5.0]]
    assert total.tolist() == [4.0]
    np.testing.assert_array_equal(tail, np.array([[np.nan, 3]], np.float32))
    assert picked.tolist() == [[3.0, 1.0]]
    np.testing.assert_array_equal(joined, np.array([[np.nan, 0, 1, 0]], np.float32))


def test_equal_constants_are_stored_once_and_different_ones_apart() -> None:
    g = Graph("constants")
    assert g.const(2.0) == g.const(2.0)
    assert g.const([2.0]) != g.const(2.0)
    assert g.const(2, np.int64) != g.const(2.0)
    assert g.const(-0.0) != g.const(0.0)
    assert g.const(np.nan) == g.const(np.nan)
    named = g.const(2.0, name="two")
    assert named == "two"
    x = g.input("x", np.float32, [1])
    g.output(g.mul(x, named), "y", np.float32, [1])
    assert initializers(g.model())["two"] == np.float32(2.0)


def test_a_name_is_given_once() -> None:
    g = Graph("twice")
    x = g.input("x", np.float32, [1])
    g.op("Identity", x, name="y")
    with pytest.raises(ValueError, match="two values named 'y'"):
        g.output(x, "y", np.float32, [1])


def test_a_node_that_does_not_fit_is_refused() -> None:
    g = Graph("wrong")
    x = g.input("x", np.float32, ["batch", 3])
    g.output(g.op("MatMul", x, g.const(np.ones((4, 2)))), "y", np.float32, ["batch", 2])
    with pytest.raises(onnx.shape_inference.InferenceError, match=r"[Ii]ncompatible dimensions"):
        g.model()


def test_metadata_has_the_prefix_and_replaces_only_its_own() -> None:
    g = Graph("meta")
    g.output(g.input("x", np.float32, [1]), "y", np.float32, [1])
    model = g.model({"task": "anomaly", "stream": "demo"})
    model.metadata_props.add(key="other", value="kept")
    set_metadata(model, {"task": "forecast"})
    assert {p.key: p.value for p in model.metadata_props} == {"other": "kept", "dwcp.task": "forecast"}


def test_the_same_graph_gives_the_same_bytes() -> None:
    def build() -> bytes:
        g = Graph("same")
        x = g.input("x", np.float32, ["batch", 2])
        g.output(g.op("MatMul", x, g.const(np.eye(2))), "y", np.float32, ["batch", 2])
        return to_bytes(g.model({"b": "2", "a": "1"}))

    assert build() == build()


def test_functions_and_row_sums_do_not_depend_on_the_batch() -> None:
    g = Graph("bits")
    x = g.input("x", np.float32, ["batch", 3, 3])
    for name in ("Log", "Exp", "Tanh", "Sin", "Cos", "Softplus"):
        g.output(g.smooth(name, x, 3, 3), name, np.float32, ["batch", 3, 3])
    g.output(g.row_sum(g.take(x, 1, 0), 3), "sum", np.float32, ["batch"])
    session = ort.InferenceSession(to_bytes(g.model()))
    values = np.random.default_rng(0).gamma(2.0, 1.0, (65, 3, 3)).astype(np.float32)
    whole = session.run(None, {"x": values})
    np.testing.assert_allclose(whole[0], np.log(values), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(whole[6], values[:, 0].sum(axis=1), rtol=1e-6)
    for part in (slice(0, 1), slice(3, 10), slice(1, 65)):
        for one, all_of_it in zip(session.run(None, {"x": values[part]}), whole, strict=True):
            assert one.tobytes() == all_of_it[part].tobytes()
