"""docs/asyncapi.yaml is current, consistent, and true of what the pipeline publishes and the decoder takes."""

from __future__ import annotations

import io
import json
import runpy
from collections import Counter
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
import numpy as np
import polars as pl
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from dwcp_stream.arm_scores import build_arm_scores
from dwcp_stream.asyncapi.document import document, to_yaml
from dwcp_stream.backtest import backtest
from dwcp_stream.chunk import Chunk
from dwcp_stream.control import Command, Promote, Retrain, Rollback, SetLogLevel, Shadow, Split, sign
from dwcp_stream.events import DecisionWord, ModelAction, ModelDecision, ModelEvent, Output, rfc3339
from dwcp_stream.kafka.catalogue import TIMESTAMPS, catalogue
from dwcp_stream.loading import bound_models
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.realised import Feedback, build_feedback
from dwcp_stream.registry.payload import build_decision, build_model_event
from dwcp_stream.settings import Settings
from dwcp_stream.streams import load_streams
from dwcp_stream.streams.decode import ChunkDecoder
from dwcp_stream.streams.files import read_table, rows_to_records
from lab.links import simulate_links
from lab.nodes import simulate_nodes
from tests.docs.pages import PAGES, ROOT, blocks

FILE = ROOT / "docs/asyncapi.yaml"
ETCD = ROOT / "tests/data/etcd/dev_r3.csv.gz"
STREAMS = load_streams(ROOT / "config/streams")
DOCUMENT = yaml.safe_load(FILE.read_text())


def resolve(reference: dict[str, str]) -> Any:
    """What a `$ref` of the document points at."""
    found: Any = DOCUMENT
    for step in reference["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return found


def validator(schema: dict[str, Any]) -> Draft7Validator:
    """A validator for a schema whose references are those of the document."""
    whole = schema | {"components": DOCUMENT["components"]}
    return Draft7Validator(whole, format_checker=Draft7Validator.FORMAT_CHECKER)


def schema_of(name: str) -> Draft7Validator:
    return validator(DOCUMENT["components"]["schemas"][name])


def message_of(output: Output) -> tuple[str, Any]:
    """Name and definition of the message of its channel that an output is, by its event type."""
    kind = dict(output.headers)["ce_type"].decode()
    found = {name: resolve(at) for name, at in DOCUMENT["channels"][output.topic]["messages"].items()}
    ((name, message),) = (
        (name, message)
        for name, message in found.items()
        if kind in message["headers"]["properties"]["ce_type"]["enum"]
    )
    return name, message


def complain(checker: Draft7Validator, value: Any) -> list[str]:
    return [f"{list(e.absolute_path)}: {e.message[:200]}" for e in checker.iter_errors(value)]


def test_the_file_is_current():
    assert FILE.read_text() == to_yaml(document(STREAMS.values())), "run `make docs`"


def test_every_topic_is_a_channel_as_it_is_made():
    kafka = [channel["bindings"]["kafka"] for channel in DOCUMENT["channels"].values()]
    specs = {spec.name: spec for spec in catalogue(streams=STREAMS.values())}
    assert {binding["topic"] for binding in kafka} == set(specs)
    for binding in kafka:
        spec = specs[binding["topic"]]
        config = dict(binding["topicConfiguration"])
        assert ",".join(config.pop("cleanup.policy")) == spec.cleanup
        config |= {k: v for k, v in spec.config.items() if k == TIMESTAMPS}  # the binding cannot say it
        assert {k: str(v) for k, v in config.items()} == {k: v for k, v in spec.config.items() if k != "cleanup.policy"}
        assert (binding["partitions"], binding["replicas"]) == (spec.partitions, spec.replication)


def test_every_reference_leads_somewhere_and_every_schema_is_one():
    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                assert resolve(node)
            for part in node.values():
                walk(part)
        elif isinstance(node, list):
            for part in node:
                walk(part)

    walk(DOCUMENT)
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)


def test_examples_in_the_pages_are_valid():
    shown = [b for page in PAGES for b in blocks(page) if b.language == "json"]
    assert {b.marks[1] for b in shown} >= {
        "Alert", "Prediction", "Drift", "Accuracy", "ArmScores", "ModelEvent", "ModelDecision"
    }  # fmt: skip
    for block in shown:
        assert block.marks[0] == "schema", block
        assert not complain(schema_of(block.marks[1]), json.loads(block.text)), block


# --- what the pipeline publishes ------------------------------------------------------------------------


def telemetry(name: str) -> pl.DataFrame:
    if name == "consensus":
        return pl.read_csv(ETCD, infer_schema_length=None).with_columns(pl.lit("etcd-lab").alias("cluster_id"))
    if name == "node":
        return simulate_nodes(8, 4, 5)
    return simulate_links(4, 2, 5)


