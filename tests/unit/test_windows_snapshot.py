"""Snapshots: round trips, damage, versions, and definitions that change between writing and reading."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from windows_cases import FIELDS, Record, batch, make_stream, sequences, streams

from dwcp_stream.errors import StateError
from dwcp_stream.streams.definition import Field, StreamDefinition
from dwcp_stream.windows import (
    PartitionRecord,
    Windows,
    WindowState,
    decode_partition_record,
    decode_snapshot,
    encode_partition_record,
    encode_snapshot,
)
from dwcp_stream.windows.snapshot import ENTITY_VERSION, PARTITION_VERSION

NAN = math.nan


def filled(stream: StreamDefinition, records: list[Record], offset: int = 0) -> Windows:
    windows = Windows(stream, scoring=False)
    chunk = batch(list(range(offset, offset + len(records))), records, len(stream.fields))
    for _ in windows.apply(chunk.offsets, chunk.ts, chunk.entity, chunk.entities, chunk.values):
        pass
    return windows


def core(windows: Windows, entity: str) -> WindowState:
    return windows.take(np.array([windows.slots[entity]])).core(0)


def sample() -> tuple[StreamDefinition, Windows]:
    stream = make_stream()
    rows = [[(10.0 * i, "a", [float(i), 10.0 * i, 1.0, NAN])] for i in range(8) if i != 6]
    return stream, filled(stream, rows)


@st.composite
def stores(draw: st.DrawFn) -> tuple[StreamDefinition, Windows]:
    stream = draw(streams())
    return stream, filled(stream, draw(sequences(stream)))


@settings(max_examples=100, deadline=None)
@given(stores(), st.data())
def test_what_is_restored_goes_on_like_what_was_there(
    store: tuple[StreamDefinition, Windows], data: st.DataObject
) -> None:
    stream, before = store
    after = Windows(stream, capacity=1)
    names = list(before.slots)
    taken = before.take(np.array([before.slots[name] for name in names]))
    for i, name in enumerate(names):
        assert taken.entity(i) == name
        written = encode_snapshot(stream, taken.core(i), {"alert": {"since": [1, 2.5, None]}})
        snapshot = decode_snapshot(written, stream)
        assert snapshot.parts == {"alert": {"since": [1, 2.5, None]}}
        (slot,) = after.load({name: snapshot.state})
        assert after.slots[name] == slot
    more = data.draw(sequences(stream))
    chunk = batch(list(range(1000, 1000 + len(more))), more)
    arguments = chunk.offsets, chunk.ts, chunk.entity, chunk.entities, chunk.values
    outcomes = [[p.outcome.tolist() for p in windows.apply(*arguments)] for windows in (before, after)]
    assert outcomes[0] == outcomes[1]
    for name in before.slots:
        assert core(before, name) == core(after, name) or math.isnan(core(before, name).anchor)
        a, b = before.view(name), after.view(name)
        np.testing.assert_array_equal(a.rows, b.rows)
        np.testing.assert_array_equal(a.times, b.times)


def test_a_copy_does_not_change_with_the_windows() -> None:
    stream, windows = sample()
    taken = windows.take(np.array([windows.slots["a"]]))
    chunk = batch([50], [[(80.0, "a", [9.0, 9.0, 9.0, 9.0])]])
    list(windows.apply(chunk.offsets, chunk.ts, chunk.entity, chunk.entities, chunk.values))
    windows.free(np.array([windows.slots["a"]]))
    state = decode_snapshot(encode_snapshot(stream, taken.core(0), {}), stream).state
    assert (state.applied, state.head, state.last_ts) == (6, 7, 70.0)


def test_many_taken_at_once_are_each_their_own() -> None:
    stream = make_stream(max_entities=2500)
    windows = filled(stream, [[(float(i), f"e{i}", [float(i), 0.0, 0.0, 0.0])] for i in range(2500)])
    taken = windows.take(np.arange(2499, -1, -1))
    assert len(taken) == 2500
    again = Windows(stream)
    for i in (0, 1023, 1024, 2048, 2499, 5):  # also out of order
        again.load({taken.entity(i): taken.core(i)})
    for name in ("e2499", "e1476", "e1475", "e451", "e0", "e2494"):
        assert again.view(name)["load"][-1] == float(name[1:])


def test_only_filled_rows_are_written() -> None:
    stream, windows = sample()
    short = filled(stream, [[(0.0, "a", [1.0, 2.0, 0.0, 4.0])]])
    many = len(encode_snapshot(stream, core(windows, "a"), {}))
    few = len(encode_snapshot(stream, core(short, "a"), {}))
    assert many - few == 3 * 4 * len(FIELDS)  # 4 of the 5 rows are filled, and 1


def test_cut_off_anywhere_it_is_refused() -> None:
    stream, windows = sample()
    data = encode_snapshot(stream, core(windows, "a"), {"alert": [1, "two"]})
    for end in range(len(data)):
        with pytest.raises(StateError, match="truncated or damaged"):
            decode_snapshot(data[:end], stream)
    with pytest.raises(StateError):
        decode_snapshot(data + b"\x00", stream)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    stream, windows = sample()
    whole = bytearray(encode_snapshot(stream, core(windows, "a"), {"alert": [1, "two"]}))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] = data.draw(st.integers(0, 255))
    try:
        snapshot = decode_snapshot(bytes(whole), stream)
    except StateError:
        return
    fresh = Windows(stream)
    fresh.load({"a": snapshot.state})
    fresh.view("a").features()


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("filled", b""),
        ("rows", b"\x00" * 12),
        ("times", b"\x00" * 8),
        ("raw", b""),
        ("head", -1),
        ("head", -7),
        ("anchor", NAN),
        ("last_ts", NAN),
        ("applied", 1 << 63),
        ("head", 1 << 60),
    ],
)
def test_parts_that_do_not_fit_are_refused_and_change_nothing(part: str, value: object) -> None:
    stream, windows = sample()
    bad = msgspec.structs.replace(core(windows, "a"), **{part: value})
    with pytest.raises(StateError, match="do not fit each other"):
        decode_snapshot(encode_snapshot(stream, bad, {}), stream)
    fresh = Windows(stream)
    with pytest.raises(StateError):
        fresh.load({"a": bad})
    assert not fresh.slots


def rewritten(data: bytes, position: int, value: object) -> bytes:
    parts = msgspec.msgpack.decode(data)
    parts[position] = value
    return msgspec.msgpack.encode(parts)


def test_versions_of_entity_snapshots() -> None:
    stream, windows = sample()
    data = encode_snapshot(stream, core(windows, "a"), {})
    with pytest.raises(StateError, match=f"version {ENTITY_VERSION + 1}, newer"):
        decode_snapshot(rewritten(data, 0, ENTITY_VERSION + 1), stream)
    with pytest.raises(StateError, match="older"):
        decode_snapshot(rewritten(data, 0, ENTITY_VERSION - 2), stream)
    with pytest.raises(StateError, match="newer"):  # whatever it may look like by then
        decode_snapshot(msgspec.msgpack.encode([ENTITY_VERSION + 1, {"all": "new"}]), stream)
    schema = msgspec.msgpack.decode(data)[1]
    before = rewritten(rewritten(data, 0, ENTITY_VERSION - 1), 1, schema[:3])  # did not say its step
    assert decode_snapshot(before, stream).state == decode_snapshot(data, stream).state


def test_versions_of_partition_records() -> None:
    record = PartitionRecord(
        position=7, watermark=1.5, tick=1.0, drift={"m": {"n": [1, 2.5]}}, models={"m": 3}, since={"m": 2}
    )
    data = encode_partition_record(record)
    assert decode_partition_record(data) == record
    assert decode_partition_record(encode_partition_record(PartitionRecord())) == PartitionRecord()
    for end in range(len(data)):
        with pytest.raises(StateError, match="truncated or damaged"):
            decode_partition_record(data[:end])
    with pytest.raises(StateError, match="newer"):
        decode_partition_record(rewritten(data, 0, PARTITION_VERSION + 1))
    with pytest.raises(StateError, match="older"):
        decode_partition_record(rewritten(data, 0, PARTITION_VERSION - 2))
    before = rewritten(data, 0, PARTITION_VERSION - 1)
    before = msgspec.msgpack.encode(msgspec.msgpack.decode(before)[:-5])  # had no `since` nor what follows
    assert decode_partition_record(before) == msgspec.structs.replace(record, since={})


def reread(changes: dict[str, object]) -> Windows:
    stream, windows = sample()
    other = make_stream(**changes)
    fresh = Windows(other)
    fresh.load({"a": decode_snapshot(encode_snapshot(stream, core(windows, "a"), {}), other).state})
    return fresh


def test_fields_are_found_by_name() -> None:
    load, count, _, errors = FIELDS
    view = reread({"fields": (Field(name="new"), errors, count, load)}).view("a")
    assert np.isnan(view["new"]).all()
    np.testing.assert_array_equal(view["load"], [3, 4, 5, NAN, 7])
    np.testing.assert_array_equal(view["bytes"], [1, 1, 1, NAN, 1])
    assert list(view) == ["new", "errors", "bytes", "load"]


def test_counters_go_on_under_their_name() -> None:
    load, count, mode, errors = FIELDS
    windows = reread({"fields": (errors, mode, count, load)})
    chunk = batch([50], [[(80.0, "a", [5.0, 0.0, 170.0, 0.0])]])
    list(windows.apply(chunk.offsets, chunk.ts, chunk.entity, chunk.entities, chunk.values))
    assert windows.view("a")["bytes"][-1] == 10.0
    assert np.isnan(windows.view("a")["errors"][-1])


def test_a_field_that_becomes_a_counter_starts_anew() -> None:
    _, _, mode, errors = FIELDS
    changed = (Field(name="load", kind="counter"), Field(name="bytes"), mode, errors)
    view = reread({"fields": changed}).view("a")
    assert np.isnan(view["load"]).all()
    assert np.isnan(view["bytes"]).all()
    assert view["mode"][-1] == 1.0


def test_the_newest_rows_stay_when_the_window_changes() -> None:
    shorter, longer = reread({"window": 3}).view("a"), reread({"window": 7}).view("a")
    np.testing.assert_array_equal(shorter["load"], [5, NAN, 7])
    np.testing.assert_array_equal(longer["load"], [NAN, NAN, 3, 4, 5, NAN, 7])
    assert longer.filled.tolist() == [False, False, True, True, True, False, True]
    assert shorter.times[-1] == longer.times[-1] == 70.0


@pytest.mark.parametrize("step", [5.0, "irregular"])
def test_another_step_empties_the_window_only(step: float | str) -> None:
    windows = reread({"step": step})
    view = windows.view("a")
    assert not view.filled.any()
    assert (view.applied, view.last_ts) == (6, 70.0)
    chunk = batch([6, 7], [[(80.0, "a", [5.0] * 4)], [(85.0, "a", [6.0] * 4)]])
    (found,) = windows.apply(chunk.offsets, chunk.ts, chunk.entity, chunk.entities, chunk.values)
    assert found.adv_sample.tolist() == [1], "what was applied stays applied"
    assert found.adv_restarted.tolist() == [True]


def test_an_irregular_window_may_grow() -> None:
    small, large = (make_stream(step="irregular", window=w, min_periods=1) for w in (2, 5))
    windows = filled(small, [[(float(t), "a", [float(t)] * 4)] for t in (1, 4, 6)])
    grown = Windows(large)
    grown.load({"a": decode_snapshot(encode_snapshot(small, core(windows, "a"), {}), large).state})
    chunk = batch([50], [[(9.0, "a", [9.0] * 4)]])
    (found,) = grown.apply(chunk.offsets, chunk.ts, chunk.entity, chunk.entities, chunk.values)
    np.testing.assert_array_equal(found.windows()[0, :, 0], [NAN, NAN, 4, 6, 9])
    assert found.times()[0].tolist() == [4, 4, 4, 6, 9]
    assert found.adv_restarted.tolist() == [False]


def test_a_shorter_window_of_nothing_but_a_gap() -> None:
    stream = make_stream(window=5, lateness=100.0)
    windows = filled(stream, [[(0.0, "a", [1.0] * 4)], [(30.0, "a", [2.0] * 4)]])
    other = make_stream(window=1)
    fresh = Windows(other)
    fresh.load({"a": decode_snapshot(encode_snapshot(stream, core(windows, "a"), {}), other).state})
    assert fresh.view("a")["load"].tolist() == [2.0]
