"""What makes a version be refused, each with its own reason."""

import hashlib
import io
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from dwcp_stream.errors import ModelError
from dwcp_stream.registry import ModelRepository, files, golden
from tests.model_graphs import (
    FIELDS,
    NAMES,
    ROWS,
    Tiny,
    anomaly,
    binding,
    forecast,
    make_files,
    make_manifest,
    make_proto,
    make_stream,
    metadata,
    write_version,
)


def refusal(root: Path, name: str = "tiny-anomaly") -> ModelError:
    """Load the one version there is, which must fail, and say that it is refused elsewhere too."""
    repository = ModelRepository(root)
    with pytest.raises(ModelError) as caught:
        repository.load(name, 1)
    error = caught.value
    assert error.what
    assert error.where.startswith(str(root))
    assert error.remedy
    verification = repository.verify(name, 1)
    assert not verification.ok
    assert verification.error is not None
    assert verification.error.what == error.what
    return error


def with_graph(root: Path, proto: onnx.ModelProto, name: str = "anomaly", **changes: Any) -> ModelError:
    """Refusal of a version whose model.onnx is another graph, with goldens of the right one."""
    manifest = make_manifest(name, **changes)
    contents = {**make_files(name), "model.onnx": proto.SerializeToString()}
    write_version(root, contents, manifest)
    return refusal(root, f"tiny-{name}")


def with_golden(root: Path, change: Callable[[dict[str, Any]], None]) -> ModelError:
    contents = make_files("anomaly")
    with np.load(io.BytesIO(contents["golden.npz"])) as found:
        arrays = {name: found[name] for name in found.files}
    change(arrays)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_version(root, {**contents, "golden.npz": buffer.getvalue()}, make_manifest("anomaly"))
    return refusal(root)


@pytest.mark.parametrize("name", NAMES)
def test_a_version_written_by_hand_with_everything_right_is_accepted(tmp_path: Path, name: str) -> None:
    write_version(tmp_path, make_files(name), make_manifest(name))
    result = ModelRepository(tmp_path).verify(f"tiny-{name}", 1, make_stream())
    assert result.error is None
    assert result.ok
    assert result.golden_difference is not None
    assert result.golden_difference < 1e-6


# --- files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["model.onnx", "golden.npz", "report.md", "manifest.json"])
def test_a_missing_file(tmp_path: Path, missing: str) -> None:
    folder = write_version(tmp_path, make_files("anomaly"), make_manifest("anomaly"))
    (folder / missing).unlink()
    assert missing in refusal(tmp_path).what


@pytest.mark.parametrize("required", ["model.onnx", "golden.npz"])
def test_a_required_file_that_the_manifest_does_not_know_of(tmp_path: Path, required: str) -> None:
    contents = make_files("anomaly")
    del contents[required]
    write_version(tmp_path, contents, make_manifest("anomaly"))
    assert required in refusal(tmp_path).what


@pytest.mark.parametrize("extra", ["explain.onnx", "plot.png"])
def test_a_file_that_is_not_in_the_manifest(tmp_path: Path, extra: str) -> None:
    contents = make_files("anomaly", explained=False)
    folder = write_version(tmp_path, contents, make_manifest("anomaly"))
    (folder / extra).write_bytes(b"anything")
    assert "not in the manifest" in refusal(tmp_path).what


@pytest.mark.parametrize("name", ["setup.py", "model.onnx.data", "weights.bin", ".hidden.png", "x.pkl"])
def test_a_file_that_does_not_belong_there(tmp_path: Path, name: str) -> None:
    contents = {**make_files("anomaly"), name: b"anything"}
    write_version(tmp_path, contents, make_manifest("anomaly"))
    assert "does not belong" in refusal(tmp_path).what


