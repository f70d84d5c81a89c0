"""Reading an entity by field name, and the accounting words."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from windows_cases import batch, make_stream

from dwcp_stream.windows import EntityView, Outcome, Windows
from dwcp_stream.windows.counters import rates
from dwcp_stream.windows.grid import row_of
from dwcp_stream.windows.segments import group

NAN = math.nan


def view_of(loads: list[float], **changes: object) -> EntityView:
    windows = Windows(make_stream(window=len(loads), **changes))
    records = [[(10.0 * i, "a", [v, 0.0, 1.0, NAN])] for i, v in enumerate(loads)]
    chunk = batch(list(range(len(records))), records)
    list(windows.apply(chunk.offsets, chunk.ts, chunk.entity, chunk.entities, chunk.values))
    return windows.view("a")


def test_reads_as_a_mapping_of_fields() -> None:
    view = view_of([1.0, 2.0, 3.0])
    assert list(view) == ["load", "bytes", "mode", "errors"]
    assert len(view) == 4
    assert "load" in view
    assert view["load"].tolist() == [1.0, 2.0, 3.0]
    assert view["load"].dtype == np.float32
    assert view.times.tolist() == [0.0, 10.0, 20.0]
    assert "3 of 3 rows" in repr(view)
    with pytest.raises(KeyError):
        view["nothing"]


def test_is_a_copy() -> None:
    windows = Windows(make_stream())
    chunk = batch([1], [[(0.0, "a", [1.0] * 4)]])
    list(windows.apply(chunk.offsets, chunk.ts, chunk.entity, chunk.entities, chunk.values))
    windows.view("a")["load"][:] = 99.0
    assert windows.view("a")["load"][-1] == 1.0


def test_an_unknown_entity_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        Windows(make_stream()).view("nobody")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.integers(-1000, 1000).map(float), st.just(NAN)), min_size=1, max_size=12))
def test_features_are_those_of_numpy(loads: list[float]) -> None:
    found = view_of(loads).features()["load"]
    at = [i for i, v in enumerate(loads) if not math.isnan(v)]
    values = [loads[i] for i in at]
    assert found["share"] == len(values) / len(loads)
    if not values:
        assert all(math.isnan(v) for k, v in found.items() if k != "share")
        return
    slope = np.polyfit(at, values, 1)[0] if len(values) > 1 else 0.0
    wanted = [values[-1], np.mean(values), np.std(values), min(values), max(values), slope]
    names = ("last", "mean", "std", "min", "max", "slope")
    np.testing.assert_allclose([found[n] for n in names], wanted, rtol=1e-6, atol=1e-6)
    assert math.isnan(view_of(loads).features()["errors"]["mean"])


def test_a_value_beyond_float32_is_infinite() -> None:
    found = view_of([1.0, 1e300, 2.0]).features()["load"]
    assert (found["max"], found["mean"], found["min"]) == (math.inf, math.inf, 1.0)
    assert math.isnan(found["std"])


def test_outcomes_have_their_words() -> None:
    assert [o.word for o in Outcome] == ["scored", "warming_up", "duplicate", "late", "invalid", "replayed"]


def test_half_a_step_early_belongs_to_the_row() -> None:
    ts = np.array([-5.1, -5.0, 4.9, 5.0, 14.9, 15.0])
    assert row_of(ts, np.zeros(6), 10.0).tolist() == [-1, 0, 0, 1, 1, 2]


def test_rates_of_two_entities_do_not_mix() -> None:
    raw = np.array([[10.0], [NAN], [40.0], [7.0], [9.0]])
    last = np.array([[[NAN], [NAN]], [[5.0], [-2.0]]])
    rate, after = rates(
        raw, np.array([0.0, 1.0, 2.0, 0.0, 4.0]),
        start=np.array([0, 3]), seg=np.array([0, 0, 0, 1, 1]), last=last,
    )  # fmt: skip
    np.testing.assert_array_equal(rate[:, 0], [NAN, NAN, 15.0, 1.0, 0.5])
    assert after[:, :, 0].tolist() == [[40.0, 2.0], [9.0, 4.0]]


@pytest.mark.parametrize("highest", [3, 100_000])
def test_samples_are_grouped_in_the_order_they_came(highest: int) -> None:
    slots = np.array([highest, 1, highest, 0, 1, 1])
    found = group(np.array([2, 3, 5, 7, 8, 9]), slots)
    assert found.slot.tolist() == [0, 1, highest]
    assert found.sample.tolist() == [7, 3, 8, 9, 2, 5]
    assert found.seg.tolist() == [0, 1, 1, 1, 2, 2]
    assert (found.start.tolist(), found.end.tolist()) == ([0, 1, 4], [0, 3, 5])
