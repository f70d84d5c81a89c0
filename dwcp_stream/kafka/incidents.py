"""The incident service: follows alerts and silences, tells of incidents; what it knows is what the topics say."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.errors import KafkaError
from structlog import get_logger

from dwcp_stream.errors import UNREADABLE, BrokerError
from dwcp_stream.events import Alert
from dwcp_stream.incidents import Incident, IncidentTracker, Silences, build_incident
from dwcp_stream.kafka.catalogue import DAY_MS, topic_name
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.kafka.follow import Followed, follow
from dwcp_stream.kafka.leadership import Leadership, leadership
from dwcp_stream.kafka.rights import INCIDENT_TOPICS
from dwcp_stream.kafka.scan import scan
from dwcp_stream.kafka.silences import take
from dwcp_stream.keys import public_keys
from dwcp_stream.settings import Settings
from dwcp_stream.streams import StreamDefinition

log = get_logger(__name__)


def incident_group(settings: Settings) -> str:
    """Return the consumer group of which the member that leads tells of incidents."""
    return f"{settings.app_id}-incidents"


class IncidentService:
    """Takes what the topics hold, and tells what follows from it and has not been told.

    An incident that was told is on its topic, which is read again after a crash; what a process told that did not lead
    any more is told twice, with the same content.

    Parameters
    ----------
    settings
        Name the topics, the gap, and whose silences count.
    streams
        Definitions: where entities name their cluster.
    followed
        The topics of `INCIDENT_TOPICS`.
    producer
        Started.
    leads
        Whether this process is the one that tells.
    clock
        Now, epoch seconds: silences end by it.
    """

    def __init__(
        self,
        settings: Settings,
        streams: Sequence[StreamDefinition],
        followed: Followed,
        producer: AIOKafkaProducer,
        leads: Leadership,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._followed, self._producer, self.leads, self._clock = followed, producer, leads, clock
        self._topic = topic_name(settings.topics.prefix, "incidents")
        keep = settings.incidents.keep_days * DAY_MS / 1000
        self.tracker = IncidentTracker({s.name: s for s in streams}, settings.incidents.gap, keep)
        self.silences = Silences(public_keys(settings.silences.keys))
        self.unreadable = 0
        self._telling = False  # what it says itself it need not hear

    async def catch_up(self) -> None:
        """Take all that is in the topics now."""
        async for records in self._followed.to_end():
            for record in records:
                self._take(record)

    async def look(self) -> list[Incident]:
        """Take all that is in the topics now, publish what has changed, and wait for its confirmation.

        Returns
        -------
        list of Incident
            What was told; nothing while another process leads.

        Raises
        ------
        BrokerError
            It was not written; the process had better be started again, and reads from the topics what was told.
        """
        self._telling = self._telling and self.leads()
        await self.catch_up()
        if not self.leads():
            return []
        self._telling = True
        news = self.tracker.changes(self.silences.current, self._clock())
        try:
            for output in map(build_incident, news):
                await self._producer.send_and_wait(self._topic, output.value, output.key, headers=output.headers)
        except KafkaError as error:
            raise BrokerError(f"was not written: {error}", where=self._topic, remedy="Start it again") from error
        for incident in news:
            log.info("incident", action=incident.action, id=incident.id, summary=incident.summary)
        return news

    async def run(self, told: Callable[[Incident], None], stop: asyncio.Event) -> None:
        """Look again and again, until told to stop."""
        while not stop.is_set():
            for incident in await self.look():
                told(incident)
            for record in await self._followed.next():
                self._take(record)

    def _take(self, record: ConsumerRecord) -> None:
        value = record.value or b""
        try:
            match self._followed.names[record.topic]:
                case "anomalies":
                    self.tracker.alert(msgspec.json.decode(value, type=Alert))
                case "silences":
                    take(self.silences, record)
                case "incidents" if record.value is not None and not self._telling:
                    self.tracker.told(msgspec.json.decode(value, type=Incident))
        except UNREADABLE as error:  # anybody may write there
            self.unreadable += 1
            log.warning("left out", topic=record.topic, offset=record.offset, reason=str(error))


@asynccontextmanager
async def incident_service(settings: Settings, streams: Sequence[StreamDefinition]) -> AsyncIterator[IncidentService]:
    """Yield a service; of several processes one leads and tells, the others stand by.

    Raises
    ------
    BrokerError
        No broker answers, or a topic does not exist.
    """
    topic = topic_name(settings.topics.prefix, "incidents")
    async with (
        follow(settings, INCIDENT_TOPICS) as followed,
        producer_client(settings) as producer,
        leadership(settings, incident_group(settings), topic) as leads,
    ):
        yield IncidentService(settings, streams, followed, producer, leads)


async def known_incidents(settings: Settings) -> list[Incident]:
    """Return what the topic says last of each incident, in order of their beginning; BrokerError as for `scan`."""
    found: dict[str, Incident] = {}
    async for record in scan(settings, "incidents"):
        try:
            incident = msgspec.json.decode(record.value or b"", type=Incident)
        except UNREADABLE:  # anybody may write there
            continue
        found[incident.id] = incident
    return sorted(found.values(), key=lambda i: (i.starts_at, i.id))
