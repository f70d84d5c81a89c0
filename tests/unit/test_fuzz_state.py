"""Snapshots, definitions and model files however bad: the error that is declared, and no other; nothing explodes."""

import io
import json
import math
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwcp_stream.alerts import AlertTracker
from dwcp_stream.drift import DriftMonitor
from dwcp_stream.errors import ConfigError, ModelError, StateError
from dwcp_stream.forecasts import ForecastTracker
from dwcp_stream.kafka.generations import make_key, split_key
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.registry import ModelRepository, checks
from dwcp_stream.registry.aliases import read_aliases
from dwcp_stream.registry.golden import read_golden
from dwcp_stream.registry.manifest import parse_manifest
from dwcp_stream.scoring import ModelState
from dwcp_stream.streams import load_stream, load_streams
from dwcp_stream.streams.definition import AlertPolicy
from dwcp_stream.windows import Windows, decode_partition_record, decode_snapshot
from dwcp_stream.windows.snapshot import ENTITY_VERSION, PartitionRecord, encode_partition_record
from tests.fuzz import models
from tests.fuzz.payloads import Payloads, damaged
from tests.fuzz.properties import Accounted
from tests.fuzz.snapshots import checkpointed
from tests.model_graphs import make_files, make_manifest, write_version

STREAMS_DIR = Path(__file__).parents[2] / "config/streams"
STREAMS = load_streams(STREAMS_DIR)
CONSENSUS = STREAMS["consensus"]
SEEDS = st.integers(0, 2**32)
encode = msgspec.msgpack.encode

# --- snapshots --------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(st.sampled_from(sorted(STREAMS)), SEEDS)
def test_a_damaged_snapshot_is_refused_or_harmless(name, seed):
    stream, rng = STREAMS[name], Random(seed)
    entity, data = rng.choice(CHECKPOINTS[name])
    for _ in range(rng.choice((1, 1, 3, 10))):
        data = damaged(data or b"\0", rng)
    try:
        if entity is None:
            decode_partition_record(data)
            return
        snapshot = decode_snapshot(data, stream)
    except StateError:
        return
    windows = Windows(stream)
    windows.load({"a": snapshot.state})
    windows.view("a").features()


CHECKPOINTS = {name: checkpointed(stream) for name, stream in STREAMS.items()}
OWN = [CONSENSUS.window, list(CONSENSUS.field_names), [], CONSENSUS.step]


def empty(window: int, last_ts: float = 1.0) -> list[Any]:
    """A window of nothing but gaps, packed."""
    return [5, 1.0, -1, last_ts, b"\0" * ((window + 7) // 8), b"", b"", b""]


NESTED = b"\x91" * 100_000 + b"\x90"


@pytest.mark.parametrize(
    "data",
    [
        encode([ENTITY_VERSION, OWN, empty(30), {}])[:-1] + b"\x81\xa1a" + NESTED,
        encode([ENTITY_VERSION])[:-1] + NESTED,
        NESTED,
        # windows of 160,000 rows and 2,000 fields that nobody has written
        encode([ENTITY_VERSION, [160_000, ["f"] * 2000, [], 1.0], empty(160_000), {}]),
        encode([ENTITY_VERSION, [10_000, ["f"] * 100_000, [], 1.0], empty(10_000), {}]),
        encode([ENTITY_VERSION, OWN, empty(30, math.inf), {}]),
        encode([ENTITY_VERSION, OWN, empty(30, math.nan), {}]),
    ],
)  # fmt: skip
def test_snapshots_that_explode_or_never_expire_are_refused(data):
    tracemalloc.start()
    try:
        with pytest.raises(StateError):
            decode_snapshot(data, CONSENSUS)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "change",
    [{"position": -1}, {"position": 1 << 63}, {"since": {"m": -5}}, {"watermark": math.nan}, {"tick": math.inf}],
)
def test_partition_records_of_no_partition_are_refused(change):
    with pytest.raises(StateError):
        decode_partition_record(encode_partition_record(PartitionRecord(**change)))


@pytest.mark.parametrize("key", [b"", b"name", b"name@", b"name@x", b"\xff@1", b"a@" + b"9" * 5000])
def test_keys_of_no_state_topic_are_refused(key):
    with pytest.raises(StateError, match="no key of a state topic"):
        split_key(key)
    assert split_key(make_key("a@b", 7)) == ("a@b", 7)


NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats()
PLAIN = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5) | st.binary(max_size=9),
    lambda x: st.lists(x, max_size=5) | st.dictionaries(st.sampled_from(["v", "row", "ts", "signals", "a"]), x),
    max_leaves=12,
)


