"""Precision of two versions' alerts from what operators said, as intervals that hold however often one looks.

Source: the interval is that of Robbins' mixture martingale for a probability with a uniform prior, which by Ville's
inequality holds at all times at once: H. Robbins, Statistical methods related to the law of the iterated logarithm,
Annals of Mathematical Statistics 41 (1970), 1397-1409.
"""

from math import inf, log

from scipy.optimize import brentq
from scipy.special import betaln

_EDGE = 1e-12


def interval(true: int, judged: int, alpha: float) -> tuple[float, float]:
    """Return limits of the probability that an alert is judged true.

    Parameters
    ----------
    true, judged
        Alerts judged true, and all that were judged.
    alpha
        How likely the limits may ever be wrong, over all looks together.

    Returns
    -------
    tuple of float
        From 0 to 1; (0, 1) as long as nothing is judged.

    Raises
    ------
    ValueError
        If not 0 <= true <= judged.

    Examples
    --------
    >>> [round(limit, 2) for limit in interval(18, 20, 0.05)]
    [0.59, 1.0]
    """
    if not 0 <= true <= judged:
        raise ValueError(f"{true} of {judged} judged true")
    if not judged:
        return 0.0, 1.0
    top = betaln(true + 1, judged - true + 1) - log(1 / alpha)

    def outside(p: float) -> float:
        """Return over 0 where `p` is refuted."""
        return float(top - _power(p, true) - _power(1 - p, judged - true))

    middle = min(max(true / judged, _EDGE), 1 - _EDGE)
    low = brentq(outside, _EDGE, middle) if outside(_EDGE) > 0 else 0.0
    high = brentq(outside, middle, 1 - _EDGE) if outside(1 - _EDGE) > 0 else 1.0
    return float(low), float(high)


def _power(p: float, n: int) -> float:
    return 0.0 if n == 0 else n * log(p) if p > 0 else -inf
