"""The vectorised store against the plain rules, for any samples and any cut into chunks."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from windows_cases import Batch, Record, batch, make_stream, sequences, streams
from windows_reference import Advanced, Reference

from dwcp_stream.streams.definition import StreamDefinition
from dwcp_stream.windows import Outcome, Windows


class Observed:
    """What a store did with chunk after chunk, in the terms of the reference."""

    def __init__(self, stream: StreamDefinition, **options: object) -> None:
        self.windows = Windows(stream, **{"capacity": 1, **options})
        self.outcomes: list[int] = []
        self.advanced: list[Advanced] = []

    def apply(self, chunk: Batch) -> None:
        begin, settled = len(self.outcomes), []
        for found in self.windows.apply(chunk.offsets, chunk.ts, chunk.entity, chunk.entities, chunk.values):
            settled += found.sample.tolist()
            self.outcomes += found.outcome.tolist()
            assert found.rejected.tolist() == found.sample[found.outcome == Outcome.INVALID].tolist()
            changed = {
                self.windows.slots.get(chunk.entities[e])
                for e in chunk.entity[found.sample[found.outcome < Outcome.INVALID]]
            }
            assert set(found.touched.tolist()) == changed
            per_slot: dict[int, int] = {}
            for slot, row, restarted in zip(
                found.adv_slot.tolist(), found.adv_row.tolist(), found.adv_restarted.tolist(), strict=True
            ):
                assert not (restarted and slot in per_slot), "a restart comes first in its pass"
                assert row > per_slot.get(slot, -(10**9)), "rows of an entity ascend within a pass"
                per_slot[slot] = row
            rows = [
                Advanced(
                    begin + int(found.adv_sample[i]),
                    self.windows.entity_of(int(found.adv_slot[i])),
                    int(found.adv_row[i]),
                    float(found.adv_ts[i]),
                    found.adv_values[i],
                    bool(found.adv_restarted[i]),
                )
                for i in range(len(found.adv_sample))
            ]
            if self.windows.scoring:
                whole, times = found.windows(), found.times()
                for at, i in enumerate(found.scored.tolist()):
                    rows[i].window, rows[i].times = whole[at], times[at]
                odd = np.arange(len(found.scored))[::-2]  # any choice in any order
                np.testing.assert_array_equal(found.windows(odd), whole[odd])
                np.testing.assert_array_equal(found.times(odd), times[odd])
            self.advanced += rows
        assert settled == list(range(len(chunk.offsets))), "every sample in exactly one pass, in order"


def same(found: list[Advanced], wanted: list[Advanced], *, windows: bool = True) -> None:
    assert [(a.sample, a.entity, a.row, a.ts, a.restarted) for a in found] == [
        (a.sample, a.entity, a.row, a.ts, a.restarted) for a in wanted
    ]
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a.values, b.values)
        if windows:
            assert (a.window is None) == (b.window is None)
            if a.window is not None:
                np.testing.assert_array_equal(a.window, b.window)
                np.testing.assert_array_equal(a.times, b.times)


def same_state(windows: Windows, reference: Reference) -> None:
    assert windows.slots.keys() == reference.entities.keys()
    for name, entity in reference.entities.items():
        view = windows.view(name)
        assert view.applied == entity.applied
        assert view.last_ts == entity.last_ts
        assert view.filled.tolist() == [r in entity.rows for r in reference.span(entity)]
        np.testing.assert_array_equal(view.rows, reference.window(entity))
        if reference.stream.irregular:
            wanted = [entity.times.get(r, np.nan) for r in reference.span(entity)]
            np.testing.assert_array_equal(view.times, wanted)
        else:
            np.testing.assert_array_equal(view.times, reference.window_times(entity))
        raw = windows.take(np.array([windows.slots[name]])).raw[0]
        wanted = [entity.raw.get(c, (np.nan, np.nan)) for c in reference.counters]
        np.testing.assert_array_equal(raw.T, wanted)


def chunks_of(offsets: list[int], cuts: list[int]) -> list[tuple[int, int]]:
    """Cut where told, and wherever reading goes back: a Kafka chunk never does."""
    back = [i for i in range(1, len(offsets)) if offsets[i] <= offsets[i - 1]]
    edges = sorted({0, len(offsets), *back, *(c for c in cuts if c < len(offsets))})
    return list(itertools.pairwise(edges))


@st.composite
def histories(
    draw: st.DrawFn,
) -> tuple[StreamDefinition, list[int], list[Record], list[int], list[int]]:
    """Draw a stream, offsets and records (now and then read again from an older offset), and two cuts."""
    stream = draw(streams())
    records = draw(sequences(stream))
    order = list(range(len(records)))
    if draw(st.booleans()):
        end = draw(st.integers(1, len(order)))
        begin = draw(st.integers(0, end - 1))
        order = order[:end] + order[begin:]
    cuts = st.lists(st.integers(1, max(1, len(order) - 1)), max_size=8)
    offsets = [100 + 3 * i for i in order]
    return stream, offsets, [records[i] for i in order], draw(cuts), draw(cuts)


@settings(max_examples=150, deadline=None)
@given(histories())
def test_agrees_with_the_rules_however_it_is_cut(
    history: tuple[StreamDefinition, list[int], list[Record], list[int], list[int]],
) -> None:
    stream, offsets, records, *cuts = history
    reference = Reference(stream)
    for offset, record in zip(offsets, records, strict=True):
        reference.apply(offset, record)
    for cut in cuts:
        observed = Observed(stream)
        for begin, end in chunks_of(offsets, cut):
            observed.apply(batch(offsets[begin:end], records[begin:end]))
        assert observed.outcomes == reference.outcomes
        same(observed.advanced, reference.advanced)
        same_state(observed.windows, reference)


@settings(max_examples=50, deadline=None)
@given(histories())
def test_without_scoring_only_the_windows_are_missing(
    history: tuple[StreamDefinition, list[int], list[Record], list[int], list[int]],
) -> None:
    stream, offsets, records, cut, _ = history
    with_windows, without = Observed(stream), Observed(stream, scoring=False)
    for begin, end in chunks_of(offsets, cut):
        for observed in (with_windows, without):
            observed.apply(batch(offsets[begin:end], records[begin:end]))
    assert without.outcomes == with_windows.outcomes
    same(without.advanced, with_windows.advanced, windows=False)


def one(ts: float, name: str = "a", load: float = 1.0, count: float = 0.0) -> Record:
    return [(ts, name, [load, count, 0.0, 0.0])]


def run(stream: StreamDefinition, *records: Record) -> Observed:
    observed = Observed(stream)
    observed.apply(batch(list(range(len(records))), list(records)))
    return observed


S, W, D, L, I = Outcome.SCORED, Outcome.WARMING_UP, Outcome.DUPLICATE, Outcome.LATE, Outcome.INVALID  # noqa: E741


def test_a_late_fill_changes_later_windows_only() -> None:
    observed = run(make_stream(min_periods=1), one(0), one(20), one(10, load=7.0), one(30))
    assert observed.outcomes == [S, S, S, S]
    before, after = observed.advanced[1], observed.advanced[2]
    assert np.isnan(before.window[-2, 0])
    assert after.window[-3:, 0].tolist() == [7.0, 1.0, 1.0]
    assert after.window[-3, 1:].tolist()[1] == 0.0
    assert np.isnan(after.window[-3, 1]), "a late fill has no rate"


def test_a_step_without_a_sample_is_a_row_of_nan() -> None:
    observed = run(make_stream(min_periods=1), one(0), one(30))
    assert np.isnan(observed.advanced[1].window[:, 0]).tolist() == [True, False, True, True, False]


def test_a_gap_longer_than_the_window_starts_it_anew() -> None:
    stream = make_stream(min_periods=2)
    kept = run(stream, one(0), one(10), one(60, count=5.0))
    assert kept.advanced[2].row == 6
    assert not kept.advanced[2].restarted
    anew = run(stream, one(0), one(10), one(73, count=5.0), one(83, count=25.0))
    assert [(a.row, a.ts, a.restarted) for a in anew.advanced[2:]] == [(0, 73.0, True), (1, 83.0, False)]
    assert anew.outcomes == [W, S, W, S]
    assert np.isnan(anew.advanced[2].values[1]), "nothing to compare the counter with"
    assert anew.advanced[3].values[1] == 2.0


def test_repeats_and_latecomers() -> None:
    records = [one(t) for t in (0, 10, 20, 30, 14, 5, 44, 50, 0, 24)]
    observed = run(make_stream(min_periods=1, lateness=15.0), *records)
    assert observed.outcomes == [S, S, S, S, D, D, S, S, L, D]


def test_counters_survive_resets_and_holes() -> None:
    values = [100.0, 300.0, np.nan, 50.0, 50.0]
    observed = run(make_stream(), *(one(10.0 * i, count=v) for i, v in enumerate(values)))
    rates = [a.values[1] for a in observed.advanced]
    np.testing.assert_array_equal(rates, np.array([np.nan, 20.0, np.nan, 2.5, 0.0], np.float32))


def test_large_counters_keep_their_small_differences() -> None:
    observed = run(make_stream(), one(0, count=2.0**52), one(10, count=2.0**52 + 30))
    assert observed.advanced[1].values[1] == 3.0


def test_a_new_entity_over_the_limit_is_refused_and_others_go_on() -> None:
    stream = make_stream(max_entities=2)
    observed = run(stream, one(0, "b"), one(0, "a"), one(0, "c"), one(10, "a"), one(10, "c"))
    assert observed.outcomes == [W, W, I, W, I]
    observed.windows.free(np.array([observed.windows.slots["a"]]))
    observed.apply(batch([9], [one(20, "c")]))
    assert observed.outcomes[-1] == W
    assert set(observed.windows.slots) == {"b", "c"}


def test_samples_read_again_change_nothing() -> None:
    observed = run(make_stream(), one(0), one(10))
    observed.apply(batch([0, 1, 2], [one(0), one(10, load=9.0), one(20)]))
    assert observed.outcomes[2:] == [Outcome.REPLAYED, Outcome.REPLAYED, S]
    assert observed.windows.view("a")["load"][-3:].tolist() == [1.0, 1.0, 1.0]


def test_a_nonsensical_time_does_not_break_anything() -> None:
    observed = run(make_stream(), one(0), one(1e300), one(-1e300), one(0), one(1e300))
    assert observed.outcomes == [W, W, L, L, D]


def test_no_samples_no_pass() -> None:
    observed = Observed(make_stream())
    observed.apply(batch([], []))
    assert observed.outcomes == []


def test_offsets_that_go_back_within_a_chunk_are_refused() -> None:
    chunk = batch([5, 4], [one(0), one(10)])
    with pytest.raises(ValueError, match="offsets"):
        next(Windows(make_stream()).apply(chunk.offsets, chunk.ts, chunk.entity, chunk.entities, chunk.values))


def test_names_without_a_sample_take_no_slot() -> None:
    chunk = batch([1], [one(0)])
    windows = Windows(make_stream())
    list(windows.apply(chunk.offsets, chunk.ts, chunk.entity + 1, ["unused", "a"], chunk.values))
    assert set(windows.slots) == {"a"}


def test_windows_are_not_to_be_had_without_scoring() -> None:
    chunk = batch([1], [one(0)])
    windows = Windows(make_stream(min_periods=1), scoring=False)
    (found,) = windows.apply(chunk.offsets, chunk.ts, chunk.entity, chunk.entities, chunk.values)
    assert found.scored.tolist() == [0]
    with pytest.raises(RuntimeError, match="scoring=False"):
        found.windows()
    with pytest.raises(RuntimeError, match="scoring=False"):
        found.times()


def test_slots_are_used_again_and_clean() -> None:
    observed = run(make_stream(), *(one(10.0 * i, "a", count=9.0) for i in range(6)), one(0, "b"))
    windows = observed.windows
    slot, capacity = windows.slots["a"], windows.capacity
    windows.free(np.array([slot]))
    with pytest.raises(KeyError):
        windows.view("a")
    with pytest.raises(KeyError):
        windows.entity_of(slot)
    observed.apply(batch([3], [one(0, "c")]))
    assert observed.outcomes[-1] == W, "what was applied to another entity does not matter"
    assert windows.slots["c"] == slot
    assert windows.capacity == capacity
    view = windows.view("c")
    assert view.filled.tolist() == [False] * 4 + [True]
    assert view.applied == 3


def test_growing_keeps_what_is_held() -> None:
    stream = make_stream(min_periods=1)
    observed = run(stream, *(one(float(i), f"e{i}", load=float(i)) for i in range(40)))
    assert observed.windows.capacity == 64
    for i in range(40):
        view = observed.windows.view(f"e{i}")
        assert view["load"][-1] == i
        assert view.last_ts == i


def test_silent_entities_longest_first() -> None:
    observed = run(make_stream(), one(30, "c"), one(10, "b"), one(10, "a"), one(31, "d"))
    windows = observed.windows
    assert [windows.entity_of(s) for s in windows.silent(30.0).tolist()] == ["a", "b", "c"]
    windows.free(windows.silent(10.0))
    assert [windows.entity_of(s) for s in windows.silent(1e9).tolist()] == ["c", "d"]


@pytest.mark.parametrize("step", [10.0, "irregular"])
def test_many_samples_of_one_entity_in_one_chunk(step: float | str) -> None:
    stream = make_stream(step=step, min_periods=1)
    reference = Reference(stream)
    records = [one(10.0 * i, load=float(i), count=3.0 * i) for i in range(1000)]
    for offset, record in enumerate(records):
        reference.apply(offset, record)
    observed = run(stream, *records)
    same(observed.advanced, reference.advanced)
    same_state(observed.windows, reference)


def test_exactly_the_lateness_behind_the_newest_row_is_in_time() -> None:
    records = [one(0), one(40), one(15.0), one(14.0 - 5)]  # 25 s behind; 31 s behind
    observed = run(make_stream(min_periods=1), *records)
    assert observed.outcomes == [S, S, S, L]


def test_each_restart_moves_the_grid_that_the_next_gap_is_measured_on() -> None:
    observed = run(make_stream(), one(0), one(104), one(158))  # 6 rows on the old grid, 5 on the new
    assert [(a.row, a.restarted) for a in observed.advanced] == [(0, True), (0, True), (5, False)]
