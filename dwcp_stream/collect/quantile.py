"""Quantiles of what a histogram took in between two pages."""

import math
from collections.abc import Mapping

Buckets = Mapping[float, float]
"""Upper bound to the count of all that is not above it."""


def growth_quantile(before: Buckets, after: Buckets, q: float) -> float | None:
    """Return a quantile of what came between two looks, None if nothing came or the process began anew."""
    return bucket_quantile({bound: count - before.get(bound, 0.0) for bound, count in after.items()}, q)


def bucket_quantile(buckets: Buckets, q: float) -> float | None:
    """Return a quantile of what is in some buckets.

    Linear within a bucket, as Prometheus' histogram_quantile; what is above the last bound counts as that bound. None
    if there is nothing, or a count is negative.
    """
    ordered = dict(sorted(buckets.items()))
    total = ordered.get(math.inf, 0.0)
    if total <= 0 or min(ordered.values()) < 0:
        return None
    rank, low, below = q * total, 0.0, 0.0
    for bound, count in ordered.items():
        if count >= rank:
            if math.isinf(bound):
                return low
            return low + (bound - low) * (rank - below) / (count - below) if count > below else bound
        low, below = bound, count
    return low
