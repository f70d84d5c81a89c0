"""What happens when in a recording, all of it from a seed."""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from lab.etcd.errors import LabError
from lab.etcd.kinds import FAULTS, NEGATIVES, Params

LEAD: Final = 45.0  # seconds before the first event: the consensus window, and some more
SETTLE: Final = 10.0  # seconds of recovery after an event, which belong neither to it nor to quiet time
Plan = Literal["full", "faults", "negatives", "none"]


@dataclass(frozen=True)
class Event:
    """Something that is done to the cluster.

    Attributes
    ----------
    kind
        A key of `FAULTS` or `NEGATIVES`.
    fault
        Whether it is a fault.
    start, duration
        Seconds since the start, and how long it is held.
    how, params
        Which way, how strong, at whom.
    """

    kind: str
    fault: bool
    start: float
    duration: float
    how: str
    params: Params

    @property
    def end(self) -> float:
        """Second it ends, if putting right takes no time."""
        return self.start + self.duration

    def plain(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def make_schedule(
    seed: int,
    seconds: float,
    members: int,
    *,
    plan: Plan = "full",
    only: Sequence[str] = (),
    gap: float = 40.0,
) -> list[Event]:
    """Draw the events of a recording.

    Parameters
    ----------
    seed
        Same arguments, same events.
    seconds
        Length of the recording. The first event comes after 45 s; the last one and its recovery end within it.
    members
        Size of the cluster.
    plan
        Whether there are faults, hard negatives, both or nothing.
    only
        Kinds to choose from; default all that the plan allows.
    gap
        Mean seconds between the end of an event and the next start, at least 20: drawn from 0.6 to 1.4 times that.

    Returns
    -------
    list of Event
        By time. Every kind comes once before one comes again.

    Raises
    ------
    LabError
        If `only` has an unknown kind, or one the plan leaves out.
    """
    kinds = {
        **(FAULTS if plan in {"full", "faults"} else {}),
        **(NEGATIVES if plan in {"full", "negatives"} else {}),
    }
    if unknown := sorted(set(only) - set(kinds)):
        raise LabError(
            f"there is no {unknown[0]!r} in plan {plan}", where="--only", remedy=f"Choose from: {', '.join(kinds)}"
        )
    if gap < 2 * SETTLE:
        raise LabError(f"{gap:g} s between events is too short", where="--gap", remedy=f"Give {2 * SETTLE:g} or more")
    chance = random.Random(f"{seed}/{members}/schedule")
    names = [name for name in kinds if not only or name in only]
    events: list[Event] = []
    bag: list[str] = []
    at = LEAD + chance.uniform(0, 10)
    while names:
        if not bag:
            bag = chance.sample(names, len(names))
        name = bag.pop()
        drawn = kinds[name](chance, members)
        if at + drawn.duration + SETTLE > seconds:
            break
        start, duration = round(at, 2), round(drawn.duration, 2)
        events.append(Event(name, name in FAULTS, start, duration, drawn.how, drawn.params))
        at = start + duration + gap * chance.uniform(0.6, 1.4)
    return events
