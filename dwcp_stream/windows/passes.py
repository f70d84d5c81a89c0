"""A pass: a stretch of a chunk in which no window starts anew except at its entity's first sample."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dwcp_stream.windows.grid import row_of
from dwcp_stream.windows.layout import F32, F64, I64, U8, Bool, Layout
from dwcp_stream.windows.outcome import Outcome
from dwcp_stream.windows.segments import Segments, ranks, running_max
from dwcp_stream.windows.workspace import Gather


@dataclass(slots=True)
class Pass:
    """What became of one stretch of a chunk; the windows' state is already updated through it.

    Everything is in the order of the log, so results do not depend on how it was cut into chunks.

    Attributes
    ----------
    sample
        int64[n], indices in the chunk of the samples settled: adjacent, each sample in exactly one pass.
    outcome
        uint8[n], `Outcome` of each.
    rejected
        int64[r], indices in the chunk of samples refused because of the entity limit (`Outcome.INVALID`).
    touched
        int64[u], slots whose state changed, be it only the offset applied.
    adv_sample
        int64[a], indices in the chunk of the samples that became their entity's newest row.
    adv_slot, adv_row, adv_ts
        int64[a], int64[a] and float64[a]: slot, row, and time of the row (on a grid: its nominal time).
    adv_values
        float32[a, F], the rows as they entered the ring, counters as rates.
    adv_restarted
        bool[a], whether the window was started anew at this row (also true of an entity's first).
    scored
        int64[b], indices into the `adv_` arrays of the rows whose windows are to be scored.
    """

    sample: I64
    outcome: U8
    rejected: I64
    touched: I64
    adv_sample: I64
    adv_slot: I64
    adv_row: I64
    adv_ts: F64
    adv_values: F32
    adv_restarted: Bool
    scored: I64
    gather: Gather | None

    @classmethod
    def nothing(cls, sample: I64, outcome: U8, layout: Layout, *, scoring: bool) -> "Pass":
        """Pass in which no sample reached a window: all replayed or rejected."""
        none = np.zeros(0, np.int64)
        return cls(
            sample=sample,
            outcome=outcome,
            rejected=sample[outcome == Outcome.INVALID],
            touched=none,
            adv_sample=none,
            adv_slot=none,
            adv_row=none,
            adv_ts=np.zeros(0),
            adv_values=np.zeros((0, len(layout.fields)), np.float32),
            adv_restarted=np.zeros(0, np.bool_),
            scored=none,
            gather=Gather.nothing(layout) if scoring else None,
        )

    def windows(self, which: I64 | slice = slice(None)) -> F32:
        """Gather windows of scored rows as they were right after their samples, late fills of later excluded.

        Parameters
        ----------
        which
            Which of `scored`, by position; all of them unless told.

        Returns
        -------
        float32[b, T, F]
            Oldest row first; NaN where nothing was measured.
        """
        if self.gather is None:
            raise RuntimeError("these windows were made with scoring=False: there is nothing to gather")
        return self.gather.windows(which)

    def times(self, which: I64 | slice = slice(None)) -> F64:
        """Return the times of the rows of `windows`, float64[b, T], epoch seconds; never NaN.

        Rows before the first sample of an irregular stream have the time of that sample.
        """
        if self.gather is None:
            raise RuntimeError("these windows were made with scoring=False: there is nothing to gather")
        return self.gather.times(which)


def restarts(segments: Segments, ts: F64, *, anchor: F64, last_ts: F64, step: float, window: int) -> I64:
    """Find the samples that start their window anew: more than `window` rows after the newest one.

    Parameters
    ----------
    segments
        m samples by entity (k of them).
    ts
        float64[m], seconds.
    anchor, last_ts
        float64[k], time of row 0 and of the newest sample; an entity without a window has its first sample's
        time as both.
    step, window
        Of the stream.

    Returns
    -------
    int64
        Positions among the m samples, ascending.
    """
    previous = np.empty_like(ts)
    previous[1:] = ts[:-1]
    previous[segments.start] = last_ts
    # a head is never older than the sample before, and rounding moves rows by less than one step in all
    candidates = np.flatnonzero(ts - previous > (window - 0.5) * step)
    if not len(candidates):
        return candidates
    rank, last = ranks(ts, last_ts)
    by_rank = np.empty(max(int(rank.max()), int(last.max())) + 1)
    by_rank[rank], by_rank[last] = ts, last_ts
    newest = by_rank[running_max(rank, segments, last)[candidates]]
    # Each restart moves the grid that the next is measured on, so this goes one gap at a time.
    found, entity, zero = [], -1, np.zeros(1)
    for at, ahead in zip(candidates.tolist(), newest.tolist(), strict=True):
        if segments.seg[at] != entity:
            entity = segments.seg[at]
            zero = anchor[entity : entity + 1]
        reached, head = row_of(np.array([ts[at], ahead]), zero, step)
        if reached - head > window:
            found.append(at)
            zero = ts[at : at + 1]
    return np.array(found, np.int64)


def cut(segments: Segments, restarted: I64, size: int) -> Iterator[tuple[int, int]]:
    """Cut a chunk of `size` samples so that a restart is the first sample of its entity in its stretch.

    Yields
    ------
    (int, int)
        Begin and end of each stretch.
    """
    first = segments.start[segments.seg[restarted]]
    before = np.where(restarted > first, segments.sample[restarted - 1], -1)
    begin = 0
    for at, previous in sorted(zip(segments.sample[restarted].tolist(), before.tolist(), strict=True)):
        if previous >= begin:
            yield begin, at
            begin = at
    yield begin, size
