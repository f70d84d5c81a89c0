"""The arrays behind the windows: one ring of T rows per slot, slots handed out and taken back."""

import numpy as np

from dwcp_stream.windows.layout import F32, F64, I64, Bool, Layout

NO_HEAD = -1
"""Head of a slot whose window holds nothing; the head of any other window is 0 or more."""


class Rings:
    """State of all entities of one partition, as arrays with a slot per entity.

    Grid row r of a window lies at ring position r % T; a position that no sample has filled holds NaN.

    Parameters
    ----------
    layout
        Shapes.
    capacity
        Slots to begin with; doubled whenever they run out.

    Attributes
    ----------
    slots
        Slot by entity.
    names
        Entity by slot; "" for a free slot.
    rows, filled
        float32[S, T, F] and bool[S, T].
    times
        float64[S, T], time of each row of an irregular stream; [S, 0] on a grid, where rows give times.
    raw
        float64[S, 2, C], last value present of each counter, and its time.
    applied
        int64[S], offset of the last record applied; -1: none.
    anchor
        float64[S], time of grid row 0.
    head
        int64[S], newest row; `NO_HEAD`: the window is empty.
    last_ts
        float64[S], time of the newest sample; -inf: none yet, +inf: the slot is free.
    """

    def __init__(self, layout: Layout, capacity: int) -> None:
        self.layout = layout
        self.slots: dict[str, int] = {}
        self.names: list[str] = []
        self._free: list[int] = []
        width, fields = layout.window, len(layout.fields)
        self.rows: F32 = np.full((capacity, width, fields), np.nan, np.float32)
        self.filled: Bool = np.zeros((capacity, width), np.bool_)
        self.times: F64 = np.full((capacity, width if layout.step is None else 0), np.nan)
        self.raw: F64 = np.full((capacity, 2, len(layout.counters)), np.nan)
        self.applied: I64 = np.full(capacity, -1, np.int64)
        self.anchor: F64 = np.full(capacity, np.nan)
        self.head: I64 = np.full(capacity, NO_HEAD, np.int64)
        self.last_ts: F64 = np.full(capacity, np.inf)
        self._offer(0, capacity)

    @property
    def capacity(self) -> int:
        """Number of slots there are arrays for."""
        return len(self.head)

    def entity_of(self, slot: int) -> str:
        """Entity that holds a slot; KeyError if the slot is free."""
        if not 0 <= slot < len(self.names) or not self.names[slot]:
            raise KeyError(slot)
        return self.names[slot]

    def allocate(self, entity: str) -> int:
        """Give an entity a slot with an empty window."""
        if not self._free:
            self._grow()
        slot = self._free.pop()
        self.slots[entity] = slot
        self.names[slot] = entity
        self.last_ts[slot] = -np.inf
        return slot

    def free(self, slots: I64) -> None:
        """Take slots back and wipe them."""
        self.empty(slots)
        self.applied[slots] = -1
        self.anchor[slots] = np.nan
        self.last_ts[slots] = np.inf
        for slot in slots.tolist():
            del self.slots[self.entity_of(slot)]
            self.names[slot] = ""
            self._free.append(slot)

    def empty(self, slots: I64) -> None:
        """Empty windows, counters included; what was applied, and when, stays."""
        self.rows[slots] = np.nan
        self.filled[slots] = False
        self.times[slots] = np.nan
        self.raw[slots] = np.nan
        self.head[slots] = NO_HEAD

    def oldest_first(self, slots: I64) -> I64:
        """Ring positions of rows head - T + 1 .. head, int64[n, T]."""
        return self.layout.rotations[self.head[slots] % self.layout.window]

    def _grow(self) -> None:
        old, new = self.capacity, max(1, 2 * self.capacity)
        for name in ("rows", "filled", "times", "raw", "applied", "anchor", "head", "last_ts"):
            held = getattr(self, name)
            grown = np.empty((new, *held.shape[1:]), held.dtype)
            grown[:old] = held
            setattr(self, name, grown)
        fresh = np.arange(old, new)
        self.empty(fresh)
        self.applied[fresh], self.anchor[fresh], self.last_ts[fresh] = -1, np.nan, np.inf
        self._offer(old, new)

    def _offer(self, first: int, end: int) -> None:
        self.names += [""] * (end - first)
        self._free += range(end - 1, first - 1, -1)  # popped from the end, so lower slots go first
