"""More partitions in mid-stream: the worker stops at it, the command brings the state along, crashes included."""

import asyncio
import json
import os
import sys
from contextlib import contextmanager

import msgspec
import pytest

from dwcp_stream.errors import BrokerError, StateError
from dwcp_stream.kafka import backlog
from dwcp_stream.kafka.backlog import MARK, Appended, append_backlog
from dwcp_stream.kafka.batches import write_rows
from dwcp_stream.kafka.clients import consumer_client, producer_client
from dwcp_stream.kafka.generations import OWN_KEYS, PARTITION_KEY, split_key
from dwcp_stream.kafka.producer import key_hash
from dwcp_stream.kafka.repartition import Names, repartition
from dwcp_stream.kafka.topics import add_partitions, admin_client, describe
from dwcp_stream.windows.snapshot import decode_partition_record
from dwcp_stream.windows.taken import WindowState
from tests.integration.harness import read_topic, wait_until
from tests.integration.probe import STREAM, Telemetry
from tests.integration.workers import PARTITIONS, Final, Run, Site

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

MORE = 6
TELEMETRY = Telemetry(300, 160)


@pytest.fixture
def twin(kafka, tmp_path, unique):
    """Another source, for the same samples without a migration."""
    site = Site(kafka.bootstrap, tmp_path / "twin", f"{unique}-twin")
    yield site
    site.stop()


async def write(site: Site, partitions: int, start: int, stop: int | None = None) -> None:
    async with producer_client(site.settings) as producer:
        await write_rows(producer, site.source, TELEMETRY.rows(partitions, start, stop))


