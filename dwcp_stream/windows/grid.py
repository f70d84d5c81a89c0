"""Row arithmetic: which row a sample belongs to, and whether it advances, fills, repeats or is late."""

from dataclasses import dataclass

import numpy as np

from dwcp_stream.windows.layout import F64, I64, U8, Bool
from dwcp_stream.windows.outcome import Outcome
from dwcp_stream.windows.segments import Segments, ranks, running_max

FARTHEST = 1 << 53
"""Rows beyond what a float64 can count are nonsense: clipped to this, they restart a window or are late."""


@dataclass(slots=True)
class Settled:
    """What became of m samples that are sorted by entity.

    Attributes
    ----------
    rel
        int64[m], row of each sample, counted from the head its entity had before these samples.
    head
        int64[m], head after each sample, counted likewise.
    advance, fill
        bool[m], whether the sample moved the head, or filled an older row; neither: `outcome` says why.
    outcome
        uint8[m], `DUPLICATE` or `LATE` where neither advance nor fill.
    """

    rel: I64
    head: I64
    advance: Bool
    fill: Bool
    outcome: U8


def row_of(ts: F64, anchor: F64, step: float) -> I64:
    """Row whose time is nearest to `ts`; half a step early still belongs to the row.

    Parameters
    ----------
    ts, anchor
        float64[n], sample times and the time of row 0 of each sample's grid, seconds.
    step
        Seconds from row to row.
    """
    return np.clip(np.floor((ts - anchor) / step + 0.5), -FARTHEST, FARTHEST).astype(np.int64)


def settle_grid(
    segments: Segments, ts: F64, *, anchor: F64, head: I64, filled: Bool, step: float, lateness: float
) -> Settled:
    """Settle samples on the grids of their entities; no sample may restart its window.

    Parameters
    ----------
    segments
        The m samples by entity (k of them).
    ts
        float64[m], seconds.
    anchor, head
        float64[k] and int64[k], time of row 0 and newest row of each entity before these samples (-1: none).
    filled
        bool[k, T], which of the rows head - T + 1 .. head are filled, oldest first.
    step, lateness
        Of the stream.

    Notes
    -----
    A row that has left the window is late; one that is filled makes the sample a duplicate, however old; an
    empty one is filled if the sample is at most `lateness` older than the head row's time, else it is late.
    """
    seg, window = segments.seg, filled.shape[1]
    row = row_of(ts, anchor[seg], step)
    rel = np.maximum(row - head[seg], -window)  # -T has left every window: how far does not matter
    before = running_max(rel, segments, np.zeros(len(head), np.int64))
    advance = rel > before
    outcome = np.full(len(ts), Outcome.LATE, np.uint8)
    fill = np.zeros(len(ts), np.bool_)
    settled = Settled(rel, np.maximum(rel, before), advance, fill, outcome)
    if advance.all():
        return settled

    behind = np.flatnonzero(~advance & (rel > before - window))
    key = seg * (int(settled.head.max()) + window + 1) + rel  # one number per entity and row
    occupied = _contains(key[advance], key[behind])  # a head row of this chunk: keys of these ascend
    older = rel[behind] <= 0
    held = behind[older]
    occupied[older] |= filled[seg[held], rel[held] + window - 1]
    outcome[behind[occupied]] = Outcome.DUPLICATE

    empty = behind[~occupied]
    head_time = anchor[seg[empty]] + (head[seg[empty]] + before[empty]) * step
    timely = empty[ts[empty] >= head_time - lateness]
    rows, first = np.unique(key[timely], return_index=True)
    filling = timely[first]
    fill[filling] = True
    if len(filling):
        # what comes after the sample that filled the row is a duplicate; what came before it was late
        at = np.minimum(np.searchsorted(rows, key[empty]), len(rows) - 1)
        again = empty[(rows[at] == key[empty]) & (filling[at] < empty)]
        outcome[again] = Outcome.DUPLICATE
    return settled


def settle_irregular(segments: Segments, ts: F64, last_ts: F64) -> Settled:
    """Settle samples of a stream without a step: each newer sample is the next row.

    Parameters
    ----------
    segments
        The m samples by entity (k of them).
    ts
        float64[m], seconds.
    last_ts
        float64[k], time of the newest sample of each entity; -inf: none.
    """
    seg = segments.seg
    previous = np.empty_like(ts)
    previous[1:] = ts[:-1]
    previous[segments.start] = last_ts
    outcome = np.full(len(ts), Outcome.LATE, np.uint8)
    if (ts > previous).all():
        advance = np.ones(len(ts), np.bool_)
    else:
        rank, last = ranks(ts, last_ts)
        before = running_max(rank, segments, last)
        advance = rank > before
        outcome[rank == before] = Outcome.DUPLICATE
    count = np.cumsum(advance)
    first = segments.start
    rel: I64 = count - (count[first] - advance[first])[seg]
    return Settled(rel, rel, advance, np.zeros(len(ts), np.bool_), outcome)


def _contains(ascending: I64, wanted: I64) -> Bool:
    if not len(ascending):
        return np.zeros(len(wanted), np.bool_)
    at = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return np.asarray(ascending[at] == wanted)
