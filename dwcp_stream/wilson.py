"""The interval of a share that was counted."""

from math import nan, sqrt

Z95 = 1.959963984540054
"""Quantile .975 of the normal distribution."""


def wilson(successes: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Return the interval of a share, at most 0 to 1; NaN for n = 0.

    Source: E. B. Wilson: Probable inference, the law of succession, and statistical inference. JASA 22 (1927), 209-212.

    Examples
    --------
    >>> [round(bound, 3) for bound in wilson(15, 16)]
    [0.717, 0.989]
    """
    if not n:
        return nan, nan
    share, extra = successes / n, z * z / n
    middle = (share + extra / 2) / (1 + extra)
    half = z * sqrt(share * (1 - share) / n + extra / (4 * n)) / (1 + extra)
    return max(0.0, middle - half), min(1.0, middle + half)