def test_a_link_to_a_file_elsewhere(tmp_path: Path) -> None:
    folder = write_version(tmp_path / "root", make_files("anomaly"), make_manifest("anomaly"))
    (folder / "report.md").rename(tmp_path / "elsewhere.md")
    (folder / "report.md").symlink_to(tmp_path / "elsewhere.md")
    assert "plain file" in refusal(tmp_path / "root").what


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_something_that_is_no_file(tmp_path: Path, make: Callable[[Path], object]) -> None:
    folder = write_version(tmp_path, make_files("anomaly"), make_manifest("anomaly"))
    make(folder / "plot.png")
    assert "plain file" in refusal(tmp_path).what


@pytest.mark.parametrize("changed", ["model.onnx", "explain.onnx", "golden.npz", "report.md"])
def test_a_file_with_one_bit_changed(tmp_path: Path, changed: str) -> None:
    folder = write_version(tmp_path, make_files("anomaly"), make_manifest("anomaly"))
    data = bytearray((folder / changed).read_bytes())
    data[-1] ^= 1
    (folder / changed).write_bytes(data)
    error = refusal(tmp_path)
    assert "SHA-256" in error.what
    assert error.where.endswith(changed)


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_version(tmp_path, make_files("anomaly", report=b"x" * 1000), make_manifest("anomaly"))
    assert ModelRepository(tmp_path).verify("tiny-anomaly", 1).ok
    monkeypatch.setitem(files.LIMITS, ".md", 999)
    error = refusal(tmp_path)
    assert "larger than 999 bytes" in error.what
    assert error.where.endswith("report.md")


# --- manifest -------------------------------------------------------------------------------------------


def with_manifest(root: Path, **changes: Any) -> ModelError:
    write_version(root, make_files("anomaly"), make_manifest("anomaly", **changes))
    return refusal(root)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("window", "six"),
        ("window", 0),
        ("window", 6.5),
        ("version", "1"),
        ("task", "magic"),
        ("fields", []),
        ("fields", [{"name": "latency"}]),
        ("severity", [1, 2]),
        ("severity", [1, 3, 2]),
        ("severity", [0.5, 2, 3]),
        ("schema_hash", "abc"),
        ("horizons", [1]),
        ("targets", ["latency"]),
        ("state_size", -1),
        ("metrics", 0.9),
        ("seed", None),
        ("reference", {"latency": {"edges": [1.0]}}),
        ("reference", {"latency": {"edges": [2.0, 1.0], "share": [0.5, 0.25, 0.25]}}),
        ("reference", {"latency": {"edges": [1.0], "share": [0.5, 0.25]}}),
        ("reference", {"other": {"edges": [1.0], "share": [0.5, 0.5]}}),
        ("surprise", 1),
    ],
)
def test_a_manifest_with_a_wrong_value_names_the_key(tmp_path: Path, key: str, value: object) -> None:
    error = with_manifest(tmp_path, **{key: value})
    assert key in error.what
    assert error.where.rpartition("/")[2] in {"manifest.json", ""}


def test_a_manifest_without_a_key(tmp_path: Path) -> None:
    folder = write_version(tmp_path, make_files("anomaly"), make_manifest("anomaly"))
    plain = json.loads((folder / "manifest.json").read_text())
    del plain["licence"]
    (folder / "manifest.json").write_text(json.dumps(plain))
    assert "licence" in refusal(tmp_path).what


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[]"])
def test_a_manifest_that_is_no_json_object(tmp_path: Path, data: bytes) -> None:
    folder = write_version(tmp_path, make_files("anomaly"), make_manifest("anomaly"))
    (folder / "manifest.json").write_bytes(data)
    assert "manifest is wrong" in refusal(tmp_path).what


def test_a_version_that_was_copied_or_renamed(tmp_path: Path) -> None:
    folder = write_version(tmp_path, make_files("anomaly"), make_manifest("anomaly"))
    folder.rename(folder.with_name("2"))
    with pytest.raises(ModelError, match="tiny-anomaly version 1, not of tiny-anomaly version 2"):
        ModelRepository(tmp_path).load("tiny-anomaly", 2)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trained_at", "2025-01-01T00:00:00Z"),
        ("metrics", {"f1": 0.99}),
        ("schema_hash", "0" * 64),
        ("stream", "other"),
    ],
)
@pytest.mark.parametrize("file", ["model.onnx", "explain.onnx"])
def test_metadata_that_does_not_agree_with_the_manifest(tmp_path: Path, file: str, key: str, value: object) -> None:
    contents = make_files("anomaly")
    proto = make_proto("anomaly" if file == "model.onnx" else "explain", make_manifest("anomaly", **{key: value}))
    write_version(tmp_path, {**contents, file: proto.SerializeToString()}, make_manifest("anomaly"))
    error = refusal(tmp_path)
    assert f"dwcp.{key}" in error.what
    assert error.where.endswith(file)


