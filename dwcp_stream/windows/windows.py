"""The live windows of one partition: chunks of samples in, settled samples and windows to score out."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from dwcp_stream.streams.definition import StreamDefinition
from dwcp_stream.windows.layout import F64, I64, Layout
from dwcp_stream.windows.outcome import Outcome
from dwcp_stream.windows.passes import Pass, cut, restarts
from dwcp_stream.windows.restore import put
from dwcp_stream.windows.ring import NO_HEAD, Rings
from dwcp_stream.windows.segments import Segments, group
from dwcp_stream.windows.stretch import Stretch
from dwcp_stream.windows.taken import Taken, WindowState, copy_slots
from dwcp_stream.windows.view import EntityView


class Windows:
    """Windows of all entities of one partition of one stream.

    Parameters
    ----------
    stream
        The stream's definition.
    scoring
        Whether passes must be able to give windows; without models nothing is gathered for them.
    capacity
        Entities to make room for at first.

    Notes
    -----
    The result depends on the sequence of samples alone, not on how it was cut into chunks, as long as all
    samples of one record come in one chunk.
    """

    def __init__(self, stream: StreamDefinition, *, scoring: bool = True, capacity: int = 64) -> None:
        self.layout = Layout.of(stream)
        self.scoring = scoring
        self._rings = Rings(self.layout, capacity)

    @property
    def slots(self) -> dict[str, int]:
        """Slot by entity; not to be changed."""
        return self._rings.slots

    @property
    def capacity(self) -> int:
        """Slots there is room for; grows by doubling."""
        return self._rings.capacity

    @property
    def applied(self) -> I64:
        """int64[S], offset of the last record applied to each slot; -1: none."""
        return self._rings.applied

    @property
    def last_ts(self) -> F64:
        """float64[S], time of each slot's newest sample; +inf for a free slot."""
        return self._rings.last_ts

    def fill_ratio(self) -> float:
        """Share of the live entities' rows that hold a sample; 0 without entities."""
        slots = list(self._rings.slots.values())
        return float(self._rings.filled[slots].mean()) if slots else 0.0

    def entity_of(self, slot: int) -> str:
        """Entity that holds a slot; KeyError if the slot is free."""
        return self._rings.entity_of(slot)

    # --- samples in -------------------------------------------------------------------------------------

    def apply(self, offsets: I64, ts: F64, entity: I64, entities: Sequence[str], values: F64) -> Iterator[Pass]:
        """Put samples into the windows, pass by pass; each must be used before the next is asked for.

        Parameters
        ----------
        offsets
            int64[n], offset of each sample's record; must not decrease.
        ts
            float64[n], sample times, epoch seconds, finite.
        entity
            int64[n], codes into `entities`.
        entities
            Names; only those that have a sample here take a slot.
        values
            float64[n, F], columns as in the stream; NaN = missing, counters raw.

        Yields
        ------
        Pass
            None for no samples, one for most chunks, another wherever an entity's window starts anew after
            other samples of that entity.

        Raises
        ------
        ValueError
            If offsets decrease.
        """
        if not len(offsets):
            return
        if (offsets[1:] < offsets[:-1]).any():
            raise ValueError("offsets of a chunk must not decrease")
        slot = self._slots_for(entity, entities)
        fresh = offsets > self._rings.applied[slot]
        outcome = np.where(fresh, Outcome.INVALID, Outcome.REPLAYED).astype(np.uint8)
        outcome[slot < 0] = Outcome.INVALID
        live = np.flatnonzero(fresh & (slot >= 0))
        restarted = np.zeros(len(offsets), np.bool_)
        stretches: Iterator[tuple[int, int]] = iter([(0, len(offsets))])
        segments = group(live, slot[live]) if len(live) else None
        if segments is not None and self.layout.step is not None:
            found = self._restarts(segments, ts, self.layout.step)
            if len(found):
                restarted[segments.sample[found]] = True
                stretches = cut(segments, found, len(offsets))
        for begin, end in stretches:
            sample, settled = np.arange(begin, end), outcome[begin:end]
            here = segments
            if end - begin < len(offsets):
                ours = live[(live >= begin) & (live < end)]
                here = group(ours, slot[ours]) if len(ours) else None
            if here is None:
                yield Pass.nothing(sample, settled, self.layout, scoring=self.scoring)
                continue
            stretch = Stretch(self._rings, here, ts, values, restart=restarted[here.sample[here.start]])
            done = stretch.run(sample, settled, scoring=self.scoring)
            self._rings.applied[here.slot] = offsets[here.sample[here.end]]
            yield done

    def _slots_for(self, entity: I64, entities: Sequence[str]) -> I64:
        known = self._rings.slots
        lookup = np.array([known.get(name, -1) for name in entities], np.int64)
        slot = lookup[entity]
        missing = entity[slot < 0]
        if not len(missing):
            return slot
        code, first = np.unique(missing, return_index=True)
        room = max(0, self.layout.max_entities - len(known))
        for new in code[np.argsort(first)][:room].tolist():  # first come, first served
            lookup[new] = self._rings.allocate(entities[new])
        return lookup[entity]

    def _restarts(self, segments: Segments, ts: F64, step: float) -> I64:
        rings, slot = self._rings, segments.slot
        ours, begun = ts[segments.sample], rings.head[slot] != NO_HEAD
        first = ours[segments.start]
        return restarts(
            segments,
            ours,
            anchor=np.where(begun, rings.anchor[slot], first),
            last_ts=np.where(begun, rings.last_ts[slot], first),
            step=step,
            window=self.layout.window,
        )

    # --- slots ------------------------------------------------------------------------------------------

    def silent(self, before: float) -> I64:
        """Slots whose newest sample is at or before a time, int64; the longest silent first, then by name."""
        found = np.flatnonzero(self._rings.last_ts <= before)
        by_time = sorted((self._rings.last_ts[s], self._rings.entity_of(s), s) for s in found.tolist())
        return np.array([slot for _, _, slot in by_time], np.int64)

    def free(self, slots: I64) -> None:
        """Forget entities; whatever else is kept for these slots must be cleared as well."""
        self._rings.free(slots)

    # --- state out and in -------------------------------------------------------------------------------

    def view(self, entity: str) -> EntityView:
        """Return a copy of one entity's window; KeyError if there is no such entity."""
        slot = self._rings.slots[entity]
        return EntityView(entity, copy_slots(self._rings, np.array([slot])))

    def take(self, slots: I64) -> Taken:
        """Copy the state of slots, about a microsecond each; what costs more happens later, on the copy."""
        return copy_slots(self._rings, slots)

    def load(self, states: Mapping[str, WindowState]) -> I64:
        """Put entities back as they were; the entity limit is not asked, since they were let in before.

        Returns
        -------
        numpy.ndarray
            int64[n], their slots, in the order given.

        Raises
        ------
        StateError
            If a state does not fit the stream's layout; nothing is changed then.
        """
        return put(self._rings, states)