@pytest.fixture(scope="module", params=sorted(STREAMS))
def published(request, tmp_path_factory):
    """Stream, the records sent, and what the shipped models' pipeline made of them and of some bad ones."""
    stream = STREAMS[request.param]
    path = tmp_path_factory.mktemp("telemetry") / "rows.parquet"
    telemetry(stream.name).write_parquet(path)
    records = list(rows_to_records(read_table(path, stream, None), stream))
    pipeline = Pipeline(stream, bound_models(Settings(models_dir=ROOT / "models"), stream), check_ahead=False)
    outputs = [output for result in backtest(pipeline, records) for output in result.outputs]
    bad = [(None, b"{"), (b"key", b'{"ts": "never"}'), (b"key", b'{"ts": [1, 2], "cluster_id": [1]}'), (None, None)]
    n = len(bad)
    chunk = Chunk(stream.topic, 9, np.arange(n), np.full(n, 10**12), [k for k, _ in bad], [v for _, v in bad])
    outputs += pipeline.process(chunk).outputs
    return stream, records, outputs


def test_messages_are_as_the_document_says(published):
    stream, _, outputs = published
    seen = Counter(output.topic for output in outputs)
    assert seen["anomalies"]
    assert seen["deadletter"] == 4
    assert stream.name == "consensus" or seen["predictions"]
    assert stream.name != "link" or (seen["accuracy"] and seen["drift"])
    checked: Counter[str] = Counter()
    checkers: dict[str, tuple[Draft7Validator, Draft7Validator]] = {}
    for output in outputs:
        if output.topic not in checkers:
            _, message = message_of(output)
            payload = message["payload"]
            schema = resolve(payload) if "$ref" in payload else payload
            checkers[output.topic] = validator(message["headers"]), validator(schema)
        checked[output.topic] += 1
        if checked[output.topic] > 500:  # thousands of forecasts are alike
            continue
        headers, payload = checkers[output.topic]
        plain = {key: value.decode() for key, value in output.headers}
        assert len(plain) == len(output.headers), "a header twice"
        assert not complain(headers, plain)
        if output.topic != "deadletter":
            assert not complain(payload, msgspec.json.decode(output.value))


@pytest.mark.parametrize("action", get_args(ModelAction))
def test_what_a_worker_says_of_models_is_as_the_document_says(action):
    event = ModelEvent(
        stream="node", model="node-gbt", alias="champion", version=2, action=action, reason="", serving=1,
        event_time=rfc3339(1e9),
    )  # fmt: skip
    output = build_model_event(event)
    message = resolve(DOCUMENT["channels"][output.topic]["messages"]["ModelEvent"])
    assert not complain(validator(message["headers"]), {key: value.decode() for key, value in output.headers})
    assert not complain(schema_of("ModelEvent"), msgspec.json.decode(output.value))
    assert output.key == b"node-gbt"


@pytest.mark.parametrize("word", get_args(DecisionWord))
def test_decisions_are_as_the_document_says(word):
    decision = ModelDecision(
        stream="node", model="node-gbt", decision=word, version=2, champion=None, reason="why",
        numbers={"lower": 0.5, "upper": None}, event_time=rfc3339(1e9),
    )  # fmt: skip
    output = build_decision(decision)
    name, message = message_of(output)
    assert name == "ModelDecision"
    assert not complain(validator(message["headers"]), {key: value.decode() for key, value in output.headers})
    assert not complain(schema_of(name), msgspec.json.decode(output.value))
    assert output.key == f"node-gbt/2/{word}".encode()


def test_scores_of_arms_are_as_the_document_says():
    output = build_arm_scores("link", "link-forecast", 2, "shadow", 3, (5, 1, [10, 1, 2, 3, 4_500_000]), 3000.0)
    name, message = message_of(output)
    assert name == "ArmScores"
    assert not complain(validator(message["headers"]), {key: value.decode() for key, value in output.headers})
    body = msgspec.json.decode(output.value)
    assert not complain(schema_of(name), body)
    assert (body["bucket_start"], body["difference"]) == ("1970-01-01T00:25:00.000Z", 4.5)


ACTIONS = [
    Promote("node-gbt", 2),
    Rollback("node-gbt", 2),
    Shadow("node-gbt", 2),
    Shadow("node-gbt", None),
    Split("node-gbt", 2, 10),
    Split("node-gbt", None, 0),
    Retrain("node-gbt"),
    SetLogLevel("debug"),
]


@pytest.mark.parametrize("action", ACTIONS, ids=str)
def test_commands_are_as_the_document_says(action):
    until = datetime(2030, 1, 1, tzinfo=UTC)
    command = Command(key_id="alice", audience="*", sequence=7, not_after=until, action=action, reason="why")
    signed = sign(command, Ed25519PrivateKey.generate())
    message = resolve(DOCUMENT["channels"]["control"]["messages"]["Command"])
    assert not complain(validator(message["headers"]), {key: str(value) for key, value in signed.headers})
    assert not complain(schema_of("Command"), msgspec.json.decode(signed.value))
    for key in ("key_id", "audience", "sequence", "not_after", "action"):
        body = msgspec.json.decode(signed.value)
        assert complain(schema_of("Command"), {k: v for k, v in body.items() if k != key}), key


