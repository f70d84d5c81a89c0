"""Sums over test runs of what a detector did, with intervals."""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.consensus.data import KINDS, Mask
from dwcp_stream.training.consensus.sequence import Windows
from dwcp_stream.training.metrics import Detection, detection
from dwcp_stream.wilson import wilson

FIRES = 3
"""Rows in alarm after which an alert of `min_duration` 2 s at one row a second fires."""


def lasting(scores: NDArray[np.float64], seen: Windows) -> NDArray[np.float64]:
    """Lowest score [N] of `FIRES` rows in a row, which is over the threshold where an alert fires; NaN among others."""
    lowest = scores.copy()
    for back in range(1, FIRES):
        before = np.concatenate([np.full(back, np.nan), scores[:-back]])
        apart = np.concatenate([np.full(back, -1), seen.ends[back:] - seen.ends[:-back]])
        lowest = np.minimum(lowest, np.where(apart == back, before, -np.inf))
    return lowest


class Tally:
    """Adds up test runs.

    Parameters
    ----------
    name
        Of the detector.
    """

    def __init__(self, name: str) -> None:
        self.name, self.rate = name, float("nan")
        self._events = self._found = self._false = self._alerted = self._false_alerts = 0
        self._hours = self._in_alarm = 0.0
        self._delays: list[float] = []
        self._auc: list[float] = []
        self._precision: list[float] = []
        self.missed: list[str] = []
        self.kinds: dict[str, Counter[str]] = {}
        self.kinds_at_alert: dict[str, Counter[str]] = {}

    def add(self, seen: Windows, test: Mask, scores: NDArray[np.float64], limit: float) -> None:
        """Add a test part: scores [N] of all windows, and the threshold."""
        rows = test & seen.usable
        data, ts = seen.runs.data, seen.runs.grid.ts[seen.ends]
        starts = data.starts()

        def counted(each: NDArray[np.float64]) -> Detection:
            of_rows = (each[rows], ts[rows], seen.event[rows], seen.quiet[rows])
            return detection(*of_rows, threshold=limit, starts=starts, group=seen.group[rows])

        found, alerts = counted(scores), counted(lasting(scores, seen))
        self._alerted += alerts.found
        self._false_alerts += alerts.false_alarms
        self._events += found.events
        self._found += found.found
        self._false += found.false_alarms
        self._hours += found.quiet_hours
        self._in_alarm += found.quiet_in_alarm * found.quiet_hours
        self._auc.append(found.roc_auc)
        self._precision.append(found.average_precision)
        alarm = np.nan_to_num(scores, nan=-np.inf) > limit
        for event in np.unique(seen.event[rows & (seen.event >= 0)]):
            inside = rows & (seen.event == event)
            if (alarm & inside).any():
                self._delays.append(float(ts[alarm & inside][0] - starts[event]))
            else:
                name = seen.runs.names[seen.source[inside][0]]
                self.missed.append(f"{name}: {KINDS[seen.kind[inside][0]]} at {starts[event]:.0f}")

    def add_kinds(self, seen: Windows, test: Mask, scores: NDArray[np.float64], kinds: NDArray[np.float64]) -> None:
        """Add what was said of the kinds: kinds [N, K] of all windows, by scores whose threshold is 1.

        Of an event counts what fits most over its rows in alarm, and what fits in the row at which an alert would fire:
        the `FIRES`th row in alarm, or the last.
        """
        alarm = test & seen.usable & (np.nan_to_num(scores, nan=-np.inf) > 1.0)
        for event in np.unique(seen.event[test & seen.usable & (seen.event >= 0)]):
            rows = np.flatnonzero(alarm & (seen.event == event))
            if not len(rows):
                continue
            true = KINDS[seen.kind[seen.event == event][0]]
            said = KINDS[int(kinds[rows].sum(axis=0).argmax())]
            first = KINDS[int(kinds[rows[min(FIRES, len(rows)) - 1]].argmax())]
            self.kinds.setdefault(true, Counter())[said] += 1
            self.kinds_at_alert.setdefault(true, Counter())[first] += 1

    def row(self) -> dict[str, Any]:
        """One line of the table."""
        low, high = wilson(self._found, self._events)
        return {
            "detector": self.name,
            "events found": f"{self._found} of {self._events}",
            "interval": f"{low:.2f} to {high:.2f}",
            "false alarms": self._false,
            "per hour": _short(self._false / self._hours if self._hours else float("nan")),
            "quiet hours": _short(self._hours),
            "quiet time in alarm, %": _short(100.0 * self._in_alarm / self._hours if self._hours else float("nan")),
            "delay median, s": _short(float(np.median(self._delays)) if self._delays else float("nan")),
            "ROC AUC": _short(_mean(self._auc), 4),
            "AP": _short(_mean(self._precision), 4),
            "windows a second": None if np.isnan(self.rate) else round(self.rate),
            "events with an alert": self._alerted,
            "false alerts": self._false_alerts,
            "missed": self.missed,
        } | self._kinds()

    def _kinds(self) -> dict[str, Any]:
        if not self.kinds:
            return {}

        def right(found: dict[str, Counter[str]]) -> str:
            total = sum(sum(said.values()) for said in found.values())
            return f"{sum(said[true] for true, said in found.items())} of {total}"

        return {
            "kinds right": right(self.kinds),
            "right as an alert fires": right(self.kinds_at_alert),
            "kinds": {true: dict(said) for true, said in self.kinds.items()},
            "kinds as an alert fires": {true: dict(said) for true, said in self.kinds_at_alert.items()},
        }


def _mean(values: list[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def _short(value: float, digits: int = 3) -> float | None:
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None
