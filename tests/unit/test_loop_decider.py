"""What follows from what is known of the versions beside a champion."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from dwcp_stream.loop.decider import PROMOTABLE, Arms, Evidence, Verdict, decide
from dwcp_stream.loop.due import Trainings, due
from dwcp_stream.loop.policy import Policy
from dwcp_stream.loop.precision import interval
from dwcp_stream.loop.sequential import BLOCKS, Bounds

POLICY = Policy()
LONG = POLICY.max_age + 1.0


def errors(lower: float, upper: float, *, age: float = 1e5, served: float | None = None, **more) -> Evidence:
    blocks = more.pop("blocks", BLOCKS)
    bounds = Bounds(lower, upper, (lower + upper) / 2 if lower > -inf else more.pop("mean", 0.0), 1500, 500.0, blocks)
    return Evidence(age, served, bounds, more.pop("ratio", 0.9), more.pop("paired", 1500), **more)


BETTER, WORSE, NEITHER = errors(0.01, 0.2), errors(-0.2, -0.01), errors(-0.1, 0.08)
EARLY = errors(-inf, inf, blocks=3, mean=0.5)
SHADOW, CHALLENGER = Arms(1, shadow=2), Arms(1, challenger=2)


def word(arms: Arms, known: Evidence, policy: Policy = POLICY) -> str | None:
    verdict = decide(arms, {2: known, 1: known}, policy)
    return None if verdict is None else verdict.word


@pytest.mark.parametrize(
    ("arms", "known", "expected"),
    [
        (SHADOW, BETTER, "challenged"),
        (SHADOW, WORSE, "dropped"),
        (SHADOW, NEITHER, None),
        (SHADOW, errors(-0.02, 0.1), "challenged"),
        (SHADOW, errors(-inf, inf, blocks=8, mean=0.1), "challenged"),
        (SHADOW, EARLY, None),
        (SHADOW, replace(BETTER, ratio=1.0), None),
        (CHALLENGER, replace(BETTER, ratio=1.02, served=3600.0), None),
        (CHALLENGER, replace(BETTER, served=3600.0, windows=1000, champion_over=4, over=13), None),
        (CHALLENGER, replace(BETTER, served=3600.0, windows=1000, champion_over=5, over=13), "promoted"),
        (CHALLENGER, replace(BETTER, served=3600.0, windows=1000, champion_over=0, over=10), "promoted"),
        (CHALLENGER, replace(BETTER, served=3600.0, windows=1000, over=900, age=LONG), "dropped"),
        (SHADOW, replace(NEITHER, age=LONG), "dropped"),
        (SHADOW, replace(BETTER, unpaired=200), None),
        (SHADOW, replace(BETTER, unpaired=200, age=LONG), "dropped"),
        (SHADOW, Evidence(), None),
        (SHADOW, Evidence(age=LONG), "dropped"),
        (CHALLENGER, BETTER, None),
        (CHALLENGER, replace(BETTER, served=3599.0), None),
        (CHALLENGER, replace(BETTER, served=3600.0), "promoted"),
        (CHALLENGER, replace(BETTER, served=3600.0, age=LONG), "promoted"),
        (CHALLENGER, replace(NEITHER, served=3600.0), None),
        (CHALLENGER, WORSE, "dropped"),
        (CHALLENGER, replace(NEITHER, age=LONG), "dropped"),
    ],
)
def test_what_becomes_of_a_candidate(arms, known, expected):
    assert word(arms, known) == expected


def test_a_candidate_needs_longer_to_become_champion_than_to_be_dropped_or_a_champion_to_be_taken_back():
    early = {"paired": POLICY.block * PROMOTABLE - 1, "served": 3600.0}
    assert word(CHALLENGER, replace(BETTER, **early)) is None
    assert word(CHALLENGER, replace(BETTER, **early, age=LONG)) is None, "it is not dropped for what it waits for"
    assert word(CHALLENGER, replace(BETTER, paired=POLICY.block * PROMOTABLE, served=3600.0)) == "promoted"
    assert word(CHALLENGER, replace(WORSE, **early)) == "dropped"
    assert word(SHADOW, replace(BETTER, **early)) == "challenged"
    assert word(SHADOW, replace(BETTER, **early), Policy(share=0)) is None
    assert word(Arms(3, shadow=2, last_good=2), replace(BETTER, **early)) == "rolled_back"


def test_without_a_share_a_better_shadow_becomes_champion_at_once():
    assert word(SHADOW, BETTER, Policy(share=0)) == "promoted"
    assert word(SHADOW, NEITHER, Policy(share=0)) is None


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        *((BETTER, "rolled_back"), (WORSE, "dropped"), (NEITHER, None), (replace(NEITHER, age=LONG), "dropped")),
        (replace(BETTER, windows=1000, over=500), "rolled_back"),  # it has been heard before
    ],
)
def test_what_becomes_of_the_champion_before(known, expected):
    arms = Arms(3, shadow=2, last_good=2)
    verdict = decide(arms, {2: known}, POLICY)
    if expected is None:
        assert verdict is None
        return
    assert isinstance(verdict, Verdict)
    wanted = {"rolled_back": (3, 2), "dropped": (2, 3)}[expected]
    assert (verdict.word, verdict.version, verdict.champion) == (expected, *wanted)


def test_a_decision_says_its_numbers():
    verdict = decide(SHADOW, {2: WORSE}, POLICY)
    assert verdict is not None
    numbers = {
        "age_hours": 27.778,
        "mean": -0.105,
        "lower": -0.2,
        "upper": -0.01,
        "n": 1500,
        "unpaired": 0,
        "ratio": 0.9,
    }
    assert verdict.numbers == pytest.approx(numbers)
    assert verdict.reason == "its realised error is larger, by 10.5%"


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        ((5, 40), (38, 40), "promoted"),
        ((38, 40), (5, 40), "dropped"),
        ((20, 40), (25, 40), None),
        ((0, 0), (40, 40), None),
    ],
)
def test_alerts_that_were_judged_decide_about_a_model_without_forecasts(mine, theirs, expected):
    known = Evidence(age=1e4, served=1e4, judged=(mine, theirs))
    assert word(CHALLENGER, known) == expected
    if expected == "promoted":  # a person lets a shadow serve
        assert word(SHADOW, replace(known, judged=((0, 0), (0, 0)))) is None


def test_a_precision_interval_holds_at_all_looks():
    """Of 2,000 series of 300 judgements the interval leaves the truth out at any look in fewer than alpha."""
    rng, alpha, p = np.random.default_rng(5), 0.1, 0.7
    true = (rng.random((2000, 300)) < p).cumsum(axis=1)
    limits: dict[tuple[int, int], tuple[float, float]] = {}
    missed = 0
    for row in true.tolist():
        for n in range(10, 301, 10):
            key = row[n - 1], n
            low, high = limits.setdefault(key, interval(*key, alpha))
            if not low <= p <= high:
                missed += 1
                break
    assert missed <= binom.ppf(0.999, 2000, alpha)
    assert missed > 0


@given(st.integers(0, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_precision_interval_holds_what_was_seen(pair):
    true, judged = pair
    low, high = interval(true, judged, 0.05)
    assert 0.0 <= low <= (true / judged if judged else 0.5) <= high <= 1.0
    mirrored = interval(judged - true, judged, 0.05)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high), abs=1e-6)


def test_more_true_than_judged_is_refused():
    with pytest.raises(ValueError, match="3 of 2"):
        interval(3, 2, 0.05)


NOW, HOUR = 1e9, 3600.0


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (Trainings(), None),
        (Trainings(last=NOW - 23 * HOUR), None),
        (Trainings(last=NOW - 24 * HOUR), ("schedule", None)),
        (Trainings(last=NOW, commanded=True), ("command", None)),
        (Trainings(last=NOW - 7 * HOUR, changed=NOW - 6 * HOUR), ("drift", NOW - 6 * HOUR)),
        (Trainings(last=NOW - 7 * HOUR, changed=NOW - 6 * HOUR, change="skill"), ("skill", NOW - 6 * HOUR)),
        (Trainings(last=NOW - 7 * HOUR, changed=NOW - 5 * HOUR), None),
        (Trainings(last=NOW - HOUR, changed=NOW - 7 * HOUR, attempts=1), None),
        (Trainings(last=NOW - HOUR, changed=NOW - 12 * HOUR, attempts=1), ("drift", NOW - 12 * HOUR)),
        (Trainings(last=NOW - 40 * HOUR, changed=NOW - 5 * HOUR), None),
        (Trainings(last=NOW - HOUR, accepted=NOW - HOUR, changed=NOW - 9 * HOUR), None),
        (Trainings(last=NOW - 25 * HOUR, accepted=NOW - 25 * HOUR, changed=NOW - 30 * HOUR), ("schedule", None)),
    ],
)
def test_when_a_model_is_trained_again(known, expected):
    assert due(NOW, known, Policy(collect=6 * HOUR)) == expected


def test_no_training_by_schedule_or_drift_if_the_policy_says_so():
    known = Trainings(last=NOW - 1e6, changed=NOW - 1e5)
    assert due(NOW, known, Policy(interval=0.0, on_drift=False)) is None
    assert due(NOW, known, Policy(on_drift=False)) == ("schedule", None)
