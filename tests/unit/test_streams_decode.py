"""Decoding of chunks: what is valid, what is rejected and why, and that all is accounted for."""

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dwcp_stream.streams import load_streams
from dwcp_stream.streams.decode import ChunkDecoder
from dwcp_stream.streams.decoded import Decoded
from dwcp_stream.streams.definition import Field, StreamDefinition

SHIPPED = load_streams(Path(__file__).resolve().parents[2] / "config" / "streams")
STREAM = StreamDefinition(
    name="demo",
    topic="demo",
    entity=("cluster", "group"),
    entity_optional=("group",),
    step=1.0,
    window=5,
    ahead_tolerance=10.0,
    fields=(
        Field(name="load", min=0, max=100, unit="%", required=True),
        Field(name="mode", vocabulary=("slow", "fast"), aliases={"2": "fast"}),
        Field(name="errors", kind="counter"),
    ),
)
GOOD: dict[str, Any] = {"cluster": "a", "ts": 1000.0, "load": 5.0, "mode": "slow", "errors": 3.0}


def decode(
    *values: bytes | dict[str, Any] | None, keys: Sequence[bytes | None] | None = None, stamp: int = 1_000_000
) -> Decoded:
    raw = [json.dumps(value).encode() if isinstance(value, dict) else value for value in values]
    decoded = ChunkDecoder(STREAM).decode(raw, keys or [b"a"] * len(raw), [stamp] * len(raw))
    check(decoded)
    return decoded


def check(decoded: Decoded) -> None:
    n = len(decoded.record)
    assert decoded.samples_in == n + sum(reject.samples for reject in decoded.rejects)
    assert decoded.values.shape[0] == len(decoded.ts) == len(decoded.entity) == len(decoded.row) == n
    assert (np.diff(decoded.record) >= 0).all()
    assert np.isfinite(decoded.ts).all()
    assert set(decoded.entity.tolist()) == set(range(len(decoded.entities)))
    records = [reject.record for reject in decoded.rejects]
    assert records == sorted(set(records))
    assert all(reject.samples >= 1 and reject.reason for reject in decoded.rejects)


def only_reject(decoded: Decoded) -> str:
    assert len(decoded.record) == 0
    assert decoded.samples_in == 1
    (reject,) = decoded.rejects
    assert (reject.record, reject.rows, reject.samples) == (0, (), 1)
    return reject.error_type


def test_single_samples() -> None:
    decoded = decode(
        GOOD,
        {**GOOD, "cluster": "b", "group": "g/1", "mode": "FAST", "errors": None},
        keys=[b"a", b"b/g%2F1"],
    )
    assert decoded.entities == ["a", "b/g%2F1"]
    assert decoded.entity.tolist() == [0, 1]
    np.testing.assert_array_equal(decoded.values, [[5, 0, 3], [5, 1, np.nan]])
    assert decoded.key_mismatches == decoded.unknown_fields == 0
    assert decoded.rejects == []


