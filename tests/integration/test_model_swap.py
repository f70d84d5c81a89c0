"""Versions of models that change while a worker runs, and what a crash around the change does: nothing."""

import msgspec
import pytest

from dwcp_stream.activations import Schedule
from dwcp_stream.registry import ModelRepository
from tests.integration import probe
from tests.integration.harness import read_topic, wait_until
from tests.integration.probe import Telemetry
from tests.integration.swaps import (
    alerts,
    assert_as_undisturbed,
    publish,
    schedules_written,
)
from tests.integration.workers import PARTITIONS, Run, WorkerProcess

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


async def planned(run: Run, worker: WorkerProcess, version: int) -> dict[int, Schedule]:
    """Wait until every partition's schedule ends with a version."""
    found: dict[int, Schedule] = {}

    async def check() -> bool:
        nonlocal found
        assert worker.running, worker.tail()
        found = {partition: schedules[-1] for partition, schedules in (await schedules_written(run)).items()}
        return len(found) == PARTITIONS and all(schedule[-1].version == version for schedule in found.values())

    await wait_until(check, lambda: f"activations of version {version}\n{worker.tail()}", every=0.0)
    return found


async def alerting(run: Run, worker: WorkerProcess, version: int) -> None:
    """Wait until a version has raised alerts."""

    async def check() -> bool:
        assert worker.running, worker.tail()
        return any(alert["model_version"] == version for alert in await alerts(run))

    await wait_until(check, lambda: f"alerts of version {version}\n{worker.tail()}", every=0.0)


async def test_killed_before_and_after_a_swap(site) -> None:
    """Three versions, a kill on each side of two activations, and the alias elsewhere whenever a worker starts."""
    telemetry = Telemetry(200, 700)
    await site.create()
    await site.write(telemetry, 0, 400)
    run = await site.run(DWCP_MAX_POLL_RECORDS="200", DWCP_MODELS_INTERVAL="0.05", DWCP_CHECKPOINT_INTERVAL="0.2")
    first = run.start()
    await alerting(run, first, 1)
    assert publish(site, factor=1.2) == 2
    schedules = await planned(run, first, 2)
    first.kill()
    committed = {tp.partition: offset for tp, offset in (await run.committed()).items()}
    second_from = {p: s[-1].offset for p, s in schedules.items()}
    assert any(committed.get(p, 0) < at for p, at in second_from.items()), "it was killed too late to show anything"

    assert publish(site, remembers=True) == 3
    second = run.start(DWCP_CHECKPOINT_INTERVAL="60")
    schedules = await planned(run, second, 3)
    ends = {tp.partition: end for tp, end in (await run.ends(site.source)).items()}
    third_from = {p: max(end, second_from[p]) for p, end in ends.items()}
    planned_from = {p: s[-1].offset for p, s in schedules.items()}
    assert planned_from == third_from, "what was in the log may have been scored already"
    await site.write(telemetry, 400)
    await alerting(run, second, 3)
    second.kill()
    assert await run.lag() > sum((await run.ends(site.source)).values()) / 3, "both swaps are to be repeated"

    ModelRepository(site.directory / "models").set_alias(probe.MODEL, "champion", 1)
    run.start()
    await run.caught_up()
    await planned(run, run.workers[-1], 1)
    run.stop_all()
    await assert_as_undisturbed(site, run)
    seen = await alerts(run)
    assert {alert["model_version"] for alert in seen} == {1, 2, 3}
    assert (await run.final()).transitions == telemetry.transitions()


