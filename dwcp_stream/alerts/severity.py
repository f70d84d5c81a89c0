"""Severity: how far over its threshold a score is, in the levels the model's manifest sets."""

from bisect import bisect_left
from collections.abc import Sequence

from dwcp_stream.errors import ModelError

LEVELS = ("none", "warning", "critical", "emergency")
"""Names of the levels 0 to 3."""


def check_cutoffs(cutoffs: Sequence[float], *, where: str = "") -> tuple[float, ...]:
    """Return the cut-offs as floats.

    Raises
    ------
    ModelError
        If they are not three ascending numbers that begin with 1, the threshold of every score.
    """
    values = tuple(float(c) for c in cutoffs)
    if len(values) != len(LEVELS) - 1 or values[0] != 1.0 or not values[0] < values[1] < values[2]:
        raise ModelError(
            f"severity cut-offs {list(cutoffs)} are not [1, a, b] with 1 < a < b",
            where=where,
            remedy="Publish the model with ascending cut-offs in its manifest's `severity`.",
        )
    return values


def level(score: float, cutoffs: Sequence[float]) -> int:
    """Return the number of cut-offs a score is strictly over: an index into `LEVELS`."""
    return bisect_left(cutoffs, score)
