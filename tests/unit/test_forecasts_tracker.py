"""Forecasts joined with actuals: against a plain loop, cut anyhow, through a checkpoint, at expiry."""

import math
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwcp_stream.errors import NewerStateError, StateError
from dwcp_stream.forecasts import ForecastTracker
from dwcp_stream.forecasts.buckets import SUMS

TARGETS, HORIZONS, STEP, START = ("bandwidth_mbps", "latency_ms"), (1, 3), 60.0, 1.7e9
VALUE = st.sampled_from([0.0, 1.0, 2.5, 10.0, math.nan])
LOG = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([1, 1, 1, 2, 5, -1]), st.booleans(), VALUE, st.integers(0, 99)),
    max_size=40,
)  # (slot, grid steps or -1 for a restart, makes a forecast, actual, seed of the forecast)


def tracker(**changes):
    made = ForecastTracker("link", "m", TARGETS, HORIZONS, STEP, **({"partition": 3} | changes))
    made.resize(4)
    return made


def rows(log):
    """Turn a log into the arrays `advance` takes."""
    at: dict[int, tuple[int, float]] = {}
    slots, row, ts, actual, restarted, made, said = [], [], [], [], [], [], []
    for i, (slot, move, forecasts, value, seed) in enumerate(log):
        old_row, old_ts = at.get(slot, (-1, START))
        anew = slot not in at or move < 0
        now = 0 if anew else old_row + move
        when = old_ts + (7000.0 if move < 0 else STEP * move)
        at[slot] = (now, when)
        slots.append(slot)
        row.append(now)
        ts.append(when)
        actual.append((value, value * 3 + 1))
        restarted.append(anew)
        if forecasts:
            made.append(i)
            rng = np.random.default_rng(seed)
            said.append(np.sort(rng.normal(3, 4, (len(HORIZONS), len(TARGETS), 3)), axis=2))
    shape = (-1, len(HORIZONS), len(TARGETS), 3)
    return (
        np.array(slots, np.int64),
        np.array(row, np.int64),
        np.array(ts, float),
        np.array(actual, np.float32).reshape(-1, len(TARGETS)),
        np.array(restarted, bool),
        np.array(made, np.int64),
        np.array(said, np.float32).reshape(shape),
    )


def feed(made, log, cuts=(), *, begin=0, end=None, version=1, shift=0):
    slots, row, ts, actual, restarted, index, said = rows(log)
    end = len(slots) if end is None else end
    edges = sorted({begin, end, *(c for c in cuts if begin < c < end)})
    errors = []
    for low, high in pairwise(edges):
        mine = (index >= low) & (index < high)
        part = slice(low, high)
        errors += made.advance(
            slots[part] + shift,
            row[part],
            ts[part],
            actual[part],
            restarted=restarted[part],
            forecast_index=index[mine] - low,
            quantiles=said[mine],
            version=version,
        ).errors.tolist()
    return errors