def test_metadata_that_is_missing(tmp_path: Path) -> None:
    proto = make_proto("anomaly")
    del proto.metadata_props[:]
    assert "lacks 'dwcp.task'" in with_graph(tmp_path, proto).what


# --- the graph ------------------------------------------------------------------------------------------


def build(add: Callable[[Tiny], None], after: Callable[[Tiny], None]) -> onnx.ModelProto:
    g = Tiny()
    add(g)
    after(g)
    return g.proto(metadata(make_manifest("anomaly")))


def test_bytes_that_are_no_graph(tmp_path: Path) -> None:
    contents = {**make_files("anomaly"), "model.onnx": b"\x00not a graph"}
    write_version(tmp_path, contents, make_manifest("anomaly"))
    assert refusal(tmp_path).where.endswith("model.onnx")


def test_an_empty_graph(tmp_path: Path) -> None:
    write_version(tmp_path, {**make_files("anomaly"), "model.onnx": b""}, make_manifest("anomaly"))
    assert "no graph" in refusal(tmp_path).what


@pytest.mark.parametrize("operator", ["RandomNormalLike", "NonZero", "Bernoulli"])
def test_an_operator_off_the_list(tmp_path: Path, operator: str) -> None:
    error = with_graph(tmp_path, build(anomaly, lambda g: g.op(operator, "score")))
    assert operator in error.what
    assert "not allowed" in error.what


@pytest.mark.parametrize("operator", ["ConstantOfShape", "Range", "Expand", "Tile"])
def test_a_constant_that_takes_terabytes_when_the_graph_is_loaded(tmp_path: Path, operator: str) -> None:
    g = Tiny()
    anomaly(g)
    size, one = 1 << 40, g.const([1.0])
    if operator == "ConstantOfShape":
        big = g.op(operator, g.const([size], np.int64))
    elif operator == "Range":
        big = g.op(operator, *(g.const(float(end)) for end in (0, size, 1)))
    else:
        big = g.op(operator, one, g.const([size], np.int64))
    nothing = g.op("Mul", g.op("ReduceSum", big, keepdims=0), g.const(0.0))
    g.rename("score", "plain")
    g.op("Add", "plain", nothing, to="score")
    assert "elements" in with_graph(tmp_path, g.proto(metadata(make_manifest("anomaly")))).what


@pytest.mark.parametrize("operator", ["If", "Loop", "Scan"])
def test_an_operator_with_a_subgraph(tmp_path: Path, operator: str) -> None:
    proto = make_proto("anomaly")
    body = helper.make_graph([], "body", [], [])
    names = {"If": ["then_branch", "else_branch"], "Loop": ["body"], "Scan": ["body"]}[operator]
    proto.graph.node.append(helper.make_node(operator, ["score"], ["x"], **dict.fromkeys(names, body)))
    assert operator in with_graph(tmp_path, proto).what


def test_a_subgraph_hidden_in_an_allowed_operator(tmp_path: Path) -> None:
    proto = make_proto("anomaly")
    proto.graph.node.append(helper.make_node("Identity", ["score"], ["x"], body=helper.make_graph([], "b", [], [])))
    assert "subgraph" in with_graph(tmp_path, proto).what


def test_an_operator_of_a_custom_domain(tmp_path: Path) -> None:
    proto = make_proto("anomaly")
    proto.graph.node.append(helper.make_node("Gelu", ["score"], ["x"], domain="com.microsoft"))
    assert "com.microsoft.Gelu" in with_graph(tmp_path, proto).what


