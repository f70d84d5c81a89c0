"""The worker's one connection for writing: outputs by key, changelog records by partition."""

from collections.abc import Awaitable, Mapping, Sequence

from aiokafka.errors import KafkaError

from dwcp_stream.events import Output
from dwcp_stream.kafka.batches import write_records
from dwcp_stream.kafka.catalogue import WRITTEN
from dwcp_stream.kafka.clients import make_producer
from dwcp_stream.kafka.producer import OutputProducer
from dwcp_stream.kafka.reach import unreachable
from dwcp_stream.settings import Settings


class KafkaOutputs:
    """Outputs and state share a producer, so a checkpoint waits for one thing.

    To be made inside the event loop that it will run in.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._kafka = make_producer(settings)
        self._outputs = OutputProducer(self._kafka, settings.topics.prefix)

    async def start(self) -> None:
        """Connect, and look up the topics that outputs go to: later the broker may be away when the first one comes.

        Raises
        ------
        BrokerError
            No broker answers, or a topic does not exist.
        """
        try:
            await self._kafka.start()
        except (KafkaError, OSError) as error:
            raise await unreachable(self._settings) from error
        await self._outputs.prepare(WRITTEN)

    async def stop(self) -> None:
        """Wait shortly for what is on its way, then disconnect."""
        await self._outputs.stop()
        await self._kafka.stop()

    async def send(self, outputs: Sequence[Output]) -> None:
        """Hand over outputs; waits only while too many are in flight."""
        await self._outputs.send(outputs)

    def delivered(self) -> Awaitable[None]:
        """Return an awaitable for the confirmation of every output handed over up to this call."""
        return self._outputs.delivered()

    async def write(self, topic: str, records: Sequence[tuple[int, bytes, bytes | None]]) -> Mapping[int, int]:
        """Write (partition, key, value) records, wait for their confirmation; last offset by partition."""
        return await write_records(self._kafka, topic, records)
