"""`dwcp-stream broker`: the embedded broker in the foreground."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import click

from dwcp_stream.cli.common import emit, json_option

NOTICE = "It keeps everything in memory, on loopback: what it holds is gone when it stops. Not for production."


@click.command(
    epilog="""\b
Example, in two terminals:
  dwcp-stream broker --port 9092
  DWCP_KAFKA__BOOTSTRAP_SERVERS=127.0.0.1:9092 dwcp-stream topics create
"""
)
@click.option("--port", default=9092, show_default=True, type=click.IntRange(0, 65535), help="0: any free port.")
@click.option("--log-file", type=click.Path(dir_okay=False, path_type=Path), help="Where its output goes.")
@json_option
def command(port: int, log_file: Path | None, as_json: bool) -> None:
    """Run the embedded Kafka-compatible broker until Ctrl-C.

    For trying things out on a machine without Kafka. It keeps everything in memory and listens on 127.0.0.1
    only. A consumer group takes about five seconds to form on it. With --json one object is printed when it
    answers.
    """
    asyncio.run(_run(port, log_file, as_json))


async def _run(port: int, log_file: Path | None, as_json: bool) -> None:
    from dwcp_stream.errors import BrokerError
    from dwcp_stream.kafka.embedded import EmbeddedBroker

    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with EmbeddedBroker(port, log_file) as broker:
        emit({"bootstrap_servers": broker.bootstrap, "notice": NOTICE}, as_json, _render)
        ended, asked = asyncio.ensure_future(broker.wait()), asyncio.ensure_future(stopping.wait())
        await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if ended.done() and not stopping.is_set():
            raise BrokerError(
                f"the embedded broker ended with code {ended.result()}: {broker.tail()}",
                where=broker.bootstrap,
            )
        ended.cancel()


def _render(result: dict[str, Any]) -> str:
    return f"Broker answers on {result['bootstrap_servers']} (Ctrl-C stops it).\n{NOTICE}"
