"""A sequential test of two versions' paired errors that may be looked at after every bucket.

The mean difference gets a confidence sequence: intervals that all hold at once with probability 1 - alpha, so that one
may stop at the first that leaves 0 out. Differences of one bucket and the next are not independent, and their spread is
unknown. So

- buckets are put together to blocks, and the blocks' means are what is tested. Blocks get twice as long whenever there
  are four times as many buckets (batch means, lengths by the square root of n: Glynn and Whitt, Operations Research
  Letters 10, 1991, 431-435; Flegal and Jones, Annals of Statistics 38, 2010, 1034-1070), so that memory of any length
  is left behind. Each length is a test of its own; the k-th of them may err with alpha / (k (k + 1)), together alpha;
- autocorrelation that is left from block to block is taken for that of an autoregressive process of order one: its
  variance counts, and the blocks count for fewer;
- the interval is that of Wang and Ramdas (Anytime-valid t-tests and confidence sequences for Gaussian means with
  unknown variance, arXiv:2310.03722, a Gaussian mixture over the effect size; after Lai, 1976). For independent
  Gaussian blocks it is exact from the first on, where a variance that is only plugged in errs most; for many blocks it
  becomes the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (Time-uniform central
  limit theory and asymptotic confidence sequences, Annals of Statistics 52, 2024), which asks for no Gaussian ones.

What is guaranteed is therefore asymptotic; `python -m lab.evaluations.decisions` measures what is kept of it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK = 36
"""Buckets of the shortest blocks: three hours."""
BLOCKS = 24
"""Blocks before anything is said: three days of the shortest."""
TIGHTEST = 10.0
"""The mixture's variance is this over `blocks`: the interval is about tightest when the first blocks are in."""
MOST = 0.9
"""Largest autocorrelation from block to block that is allowed for."""
ROUNDING = 1e-14
"""Distance of a block's mean from all, as a share of it, that is only that of arithmetic."""

F64 = NDArray[np.float64]


class Bounds(NamedTuple):
    """What the differences say of their mean, at every time at once.

    Parameters
    ----------
    lower, upper
        Bounds of the mean; infinite as long as nothing can be said.
    mean
        Mean of the differences that are in blocks; 0 if there is none.
    n
        Differences that are in blocks.
    effective_n
        Independent differences that would tell as much, at most n.
    blocks
        Number of blocks.
    """

    lower: float
    upper: float
    mean: float
    n: int
    effective_n: float
    blocks: int


def judge(differences: F64, alpha: float = 0.05, *, block: int = BLOCK, blocks: int = BLOCKS) -> Bounds:
    """Return the bounds of the mean difference after the last of them.

    Give the whole series each time: bounds at different times belong together only if each series begins with the one
    before. The same series always gives the same bounds.

    Parameters
    ----------
    differences
        Shape (n,), in order of time, finite; over 0 the candidate is better.
    alpha
        Probability, at most, that the mean is ever outside, on either side; half of it for one side.
    block
        Differences of the shortest blocks.
    blocks
        Blocks before anything is said.

    Raises
    ------
    ValueError
        If the differences are no finite series, or alpha, block or blocks are out of range.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> bounds = judge(0.05 + rng.normal(0.0, 0.2, 2000))
    >>> 0.0 < bounds.lower < 0.05 < bounds.upper
    True
    >>> judge(rng.normal(0.0, 0.2, 800)).lower
    -inf
    """
    if differences.ndim != 1 or not np.isfinite(differences).all():
        raise ValueError("the differences to judge are no finite series; leave out buckets without a number")
    if not (0 < alpha < 1 and block >= 1 and blocks >= 4):
        raise ValueError(f"alpha {alpha} must lie between 0 and 1, block {block} be 1 and blocks {blocks} be 4 or more")
    means, length, share = block_means(differences, block, blocks)
    number = len(means)
    n = number * length
    if number < blocks:
        mean = float(means.mean()) if number else 0.0
        return Bounds(-np.inf, np.inf, mean, n, 0.0, number)
    mean, half, variance = (float(x) for x in interval(means, alpha * share, blocks / TIGHTEST))
    spread = float(differences[:n].var())
    effective = min(n, spread / variance) if variance > 0 else float(n)
    return Bounds(mean - half, mean + half, mean, n, effective, number)


def block_means(differences: F64, block: int = BLOCK, blocks: int = BLOCKS) -> tuple[F64, int, float]:
    """Return the means of as many whole blocks as there are, their length, and their share of alpha.

    Leading axes are other series of the same length.
    """
    length, k, n = block, 1, differences.shape[-1]
    while n >= 4 * length * blocks * 2 ** (k - 1):
        length, k = 2 * length, k + 1
    number = n // length
    whole = differences[..., : number * length].reshape(*differences.shape[:-1], number, length)
    return whole.mean(axis=-1), length, 1.0 / (k * (k + 1))


def interval(means: F64, alpha: float, c2: float) -> tuple[F64, F64, F64]:
    """Return mean, half width of its interval, and the variance of the mean, for blocks on the last axis.

    Parameters
    ----------
    means
        Means of blocks, shape (..., b).
    alpha
        Probability, at most, that the mean is ever outside.
    c2
        Inverse of the variance of the mixture over (mean / standard deviation of a block).
    """
    number = means.shape[-1]
    mean = means.mean(axis=-1)
    around = means - mean[..., None]
    around = np.where(np.abs(around) > ROUNDING * np.abs(mean[..., None]), around, 0.0)
    squares = (around * around).sum(axis=-1)
    with np.errstate(all="ignore"):
        lagged = (around[..., 1:] * around[..., :-1]).sum(axis=-1) / squares
        # The mean is taken out of both factors, which makes it (1 + 4 rho) / b too small (Marriott and Pope, 1954).
        rho = np.clip(np.nan_to_num((lagged + 1 / number) / (1 - 4 / number)), 0.0, MOST) if number > 4 else 0.0
        inflation = (1 + rho) / (1 - rho)
        effective = number / inflation
        variance = squares / np.maximum(number - inflation, 1.0)
        growth = (np.sqrt((effective + c2) / c2) / alpha) ** (2 / effective)
        room = 1 - growth * c2 / (effective + c2)
        half = np.sqrt((growth - 1) * variance * np.maximum(effective - 1, 0) / (effective * room))
    return mean, np.where((room > 0) & (effective > 1), half, np.inf), variance / effective
