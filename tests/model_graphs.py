"""Tiny models of every task, for the tests of registry and scoring; and what publishing them needs."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from dwcp_stream.registry import ModelRepository, make_golden
from dwcp_stream.streams import Field, ModelBinding, StreamDefinition, schema_hash

ROWS = 6
FIELDS = ("latency", "loss", "mode")
HORIZONS = (1, 3)
TARGETS = ("latency", "loss")
STATE = 4
NAMES = ("anomaly", "incident", "forecast", "stateful")


def make_stream(**changes: Any) -> StreamDefinition:
    """A stream that all tiny models fit; it has a column more than they read, and longer windows."""
    settings: dict[str, Any] = {
        "name": "tiny",
        "topic": "dwcp.telemetry.tiny",
        "entity": ("id",),
        "step": 60.0,
        "window": ROWS + 2,
        "fields": (
            Field(name="spare"),
            Field(name="latency", unit="ms"),
            Field(name="loss", unit="ratio"),
            Field(name="mode", kind="categorical", vocabulary=("slow", "fast", "off")),
        ),
    }
    return StreamDefinition(**{**settings, **changes})


class Tiny:
    """Nodes and constants of a graph under construction; every method gives the name of its result."""

    def __init__(self, fields: int = len(FIELDS)) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs = [
            helper.make_tensor_value_info("window", TensorProto.FLOAT, ["B", ROWS, fields]),
            helper.make_tensor_value_info("time", TensorProto.DOUBLE, ["B", ROWS]),
        ]
        self.outputs: list[Any] = []

    def op(self, operator: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        name = to or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def rename(self, old: str, new: str) -> None:
        """Give a result another name, so that something else can take the old one."""
        node = next(node for node in self.nodes if node.output[0] == old)
        node.output[0] = node.name = new

    def const(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def axis(self, *axes: int) -> str:
        return self.const(axes, np.int64)

    def output(self, name: str, *shape: int) -> None:
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", *shape]))

    def proto(self, metadata: Mapping[str, str]) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "tiny", self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        helper.set_model_props(model, {f"dwcp.{key}": value for key, value in metadata.items()})
        onnx.checker.check_model(model, full_check=True)
        return model


def _means(g: Tiny) -> tuple[str, str, str]:
    """Mean over the rows [B, F], NaN and 0 where there is none, and how far the last row is from it."""
    missing = g.op("IsNaN", "window")
    zero, one = g.const(0.0), g.const(1.0)
    count = g.op("ReduceSum", g.op("Where", missing, zero, one), g.axis(1), keepdims=0)
    total = g.op("ReduceSum", g.op("Where", missing, zero, "window"), g.axis(1), keepdims=0)
    mean = g.op("Div", total, g.op("Max", count, one))
    expected = g.op("Where", g.op("Greater", count, zero), mean, g.const(np.nan))
    last = g.op("Gather", "window", g.const(-1, np.int64), axis=1)
    last = g.op("Where", g.op("IsNaN", last), mean, last)
    return expected, mean, g.op("Abs", g.op("Sub", last, mean))


def _suspicion(g: Tiny, deviation: str) -> str:
    """Logarithms over [B, F]: three columns, so that batches of odd sizes end inside a vector register."""
    return g.op("Log", g.op("Add", deviation, g.const(1.0)))


def anomaly(g: Tiny) -> None:
    """Score: mean log deviation; 1.0 where the deviation of every field is e - 1."""
    expected, _, deviation = _means(g)
    log = _suspicion(g, deviation)
    g.op("ReduceMean", log, g.axis(1), keepdims=0, to="score")
    g.op("Identity", expected, to="expected")
    g.op("MatMul", log, g.const([[1, 0], [0, 1], [0, 0]]), to="kind")
    g.output("score")
    g.output("expected", len(FIELDS))
    g.output("kind", 2)


def incident(g: Tiny) -> None:
    """One tree on the latency's mean: probability 0.2 under 10 ms, else 0.9; threshold 0.5."""
    expected, mean, _ = _means(g)
    g.nodes.append(
        helper.make_node(
            "TreeEnsembleRegressor", [mean], ["tree"], domain="ai.onnx.ml", n_targets=1,
            nodes_treeids=[0, 0, 0], nodes_nodeids=[0, 1, 2], nodes_featureids=[0, 0, 0],
            nodes_modes=["BRANCH_LT", "LEAF", "LEAF"], nodes_values=[10.0, 0.0, 0.0],
            nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0],
            target_treeids=[0, 0], target_nodeids=[1, 2], target_ids=[0, 0], target_weights=[0.2, 0.9],
        )
    )  # fmt: skip
    g.op("Squeeze", "tree", g.axis(1), to="probability")
    g.op("Div", "probability", g.const(0.5), to="score")
    g.op("Identity", expected, to="expected")
    g.output("score")
    g.output("probability")
    g.output("expected", len(FIELDS))


