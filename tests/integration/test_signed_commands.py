"""Signed commands through Kafka to running workers: each obeys once, and counts what it refuses."""

import asyncio
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dwcp_stream.control import Action, Command, Promote, Retrain, Rollback, SetLogLevel, Shadow, Signed, Split, sign
from dwcp_stream.kafka.control import send_command
from dwcp_stream.keys import public_text
from dwcp_stream.registry.aliases import read_aliases
from dwcp_stream.registry.history import read_history
from dwcp_stream.registry.promotion import promote
from dwcp_stream.registry.repository import ModelRepository
from dwcp_stream.registry.signatures import sign_version
from tests.integration import probe
from tests.integration.harness import wait_until
from tests.integration.workers import Run, Site, WorkerProcess

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

ALICE, MALLORY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
METRIC = "dwcp_control_commands_total"


def signed(action: Action, key: Ed25519PrivateKey = ALICE, **other) -> Signed:
    until = datetime.now(UTC) + timedelta(minutes=5)
    values = {"key_id": "alice", "audience": "*", "sequence": time.time_ns(), "not_after": until} | other
    return sign(Command(action=action, **values), key)


async def commanded_run(site: Site) -> Run:
    await site.create()
    keys = msgspec.json.encode({"alice": public_text(ALICE)}).decode()
    return await site.run(DWCP_CONTROL__KEYS=keys, DWCP_MODELS_INTERVAL="0.05")


async def counted(run: Run, worker: WorkerProcess, **outcomes: int) -> None:
    """Wait until a worker has counted this, and nothing else."""
    found: dict[str, int] = {}

    async def check() -> bool:
        nonlocal found
        assert worker.running, worker.tail()
        _, body = await worker.get("/metrics")
        series = re.findall(rf'^{METRIC}{{outcome="(\w+)",stream="probe"}} (\S+)$', body, re.MULTILINE)
        found = {word: int(float(number)) for word, number in series if float(number)}
        return found == outcomes

    await wait_until(check, lambda: f"{outcomes}, there are {found}\n{run.logs()}")


def champion(models: Path) -> int | None:
    return read_aliases(models).get(probe.MODEL, {}).get("champion")


async def test_workers_obey_once_and_refuse_the_rest(site) -> None:
    run, models = await commanded_run(site), site.directory / "models"
    assert probe.publish_model(models, site.stream, factor=1.5, alias=None) == 2
    workers = [run.start(), run.start()]
    for worker in workers:
        await run.ready(worker)
    good = signed(Promote(probe.MODEL, 2), reason="better")
    offset = await send_command(run.settings, good)
    for worker in workers:
        await counted(run, worker, applied=1)

    async def serving() -> bool:
        return all([f"{probe.MODEL} v2" in (await worker.get("/health/ready"))[1] for worker in workers])

    await wait_until(serving, lambda: f"version 2 loaded\n{run.logs()}")
    (_, *moves) = read_history(models)
    assert [(m.alias, m.before, m.version, m.reason) for m in moves] == [
        ("champion", 1, 2, "better"),
        ("last_good", None, 1, "better"),
    ], "two workers that share a repository move it once"
    assert {m.by for m in moves} == {f"alice ({run.topic('control')} {offset})"}

    await send_command(run.settings, good)
    await send_command(run.settings, signed(Rollback(probe.MODEL, 2), MALLORY))
    await send_command(run.settings, signed(Rollback(probe.MODEL, 2))._replace(headers=[]))
    await send_command(run.settings, signed(Rollback(probe.MODEL, 2), audience="elsewhere"))
    await send_command(run.settings, signed(Rollback(probe.MODEL, 2), not_after=datetime(2026, 1, 1, tzinfo=UTC)))
    await send_command(run.settings, signed(Promote(probe.MODEL, 3)))
    await send_command(run.settings, signed(Promote("of-another-stream", 3)))
    refused = {"replayed": 1, "bad_signature": 1, "unsigned": 1, "foreign": 1, "expired": 1, "failed": 1, "ignored": 1}
    for worker in workers:
        await counted(run, worker, applied=1, **refused)
    assert champion(models) == 2
    for word in ("no version 3", "is not after", "is not that of 'alice'"):
        assert word in workers[0].log.read_text(), word

    await send_command(run.settings, signed(Rollback(probe.MODEL, 2)))
    for worker in workers:
        await counted(run, worker, applied=2, **refused)
    assert champion(models) == 1


