"""A challenger and a shadow beside a champion while workers run and die: each sample is told of by one arm, once."""

import msgspec
import pytest

from dwcp_stream.activations import NOTHING, Activation
from dwcp_stream.events import ArmScores
from dwcp_stream.registry.aliases import move_aliases
from dwcp_stream.split import draw
from tests.integration import probe
from tests.integration.harness import read_topic, wait_until
from tests.integration.probe import Telemetry
from tests.integration.swaps import activations, alerts, assert_as_undisturbed, publish, schedules_written
from tests.integration.workers import PARTITIONS, Run, Site, WorkerProcess

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

CHALLENGER, SHADOW, SHARE = (f"{probe.MODEL}@{line}" for line in ("challenger", "shadow", "share"))


async def planned(run: Run, worker: WorkerProcess, **lines: int) -> None:
    """Wait until on every partition the lines are to come to these versions."""
    wanted = {probe.MODEL if name == "champion" else f"{probe.MODEL}@{name}": v for name, v in lines.items()}

    async def check() -> bool:
        assert worker.running, worker.tail()
        found = await schedules_written(run)
        last = [{a.model: a.version for a in schedules[-1]} for schedules in found.values()]
        return len(last) == PARTITIONS and all(wanted.items() <= schedule.items() for schedule in last)

    await wait_until(check, lambda: f"{wanted}\n{worker.tail()}", every=0.05)


def move(site: Site, **moves: int | None) -> None:
    move_aliases(site.directory / "models", probe.MODEL, moves)


async def test_arms_through_crashes(site: Site) -> None:
    """Begun, shared, killed, promoted, killed: alerts, ids, versions and state are those of an undisturbed run."""
    telemetry = Telemetry(100, 600)
    assert publish(site, factor=0.6, alias=None) == 2
    assert publish(site, remembers=True, alias=None) == 3
    await site.create()
    run = await site.run(DWCP_MAX_POLL_RECORDS="200", DWCP_MODELS_INTERVAL="0.05", DWCP_CHECKPOINT_INTERVAL="0.2")
    first = run.start()
    await site.write(telemetry, 0, 100)
    move(site, challenger=2, share=50, shadow=3)
    await planned(run, first, champion=1, challenger=2, share=50, shadow=3)
    await site.write(telemetry, 100, 300)

    async def both() -> bool:
        assert first.running, first.tail()
        return {alert["model_version"] for alert in await alerts(run)} == {1, 2}

    await wait_until(both, lambda: f"alerts of both arms\n{first.tail()}", every=0.05)
    first.kill()

    move(site, challenger=None, shadow=None, champion=3)
    second = run.start(DWCP_CHECKPOINT_INTERVAL="60")
    await planned(run, second, champion=3, challenger=NOTHING, share=NOTHING, shadow=NOTHING)
    await site.write(telemetry, 300)

    async def promoted() -> bool:
        assert second.running, second.tail()
        return 3 in {alert["model_version"] for alert in await alerts(run)}

    await wait_until(promoted, lambda: f"alerts of version 3\n{second.tail()}", every=0.05)
    second.kill()
    third = run.start(DWCP_CHECKPOINT_INTERVAL="0.3")
    await run.caught_up()
    assert await third.terminate() == 0, third.tail()
    await assert_as_undisturbed(site, run)

    schedules = {p: activations(found) for p, found in (await schedules_written(run)).items()}
    for of_partition in schedules.values():
        shares = [a for a in of_partition.values() if a.model == SHARE and a.version == 50]
        assert shares, "the challenger served nobody there"
        assert Activation(0, CHALLENGER, NOTHING) in of_partition.values()
    by_two = {alert["entity"] for alert in await alerts(run) if alert["model_version"] == 2}
    assert by_two
    assert all(draw(f"{probe.MODEL}/2", entity) < 0.5 for entity in by_two)


async def test_scores_of_all_arms_are_on_the_accuracy_topic(site: Site) -> None:
    telemetry = Telemetry(40, 1300)  # two buckets of event time, and their ends
    assert publish(site, factor=0.6, alias=None) == 2
    move(site, shadow=2)
    await site.create()
    run = await site.run(DWCP_MODELS_INTERVAL="0.05")
    worker = run.start()
    await planned(run, worker, champion=1, shadow=2)
    await site.write(telemetry)
    await run.caught_up()
    assert await worker.terminate() == 0, worker.tail()
    records = await read_topic(run.settings, run.topic("accuracy"))
    assert {dict(r.headers)["ce_type"] for r in records} == {b"dwcp.accuracy.scores"}
    found = [msgspec.json.decode(r.value, type=ArmScores) for r in records]
    assert {(s.arm, s.version, s.champion) for s in found} == {("shadow", 2, 1)}
    assert {s.partition for s in found} == set(range(PARTITIONS))
    assert sum(s.only_arm for s in found) == 0 < sum(s.only_champion for s in found)
    assert {alert["model_version"] for alert in await alerts(run)} == {1}


async def test_a_contender_that_is_refused_serves_nobody_and_is_told(site: Site) -> None:
    telemetry = Telemetry(20, 100)
    assert publish(site, factor=0.6, alias=None) == 2
    graph = site.directory / "models" / probe.MODEL / "2" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    move(site, challenger=2, share=50)
    await site.create()
    run = await site.run(DWCP_MODELS_INTERVAL="0.05")
    worker = run.start()
    await site.write(telemetry)
    found = []

    async def refused() -> bool:
        assert worker.running, worker.tail()
        events = [msgspec.json.decode(r.value) for r in await read_topic(run.settings, run.topic("models"))]
        found[:] = [event for event in events if event["action"] == "refused"]
        return bool(found)

    await wait_until(refused, lambda: f"a refusal\n{worker.tail()}", every=0.05)
    assert (found[0]["alias"], found[0]["version"], found[0]["serving"]) == ("challenger", 2, 1)
    assert "SHA-256" in found[0]["reason"]
    await run.caught_up()
    assert await worker.metric("dwcp_model_refusals_total") == 1
    assert await worker.terminate() == 0, worker.tail()
    assert {alert["model_version"] for alert in await alerts(run)} == {1}
