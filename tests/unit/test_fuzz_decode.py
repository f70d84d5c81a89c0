"""Records however bad: the decoder takes or rejects every sample once, whatever the cut, at bounded work and memory."""

import json
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwcp_stream.chunk import Chunk, pieces
from dwcp_stream.deadletters import MAX_KEY_BYTES, MAX_VALUE_BYTES
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.streams import StreamDefinition, entity_ids, load_streams
from dwcp_stream.streams.decode import MAX_FRAME_ROWS, ChunkDecoder
from dwcp_stream.streams.decoded import Decoded
from dwcp_stream.streams.entity import encode_entity
from dwcp_stream.streams.entity_ids import EntityIds
from dwcp_stream.streams.nesting import MAX_DEPTH, too_deep
from tests.fuzz.payloads import NOW, RAW, Fed, Payloads
from tests.fuzz.properties import Accounted, check_accounting, check_cuts, decode

STREAMS = load_streams(Path(__file__).parents[2] / "config/streams")
CONSENSUS = STREAMS["consensus"]
STAMP = int(NOW * 1000)
SEEDS = st.integers(0, 2**32)
streams = st.sampled_from(sorted(STREAMS)).map(STREAMS.__getitem__)


def fed(*values: bytes | None) -> list[Fed]:
    return [Fed(b"e1", value, STAMP) for value in values]


def one(value: bytes, stream: StreamDefinition = CONSENSUS) -> Decoded:
    """Decode and check one record among two good ones."""
    good = Payloads(stream, Random(0)).sample()
    records = fed(good, value, good)
    decoded = decode(ChunkDecoder(stream), records)
    check_accounting(decoded, records)
    check_cuts(ChunkDecoder(stream), decoded, records, [1, 2])
    assert {0, 2} <= set(decoded.record.tolist())
    return decoded


def made(stream: StreamDefinition, seed: int, count: int) -> list[Fed]:
    payloads = Payloads(stream, Random(seed))
    return [payloads.record() for _ in range(count)]


@settings(max_examples=40)
@given(streams, SEEDS, st.lists(st.integers(0, 60), max_size=6))
def test_odd_records_are_taken_or_rejected_once_whatever_the_cut(stream, seed, cuts):
    records = made(stream, seed, 60)
    decoded = decode(ChunkDecoder(stream), records)
    check_accounting(decoded, records)
    check_cuts(ChunkDecoder(stream), decoded, records, cuts)


@settings(max_examples=20)
@given(streams, SEEDS)
def test_each_record_alone_comes_to_what_it_comes_to_among_others(stream, seed):
    records = made(stream, seed, 40)
    decoder = ChunkDecoder(stream)
    check_cuts(decoder, decode(decoder, records), records, range(40))


@settings(max_examples=20)
@given(streams, SEEDS)
def test_every_sample_of_a_pipeline_ends_in_one_counter_and_every_bad_record_in_a_dead_letter(stream, seed):
    pipeline = Accounted(Pipeline(stream))
    payloads = Payloads(stream, Random(seed))
    for _ in range(3):
        pipeline.feed([payloads.record() for _ in range(80)])


@settings(max_examples=20)
@given(streams, SEEDS, st.integers(0, 600))
def test_the_stack_of_the_caller_does_not_matter(stream, seed, frames):
    records = made(stream, seed, 20) + fed(*RAW)

    def below(depth: int) -> Decoded:
        return below(depth - 1) if depth else decode(ChunkDecoder(stream), records)

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + 700)
    try:
        whole = decode(ChunkDecoder(stream), records)
        check_cuts(ChunkDecoder(stream), whole, records, [])
        sys.setrecursionlimit(limit + 700 - frames)
        assert [r.record for r in below(0).rejects] == [r.record for r in whole.rejects]
    finally:
        sys.setrecursionlimit(limit)