async def command(run: Run, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dwcp_stream", "topics", "repartition", STREAM, *arguments, "--json",
        env={**os.environ, **run.environment}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return int(process.returncode or 0), out.decode(), err.decode()


async def undisturbed(twin: Site) -> Final:
    await twin.create()
    await write(twin, PARTITIONS, 0)
    return await twin.reference()


def assert_same_but_for_offsets(run: Final, reference: Final) -> None:
    """Windows but for the offset applied, alerts' state, alerts and ids are equal."""

    def plain(final: Final) -> dict[str, WindowState]:
        states = {e: msgspec.msgpack.decode(w, type=WindowState) for e, w in final.windows.items()}
        return {e: msgspec.structs.replace(s, applied=0) for e, s in states.items()}

    ours, theirs = plain(run), plain(reference)
    assert ours.keys() == theirs.keys()
    assert [e for e in theirs if ours[e] != theirs[e]] == []
    assert [e for e in reference.parts if run.parts[e] != reference.parts[e]] == []
    assert run.alerts.keys() == reference.alerts.keys()
    assert run.alerts == reference.alerts
    assert run.repeats == 0, "nothing was scored twice"


async def assert_laid_out(run: Run) -> None:
    """Every entity's state is on the partition of its key, once, and no partition is without a record."""
    records = await read_topic(run.settings, run.changelog)
    newest = {(r.partition, r.key): r.value for r in records}
    homes, positions = {}, {}
    for (partition, key), value in newest.items():
        name, _ = split_key(key)
        if value is None:
            continue
        if name == PARTITION_KEY:
            positions[partition] = decode_partition_record(value)
        elif name not in OWN_KEYS:
            homes.setdefault(name, set()).add(partition)
    assert sorted(positions) == list(range(MORE))
    assert homes == {e: {key_hash(e.encode()) % MORE} for e in homes}
    assert len(homes) == TELEMETRY.entities


async def test_a_worker_stops_at_added_partitions_and_the_command_it_names_brings_the_state_along(site, twin) -> None:
    await site.create()
    await write(site, PARTITIONS, 0, 70)
    run = await site.run()
    worker = run.start()
    await run.caught_up()
    async with admin_client(run.settings) as admin:
        await add_partitions(admin, site.source, MORE)

    async def unready() -> bool:
        status, body = await worker.get("/health/ready")
        return status == 503 and f"dwcp-stream topics repartition {STREAM} --partitions {MORE}" in body

    await wait_until(unready, lambda: f"a worker that is not ready and says what to do\n{worker.tail()}")
    committed, written = await run.committed(), await run.ends(run.changelog)
    await write(site, MORE, 70, 120)
    fresh = await run.lag()

    async def seen() -> bool:
        return 0 < await worker.metric("dwcp_consumer_lag") <= fresh

    await wait_until(seen, lambda: f"the worker has heard of the new records\n{worker.tail()}")
    code, out, _ = await command(run, "--partitions", str(MORE))
    assert code == 1
    assert "workers of the stream run" in json.loads(out)["error"]["what"]
    assert await worker.terminate() == 0, worker.tail()
    assert (await run.committed(), await run.ends(run.changelog)) == (committed, written)
    refused = run.start()
    await wait_until(lambda: not refused.running, lambda: f"a worker that refuses to start\n{refused.tail()}")
    assert refused.process.returncode == 1
    assert f"dwcp-stream topics repartition {STREAM} --partitions {MORE}" in refused.tail()

    code, out, err = await command(run, "--partitions", str(MORE), "--dry-run")
    assert code == 0, err
    planned = json.loads(out)
    assert (await run.committed(), await run.ends(run.changelog)) == (committed, written)
    code, out, err = await command(run, "--partitions", str(MORE))
    assert code == 0, err
    done = json.loads(out)
    for name in ("entities", "moved", "backlog", "partitions_before", "partitions"):
        assert done[name] == planned[name]
    assert (done["entities"], done["backlog"], done["partitions_before"]) == (TELEMETRY.entities, fresh, PARTITIONS)
    assert 0 < done["moved"] < TELEMETRY.entities

    run.start()
    await write(site, MORE, 120)
    final = await run.finish()
    await assert_laid_out(run)
    assert_same_but_for_offsets(final, await undisturbed(twin))
    assert final.transitions == TELEMETRY.transitions()
    code, out, err = await command(run, "--partitions", str(MORE), "--delete-copy")
    assert code == 0, err
    assert json.loads(out)["copy_deleted"] is True


async def test_a_worker_that_is_given_an_added_partition_ends_with_what_to_do(site) -> None:
    await site.create()
    await write(site, PARTITIONS, 0, 30)
    run = await site.run()
    worker = run.start(CONSUMER_METADATA_MAX_AGE_MS="1000")  # Faust's own setting; else it takes five minutes
    await run.caught_up()
    committed, written = await run.committed(), await run.ends(run.changelog)
    async with admin_client(run.settings) as admin:
        await add_partitions(admin, site.source, MORE)
    await wait_until(lambda: not worker.running, lambda: f"a worker that ends\n{worker.tail()}")
    assert worker.process.returncode == 1, worker.tail()
    assert f"dwcp-stream topics repartition {STREAM} --partitions" in worker.tail()
    assert (await run.committed(), await run.ends(run.changelog)) == (committed, written)


async def test_a_sender_that_writes_in_between_is_noticed_and_its_record_taken_next_time(site, monkeypatch) -> None:
    monkeypatch.setattr(backlog, "PORTION", 500)
    await site.create()
    await write(site, PARTITIONS, 0, 20)
    written = await read_topic(site.settings, site.source)
    key, late = written[0].key, b"written in between"
    async with (
        admin_client(site.settings) as admin,
        producer_client(site.settings) as producer,
        consumer_client(site.settings, fetch_max_wait_ms=20) as consumer,
    ):
        await add_partitions(admin, site.source, MORE)
        sending: list[asyncio.Task] = []

        def intrude(_: float) -> None:
            if not sending:
                sending.append(asyncio.create_task(producer.send_and_wait(site.source, late, key=key, partition=0)))

        async def append(advance) -> Appended:
            return await append_backlog(
                consumer, producer, site.source, [0] * MORE,
                before=PARTITIONS, migration="m", ahead={}, advance=advance,
            )  # fmt: skip

        with pytest.raises(BrokerError, match="somebody else writes into it"):
            await append(intrude)
        await asyncio.gather(*sending)
        done = await append(lambda _: None)
    records = await read_topic(site.settings, site.source)
    again = [r for r in records if r.offset >= done.positions[r.partition]]
    assert sum(done.counts) == len(again) == len(written) + 1
    assert all(key_hash(r.key) % MORE == r.partition for r in again)
    order = {k: [(r.value, r.timestamp) for r in written if r.key == k] for k in {r.key for r in written}}
    found = {k: [(r.value, r.timestamp) for r in again if r.key == k and r.value != late] for k in order}
    assert found == order, "order, bytes and timestamps of every entity"
    assert [r.value for r in again if r.key == key][-1] == late
    assert all(r.headers == ((MARK, b"m"),) for r in again)


class CrashError(Exception):
    """The migrating process dies."""


def crashing(at: str, after: float):
    """Stages of which one dies once it has advanced so far."""

    @contextmanager
    def stage(what, _total):
        reached = 0.0

        def advance(amount: float) -> None:
            nonlocal reached
            reached += amount
            if what == at and reached >= after:
                raise CrashError

        yield advance
        if what == at:
            raise CrashError

    return stage


async def test_a_migration_that_dies_at_every_step_goes_on_and_loses_nothing(site, twin, monkeypatch) -> None:
    monkeypatch.setattr(backlog, "PORTION", 500)
    monkeypatch.setattr("dwcp_stream.kafka.repartition.WRITTEN_AT_ONCE", 50)
    await site.create()
    await write(site, PARTITIONS, 0, 60)
    run = await site.run()
    first = run.start()
    await run.caught_up()
    first.kill()
    await write(site, PARTITIONS, 60, 110)  # nobody has processed these
    lag = await run.lag()
    names = Names(run.source, run.group, run.changelog, f"{run.group}-repartition")

    async def migrate(stage):
        return await repartition(run.settings, run.stream, names, MORE, stage)

    async def members_gone() -> bool:
        with pytest.raises((CrashError, BrokerError)) as caught:
            await migrate(crashing("save the state", 0))
        return caught.type is CrashError

    await wait_until(members_gone, "the killed worker's session to end", every=0.2)
    refused = run.start()
    await wait_until(lambda: not refused.running, lambda: f"a worker that refuses to start\n{refused.tail()}")
    assert "topics repartition" in refused.tail()
    for at, after in (
        ("read the state", 2),
        ("move telemetry that is not processed yet", lag / 2),
        ("move telemetry that is not processed yet", lag),
        ("write the state", 100),
        ("write the state", 1e9),
    ):
        with pytest.raises(CrashError):
            await migrate(crashing(at, after))
    with pytest.raises(StateError, match=f"a migration to {MORE} partitions was begun"):
        await repartition(run.settings, run.stream, names, MORE + 1, crashing("", 0))
    done = await migrate(crashing("", 0))
    assert done.resumed
    assert done.entities == TELEMETRY.entities
    async with admin_client(run.settings) as admin:
        topics = await describe(admin, [names.journal, names.changelog, done.copy, run.source])
    assert {n: t.partitions for n, t in topics.items()} == {
        names.changelog: MORE, done.copy: PARTITIONS, run.source: MORE,
    }  # fmt: skip
    assert await run.lag() == lag, "all of the backlog, once"
    run.start()
    await write(site, MORE, 110)
    final = await run.finish()
    await assert_laid_out(run)
    assert_same_but_for_offsets(final, await undisturbed(twin))
    assert final.transitions == TELEMETRY.transitions()
    moved = [r for r in await read_topic(run.settings, run.source) if any(h == MARK for h, _ in r.headers)]
    assert len(moved) > lag, "earlier attempts have left records that nobody reads"