def replaced(plain: Any, rng: Random, value: Any) -> Any:
    """Put a value in some place of nested lists and dicts."""
    if rng.random() < 0.25 or not isinstance(plain, list | tuple | dict) or not plain:
        return value
    if isinstance(plain, dict):
        key = rng.choice(sorted(plain))
        return {**plain, key: replaced(plain[key], rng, value)}
    at = rng.randrange(len(plain))
    return [replaced(x, rng, value) if i == at else x for i, x in enumerate(plain)]


def alerts() -> tuple[Any, Callable[[Any], object]]:
    tracker = AlertTracker(AlertPolicy(), [1, 2, 5], capacity=1)

    def load(plain: Any) -> None:
        tracker.load(0, plain)
        tracker.expire(np.array([0]), np.array([2e9]))  # says what was taken

    return [1, 1.79e9, True, 2, None], load


def forecasts() -> tuple[Any, Callable[[Any], object]]:
    tracker = ForecastTracker("s", "m", ("a",), (1, 2), 1.0, partition=0)
    tracker.resize(1)
    plain = {
        "v": 1,
        "horizons": [1, 2],
        "targets": ["a"],
        "row": 5,
        "ts": 1.0,
        "version": [1, 0, 0],
        "values": bytes(24),
    }
    return plain, lambda given: tracker.load(0, given)


def accuracy() -> tuple[Any, Callable[[Any], object]]:
    tracker = ForecastTracker("s", "m", ("a",), (1, 2), 1.0, partition=0)
    return tracker.state(), tracker.load_state


def states() -> tuple[Any, Callable[[Any], object]]:
    state = ModelState(4, version=1)
    state.resize(1)
    return [1, bytes(16)], lambda plain: state.load(0, plain)


def drift() -> tuple[Any, Callable[[Any], object]]:
    monitor = DriftMonitor("s", "m", {"a": {"edges": [1.0], "share": [0.5, 0.5]}}, 60.0, ("a",), version=1, partition=0)
    return monitor.state(), monitor.load


@pytest.mark.parametrize("part", [alerts, forecasts, accuracy, states, drift])
@settings(max_examples=150)
@given(PLAIN, SEEDS)
def test_what_is_kept_beside_a_window_is_taken_or_refused(part, value, seed):
    plain, load = part()
    load(plain)
    given = msgspec.msgpack.decode(encode(replaced(plain, Random(seed), value)))
    try:
        load(given)
    except StateError:
        return


# --- definitions --------------------------------------------------------------------------------------------

BASE = 'name="x"\ntopic="x"\nentity=["id"]\nstep=1.0\nwindow=5\n%s\n[[fields]]\nname="a"\n'
ODD = st.sampled_from(
    [
        *("nan", "inf", "-inf", "0", "-1", "2", "0.001", "1e-300", "5e-324", "1e308", "9" * 30, "9" * 5000, "true"),
        *('""', '"irregular"', "[]", "{}", "[[]]", "1979-05-27", "07:32:00", '"\\u0000"', "'x'"),
        *("[" * 3000 + "]" * 3000, "{a=" * 500 + "1" + "}" * 500),
    ]
)
KEYS = (
    *("name", "topic", "description", "entity", "entity_optional", "time", "models", "alert", "alert.min_duration"),
    *("step", "window", "stride", "min_periods", "max_entities"),
    *("lateness", "expire_after", "ahead_tolerance", "drift_block"),
)


def read(folder: Path, text: bytes) -> Any:
    path = folder / "x.toml"
    path.write_bytes(text)
    return load_stream(path)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(KEYS), ODD, min_size=1, max_size=3), SEEDS, st.booleans())
