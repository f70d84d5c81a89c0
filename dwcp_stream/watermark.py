"""Event time of a partition: the watermark, and the ticks at which time-driven work happens.

Everything that depends on the passing of time (expiry, closing buckets) happens at ticks of event time that are
fixed by the data alone, so it comes out the same however the records are cut into chunks.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NEVER = -math.inf
"""Watermark of a partition that has not seen a sample."""


CONFIRMED_BY = 20
"""Samples in a row beyond the cap that are believed: so many are no one bad timestamp."""


class Ahead(NamedTuple):
    """Samples in a row that were more than the cap ahead of the watermark: how many, and the earliest of them."""

    samples: int = 0
    earliest: float = math.inf


NONE_AHEAD = Ahead()


def advance(
    start: float, ts: NDArray[np.float64], cap: float, ahead: Ahead = NONE_AHEAD
) -> tuple[NDArray[np.float64], Ahead]:
    """Return the watermark after each of a run of samples.

    The watermark is the largest timestamp seen, but moves by at most `cap` seconds a sample, so that one bad
    timestamp cannot make every other entity look silent. When `CONFIRMED_BY` samples in a row are beyond that, it
    moves to the earliest of them: else one bad timestamp decades ago, before all others of a partition, would make it
    crawl through those decades, with ticks at every record.

    Parameters
    ----------
    start
        Watermark before the first sample, epoch seconds, or `NEVER`.
    ts
        Event times in arrival order, epoch seconds, shape (n,).
    cap
        Largest step, seconds.
    ahead
        What the call before returned: the result does not depend on how samples are cut into calls.

    Returns
    -------
    marks, ahead
        ndarray of shape (n,), and what the next call needs to know.
    """
    if not len(ts):
        return ts, ahead
    first = ts[0] if start == NEVER else start
    reached = np.maximum.accumulate(np.concatenate(([first], ts)))
    if np.all(np.diff(reached) <= cap):
        return reached[1:], NONE_AHEAD
    marks, mark = np.empty(len(ts)), float(first)
    count, earliest = ahead
    for i, value in enumerate(ts.tolist()):
        limit = mark + cap
        if value > limit:
            count, earliest = count + 1, min(earliest, value)
            mark = min(value, max(limit, earliest)) if count >= CONFIRMED_BY else limit
        else:
            count, earliest = NONE_AHEAD
            mark = max(mark, value)
        marks[i] = mark
    return marks, Ahead(count, earliest)


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