def by_loop(log):
    """Every settled forecast as {(bucket, horizon, target): [(forecast, actual or NaN, last), ...]}."""
    slots, row, ts, actual, restarted, index, said = rows(log)
    waiting: dict[int, dict[tuple[int, int], tuple]] = {}
    result: dict[tuple, list] = {}

    def settle(j, when, quantiles, last, came):
        for y in range(len(TARGETS)):
            key = (int(when // 300), HORIZONS[j], TARGETS[y])
            result.setdefault(key, []).append((quantiles[j, y], came[y], last[y]))

    for i in range(len(slots)):
        mine = waiting.setdefault(int(slots[i]), {})
        for target, j in sorted(mine):
            made_ts, quantiles, last = mine[target, j]
            if restarted[i] or target < row[i]:
                settle(j, made_ts + HORIZONS[j] * STEP, quantiles, last, [math.nan] * 2)
                del mine[target, j]
            elif target == row[i]:
                settle(j, ts[i], quantiles, last, actual[i])
                del mine[target, j]
        for which in np.flatnonzero(index == i):
            for j, horizon in enumerate(HORIZONS):
                mine[int(row[i]) + horizon, j] = (ts[i], said[which].astype(float), actual[i].astype(float))
    return result


def sums(made):
    return {(p.bucket_start, p.horizon, p.target): p for p in made.flush(2e9)}


@settings(max_examples=150, deadline=None)
@given(LOG)
def test_sums_are_those_of_a_plain_loop(log):
    made = tracker()
    feed(made, log)
    found = sums(made)
    expected = by_loop(log)
    assert len(found) == len(expected)
    for (bucket, horizon, target), settled in expected.items():
        part = found[made.buckets.bounds(bucket)[0], horizon, target]
        real = [(f, float(a), last) for f, a, last in settled if not math.isnan(a)]
        assert part.n == len(real)
        assert part.missed == len(settled) - len(real)
        assert part.abs_error == pytest.approx(sum(abs(f[1] - a) for f, a, _ in real))
        assert part.sq_error == pytest.approx(sum((f[1] - a) ** 2 for f, a, _ in real))
        assert part.error == pytest.approx(sum(f[1] - a for f, a, _ in real))
        assert part.ape_n == sum(a != 0 for _, a, _ in real)
        assert part.ape == pytest.approx(sum(abs(f[1] - a) / a for f, a, _ in real if a))
        paired = [(f, a, last) for f, a, last in real if not math.isnan(last)]
        assert part.persistence_n == len(paired)
        assert part.persistence_abs_error == pytest.approx(sum(abs(last - a) for _, a, last in paired))
        assert part.paired_abs_error == pytest.approx(sum(abs(f[1] - a) for f, a, _ in paired))
        assert part.covered == part.covered_raw == sum(f[0] <= a <= f[2] for f, a, _ in real)
        pinball = sum(
            max(q * (a - f[k]), (q - 1) * (a - f[k])) for f, a, _ in real for k, q in enumerate((0.1, 0.5, 0.9))
        )
        assert part.pinball == pytest.approx(pinball)


@settings(max_examples=100, deadline=None)
@given(LOG, st.data())
def test_sums_and_errors_do_not_depend_on_the_cut(log, data):
    cuts = data.draw(st.lists(st.integers(0, len(log)), max_size=8))
    whole, cut = tracker(), tracker()
    assert repr(feed(cut, log, cuts)) == repr(feed(whole, log))
    assert cut.state() == whole.state()
    assert [repr(cut.take(np.arange(3)).plain(i)) for i in range(3)] == [
        repr(whole.take(np.arange(3)).plain(i)) for i in range(3)
    ]


@settings(max_examples=100, deadline=None)
@given(LOG, st.data())
def test_state_goes_through_msgpack_while_forecasts_wait(log, data):
    at = data.draw(st.integers(0, len(log)))
    kept, moved = tracker(), tracker()
    moved.resize(9)
    feed(kept, log, end=at)
    taken, state = kept.take(np.arange(3)), msgspec.msgpack.encode(kept.state())
    feed(kept, log, begin=at)  # the copy must not see this
    for slot in range(3):
        plain = msgspec.msgpack.decode(msgspec.msgpack.encode(taken.plain(slot)))
        if plain is not None:
            moved.load(slot + 5, plain)
    assert moved.load_state(msgspec.msgpack.decode(state)) is None
    feed(moved, log, begin=at, shift=5)
    assert moved.state() == kept.state()


@settings(max_examples=100, deadline=None)
@given(LOG)
def test_each_forecast_is_realised_or_missed_or_waits_and_expiry_closes_the_rest(log):
    made = tracker()
    feed(made, log)
    made.expire(np.arange(4))
    issued = sum(row[2] for row in log)
    per_horizon = dict.fromkeys(HORIZONS, 0)
    for part in made.flush(2e9):
        if part.target == TARGETS[0]:
            per_horizon[part.horizon] += part.n + part.missed
    assert per_horizon == dict.fromkeys(HORIZONS, issued)
    assert all(made.take(np.arange(4)).plain(i) is None for i in range(4))


def one(made, row, value, quantiles=None, *, version=1, restarted=False):
    """One row of slot 0, with a forecast of these quantiles for every horizon and target."""
    said = np.zeros((0, 2, 2, 3), np.float32)
    if quantiles is not None:
        said = np.broadcast_to(np.array(quantiles, np.float32), (1, 2, 2, 3))
    return made.advance(
        np.array([0]),
        np.array([row]),
        np.array([START + STEP * row]),
        np.full((1, 2), value, np.float32),
        restarted=np.array([restarted]),
        forecast_index=np.arange(len(said)),
        quantiles=said,
        version=version,
    )


def test_a_bucket_is_handed_out_when_the_watermark_has_passed_it_and_again_for_late_ones():
    made = tracker(lateness=30.0)
    one(made, 0, 5.0, (4, 5, 6))
    one(made, 1, 7.0)
    end = (START // 300 + 1) * 300
    assert made.drain(end + 29.9) == []
    first = made.drain(end + 30.0)
    assert {(p.horizon, p.target, p.n, p.abs_error) for p in first} == {(1, t, 1, 2.0) for t in TARGETS}
    assert made.drain(end + 60.0) == []
    made.advance(  # another entity, later, with rows of the same time
        np.array([1, 1]),
        np.array([0, 1]),
        np.array([START, START + STEP]),
        np.full((2, 2), 5.0, np.float32),
        restarted=np.array([True, False]),
        forecast_index=np.array([0]),
        quantiles=np.full((1, 2, 2, 3), 4.0, np.float32),
        version=1,
    )
    again = made.drain(end + 90.0)
    assert {(p.bucket_start, p.horizon, p.n) for p in again} == {(first[0].bucket_start, 1, 1)}
    assert again[0].event_time != first[0].event_time


def test_forecasts_of_two_versions_are_counted_apart():
    made = tracker()
    one(made, 0, 5.0, (4, 5, 6), version=1)
    one(made, 1, 5.0, (4, 5, 6), version=2)
    one(made, 2, 5.0)
    one(made, 3, 5.0)
    parts = made.flush(2e9)
    assert sorted((p.version, p.horizon, p.n) for p in parts if p.target == TARGETS[0]) == [
        (1, 1, 1),
        (1, 3, 1),
        (2, 1, 1),
    ]


def test_a_target_the_model_did_not_forecast_counts_nowhere():
    made = tracker()
    one(made, 0, 5.0, (math.nan,) * 3)
    one(made, 1, 5.0)
    assert made.flush(2e9) == []


def test_infinite_forecasts_and_actuals_count_as_missing():
    made = tracker()
    one(made, 0, 5.0, (4, math.inf, math.inf))
    one(made, 1, 5.0, (4, 5, 6))
    one(made, 2, math.inf)
    assert [(p.n, p.missed) for p in made.flush(2e9) if p.horizon == 1] == [(0, 1)] * 2


def test_errors_of_a_row_are_relative_and_nan_without_a_forecast():
    made = tracker()
    assert math.isnan(one(made, 0, 5.0, (4, 5, 6)).errors[0])
    assert one(made, 1, 15.0).errors[0] == pytest.approx(0.5)


def test_a_restart_realises_nothing_from_before_it_even_if_row_numbers_match():
    made = tracker()
    one(made, 0, 5.0, (4, 5, 6), restarted=True)
    one(made, 1, 5.0, restarted=True)
    assert [(p.n, p.missed) for p in made.flush(2e9) if p.horizon == 1] == [(0, 1)] * 2


def test_corrected_quantiles_stay_in_the_valid_range_and_count_as_published():
    made = tracker(lower=[0.0, 0.0], upper=[10.0, 100.0])
    made.correction.use(1)
    made.correction.factor[:] = 4.0
    found = one(made, 0, 5.0, (4, 5, 6)).corrected
    assert found[0, 0].tolist() == [[1, 5, 9], [1, 5, 9]]
    assert one(made, 1, 8.0, (1, 5, 9)).corrected[0, 0].tolist() == [[0, 5, 10], [0, 5, 21]]
    part = next(p for p in made.flush(2e9) if p.horizon == 1)
    assert (part.covered, part.covered_raw) == (1, 0)


def test_state_of_a_model_with_other_horizons_is_left_and_said():
    made = tracker()
    one(made, 0, 5.0, (4, 5, 6))
    other = ForecastTracker("link", "m", TARGETS, (2,), STEP, partition=3)
    other.resize(1)
    assert "horizons or targets" in other.load_state(made.state())
    other.load(0, made.take(np.array([0])).plain(0))
    assert other.take(np.array([0])).plain(0) is None


def test_foreign_and_newer_states_are_refused():
    made = tracker()
    one(made, 0, 5.0, (4, 5, 6))
    plain = made.take(np.array([0])).plain(0)
    for wrong in (3, [], {}, plain | {"values": plain["values"][:-1]}, plain | {"version": [1]}):
        with pytest.raises(StateError):
            tracker().load(0, wrong)
    for wrong in (None, {}, made.state() | {"buckets": [[1, 2, [3.0]]]}):
        with pytest.raises(StateError):
            tracker().load_state(wrong)
    with pytest.raises(NewerStateError):
        tracker().load(0, plain | {"v": 2})
    with pytest.raises(NewerStateError):
        tracker().load_state(made.state() | {"v": 2})


def test_no_rows_are_no_work():
    made = tracker()
    assert feed(made, []) == []
    made.expire(np.array([0, 2]))
    assert len(made.buckets) == 0
    assert len(SUMS) == len(set(SUMS))