def test_a_message_that_is_not_as_the_document_says_is_noticed(published):
    _, _, outputs = published
    for output in {output.topic: output for output in outputs if output.topic != "deadletter"}.values():
        name, _ = message_of(output)
        checker = schema_of(name)
        body = msgspec.json.decode(output.value)
        required = DOCUMENT["components"]["schemas"][name]["required"]
        assert required
        for key in required:
            assert complain(checker, {k: v for k, v in body.items() if k != key}), key
            assert complain(checker, body | {key: object()}), key


def test_every_topic_has_messages():
    assert [name for name, channel in DOCUMENT["channels"].items() if not channel["messages"]] == []


@pytest.mark.parametrize("verdict", ["true", "false", "missed"])
def test_feedback_is_as_the_document_says(verdict):
    at = datetime(2026, 1, 1, tzinfo=UTC)
    said = Feedback(verdict=verdict, stream="node", entity="n1", starts_at=at, said_at=at)
    for signed_by in (None, ("alice", Ed25519PrivateKey.generate())):
        _, value, headers = build_feedback(said, signed_by)
        message = resolve(DOCUMENT["channels"]["feedback"]["messages"]["Feedback"])
        assert not complain(validator(message["headers"]), {key: str(given) for key, given in headers})
    assert not complain(schema_of("Feedback"), msgspec.json.decode(value))
    for key in ("verdict", "stream", "entity", "startsAt", "said_at"):
        assert complain(schema_of("Feedback"), {k: v for k, v in msgspec.json.decode(value).items() if k != key}), key


# --- what producers send --------------------------------------------------------------------------------


def test_records_of_replay_are_valid(published):
    stream, records, _ = published
    checker = schema_of(f"{stream.name}Sample")
    for _, value, _ in records[:: max(1, len(records) // 300)]:
        assert not complain(checker, msgspec.json.decode(value))


WILD = st.one_of(st.integers(-3, 3), st.floats(-1, 200), st.none(), st.just("1"), st.just("tier1"), st.booleans())
PART = st.one_of(st.text(min_size=1, max_size=3), st.integers())
TIME = st.one_of(st.floats(1, 1e9), st.just("2026-01-31T12:00:00Z"))


def of_field(field):
    """Values of a field, mostly right ones."""
    if field.coded:
        right = st.sampled_from([*field.vocabulary, *field.aliases]).map(str.upper)
    else:
        right = st.floats(0.0 if field.min is None else field.min, 1.0 if field.max is None else field.max)
    return st.integers(0, 19).flatmap(lambda n: right if n else WILD)


@st.composite
def payloads(draw, stream):
    """Rows (0: a single sample) and a sample or frame, mostly right."""
    rows = draw(st.integers(0, 3))

    def column(kind, *, always=False):
        many = st.lists(kind, min_size=rows, max_size=rows)
        return draw(kind if not rows else many if always else st.one_of(kind, many))

    body = {stream.time: column(TIME, always=True)}
    left_out = draw(st.sets(st.sampled_from(stream.entity), max_size=1)) if draw(st.integers(0, 9)) == 0 else set()
    body |= {name: column(PART) for name in stream.entity if name not in left_out}
    chosen = draw(st.sets(st.sampled_from(stream.field_names), min_size=1))
    body |= {f.name: column(of_field(f)) for f in stream.fields if f.required or f.name in chosen}
    return rows, body


@pytest.mark.parametrize("name", sorted(STREAMS))
@given(data=st.data())
def test_what_the_decoder_takes_whole_the_schema_takes(name, data):
    stream = STREAMS[name]
    rows, body = data.draw(payloads(stream))
    decoded = ChunkDecoder(stream).decode([json.dumps(body).encode()], [None], [2 * 10**12])
    if decoded.rejects:
        return
    assert not complain(schema_of(f"{name}{'Frame' if rows else 'Sample'}"), body)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ts": None},
        {"ts": True},
        {"cluster_id": None},
        {"cluster_id": ""},
        {"error_rate": None},
        {"error_rate": 1.5},
        {"error_rate": "0.5"},
        {"cpu_usage": -1},
        {"network_tier": True},
    ],
    ids=str,
)
def test_what_the_schema_refuses_the_decoder_refuses_too(wrong):
    right = {"ts": 1e9, "cluster_id": "a", "node_id": 1, "error_rate": 0.5, "cpu_usage": 3, "network_tier": "LAN"}
    checker, decoder = schema_of("nodeSample"), ChunkDecoder(STREAMS["node"])
    assert not complain(checker, right)
    assert not decoder.decode([json.dumps(right).encode()], [None], [2 * 10**12]).rejects
    assert complain(checker, right | wrong)
    assert decoder.decode([json.dumps(right | wrong).encode()], [None], [2 * 10**12]).rejects


def test_the_module_prints_the_file(capsys):
    runpy.run_module("dwcp_stream.asyncapi", run_name="__main__")
    assert yaml.safe_load(io.StringIO(capsys.readouterr().out)) == DOCUMENT
