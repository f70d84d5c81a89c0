"""Copies of entities' windows: quick to take, packed only when asked for."""

from dataclasses import dataclass, field

import msgspec
import numpy as np

from dwcp_stream.windows.layout import F32, F64, I64, Bool, Layout
from dwcp_stream.windows.ring import Rings

_BLOCK = 1024
"""Entities packed at once: enough to make numpy's overhead small, few enough to stay in the cache."""


class WindowState(msgspec.Struct, array_like=True, frozen=True):
    """One entity's window, packed; numbers are little-endian.

    Attributes
    ----------
    applied
        Offset of the last record applied; -1: none.
    anchor
        Time of grid row 0; NaN if there is no window.
    head
        Newest row; -1: there is no window.
    last_ts
        Time of the newest sample; -inf: none.
    filled
        A bit per row, oldest first, most significant bit first.
    rows
        float32[filled rows, F], oldest first.
    times
        float64[filled rows] of an irregular stream, else empty.
    raw
        float64[2, C], last value present of each counter, then its time.
    """

    applied: int
    anchor: float
    head: int
    last_ts: float
    filled: bytes
    rows: bytes
    times: bytes
    raw: bytes


@dataclass(slots=True)
class Taken:
    """State of n slots as it was when taken.

    `rows`, `filled` and `times` are in ring order, the other arrays as in `Rings`, all of length n.
    """

    layout: Layout
    entities: list[str]
    rows: F32
    filled: Bool
    times: F64
    raw: F64
    applied: I64
    anchor: F64
    head: I64
    last_ts: F64
    _packed: dict[int, list[WindowState]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.entities)

    def entity(self, i: int) -> str:
        """Name of the i-th entity taken."""
        return self.entities[i]

    def core(self, i: int) -> WindowState:
        """Pack the i-th entity's window; cheapest when asked for in order."""
        block, at = divmod(i, _BLOCK)
        if block not in self._packed:
            self._packed = {block: self._pack(slice(block * _BLOCK, (block + 1) * _BLOCK))}
        return self._packed[block][at]

    def oldest_first(self, part: slice) -> I64:
        """Ring positions of the rows of entities `part` from oldest to newest, int64[n, T]."""
        return self.layout.rotations[self.head[part] % self.layout.window]

    def _pack(self, part: slice) -> list[WindowState]:
        order = self.oldest_first(part)
        entity = np.arange(len(order))[:, None]
        filled = self.filled[part][entity, order]
        place = np.nonzero(filled)
        source = place[0], order[place]
        rows = self.rows[part][source].astype("<f4", copy=False).tobytes()
        irregular = self.layout.step is None
        times = self.times[part][source].astype("<f8", copy=False).tobytes() if irregular else b""
        raw = self.raw[part].astype("<f8", copy=False).tobytes()
        bits = np.packbits(filled, axis=1)
        end = np.cumsum(filled.sum(1))
        begin = end - filled.sum(1)
        row, wide, one = 4 * len(self.layout.fields), bits.shape[1], 16 * len(self.layout.counters)
        packed = bits.tobytes()
        numbers = zip(
            self.applied[part].tolist(), self.anchor[part].tolist(), self.head[part].tolist(),
            self.last_ts[part].tolist(), begin.tolist(), end.tolist(), strict=True,
        )  # fmt: skip
        return [
            WindowState(
                applied, anchor, head, last_ts, packed[i * wide : (i + 1) * wide], rows[b * row : e * row],
                times[b * 8 : e * 8], raw[i * one : (i + 1) * one],
            )
            for i, (applied, anchor, head, last_ts, b, e) in enumerate(numbers)
        ]  # fmt: skip


def copy_slots(rings: Rings, slots: I64) -> Taken:
    """Copy the state of slots by fancy indexing alone."""
    return Taken(
        layout=rings.layout,
        entities=[rings.names[slot] for slot in slots.tolist()],
        rows=rings.rows[slots],
        filled=rings.filled[slots],
        times=rings.times[slots],
        raw=rings.raw[slots],
        applied=rings.applied[slots],
        anchor=rings.anchor[slots],
        head=rings.head[slots],
        last_ts=rings.last_ts[slots],
    )
