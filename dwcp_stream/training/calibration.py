"""From a raw suspicion to a score with 1 at a threshold: chosen on validation rows, computed in the graph."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.alarms import Rows, choose_threshold
from dwcp_stream.training.graph import Graph

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """A straight line from suspicion to score, cut off at 0.

    Attributes
    ----------
    base
        Suspicion whose score is 0: the median of normal rows.
    threshold
        Suspicion whose score is 1.
    severity
        Scores from which an alert is a warning, critical, emergency.
    """

    base: float
    threshold: float
    severity: tuple[float, float, float] = (1.0, 2.0, 3.0)

    @property
    def unit(self) -> float:
        """Suspicion that is worth 1 of the score."""
        return self.threshold - self.base

    def scores(self, raw: NDArray[np.floating[Any]]) -> Floats:
        """Scores of suspicions [N]."""
        return np.maximum((np.asarray(raw, np.float64) - self.base) / self.unit, 0.0)

    def add_score(self, g: Graph, raw: str) -> str:
        """Add the same map to a graph: exactly 1 where `raw` is the threshold as float32."""
        base, threshold = np.float32(self.base), np.float32(self.threshold)
        return g.clip(g.div(g.sub(raw, g.const(base)), g.const(threshold - base)), 0.0, None)


def calibrate(rows: Rows, raw: NDArray[np.floating[Any]], *, step: float, budget: float) -> Calibration:
    """Choose threshold and severities on validation rows.

    Parameters
    ----------
    rows, raw
        Validation rows and the suspicion of each.
    step
        Seconds that a row stands for.
    budget
        False alarms per entity and day that the threshold may cost; the lowest such threshold is taken.

    Notes
    -----
    An alert becomes critical where half of the labelled rows that are over the threshold stay behind, an
    emergency where 85 % do: the share of detected time at each level, not the damage.
    """
    suspicion = np.asarray(raw, np.float64)
    base = float(np.float32(np.median(suspicion[~rows.label])))
    threshold = float(np.float32(choose_threshold(rows, suspicion, step=step, budget=budget, base=base)))
    over = (suspicion[rows.label] - base) / (threshold - base)
    over = over[over > 1.0]
    critical, emergency = np.quantile(over, [0.5, 0.85]) if len(over) else (2.0, 3.0)
    critical = max(1.05, round(float(critical), 2))
    return Calibration(base, threshold, (1.0, critical, max(round(float(emergency), 2), critical + 0.05)))