def test_a_definition_is_refused_or_can_be_run(tmp_path_factory, changes, seed, byte_damage):
    rng = Random(seed)
    kept = [line for line in BASE.splitlines() if line.split("=")[0] not in changes]
    at = kept.index("%s")
    text = "\n".join([*kept[:at], *(f"{k}={v}" for k, v in changes.items()), *kept[at + 1 :]]).encode()
    if byte_damage:
        text = damaged(text, rng)
    try:
        stream = read(tmp_path_factory.getbasetemp(), text)
    except ConfigError:
        return
    pipeline = Accounted(Pipeline(stream))
    payloads = Payloads(stream, rng)
    for _ in range(2):
        pipeline.feed([payloads.record() for _ in range(40)])


@settings(max_examples=100)
@given(st.sampled_from(sorted(STREAMS)), SEEDS)
def test_a_damaged_definition_is_refused_or_still_one(tmp_path_factory, name, seed):
    rng = Random(seed)
    text = (STREAMS_DIR / f"{name}.toml").read_bytes()
    for _ in range(rng.choice((1, 1, 4))):
        text = damaged(text, rng)
    try:
        stream = read(tmp_path_factory.getbasetemp(), text)
    except ConfigError:
        return
    Pipeline(stream)


# --- models ---------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(SEEDS)
def test_versions_that_are_nearly_right_are_refused_or_load(seed):
    assert models.check(seed) in ("refused", "loads")


@pytest.mark.parametrize(
    "value",
    [b'"\xff"', b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}", b'{"a": ' + b"9" * 5000 + b"}", b"1e999", b'"\\ud800"'],
)
def test_manifests_that_no_decoder_takes(value):
    plain = {**make_manifest("anomaly"), "version": 1, "files": {}, "metrics": "HERE"}
    with pytest.raises(ModelError):
        parse_manifest(json.dumps(plain).encode().replace(b'"HERE"', value), where="x")


@pytest.mark.parametrize("text", ["[" * 5000 + "]" * 5000, "9" * 5000, "\udcff"])
def test_metadata_that_no_decoder_takes(text):
    class Session:
        def get_modelmeta(self) -> Any:
            return type(
                "Meta", (), {"custom_metadata_map": dict.fromkeys(map("dwcp.{}".format, checks.REPEATED), text)}
            )

    data = json.dumps({**make_manifest("anomaly"), "version": 1, "files": {}}).encode()
    with pytest.raises(ModelError, match="metadata says"):
        checks.check_metadata(Session(), parse_manifest(data, where="x"), where="x")


def archive(header: str | bytes, data: bytes = b"") -> bytes:
    text = header.encode() if isinstance(header, str) else header
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("window.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data)
    return buffer.getvalue()


def shaped(shape: str) -> str:
    return f"{{'descr':'<f4','fortran_order':False,'shape':{shape}}}"


@pytest.mark.parametrize(
    "data",
    [
        archive("{1:2,'a':3}"),
        archive("(((("),
        archive("[" * 300),
        archive(shaped("(99999999999999999999999,)")),
        archive(shaped("(1099511627776,)")),
        archive(shaped("(-1,)")),
        archive("{'descr':'|O','fortran_order':False,'shape':(1,)}", b"cos\nsystem\n."),
        archive(b"\xff" * 40),
        archive(shaped("(4,)"), b"\0" * (65 << 20)),
    ],
)
def test_goldens_that_explode_or_are_no_arrays(data):
    tracemalloc.start()
    try:
        with pytest.raises(ModelError):
            read_golden(data, where="x")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_goldens_that_hold_something_else_than_arrays():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("window", b"no array")
    with pytest.raises(ModelError, match="plain arrays"):
        read_golden(buffer.getvalue(), where="x")


@pytest.mark.parametrize("data", [b'{"a\xff": {}}', b'{"a":' * 5000, b"[1]", b'{"m": {"champion": 0}}', None])
def test_aliases_that_are_none(tmp_path, data):
    path = tmp_path / "aliases.json"
    path.mkdir() if data is None else path.write_bytes(data)
    with pytest.raises(ModelError):
        read_aliases(tmp_path)


@pytest.mark.parametrize("name", ["../x", "..", "/etc", "a/b", "a\0b", "", ".", "A", "x" * 65, "ä"])
def test_names_that_lead_elsewhere(tmp_path, name):
    write_version(tmp_path, make_files("anomaly"), make_manifest("anomaly"))
    repository = ModelRepository(tmp_path / "inner")
    for call in (repository.load, repository.versions, repository.resolve):
        with pytest.raises(ModelError):
            call(name)
