"""What really happened and when, and so what each row is labelled with."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from lab.etcd.faults import Info
from lab.etcd.schedule import SETTLE, Event

WARM_UP = 10.0  # seconds until the members' caches and the connections are as they stay


@dataclass
class Happening:
    """An event as it came: epoch seconds of its start and end (None while it is on), and what was done."""

    event: Event
    start: float
    end: float | None = None
    info: Info = field(default_factory=dict)

    def within(self, begin: float, end: float) -> bool:
        """Whether it was on at any time in (begin, end]."""
        return self.start < end and (self.end is None or self.end > begin)

    def plain(self) -> dict[str, Any]:
        """Return it as it stands in the file of events."""
        return {
            "kind": "fault" if self.event.fault else "hn",
            "type": self.event.kind,
            "start": round(self.start, 3),
            "end": None if self.end is None else round(self.end, 3),
            "planned_s": self.event.duration,
            "intensity": {"how": self.event.how, **self.event.params},
            "info": self.info,
        }


class Happenings:
    """All that happened so far.

    Parameters
    ----------
    begun
        Epoch seconds of the start of the recording.
    """

    def __init__(self, begun: float) -> None:
        self.all: list[Happening] = []
        self._begun = begun

    @asynccontextmanager
    async def note(self, event: Event) -> AsyncIterator[Happening]:
        """Note an event from entering to leaving."""
        happening = Happening(event, time.time())
        self.all.append(happening)
        try:
            yield happening
        finally:
            happening.end = time.time()

    def columns(self, begin: float, end: float) -> dict[str, str | int]:
        """Return the columns of the row about (begin, end], in epoch seconds.

        Returns
        -------
        dict
            label (kind of the fault that was on, or empty), phase, negative (kind of the hard negative, or empty),
            x_fault (0 or 1), x_recovery (1 in rows that begin within 10 s after a fault's end).
        """
        on = [h for h in self.all if h.within(begin, end)]
        label = next((h.event.kind for h in on if h.event.fault), "")
        negative = next((h.event.kind for h in on if not h.event.fault), "")
        recovery = not label and any(
            h.event.fault and h.end is not None and h.end <= begin < h.end + SETTLE for h in self.all
        )
        if label:
            phase = "fault"
        elif recovery:
            phase = "recovery"
        elif negative:
            phase = "negative"
        else:
            phase = "warm_up" if begin - self._begun < WARM_UP else "steady"
        return {
            "label": label,
            "phase": phase,
            "negative": negative,
            "x_fault": int(bool(label)),
            "x_recovery": int(recovery),
        }
