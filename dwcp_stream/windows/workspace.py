"""The rows of a stretch of samples laid out in time, so that any window in it is one slice."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from dwcp_stream.windows.grid import Settled
from dwcp_stream.windows.layout import F32, F64, I64, Bool, Layout
from dwcp_stream.windows.segments import Segments

X = TypeVar("X", np.float32, np.float64)
_NEVER = np.iinfo(np.int32).max


@dataclass(slots=True)
class Timeline:
    """When each row was filled: T old rows of each entity, then the rows it went through since.

    Attributes
    ----------
    base
        int64[k], where each entity's old rows begin.
    grown
        int64[k], rows by which each head moved.
    since
        int32[W], position of the sample that filled the row; -1: filled before; `_NEVER`: empty.
    window
        T.
    """

    base: I64
    grown: I64
    since: NDArray[np.int32]
    window: int

    def counts(self, segments: Segments, settled: Settled, at: I64) -> I64:
        """Count the filled rows of the windows right after samples `at`, int64."""
        start = self.base[segments.seg[at]] + settled.head[at]
        if not settled.fill.any():
            # rows fill in order of time: all that lie in a window were there
            upto = np.concatenate(([0], np.cumsum(self.since != _NEVER)))
            return np.asarray(upto[start + self.window] - upto[start])
        return np.asarray(self.visible(start, at).sum(1))

    def visible(self, start: I64, at: I64) -> Bool:
        """Tell which rows of windows from `start` on were filled by sample `at` or before, bool[n, T]."""
        return np.asarray(sliding_window_view(self.since, self.window)[start] <= at[:, None])

    def emptied(self, moved: I64) -> Bool:
        """Tell which rows of the last windows of entities `moved` are new but empty, bool[n, T]."""
        last = self.base[moved] + self.grown[moved]
        row = last[:, None] + np.arange(self.window)
        new = row >= (self.base[moved] + self.window)[:, None]
        return np.asarray(new & (self.since[row] == _NEVER))


def lay_out(segments: Segments, settled: Settled, filled: Bool) -> Timeline:
    """Lay the rows of all entities out one after another.

    Parameters
    ----------
    segments, settled
        The m samples by entity (k of them), and what became of them.
    filled
        bool[k, T], which old rows are filled, oldest first.
    """
    window = filled.shape[1]
    grown = settled.head[segments.end]
    base, size = _bases(grown + window)
    since = np.full(size, _NEVER, np.int32)
    since[base[:, None] + np.arange(window)] = np.where(filled, -1, _NEVER)
    new = np.flatnonzero(settled.advance | settled.fill)
    since[base[segments.seg[new]] + settled.rel[new] + (window - 1)] = new
    return Timeline(base, grown, since, window)


@dataclass(slots=True)
class Gather:
    """Gathers the windows of the scored rows of a pass; batches of any size, in any order.

    Attributes
    ----------
    rows
        float32[V, F], rows of the entities that have scored windows, laid out in time.
    start
        int64[b], where each window begins in `rows`.
    hidden
        bool[b, T] rows that were filled only later, or None if nothing was.
    row
        int64[b], head row of each window.
    anchor
        float64[b], time of row 0; unused for an irregular stream.
    step
        Seconds, or None for an irregular stream.
    when
        float64[V], times of `rows` of an irregular stream, else None.
    """

    window: int
    rows: F32
    start: I64
    hidden: Bool | None
    row: I64
    anchor: F64
    step: float | None
    when: F64 | None

    @classmethod
    def nothing(cls, layout: Layout) -> "Gather":
        """Gather of no windows at all."""
        none, window = np.zeros(0, np.int64), layout.window
        rows = np.zeros((window, len(layout.fields)), np.float32)
        return cls(window, rows, none, None, none, np.zeros(0), layout.step, np.zeros(window))

    def windows(self, which: I64 | slice) -> F32:
        """Return float32[b, T, F]."""
        start, fields = self.start[which], self.rows.shape[1]
        flat = sliding_window_view(self.rows.reshape(-1), self.window * fields)
        found: F32 = flat[start * fields].reshape(len(start), self.window, fields)
        if self.hidden is not None:
            found[self.hidden[which]] = np.nan
        return found

    def times(self, which: I64 | slice) -> F64:
        """Return float64[b, T]."""
        row = self.row[which][:, None] + np.arange(1 - self.window, 1)
        if self.when is None:
            return np.asarray(self.anchor[which][:, None] + row * (self.step or 0.0))
        position = self.start[which][:, None] + np.arange(self.window)
        return np.asarray(self.when[position + np.maximum(-row, 0)])  # from row 0 on: none is older


def lay_out_values(
    segments: Segments,
    settled: Settled,
    timeline: Timeline,
    *,
    wanted: Bool,
    old: NDArray[X],
    new: NDArray[X],
) -> tuple[NDArray[X], I64]:
    """Lay out what the rows hold, like `lay_out`, for the wanted entities only.

    Parameters
    ----------
    wanted
        bool[k].
    old
        [w, T, F], rows of the wanted entities before these samples, oldest first.
    new
        [p, F], what the samples that advance or fill hold, in their order.

    Returns
    -------
    rows : [V, F]
    base : int64[k]
        Where each entity's rows begin; meaningless for one that is not wanted.
    """
    window = timeline.window
    base, size = _bases(np.where(wanted, timeline.grown + window, 0))
    filled = np.flatnonzero(settled.advance | settled.fill)
    ours = wanted[segments.seg[filled]]
    at = filled[ours]
    rows = np.empty((size, new.shape[1]), new.dtype)
    if size > window * len(old) + np.count_nonzero(settled.advance[at]):
        rows[...] = np.nan  # rows were skipped
    rows[base[wanted][:, None] + np.arange(window)] = old
    rows[base[segments.seg[at]] + settled.rel[at] + (window - 1)] = new[ours]
    return rows, base


def _bases(sizes: I64) -> tuple[I64, int]:
    end = np.cumsum(sizes)
    return end - sizes, int(end[-1])
