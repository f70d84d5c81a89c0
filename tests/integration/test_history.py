"""Telemetry out of a real broker: what was sent is what comes back, from the topic and from the archive."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dwcp_stream.history.archive import read_archive
from dwcp_stream.history.samples import columns
from dwcp_stream.kafka.archiver import Archiver
from dwcp_stream.kafka.batches import write_rows
from dwcp_stream.kafka.catalogue import catalogue
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.kafka.history import collect_telemetry, judgements, recent_telemetry
from dwcp_stream.kafka.inspection import source_topic
from dwcp_stream.kafka.producer import key_hash
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.keys import public_text
from dwcp_stream.realised import build_feedback
from dwcp_stream.settings import FeedbackSettings, Settings
from dwcp_stream.streams import StreamDefinition, encode_sample, load_stream
from tests.integration.harness import make_settings, wait_until
from tests.unit.history_cases import alert, judged

pytestmark = pytest.mark.kafka

PARTITIONS = 3
DEFINITION = """name = "demo"
topic = "telemetry"
entity = ["site", "id"]
entity_optional = ["id"]
step = 1.0
window = 5

[[fields]]
name = "load"
max = 1e6

[[fields]]
name = "mode"
kind = "categorical"
vocabulary = ["slow", "fast"]

[[fields]]
name = "sent"
kind = "counter"
"""


@pytest.fixture
def stream(tmp_path: Path) -> StreamDefinition:
    path = tmp_path / "streams" / "demo.toml"
    path.parent.mkdir()
    path.write_text(DEFINITION)
    return load_stream(path)


@pytest.fixture
async def settings(kafka, topic_prefix: str, unique: str, stream: StreamDefinition, tmp_path: Path) -> Settings:
    settings = make_settings(
        kafka.bootstrap,
        topics={"prefix": topic_prefix},
        app_id=unique,
        archive={"dir": tmp_path / "archive", "flush_seconds": 0.2},
        streams_dir=tmp_path / "streams",
    )
    async with admin_client(settings) as admin:
        await create_topics(admin, catalogue(topic_prefix, PARTITIONS, streams=[stream]))
    return settings


def expected(begin: float, seconds: int, sites: int = 4) -> pl.DataFrame:
    """Samples of some sites, some without the optional part, words and missing values among them."""
    rows = [
        {
            "ts": begin + second,
            "site": f"s/{i}",
            "id": None if i == 0 else f"n{i}",
            "load": None if (second + i) % 7 == 0 else second + i / 8,
            "mode": None if second % 5 == 0 else ("slow", "fast")[(second + i) % 2],
            "sent": float(10 * second),
        }
        for second in range(seconds)
        for i in range(sites)
    ]
    return pl.DataFrame(rows, schema=dict(columns_of()))


def columns_of() -> dict[str, Any]:
    text, number = pl.String(), pl.Float64()
    return {"ts": number, "site": text, "id": text, "load": number, "mode": text, "sent": number}


async def send(settings: Settings, stream: StreamDefinition, table: pl.DataFrame, *, bad: int = 0) -> None:
    """Send each row as a record, and some that are no samples."""
    topic = source_topic(settings, stream)
    rows: dict[int, list[Any]] = {p: [] for p in range(PARTITIONS)}
    for row in table.iter_rows(named=True):
        values = {name: row[name] for name in stream.field_names}
        key, value = encode_sample(stream, {p: row[p] for p in stream.entity}, row["ts"], values)
        rows[key_hash(key) % PARTITIONS].append((key, value, [], round(row["ts"] * 1000)))
    for number in range(bad):
        rows[number % PARTITIONS].append((b"x", b'{"site": "s", "ts": "never"}', [], round(table["ts"][-1] * 1000)))
    async with producer_client(settings) as producer:
        await write_rows(producer, topic, rows)


def same(found: pl.DataFrame, wanted: pl.DataFrame) -> None:
    order = ["ts", "site", "id"]
    assert found.sort(order).equals(wanted.sort(order)), (found.sort(order), wanted.sort(order))


async def test_recent_telemetry_is_what_was_sent(settings: Settings, stream: StreamDefinition) -> None:
    begin = float(int(time.time()) - 1000)
    table = expected(begin, 900)
    await send(settings, stream, table, bad=2)
    await send(settings, stream, table.head(40).with_columns(load=pl.lit(5.0)))  # the first of two samples wins
    frame = {"site": "s/9", "ts": [begin + 1, begin + 2, "never"], "load": [1.5, 2.5, 3.5], "mode": "fast"}
    async with producer_client(settings) as producer:
        await producer.send_and_wait(source_topic(settings, stream), msgspec.json.encode(frame), b"s%2F9")
    framed = pl.DataFrame(
        {"ts": [begin + 1, begin + 2], "site": "s/9", "id": None, "load": [1.5, 2.5], "mode": "fast", "sent": None},
        schema=dict(columns_of()),
    )
    told: list[tuple[int, int]] = []
    found = await collect_telemetry(settings, stream, begin, lambda *at: told.append(at), spill_rows=500)
    assert found.table.schema == pl.Schema(columns(stream))
    same(found.table, pl.concat([table, framed]))
    assert (found.samples, found.invalid, found.repeated, found.outside) == (3600 + 2 + 40 + 3, 3, 40, 0)
    assert told[-1] == (3643, 3643)
    assert found.table["ts"].is_sorted()

    later = await recent_telemetry(settings, stream, begin + 300, until=begin + 500)
    same(later, table.filter(pl.col("ts").is_between(begin + 300, begin + 500)))


async def test_an_empty_topic_is_an_empty_table(settings: Settings, stream: StreamDefinition) -> None:
    found = await recent_telemetry(settings, stream, 0.0)
    assert len(found) == 0
    assert found.schema == pl.Schema(columns(stream))


async def test_alerts_and_feedback_of_a_stream(settings: Settings) -> None:
    mine, other = alert("a", 1_700_000_000.0), alert("a", 1_700_000_000.0, stream="other")
    async with producer_client(settings) as producer:
        for message in (mine, other):
            await producer.send_and_wait(settings.topics.prefix + "anomalies", msgspec.json.encode(message), b"k")
        await producer.send_and_wait(settings.topics.prefix + "anomalies", b"{}", b"k")
        no_time = msgspec.structs.replace(mine, starts_at="yesterday")
        await producer.send_and_wait(settings.topics.prefix + "anomalies", msgspec.json.encode(no_time), b"k")
        alice, eve = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        for said, signed_by in (
            (judged("true", mine), None),
            (judged("false", other), None),
            (judged("false", mine, 1), ("alice", alice)),
            (judged("true", mine, 2), ("alice", eve)),
        ):
            key, value, headers = build_feedback(said, signed_by)
            await producer.send_and_wait(settings.topics.prefix + "feedback", value, key, headers=headers)
    alerts, feedback = await judgements(settings, "demo")
    assert alerts == [mine]
    assert sorted(said.verdict for said in feedback) == ["false", "true", "true"]
    keys = FeedbackSettings(keys={"alice": public_text(alice)})
    _, signed = await judgements(settings.model_copy(update={"feedback": keys}), "demo")
    assert [said.verdict for said in signed] == ["false"]


async def test_the_archive_holds_what_was_sent_and_reads_on_where_it_was(
    settings: Settings, stream: StreamDefinition
) -> None:
    begin = 1_700_000_000.0 - 1_700_000_000.0 % 3600 + 3600 - 300  # 300 s before a full hour
    table = expected(begin, 600)
    await send(settings, stream, table, bad=3)
    first = await Archiver(settings, stream).run(asyncio.Event(), once=True)
    assert (first.samples, first.invalid, first.records) == (2400, 3, 2403)
    more = expected(begin + 600, 60)
    await send(settings, stream, more)
    second = await Archiver(settings, stream).run(asyncio.Event(), once=True)
    assert (second.samples, second.invalid) == (240, 0)
    same(read_archive(settings.archive.dir, stream), pl.concat([table, more]))
    hours = {path.name[:2] for path in settings.archive.dir.glob("demo/date=*/*.parquet")}
    assert len(hours) == 2
    part = read_archive(settings.archive.dir, stream, begin + 200, begin + 400)
    same(part, table.filter(pl.col("ts").is_between(begin + 200, begin + 400)))


@pytest.mark.slow
async def test_an_archiver_that_is_killed_loses_nothing_and_doubles_nothing(
    settings: Settings, stream: StreamDefinition, tmp_path: Path
) -> None:
    begin = 1_700_000_000.0
    parts = [expected(begin + 200 * i, 200) for i in range(6)]
    environment = {
        **os.environ,
        "DWCP_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "DWCP_KAFKA__SESSION_TIMEOUT": "6",
        "DWCP_TOPICS__PREFIX": settings.topics.prefix,
        "DWCP_APP_ID": settings.app_id,
        "DWCP_STREAMS_DIR": str(settings.streams_dir),
        "DWCP_ARCHIVE__DIR": str(settings.archive.dir),
        "DWCP_ARCHIVE__FLUSH_SECONDS": "0.05",
        "DWCP_LOG__LEVEL": "info",
    }
    log = tmp_path / "archive.log"

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "dwcp_stream", "archive", "demo"], env=environment, stdout=out, stderr=out
            )

    def archived() -> int:
        return len(read_archive(settings.archive.dir, stream)) if settings.archive.dir.is_dir() else 0

    rng = np.random.default_rng(0)
    sent = 0
    process = start()
    try:
        for i, part in enumerate(parts):
            await send(settings, stream, part)
            sent += len(part)
            if i % 2 == 0:  # kill it at any moment of reading, writing or committing
                wanted = sent - int(rng.integers(0, len(part)))
                await wait_until(lambda: archived() >= wanted, lambda: f"{wanted} samples\n{log.read_text()}")  # noqa: B023
                process.kill()
                process.wait()
                process = start()
        await wait_until(lambda: archived() >= sent, lambda: f"all samples\n{log.read_text()}")
        process.send_signal(signal.SIGTERM)
        await wait_until(lambda: process.poll() is not None, lambda: f"an end after TERM\n{log.read_text()}")
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
    same(read_archive(settings.archive.dir, stream), pl.concat(parts))
    rest = await Archiver(settings, stream).run(asyncio.Event(), once=True)
    assert rest.records == 0  # a TERM commits what it has written


async def test_what_was_written_and_not_committed_is_written_again_and_read_once(
    settings: Settings, stream: StreamDefinition
) -> None:
    class DiesBeforeItCommits(Archiver):
        async def _commit(self, offsets: dict[Any, int]) -> None:
            raise ConnectionResetError("gone")

    table = expected(1_700_000_000.0, 50)
    await send(settings, stream, table)
    with pytest.raises(ConnectionResetError):
        await DiesBeforeItCommits(settings, stream).run(asyncio.Event(), once=True)
    again = await Archiver(settings, stream).run(asyncio.Event(), once=True)
    assert again.samples == len(table)
    on_disk = [pl.read_parquet(path) for path in settings.archive.dir.glob("demo/date=*/*.parquet")]
    assert sum(map(len, on_disk)) == 2 * len(table)
    same(read_archive(settings.archive.dir, stream), table)


@pytest.mark.slow
async def test_archivers_that_come_and_go_share_the_partitions(settings: Settings, stream: StreamDefinition) -> None:
    begin = 1_700_000_000.0
    parts = [expected(begin + 100 * i, 100) for i in range(3)]
    stops = [asyncio.Event(), asyncio.Event()]
    archivers = [Archiver(settings, stream), Archiver(settings, stream)]

    def archived() -> int:
        return len(read_archive(settings.archive.dir, stream)) if settings.archive.dir.is_dir() else 0

    async def arrives(number: int) -> None:
        await send(settings, stream, parts[number])
        wanted = sum(map(len, parts[: number + 1]))
        await wait_until(lambda: archived() >= wanted, f"{wanted} samples", every=0.2)

    first = asyncio.create_task(archivers[0].run(stops[0]))
    await arrives(0)
    second = asyncio.create_task(archivers[1].run(stops[1]))
    await wait_until(lambda: bool(archivers[1].partitions), "partitions for the second")
    await arrives(1)
    assert archivers[0].partitions
    assert not archivers[0].partitions & archivers[1].partitions
    stops[0].set()
    await first
    await wait_until(lambda: len(archivers[1].partitions) == PARTITIONS, "all partitions for the second")
    await arrives(2)
    stops[1].set()
    await second
    same(read_archive(settings.archive.dir, stream), pl.concat(parts))
    assert sum(archiver.done.samples for archiver in archivers) == sum(map(len, parts))  # handed over, not read again