@pytest.mark.parametrize(
    ("word", "code"), [("slow", 0), ("Fast", 1), (2, 1), (2.0, 1), ("2", 1), ("2.0", 1), (None, math.nan)]
)
def test_words_match_by_case_alias_and_number(word: object, code: float) -> None:
    np.testing.assert_array_equal(decode({**GOOD, "mode": word}).values[0, 1], code)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"load": None}, "missing_field"),
        ({"ts": None}, "missing_field"),
        ({"load": True}, "wrong_type"),
        ({"load": "5"}, "wrong_type"),
        ({"load": [5]}, "wrong_type"),
        ({"load": {"value": 5}}, "wrong_type"),
        ({"mode": True}, "wrong_type"),
        ({"load": 101}, "out_of_range"),
        ({"load": -0.5}, "out_of_range"),
        ({"errors": 1e39}, "out_of_range"),
        ({"errors": 10**400}, "out_of_range"),
        ({"mode": "warp"}, "unknown_category"),
        ({"mode": 0}, "unknown_category"),
        ({"mode": 1.5}, "unknown_category"),
        ({"mode": ""}, "unknown_category"),
        ({"mode": "x" * 100_000}, "unknown_category"),
        ({"ts": 1_790_000_000_000}, "bad_time"),
        ({"ts": -1}, "bad_time"),
        ({"ts": True}, "bad_time"),
        ({"ts": "yesterday"}, "bad_time"),
        ({"ts": "2026-01-01T00:00:00"}, "bad_time"),  # no offset: the instant is unknown
        ({"ts": "2026-13-01T00:00:00Z"}, "bad_time"),
        ({"ts": {"s": 1}}, "bad_time"),
        ({"cluster": None}, "bad_entity"),
        ({"cluster": ""}, "bad_entity"),
        ({"cluster": 1.5}, "bad_entity"),
        ({"cluster": ["a"]}, "bad_entity"),
        ({"cluster": "x" * 300}, "bad_entity"),
        ({"ts": 1010.5}, "time_ahead"),
    ],
)
def test_one_wrong_thing_is_one_reject(change: dict[str, Any], error: str) -> None:
    assert only_reject(decode({**GOOD, **change})) == error


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (None, "undecodable"),
        (b"", "undecodable"),
        (b"{", "undecodable"),
        (b"\x00\x00\x00\x00\x01{}", "undecodable"),
        (json.dumps(GOOD).encode("utf-16"), "undecodable"),
        (b"\xef\xbb\xbf{}", "undecodable"),
        (b'{"cluster":"\xff","ts":1000,"load":5}', "undecodable"),
        (b'{"cluster":"\\ud800","ts":1000,"load":5}', "undecodable"),
        (b'{"cluster":"a","ts":1000,"load":NaN}', "undecodable"),
        (b'{"cluster":"a","ts":1000,"load":Infinity}', "undecodable"),
        (b'{"cluster":"a","ts":NaN,"load":5}', "undecodable"),
        (b'{"cluster":"a","ts":1000,"load":1e400}', "out_of_range"),
        (b'{"cluster":"a","ts":1000,"load":' + b"9" * 5000 + b"}", "out_of_range"),
        (b'{"cluster":' + b"9" * 5000 + b',"ts":1000,"load":5}', "bad_entity"),
        (b'{"cluster":"a","ts":1e400,"load":1}', "bad_time"),
        (b'{"cluster":"a","ts":1000,"load":5}{}', "undecodable"),
        (b'{"cluster":"a","ts":1000,"load":' + b"[" * 100_000, "undecodable"),
        (b'{"x":' * 100_000, "undecodable"),
        (b"[]", "wrong_type"),
        (b"null", "wrong_type"),
        (b"12", "wrong_type"),
        (b"{}", "bad_entity"),
        (b'{"cluster":"a","ts":1000,"load":5,"pad":"' + b" " * 9_000_000 + b'"}', "too_large"),
    ],
)
def test_json_extremes_are_one_reject_and_harm_no_neighbour(value: bytes | None, error: str) -> None:
    assert only_reject(decode(value)) == error
    between = decode(GOOD, value, {**GOOD, "load": 7})
    assert between.record.tolist() == [0, 2]
    assert between.values[:, 0].tolist() == [5, 7]
    assert [reject.record for reject in between.rejects] == [1]


def test_a_sample_with_no_field_at_all_is_invalid() -> None:
    stream = StreamDefinition(
        name="x", topic="x", entity=("id",), step=1.0, window=5, fields=(Field(name="a"), Field(name="b"))
    )
    decoded = ChunkDecoder(stream).decode([b'{"id":"i","ts":1}', b'{"id":"i","ts":1,"b":2}'], [b"i"] * 2, [0, 0])
    assert decoded.record.tolist() == [1]
    assert decoded.rejects[0].error_type == "missing_field"


def test_times_as_seconds_and_rfc3339() -> None:
    times: list[Any] = [0, 999.25, "1970-01-01T00:16:39.250Z", "1970-01-01T02:16:39.25+02:00"]
    decoded = decode(*({**GOOD, "ts": ts} for ts in times))
    assert decoded.ts.tolist() == [0, 999.25, 999.25, 999.25]
    assert decoded.ts.flags.writeable


