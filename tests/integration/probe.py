"""A stream, a model and telemetry made for the fault tests: every transition of every alert is known
beforehand.

The model's score is the last value over a threshold of 1. An entity's value is calm but for bursts at known
steps, so each burst gives exactly one firing, one escalated and one resolved. Between bursts some samples
are missing, repeated or late, so that windows have holes to get wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper

from dwcp_stream.kafka.batches import Row
from dwcp_stream.kafka.producer import key_hash
from dwcp_stream.registry import ModelRepository, make_golden
from dwcp_stream.streams import StreamDefinition, load_stream, schema_hash

STREAM = "probe"
MODEL = "probe-threshold"
WINDOW = 8
EPOCH = 1_700_000_000.0
PERIOD, BURST, GROWS = 50, 6, 3
CALM, WARNING, CRITICAL = 0.5, 1.5, 3.0

DEFINITION = f"""
name = "{STREAM}"
topic = "{{topic}}"
entity = ["id"]
step = 1.0
window = {WINDOW}
min_periods = 4
lateness = 3.0
expire_after = 100000.0
ahead_tolerance = 10.0
max_entities = {{max_entities}}
drift_block = 20.0

[alert]
min_duration = 0.0
resolve_below = 0.8

[[fields]]
name = "value"
min = 0
max = 1000
required = true

[[fields]]
name = "requests"
kind = "counter"
unit = "1"
min = 0

[[models]]
name = "{MODEL}"
task = "anomaly"
"""


def write_definition(directory: Path, topic: str, max_entities: int = 100_000) -> StreamDefinition:
    """Write the stream's definition and load it."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{STREAM}.toml"
    path.write_text(DEFINITION.format(topic=topic, max_entities=max_entities))
    return load_stream(path)


def described(stream: StreamDefinition) -> list[dict[str, Any]]:
    """Describe the fields as manifests do."""
    return [{"name": f.name, "kind": f.kind, "unit": f.unit, "vocabulary": list(f.vocabulary)} for f in stream.fields]


