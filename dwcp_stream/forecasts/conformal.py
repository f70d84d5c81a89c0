"""Conformal correction: widens or narrows a model's intervals until they cover what they promise.

One factor per horizon and target multiplies both half-widths of the interval around q50, so that links of
any size share it. After each bucket of realised forecasts the factor moves by `RATE` times (share of
actuals outside the published interval - share promised outside), which is the online update of adaptive
conformal inference, applied to the interval's width itself. Whatever the data do, the long-run share
outside then approaches the promise, because the moves must cancel out while the factor is bounded.

References
----------
I. Gibbs, E. Candes: Adaptive conformal inference under distribution shift. NeurIPS 2021.
A. Angelopoulos, E. Candes, R. Tibshirani: Conformal PID control for time series prediction. NeurIPS 2023
(updates the threshold directly, "quantile tracking").
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

OUTSIDE = 0.2
"""Share of actuals that may fall outside the interval from q10 to q90."""
RATE = 0.05
"""Step of the factor per bucket and unit of the share outside."""
WARM_UP = 100
"""Realised forecasts of a horizon and target before its factor moves."""
BOUNDS = (0.2, 10.0)
"""Range of the factor."""


class Correction:
    """The factors of one model on one partition.

    Parameters
    ----------
    horizons, targets
        Number of horizons H and of targets Y.
    lower, upper
        Valid range of each target, length Y; intervals are clipped to it. None: no limits.
    """

    def __init__(
        self,
        horizons: int,
        targets: int,
        lower: Sequence[float] | None = None,
        upper: Sequence[float] | None = None,
    ) -> None:
        self._lower = np.full(targets, -np.inf) if lower is None else np.asarray(lower, np.float64)
        self._upper = np.full(targets, np.inf) if upper is None else np.asarray(upper, np.float64)
        self.version = 0
        self.factor: NDArray[np.float64] = np.ones((horizons, targets))
        self.seen: NDArray[np.int64] = np.zeros((horizons, targets), np.int64)

    def use(self, version: int) -> None:
        """Start anew if another version of the model has taken over: its intervals err in their own way."""
        if version != self.version:
            self.version = version
            self.factor[:] = 1.0
            self.seen[:] = 0

    def apply(self, quantiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return corrected quantiles.

        Parameters
        ----------
        quantiles
            q10, q50 and q90 as the model gave them, shape (b, H, Y, 3).
        """
        q = quantiles.astype(np.float64)
        more = self.factor - 1.0
        with np.errstate(invalid="ignore"):  # a model may give infinity
            q[..., 0] -= more * (q[..., 1] - q[..., 0])
            q[..., 2] += more * (q[..., 2] - q[..., 1])
        return np.clip(q, self._lower[:, None], self._upper[:, None]).astype(np.float32)

    def update(self, version: int, n: NDArray[np.float64], covered: NDArray[np.float64]) -> None:
        """Learn from one bucket of realised forecasts.

        Parameters
        ----------
        version
            Model version that made them; those of a version that was replaced teach nothing.
        n, covered
            Realised forecasts, and those within the published interval, shape (H, Y).
        """
        if version != self.version:
            return
        self.seen += n.astype(np.int64)
        moving = (n > 0) & (self.seen >= WARM_UP)
        outside = 1.0 - covered / np.maximum(n, 1)
        self.factor = np.where(moving, np.clip(self.factor + RATE * (outside - OUTSIDE), *BOUNDS), self.factor)

    def state(self) -> list[Any]:
        """Return the correction as plain values."""
        return [self.version, self.factor.ravel().tolist(), self.seen.ravel().tolist()]

    def load(self, plain: Any) -> None:
        """Take over what `state` gave; ValueError or TypeError if it does not fit."""
        version, factor, seen = plain
        self.factor = np.array(factor, np.float64).reshape(self.factor.shape)
        self.seen = np.array(seen, np.int64).reshape(self.seen.shape)
        self.version = int(version)