def test_ahead_is_measured_from_the_records_own_timestamp() -> None:
    value = json.dumps({**GOOD, "ts": 1000.0}).encode()
    decoded = ChunkDecoder(STREAM).decode([value] * 3, [b"a"] * 3, [990_000, 989_999, -1])
    assert decoded.record.tolist() == [0, 2]  # a record without a timestamp cannot be checked
    assert decoded.rejects[0].error_type == "time_ahead"
    free = ChunkDecoder(STREAM, check_ahead=False).decode([value] * 3, [b"a"] * 3, [0, 0, 0])
    assert len(free.record) == 3


def test_rejects_name_field_and_value() -> None:
    decoded = decode({**GOOD, "load": 250}, {**GOOD, "mode": "warp"})
    assert decoded.rejects[0].reason == "load = 250.0 is outside 0 to 100 %"
    assert "mode = 'warp'" in decoded.rejects[1].reason


def test_frames() -> None:
    frame = {
        "cluster": "a",
        "ts": [1, 2, 3],
        "load": [1, None, 3],
        "mode": ["slow", "fast", None],
        "errors": 9,
    }
    decoded = decode(GOOD, frame, GOOD)
    assert decoded.record.tolist() == [0, 1, 1, 2]
    assert decoded.row.tolist() == [0, 0, 2, 0]
    np.testing.assert_array_equal(decoded.values[1:3], [[1, 0, 9], [3, np.nan, 9]])
    (reject,) = decoded.rejects
    assert (reject.record, reject.rows, reject.samples) == (1, (1,), 1)
    assert reject.error_type == "missing_field"


def test_frames_of_many_entities() -> None:
    frame = {"cluster": ["a", "b", "a"], "group": [None, "g", None], "ts": [1, 2, 3], "load": [1, 2, 3]}
    decoded = decode(frame)
    assert [decoded.entities[code] for code in decoded.entity] == ["a", "b/g", "a"]
    assert decoded.key_mismatches == 1


@pytest.mark.parametrize(
    ("column", "error"),
    [
        ({"load": [1, True, 3]}, "wrong_type"),
        ({"load": [1, "2", 3]}, "wrong_type"),
        ({"load": [1, [2], 3]}, "wrong_type"),
        ({"load": [1, 200, 3]}, "out_of_range"),
        ({"load": [1, 10**400, 3]}, "out_of_range"),
        ({"mode": ["slow", "warp", "slow"]}, "unknown_category"),
        ({"mode": ["slow", False, "slow"]}, "wrong_type"),
        ({"ts": [1, "x", 3]}, "bad_time"),
        ({"ts": [1, None, 3]}, "missing_field"),
        ({"ts": [1, 1e12, 3]}, "bad_time"),
        ({"ts": [1, 5000, 3]}, "time_ahead"),
        ({"cluster": ["a", None, "a"]}, "bad_entity"),
        ({"cluster": ["a", 1.5, "a"]}, "bad_entity"),
    ],
)
def test_a_bad_row_costs_only_itself(column: dict[str, Any], error: str) -> None:
    frame = {
        "cluster": "a",
        "ts": [1, 2, 3],
        "load": [1, 2, 3],
        "mode": "slow",
        "errors": [1, 2, 3],
        **column,
    }
    decoded = decode(GOOD, frame)
    assert decoded.record.tolist() == [0, 1, 1]
    assert decoded.row.tolist() == [0, 0, 2]
    assert decoded.values[1:, 2].tolist() == [1, 3]
    (reject,) = decoded.rejects
    assert (reject.record, reject.rows, reject.samples, reject.error_type) == (1, (1,), 1, error)


def test_frames_bad_as_a_whole() -> None:
    base = {"cluster": "a", "ts": [1, 2], "load": [1, 2]}
    assert only_reject(decode({**base, "load": [1, 2, 3]})) == "ragged_frame"
    assert only_reject(decode({**base, "load": [1, 2, True]})) == "ragged_frame"
    assert only_reject(decode({**base, "cluster": ["a"]})) == "ragged_frame"
    long = json.dumps({**base, "ts": list(range(5)), "load": list(range(5))}).encode()
    limited = ChunkDecoder(STREAM, max_frame_rows=4).decode([long], [b"a"], [10**6])
    assert limited.rejects[0].error_type == "too_large"
    every = decode({**base, "load": True})
    assert (every.rejects[0].rows, every.rejects[0].samples, every.samples_in) == ((0, 1), 2, 2)
    assert decode({**base, "ts": [], "load": []}).samples_in == 0