SAMPLE = b'{"cluster_id":"a","ts":1790000000,"queue_depth":1,%s}'
FRAME = b'{"cluster_id":"a","ts":[1790000000,1790000001],"queue_depth":[1,2],%s}'


@pytest.mark.parametrize(
    ("value", "good", "error"),
    [
        # the reason for the first row must not be looked for in the second
        (FRAME % b'"dwcp_mode":["warp",1e999]', 0, "unknown_category"),
        (FRAME % b'"dwcp_mode":["warp","hybrid"],"network_tier":["tier1",1e999]', 0, "unknown_category"),
        (FRAME % b'"dwcp_mode":["hybrid",[[1e999]]]', 1, "wrong_type"),
        # names that msgspec takes in no type
        (SAMPLE % b'"a\\"b":1', 1, None),
        (SAMPLE % b'"a\\\\b":1', 1, None),
        (SAMPLE % b'"a\\tb":1', 1, None),
        (SAMPLE % b'"\\u0000":1', 1, None),
        (SAMPLE % b'"":1', 1, None),
        # an empty frame has no row to carry the fault of a column
        (b'{"cluster_id":1e999,"ts":[],"queue_depth":[]}', 0, "bad_entity"),
        (b'{"cluster_id":"a","ts":[],"queue_depth":"x"}', 0, "wrong_type"),
        (SAMPLE % (b'"x":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1)), 1, None),
        (SAMPLE % (b'"x":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH), 0, "undecodable"),
        (SAMPLE % (b'"x":"' + b"[{" * 1000 + b'\\""'), 1, None),
        (SAMPLE % (b'"x":[' + b"[]," * 3000 + b"1]"), 1, None),
    ],
)  # fmt: skip
def test_what_once_stopped_the_worker(value, good, error):
    decoded = one(value)
    assert decoded.record.tolist().count(1) == good
    assert {reject.error_type for reject in decoded.rejects} == ({error} if error else set())


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(st.text('[]{}"\\', max_size=3), inner, max_size=2)


@given(st.recursive(st.integers() | st.text('[]{}"\\,', max_size=4), nested, max_leaves=20), st.integers(0, 500))
def test_depth_is_that_of_the_brackets_outside_strings(value, more):
    def depth(found: Any) -> int:
        if isinstance(found, dict):
            found = list(found.values())
        return 1 + max(map(depth, found), default=0) if isinstance(found, list) else 0

    text = b"[" * more + json.dumps(value).encode() + b"]" * more
    assert too_deep(text) == (more + depth(value) > MAX_DEPTH)


@pytest.mark.parametrize("rows", [MAX_FRAME_ROWS, MAX_FRAME_ROWS + 1])
def test_the_longest_frame_and_one_row_more(rows):
    times = b",".join([b"%d" % NOW] * rows)
    decoded = decode(ChunkDecoder(CONSENSUS), fed(b'{"cluster_id":"a","queue_depth":1,"ts":[%s]}' % times))
    assert decoded.samples_in == (rows if rows == MAX_FRAME_ROWS else 1)
    assert [r.error_type for r in decoded.rejects] == ([] if rows == MAX_FRAME_ROWS else ["too_large"])


# --- work and memory, relative to the input ---------------------------------------------------------------

FAMILIES: dict[str, Callable[[int], bytes]] = {
    "nested": lambda n: SAMPLE % (b'"x":' + b"[" * n + b"]" * n),
    "unclosed": lambda n: b'{"a":' * n,
    "one field again and again": lambda n: SAMPLE % b",".join([b'"queue_depth":"x"'] * n),
    "unknown fields": lambda n: SAMPLE % b",".join(b'"n%d":1' % i for i in range(n)),
    "unknown fields without a name": lambda n: SAMPLE % b",".join(b'"\\u0000%d":1' % i for i in range(n)),
    "bad rows": lambda n: frame(n, b'"x"', b'"warp"'),
    "broken items": lambda n: frame(n, b"1e999", b"1e999"),
    "bad entities": lambda n: FRAME_OF % (b",".join(b"%d" % i for i in range(n)), times_of(n)),
    "a long word": lambda n: SAMPLE % (b'"dwcp_mode":"' + b"x" * n + b'"'),
    "a long number": lambda n: SAMPLE % (b'"latency_p50":' + b"9" * n),
    "brackets in a text": lambda n: SAMPLE % (b'"x":"' + b"[{" * n + b'"'),
    "escapes in a text": lambda n: SAMPLE % (b'"x":"' + b'[{\\"' * n + b'"'),
    "empty lists": lambda n: SAMPLE % (b'"x":[' + b"[]," * n + b"1]"),
}
FRAME_OF = b'{"cluster_id":"","group_id":[%s],"ts":[%s],"queue_depth":1}'


def times_of(n: int) -> bytes:
    return b",".join([b"1790000000"] * n)


def frame(n: int, number: bytes, word: bytes) -> bytes:
    columns = times_of(n), b",".join([number] * n), b",".join([word] * n)
    return b'{"cluster_id":"a","ts":[%s],"queue_depth":[%s],"dwcp_mode":[%s]}' % columns


def work(value: bytes) -> int:
    """Calls of functions, Python's and C's, that decoding a record takes."""
    decoder, calls = ChunkDecoder(CONSENSUS), 0
    decoder.decode([value], [b"a"], [STAMP])  # so that what it learns is not counted

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        decoder.decode([value], [b"a"], [STAMP])
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("family", FAMILIES)
def test_work_grows_no_faster_than_the_record(family):
    small, large = FAMILIES[family](300), FAMILIES[family](3000)
    base = work(SAMPLE % b'"x":1')
    assert work(large) - base <= 15 * max(work(small) - base, 50)
    assert work(large) <= base + 3 * len(large)


@pytest.mark.parametrize("family", FAMILIES)
def test_memory_is_bounded_by_the_record(family):
    value = FAMILIES[family](20_000)
    decoder = ChunkDecoder(CONSENSUS)
    decoder.decode(fed_values := [value], [b"a"], [STAMP])
    tracemalloc.start()
    try:
        decoder.decode(fed_values, [b"a"], [STAMP])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 2**20 + 60 * len(value)


def test_what_a_chunk_of_frames_decodes_to_is_bounded_by_its_pieces():
    value = b'{"cluster_id":"a","queue_depth":1,"ts":[' + b",".join([b"1"] * 60_000) + b"]}"
    values = [value] * 12
    parts = pieces(values)
    assert [values[part] for part in parts] == [[value, value]] * 6
    decoder = ChunkDecoder(CONSENSUS)
    tracemalloc.start()
    try:
        for part in parts:
            decoder.decode(values[part], [b"a"] * 2, [STAMP] * 2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 120_000 * 8 * len(CONSENSUS.fields) * 8, "some arrays of two frames' rows, not of twelve"


@given(
    st.lists(st.none() | st.binary(max_size=30).map(lambda b: b"[" + b + b"," * (len(b) // 3)), max_size=30),
    st.integers(1, 40),
)
def test_pieces_are_all_the_records_in_order(values, commas):
    parts = pieces(values, commas)
    assert [value for part in parts for value in values[part]] == values
    for part in parts:
        counts = [0 if v is None else v.count(b",") for v in values[part]]
        assert len(counts) <= 1 or sum(counts) <= commas


def test_records_without_an_array_are_one_piece_whatever_they_hold():
    assert pieces([b",,,,", None, b",,,"], commas=2) == [slice(0, 3)]
    assert pieces([]) == [slice(0, 0)]


def one_each(entities: range, digits: int = 0) -> list[bytes]:
    return [b'{"cluster_id":%s,"ts":1,"queue_depth":1}' % (str(i) + "0" * digits).encode() for i in entities]


def test_entities_that_come_and_go_are_forgotten():
    decoder, most = ChunkDecoder(CONSENSUS), 0
    for start in range(300):  # 500 at a time, of which 50 are new
        many = one_each(range(start * 50, start * 50 + 500))
        assert len(decoder.decode(many, [None] * 500, [STAMP] * 500).entities) == 500
        most = max(most, len(decoder._identities))
    assert most < 10_000 < 300 * 50


def test_entities_that_come_and_go_slowly_are_forgotten_too(encoded):
    ids, most = EntityIds(CONSENSUS), 0
    for round_ in range(1000):  # 600 at a time, each for 120 rounds
        seen(ids, range(round_ * 5, round_ * 5 + 600))
        most = max(most, len(ids))
    assert most < 1500 < 1000 * 5
    assert len(encoded) < 2 * (1000 * 5 + 600)


def test_entities_that_stay_are_not_forgotten(encoded):
    ids = EntityIds(CONSENSUS)
    seen(ids, range(1), times=20)
    for _ in range(100):
        seen(ids, range(2000))
    assert len(encoded) <= 2 * 2001  # what comes after a single one looks like its successors, once


def seen(ids: EntityIds, entities: range, times: int = 1) -> None:
    """Let each of some entities have a record, so many times."""
    for _ in range(times):
        ids.trim(len(entities))
        for i in entities:
            ids[None, str(i), None]


@pytest.fixture
def encoded(monkeypatch):
    """The entities that had to be encoded."""
    made: list[object] = []
    monkeypatch.setattr(entity_ids, "encode_entity", lambda parts: made.append(parts) or encode_entity(parts))
    return made


def test_more_entities_than_are_remembered_at_first_are_remembered_in_the_end():
    decoder = ChunkDecoder(CONSENSUS)
    for _ in range(4):
        for start in range(0, 40_000, 4000):
            decoder.decode(one_each(range(start, start + 4000)), [None] * 4000, [STAMP] * 4000)
    assert len(decoder._identities) == 40_000


def test_entities_of_thousands_of_digits_are_not_remembered_for_long(monkeypatch):
    monkeypatch.setattr(entity_ids, "_MAX_BYTES", 100_000)
    decoder = ChunkDecoder(CONSENSUS)
    for start in range(0, 500, 100):
        many = one_each(range(start, start + 100), 4000)
        assert len(decoder.decode(many, [None] * 100, [STAMP] * 100).rejects) == 100
        assert len(decoder._identities) <= 200


# --- dead letters ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stamp", [-(2**63), -1, 0, 2**62, 2**63 - 1])
def test_any_record_timestamp_and_any_size_make_a_dead_letter(stamp):
    value, key = b"{" + b" " * MAX_VALUE_BYTES, b"k" * (MAX_KEY_BYTES + 1)
    chunk = Chunk("t", 0, np.arange(1), np.array([stamp]), [key], [value])
    (letter,) = Pipeline(CONSENSUS).process(chunk).outputs
    headers = dict(letter.headers)
    assert letter.value == value[:MAX_VALUE_BYTES]
    assert headers["truncated_from"] == b"%d" % len(value)
    assert headers["source_key"] == key[:MAX_KEY_BYTES]
    assert headers["source_timestamp_ms"] == b"%d" % stamp


def test_a_first_sample_of_1970_does_not_bring_a_tick_for_every_record():
    pipeline = Pipeline(CONSENSUS)
    good = [SAMPLE.replace(b"1790000000", b"%d" % (NOW + i)) % b'"x":1' for i in range(200)]
    values = [SAMPLE.replace(b"1790000000", b"0") % b'"x":1', *good]
    n, ticks = len(values), []
    tick, pipeline._tick = pipeline._tick, lambda *given: (ticks.append(given), tick(*given))
    pipeline.process(Chunk("t", 0, np.arange(n), np.full(n, STAMP + 10**6), [b"a"] * n, values))
    assert pipeline.partitions[0].watermark == NOW + 199
    assert len(ticks) < 40