def test_the_import_of_a_custom_domain(tmp_path: Path) -> None:
    proto = make_proto("anomaly")
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    assert "com.example" in with_graph(tmp_path, proto).what


def test_functions_in_the_model(tmp_path: Path) -> None:
    proto = make_proto("anomaly")
    node = helper.make_node("Identity", ["x"], ["y"])
    proto.functions.append(helper.make_function("ai.onnx", "Mine", ["x"], ["y"], [node], proto.opset_import))
    assert "functions" in with_graph(tmp_path, proto).what


@pytest.mark.parametrize("place", ["initializer", "attribute", "sparse"])
def test_weights_in_another_file(tmp_path: Path, place: str) -> None:
    tensor = numpy_helper.from_array(np.ones(3, np.float32), "elsewhere")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../../../etc/hostname"
    tensor.ClearField("raw_data")
    proto = make_proto("anomaly")
    if place == "initializer":
        proto.graph.initializer.append(tensor)
    elif place == "attribute":
        proto.graph.node.append(helper.make_node("Constant", [], ["x"], value=tensor))
    else:
        proto.graph.sparse_initializer.add().values.CopyFrom(tensor)
    error = with_graph(tmp_path, proto)
    assert "'elsewhere'" in error.what
    assert "another file" in error.what


def test_a_graph_that_the_runtime_cannot_load(tmp_path: Path) -> None:
    proto = make_proto("anomaly")
    proto.graph.node.append(helper.make_node("Identity", ["there is no such value"], ["x"]))
    assert "cannot load the graph" in with_graph(tmp_path, proto).what


@pytest.mark.parametrize("end", ["input", "output"])
def test_an_input_or_output_of_another_name(tmp_path: Path, end: str) -> None:
    proto = make_proto("anomaly")
    old = "time" if end == "input" else "score"
    for value in [*proto.graph.input, *proto.graph.output]:
        value.name = "other" if value.name == old else value.name
    for node in proto.graph.node:
        node.output[:] = ["other" if name == old else name for name in node.output]
    error = with_graph(tmp_path, proto)
    assert f"the {end}s are" in error.what
    assert "other" in error.what


def test_an_output_too_many(tmp_path: Path) -> None:
    def more(g: Tiny) -> None:
        g.op("Identity", "score", to="extra")
        g.output("extra")

    assert "extra" in with_graph(tmp_path, build(anomaly, more)).what


def test_a_task_whose_outputs_are_missing(tmp_path: Path) -> None:
    manifest = make_manifest("incident")
    error = with_graph(tmp_path, build(forecast, lambda g: None), "incident", metrics=manifest["metrics"])
    assert "the outputs are" in error.what


def test_a_window_of_other_rows(tmp_path: Path) -> None:
    proto = make_proto("anomaly")
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = ROWS + 1
    error = with_graph(tmp_path, proto)
    assert f"[B, {ROWS}, {len(FIELDS)}]" in error.what


def test_a_window_of_another_type(tmp_path: Path) -> None:
    proto = make_proto("anomaly")
    proto.graph.input[1].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    assert "'time' is tensor(float)" in with_graph(tmp_path, proto).what


def test_a_fixed_batch(tmp_path: Path) -> None:
    proto = make_proto("anomaly")
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 6
    assert "'window'" in with_graph(tmp_path, proto).what


def test_an_output_of_another_shape_that_shows_only_when_it_runs(tmp_path: Path) -> None:
    g = Tiny()
    anomaly(g)
    g.rename("kind", "two")
    size = g.op("Shape", g.op("Concat", "two", "two", axis=1))  # not to be known without running the graph
    g.op("Expand", g.op("Gather", "two", g.axis(0), axis=1), size, to="kind")
    g.outputs[-1].type.tensor_type.shape.dim[1].dim_param = "K"
    error = with_graph(tmp_path, g.proto(metadata(make_manifest("anomaly"))))
    assert "'kind' is float32[8, 4]" in error.what


# --- goldens --------------------------------------------------------------------------------------------


