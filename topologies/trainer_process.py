"""The trainer as a process: it follows the topics, leads or stands by, and fetches what a training needs."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import get_args

import polars as pl
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry
from structlog import get_logger

from dwcp_stream.control import Retrain, Verifier
from dwcp_stream.errors import BrokerError
from dwcp_stream.events import ModelDecision, Output
from dwcp_stream.history.retrain import Retrained, retrain
from dwcp_stream.kafka.catalogue import topic_name
from dwcp_stream.kafka.control import received
from dwcp_stream.kafka.follow import Followed, follow
from dwcp_stream.kafka.history import training_data
from dwcp_stream.kafka.leadership import Leadership, leadership
from dwcp_stream.kafka.outputs import KafkaOutputs
from dwcp_stream.keys import public_keys
from dwcp_stream.loading import open_repository
from dwcp_stream.loop.due import Change, Reason
from dwcp_stream.loop.intake import Intake
from dwcp_stream.loop.knowledge import Knowledge
from dwcp_stream.loop.policy import Policy
from dwcp_stream.loop.trainer import Trainer
from dwcp_stream.setting_sections import TrainerSettings
from dwcp_stream.settings import Settings
from dwcp_stream.streams import ModelBinding, StreamDefinition
from dwcp_stream.telemetry.health import Check, Readiness, Report, report
from dwcp_stream.telemetry.metrics import Metrics
from dwcp_stream.web.server import HttpServer
from topologies.background import in_daemon_thread

log = get_logger(__name__)
audit = get_logger("dwcp_stream.audit")

AGAIN_SECONDS = 5.0
"""Wait before the brokers are tried again."""


def policy_of(settings: TrainerSettings) -> Policy:
    """Return the rules that settings give."""
    return Policy(
        interval=3600.0 * settings.interval_hours,
        on_drift=settings.on_drift,
        collect=3600.0 * settings.collect_hours,
        share=settings.share,
        block=settings.block_buckets,
        challenge=3600.0 * settings.challenge_hours,
        max_age=3600.0 * settings.max_age_hours,
        alpha=settings.alpha,
    )


@dataclass(slots=True)
class TrainerProcess:
    """A trainer with its topics.

    Attributes
    ----------
    trainer
        What decides.
    intake
        What the topics' records go through.
    metrics
        What it serves at /metrics.
    """

    settings: Settings
    trainer: Trainer
    intake: Intake
    metrics: Metrics
    _followed: Followed
    _leads: Leadership
    _verifier: Verifier | None
    _ready: Readiness = field(default_factory=lambda: Readiness(("topics",)))
    _looked: float = field(default_factory=time.monotonic)

    async def catch_up(self) -> int:
        """Take all that is in the topics now; returns the number of records."""
        taken = 0
        async for records in self._followed.to_end():
            for record in records:
                self._take(record)
            taken += len(records)
        return taken

    async def run(self) -> None:
        """Look again and again, for ever; what the brokers refuse is tried again."""
        http = self.settings.http
        token = http.token.get_secret_value() if http.token else None
        server = HttpServer(
            self.metrics.registry, self._live, self._ready.check, host=http.host, port=self.settings.trainer.port,
            token=token,
        )  # fmt: skip
        await server.start()
        log.info("trainer starting", streams=[stream.name for stream in self.trainer.streams], url=server.url)
        try:
            await self._look_again_and_again()
        finally:
            await server.stop()

    async def _look_again_and_again(self) -> None:
        led: bool | None = None
        while True:
            try:
                await self.catch_up()
                self._ready.meet("topics", "read to their ends")
                if self._leads() != led:
                    led = self._leads()
                    log.info("leads" if led else "stands by")
                    self.metrics.leads(leads=led)
                await self.trainer.look()
                self._looked = time.monotonic()
            except (BrokerError, KafkaError) as error:
                self._ready.fail("topics", str(error))
                log.warning("it is tried again", error=str(error))
                await asyncio.sleep(AGAIN_SECONDS)
            await asyncio.sleep(self.settings.trainer.look_seconds)

    def _live(self) -> Report:
        """Alive as long as it looks; a broker that is away is no reason to start it again."""
        silent = time.monotonic() - self._looked
        limit = self.settings.liveness_seconds + self.settings.trainer.look_seconds
        ok = silent < limit or not self._ready.check().ok
        return report({"looks": Check(ok, f"last {silent:.0f} s ago")})

    async def lead(self, deadline: float) -> bool:
        """Wait until this process leads, but no longer than `deadline` seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._leads.wait(), deadline)
        return self._leads()

    def _take(self, record: ConsumerRecord) -> None:
        name = self._followed.names[record.topic]
        if name == "control":
            self._obey(record)
        else:
            before = self.intake.unreadable[name]
            self.intake.take(name, record)
            self.metrics.unreadable(name, self.intake.unreadable[name] - before)

    def _obey(self, record: ConsumerRecord) -> None:
        """Take a command to train; other commands are the workers'."""
        if self._verifier is None:
            return
        given = received(record)
        verdict = self._verifier.check(given)
        if verdict.refusal is not None or verdict.command is None:
            return  # workers count and tell it
        action = verdict.command.action
        if isinstance(action, Retrain):
            for stream in self.trainer.streams:
                if action.model in {binding.name for binding in stream.models}:
                    self.trainer.knowledge.command(stream.name, action.model, given.offset)
                    audit.info("command", action=str(action), by=verdict.command.key_id, offset=given.offset)


