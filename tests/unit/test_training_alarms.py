"""Alarms, caught incidents, lead times, the choice of a threshold, on rows few enough to count by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwcp_stream.training.alarms import Rows, choose_threshold, firing, judge, runs


def rows_of(label: list[int], entity: list[int] | None = None, plateau: list[int] | None = None) -> Rows:
    n = len(label)
    return Rows(
        entity=np.array(entity or [0] * n),
        ts=60.0 * np.arange(n),
        label=np.array(label, bool),
        plateau=None if plateau is None else np.array(plateau, bool),
        severity=np.full(n, 0.7),
    )


def test_alarm_holds_between_resolve_and_threshold() -> None:
    scores = np.array([0.9, 1.1, 0.9, 0.85, 0.7, 0.9, 1.2, 0.9])
    assert firing(scores, np.zeros(8, int), 0.8).tolist() == [0, 1, 1, 1, 0, 0, 1, 1]
    assert firing(scores, np.array([0, 0, 1, 1, 1, 1, 1, 2]), 0.8).tolist() == [0, 1, 0, 0, 0, 0, 1, 0]


@given(
    scores=st.lists(st.sampled_from([0.0, 0.79, 0.8, 0.9, 1.0, 1.01, 3.0]), min_size=1, max_size=40),
    cut=st.integers(0, 40),
)
@settings(max_examples=60, deadline=None)
def test_alarm_equals_its_loop(scores: list[float], cut: int) -> None:
    entity = np.arange(len(scores)) >= cut
    expected, on = [], False
    for i, score in enumerate(scores):
        if i and entity[i] != entity[i - 1]:
            on = False
        on = True if score > 1.0 else False if score < 0.8 else on
        expected.append(on)
    assert firing(np.array(scores), entity.astype(int), 0.8).tolist() == expected


def test_runs_do_not_reach_over_entities() -> None:
    starts, ends = runs(np.array([1, 1, 1, 0, 1], bool), np.array([0, 0, 1, 1, 1]))
    assert starts.tolist() == [0, 2, 4]
    assert ends.tolist() == [1, 2, 4]
    assert [len(part) for part in runs(np.zeros(0, bool), np.zeros(0, int))] == [0, 0]


def test_incidents_false_alarms_and_lead_are_counted() -> None:
    #                incident 1: caught at row 3, full size at row 5        incident 2: missed
    label = [0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 0]
    plateau = [0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    score = [0, 0, 0, 2, 0, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0]
    outcome = judge(rows_of(label, plateau=plateau), np.array(score, float), step=60.0)
    assert (outcome.incidents, outcome.caught, outcome.false_alarms) == (2, 1, 1)
    assert outcome.recall == 0.5
    assert outcome.false_per_day == pytest.approx(1 / (15 * 60 / 86400))
    assert outcome.lead[0] == 120.0
    assert outcome.delay[0] == 60.0
    assert np.isnan(outcome.lead[1])
    assert outcome.hit.tolist() == [True, False]


def test_an_alarm_that_began_before_counts_at_the_first_labelled_row() -> None:
    outcome = judge(rows_of([0, 0, 1, 1]), np.array([0.0, 2.0, 2.0, 2.0]), step=60.0)
    assert (outcome.caught, outcome.false_alarms, outcome.delay[0]) == (1, 0, 0.0)


def test_without_alarms_nothing_is_caught() -> None:
    outcome = judge(rows_of([0, 1, 0]), np.zeros(3), step=60.0)
    assert (outcome.caught, outcome.false_alarms) == (0, 0)
    assert np.isnan(outcome.delay).all()
    quiet = judge(rows_of([0, 0, 0]), np.zeros(3), step=60.0)
    assert np.isnan(quiet.recall)


def test_threshold_is_the_lowest_within_the_budget() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(size=20_000)
    rows = rows_of([0] * 20_000)
    rows.label[5000:5100] = True
    base = float(np.median(raw))
    strict = choose_threshold(rows, raw, step=60.0, budget=0.5, base=base)
    loose = choose_threshold(rows, raw, step=60.0, budget=50.0, base=base)
    assert loose < strict
    for budget, threshold in ((0.5, strict), (50.0, loose)):
        assert judge(rows, (raw - base) / (threshold - base), step=60.0).false_per_day <= budget