def test_goldens_that_do_not_reproduce(tmp_path: Path) -> None:
    def change(arrays: dict[str, Any]) -> None:
        arrays["score"] = arrays["score"] * np.float32(1.001)

    error = with_golden(tmp_path, change)
    assert "'score' does not reproduce" in error.what


def test_goldens_within_the_tolerance_pass(tmp_path: Path) -> None:
    contents = make_files("anomaly")
    with np.load(io.BytesIO(contents["golden.npz"])) as found:
        arrays: dict[str, Any] = {name: found[name] for name in found.files}
    arrays["score"] = arrays["score"] * np.float32(1 + 0.5 * golden.RELATIVE)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_version(tmp_path, {**contents, "golden.npz": buffer.getvalue()}, make_manifest("anomaly"))
    result = ModelRepository(tmp_path).verify("tiny-anomaly", 1)
    assert result.ok
    assert result.golden_difference is not None
    assert result.golden_difference > 1e-6


def test_a_golden_number_where_the_graph_has_none(tmp_path: Path) -> None:
    def change(arrays: dict[str, Any]) -> None:
        arrays["window"][0, :, 0] = np.nan  # so `expected` becomes NaN there

    assert "'expected' does not reproduce" in with_golden(tmp_path, change).what


def test_the_golden_of_an_explanation_is_checked_too(tmp_path: Path) -> None:
    def change(arrays: dict[str, Any]) -> None:
        arrays["contribution"] = arrays["contribution"] + np.float32(1)

    error = with_golden(tmp_path, change)
    assert "'contribution'" in error.what
    assert error.where.endswith("explain.onnx")


@pytest.mark.parametrize("name", ["window", "time", "score", "kind"])
def test_goldens_without_an_array(tmp_path: Path, name: str) -> None:
    assert name in with_golden(tmp_path, lambda arrays: arrays.pop(name)).what


def test_goldens_with_an_unknown_array(tmp_path: Path) -> None:
    assert "extra" in with_golden(tmp_path, lambda arrays: arrays.update(extra=np.zeros(6))).what


def test_goldens_of_other_shapes(tmp_path: Path) -> None:
    error = with_golden(tmp_path, lambda arrays: arrays.update(score=arrays["score"][:3]))
    assert "'score' is float32[3]" in error.what


def test_goldens_of_no_windows(tmp_path: Path) -> None:
    error = with_golden(tmp_path, lambda arrays: arrays.update({k: v[:0] for k, v in arrays.items()}))
    assert "[0" in error.what


def test_goldens_with_objects_are_not_unpickled(tmp_path: Path) -> None:
    opened = tmp_path / "opened"

    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (opened,)

    assert pickle.loads(pickle.dumps(Trap())) is None
    assert opened.exists()  # the trap works where it is unpickled
    opened.unlink()
    error = with_golden(tmp_path / "root", lambda arrays: arrays.update(score=np.array([Trap()], dtype=object)))
    assert "plain arrays" in error.what
    assert not opened.exists()


def test_goldens_that_unpack_to_too_much(tmp_path: Path) -> None:
    size = golden.MAX_UNPACKED // 4
    error = with_golden(tmp_path, lambda arrays: arrays.update(score=np.zeros(size, np.float32)))
    assert "unpacks to" in error.what


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04broken", b"\x80\x04."])
def test_goldens_that_are_no_archive(tmp_path: Path, data: bytes) -> None:
    write_version(tmp_path, {**make_files("anomaly"), "golden.npz": data}, make_manifest("anomaly"))
    assert "plain arrays" in refusal(tmp_path).what


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_not_finite(tmp_path: Path, value: float) -> None:
    g = Tiny()
    anomaly(g)
    g.rename("score", "finite")
    g.op("Add", "finite", g.const(value), to="score")
    manifest = make_manifest("anomaly")
    proto = g.proto(metadata(manifest))
    contents = make_files("anomaly", manifest)
    contents["model.onnx"] = proto.SerializeToString()
    with np.load(io.BytesIO(contents["golden.npz"])) as found:
        arrays: dict[str, Any] = {name: found[name] for name in found.files}
    arrays["score"] = arrays["score"] + np.float32(value)  # so that it does reproduce
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_version(tmp_path, {**contents, "golden.npz": buffer.getvalue()}, manifest)
    assert "'score' is not finite" in refusal(tmp_path).what


