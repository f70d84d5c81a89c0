"""Replaying files into a real broker."""

import time
from collections import defaultdict

import msgspec
import polars as pl
import pytest

from dwcp_stream.errors import BrokerError
from dwcp_stream.kafka.catalogue import TopicSpec
from dwcp_stream.kafka.inspection import source_topic
from dwcp_stream.kafka.producer import key_hash
from dwcp_stream.kafka.replay import read_files, replay
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.streams import Field, StreamDefinition
from tests.integration.harness import make_settings, read_topic

pytestmark = pytest.mark.kafka

STREAM = StreamDefinition(
    name="demo", topic="telemetry", entity=("site", "id"), step=1.0, window=5, fields=(Field(name="load"),)
)
EPOCH = 1_700_000_000.0


@pytest.fixture
async def settings(kafka, topic_prefix):
    settings = make_settings(kafka.bootstrap, topics={"prefix": topic_prefix})
    async with admin_client(settings) as admin:
        await create_topics(admin, [TopicSpec(source_topic(settings, STREAM), 3, "entity", "")])
    return settings


@pytest.fixture
def table(tmp_path):
    steps, sites = 400, ("a b", "c/d", "é")
    rows = [(EPOCH + s, site, f"n{n}", s + n / 8) for s in range(steps) for site in sites for n in range(5)]
    path = tmp_path / "data.csv.gz"
    pl.DataFrame(rows, schema=["ts", "site", "id", "load"], orient="row").write_csv(
        path, compression="gzip", check_extension=False
    )
    return read_files([path], STREAM)


async def sent(settings) -> list:
    return await read_topic(settings, source_topic(settings, STREAM))


async def test_every_sample_arrives_once_keyed_by_entity_in_the_files_order(settings, table) -> None:
    done = []
    result = await replay(settings, STREAM, table, advance=done.append)
    records = await sent(settings)
    assert result.sent == sum(done) == len(records) == len(table) == 6_000
    assert (result.entities, result.first_ts, result.last_ts) == (15, EPOCH, EPOCH + 399)
    by_entity = defaultdict(list)
    for record in records:
        sample = msgspec.json.decode(record.value)
        by_entity[record.key.decode()].append((sample["ts"], sample["load"]))
        assert record.partition == key_hash(record.key) % 3
    assert set(by_entity) == {f"{s}/n{n}" for s in ("a%20b", "c%2Fd", "%C3%A9") for n in range(5)}
    for entity, samples in by_entity.items():
        assert samples == [(EPOCH + s, s + int(entity[-1]) / 8) for s in range(400)]


async def test_record_timestamps_are_the_time_of_sending_or_the_samples_own(settings, table) -> None:
    before = time.time()
    await replay(settings, STREAM, table, limit=10)
    after = time.time()
    await replay(settings, STREAM, table, limit=10, stamp="sample")
    records = await sent(settings)
    own = {r.timestamp for r in records if msgspec.json.decode(r.value)["ts"] * 1000 == r.timestamp}
    now = [r.timestamp for r in records if r.timestamp not in own]
    assert len(now) == 10
    assert all(int(before * 1000) <= t <= after * 1000 + 1 for t in now)
    assert len(records) - len(now) == 10


@pytest.mark.parametrize("end", ["first", "last"])
async def test_samples_can_be_moved_to_now(settings, table, end) -> None:
    before = time.time()
    result = await replay(settings, STREAM, table, shift_to_now=end)
    after = time.time()
    moved = result.first_ts if end == "first" else result.last_ts
    assert before <= moved <= after
    assert result.last_ts - result.first_ts == pytest.approx(399)
    times = [msgspec.json.decode(r.value)["ts"] for r in await sent(settings)]
    assert (min(times), max(times)) == (result.first_ts, result.last_ts)


async def test_a_pace_is_kept(settings, table) -> None:
    result = await replay(settings, STREAM, table.head(15 * 11), speed=20.0)
    assert result.seconds >= 10 / 20
    stamps = {}
    for record in await sent(settings):
        ts = msgspec.json.decode(record.value)["ts"] - EPOCH
        stamps[ts] = min(stamps.get(ts, record.timestamp), record.timestamp)
    assert len(stamps) == 11
    assert [stamps[ts] for ts in sorted(stamps)] == sorted(stamps.values())


async def test_a_topic_that_is_missing_is_an_error_with_the_remedy(kafka, topic_prefix, table) -> None:
    settings = make_settings(kafka.bootstrap, kafka={"request_timeout": 2.0}, topics={"prefix": topic_prefix})
    with pytest.raises(BrokerError, match=r"telemetry: does not exist\. Run: dwcp-stream topics create"):
        await replay(settings, STREAM, table)
