"""Intervals: against scikit-learn and published limits, and how often they hold what is true."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from dwcp_stream.training.intervals import percentile, poisson_rate, resampling, share, verdict
from dwcp_stream.training.ranking import weighted_ranking


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 5000))
def test_weighted_ranks_are_those_of_scikit_learn(seed) -> None:
    rng = np.random.default_rng(seed)
    unit = rng.integers(0, 6, 80)
    label = rng.random(80) < 0.4
    score = np.round(rng.normal(size=80) + label, 1)  # with ties
    weights = rng.integers(0, 4, (5, 6)).astype(float)
    areas, precisions = weighted_ranking(label, score, unit, weights)
    for number, weight in enumerate(weights):
        w = weight[unit]
        if w[label].sum() and w[~label].sum():
            assert areas[number] == pytest.approx(roc_auc_score(label, score, sample_weight=w))
            assert precisions[number] == pytest.approx(average_precision_score(label, score, sample_weight=w))
        else:
            assert np.isnan(areas[number])


def test_published_limits() -> None:
    # E. B. Wilson's interval as tabled by Newcombe (1998), 81 of 263; Garwood's limits for 5 and for no event
    assert share(81, 263) == pytest.approx([0.2553, 0.3662], abs=1e-4)
    assert poisson_rate(5, 1.0) == pytest.approx([1.623, 11.668], abs=1e-3)
    assert poisson_rate(0, 2.0) == pytest.approx([0.0, 3.689 / 2], abs=1e-3)
    assert share(0, 0) is None
    assert poisson_rate(0, 0.0) is None


def test_blocks_cut_no_event_and_no_entity() -> None:
    group = np.repeat([0, 1], 300)
    event = np.full(600, -1)
    event[95:130] = 0
    event[440:444] = 1
    draws = resampling(group, event, least_rows=20, seed=3)
    assert draws.said == "29 blocks of about 20 rows"
    assert len(set(draws.unit[95:130])) == len(set(draws.unit[440:444])) == 1
    assert not set(draws.unit[:300]) & set(draws.unit[300:])
    assert (np.diff(draws.unit) >= 0).all()
    again = resampling(group, event, least_rows=20, seed=3)
    assert np.array_equal(draws.weights, again.weights)
    assert (draws.weights.sum(axis=1) == 29).all()
    assert draws.sums(np.ones(600)).mean() == pytest.approx(600, rel=0.05)


def test_many_entities_are_drawn_whole_and_few_blocks_say_nothing() -> None:
    assert resampling(np.repeat(np.arange(12), 5), np.full(60, -1), 30, 0).said == "12 entities"
    few = resampling(np.zeros(60, int), np.full(60, -1), 30, 0)
    assert "too few" in few.said
    assert percentile(few.sums(np.ones(60))) is None


def test_the_interval_of_a_mean_holds_it_about_as_often_as_it_says() -> None:
    held = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        values = np.repeat(rng.normal(size=40), 5)  # rows of a block are alike: 40 values, not 200
        draws = resampling(np.repeat(np.arange(40), 5), np.full(200, -1), 5, seed, draws=200)
        low, high = percentile(draws.sums(values) / draws.sums(np.ones(200)))
        held += low <= 0.0 <= high
    assert 0.87 <= held / 100 <= 1.0


def test_a_difference_counts_only_outside_its_interval() -> None:
    assert verdict([0.1, 0.2]) == "better"
    assert verdict([-0.2, -0.1]) == "worse"
    assert verdict([-0.1, 0.2]) == verdict(None) == "no difference shown"
    assert verdict([0.1, 0.2], more_is_better=False) == "worse"
