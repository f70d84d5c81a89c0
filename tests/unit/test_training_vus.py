"""VUS-PR against values of the authors' published code (package vus 0.0.6, `RangeAUC_volume_opt`)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.training.vus import vus_pr


def ranges(rows: int, *parts: tuple[int, int]) -> np.ndarray:
    label = np.zeros(rows)
    for begin, end in parts:
        label[begin:end] = 1
    return label


@pytest.mark.parametrize(
    ("rows", "parts", "seed", "digits", "window", "published"),
    [
        (60, [(10, 14), (40, 41)], 0, None, 4, 0.18467338212974393),
        (200, [(0, 5), (50, 80), (85, 90)], 1, 1, 20, 0.5357858865839151),  # ties, and buffers that meet
        (500, [(100, 130), (300, 303), (480, 499)], 2, None, 10, 0.30788004249176915),
        (120, [(30, 40)], 3, None, 0, 0.22056874870022924),
    ],
)
def test_published_code_gives_the_same(
    rows: int, parts: list[tuple[int, int]], seed: int, digits: int | None, window: int, published: float
) -> None:
    label = ranges(rows, *parts)
    score = np.random.default_rng(seed).normal(size=rows) + label
    if digits is not None:
        score = np.round(score, digits)
    assert vus_pr(label, score, window=window) == pytest.approx(published, abs=1e-12)


def test_whole_numbers_without_a_generator() -> None:
    label = ranges(40, (10, 15), (30, 31))
    score = (np.arange(40) * 7) % 13 + 6 * label
    assert vus_pr(label, score, window=8) == pytest.approx(0.5341024051157071, abs=1e-12)


def test_a_perfect_score_has_one_and_a_random_one_about_the_labelled_share() -> None:
    label = ranges(4000, (500, 560), (2000, 2100), (3000, 3040))
    assert vus_pr(label, label) == pytest.approx(1.0)
    random = vus_pr(label, np.random.default_rng(0).random(4000))
    assert label.mean() * 0.7 < random < label.mean() * 1.6


def test_missing_scores_rank_last() -> None:
    label = ranges(100, (40, 50))
    score = np.where(label > 0, 1.0, 0.0)
    score[:20] = np.nan
    assert vus_pr(label, score) == pytest.approx(1.0)


def test_no_labels_is_no_number_and_lengths_must_agree() -> None:
    assert np.isnan(vus_pr(np.zeros(10), np.arange(10.0)))
    with pytest.raises(ValueError, match="labels for"):
        vus_pr(np.zeros(10), np.zeros(9))


@given(st.integers(0, 10_000), st.integers(0, 30))
def test_only_the_order_counts(seed: int, window: int) -> None:
    rng = np.random.default_rng(seed)
    label = ranges(150, (20, 30), (100, 101 + seed % 40))
    score = rng.normal(size=150)
    value = vus_pr(label, score, window=window)
    assert 0.0 <= value <= 1.0
    assert vus_pr(label, np.exp(score), window=window) == pytest.approx(value, abs=1e-12)