def forecast(g: Tiny) -> None:
    """Quantiles: the mean and 10 % to both sides; the score is the deviation of the last row."""
    _, mean, deviation = _means(g)
    targets = g.op("Gather", mean, g.const([0, 1], np.int64), axis=1)
    spread = g.op("Unsqueeze", targets, g.axis(1, 3))
    g.op("Mul", spread, g.const(np.tile([0.9, 1.0, 1.1], (1, len(HORIZONS), 1, 1))), to="quantiles")
    g.op("ReduceMean", _suspicion(g, deviation), g.axis(1), keepdims=0, to="score")
    g.output("score")
    g.output("quantiles", len(HORIZONS), len(TARGETS), 3)


def stateful(g: Tiny) -> None:
    """State: moving averages of the mean; NaN, no state, starts them at 0."""
    g.inputs.append(helper.make_tensor_value_info("state_in", TensorProto.FLOAT, ["B", STATE]))
    expected, mean, _ = _means(g)
    level = g.op("ReduceMean", mean, g.axis(1), keepdims=1)
    before = g.op("Where", g.op("IsNaN", "state_in"), g.const(0.0), "state_in")
    weights = g.const([0.1, 0.2, 0.4, 0.8])
    moved = g.op("Mul", g.op("Sub", level, before), weights)
    g.op("Add", before, moved, to="state_out")
    g.op("ReduceMean", _suspicion(g, g.op("Abs", moved)), g.axis(1), keepdims=0, to="score")
    g.op("Identity", expected, to="expected")
    g.output("score")
    g.output("expected", len(FIELDS))
    g.output("state_out", STATE)


def explain(g: Tiny) -> None:
    """Contribution: the log deviation of each field."""
    *_, deviation = _means(g)
    g.op("Identity", _suspicion(g, deviation), to="contribution")
    g.output("contribution", len(FIELDS))


BUILDERS: dict[str, Callable[[Tiny], None]] = {
    "anomaly": anomaly, "incident": incident, "forecast": forecast, "stateful": stateful, "explain": explain,
}  # fmt: skip


def make_manifest(name: str, /, **changes: Any) -> dict[str, Any]:
    """What a trainer gives to `publish` for a tiny model."""
    stream = make_stream()
    forecasting = name == "forecast"
    plain: dict[str, Any] = {
        "name": f"tiny-{name}",
        "task": "anomaly" if name == "stateful" else name,
        "stream": "tiny",
        "fields": [
            {"name": f.name, "kind": f.kind, "unit": f.unit, "vocabulary": list(f.vocabulary)}
            for f in stream.fields
            if f.name in FIELDS
        ],
        "schema_hash": schema_hash(stream, FIELDS, ROWS),
        "window": ROWS,
        "horizons": list(HORIZONS) if forecasting else [],
        "targets": list(TARGETS) if forecasting else [],
        "severity": [1, 2, 3.5],
        "kinds": ["latency", "loss"] if name == "anomaly" else [],
        "state_size": STATE if name == "stateful" else 0,
        "trained_at": "2026-01-01T00:00:00Z",
        "data_sha256": hashlib.sha256(b"no data").hexdigest(),
        "metrics": {"f1": 0.5, "rule": {"f1": 0.25}},
        "seed": 0,
        "command": "none",
        "licence": "CC0-1.0",
        "reference": {"latency": {"edges": [1.0, 2.0], "share": [0.25, 0.5, 0.25]}},
    }
    return {**plain, **changes}


