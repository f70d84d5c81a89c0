"""The sequential test: what its bounds are, and how often they are wrong where nothing differs."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.signal import lfilter
from scipy.stats import ttest_1samp

from dwcp_stream.loop import judge
from dwcp_stream.loop.sequential import BLOCK, BLOCKS, TIGHTEST, block_means, interval

SERIES = arrays(np.float64, st.integers(20, 200), elements=st.floats(-1.0, 1.0, width=32))
SHORT = {"block": 3, "blocks": 6}


def autoregressive(seed, runs, n, phi, deviation=0.2):
    """Heavy tails: Student's t with four degrees of freedom."""
    shocks = np.random.default_rng(seed).standard_t(4, (runs, n + 500)) * math.sqrt((1 - phi**2) / 2) * deviation
    return lfilter([1.0], [1.0, -phi], shocks, axis=1)[:, 500:]


def decisions(series, alpha=0.05):
    """Return 1, -1 or 0 for each run: the first side that a look after every block finds."""
    decided = np.zeros(len(series), int)
    for n in range(BLOCK * BLOCKS, series.shape[1] + 1, BLOCK):
        means, _, share = block_means(series[:, :n])
        mean, half, _ = interval(means, alpha * share, BLOCKS / TIGHTEST)
        decided = np.where(decided == 0, np.sign(mean) * (np.abs(mean) > half), decided)
    return decided


@pytest.mark.parametrize("phi", [0.0, 0.6, 0.9])
def test_versions_that_are_alike_are_seldom_told_apart_however_often_one_looks(phi):
    decided = decisions(autoregressive(1, 400, 3000, phi))
    assert (decided > 0).mean() <= 0.03
    assert (decided < 0).mean() <= 0.03


def test_a_t_test_that_is_repeated_is_often_wrong_on_the_same_series():
    series = autoregressive(1, 100, 3000, 0.6)
    looks = [ttest_1samp(series[:, :n], 0.0, axis=1) for n in range(BLOCK * BLOCKS, 3001, BLOCK)]
    wrong = np.any([(look.pvalue < 0.05) & (look.statistic > 0) for look in looks], axis=0)
    assert wrong.mean() > 0.2


@pytest.mark.parametrize("sign", [1, -1])
def test_a_difference_is_found(sign):
    assert (decisions(autoregressive(2, 100, 3000, 0.6) + sign * 0.05) == sign).mean() > 0.9


def test_the_bounds_are_where_the_mixture_reaches_one_over_alpha():
    means = np.abs(np.random.default_rng(3).normal(0.0, 1.0, 40)) * np.tile(
        [1.0, -1.0], 20
    )  # no autocorrelation over 0
    alpha, c2, n = 0.02, 2.4, len(means)
    mean, half, _ = interval(means, alpha, c2)
    for bound in (mean - half, mean + half):
        total, squares = (means - bound).sum(), ((means - bound) ** 2).sum()
        grown = math.sqrt(c2 / (n + c2)) * (squares / (squares - total**2 / (n + c2))) ** (n / 2)
        assert grown == pytest.approx(1 / alpha)


def test_autocorrelation_widens_the_bounds_and_leaves_fewer_effective_differences():
    loose, tight = (judge(autoregressive(4, 1, 3000, phi)[0]) for phi in (0.97, 0.0))
    assert loose.upper - loose.lower > 4 * (tight.upper - tight.lower)
    assert loose.effective_n < 300
    assert 1500 < tight.effective_n <= tight.n


def test_nothing_is_said_before_there_are_enough_blocks():
    certain = np.full(BLOCK * BLOCKS, 0.1)
    before, after = judge(certain[:-1]), judge(certain)
    assert (before.lower, before.upper, before.blocks) == (-math.inf, math.inf, BLOCKS - 1)
    assert (after.lower, after.upper) == (pytest.approx(0.1), pytest.approx(0.1))
    assert judge(np.empty(0)) == (-math.inf, math.inf, 0.0, 0, 0.0, 0)


def test_blocks_get_longer_and_their_share_of_alpha_is_one_together():
    lengths, shares = {}, {}
    for n in range(1, 42_000):
        means, length, share = block_means(np.zeros(n), 2, 5)
        lengths.setdefault(length, []).append(len(means))
        shares[length] = share
    assert list(lengths) == [2, 4, 8, 16, 32, 64, 128]
    assert [max(counts) for counts in list(lengths.values())[:3]] == [19, 39, 79]
    assert all(min(counts) >= 5 for counts in list(lengths.values())[1:])
    assert sum(shares.values()) == pytest.approx(1 - 1 / 8)


def test_versions_without_any_difference_stay_undecided():
    bounds = judge(np.zeros(2000))
    assert bounds.lower == bounds.upper == 0.0


@given(SERIES)
def test_changing_places_swaps_the_bounds(series):
    one, other = judge(series, **SHORT), judge(-series, **SHORT)
    assert (other.lower, other.upper) == (pytest.approx(-one.upper, abs=1e-9), pytest.approx(-one.lower, abs=1e-9))
    assert other[3:] == pytest.approx(one[3:])


@given(SERIES, st.floats(0.01, 100.0))
def test_units_do_not_matter(series, unit):
    one, other = judge(series, **SHORT), judge(series * unit, **SHORT)
    assert (other.lower / unit, other.upper / unit) == (
        pytest.approx(one.lower, abs=1e-6),
        pytest.approx(one.upper, abs=1e-6),
    )


@given(SERIES, st.floats(0.001, 0.5))
def test_bounds_hold_the_mean_and_are_wider_the_surer_they_are(series, alpha):
    bounds, surer = judge(series, alpha, **SHORT), judge(series, alpha / 2, **SHORT)
    assert surer.lower <= bounds.lower <= bounds.mean <= bounds.upper <= surer.upper
    assert 0 <= bounds.effective_n <= bounds.n <= len(series)
    assert bounds.mean == pytest.approx(series[: bounds.n].mean(), abs=1e-9)


@pytest.mark.parametrize(
    ("series", "more"),
    [
        (np.array([1.0, math.nan]), {}),
        (np.zeros((2, 2)), {}),
        (np.zeros(2), {"alpha": 0.0}),
        (np.zeros(2), {"block": 0}),
        (np.zeros(2), {"blocks": 3}),
    ],
)
def test_what_cannot_be_judged_is_refused(series, more):
    with pytest.raises(ValueError):
        judge(series, **more)