async def test_workers_move_the_arms_and_leave_training_to_the_trainer(site) -> None:
    run, models = await commanded_run(site), site.directory / "models"
    for factor in (1.5, 2.0):
        probe.publish_model(models, site.stream, factor=factor, alias=None)
    repository = ModelRepository(models)
    worker = run.start()
    await run.ready(worker)
    for action in (Shadow(probe.MODEL, 2), Split(probe.MODEL, 3, 10), Retrain(probe.MODEL)):
        await send_command(run.settings, signed(action, reason="try"))
    await counted(run, worker, applied=2, ignored=1)
    assert repository.aliases(probe.MODEL) == {"champion": 1, "challenger": 3, "shadow": 2}
    assert repository.share(probe.MODEL) == 10
    assert '"change": "none with 0% to 3 with 10%"' in worker.log.read_text()
    for action in (Shadow(probe.MODEL, 1), Split(probe.MODEL, None, 0), Shadow(probe.MODEL, None)):
        await send_command(run.settings, signed(action))
    await counted(run, worker, applied=4, ignored=1, failed=1)
    assert repository.aliases(probe.MODEL) == {"champion": 1}
    assert "is champion" in worker.log.read_text()


async def test_a_worker_that_starts_later_repeats_nothing_but_what_still_holds(site) -> None:
    run, models = await commanded_run(site), site.directory / "models"
    probe.publish_model(models, site.stream, factor=1.5, alias=None)
    first = run.start()
    await run.ready(first)
    again = signed(Promote(probe.MODEL, 2))
    for command in (
        again,
        signed(SetLogLevel("error")),
        signed(Rollback(probe.MODEL, 2)),
        signed(SetLogLevel("debug")),
    ):
        await send_command(run.settings, command)
    await counted(run, first, applied=4)
    assert '"action": "log-level debug"' in first.log.read_text(), "told at any level"
    await first.terminate()
    promote(ModelRepository(models), probe.MODEL, 2, site.stream)

    second = run.start(DWCP_LOG__LEVEL="warning")
    await counted(run, second, applied=1, past=3)
    await send_command(run.settings, again)
    await counted(run, second, applied=1, past=3, replayed=1)
    assert champion(models) == 2, "the rollback of before is not done again"
    assert '"change": "warning to debug"' in second.log.read_text()


async def test_only_what_somebody_has_signed_is_promoted_or_served(site) -> None:
    await site.create()
    keys = msgspec.json.encode({"alice": public_text(ALICE)}).decode()
    run = await site.run(DWCP_CONTROL__KEYS=keys, DWCP_MODEL_KEYS=keys, DWCP_MODELS_INTERVAL="0.05")
    models = site.directory / "models"
    worker = run.start()
    await wait_until(lambda: not worker.running, lambda: f"a worker with an unsigned champion ends\n{worker.tail()}")
    assert "is not signed" in worker.tail()

    sign_version(models, probe.MODEL, 1, "alice", ALICE)
    probe.publish_model(models, site.stream, factor=1.5, alias=None)
    worker = run.start()
    await run.ready(worker)
    await send_command(run.settings, signed(Promote(probe.MODEL, 2)))
    await counted(run, worker, failed=1)
    sign_version(models, probe.MODEL, 2, "alice", ALICE)
    await send_command(run.settings, signed(Promote(probe.MODEL, 2)))
    await counted(run, worker, failed=1, applied=1)
    assert champion(models) == 2

    async def serving() -> bool:
        return f"{probe.MODEL} v2" in (await worker.get("/health/ready"))[1]

    await wait_until(serving, lambda: f"version 2 loaded\n{run.logs()}")


async def test_commands_are_heard_again_after_a_broker_that_was_killed(own_kafka, tmp_path, unique) -> None:
    site = Site(own_kafka.bootstrap, tmp_path, unique)
    try:
        run, models = await commanded_run(site), site.directory / "models"
        probe.publish_model(models, site.stream, factor=1.5, alias=None)
        worker = run.start()
        await run.ready(worker)
        first = signed(SetLogLevel("debug"))
        await send_command(run.settings, first)
        await counted(run, worker, applied=1)
        await asyncio.to_thread(own_kafka.kill)
        await asyncio.to_thread(own_kafka.start)
        await send_command(run.settings, first)
        await send_command(run.settings, signed(Promote(probe.MODEL, 2)))
        await counted(run, worker, applied=2, replayed=1)
        assert champion(models) == 2
    finally:
        site.stop()
