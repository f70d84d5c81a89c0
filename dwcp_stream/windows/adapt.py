"""Fitting a window written under one stream definition to another: fields by name, rows by age."""

from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np

from dwcp_stream.streams.definition import MAX_FIELDS, MAX_WINDOW
from dwcp_stream.windows.layout import F32, F64, Bool, Layout
from dwcp_stream.windows.restore import check_lengths
from dwcp_stream.windows.ring import NO_HEAD
from dwcp_stream.windows.taken import WindowState

UNSAID = 0.0
"""Step of a schema that does not say its step."""


@dataclass(slots=True)
class Unpacked:
    """A `WindowState` as arrays.

    filled bool[T], rows float32[T, F], times float64[T] (irregular) or [0], raw float64[2, C]; oldest first.
    """

    filled: Bool
    rows: F32
    times: F64
    raw: F64


class Schema(msgspec.Struct, array_like=True, frozen=True):
    """What a snapshot says of the definition it was written under.

    `step` is in seconds, None for an irregular stream, `UNSAID` in snapshots that did not have it yet.
    """

    window: Annotated[int, msgspec.Meta(ge=1, le=MAX_WINDOW)]
    fields: Annotated[list[str], msgspec.Meta(max_length=MAX_FIELDS)]
    counters: Annotated[list[str], msgspec.Meta(max_length=MAX_FIELDS)]
    step: float | None = UNSAID

    @classmethod
    def of(cls, layout: Layout) -> "Schema":
        """Describe a layout."""
        return cls(layout.window, list(layout.fields), list(layout.counters), layout.step)


def adapt(state: WindowState, written: Schema, layout: Layout) -> WindowState:
    """Fit a window to a layout.

    A new field, and one that has become a counter or ceased to be one, is NaN in old rows; a field that is
    gone is dropped. A shorter window keeps its newest rows. If the step changed, rows no longer mean the same
    times, so the window is emptied; what was applied, and when, stays.

    Raises
    ------
    StateError
        If the state does not fit the schema it says it was written under.
    """
    step = layout.step if written.step == UNSAID else written.step
    irregular = step is None
    old = unpack(state, written.window, len(written.fields), len(written.counters), irregular=irregular)
    fields, kept = len(layout.fields), min(written.window, layout.window)
    fresh = Unpacked(
        filled=np.zeros(layout.window, np.bool_),
        rows=np.full((layout.window, fields), np.nan, np.float32),
        times=np.full(layout.window if layout.step is None else 0, np.nan),
        raw=np.full((2, len(layout.counters)), np.nan),
    )
    same_step = step == layout.step
    if same_step:
        fresh.filled[-kept:] = old.filled[-kept:]
        if irregular:
            fresh.times[-kept:] = old.times[-kept:]
        for source, name in enumerate(written.fields):
            target = layout.columns.get(name)
            if target is not None and (name in written.counters) == (name in layout.counters):
                fresh.rows[-kept:, target] = old.rows[-kept:, source]
        for source, name in enumerate(written.counters):
            if name in layout.counters:
                fresh.raw[:, layout.counters.index(name)] = old.raw[:, source]
    head = state.head if same_step else NO_HEAD
    if irregular and same_step:
        head = int(fresh.filled.sum()) - 1  # rows are counted from the oldest there is
    return WindowState(
        applied=state.applied,
        anchor=state.anchor if head != NO_HEAD else float("nan"),
        head=head,
        last_ts=state.last_ts,
        filled=np.packbits(fresh.filled).tobytes(),
        rows=fresh.rows[fresh.filled].astype("<f4", copy=False).tobytes(),
        times=fresh.times[fresh.filled].astype("<f8", copy=False).tobytes() if layout.step is None else b"",
        raw=fresh.raw.astype("<f8", copy=False).tobytes(),
    )


def unpack(state: WindowState, window: int, fields: int, counters: int, *, irregular: bool) -> Unpacked:
    """Turn a packed window into arrays, oldest row first; NaN where nothing is filled.

    Raises
    ------
    StateError
        If the lengths do not fit each other or the shape asked for.
    """
    check_lengths(state, window, fields, counters, irregular=irregular)
    filled = np.unpackbits(np.frombuffer(state.filled, np.uint8), count=window).astype(np.bool_)
    rows = np.full((window, fields), np.nan, np.float32)
    rows[filled] = np.frombuffer(state.rows, "<f4").reshape(-1, fields)
    times = np.full(window if irregular else 0, np.nan)
    if irregular:
        times[filled] = np.frombuffer(state.times, "<f8")
    return Unpacked(filled, rows, times, np.frombuffer(state.raw, "<f8").reshape(2, counters).copy())