REPEATED = (
    "task",
    "stream",
    "fields",
    "schema_hash",
    "window",
    "horizons",
    "trained_at",
    "data_sha256",
    "metrics",
)


def metadata(manifest: Mapping[str, Any]) -> dict[str, str]:
    """What a graph's metadata repeats of a manifest."""
    chosen = {key: manifest[key] for key in REPEATED}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in chosen.items()}


def make_proto(name: str, manifest: Mapping[str, Any] | None = None, *, inputs_of: str = "") -> onnx.ModelProto:
    """A tiny graph; `explain` for a model with state takes its inputs (`inputs_of="stateful"`)."""
    g = Tiny()
    BUILDERS[name](g)
    if inputs_of == "stateful":
        g.inputs.append(helper.make_tensor_value_info("state_in", TensorProto.FLOAT, ["B", STATE]))
    return g.proto(metadata(manifest or make_manifest("anomaly" if name == "explain" else name)))


def make_windows(count: int, seed: int = 0, *, holes: float = 0.15) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Windows [count, ROWS, 3] of the models' own fields, and times."""
    rng = np.random.default_rng(seed)
    windows = np.exp(rng.normal(2, 1, (count, ROWS, len(FIELDS)))).astype(np.float32)
    windows[:, :, 2] = rng.integers(0, 3, (count, ROWS))
    windows[rng.random(windows.shape) < holes] = np.nan
    times = 1.7e9 + 60.0 * np.arange(ROWS) + rng.integers(0, 86400, (count, 1))
    return windows, times


def make_files(
    name: str,
    manifest: Mapping[str, Any] | None = None,
    *,
    explained: bool = True,
    report: bytes = b"# Tiny\n",
) -> dict[str, bytes]:
    """Files of a tiny model that every check passes."""
    plain = manifest or make_manifest(name)
    files = {"model.onnx": make_proto(name, plain).SerializeToString(), "report.md": report}
    if explained:
        inputs_of = name if name == "stateful" else ""
        files["explain.onnx"] = make_proto("explain", plain, inputs_of=inputs_of).SerializeToString()
    windows, times = make_windows(6)
    state = None
    if name == "stateful":
        state = np.linspace(0, 3, 6 * STATE, dtype=np.float32).reshape(6, STATE)
        state[0] = np.nan
    files["golden.npz"] = make_golden(
        files["model.onnx"], windows, times, state, explain_bytes=files.get("explain.onnx")
    )
    return files


def write_version(root: Path, files: Mapping[str, bytes], manifest: Mapping[str, Any], version: int = 1) -> Path:
    """Write a version as somebody could by hand, with right hashes but without any check."""
    folder = root / manifest["name"] / str(version)
    folder.mkdir(parents=True)
    hashes = {file: hashlib.sha256(data).hexdigest() for file, data in files.items()}
    whole = {"version": version, "files": hashes, **manifest}
    for file, data in {**files, "manifest.json": json.dumps(whole).encode()}.items():
        (folder / file).write_bytes(data)
    return folder


def binding(name: str, *, model: str = "", **changes: Any) -> ModelBinding:
    """How the tiny stream would bind a tiny model."""
    manifest = make_manifest(name)
    settings = {
        "name": model or manifest["name"],
        "task": manifest["task"],
        "targets": tuple(manifest["targets"]),
        "horizons": tuple(manifest["horizons"]),
    }
    return ModelBinding(**{**settings, **changes})


def publish_twice(source: ModelRepository, target: ModelRepository, name: str) -> None:
    """Publish a model's champion as versions 1 and 2 of another repository; version 1 is champion."""
    for _ in range(2):
        publish_again(source, target, name)
    target.set_alias(name, "champion", 1)


def publish_again(source: ModelRepository, target: ModelRepository, name: str) -> int:
    """Publish a model's champion as the next version of a repository, which may be the same; return the version."""
    manifest = source.manifest(name)
    folder = source.root / name / str(manifest.version)
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}
    plain = msgspec.to_builtins(manifest)
    return target.publish(name, files, {key: value for key, value in plain.items() if key not in ("version", "files")})
