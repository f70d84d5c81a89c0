"""The whole loop on real Kafka with the worker killed in each stage, and the trainer as people run it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft7Validator

from benchmarks.loop_run import Site, live, prepare, realised
from benchmarks.loop_series import DAY, simulated
from dwcp_stream.asyncapi.payloads import MESSAGES
from dwcp_stream.asyncapi.schemas import json_schemas
from dwcp_stream.events import ModelDecision
from dwcp_stream.forecasts import statistics
from dwcp_stream.kafka.catalogue import catalogue
from dwcp_stream.kafka.scan import scan
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.loop.knowledge import seconds
from dwcp_stream.registry.history import read_history
from dwcp_stream.registry.promotion import promote
from dwcp_stream.settings import Settings
from tests.integration.harness import read_topic, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

POLICY = {
    "interval_hours": 0, "collect_hours": 24, "history_hours": 96, "share": 50, "block_buckets": 3,
    "challenge_hours": 1, "max_age_hours": 96,
}  # fmt: skip
STAGES = ("trained", "challenged", "promoted", "rolled_back")


async def decisions(settings: Settings) -> list[ModelDecision]:
    """What the topic holds of decisions, each once."""
    found = {}
    async for record in scan(settings, "models"):
        headers = dict(record.headers)
        if headers["ce_type"] == b"dwcp.model.decided":
            found[headers["ce_id"]] = msgspec.json.decode(record.value, type=ModelDecision)
    return list(found.values())


async def assert_as_the_schemas_say(site: Site) -> None:
    """What the run has left on the daemon's topics is as `topics schema` says."""
    schemas = {name: Draft7Validator(schema) for name, schema in json_schemas([site.stream]).items()}
    for topic in ("anomalies", "predictions", "drift", "accuracy", "models"):
        names = {kind: message.payload.__name__ for message in MESSAGES[topic] for kind in message.types}
        records = await read_topic(site.settings, f"{site.settings.topics.prefix}{topic}")
        assert records, topic
        for record in [*records[:100], *records[-100:]]:
            name = names[dict(record.headers)["ce_type"].decode()]
            assert not list(schemas[name].iter_errors(msgspec.json.decode(record.value))), (topic, record.value)


async def test_from_a_change_to_a_better_champion_and_back_from_a_bad_one(kafka, tmp_path, unique) -> None:
    """Drift, training, shadow, challenger, champion; then somebody promotes a bad version, and it goes by itself."""
    series = simulated(10.0)
    site = await asyncio.to_thread(prepare, series, kafka.bootstrap, tmp_path / "site", dict(POLICY), unique)
    killed: Counter[str] = Counter()
    sabotaged: list[int] = []

    async def disturb(site: Site, now: float) -> None:
        words = [d.decision for d in site.decisions]
        for stage in STAGES:  # a slice after the stage has begun: the worker has followed by then
            if stage in words and not killed[stage]:
                killed[stage] += 1
                site.crash = True
                return
        if "dropped" in words and not sabotaged:  # the champion before has been judged
            sabotaged.append(await asyncio.to_thread(site.sabotage, 3.0))
            promote(site.repository, site.model, sabotaged[0], site.stream, by="somebody")

    with site.worker:
        try:
            await live(site, disturb)
        finally:
            site.worker.__exit__(None, None, None)
    told = await decisions(site.settings)
    words = [d.decision for d in told]
    assert killed == dict.fromkeys(STAGES, 1), [(d.event_time, d.decision, d.version, d.reason) for d in told]
    (change,) = series.changes
    by_word = {d.decision: d for d in told}
    assert seconds(by_word["trained"].event_time) > change
    assert words.index("trained") < words.index("challenged") < words.index("promoted") < words.index("rolled_back")
    assert by_word["promoted"].numbers["lower"] > 0
    good, (bad,) = by_word["promoted"].version, sabotaged
    assert (by_word["rolled_back"].version, by_word["rolled_back"].champion) == (bad, good)
    assert site.repository.aliases(site.model) == {"champion": good, "last_good": good}
    moved = [(m.by, m.before, m.version) for m in read_history(site.repository.root) if m.alias == "champion"]
    assert moved[-3:] == [("trainer", 1, good), ("somebody", good, bad), ("trainer", bad, good)]

    await assert_as_the_schemas_say(site)
    parts = [p for p in await realised(site.settings) if p.arm == "champion"]
    after = seconds(by_word["promoted"].event_time) + DAY / 4
    until = next(seconds(d.event_time) for d in told if d.champion == bad)
    before = [p for p in parts if change + DAY / 2 < seconds(p.bucket_end) < seconds(by_word["trained"].event_time)]
    healed = [p for p in parts if after < seconds(p.bucket_end) < until]
    assert statistics(healed)["mae"] < 0.5 * statistics(before)["mae"]
    assert {p.version for p in healed} <= {1, good}