def test_an_infinite_score_of_a_window_without_values(tmp_path: Path) -> None:
    g = Tiny()
    anomaly(g)
    g.rename("score", "usual")
    none = g.op(
        "ReduceMin", g.op("Where", g.op("IsNaN", "expected"), g.const(1.0), g.const(0.0)), g.axis(1), keepdims=0
    )
    g.op("Where", g.op("Greater", none, g.const(0.5)), g.const(np.inf), "usual", to="score")
    error = with_graph(tmp_path, g.proto(metadata(make_manifest("anomaly"))))
    assert "infinite for a window without values" in error.what


def test_a_graph_that_fails_on_a_window_without_values(tmp_path: Path) -> None:
    """Casting NaN to an index gives a number far outside of any table."""
    g = Tiny()
    anomaly(g)
    g.rename("score", "usual")
    g.op("Add", "usual", _lookup(g), to="score")
    contents = make_files("anomaly")
    proto = g.proto(metadata(make_manifest("anomaly")))
    contents["model.onnx"] = proto.SerializeToString()
    with np.load(io.BytesIO(contents["golden.npz"])) as found:
        arrays: dict[str, Any] = {name: found[name] for name in found.files}
    arrays["window"] = np.nan_to_num(arrays["window"], nan=1.0)
    fresh = golden.make_golden(contents["model.onnx"], arrays["window"], arrays["time"])
    write_version(tmp_path, {**contents, "golden.npz": fresh}, make_manifest("anomaly"))
    assert "the graph fails" in refusal(tmp_path).what


def _lookup(g: Tiny) -> str:
    code = g.op("Gather", g.op("Gather", "window", g.const(-1, np.int64), axis=1), g.const(2, np.int64), axis=1)
    index = "index"
    g.nodes.append(helper.make_node("Cast", [code], [index], to=onnx.TensorProto.INT64))
    return g.op("Gather", g.const([0.0, 0.0, 0.0]), index, axis=0)


# --- the stream -----------------------------------------------------------------------------------------


def test_the_schema_hash_of_another_stream(tmp_path: Path) -> None:
    write_version(tmp_path, make_files("anomaly"), make_manifest("anomaly"))
    result = ModelRepository(tmp_path).verify("tiny-anomaly", 1, make_stream(step=30.0))
    assert result.error is not None
    assert "schema hash" in result.error.what
    assert "30.0" in result.error.what


def test_a_binding_that_asks_for_something_else(tmp_path: Path) -> None:
    write_version(tmp_path, make_files("forecast"), make_manifest("forecast"))
    repository = ModelRepository(tmp_path)
    fits = make_stream(models=(binding("forecast"),))
    assert repository.verify("tiny-forecast", 1, fits).ok
    other = make_stream(models=(binding("forecast", horizons=(1, 2)),))
    error = repository.verify("tiny-forecast", 1, other).error
    assert error is not None
    assert "(1, 3)" in error.what
    assert "(1, 2)" in error.what


# --- what is hashed is what runs ------------------------------------------------------------------------


def test_the_model_runs_from_the_bytes_that_were_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that change after they were read do not matter."""
    folder = write_version(tmp_path, make_files("anomaly"), make_manifest("anomaly"))
    original, asked = hashlib.sha256, []

    def overwrite(data: bytes) -> Any:
        asked.append(len(data))
        (folder / "model.onnx").write_bytes(b"overwritten")
        return original(data)

    monkeypatch.setattr(files.hashlib, "sha256", overwrite)
    model = ModelRepository(tmp_path).load("tiny-anomaly", 1)
    assert len(asked) == 4
    windows = np.ones((2, ROWS, len(FIELDS)), np.float32)
    assert model.score(windows, np.zeros((2, ROWS))).score.tolist() == [0.0, 0.0]
