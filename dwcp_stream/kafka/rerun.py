"""Run the records that led to an alert through a pipeline again, to the verdict that raised it."""

from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field

import msgspec
import numpy as np
from aiokafka import ConsumerRecord

from dwcp_stream.chunk import Chunk
from dwcp_stream.errors import UNREADABLE, PayloadError
from dwcp_stream.events import Alert
from dwcp_stream.explanation.witness import Seen, Witness
from dwcp_stream.kafka.scan import scan
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.scoring import Model
from dwcp_stream.settings import Settings
from dwcp_stream.streams import StreamDefinition

CHUNK_RECORDS = 500
SPANS = 3
"""Windows before the alert that a first attempt reads."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Rerun:
    """What came of it.

    Attributes
    ----------
    seen, trail
        The verdict, and those of the entity before it.
    records
        Records that went through the pipeline.
    since_ms
        Timestamp of the first of them.
    whole
        Whether everything that the topic still held was read.
    """

    seen: Seen
    trail: list[Seen]
    records: int
    since_ms: int
    whole: bool


@dataclass(frozen=True)
class _Attempt:
    """How much is read: since when, only records with the entity's key, only the partition of the key."""

    since: float
    own_key: bool
    own_partition: bool


@dataclass
class _Run:
    pipeline: Pipeline
    topic: str
    records: int = 0
    since_ms: int = 0
    waiting: dict[int, list[ConsumerRecord]] = field(default_factory=dict)

    def take(self, record: ConsumerRecord) -> None:
        if not self.records:
            self.since_ms = record.timestamp
        self.records += 1
        held = self.waiting.setdefault(record.partition, [])
        held.append(record)
        if len(held) >= CHUNK_RECORDS:
            self.process(record.partition)

    def process(self, partition: int) -> None:
        held = self.waiting.pop(partition)
        offsets = np.fromiter((r.offset for r in held), np.int64, len(held))
        stamps = np.fromiter((r.timestamp for r in held), np.int64, len(held))
        keys, values = [r.key for r in held], [r.value for r in held]
        self.pipeline.process(Chunk(self.topic, partition, offsets, stamps, keys, values))


async def find_alert(settings: Settings, alert_id: str) -> Alert:
    """Return the message with an id, or of a fingerprint the newest that fired or escalated.

    Parameters
    ----------
    alert_id
        A `ce_id` or a fingerprint, or the beginning of one.

    Raises
    ------
    PayloadError
        There is none, or more than one.
    """
    by_id: dict[str, Alert] = {}
    by_fingerprint: dict[str, Alert] = {}
    async for record in scan(settings, "anomalies"):
        try:
            alert = msgspec.json.decode(record.value or b"", type=Alert)
        except UNREADABLE:  # anybody may write there
            continue
        ce_id = (dict(record.headers).get("ce_id") or b"").decode(errors="replace")
        if ce_id.startswith(alert_id):
            by_id[ce_id] = alert
        if alert.fingerprint.startswith(alert_id) and alert.action != "resolved":
            before = by_fingerprint.get(alert.fingerprint)
            if before is None or before.event_time <= alert.event_time:
                by_fingerprint[alert.fingerprint] = alert
    found = [*by_id.values(), *by_fingerprint.values()]
    if len(found) == 1:
        return found[0]
    raise PayloadError(
        f"there is no alert {alert_id!r}" if not found else f"{alert_id!r} begins the id of {len(found)} alerts",
        where=f"{settings.topics.prefix}anomalies",
        remedy="Take the fingerprint or the header ce_id from the alert itself",
    )


async def rerun(
    settings: Settings,
    stream: StreamDefinition,
    model: Model,
    entity: str,
    at: float,
    told: float | None,
    progress: Progress | None = None,
) -> Rerun | None:
    """Run an entity's records again until the verdict at a time; as few as give the score that was told.

    First the entity's own records of the last windows are read, then all of its own that the topic holds, then all of
    its partition, whose event time ends the life of silent entities, at last all. A model with a state remembers what
    was before the topic begins, and an entity's rows lie on a grid that begins with its first sample: where that has
    left the topic, the score may not be the same.

    Parameters
    ----------
    at
        Event time of the alert, epoch seconds.
    told
        Its score.
    progress
        Called with the records read, and how many there are to read, in each attempt anew.

    Returns
    -------
    Rerun or None
        That with the score that was told, else that with the nearest; None if no window of that time was scored.

    Raises
    ------
    BrokerError
        As for `scan`.
    """
    best: Rerun | None = None
    for attempt in _attempts(stream, model, at):
        half = stream.step / 2 if isinstance(stream.step, float) else 0.0
        witness = Witness(entity, model.name, at, half)
        run = _Run(Pipeline(stream, [model], witness=witness), stream.topic)
        key = entity.encode()
        reading = scan(settings, stream.topic, attempt.since, progress, key=key if attempt.own_partition else None)
        async with aclosing(reading) as records:
            async for record in records:
                if not attempt.own_key or record.key == key:
                    run.take(record)
                    if witness.done:
                        break
        for partition in () if witness.done else list(run.waiting):
            run.process(partition)
        if witness.found is None:
            continue
        found = Rerun(witness.found, list(witness.trail), run.records, run.since_ms, whole=attempt.since == 0.0)
        if best is None or _off(found, told) < _off(best, told):
            best = found
        if told is None or _off(best, told) == 0.0:
            break
    return best


def _attempts(stream: StreamDefinition, model: Model, at: float) -> Iterator[_Attempt]:
    if not model.state_size and isinstance(stream.step, float):
        since = at - SPANS * stream.window * stream.step - stream.lateness - stream.ahead_tolerance
        yield _Attempt(max(since, 1e-3), own_key=True, own_partition=True)
    yield _Attempt(0.0, own_key=True, own_partition=True)
    yield _Attempt(0.0, own_key=False, own_partition=True)
    yield _Attempt(0.0, own_key=False, own_partition=False)


def _off(found: Rerun, told: float | None) -> float:
    """Return by how much the score differs from the one that was told."""
    return 0.0 if told is None else abs(float(found.seen.score) - told)
