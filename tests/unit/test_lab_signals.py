"""The random processes of the simulators, and the schedule of episodes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.incidents import Kind, draw_history
from lab.signals import DAY, MONDAY, STEP, ar1, entity_rng, load_shape, logistic, logit


@given(half_life=st.floats(1.0, 100.0), std=st.floats(0.1, 5.0))
@settings(max_examples=10, deadline=None)
def test_ar1_equals_its_recursion(half_life: float, std: float) -> None:
    steps = 300
    phi = 0.5 ** (1.0 / half_life)
    e = np.random.default_rng(3).standard_normal(steps)
    expected = [e[0]]
    for value in e[1:]:
        expected.append(phi * expected[-1] + np.sqrt(1 - phi * phi) * value)
    np.testing.assert_allclose(
        ar1(np.random.default_rng(3), steps, half_life, std), std * np.array(expected), atol=1e-6
    )


def test_ar1_has_the_asked_spread_and_half_life() -> None:
    x = ar1(np.random.default_rng(0), 200_000, 20.0, 0.4)
    assert x.std() == pytest.approx(0.4, rel=0.05)
    assert np.corrcoef(x[:-20], x[20:])[0, 1] == pytest.approx(0.5, abs=0.05)


def test_load_has_a_day_and_a_week() -> None:
    ts = MONDAY + STEP * np.arange(7 * 1440)
    load = load_shape(ts, 14.0, 0.4, 0.6)
    monday = load[:1440]
    assert abs(int(np.argmax(monday)) / 60 - 14.0) < 3.0
    np.testing.assert_allclose(load[1440 : 2 * 1440], monday)
    np.testing.assert_allclose(load[5 * 1440 : 6 * 1440], 0.6 * monday)
    assert MONDAY % DAY == 0


def test_logit_inverts_logistic() -> None:
    assert float(logistic(np.array([logit(0.3)]))[0]) == pytest.approx(0.3)


def test_entities_have_generators_of_their_own() -> None:
    first = [entity_rng(1, 1, i).random() for i in range(50)]
    assert len(set(first)) == 50
    assert first == [entity_rng(1, 1, i).random() for i in range(50)]
    assert entity_rng(1, 2, 0).random() != first[0]


KINDS = [
    Kind("bad", {"x": 2.0}, lead=(10, 10), plateau=(20, 20), recovery=(10, 10), silence=0.5),
    Kind("fine", {"x": 1.0}, lead=(0, 0), plateau=(5, 5), recovery=(0, 0), incident=False),
]


def test_history_labels_incidents_from_lead_up_into_recovery() -> None:
    history = draw_history(np.random.default_rng(5), 100_000, KINDS, 5.0, 5.0)
    assert set(history.kind.tolist()) == {-1, 0, 1}
    assert not history.label[history.kind != 0].any()
    incident = history.kind == 0
    starts = np.flatnonzero(incident & (np.roll(history.kind, 1) != 0))
    felt: list[bool] = []
    for start in starts[:-1]:
        episode = slice(start, start + 40)
        assert history.phase[episode].tolist() == [1] * 10 + [2] * 20 + [3] * 10
        label = history.label[episode]
        assert label[:30].all()
        assert not label[-1]  # the recovery's end is not labelled any more
        effect = history.effect("x")[episode]
        felt.append(bool(effect.any()))
        if felt[-1]:
            assert effect[:3].mean() < 0.6 * effect[10:30].mean()
            assert effect[-3:].mean() < 0.3 * effect[10:30].mean()
        assert (history.silence[episode] > 0).tolist() == [False] * 10 + [True] * 20 + [False] * 10
    assert 0.7 < np.mean(felt) < 1.0  # now and then a field shows nothing
    assert not history.effect("x")[history.kind == -1].any()
    assert history.effect("unknown").shape == (100_000,)


def test_no_rate_means_no_episodes() -> None:
    history = draw_history(np.random.default_rng(5), 1000, KINDS, 0.0, 0.0)
    assert not history.label.any()
    assert (history.kind == -1).all()
