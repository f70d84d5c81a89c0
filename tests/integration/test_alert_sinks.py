"""From samples with a fault to the webhook of a real Alertmanager, through kills of the sink and beside a dead sink."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from dwcp_stream.events import Alert
from dwcp_stream.kafka.alert_feed import AlertFeed, Transition
from dwcp_stream.kafka.batches import write_rows
from dwcp_stream.kafka.catalogue import catalogue
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.sinks import Ledger
from tests.integration.harness import make_settings, wait_until
from tests.integration.monitoring import Service, alertmanager, daemon, told
from tests.integration.probe import Telemetry, entity_name
from tests.integration.workers import Run, Site
from tests.kafka.broker import free_port
from tests.unit.sink_cases import Receiver, alert

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

SECRET = "t0k3n-that-must-not-be-seen"
ENTITIES = 3


def sink_of(run: Run, log: Path, manager: Service, hook: Receiver, dead: int) -> Service:
    """`dwcp-stream alert-sink` with an Alertmanager, a webhook, and one where nobody listens."""
    port = free_port()
    hooks = [
        {"name": "good", "url": f"{hook.url}/{SECRET}", "headers": {"X-Token": SECRET}},
        {"name": "dead", "url": f"http://127.0.0.1:{dead}/{SECRET}", "headers": {"X-Token": SECRET}},
    ]
    environment = {
        **run.environment,
        "DWCP_SINKS__ALERTMANAGER_URLS": json.dumps([manager.url]),
        "DWCP_SINKS__WEBHOOKS": json.dumps(hooks),
        "DWCP_SINKS__PORT": str(port),
        "DWCP_SINKS__RESEND_SECONDS": "1",
        "DWCP_SINKS__RESOLVE_SECONDS": "120",
        "DWCP_LOG__LEVEL": "debug",
        "PYTHONWARNINGS": "default",
    }
    return daemon(["alert-sink"], log, port, environment)


async def test_a_fault_reaches_alertmanagers_webhook_once_and_resolves(site: Site, tmp_path: Path) -> None:
    telemetry = Telemetry(ENTITIES, 60)
    names = [entity_name(number) for number in range(ENTITIES)]
    await site.create()
    run = await site.run()
    dead = free_port()
    async with Receiver() as people, Receiver() as hook:
        with (
            alertmanager(tmp_path / "am", people.url) as manager,
            sink_of(run, tmp_path / "sink.log", manager, hook, dead) as sink,
        ):
            run.start()
            await manager.up("/api/v2/status")

            def heard(status: str, severity: str) -> set[str]:
                found = told(people.bodies)
                return {labels["entity"] for word, labels in found if (word, labels["severity"]) == (status, severity)}

            def hooked() -> set[tuple[str, str]]:
                return {(body["entity"], body["action"]) for body in hook.bodies}

            def state() -> str:
                return f"{told(people.bodies)}\n{hooked()}\n{sink.log.read_text()[-3000:]}\n{run.logs()}"

            await site.write(telemetry, 0, 23)  # each has begun
            await wait_until(lambda: heard("firing", "warning") == set(names), state)
            await wait_until(lambda: hooked() == {(name, "firing") for name in names}, state)
            sink.kill()
            await site.write(telemetry, 23, 26)  # rises, while no sink is there
            await run.caught_up()
            sink.start()
            await wait_until(lambda: heard("firing", "critical") == set(names), state)
            await wait_until(lambda: heard("resolved", "warning") == set(names), state)
            await site.write(telemetry, 26, 60)  # over
            await wait_until(lambda: heard("resolved", "critical") == set(names), state)
            await wait_until(lambda: {(name, "resolved") for name in names} <= hooked(), state)

            async def values() -> dict[str, float]:
                lines = (await sink.get("/metrics")).splitlines()
                parted = [line.rpartition(" ") for line in lines if line[0] != "#"]
                return {name: float(value) for name, _, value in parted}

            async def nothing_waits() -> bool:
                return (await values())['dwcp_sink_lag{sink="good"}'] == 0

            await run.caught_up()  # the pipeline never waits for a sink
            await wait_until(nothing_waits, state, every=0.1)
            now = await values()
            assert now['dwcp_sink_up{sink="dead"}'] == 0
            assert now['dwcp_sink_retries_total{sink="dead"}'] > 0
            assert now['dwcp_sink_sent_total{sink="dead"}'] == 0
            assert (await sink.get("/health/live"))["ok"]
            assert (await sink.get("/health/ready"))["ok"]
            assert await sink.end() == 0

            count = Counter((status, labels["entity"], labels["severity"]) for status, labels in told(people.bodies))
            assert set(count.values()) == {1}, count
            assert len(count) == 4 * ENTITIES
            once = Counter((body["entity"], body["action"]) for body in hook.bodies)
            assert once == {(name, action): 1 for name in names for action in ("firing", "escalated", "resolved")}
            assert SECRET not in sink.log.read_text()


async def test_a_sink_that_is_new_tells_what_fires_and_not_what_is_over(site: Site, tmp_path: Path) -> None:
    telemetry = Telemetry(ENTITIES, 80)
    await site.create()
    run = await site.run()
    run.start()
    await site.write(telemetry, 0, 71)  # all have been over once; e00000 fires again from 70 on
    await run.caught_up()
    async with Receiver() as hook:
        port = free_port()
        environment = {
            **run.environment,
            "DWCP_SINKS__WEBHOOKS": json.dumps([{"name": "hook", "url": hook.url}]),
            "DWCP_SINKS__STALE_SECONDS": "0",
            "DWCP_SINKS__PORT": str(port),
        }
        with daemon(["alert-sink"], tmp_path / "sink.log", port, environment) as sink:
            await wait_until(lambda: bool(hook.bodies), lambda: sink.log.read_text()[-3000:])
            await site.write(telemetry, 71, 80)
            await wait_until(
                lambda: hook.bodies[-1]["action"] == "resolved" and len(hook.bodies) >= 3, lambda: str(hook.bodies)
            )
            begun = [body["entity"] for body in hook.bodies if body["action"] == "firing"]
            assert begun.count("e00000") == 1
            starts = {body["startsAt"] for body in hook.bodies if body["entity"] == "e00000"}
            assert starts == {"2023-11-14T22:14:30.000Z"}


async def test_one_sink_takes_over_from_another(site: Site, tmp_path: Path) -> None:
    telemetry = Telemetry(12, 60)
    await site.create()
    run = await site.run()
    async with Receiver() as hook:
        with contextlib.ExitStack() as stack:
            sinks = []
            for number in range(2):
                port = free_port()
                environment = {
                    **run.environment,
                    "DWCP_SINKS__WEBHOOKS": json.dumps([{"name": "hook", "url": hook.url}]),
                    "DWCP_SINKS__PORT": str(port),
                }
                sinks.append(
                    stack.enter_context(daemon(["alert-sink"], tmp_path / f"sink{number}.log", port, environment))
                )
            run.start()

            def share(sink: Service) -> list[list[int]]:
                lines = [json.loads(line) for line in sink.log.read_text().splitlines() if line[:1] == "{"]
                return [line["partitions"] for line in lines if line["event"] == "sink reads"]

            def both() -> bool:
                return all(share(sink) and 0 < len(share(sink)[-1]) < 4 for sink in sinks)

            def state() -> str:
                return "\n".join(sink.log.read_text()[-2000:] for sink in sinks)

            await wait_until(both, state, every=0.1)
            await site.write(telemetry, 0, 33)  # all have begun, some have risen
            begun = {(entity_name(number), "firing") for number in range(12)}
            await wait_until(lambda: begun <= {(body["entity"], body["action"]) for body in hook.bodies}, state)
            sinks[0].kill()
            before = {body["entity"] for body in hook.bodies if body["action"] == "resolved"}
            await site.write(telemetry, 33, 60)
            wanted = {(name, action) for name, _ in begun for action in ("firing", "escalated", "resolved")}
            await wait_until(lambda: {(body["entity"], body["action"]) for body in hook.bodies} == wanted, state)
            assert share(sinks[1])[-1] == [0, 1, 2, 3]
            ends = Counter(body["entity"] for body in hook.bodies if body["action"] == "resolved")
            # what was told just before the kill could not be committed, and is told again
            assert {entity: n for entity, n in ends.items() if entity not in before and n > 1} == {}
            assert max(ends.values()) <= 2


class Slow:
    """A reader whose first delivery is under way when partitions go: it has told one, and waits."""

    name = "slow"

    def __init__(self, told: list[str], waiting: asyncio.Event) -> None:
        self.told, self.waiting = told, waiting

    def remember(self, ledger: Ledger, alert: Alert) -> None:
        ledger.tell(alert)

    async def deliver(self, ledger: Ledger, transitions: Sequence[Transition], interrupt: asyncio.Event) -> int:
        for turn, (given, _) in enumerate(transitions, start=1):
            self.told.append(given.entity)
            if not self.waiting.is_set():
                self.waiting.set()
                await interrupt.wait()
                await asyncio.sleep(0)  # the feed is told first
                return turn
        return len(transitions)

    async def idle(self, ledgers: Sequence[Ledger], lag: int, interrupt: asyncio.Event) -> None:
        pass

    def unreadable(self) -> None:
        raise AssertionError("all are alerts")


async def test_a_rebalance_in_mid_delivery_repeats_nothing(kafka, unique) -> None:
    settings = make_settings(kafka.bootstrap, topics={"prefix": f"{unique}."}, app_id=unique)
    async with admin_client(settings) as admin:
        await create_topics(admin, catalogue(f"{unique}.", 2))
    async with producer_client(settings) as producer:
        rows = {p: [(b"k", msgspec.json.encode(alert(entity=f"{p}-{n}")), [], None) for n in range(10)] for p in (0, 1)}
        await write_rows(producer, f"{unique}.anomalies", rows)
    told_, waiting, stop = [], asyncio.Event(), asyncio.Event()
    feeds = [AlertFeed(settings, Slow(told_, waiting), 3600.0) for _ in range(2)]
    first = asyncio.create_task(feeds[0].run(stop, lambda: None))
    await asyncio.wait_for(waiting.wait(), 30)
    second = asyncio.create_task(feeds[1].run(stop, lambda: None))
    await wait_until(lambda: len(set(told_)) == 20, lambda: str(told_))
    stop.set()
    await asyncio.gather(first, second)
    assert Counter(told_).most_common(1)[0][1] == 1
