"""Packed windows back into the rings, many at once: what recovery spends its time on."""

from collections.abc import Mapping
from itertools import islice
from math import inf, isfinite

import numpy as np

from dwcp_stream.errors import StateError
from dwcp_stream.windows.grid import FARTHEST
from dwcp_stream.windows.layout import I64, Layout
from dwcp_stream.windows.ring import NO_HEAD, Rings
from dwcp_stream.windows.taken import WindowState

_BLOCK = 1024
"""Entities put back at once: enough to make numpy's overhead small, few enough to stay in the cache."""


def check_lengths(state: WindowState, window: int, fields: int, counters: int, *, irregular: bool) -> None:
    """Check a packed window against a shape; StateError if its parts do not fit each other or the shape."""
    if len(state.filled) != (window + 7) // 8:
        raise _misfit(f"{len(state.filled)} bytes of fill marks for {window} rows")
    held = (int.from_bytes(state.filled) >> (-window % 8)).bit_count()
    if len(state.rows) != 4 * held * fields:
        raise _misfit(f"{len(state.rows)} bytes for {held} rows of {fields} fields")
    if len(state.times) != (8 * held if irregular else 0):
        raise _misfit(f"{len(state.times)} bytes of times for {held} rows")
    if len(state.raw) != 16 * counters:
        raise _misfit(f"{len(state.raw)} bytes for {counters} counters")
    if state.head < NO_HEAD or (state.head == NO_HEAD) != (held == 0):
        raise _misfit(f"head {state.head} with {held} filled rows")


def check(state: WindowState, layout: Layout) -> None:
    """Check a packed window of a layout; StateError if it does not fit."""
    irregular = layout.step is None
    check_lengths(state, layout.window, len(layout.fields), len(layout.counters), irregular=irregular)
    if not (-1 <= state.applied < 1 << 63 and state.head <= FARTHEST):
        raise _misfit(f"offset {state.applied} and row {state.head}")
    if state.head != NO_HEAD and not (isfinite(state.anchor) and isfinite(state.last_ts)):
        raise _misfit("a window without an anchor or a time")
    if not (isfinite(state.last_ts) or state.last_ts == -inf):
        raise _misfit(f"the time {state.last_ts}")
    if irregular and not np.isfinite(np.frombuffer(state.times, "<f8")).all():
        raise _misfit("a row without a time")


def put(rings: Rings, states: Mapping[str, WindowState]) -> I64:
    """Write packed windows into the slots of their entities.

    Returns
    -------
    numpy.ndarray
        int64[n], the slots, in the order given.

    Raises
    ------
    StateError
        If one does not fit the layout; nothing is changed then.
    """
    for state in states.values():
        check(state, rings.layout)
    known = [slot for entity in states if (slot := rings.slots.get(entity)) is not None]
    rings.empty(np.array(known, np.int64))
    slots = np.array([rings.slots[e] if e in rings.slots else rings.allocate(e) for e in states], np.int64)
    waiting = iter(states.values())
    for begin in range(0, len(slots), _BLOCK):
        part = slots[begin : begin + _BLOCK]
        _put_block(rings, part, list(islice(waiting, len(part))))
    return slots


def _put_block(rings: Rings, slots: I64, states: list[WindowState]) -> None:
    layout, count = rings.layout, len(states)
    marks = np.frombuffer(b"".join([s.filled for s in states]), np.uint8).reshape(count, -1)
    head = np.array([s.head for s in states], np.int64)
    which, row = np.nonzero(np.unpackbits(marks, axis=1, count=layout.window))
    place = slots[which], layout.rotations[head % layout.window][which, row]
    rows = np.frombuffer(b"".join([s.rows for s in states]), "<f4")
    rings.rows[place] = rows.reshape(-1, len(layout.fields))
    rings.filled[place] = True
    if layout.step is None:
        rings.times[place] = np.frombuffer(b"".join([s.times for s in states]), "<f8")
    raw = np.frombuffer(b"".join([s.raw for s in states]), "<f8")
    rings.raw[slots] = raw.reshape(count, 2, len(layout.counters))
    rings.head[slots] = head
    rings.applied[slots] = [s.applied for s in states]
    rings.anchor[slots] = [s.anchor for s in states]
    rings.last_ts[slots] = [s.last_ts for s in states]


def _misfit(what: str) -> StateError:
    return StateError(
        f"a snapshot's parts do not fit each other: {what}",
        remedy="Delete this entity's snapshot; it will warm up again",
    )
