"""Range-based precision and recall against the values of a published implementation (PyPI `prts` 1.0.0.3)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score

from dwcp_stream.training.range_metrics import range_scores

FIRST = ([0, 0, 1, 1, 1, 1, 0, 0, 1, 0, 0, 1, 1, 1, 0], [0, 1, 1, 0, 1, 0, 0, 0, 0, 0, 1, 1, 0, 1, 1])
SECOND = ([1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1], [1, 0, 1, 0, 1, 0, 1, 0, 0, 0, 1, 1, 1, 0, 0])


@pytest.mark.parametrize(
    ("case", "alpha", "bias", "cardinality", "published"),
    [
        (FIRST, 0.0, "flat", "one", (0.625, 0.38888888888888884, 0.4794520547945205)),
        (FIRST, 0.0, "flat", "reciprocal", (0.625, 0.19444444444444442, 0.2966101694915254)),
        (FIRST, 0.0, "front", "reciprocal", (0.625, 0.2111111111111111, 0.31561461794019935)),
        (FIRST, 0.5, "middle", "reciprocal", (0.625, 0.4166666666666667, 0.5)),
        (FIRST, 0.5, "back", "one", (0.625, 0.5111111111111111, 0.5623471882640586)),
        (SECOND, 0.0, "flat", "reciprocal", (0.8, 0.4, 0.5333333333333333)),
        (SECOND, 0.0, "front", "one", (0.8, 0.7, 0.7466666666666666)),
        (SECOND, 0.0, "middle", "reciprocal", (0.8, 0.42592592592592593, 0.555891238670695)),
        (SECOND, 0.5, "back", "reciprocal", (0.8, 0.6499999999999999, 0.7172413793103447)),
        (SECOND, 0.5, "flat", "one", (0.8, 0.8, 0.8000000000000002)),
    ],
)
def test_a_published_implementation_gives_the_same(case, alpha, bias, cardinality, published) -> None:
    label, alarm = np.array(case[0]), np.array(case[1])
    found = range_scores(label, alarm, alpha=alpha, bias=bias, cardinality=cardinality)
    assert (found.precision, found.recall, found.f1) == pytest.approx(published, abs=1e-12)


def test_by_hand() -> None:
    # one range of four rows found in two pieces of one row each: half of it, divided by two; one piece reaches out
    label = np.array([0, 1, 1, 1, 1, 0, 0])
    alarm = np.array([0, 1, 0, 0, 1, 1, 0])
    found = range_scores(label, alarm)
    assert found.recall == 0.25
    assert found.precision == (1.0 + 0.5) / 2
    # finding the one row that is worth most under a front bias: 4 of 4 + 3 + 2 + 1
    assert range_scores(label, alarm * (np.arange(7) < 2), bias="front").recall == pytest.approx(0.4)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_ranges_of_one_row_are_the_ordinary_figures(rows) -> None:
    label = np.array([on for pair in rows for on in (pair[0], False)])
    alarm = np.array([on for pair in rows for on in (pair[1], False)])
    found = range_scores(label, alarm)
    if label.any() and alarm.any():
        assert found.precision == pytest.approx(precision_score(label, alarm))
        assert found.recall == pytest.approx(recall_score(label, alarm))
        assert found.f1 == pytest.approx(f1_score(label, alarm))
    else:
        assert np.isnan(found.f1)


def test_no_point_adjustment_and_entities_apart() -> None:
    label = np.r_[np.zeros(50), np.ones(50)]
    alarm = np.zeros(100)
    alarm[70] = 1
    assert range_scores(label, alarm).recall == pytest.approx(0.02)
    both = np.ones(4)
    assert range_scores(both, np.array([1, 1, 0, 0]), group=np.array([0, 0, 1, 1])).recall == 0.5
    assert range_scores(both, np.array([0, 1, 1, 0]), group=np.array([0, 0, 1, 1])).precision == 1.0
