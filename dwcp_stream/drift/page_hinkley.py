"""Page-Hinkley on block means."""

from typing import Any

from river import drift

from dwcp_stream.drift.detector import RiverDetector


class PageHinkley(RiverDetector):
    """Cumulative sum of deviations from the running mean, both ways.

    Parameters
    ----------
    delta
        Deviation that is tolerated, in units of the block means' own spread. Half of the shift to be found
        is the textbook choice, so 0.5 for one standard deviation; River's 0.005 is for data without a unit.
    threshold
        Sum at which a change is said, in the same units: 25 rather than River's 50, which is for single
        samples. A warning takes half of it.
    min_instances
        Values before the first change, River's default 30.
    alpha
        Forgetting factor of the sums, River's default 0.9999.

    References
    ----------
    E. S. Page: Continuous inspection schemes. Biometrika 41 (1954), 100-115. D. C. Montgomery: Introduction
    to Statistical Quality Control, on the choice of the tolerated deviation of a cumulative sum chart.

    Examples
    --------
    >>> detector = PageHinkley()
    >>> for i in range(140):
    ...     detector.update(1.0 + 0.1 * (-1) ** i + (0.5 if i >= 100 else 0.0))
    ...     if detector.drift:
    ...         break
    >>> 100 <= i < 140
    True
    """

    name = "page_hinkley"

    def __init__(
        self, delta: float = 0.5, threshold: float = 25.0, min_instances: int = 30, alpha: float = 0.9999
    ) -> None:
        self.delta, self.threshold = delta, threshold
        self.min_instances, self.alpha = min_instances, alpha
        super().__init__()

    def _make(self, *, sensitive: bool) -> Any:
        return drift.PageHinkley(
            min_instances=self.min_instances,
            delta=self.delta,
            threshold=self.threshold / 2 if sensitive else self.threshold,
            alpha=self.alpha,
            mode="both",
        )

    def parameters(self) -> dict[str, float]:
        """Return the parameters."""
        return {
            "delta": self.delta,
            "threshold": self.threshold,
            "min_instances": self.min_instances,
            "alpha": self.alpha,
        }