def threshold_graph(stream: StreamDefinition, factor: float = 1.0, remembers: bool = False) -> bytes:
    """The ONNX graph: score [B] = factor * window[:, -1, 0], expected [B, F] = NaN.

    One that remembers counts the windows of an entity, and adds a thousandth of that to the score.
    """
    fields = len(stream.fields)
    nodes = [
        helper.make_node("Gather", ["window", "last"], ["row"], axis=1),
        helper.make_node("Gather", ["row", "first"], ["value"], axis=1),
        helper.make_node("Mul", ["value", "factor"], ["scaled" if remembers else "score"]),
        helper.make_node("Mul", ["row", "nothing"], ["expected"]),
    ]
    constants = [
        helper.make_tensor("last", TensorProto.INT64, [], [WINDOW - 1]),
        helper.make_tensor("first", TensorProto.INT64, [], [0]),
        helper.make_tensor("factor", TensorProto.FLOAT, [], [factor]),
        helper.make_tensor("nothing", TensorProto.FLOAT, [], [float("nan")]),
    ]
    inputs = [
        helper.make_tensor_value_info("window", TensorProto.FLOAT, ["B", WINDOW, fields]),
        helper.make_tensor_value_info("time", TensorProto.DOUBLE, ["B", WINDOW]),
    ]
    outputs = [
        helper.make_tensor_value_info("score", TensorProto.FLOAT, ["B"]),
        helper.make_tensor_value_info("expected", TensorProto.FLOAT, ["B", fields]),
    ]
    if remembers:
        inputs.append(helper.make_tensor_value_info("state_in", TensorProto.FLOAT, ["B", 1]))
        outputs.append(helper.make_tensor_value_info("state_out", TensorProto.FLOAT, ["B", 1]))
        constants += [
            helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
            helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
            helper.make_tensor("thousandth", TensorProto.FLOAT, [], [0.001]),
            helper.make_tensor("column", TensorProto.INT64, [], [0]),
        ]
        nodes += [
            helper.make_node("IsNaN", ["state_in"], ["new"]),
            helper.make_node("Where", ["new", "zero", "state_in"], ["before"]),
            helper.make_node("Add", ["before", "one"], ["state_out"]),
            helper.make_node("Gather", ["state_out", "column"], ["count"], axis=1),
            helper.make_node("Mul", ["count", "thousandth"], ["more"]),
            helper.make_node("Add", ["scaled", "more"], ["score"]),
        ]
    graph = helper.make_graph(nodes, MODEL, inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    names = [f.name for f in stream.fields]
    meta = {
        "task": "anomaly",
        "stream": STREAM,
        "fields": msgspec.json.encode(described(stream)).decode(),
        "schema_hash": schema_hash(stream, names, WINDOW),
        "window": str(WINDOW),
        "horizons": "[]",
        "trained_at": "2024-01-01T00:00:00Z",
        "data_sha256": hashlib.sha256(b"").hexdigest(),
        "metrics": "{}",
    }
    helper.set_model_props(model, {f"dwcp.{k}": v for k, v in meta.items()})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def goldens(graph: bytes, stream: StreamDefinition, remembers: bool = False) -> bytes:
    """Made-up inputs and the outputs the graph gives."""
    rng = np.random.default_rng(7)
    window = rng.uniform(0, 4, (4, WINDOW, len(stream.fields))).astype(np.float32)
    time = EPOCH + np.arange(WINDOW, dtype=np.float64) + np.zeros((4, 1))
    return make_golden(graph, window, time, np.full((4, 1), 2.0, np.float32) if remembers else None)


def publish_model(
    root: Path,
    stream: StreamDefinition,
    *,
    factor: float = 1.0,
    severity: tuple[float, float, float] = (1.0, 2.0, 5.0),
    remembers: bool = False,
    alias: str | None = "champion",
) -> int:
    """Publish a version of the model and point an alias at it, champion unless told; returns the version."""
    repository = ModelRepository(root)
    manifest = {
        "name": MODEL,
        "task": "anomaly",
        "stream": STREAM,
        "fields": described(stream),
        "schema_hash": schema_hash(stream, [f.name for f in stream.fields], WINDOW),
        "window": WINDOW,
        "horizons": [],
        "targets": [],
        "severity": list(severity),
        "kinds": [],
        "state_size": int(remembers),
        "trained_at": "2024-01-01T00:00:00Z",
        "data_sha256": hashlib.sha256(b"").hexdigest(),
        "metrics": {},
        "seed": 0,
        "command": "tests/integration/probe.py",
        "reference": {},
        "licence": "Apache-2.0",
    }
    graph = threshold_graph(stream, factor, remembers)
    files = {"model.onnx": graph, "golden.npz": goldens(graph, stream, remembers)}
    version = repository.publish(MODEL, files, manifest)
    if alias is not None:
        repository.set_alias(MODEL, alias, version)
    return version


def entity_name(number: int) -> str:
    """Name of an entity, which is also its key."""
    return f"e{number:05d}"


@dataclass(frozen=True)
class Telemetry:
    """Samples of `entities` over `steps` seconds of event time, and the alerts they must give.

    `first` numbers the first entity, so that two telemetries of one topic can be apart.
    """

    entities: int
    steps: int
    first: int = 0

    def _phase(self, entity: int, step: int) -> int:
        return (step - 20 - entity % 20) % PERIOD if step >= 20 + entity % 20 else PERIOD - 1

    def value(self, entity: int, step: int) -> float:
        """Calm, then for BURST steps over the threshold; critical from the burst's third step on."""
        phase = self._phase(entity, step)
        return CALM if phase >= BURST else CRITICAL if phase >= GROWS else WARNING

    def samples(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, int]]:
        """(entity, step) in the order they are sent: some missing, some twice, some late."""
        for step in range(start, self.steps if stop is None else min(stop, self.steps)):
            for entity in range(self.first, self.first + self.entities):
                odd = (step * 7 + entity * 3) % 37
                quiet = self._phase(entity, step) in range(BURST + 3, PERIOD - 6)
                if quiet and odd == 0:
                    continue  # missing
                if quiet and odd == 1:
                    continue  # comes late, see below
                yield entity, step
                if quiet and odd == 2:
                    yield entity, step  # twice
                late = step - 2
                if (late * 7 + entity * 3) % 37 == 1 and self._phase(entity, late) in range(BURST + 3, PERIOD - 6):
                    yield entity, late

    def payload(self, entity: int, step: int) -> bytes:
        """A sample as JSON; the counter of requests starts again every hundred steps."""
        return b'{"id":"%s","ts":%.1f,"value":%.2f,"requests":%d}' % (
            entity_name(entity).encode(),
            EPOCH + step,
            self.value(entity, step),
            (step % 100) * (3 + entity % 5),
        )

    def rows(self, partitions: int, start: int = 0, stop: int | None = None) -> dict[int, list[Row]]:
        """Records by partition, for `write_rows`."""
        rows: dict[int, list[Row]] = {p: [] for p in range(partitions)}
        for entity, step in self.samples(start, stop):
            key = entity_name(entity).encode()
            rows[key_hash(key) % partitions].append((key, self.payload(entity, step), [], None))
        return rows

    def transitions(self, stop: int | None = None) -> set[tuple[str, str, float]]:
        """(entity, action, event time) of every transition that the samples must lead to."""
        steps = self.steps if stop is None else stop
        expected = set()
        for entity in range(self.first, self.first + self.entities):
            for begin in range(20 + entity % 20, steps, PERIOD):
                moments = {"firing": begin, "escalated": begin + GROWS, "resolved": begin + BURST}
                expected |= {(entity_name(entity), a, EPOCH + s) for a, s in moments.items() if s < steps}
        return expected
