"""State that earlier releases wrote is read exactly, and work goes on from it."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from dwcp_stream.kafka.generations import PARTITION_KEY, split_key
from dwcp_stream.kafka.producer import key_hash
from dwcp_stream.kafka.recovering import Recovering
from dwcp_stream.kafka.relayout import Cut, changelog_records, lay_out
from dwcp_stream.loading import bound_models
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.scoring import Model
from dwcp_stream.settings import Settings
from dwcp_stream.streams import StreamDefinition, load_streams
from dwcp_stream.windows.snapshot import SnapshotCodec

FOLDER = Path(__file__).parents[1] / "data" / "state-v2"
STREAMS = ("consensus", "link", "node")


def stream_and_models(name: str) -> tuple[StreamDefinition, list[Model]]:
    """The shipped stream and its models; of consensus the model that wrote the state, which is not shipped any more."""
    stream, settings = load_streams(Settings().streams_dir)[name], Settings()
    if name == "consensus":
        binding = msgspec.structs.replace(stream.models[0], name="consensus-lstm-ae")
        stream = msgspec.structs.replace(stream, models=(binding,))
        settings = Settings(models_dir=FOLDER / "models")
    return stream, bound_models(settings, stream)


@pytest.fixture(scope="module")
def make():
    """The script that wrote the fixtures, for its way of saying what a state holds."""
    spec = importlib.util.spec_from_file_location("make_state", FOLDER / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def as_version_1(key: bytes, value: bytes) -> bytes:
    """The same record as version 1 had it: no step in the schema, no `since` in the partition record."""
    fields = msgspec.msgpack.decode(value)
    if split_key(key)[0] == PARTITION_KEY:
        return msgspec.msgpack.encode([1, *fields[1:7]])
    version, schema, state, parts = fields
    assert version == 2
    return msgspec.msgpack.encode([1, schema[:3], state, parts])


def recovered(name: str, version: int) -> tuple[Pipeline, dict, list]:
    records, later = msgspec.msgpack.decode((FOLDER / f"{name}.msgpack").read_bytes())
    said = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    stream, models = stream_and_models(name)
    pipeline, found = Pipeline(stream, models), Recovering()
    for key, value in records:
        found.apply(key, as_version_1(key, value) if version == 1 else value, SnapshotCodec(stream).decode)
    assert found.damaged == []
    settled = found.settle()
    assert pipeline.restore(0, settled.record, settled.snapshots) == []
    assert pipeline.partitions[0].notes == []
    return pipeline, said, later


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", STREAMS)
def test_an_earlier_state_is_read_exactly(make, name, version) -> None:
    pipeline, said, _ = recovered(name, version)
    held = make.told(pipeline)
    expected = {k: v for k, v in said.items() if k != "next"}
    if version == 1:
        expected["since"] = dict.fromkeys(said["since"], 0)
    assert any(part for entity in said["entities"].values() for part in entity["parts"].values()), "an alert is open"
    assert all(said["drift"].values())
    for monitor in expected["drift"].values():
        for signal in monitor["signals"].values():
            for by, detector in signal["detectors"].items():  # version 1 of them knew no autocorrelation
                signal["detectors"][by] = detector | {
                    "tag": detector["tag"].replace("/1/", "/2/"),
                    "rho": (0.0).hex(),
                }
    assert held == expected


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", STREAMS)
def test_work_goes_on_from_an_earlier_state(make, name, version) -> None:
    pipeline, said, later = recovered(name, version)
    result = pipeline.process(make.chunk(pipeline.stream, later))
    assert result.replayed == 0
    assert result.counts.tolist() == said["next"]["counts"]
    assert make.outputs(result) == said["next"]["outputs"]
    assert make.judged(make.told(pipeline)) == said["next"]["entities"]


@pytest.mark.parametrize("name", STREAMS)
def test_an_earlier_state_laid_out_for_more_partitions_goes_on_alike(make, name) -> None:
    records, later = msgspec.msgpack.decode((FOLDER / f"{name}.msgpack").read_bytes())
    said = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    stream, models = stream_and_models(name)
    codec, old, new = SnapshotCodec(stream), Recovering(), [Recovering() for _ in range(3)]
    for key, value in records:
        old.apply(key, value, codec.decode)
    held = old.settle()
    layout = lay_out([held], stream, 3)
    assert layout.moved > 0
    for partition, key, value in changelog_records([held], layout, stream, Cut([0, 0, 0])):
        new[partition].apply(key, value, codec.decode)
    pipeline = Pipeline(stream, models)
    outputs, entities = [], {}
    for partition, recovering in enumerate(new):
        found = recovering.settle()
        pipeline.restore(partition, found.record, found.snapshots)
    for partition in range(3):
        mine = [row for row in later if key_hash(row[2]) % 3 == partition]
        if mine:
            columns = make.chunk(stream, [(i, *row[1:]) for i, row in enumerate(mine)])
            outputs += make.outputs(pipeline.process(replace(columns, partition=partition)))
    for entity in said["entities"]:
        view = pipeline.view(entity)
        entities[entity] = {f.name: make.exact(view[f.name]) for f in stream.fields}
    assert entities == {entity: one["fields"] for entity, one in said["next"]["entities"].items()}
    per_entity = [one for one in said["next"]["outputs"] if one[0] != "accuracy"]
    assert sorted(one for one in outputs if one[0] != "accuracy") == sorted(per_entity)
    assert any(one[0] == "anomalies" for one in per_entity)