def test_unknown_fields_are_counted_exactly_also_once_learned() -> None:
    decoder = ChunkDecoder(STREAM)
    values = [
        json.dumps(GOOD).encode(),
        json.dumps({**GOOD, "x": 1, "note": {"deep": [1, 2]}}).encode(),
        json.dumps({**GOOD, "x": None}).encode(),
        json.dumps({"cluster": "a", "ts": [1, 2], "load": [1, 2], "x": [0, 0], "y": 1}).encode(),
        json.dumps({**GOOD, "load": "bad", "x": 1}).encode(),
        json.dumps({**GOOD, "load": 101, "y": 1}).encode(),
        b"{",
    ]
    counts = [decoder.decode(values, [b"a"] * 7, [10**6] * 7).unknown_fields for _ in range(3)]
    assert counts == [7, 7, 7]
    # names beyond what is learned are still counted
    for start in range(3):
        many = [json.dumps({**GOOD, f"n{start}_{i}": 1}).encode() for i in range(100)]
        assert decoder.decode(many, [b"a"] * 100, [10**6] * 100).unknown_fields == 100


def test_key_mismatches_are_counted_not_rejected() -> None:
    decoded = decode(GOOD, GOOD, GOOD, keys=[b"a", None, b"b"])
    assert decoded.key_mismatches == 2
    assert len(decoded.record) == 3
    assert decoded.entities == ["a"]


def test_number_and_text_are_the_same_entity() -> None:
    decoded = decode({**GOOD, "cluster": 7}, {**GOOD, "cluster": "7"}, keys=[b"7", b"7"])
    assert decoded.entities == ["7"]


def test_optional_part_needs_the_ones_before_it() -> None:
    stream = StreamDefinition(
        name="x",
        topic="x",
        entity=("a", "b", "c"),
        entity_optional=("b", "c"),
        step=1.0,
        window=5,
        fields=(Field(name="v"),),
    )
    values = [b'{"a":"1","c":"3","ts":1,"v":1}', b'{"a":"1","b":"3","ts":1,"v":1}']
    decoded = ChunkDecoder(stream).decode(values, [None] * 2, [0, 0])
    assert decoded.entities == ["1/3"]
    assert decoded.rejects[0].error_type == "bad_entity"


def test_default_entity_fills_absent_parts() -> None:
    value = b'{"ts":1,"load":1}'
    decoder = ChunkDecoder(STREAM, default_entity="lab/g%2F1")
    assert decoder.decode([value], [None], [0]).entities == ["lab/g%2F1"]
    other = b'{"cluster":"x","group":"y","ts":1,"load":1}'
    assert decoder.decode([other], [None], [0]).entities == ["x/y"]


def test_consensus_takes_the_numbers_of_the_reference() -> None:
    stream = SHIPPED["consensus"]
    sample = {"cluster_id": "c", "ts": 1, "network_tier": 1.0, "dwcp_mode": 2, "consensus_type": 1}
    wrong = {**sample, "network_tier": 0}
    values = [json.dumps(each).encode() for each in (sample, wrong)]
    decoded = ChunkDecoder(stream).decode(values, [b"c"] * 2, [0, 0])
    mode = stream.fields[stream.field_index("dwcp_mode")].vocabulary.index("conservative")
    assert decoded.values[0, -3:].tolist() == [0, mode, 1]
    assert decoded.rejects[0].error_type == "unknown_category"
    link = SHIPPED["link"]
    value = json.dumps({"cluster_id": "c", "node_id": 1, "peer_id": 2, "ts": 1, "network_tier": "Economy"}).encode()
    coded = ChunkDecoder(link).decode([value], [b"c/1/2"], [0])
    assert coded.values[0, link.field_index("network_tier")] == 2
    assert coded.entities == ["c/1/2"]


def test_caches_stay_bounded() -> None:
    decoder = ChunkDecoder(STREAM)
    for start in range(0, 6000, 1000):
        values = [
            json.dumps({**GOOD, "cluster": f"c{i}", "mode": f"m{i}"}).encode() for i in range(start, start + 1000)
        ]
        decoded = decoder.decode(values, [b"a"] * 1000, [10**6] * 1000)
        assert len(decoded.rejects) == 1000
    assert len(decoder._builder._codes[1] or ()) <= 4096


