"""The telemetry agent: chunks in, everything else is the processor's."""

import asyncio
from typing import Any

from structlog import get_logger

from dwcp_stream.kafka.lane import FetchedChunk
from topologies.app import StreamApp

log = get_logger(__name__)


def telemetry_agent(app: StreamApp) -> Any:
    """Attach the agent that reads the stream's topic; one event is one fetched chunk.

    The agent does not wait for a chunk, so that partitions are processed side by side. The lane bounds how many chunks
    wait, and Faust's acknowledgement of an event means nothing: the position is in the state.
    """
    topic = app.topic(app.lane.topic, value_type=bytes, value_serializer="raw")
    under_way: set[asyncio.Task[None]] = set()

    async def process(chunk: FetchedChunk, generation: int) -> None:
        try:
            await app.processor(chunk, generation)
        except Exception as error:
            log.exception("chunk failed; the worker stops and starts again from the last checkpoint")
            await app.crash(error)

    @app.agent(topic, name="telemetry")
    async def telemetry(stream: Any) -> None:
        async for event in stream.events():
            task = asyncio.create_task(process(event.value, event.message.generation_id))
            under_way.add(task)
            task.add_done_callback(under_way.discard)

    return telemetry
