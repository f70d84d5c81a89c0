"""The cheapest model there is, for the stream `consensus`: the score is the newest p99 latency by a limit."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dwcp_stream.registry import ModelRepository, make_golden
from dwcp_stream.streams import load_stream, schema_hash

NAME, FIELD = "threshold", "latency_p99"
LIMIT_MS = 20.0


def publish(repository: Path, streams: Path) -> None:
    """Publish the model into a new repository and make it the only one of the stream in `streams`."""
    file = streams / "consensus.toml"
    text = file.read_text(encoding="utf-8").removeprefix("models = []\n")
    file.write_text(f'{text}\n[[models]]\nname = "{NAME}"\ntask = "anomaly"\n', "utf-8")
    stream = load_stream(file)
    field = stream.fields[stream.field_index(FIELD)]
    described = [{"name": FIELD, "kind": field.kind, "unit": field.unit, "vocabulary": []}]
    manifest = {
        "name": NAME, "task": "anomaly", "stream": stream.name, "fields": described, "window": stream.window,
        "schema_hash": schema_hash(stream, [FIELD], stream.window), "horizons": [], "targets": [],
        "severity": [1.0, 2.0, 5.0], "kinds": [], "state_size": 0, "trained_at": "2024-01-01T00:00:00Z",
        "data_sha256": "0" * 64, "metrics": {}, "seed": 0, "command": "benchmarks/threshold_model.py",
        "reference": {}, "licence": "Apache-2.0",
    }  # fmt: skip
    graph = _graph(stream.window, manifest, described)
    rng = np.random.default_rng(1)
    windows = rng.uniform(0, 50, (4, stream.window, 1)).astype(np.float32)
    times = np.arange(stream.window, dtype=np.float64) + np.full((4, 1), 1.79e9)
    files = {"model.onnx": graph, "golden.npz": make_golden(graph, windows, times)}
    published = ModelRepository(repository)
    published.set_alias(NAME, "champion", published.publish(NAME, files, manifest))


def _graph(rows: int, manifest: dict[str, object], described: list[dict[str, object]]) -> bytes:
    constants = {
        "last": np.int64(rows - 1),
        "limit": np.float32(LIMIT_MS),
        "axis": np.array([1]),
        "none": np.float32("nan"),
    }
    nodes = [
        helper.make_node("Gather", ["window", "last"], ["row"], axis=1),
        helper.make_node("Div", ["row", "limit"], ["scores"]),
        helper.make_node("Squeeze", ["scores", "axis"], ["score"]),
        helper.make_node("Mul", ["row", "none"], ["expected"]),
    ]
    inputs = [("window", TensorProto.FLOAT, ["B", rows, 1]), ("time", TensorProto.DOUBLE, ["B", rows])]
    outputs = [("score", TensorProto.FLOAT, ["B"]), ("expected", TensorProto.FLOAT, ["B", 1])]
    graph = helper.make_graph(
        nodes,
        NAME,
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    repeated = {key: manifest[key] for key in ("task", "stream", "schema_hash", "trained_at", "data_sha256")}
    repeated |= {"window": str(rows), "horizons": "[]", "metrics": "{}"}
    repeated["fields"] = msgspec.json.encode(described).decode()
    helper.set_model_props(model, {f"dwcp.{key}": str(value) for key, value in repeated.items()})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()
