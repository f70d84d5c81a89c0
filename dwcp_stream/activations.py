"""Which version of a model scores which samples of a partition: each from an offset on, until the next.

A model has several lines: its name stands for the champion, NAME@challenger and NAME@shadow for what runs beside it,
and NAME@share for the percentage of entities that the challenger serves.

A schedule is written to the changelog before it takes effect. So whoever reads the samples again, after a crash or a
rebalance, scores each by the version that scored it first.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from dwcp_stream.windows.snapshot import PartitionRecord, read_versioned

SCHEDULE_VERSION: Final = 101
"""Versions of this record begin far above those of entity snapshots: a release that does not know the record takes it
for a snapshot of a later version, and stops without touching anything."""

NOTHING: Final = -1
"""In the place of a version or percentage: the line has none from an offset on."""
SHARE: Final = "share"


class Activation(msgspec.Struct, frozen=True, array_like=True, order=True):
    """From a source offset on, a version of a model scores; `model` is the line's name."""

    offset: int
    model: str
    version: int

    @property
    def base(self) -> str:
        """The model's own name."""
        return self.model.partition("@")[0]

    @property
    def arm(self) -> str:
        """What the line is: champion, challenger, shadow or share."""
        return self.model.partition("@")[2] or "champion"

    @property
    def scores(self) -> bool:
        """Whether it stands for a version that scores, rather than for nothing or a percentage."""
        return self.version != NOTHING and self.arm != SHARE


Schedule = tuple[Activation, ...]
"""Activations of all models of a partition, by offset."""


class ScheduleRecord(msgspec.Struct, kw_only=True, frozen=True, array_like=True):
    """A partition's schedule as it stands in the changelog.

    New attributes go last and have a default, as in `PartitionRecord`.

    Attributes
    ----------
    term
        Raised by every owner that takes the partition over. Of several records the one with the highest term counts,
        so what a former owner writes late counts for nothing. Group generations cannot do this: they begin anew when
        the brokers forget the group.
    activations
        What a reader from the last confirmed position on must know.
    """

    version: int = SCHEDULE_VERSION
    term: int = 0
    activations: Schedule = ()


def schedule_of(activations: Iterable[Activation]) -> Schedule:
    """Put activations in order; of two of a model at one offset the later given counts.

    One that would change nothing is left out: the model's state goes on then, and must also after a recovery.
    """
    last = {(a.offset, a.model): a for a in activations}
    kept: list[Activation] = []
    serving: dict[str, int] = {}
    for _, activation in sorted(last.items()):
        if serving.get(activation.model) != activation.version:
            kept.append(activation)
            serving[activation.model] = activation.version
    return tuple(kept)


def line_of(model: str, arm: str) -> str:
    """Return the name of a model's line."""
    return model if arm == "champion" else f"{model}@{arm}"


def active(schedule: Schedule, position: int) -> dict[str, Activation]:
    """Return what scored the last sample before a position, by model; at the beginning, what scores the first."""
    found: dict[str, Activation] = {}
    for activation in schedule:
        if activation.offset < position or activation.model not in found:
            found[activation.model] = activation
    return found


def pending(schedule: Schedule, position: int) -> Schedule:
    """Return what has not taken effect when all samples before a position have been processed."""
    begun = active(schedule, position)
    return tuple(a for a in schedule if a.offset >= position and begun[a.model] != a)


def needed(schedule: Schedule, position: int) -> Schedule:
    """Return the part that a reader from a position on must know."""
    return schedule_of([*active(schedule, position).values(), *pending(schedule, position)])


def begun(record: PartitionRecord | None, models: Iterable[tuple[str, int]]) -> Schedule:
    """Return the schedule of a partition whose owner goes on with versions as they are, whatever scored before.

    Parameters
    ----------
    record
        The partition record, None where there is none yet.
    models
        Name and version of each model.
    """
    held, position = record or PartitionRecord(), record.position if record else 0
    return tuple(
        Activation(held.since.get(name, 0) if held.models.get(name) == version else position, name, version)
        for name, version in models
    )


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(ScheduleRecord)


def encode_schedule(record: ScheduleRecord) -> bytes:
    """Write a schedule."""
    return _encode(record)


def decode_schedule(data: bytes) -> ScheduleRecord:
    """Read a schedule.

    Raises
    ------
    StateError
        If it is truncated or damaged, or of a version that this release does not know.
    """
    return read_versioned(data, _decoder, SCHEDULE_VERSION, "a schedule of model versions")
