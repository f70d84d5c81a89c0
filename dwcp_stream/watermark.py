"""Event time of a partition: the watermark, and the ticks at which time-driven work happens.

Everything that depends on the passing of time (expiry, closing buckets) happens at ticks of event time that are
fixed by the data alone, so it comes out the same however the records are cut into chunks.
"""

import math

import numpy as np
from numpy.typing import NDArray

NEVER = -math.inf
"""Watermark of a partition that has not seen a sample."""


def advance(start: float, ts: NDArray[np.float64], cap: float) -> NDArray[np.float64]:
    """Return the watermark after each of a run of samples.

    The watermark is the largest timestamp seen, but moves by at most `cap` seconds a sample, so that one bad
    timestamp cannot make every other entity look silent.

    Parameters
    ----------
    start
        Watermark before the first sample, epoch seconds, or `NEVER`.
    ts
        Event times in arrival order, epoch seconds, shape (n,).
    cap
        Largest step, seconds.

    Returns
    -------
    ndarray of shape (n,)
    """
    if not len(ts):
        return ts
    first = ts[0] if start == NEVER else start
    reached = np.maximum.accumulate(np.concatenate(([first], ts)))
    if np.all(np.diff(reached) <= cap):
        return reached[1:]
    marks, mark = np.empty(len(ts)), float(first)
    for i, value in enumerate(ts.tolist()):
        mark = max(mark, min(value, mark + cap))
        marks[i] = mark
    return marks


def tick_of(watermark: float, interval: float) -> float:
    """Return the last tick at or before a watermark; `NEVER` stays `NEVER`."""
    return watermark if watermark == NEVER else math.floor(watermark / interval) * interval


def segments(
    marks: NDArray[np.float64], record: NDArray[np.int64], start: float, interval: float
) -> list[tuple[int, float | None]]:
    """Cut a run of samples where ticks fall.

    Cuts fall between records, never inside one, because a record is applied whole.

    Parameters
    ----------
    marks
        Watermark after each sample, shape (n,).
    record
        Index of each sample's record, non-decreasing, shape (n,).
    start
        Watermark before the run.
    interval
        Seconds between ticks.

    Returns
    -------
    list of (end, tick)
        `end` is one past the segment's last sample; `tick` is the event time to act at after it, or None after
        the last segment if no tick fell.
    """
    if not len(marks):
        return []
    ticks = np.floor(marks / interval)
    before = ticks[0] if start == NEVER else math.floor(start / interval)
    last_of_record = np.flatnonzero(np.append(record[1:] != record[:-1], True))
    at_end = ticks[last_of_record]
    crossed = np.flatnonzero(np.diff(np.concatenate(([before], at_end))) > 0)
    cuts: list[tuple[int, float | None]] = [(int(last_of_record[i]) + 1, float(at_end[i]) * interval) for i in crossed]
    if not cuts or cuts[-1][0] < len(marks):
        cuts.append((len(marks), None))
    return cuts