async def test_two_workers_swap_each_at_offsets_of_its_own(site) -> None:
    """Both die before a checkpoint; a third scores all of it again, each sample by the version that scored it first."""
    telemetry = Telemetry(100, 200)
    await site.create()
    run = await site.run(DWCP_MODELS_INTERVAL="0.05", DWCP_CHECKPOINT_INTERVAL="60")
    first, second = run.start(), run.start()
    for worker in (first, second):
        await wait_until(
            lambda w=worker: holds(w, PARTITIONS // 2), lambda w=worker: f"its share\n{w.tail()}", every=0.1
        )
    await site.write(telemetry, 0, 100)
    await alerting(run, first, 1)
    publish(site, factor=1.2)
    await planned(run, first, 2)
    await site.write(telemetry, 100)
    await alerting(run, second, 2)
    first.kill()
    second.kill()
    run.start(DWCP_CHECKPOINT_INTERVAL="0.3")
    await run.caught_up()
    run.stop_all()
    await assert_as_undisturbed(site, run)
    assert {alert["model_version"] for alert in await alerts(run)} == {1, 2}


async def holds(worker: WorkerProcess, partitions: int) -> bool:
    assert worker.running, worker.tail()
    status, _ = await worker.get("/metrics")
    return status == 200 and await worker.metric("dwcp_partitions_assigned") == partitions


async def news(run: Run) -> list[dict]:
    """What dwcp.models says, in order."""
    return [msgspec.json.decode(record.value) for record in await read_topic(run.settings, run.topic("models"))]


async def told(run: Run, worker: WorkerProcess, action: str, version: int) -> dict:
    found = []

    async def check() -> bool:
        assert worker.running, worker.tail()
        found[:] = [n for n in await news(run) if (n["action"], n["version"]) == (action, version)]
        return bool(found)

    await wait_until(check, lambda: f"version {version} {action}\n{worker.tail()}", every=0.05)
    return found[-1]


async def test_a_refused_version_keeps_the_one_before_and_is_told(site) -> None:
    telemetry = Telemetry(40, 300)
    models = site.directory / "models"
    await site.create()
    run = await site.run(DWCP_MODELS_INTERVAL="0.05")
    worker = run.start()
    assert (await told(run, worker, "loaded", 1))["alias"] == "champion"
    await site.write(telemetry, 0, 100)
    await run.caught_up()
    bad = publish(site, alias=None)
    (models / probe.MODEL / str(bad) / "model.onnx").write_bytes(b"not a model")
    ModelRepository(models).set_alias(probe.MODEL, "champion", bad)
    said = await told(run, worker, "refused", bad)
    assert (said["serving"], said["stream"], said["model"]) == (1, probe.STREAM, probe.MODEL)
    assert "model.onnx" in said["reason"]
    await site.write(telemetry, 100, 200)
    await run.caught_up()
    assert {alert["model_version"] for alert in await alerts(run)} == {1}
    assert await worker.metric("dwcp_model_refusals_total") == 1, "once, not at every look"
    assert await worker.metric("dwcp_pba_model_version") == 1
    assert await worker.metric("dwcp_model_swaps_total") == 0
    await run.ready(worker)

    good = publish(site, factor=1.2)
    await told(run, worker, "loaded", good)
    await planned(run, worker, good)
    await site.write(telemetry, 200)
    await run.caught_up()
    assert await worker.metric("dwcp_pba_model_version") == good
    assert await worker.metric("dwcp_model_swaps_total") == PARTITIONS
    assert good in {alert["model_version"] for alert in await alerts(run)}
    assert await worker.terminate() == 0, worker.tail()
    await assert_as_undisturbed(site, run)


async def test_a_version_that_is_gone_gives_way_and_is_told(site) -> None:
    telemetry = Telemetry(40, 200)
    models = site.directory / "models"
    await site.create()
    await site.write(telemetry, 0, 100)
    run = await site.run(DWCP_MODELS_INTERVAL="0.05")
    worker = run.start()
    await run.caught_up()
    worker.kill()
    publish(site)
    (models / probe.MODEL / "1").rename(site.directory / "moved-away")
    second = run.start()
    said = await told(run, second, "refused", 1)
    assert (said["serving"], said["alias"]) == (2, "")
    assert "there is no version 1" in said["reason"]
    await site.write(telemetry, 100)
    await run.caught_up()
    assert await second.terminate() == 0, second.tail()
    final = await run.final()
    assert final.transitions == telemetry.transitions()
    assert {alert["model_version"] for alert in final.alerts.values()} == {1, 2}


async def test_a_stream_without_a_version_is_watched_until_one_is_published(site) -> None:
    telemetry = Telemetry(40, 300)
    (site.directory / "models").rename(site.directory / "none-yet")
    await site.create()
    await site.write(telemetry, 0, 150)
    run = await site.run(DWCP_MODELS_INTERVAL="0.05")
    worker = run.start()
    assert (await told(run, worker, "loaded", 0))["model"] == probe.MODEL
    await run.caught_up()
    assert publish(site) == 1
    await told(run, worker, "loaded", 1)
    await planned(run, worker, 1)
    await site.write(telemetry, 150)
    await run.caught_up()
    assert await worker.metric("dwcp_model_swaps_total") == PARTITIONS
    assert await worker.terminate() == 0, worker.tail()
    await assert_as_undisturbed(site, run)
    assert 1 in {alert["model_version"] for alert in await alerts(run)}
    assert {alert["state"] for alert in await alerts(run) if alert["model_version"] == 0} <= {"degraded"}