# arbitrary bytes, JSON that is nearly right, frames that are nearly right
numbers = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**30), 10**30), st.floats(0, 100))
scalars = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=5), st.sampled_from(["slow", "FAST", 2]))
names = st.sampled_from(["cluster", "group", "ts", "load", "mode", "errors", "x", "y"])
samples = st.dictionaries(names, scalars, max_size=8).map(lambda change: {**GOOD, **change})
columns = st.lists(scalars, min_size=3, max_size=3)
frames = st.dictionaries(names, st.one_of(columns, scalars, st.lists(scalars, max_size=4)), max_size=8).map(
    lambda change: {"cluster": "a", "ts": [1, 2, 3], "load": [1, 2, 3], **change}
)
payloads = st.one_of(
    st.none(),
    st.binary(max_size=40),
    st.just(json.dumps(GOOD).encode()),
    st.one_of(samples, frames).map(lambda value: json.dumps(value).encode()),
    st.one_of(samples, frames).map(lambda value: json.dumps(value).encode()[:-3]),
)
chunks = st.lists(payloads, max_size=12)


def flat(decoded: Decoded, start: int) -> tuple[list[Any], list[Any], int, int]:
    """Everything a chunk decoded to, independent of how entities are numbered."""
    rows = [
        (start + record, row, ts, decoded.entities[entity], repr(values))
        for record, row, ts, entity, values in zip(
            decoded.record.tolist(),
            decoded.row.tolist(),
            decoded.ts.tolist(),
            decoded.entity.tolist(),
            decoded.values.tolist(),
            strict=True,
        )
    ]
    rejects = [reject._replace(record=start + reject.record) for reject in decoded.rejects]
    return rows, rejects, decoded.unknown_fields, decoded.key_mismatches


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values=chunks)
def test_every_sample_is_accounted_for(values: list[bytes | None]) -> None:
    decoded = ChunkDecoder(STREAM).decode(values, [b"a"] * len(values), [10**6] * len(values))
    check(decoded)
    settled = set(decoded.record.tolist()) | {reject.record for reject in decoded.rejects}
    for index, value in enumerate(values):  # every record is settled; only a frame without rows says nothing
        if index not in settled:
            assert json.loads(value or b"")["ts"] == []


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values=chunks, cuts=st.lists(st.integers(0, 12), max_size=4))
def test_cutting_a_chunk_changes_nothing(values: list[bytes | None], cuts: list[int]) -> None:
    whole = flat(ChunkDecoder(STREAM).decode(values, [b"a"] * len(values), [10**6] * len(values)), 0)
    decoder = ChunkDecoder(STREAM)  # one decoder over all pieces: what it remembers must not matter
    rows: list[Any] = []
    rejects: list[Any] = []
    unknown = mismatches = 0
    bounds = sorted({0, len(values), *(cut for cut in cuts if cut < len(values))})
    for start, end in pairwise(bounds):
        piece = values[start:end]
        got = flat(decoder.decode(piece, [b"a"] * len(piece), [10**6] * len(piece)), start)
        rows += got[0]
        rejects += got[1]
        unknown += got[2]
        mismatches += got[3]
    assert (rows, rejects, unknown, mismatches) == whole


def test_long_chunks_keep_their_order_across_sweeps() -> None:
    values: list[bytes | None] = []
    for index in range(3000):
        if index % 7 == 3:
            values.append(b"{")
        elif index % 11 == 5:
            rows = [float(index), index + 0.5]
            values.append(json.dumps({"cluster": f"c{index % 5}", "ts": rows, "load": [1, 2]}).encode())
        else:
            values.append(json.dumps({**GOOD, "cluster": f"c{index % 5}", "ts": index}).encode())
    decoded = ChunkDecoder(STREAM, check_ahead=False).decode(values, [b"a"] * 3000, [0] * 3000)
    check(decoded)
    np.testing.assert_array_equal(np.floor(decoded.ts), decoded.record)
    assert [decoded.entities[code] for code in decoded.entity] == [f"c{index % 5}" for index in decoded.record]
    assert [reject.record for reject in decoded.rejects] == [i for i in range(3000) if i % 7 == 3]
