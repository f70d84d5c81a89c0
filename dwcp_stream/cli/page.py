"""`dwcp-stream page`: show all streams on a live page in the browser."""

import asyncio
import signal
from typing import TYPE_CHECKING

import click

from dwcp_stream.cli.common import emit, json_option, settings_option
from dwcp_stream.settings import Settings

if TYPE_CHECKING:
    from dwcp_stream.streams import StreamDefinition


@click.command(
    "page",
    epilog="""\b
Examples:
  dwcp-stream page
  DWCP_PAGE__PORT=8080 dwcp-stream page
  DWCP_PAGE__WORKERS=http://10.0.0.5:9470,http://10.0.0.6:9470 dwcp-stream page
""",
)
@settings_option
@json_option
def command(settings: Settings, *, as_json: bool) -> None:
    """Show all streams on a live page: entities, alerts and their causes, forecasts, models, drift, accounting, lag.

    Reads the daemon's topics, and asks the workers of this machine, or those of page.workers, once a second. It is at
    http://127.0.0.1:9468 unless http.host and page.port say otherwise; beyond loopback it asks for http.token.
    Runs until SIGTERM or Ctrl-C; it writes nothing.
    """
    from dwcp_stream.streams import load_streams
    from dwcp_stream.telemetry.logs import configure_logging
    from dwcp_stream.telemetry.redact import secrets_of

    configure_logging(settings.log, secrets=secrets_of(settings))
    url = asyncio.run(_run(settings, load_streams(settings.streams_dir)))
    emit({"url": url}, as_json, lambda _: None)


async def _run(settings: Settings, streams: "dict[str, StreamDefinition]") -> str:
    from dwcp_stream.web.page.process import served

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with served(settings, streams) as (page, server):
        click.echo(f"page at {server.url}", err=True)
        running, stopping = asyncio.create_task(page.run()), asyncio.create_task(stop.wait())
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        running.cancel()
        await asyncio.wait({running})
        if not running.cancelled() and (error := running.exception()) is not None:
            raise error
    return server.url