@asynccontextmanager
async def trainer_process(
    settings: Settings,
    streams: Sequence[StreamDefinition],
    told: Callable[[ModelDecision], None] = lambda _: None,
) -> AsyncIterator[TrainerProcess]:
    """Yield a trainer that knows nothing yet: `catch_up` comes first.

    Raises
    ------
    BrokerError
        No broker answers, or a topic does not exist.
    """
    knowledge = Knowledge(2 * 3600.0 * settings.trainer.max_age_hours, public_keys(settings.feedback.keys))
    intake = Intake(knowledge)
    outputs = KafkaOutputs(settings)
    verifier, topics = None, list(Intake.topics)
    if settings.control.keys:
        verifier = Verifier(public_keys(settings.control.keys), {settings.app_id, f"{settings.app_id}-trainer"})
        topics.append("control")
    group, models = f"{settings.app_id}-trainer", topic_name(settings.topics.prefix, "models")

    async def publish(messages: Sequence[Output]) -> None:
        await outputs.send(messages)
        await outputs.delivered()

    async def train(
        stream: StreamDefinition, binding: ModelBinding, since: float, until: float, reason: Reason
    ) -> Retrained:
        return await train_on_recent(settings, stream, binding, since, until, unjudged=reason not in get_args(Change))

    metrics = Metrics(CollectorRegistry())

    def tell(decision: ModelDecision) -> None:
        metrics.decision(decision.stream, decision.model, decision.decision)
        told(decision)

    async with follow(settings, topics) as followed, leadership(settings, group, models) as leads:
        await outputs.start()
        try:
            trainer = Trainer(
                streams=streams,
                repository=open_repository(settings),
                knowledge=knowledge,
                policy=policy_of(settings.trainer),
                history=3600.0 * settings.trainer.history_hours,
                publish=publish,
                train=train,
                leads=leads,
                told=tell,
                took=metrics.training,
            )
            yield TrainerProcess(settings, trainer, intake, metrics, followed, leads, verifier)
            await trainer.stop()
        finally:
            await outputs.stop()


async def train_on_recent(
    settings: Settings, stream: StreamDefinition, binding: ModelBinding, since: float, until: float, *, unjudged: bool
) -> Retrained:
    """Fetch telemetry, alerts and feedback, and train; see `retrain`. A process that ends does not wait for it."""
    table, alerts, feedback = await training_data(settings, stream, since, settings.trainer.source)
    table = table.filter(pl.col(stream.time) <= until)
    command = f"dwcp-stream trainer {stream.name}"
    work = partial(retrain, settings, stream, binding, table, alerts, feedback, command=command, unjudged=unjudged)
    return await in_daemon_thread(work)
