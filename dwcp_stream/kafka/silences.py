"""Silences as they are on the topic: followed by who tells people, and read once by who lists them."""

import asyncio

from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError
from structlog import get_logger

from dwcp_stream.errors import UNREADABLE, BrokerError
from dwcp_stream.incidents.silences import Silence, Silences
from dwcp_stream.kafka.follow import follow
from dwcp_stream.kafka.scan import scan
from dwcp_stream.keys import public_keys
from dwcp_stream.settings import Settings

AGAIN_SECONDS = 5.0
"""Wait before the brokers are tried again."""

log = get_logger(__name__)


async def known_silences(settings: Settings) -> list[Silence]:
    """Return the silences that count, also those that are over; BrokerError as for `scan`."""
    silences = Silences(public_keys(settings.silences.keys))
    async for record in scan(settings, "silences"):
        take(silences, record)
    return silences.current


async def follow_silences(settings: Settings, silences: Silences, known: asyncio.Event) -> None:
    """Take silences as they come, for ever.

    Parameters
    ----------
    known
        Set once all are known that are there now, or the topic could not be read: an alert that nobody is told of
        because silences cannot be read is worse than one too many.
    """
    while True:
        try:
            async with follow(settings, ["silences"]) as followed:
                async for records in followed.to_end():
                    for record in records:
                        take(silences, record)
                known.set()
                while True:
                    for record in await followed.next():
                        take(silences, record)
        except (BrokerError, KafkaError) as error:
            log.warning("silences are not known; it is tried again", error=str(error))
            known.set()
            await asyncio.sleep(AGAIN_SECONDS)


def take(silences: Silences, record: ConsumerRecord) -> None:
    """Take a record, unless it is none: anybody may write there."""
    if record.value is None:
        return
    try:
        silences.take(record.value, list(record.headers))
    except UNREADABLE as error:
        log.warning("no silence", topic=record.topic, offset=record.offset, reason=str(error))
