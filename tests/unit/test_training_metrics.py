"""Metrics against cases counted by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.training.metrics import (
    best_threshold,
    budget_threshold,
    count_runs,
    coverage,
    detection,
    mae,
    number_events,
    pinball,
    plain,
    skill,
)


def test_number_events_tells_entities_apart() -> None:
    label = np.array([0, 1, 1, 0, 1, 1, np.nan])
    group = np.array([0, 0, 0, 0, 0, 1, 1])
    assert number_events(label).tolist() == [-1, 0, 0, -1, 1, 1, -1]
    assert number_events(label, group).tolist() == [-1, 0, 0, -1, 1, 2, -1]


def test_detection_by_hand() -> None:
    #                 quiet       event 0     recovery  quiet            event 1
    event = np.array([-1, -1, -1, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, 1, 1])
    quiet = np.array([1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0], bool)
    scores = np.array([0, 2, 0, 0, 0, 3, 9, 9, 0, 2, 2, 0, 2, 0.5, np.nan])
    ts = 100.0 + 10.0 * np.arange(15)
    result = detection(scores, ts, event, quiet, step=10.0, merge=2)
    assert (result.events, result.found) == (2, 1)
    assert result.false_alarms == 3  # rows 1, 9 with 10, 12
    assert result.quiet_hours == pytest.approx(80 / 3600)
    assert result.false_alarms_per_hour == pytest.approx(3 / (80 / 3600))
    assert result.quiet_in_alarm == pytest.approx(4 / 8)
    assert result.delay_median == 20.0
    # labelled known scores 0, 0, 3, 0.5 against quiet 0 x 4, 2 x 4: wins and half of the ties over 32 pairs
    assert result.roc_auc == pytest.approx((2 * (4 * 0.5) + 8 + 4) / 32)
    merged = detection(scores, ts, event, quiet, step=10.0, merge=3)
    assert merged.false_alarms == 2


def test_detection_without_events_or_quiet_time() -> None:
    nothing = detection(np.ones(3), np.arange(3.0), np.full(3, -1), np.ones(3, bool))
    assert nothing.events == 0
    assert np.isnan(nothing.roc_auc)
    assert nothing.plain()["roc_auc"] is None
    busy = detection(np.full(3, 2.0), np.arange(3.0), np.zeros(3, int), np.zeros(3, bool))
    assert (busy.found, busy.false_alarms) == (1, 0)
    assert np.isnan(busy.false_alarms_per_hour)


def test_exact_starts_give_exact_delays() -> None:
    result = detection(
        np.array([0, 0, 5.0]), np.array([10.0, 11, 12]), np.zeros(3, int), np.zeros(3, bool), starts=np.array([9.25])
    )
    assert result.delay_median == 2.75


def test_runs_do_not_reach_over_entities() -> None:
    rows = np.array([0, 1, 5, 6])
    assert count_runs(rows, 10) == 1
    assert count_runs(rows, 4) == 2
    assert count_runs(rows, 10, np.array([0, 0, 0, 0, 0, 0, 1])) == 2
    assert count_runs(np.array([], int), 10) == 0


def test_best_threshold_separates_what_can_be_separated() -> None:
    event = np.array([-1] * 50 + [0] * 5 + [-1] * 50 + [1] * 5)
    scores = np.where(event >= 0, 4.0, 1.0) + np.linspace(0, 0.5, len(event))
    threshold = best_threshold(scores, event, event < 0)
    result = detection(scores, np.arange(len(event)) * 1.0, event, event < 0, threshold=threshold)
    assert (result.found, result.false_alarms) == (2, 0)


def test_best_threshold_gives_up_an_event_that_costs_two_false_alarms() -> None:
    event = np.full(100, -1)
    event[[10, 50]] = 0, 1
    scores = np.full(100, 0.1)
    scores[[10, 50]] = 9.0, 2.0
    scores[[25, 75]] = 3.0
    threshold = best_threshold(scores, event, event < 0, merge=5)
    assert 3.0 <= threshold < 9.0


def test_best_threshold_without_events_is_over_all_quiet_scores() -> None:
    assert best_threshold(np.array([0.2, 0.4]), np.full(2, -1), np.ones(2, bool)) == pytest.approx(0.42)


@given(
    st.lists(st.floats(0, 10, allow_nan=False), min_size=5, max_size=60),
    st.integers(0, 4),
)
def test_budget_threshold_keeps_its_budget(values: list[float], budget: int) -> None:
    scores, quiet = np.array(values), np.ones(len(values), bool)
    threshold = budget_threshold(scores, quiet, budget, merge=2)
    assert count_runs(np.flatnonzero(scores > threshold), 2) <= budget


def test_forecast_errors_by_hand() -> None:
    actual = np.array([10.0, 20.0, np.nan])
    quantiles = np.array([[8.0, 12.0, 13.0], [15.0, 18.0, 19.0], [0, 0, 0]])
    # 10: .1 * 2, .5 * 2, .1 * 3; 20: .1 * 5, .5 * 2, .9 * 1
    assert pinball(actual, quantiles) == pytest.approx(np.mean([0.2, 1.0, 0.3, 0.5, 1.0, 0.9]))
    assert coverage(actual, quantiles[:, 0], quantiles[:, 2]) == 0.5
    assert mae(actual, quantiles[:, 1]) == 2.0
    assert skill(1.5, 2.0) == 0.25
    assert np.isnan(skill(1.0, 0.0))


def test_plain_numbers_are_json_ready() -> None:
    assert plain({"a": np.float64(1 / 3), "b": {"c": float("nan")}, "d": 3, "e": "x"}) == {
        "a": 0.333333,
        "b": {"c": None},
        "d": 3,
        "e": "x",
    }


def test_best_threshold_does_not_take_one_endless_alarm_for_one_false_alarm() -> None:
    # an event of one row every tenth row, ten of them unseen: with half of all rows in alarm most are found, too, and
    # the quiet rows in alarm are one run
    rng = np.random.default_rng(4)
    event = np.full(400, -1)
    event[::10] = np.arange(40)
    scores = np.where((event >= 0) & (event % 4 != 0), 3.0, 1.0) + rng.uniform(0.0, 0.5, 400)
    assert 1.5 < best_threshold(scores, event, event < 0) < 3.0
