"""ADWIN on block means."""

from typing import Any

from river.drift import ADWIN

from dwcp_stream.drift.detector import RiverDetector

WARNING_FACTOR = 10.0
"""How much larger the error probability of a warning may be than that of drift."""


class Adwin(RiverDetector):
    """Adaptive windowing: a change is where two parts of a window of varying length differ in their mean.

    Parameters
    ----------
    delta
        Probability of a false change that is accepted, River's default 0.002; a warning takes ten times that.
    clock
        Values between two checks. 1 instead of River's 32, because a value is a whole block.
    min_window_length, grace_period
        Shortest part compared and values before the first check, River's defaults 5 and 10.

    References
    ----------
    A. Bifet, R. Gavalda: Learning from time-changing data with adaptive windowing. SIAM SDM 2007, 443-448.

    Examples
    --------
    >>> detector = Adwin()
    >>> for i in range(120):
    ...     detector.update(1.0 + 0.1 * (-1) ** i + (0.5 if i >= 100 else 0.0))
    ...     if detector.drift:
    ...         break
    >>> 100 <= i < 120
    True
    """

    name = "adwin"

    def __init__(
        self, delta: float = 0.002, clock: int = 1, min_window_length: int = 5, grace_period: int = 10
    ) -> None:
        self.delta, self.clock = delta, clock
        self.min_window_length, self.grace_period = min_window_length, grace_period
        super().__init__()

    def _make(self, *, sensitive: bool) -> Any:
        return ADWIN(
            delta=self.delta * (WARNING_FACTOR if sensitive else 1.0),
            clock=self.clock,
            min_window_length=self.min_window_length,
            grace_period=self.grace_period,
        )

    def parameters(self) -> dict[str, float]:
        """Return the parameters."""
        return {
            "delta": self.delta,
            "clock": self.clock,
            "min_window_length": self.min_window_length,
            "grace_period": self.grace_period,
        }
