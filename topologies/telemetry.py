"""The telemetry agent: chunks in, everything else is the processor's."""

from typing import Any

from structlog import get_logger

from topologies.app import StreamApp

log = get_logger(__name__)


def telemetry_agent(app: StreamApp) -> Any:
    """Attach the agent that reads the stream's topic; one event is one fetched chunk."""
    topic = app.topic(app.lane.topic, value_type=bytes, value_serializer="raw")

    @app.agent(topic, name="telemetry")
    async def telemetry(stream: Any) -> None:
        async for event in stream.events():
            try:
                await app.processor(event.value, event.message.generation_id)
            except Exception as error:
                log.exception("chunk failed; the worker stops and starts again from the last checkpoint")
                await app.crash(error)
                return

    return telemetry
