"""From scores per row to what an operator sees: alarms, caught incidents, false alarms a day, lead times.

An alarm begins when the score passes 1 and ends when it falls under `resolve_below` or the entity's rows end,
as the alert policy does. An incident is a run of labelled rows of one entity. An alarm is false if none of
its rows is labelled; an incident is caught if an alarm begins or goes on within it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Rows:
    """Scored rows, ordered by entity, then time.

    Attributes
    ----------
    entity
        [N] entity of each row.
    ts
        [N] epoch seconds.
    label
        [N] whether an incident is going on.
    plateau
        [N] whether it has reached its full size; None if the data does not say.
    severity
        [N] size of what is going on; None if the data does not say.
    """

    entity: Ints
    ts: Floats
    label: Bools
    plateau: Bools | None = None
    severity: Floats | None = None

    def days(self, step: float) -> float:
        """Watched time in entity-days."""
        return len(self.ts) * step / 86400.0

    def select(self, mask: Bools) -> "Rows":
        """Rows where `mask` holds."""
        return Rows(
            self.entity[mask],
            self.ts[mask],
            self.label[mask],
            None if self.plateau is None else self.plateau[mask],
            None if self.severity is None else self.severity[mask],
        )


@dataclass(frozen=True)
class Outcome:
    """What alarms were worth.

    Attributes
    ----------
    incidents, caught
        Number of incidents, and of those with an alarm.
    false_alarms
        Alarms without a labelled row.
    days
        Watched entity-days.
    severity, hit, lead
        Per incident: its size (NaN unknown), whether it was caught, and seconds from the first alarm to
        its full size (positive: earlier; NaN: not caught or not known).
    delay
        Per incident: seconds from its first labelled row to the first alarm; NaN if not caught.
    """

    incidents: int
    caught: int
    false_alarms: int
    days: float
    severity: Floats
    hit: Bools
    lead: Floats
    delay: Floats

    @property
    def recall(self) -> float:
        """Share of the incidents that were caught; NaN without incidents."""
        return self.caught / self.incidents if self.incidents else float("nan")

    @property
    def false_per_day(self) -> float:
        """False alarms per entity and day."""
        return self.false_alarms / self.days if self.days else float("nan")


def firing(scores: Floats, entity: Ints, resolve_below: float) -> Bools:
    """Return for each row whether an alarm is on: over 1 starts it, under `resolve_below` ends it."""
    change = np.where(scores > 1.0, 1, np.where(scores < resolve_below, -1, 0))
    change[np.concatenate([[True], entity[1:] != entity[:-1]]) & (change == 0)] = -1
    last = np.maximum.accumulate(np.where(change != 0, np.arange(len(change)), 0))
    return np.asarray(change[last] == 1)


def runs(mask: Bools, entity: Ints) -> tuple[Ints, Ints]:
    """First and last row (inclusive) of each run of true rows within one entity."""
    if not len(mask):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    edge = entity[1:] != entity[:-1]
    starts = np.flatnonzero(mask & np.concatenate([[True], ~mask[:-1] | edge]))
    ends = np.flatnonzero(mask & np.concatenate([~mask[1:] | edge, [True]]))
    return starts, ends


def judge(rows: Rows, scores: Floats, *, step: float, resolve_below: float = 0.8) -> Outcome:
    """Count caught incidents and false alarms of scores [N] whose threshold is 1."""
    on = firing(scores, rows.entity, resolve_below)
    starts, ends = runs(on, rows.entity)
    labelled = np.concatenate([[0], np.cumsum(rows.label)])
    false_alarms = int((labelled[ends + 1] == labelled[starts]).sum())

    first, last = runs(rows.label, rows.entity)
    alarm_rows = np.flatnonzero(on)
    at = np.searchsorted(alarm_rows, first)
    alarm = alarm_rows[np.minimum(at, max(len(alarm_rows) - 1, 0))] if len(alarm_rows) else np.zeros_like(first)
    hit = (at < len(alarm_rows)) & (alarm >= first) & (alarm <= last)
    delay = np.where(hit, rows.ts[alarm] - rows.ts[first], np.nan)
    lead = np.full(len(first), np.nan)
    if rows.plateau is not None:
        full = np.flatnonzero(rows.plateau & rows.label)
        begins = np.searchsorted(full, first)
        reached = begins < len(full)
        row = full[np.minimum(begins, max(len(full) - 1, 0))] if len(full) else np.zeros_like(first)
        reached &= row <= last
        lead = np.where(hit & reached, rows.ts[row] - rows.ts[alarm], np.nan)
    severity = np.full(len(first), np.nan) if rows.severity is None else rows.severity[first]
    return Outcome(len(first), int(hit.sum()), false_alarms, rows.days(step), severity, hit, lead, delay)


def choose_threshold(
    rows: Rows, raw: Floats, *, step: float, budget: float, base: float, candidates: int = 60
) -> float:
    """Return the lowest threshold whose false alarms stay within a budget.

    Parameters
    ----------
    rows, raw
        Validation rows and any score that grows with suspicion (not scaled to a threshold yet).
    step
        Seconds a row stands for.
    budget
        False alarms per entity and day.
    base
        Score that is to become 0 when the threshold becomes 1 (a typical normal score).
    candidates
        Thresholds tried, at quantiles of the unlabelled rows' scores that thin out towards the top.

    Returns
    -------
    float
        The threshold: an alarm begins where `raw` is over it.
    """
    normal = raw[~rows.label]
    tail = np.logspace(-1, -5, candidates)  # share of normal rows over the threshold
    levels = np.unique(np.quantile(normal, 1.0 - tail))
    levels = levels[levels > base] if (levels > base).any() else np.array([base + 1.0])
    best = float(levels[-1])
    for level in levels[::-1]:
        outcome = judge(rows, (raw - base) / (level - base), step=step)
        if outcome.false_per_day > budget:
            break
        best = float(level)
    return best
