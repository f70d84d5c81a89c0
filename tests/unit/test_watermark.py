import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.watermark import CONFIRMED_BY, NEVER, NONE_AHEAD, advance, segments, tick_of

TIMES = st.lists(st.floats(0, 1e6), min_size=1, max_size=60).map(np.array)


def plain(start, ts, cap):
    mark, marks, run = start, [], []
    for t in ts:
        run = [*run, t] if mark != NEVER and t > mark + cap else []
        if mark == NEVER:
            mark = t
        elif len(run) >= CONFIRMED_BY:
            mark = max(mark, min(t, max(mark + cap, min(run))))
        else:
            mark = max(mark, min(t, mark + cap))
        marks.append(mark)
    return np.array(marks)


@given(TIMES, st.floats(1, 1e5), st.one_of(st.just(NEVER), st.floats(0, 1e6)))
def test_watermark_follows_its_definition(ts, cap, start):
    assert np.allclose(advance(start, ts, cap)[0], plain(start, ts.tolist(), cap))


@given(TIMES, st.floats(1, 1e5), st.data())
def test_watermark_does_not_depend_on_the_cut(ts, cap, data):
    cut = data.draw(st.integers(0, len(ts)))
    whole, ahead = advance(NEVER, ts, cap)
    head, between = advance(NEVER, ts[:cut], cap)
    tail, end = advance(head[-1] if cut else NEVER, ts[cut:], cap, between)
    assert np.array_equal(np.concatenate((head, tail)), whole)
    assert end == ahead


def ticks(ts, record, cap, interval, cuts):
    """Run the records chunk by chunk; returns (records applied, tick) for every tick."""
    found, start, done, ahead = [], NEVER, 0, NONE_AHEAD
    for part in cuts:
        chosen = np.isin(record, part)
        marks, ahead = advance(start, ts[chosen], cap, ahead)
        begin = 0
        for end, tick in segments(marks, record[chosen], start, interval):
            done += end - begin
            begin = end
            if tick is not None:
                found.append((done, tick))
        assert begin == len(marks)
        start = marks[-1] if len(marks) else start
    return found


@given(TIMES, st.floats(1, 1e5), st.floats(1, 1e5), st.data())
def test_ticks_fall_between_the_same_records_however_the_chunks_are_cut(ts, cap, interval, data):
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=len(ts), max_size=len(ts)))
    record = np.repeat(np.arange(len(sizes)), sizes)[: len(ts)]
    numbers = np.unique(record)
    cut = data.draw(st.integers(0, len(numbers)))
    whole = ticks(ts, record, cap, interval, [numbers])
    assert ticks(ts, record, cap, interval, [numbers[:cut], numbers[cut:]]) == whole
    assert ticks(ts, record, cap, interval, [[n] for n in numbers]) == whole
    assert all(tick % interval == 0 or np.isclose(tick / interval, round(tick / interval)) for _, tick in whole)


def test_one_bad_timestamp_moves_the_watermark_by_the_cap_only():
    marks, _ = advance(100.0, np.array([101.0, 1e12, 102.0]), 30.0)
    assert marks.tolist() == [101.0, 131.0, 131.0]


def test_a_first_timestamp_of_1970_does_not_make_the_watermark_crawl():
    now = 1.79e9 + np.arange(100.0)
    marks, ahead = advance(NEVER, np.concatenate(([0.0], now)), 75.0)
    assert marks[CONFIRMED_BY - 1] == (CONFIRMED_BY - 1) * 75.0
    assert marks[CONFIRMED_BY:].tolist() == [now[0], *now[CONFIRMED_BY:]]
    assert ahead == NONE_AHEAD


def test_bad_timestamps_between_good_ones_are_never_confirmed():
    ts = np.where(np.arange(400) % 3 == 2, 1e12, 1000.0)
    marks, _ = advance(1000.0, ts, 30.0)
    assert marks[-1] == 1000.0 + 133 * 30.0


def test_tick_of_never_is_never():
    assert tick_of(NEVER, 10.0) == NEVER
    assert tick_of(129.9, 10.0) == 120.0
