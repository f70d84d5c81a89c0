"""`dwcp-stream worker`: watch one stream, or all of them with one process each."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import click
from structlog import get_logger

from dwcp_stream.cli.common import emit, json_option, settings_option
from dwcp_stream.errors import ConfigError
from dwcp_stream.settings import Settings
from dwcp_stream.streams import load_streams
from dwcp_stream.telemetry.logs import configure_logging
from dwcp_stream.telemetry.redact import secrets_of

RESTART_SECONDS = (1.0, 2.0, 5.0, 15.0, 30.0)
"""Pauses before a worker that failed is started again; the last one repeats."""

log = get_logger(__name__)


@click.command("worker")
@click.argument("stream", required=False)
@click.option("--all", "all_streams", is_flag=True, help="Watch every stream, one process each.")
@settings_option
@json_option
@click.pass_context
def command(context: click.Context, stream: str | None, all_streams: bool, settings: Settings, as_json: bool) -> None:
    """Watch a STREAM, or every one: read its topic, keep its windows, score them, publish alerts, forecasts and drift.

    Without a STREAM every stream is watched: the only one by this process, several by one process each. Topics that
    are missing are made (setting topics.create). Runs until SIGTERM or Ctrl-C, which write a last checkpoint. Start
    more workers of the same stream to share its partitions. Metrics and health are on http.host and http.port (streams
    take one port each, in order of name).

    \b
    dwcp-stream worker
    dwcp-stream worker consensus
    DWCP_KAFKA__BOOTSTRAP_SERVERS=kafka:9092 dwcp-stream worker --all
    """
    configure_logging(settings.log, secrets=secrets_of(settings))
    streams = load_streams(settings.streams_dir)
    if all_streams and stream is not None:
        raise click.UsageError(f"Name one STREAM ({', '.join(sorted(streams))}) or give --all, not both.")
    if stream is None and len(streams) == 1 and not all_streams:
        (stream,) = streams
    if stream is None:
        code = asyncio.run(supervise(sorted(streams), context.params.get("config_file")))
    else:
        from dwcp_stream.loading import find_stream
        from topologies.worker import run_worker

        definition = find_stream(settings, stream)
        code = run_worker(settings, definition, port_of(settings, definition.name, sorted(streams)))
    if as_json:
        emit({"streams": [stream] if stream else sorted(streams), "exit_code": code}, as_json)
    context.exit(code)


def port_of(settings: Settings, stream: str, streams: list[str]) -> int:
    """Return the HTTP port of a stream's worker: the first port plus the stream's place in order of name."""
    if settings.http.port == 0:
        return 0
    port = settings.http.port + streams.index(stream)
    if port > 65535:
        raise ConfigError("leaves no port for this stream", where="http.port", remedy="Choose a lower one")
    return port


async def supervise(streams: list[str], config: Path | None = None) -> int:
    """Run a worker process per stream, with one settings file; start one again that fails; stop all when told to."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    codes = await asyncio.gather(*(_keep_running(stream, stop, config) for stream in streams))
    return max(codes)


async def _keep_running(stream: str, stop: asyncio.Event, config: Path | None) -> int:
    given = {} if config is None else {"DWCP_CONFIG": str(config)}
    failures = 0
    while True:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "dwcp_stream", "worker", stream, env=os.environ | given
        )
        stopping = asyncio.ensure_future(stop.wait())
        ended = asyncio.ensure_future(process.wait())
        await asyncio.wait({stopping, ended}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not ended.done():
            process.terminate()
        code = await ended
        if stop.is_set() or code == 0:
            return code
        pause = RESTART_SECONDS[min(failures, len(RESTART_SECONDS) - 1)]
        failures += 1
        log.error("worker failed; it is started again", stream=stream, exit_code=code, seconds=pause)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause)
        if stop.is_set():
            return 0
