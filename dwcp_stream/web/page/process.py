"""The process of the page: reads the topics, asks the workers, and keeps browsers up to date."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.errors import KafkaError
from structlog import get_logger

from dwcp_stream.cli.worker import port_of
from dwcp_stream.errors import BrokerError, ConfigError
from dwcp_stream.kafka.follow import Followed, follow
from dwcp_stream.setting_sections import split_addresses
from dwcp_stream.settings import Settings
from dwcp_stream.streams import StreamDefinition
from dwcp_stream.web.page.board import Board
from dwcp_stream.web.page.hub import Hub
from dwcp_stream.web.page.server import PageServer
from dwcp_stream.web.page.tracks import Tracks
from dwcp_stream.web.page.workers import Answers, Workers
from dwcp_stream.web.probe import EVERYWHERE

log = get_logger(__name__)

BACK = {"anomalies": 7 * 86_400.0, "drift": 7 * 86_400.0, "accuracy": 90_000.0, "predictions": 900.0}
"""Seconds before the start from which on each topic is read; `models` is read in whole, it keeps its last words."""
ASK_EVERY, TABLES_EVERY = 1.0, 5.0
AGAIN_SECONDS = 5.0
FOUND = 50
"""Most entities that a search gives."""


def addresses(settings: Settings, streams: Mapping[str, StreamDefinition]) -> dict[str, str]:
    """Return the workers' addresses, with the stream of each where it is known.

    Raises
    ------
    ConfigError
        The workers take any free port, and no addresses are given.
    """
    if settings.page.workers:
        return dict.fromkeys(split_addresses(settings.page.workers), "")
    if settings.http.port == 0:
        remedy = "Give a port (DWCP_HTTP__PORT), or the workers' addresses (DWCP_PAGE__WORKERS)"
        raise ConfigError("0 leaves no worker to ask", where="http.port", remedy=remedy)
    host = EVERYWHERE.get(settings.http.host, settings.http.host)
    named = f"[{host}]" if ":" in host else host
    names = sorted(streams)
    return {f"http://{named}:{port_of(settings, name, names)}": name for name in names}


class Page:
    """All that the page shows; what `PageServer` asks.

    Parameters
    ----------
    settings
        Kafka, topics, and where the page listens.
    streams
        Stream definitions by name; those are shown whose workers are asked.
    """

    def __init__(self, settings: Settings, streams: Mapping[str, StreamDefinition]) -> None:
        self._settings = settings
        self.board, self.tracks, self.hub = Board(), Tracks(), Hub()
        self._workers = Workers(addresses(settings, streams), _token(settings))
        self._answers: dict[str, Answers] = {}
        self._tables: dict[str, Any] = self.board.tables()
        self._shown: dict[str, dict[str, list[Any]]] = {}
        self._reading = ""
        """Why the topics cannot be read, if so."""

    async def run(self) -> None:
        """Read and ask until cancelled."""
        async with self._workers, asyncio.TaskGroup() as group:
            group.create_task(self._read())
            group.create_task(self._ask())
            group.create_task(self._tell_tables())

    # --- what browsers ask ------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return all that a browser needs to begin with."""
        return {
            "now": time.time(),
            "streams": self._streams(),
            "entities": {stream: list(rows.values()) for stream, rows in self._shown.items()},
            "alerts": list(self.board.alerts.values()),
            "tables": self._tables,
        }

    async def entity(self, stream: str, name: str) -> dict[str, Any] | None:
        """Return one entity in full: the worker's look, what was said of it lately, and its alerts."""
        look = await self._workers.entity(stream, name)
        if look is None:
            return None
        models = [said["model"]["name"] for said in look["models"]]
        return {**look, **self.tracks.of_entity(stream, name, models), "alerts": self.board.of_entity(stream, name)}

    async def search(self, stream: str, like: str) -> list[list[Any]]:
        """Return rows of the entities of a stream whose names have `like` in them."""
        lists = await self._workers.search(stream, like, FOUND)
        return [row for listed in lists for row in rows(listed).values()][:FOUND]

    # --- topics -----------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            try:
                since = {name: time.time() - seconds for name, seconds in BACK.items()}
                async with follow(self._settings, [*BACK, "models"], since) as topics:
                    self._reading = ""
                    async for records in topics.to_end():
                        self._take(topics, records)
                    self._tables = self.board.tables()
                    self.hub.send("snapshot", self.snapshot())
                    while True:
                        self._take(topics, await topics.next())
            except (BrokerError, KafkaError, OSError) as error:
                self._reading = str(error)
                log.warning("topics cannot be read; it is tried again", error=str(error), error_type="broker")
            await asyncio.sleep(AGAIN_SECONDS)

    def _take(self, topics: Followed, records: list[Any]) -> None:
        for record in records:
            name = topics.names[record.topic]
            if name == "predictions":
                self.board.unreadable += not self.tracks.predicted(record.value)
                continue
            changed = self.board.take(name, record.value, dict(record.headers))
            if changed is not None:
                self.hub.send("alert", {**changed, "published": record.timestamp / 1000})

    async def _tell_tables(self) -> None:
        while True:
            await asyncio.sleep(TABLES_EVERY)
            if not self.board.news:
                continue
            # on the event loop: records are taken there, and adding up a day takes some ten milliseconds
            self._tables = self.board.tables()
            self.hub.send("tables", self._tables)

    # --- workers ----------------------------------------------------------------------------------------

    async def _ask(self) -> None:
        while True:
            begun = time.monotonic()
            answers = await self._workers.ask()
            if "" not in answers:  # every address has said by now which stream it is
                self._answers.pop("", None)
            for stream, said in answers.items():
                before = self._answers.get(stream)
                if not said.lists and before is not None:
                    said.lists, said.numbers = before.lists, before.numbers  # the last that is known
                self._answers[stream] = said
                if stream:
                    self._note(stream, said)
            self.hub.send("streams", self._streams())
            await asyncio.sleep(max(0.1, ASK_EVERY - (time.monotonic() - begun)))

    def _note(self, stream: str, said: Answers) -> None:
        now: dict[str, list[Any]] = {}
        for listed in said.lists:
            self.tracks.listed(listed)
            now |= rows(listed)
        before = self._shown.get(stream, {})
        changed = [row for name, row in now.items() if before.get(name) != row]
        gone = [name for name in before if name not in now]
        self._shown[stream] = now
        if changed or gone:
            self.hub.send("entities", {"stream": stream, "changed": changed, "gone": gone})

    def _streams(self) -> dict[str, Any]:
        return {
            "now": time.time(),
            "reading": self._reading,
            "unreadable": self.board.unreadable,
            "streams": [
                {
                    "name": stream,
                    "description": said.lists[0]["description"] if said.lists else "",
                    "step": said.lists[0]["step"] if said.lists else None,
                    "models": said.lists[0]["models"] if said.lists else [],
                    "workers": len(said.lists),
                    "count": sum(listed["count"] for listed in said.lists),
                    "silent": said.silent,
                    **said.numbers,
                }
                for stream, said in sorted(self._answers.items())
            ],
        }


def rows(listed: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the entities of a worker's list by name, as the page takes them: name, time, worst score, severity."""
    order = (None, "warning", "critical", "emergency")
    return {
        row["entity"]: [
            row["entity"],
            row["time"],
            max((score for score in row["scores"] if score is not None), default=None),
            max(row["severities"], key=order.index, default=None),
        ]
        for row in listed["entities"]
    }


def _token(settings: Settings) -> str | None:
    return settings.http.token.get_secret_value() if settings.http.token else None


@asynccontextmanager
async def served(settings: Settings, streams: Mapping[str, StreamDefinition]) -> AsyncIterator[tuple[Page, PageServer]]:
    """Serve the page while the block runs.

    Raises
    ------
    ConfigError
        The address cannot be listened on, or there is no worker to ask.
    """
    page = Page(settings, streams)
    server = PageServer(page, settings.http.host, settings.page.port, _token(settings))
    await server.start()
    log.info("page served", url=server.url)
    try:
        yield page, server
    finally:
        await server.stop()