class TrainerProcess:
    """`dwcp-stream trainer` as people start it."""

    def __init__(self, site: Site, log: Path, *arguments: str) -> None:
        self.log = log
        kafka = site.settings.kafka.bootstrap_servers
        environment = {
            **os.environ, "DWCP_KAFKA__BOOTSTRAP_SERVERS": kafka, "DWCP_APP_ID": site.settings.app_id,
            "DWCP_MODELS_DIR": str(site.settings.models_dir), "DWCP_STREAMS_DIR": str(site.settings.streams_dir),
            "DWCP_TRAINER__INTERVAL_HOURS": "0", "DWCP_TRAINER__LOOK_SECONDS": "0.1", "DWCP_LOG__JSON": "true",
            "DWCP_KAFKA__SESSION_TIMEOUT": "2", "DWCP_TRAINER__PORT": "0",
            "DWCP_TOPICS__PREFIX": site.settings.topics.prefix,
        }  # fmt: skip
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dwcp_stream", "trainer", site.series.name, *arguments],
                env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=out, text=True,
            )  # fmt: skip

    def said(self, event: str) -> bool:
        """Whether its log holds an event."""
        assert self.process.poll() is None, self.log.read_text()
        return any(json.loads(line)["event"] == event for line in self.log.read_text().splitlines() if line[:1] == "{")

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it; returns the exit code."""
        self.process.send_signal(number)
        self.process.communicate(timeout=30)
        return self.process.returncode


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., TrainerProcess]]:
    """Starts trainers; those that still run at the end are killed."""
    found: list[TrainerProcess] = []

    def begin(site: Site, *arguments: str) -> TrainerProcess:
        found.append(TrainerProcess(site, tmp_path / f"trainer-{len(found)}.log", *arguments))
        return found[-1]

    yield begin
    for trainer in found:
        if trainer.process.poll() is None:
            trainer.end(signal.SIGKILL)


async def test_one_trainer_leads_and_another_takes_over(kafka, tmp_path, unique, start) -> None:
    series = simulated(4.0)
    site = await asyncio.to_thread(prepare, series, kafka.bootstrap, tmp_path / "site", dict(POLICY), unique)
    async with admin_client(site.settings) as admin:
        await create_topics(admin, catalogue(f"{unique}.", 2))
    first = start(site)
    await wait_until(lambda: first.said("leads"), first.log.read_text)
    second = start(site)
    await wait_until(lambda: second.said("stands by"), second.log.read_text)
    bad = await asyncio.to_thread(site.sabotage)
    promote(site.repository, site.model, bad, site.stream)

    async def guarded(n: int) -> bool:
        return len(await decisions(site.settings)) == n

    await wait_until(lambda: guarded(1), first.log.read_text)
    guarding = {"champion": bad, "shadow": 1, "last_good": 1}
    await wait_until(lambda: site.repository.aliases(site.model) == guarding, first.log.read_text)
    first.end(signal.SIGKILL)
    await wait_until(lambda: second.said("leads"), second.log.read_text)
    promote(site.repository, site.model, await asyncio.to_thread(site.sabotage), site.stream)
    await wait_until(lambda: guarded(2), second.log.read_text)
    assert second.end() == 0
    told = await decisions(site.settings)
    assert [(d.decision, d.version, d.champion) for d in told] == [("shadowed", 1, 2), ("shadowed", 2, 3)]


async def test_once_says_what_it_decided(kafka, tmp_path, unique, start) -> None:
    series = simulated(4.0)
    site = await asyncio.to_thread(prepare, series, kafka.bootstrap, tmp_path / "site", dict(POLICY), unique)
    async with admin_client(site.settings) as admin:
        await create_topics(admin, catalogue(f"{unique}.", 2))
    promote(site.repository, site.model, await asyncio.to_thread(site.sabotage), site.stream)
    trainer = start(site, "--once", "--json")
    out, _ = await asyncio.to_thread(trainer.process.communicate)
    assert trainer.process.returncode == 0, trainer.log.read_text()
    (made,) = json.loads(out)["decisions"]
    assert (made["decision"], made["version"], made["champion"]) == ("shadowed", 1, 2)
    assert len(await read_topic(site.settings, f"{unique}.models")) == 1
