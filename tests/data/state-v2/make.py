"""Write the state fixtures: changelog records as a release wrote them, and what they say.

python tests/data/state-v2/make.py FOLDER

To be run with the release whose state is to be kept: `git worktree add /tmp/release TAG`, then this file with
PYTHONPATH=/tmp/release there. For each shipped stream it writes FOLDER/STREAM.msgpack, a list of changelog records
(key, value) and the telemetry that came next (offset, timestamp, key, value), and FOLDER/STREAM.json, what the
records hold and what the telemetry that came next has led to.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from dwcp_stream.chunk import Chunk
from dwcp_stream.kafka.generations import PARTITION_KEY, make_key
from dwcp_stream.loading import bound_models
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.scoring import Model
from dwcp_stream.settings import Settings
from dwcp_stream.streams import StreamDefinition, load_streams
from dwcp_stream.streams.encode import encode_sample

EPOCH = 1_790_000_040.0
ENTITIES, STEPS, NEXT = 4, 75, 25
BURSTS = {1: (72, 90), 2: (40, 60)}
"""Steps between which an entity's gauges are ten times the usual: an alert is open when the state is written."""
GENERATION = 7


def usual(stream: StreamDefinition, models: list[Model]) -> dict[str, float | str]:
    """Return a usual value of each field: the middle of what the model was trained on."""
    found: dict[str, float | str] = {}
    for field in stream.fields:
        reference = models[0].manifest.reference.get(field.name, {"edges": [], "share": [1.0]})
        edges, shares = list(reference["edges"]), list(reference["share"])
        if field.vocabulary:
            found[field.name] = field.vocabulary[int(np.argmax(shares))]
        else:
            found[field.name] = float(edges[len(edges) // 2]) if edges else 3.0 if field.name == "quorum_size" else 0.0
    return found


def records(
    stream: StreamDefinition, values: dict[str, float | str], start: int, stop: int
) -> Iterator[tuple[int, int, bytes, bytes]]:
    """Yield (offset, timestamp in ms, key, value), one sample of every entity a step."""
    step = 1.0 if isinstance(stream.step, str) else stream.step
    for at in range(start, stop):
        for entity in range(ENTITIES):
            rng = np.random.default_rng([entity, at])
            far = entity in BURSTS and at in range(*BURSTS[entity])
            row: dict[str, Any] = {}
            for field in stream.fields:
                value = values[field.name]
                if isinstance(value, str):
                    row[field.name] = value
                elif field.kind == "counter":
                    row[field.name] = at * (round(value) + entity)
                else:
                    most = field.max if field.max is not None else 1e12
                    row[field.name] = min(most, value * (10.0 if far else 1.0) * (0.97 + 0.06 * rng.random()))
            parts = {name: f"{name}-{entity}" for name in stream.entity}
            ts = EPOCH + at * step
            key, payload = encode_sample(stream, parts, ts, row)
            yield at * ENTITIES + entity, int(ts * 1000), key, payload


def chunk(stream: StreamDefinition, rows: list[tuple[int, int, bytes, bytes]]) -> Chunk:
    """Lay records side by side."""
    offsets, stamps = np.array([r[0] for r in rows], np.int64), np.array([r[1] for r in rows], np.int64)
    return Chunk(stream.topic, 0, offsets, stamps, [r[2] for r in rows], [r[3] for r in rows])


def written(pipeline: Pipeline) -> list[tuple[bytes, bytes]]:
    """Return the changelog records of a checkpoint."""
    (copy,) = pipeline.copy()
    found = [(make_key(entity, GENERATION), value) for entity, value in copy.snapshots()]
    return [*found, (make_key(PARTITION_KEY, GENERATION), copy.record())]


def told(pipeline: Pipeline) -> dict[str, Any]:
    """Return the state in words and numbers, exactly: floats as hexadecimal, None for NaN."""
    state = pipeline.partitions[0]
    slots = state.windows.slots
    parts = {name: part.take(np.array(list(slots.values()), np.int64)) for name, part in state.parts.items()}
    entities = {}
    for i, entity in enumerate(slots):
        view = pipeline.view(entity)
        entities[entity] = {
            "applied": view.applied,
            "fields": {f.name: exact(view[f.name]) for f in pipeline.stream.fields},
            "parts": {name: plain(taken.plain(i)) for name, taken in parts.items()},
        }
    record = state.record()
    return {
        "position": record.position,
        "watermark": record.watermark,
        "models": record.models,
        "since": record.since,
        "drift": plain(record.drift),
        "accuracy": plain(record.accuracy),
        "entities": entities,
    }


def exact(values: Any) -> list[str | None]:
    """Write numbers so that they read back bit for bit."""
    return [None if np.isnan(v) else float(v).hex() for v in np.asarray(values, np.float64).ravel()]


def plain(value: Any) -> Any:
    """Return plain values of JSON: bytes as hexadecimal, numbers that JSON lacks as text."""
    packed = msgspec.msgpack.decode(msgspec.msgpack.encode(value))

    def walk(found: Any) -> Any:
        if isinstance(found, dict):
            return {str(k): walk(v) for k, v in found.items()}
        if isinstance(found, list):
            return [walk(v) for v in found]
        if isinstance(found, bytes):
            return found.hex()
        return float(found).hex() if isinstance(found, float) else found

    return walk(packed)


def outputs(result: Any) -> list[list[str]]:
    """Return topic and id of what a chunk has led to."""
    return [[o.topic, dict(o.headers)["ce_id"].decode()] for o in result.outputs]


def judged(said: dict[str, Any]) -> dict[str, Any]:
    """Return windows and alerts alone: forecasts to come have what another processor makes of a model."""
    return {
        entity: {**found, "parts": {name: part for name, part in found["parts"].items() if name.startswith("alert:")}}
        for entity, found in said["entities"].items()
    }


def make(folder: Path) -> None:
    """Write the fixtures of all shipped streams."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, stream in load_streams(Settings().streams_dir).items():
        models = bound_models(Settings(), stream)
        pipeline, values = Pipeline(stream, models), usual(stream, models)
        pipeline.process(chunk(stream, list(records(stream, values, 0, STEPS))))
        later = list(records(stream, values, STEPS, STEPS + NEXT))
        state, said = written(pipeline), told(pipeline)
        result = pipeline.process(chunk(stream, later))
        (folder / f"{name}.msgpack").write_bytes(msgspec.msgpack.encode([state, later]))
        said["next"] = {
            "outputs": outputs(result),
            "entities": judged(told(pipeline)),
            "counts": result.counts.tolist(),
        }
        (folder / f"{name}.json").write_text(json.dumps(said, indent=0, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
