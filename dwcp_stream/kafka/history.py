"""Recent telemetry, alerts and feedback out of Kafka: what a model is trained on again."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal, TypeVar

import msgspec
import polars as pl
from aiokafka import ConsumerRecord
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from structlog import get_logger

from dwcp_stream.control import Flaw, signer
from dwcp_stream.errors import UNREADABLE
from dwcp_stream.events import Alert
from dwcp_stream.history.archive import read_archive
from dwcp_stream.history.samples import Records, SampleReader, empty, once
from dwcp_stream.kafka.scan import scan
from dwcp_stream.keys import public_keys
from dwcp_stream.realised import Feedback
from dwcp_stream.settings import Settings
from dwcp_stream.streams import StreamDefinition

CHUNK_RECORDS: Final = 2000
SPILL_ROWS: Final = 250_000
"""Samples held as tables in memory before they go to a file."""
Progress = Callable[[int, int], None]
Source = Literal["kafka", "archive"]
T = TypeVar("T", Alert, Feedback)

log = get_logger(__name__)


@dataclass(frozen=True)
class Telemetry:
    """Samples that were read.

    Attributes
    ----------
    table
        Columns as `history.samples.columns`, in order of time; each entity and time once.
    samples
        Samples in the records read.
    invalid
        Those that a worker would dead-letter; left out.
    outside
        Valid ones from before or after the time that was asked for; left out.
    repeated
        Second samples of an entity and time; left out.
    """

    table: pl.DataFrame
    samples: int
    invalid: int
    outside: int
    repeated: int


async def recent_telemetry(
    settings: Settings, stream: StreamDefinition, since: float, progress: Progress | None = None, *, until: float = inf
) -> pl.DataFrame:
    """Read a stream's samples; see `collect_telemetry`, whose table this is."""
    return (await collect_telemetry(settings, stream, since, progress, until=until)).table


async def collect_telemetry(
    settings: Settings,
    stream: StreamDefinition,
    since: float,
    progress: Progress | None = None,
    *,
    until: float = inf,
    spill_rows: int = SPILL_ROWS,
) -> Telemetry:
    """Read a stream's samples from its topic, to its present end.

    Records are decoded as a worker decodes them. Those with a timestamp from `since` on are read, and a little before:
    a sample may be `ahead_tolerance` ahead of its record. What is kept is decided by the samples' own time.

    Parameters
    ----------
    since, until
        Epoch seconds, inclusive.
    progress
        Called with the records read, and how many offsets there are to read.
    spill_rows
        Samples held in memory, beside the table that is returned.

    Raises
    ------
    BrokerError
        No broker answers, the topic does not exist, or it cannot be read.
    """
    reader = SampleReader(stream)
    waiting: dict[int, list[ConsumerRecord]] = {}
    outside = 0
    with TemporaryDirectory(prefix="dwcp-history-") as folder:
        spill = _Spill(Path(folder), spill_rows)

        def take(partition: int) -> None:
            nonlocal outside
            table = reader.read(records_of(waiting.pop(partition)))
            inside = table.filter(pl.col(stream.time).is_between(since, until))
            outside += len(table) - len(inside)
            spill.add(inside)

        begin = max(since - stream.ahead_tolerance, 0.0)
        async for record in scan(settings, stream.topic, begin, progress):
            held = waiting.setdefault(record.partition, [])
            held.append(record)
            if len(held) >= CHUNK_RECORDS:
                take(record.partition)
        for partition in sorted(waiting):
            take(partition)
        whole = pl.concat([empty(stream), *spill.parts()])
    table = once(whole, stream)
    found = Telemetry(table, reader.samples, reader.invalid, outside, len(whole) - len(table))
    log.info(
        "telemetry read", stream=stream.name, kept=len(table), samples=found.samples, invalid=found.invalid,
        outside=found.outside, repeated=found.repeated,
    )  # fmt: skip
    return found


async def training_data(
    settings: Settings,
    stream: StreamDefinition,
    since: float,
    source: Source = "kafka",
    progress: Progress | None = None,
) -> tuple[pl.DataFrame, list[Alert], list[Feedback]]:
    """Collect what `history.retrain` takes: telemetry since a time, alerts, and what was said of them.

    Parameters
    ----------
    source
        Where telemetry comes from: the stream's topic, or the archive that the settings name. Alerts and feedback are
        in Kafka either way.

    Raises
    ------
    BrokerError, PayloadError
        As for `collect_telemetry` and `read_archive`.
    """
    alerts, feedback = await judgements(settings, stream.name)
    if source == "kafka":
        return await recent_telemetry(settings, stream, since, progress), alerts, feedback
    return await asyncio.to_thread(read_archive, settings.archive.dir, stream, since), alerts, feedback


async def judgements(settings: Settings, stream: str) -> tuple[list[Alert], list[Feedback]]:
    """Read all alerts of a stream that the topic still holds, and what was said of them.

    Anybody may write to these topics: what cannot be read, or has no proper time, is counted in the log and left out,
    and so is a judgement that none of `feedback.keys` has signed, if there are any.

    Raises
    ------
    BrokerError
        As for `collect_telemetry`.
    """
    alerts, bad_alerts = await _messages(settings, "anomalies", Alert)
    feedback, bad_feedback = await _messages(settings, "feedback", Feedback, public_keys(settings.feedback.keys))
    if bad_alerts or bad_feedback:
        log.warning(
            "messages that cannot be read or are not signed left out", anomalies=bad_alerts, feedback=bad_feedback
        )
    return [a for a in alerts if a.stream == stream], [f for f in feedback if f.stream == stream]


def records_of(records: list[ConsumerRecord]) -> Records:
    """Put records of one partition side by side."""
    return Records(
        records[0].partition,
        [record.offset for record in records],
        [record.timestamp for record in records],
        [record.key for record in records],
        [record.value for record in records],
    )


async def _messages(
    settings: Settings, topic: str, kind: type[T], keys: Mapping[str, Ed25519PublicKey] | None = None
) -> tuple[list[T], int]:
    """Return what can be read of a topic and, with keys, is signed by one of them; and how much is not."""
    found, bad = [], 0
    async for record in scan(settings, topic):
        if keys and isinstance(signer(record.value or b"", list(record.headers), keys, "feedback.keys"), Flaw):
            bad += 1
            continue
        try:
            message = msgspec.json.decode(record.value or b"", type=kind)
            if isinstance(message, Alert):
                _check_times(message)
        except UNREADABLE:
            bad += 1
        else:
            found.append(message)
    return found, bad


def _check_times(alert: Alert) -> None:
    for text in (alert.starts_at, alert.ends_at):
        if isinstance(text, str) and datetime.fromisoformat(text).tzinfo is None:
            raise ValueError(f"{text} is no time with an offset")


class _Spill:
    """Tables that are too large together for memory, as files in a folder."""

    def __init__(self, folder: Path, rows: int) -> None:
        self._folder, self._rows = folder, rows
        self._held: list[pl.DataFrame] = []
        self._files: list[Path] = []

    def add(self, table: pl.DataFrame) -> None:
        """Take a table."""
        self._held.append(table)
        if sum(map(len, self._held)) >= self._rows:
            self._files.append(self._folder / f"{len(self._files)}.parquet")
            pl.concat(self._held).write_parquet(self._files[-1])
            self._held = []

    def parts(self) -> list[pl.DataFrame]:
        """Return all of it."""
        return [*(pl.read_parquet(file, memory_map=False) for file in self._files), *self._held]
