"""Obeys the signed commands of `dwcp.control` in a worker."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from aiokafka.errors import KafkaError
from structlog import get_logger

from dwcp_stream.control import (
    EVERYONE,
    REFUSED,
    Action,
    Command,
    Promote,
    Received,
    Retrain,
    Rollback,
    SetLogLevel,
    Shadow,
    Split,
    Verifier,
)
from dwcp_stream.errors import BrokerError, DwcpError, ModelError
from dwcp_stream.kafka.control import ControlTopic, open_control
from dwcp_stream.keys import public_keys
from dwcp_stream.registry import ModelRepository
from dwcp_stream.registry.promotion import promote, rollback, shadow, split
from dwcp_stream.settings import Settings
from dwcp_stream.streams import StreamDefinition
from topologies.background import Background
from topologies.names import app_id

log = get_logger(__name__)
audit = get_logger("dwcp_stream.audit")
logging.getLogger("dwcp_stream.audit").setLevel(logging.INFO)  # heard whatever level is commanded

Outcome = Literal["applied", "failed", "ignored", "past"]
OUTCOMES: tuple[str, ...] = ("applied", "failed", "ignored", "past", *REFUSED)
AGAIN_SECONDS = 5.0
"""Wait before the topic is opened again after a broker was away."""


@dataclass(slots=True)
class ControlReader:
    """Reads the control topic beside the telemetry.

    What was in the topic before is checked for its sequences, and only what still holds of it (the log level) is
    obeyed: a version that was promoted last week is not promoted again by a worker that starts today.

    Parameters
    ----------
    count
        Called with the outcome of each record and 1, and with 0 at the start.
    listening
        Called when every later command will be heard.
    crash
        Called with what should not happen.
    """

    settings: Settings
    stream: StreamDefinition
    repository: ModelRepository
    count: Callable[[str, int], None]
    listening: Callable[[], None]
    crash: Callable[[BaseException], Awaitable[None]]
    verifier: Verifier = field(init=False)
    _position: int = 0
    _recalled: bool = False
    _task: Background = field(default_factory=Background)

    def __post_init__(self) -> None:
        names = {self.settings.app_id, app_id(self.settings, self.stream), self.settings.instance_id or EVERYONE}
        self.verifier = Verifier(public_keys(self.settings.control.keys), names)

    async def start(self) -> None:
        """Begin to read."""
        for outcome in OUTCOMES:
            self.count(outcome, 0)
        self._task.begin(self._run())

    async def stop(self) -> None:
        """Stop reading."""
        await self._task.end()

    async def _run(self) -> None:
        while True:
            try:
                async with open_control(self.settings) as topic:
                    await self._follow(topic)
            except (BrokerError, KafkaError, OSError) as error:
                log.warning("control topic cannot be read; it is tried again", error=str(error))
            except Exception as error:
                log.exception("commands cannot be read any more; the worker stops")
                await self.crash(error)
                return
            await asyncio.sleep(AGAIN_SECONDS)

    async def _follow(self, topic: ControlTopic) -> None:
        past = await topic.past()
        if topic.end < self._position:  # the topic was made anew; sequences go on
            self._position = 0
        if not self._recalled:
            await self._recall(past)
        else:  # the broker was away meanwhile
            for record in past:
                if record.offset >= self._position:
                    await self._take(record)
        self.listening()
        while True:
            for record in await topic.next():
                await self._take(record)

    async def _recall(self, past: Sequence[Received]) -> None:
        """Check what was in the topic before, and obey the last of each kind that still holds."""
        standing: dict[type[Action], tuple[Received, Command]] = {}
        for record in past:
            command = self._check(record)
            if command is None:
                continue
            given = record, command
            if command.action.standing:
                before = standing.get(type(command.action))
                standing[type(command.action)] = given
                if before is None:
                    continue
                given = before
            self._tell("past", *given)
        self._recalled = True
        for record, command in standing.values():
            await self._obey(record, command)

    async def _take(self, record: Received) -> None:
        command = self._check(record)
        if command is not None:
            await self._obey(record, command)

    def _check(self, record: Received) -> Command | None:
        """Return a command to obey; a refused record is counted and said."""
        self._position = record.offset + 1
        verdict = self.verifier.check(record)
        if verdict.refusal is None:
            return verdict.command
        self.count(verdict.refusal, 1)
        if verdict.refusal != "foreign":
            audit.warning("command refused", error_type=verdict.refusal, reason=verdict.reason, offset=record.offset)
        return None

    async def _obey(self, record: Received, command: Command) -> None:
        try:
            outcome, change = await asyncio.to_thread(self._apply, command, record.offset)
        except (DwcpError, OSError) as error:
            self._tell("failed", record, command, error=str(error))
        else:
            self._tell(outcome, record, command, change=change)

    def _tell(self, outcome: Outcome, record: Received, command: Command, **more: str) -> None:
        self.count(outcome, 1)
        audit.info(
            "command", outcome=outcome, action=str(command.action), by=command.key_id, sequence=command.sequence,
            audience=command.audience, offset=record.offset, reason=command.reason, **more,
        )  # fmt: skip

    def _apply(self, command: Command, offset: int) -> tuple[Outcome, str]:
        """Do it; returns from what to what. Workers that share a repository do it once together."""
        action, by = command.action, f"{command.key_id} ({self.settings.topics.prefix}control {offset})"
        if isinstance(action, SetLogLevel):
            before = logging.getLevelName(logging.getLogger().level).lower()
            logging.getLogger().setLevel(action.level.upper())
            return "applied", f"{before} to {action.level}"
        used = action.model in {binding.name for binding in self.stream.models}
        if isinstance(action, Retrain) or not used:
            return "ignored", "the trainer obeys it" if used else f"{self.stream.name} does not use it"
        if isinstance(action, Shadow | Split):
            return "applied", self._beside(action, by, command.reason)
        before_ = self.repository.aliases(action.model).get("champion")
        if isinstance(action, Promote):
            if before_ == action.version:
                return "applied", f"{action.version} already"
            promote(self.repository, action.model, action.version, self.stream, by=by, reason=command.reason)
            return "applied", f"{before_ or 'none'} to {action.version}"
        return "applied", self._go_back(action, before_, by, command.reason)

    def _beside(self, action: Shadow | Split, by: str, reason: str) -> str:
        model, version = action.model, action.version
        if isinstance(action, Split):
            shared = self.repository.share(model)
            before = split(self.repository, model, version, action.share, self.stream, by=by, reason=reason)
            return f"{before or 'none'} with {shared}% to {version or 'none'} with {action.share}%"
        before = shadow(self.repository, model, version, self.stream, by=by, reason=reason)
        return f"{before or 'none'} to {version or 'none'}"

    def _go_back(self, action: Rollback, before: int | None, by: str, reason: str) -> str:
        good = self.repository.aliases(action.model).get("last_good")
        if before == good and before is not None:
            return f"{before} already"
        if before != action.version:
            raise ModelError(
                f"champion is {before or 'none'}, not {action.version}",
                where=action.model,
                remedy="Look at `dwcp-stream models history`, and command it again with that version",
            )
        try:
            _, now = rollback(self.repository, action.model, self.stream, by=by, reason=reason)
        except ModelError:
            if self.repository.aliases(action.model).get("champion") != good:
                raise
            return f"{good} already"  # another worker was faster
        return f"{before} to {now}"
