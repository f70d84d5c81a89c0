"""`dwcp-stream archive`: copy a stream's telemetry from Kafka to Parquet files, until stopped."""

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dwcp_stream.cli.common import advance_to, emit, json_option, progress, settings_option
from dwcp_stream.settings import Settings

if TYPE_CHECKING:
    from dwcp_stream.kafka.archiver import Archived, Archiver


@click.command(
    epilog="""\b
Examples:
  dwcp-stream archive link
  dwcp-stream archive link --once --dir /data/telemetry
  dwcp-stream archive node --retention 90 --flush 60
"""
)
@click.argument("stream_name", metavar="STREAM")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the files go; default: the setting archive.dir.",
)
@click.option(
    "--retention",
    type=click.FloatRange(min=1),
    metavar="DAYS",
    help="Days to keep; default: the setting archive.retention_days.",
)
@click.option(
    "--flush",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Between two writes; default: the setting archive.flush_seconds.",
)
@click.option("--once", is_flag=True, help="Read to the end that the topic has now, write, and stop.")
@settings_option
@json_option
def command(
    stream_name: str,
    folder: Path | None,
    retention: float | None,
    flush: float | None,
    once: bool,
    settings: Settings,
    as_json: bool,
) -> None:
    """Keep the telemetry of STREAM as Parquet files, for `train --recent 30d --source archive`.

    Files are DIR/STREAM/date=YYYY-MM-DD/HH-ID.parquet, by the samples' own time in UTC. Offsets are committed, in the
    group APP_ID-archive-STREAM, when the samples before them are on disk: after a crash some lie there twice, and
    reading leaves the second out. Invalid samples are counted and logged; the worker keeps them as dead letters.

    Runs until SIGTERM or Ctrl-C, which write what was read. Start more of them to share the partitions.
    """
    from dwcp_stream.kafka.archiver import Archiver
    from dwcp_stream.loading import find_stream
    from dwcp_stream.telemetry.logs import configure_logging
    from dwcp_stream.telemetry.redact import secrets_of

    if not once:
        configure_logging(settings.log, secrets=secrets_of(settings))
    told = {"dir": folder, "retention_days": retention, "flush_seconds": flush}
    archive = settings.archive.model_copy(update={name: value for name, value in told.items() if value is not None})
    archiver = Archiver(settings.model_copy(update={"archive": archive}), find_stream(settings, stream_name))
    done = asyncio.run(_run(archiver, once))
    emit(done.plain(), as_json, _render)


async def _run(archiver: "Archiver", once: bool) -> "Archived":
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    bar = progress(f"archive {archiver.stream.name}", total=1.0) if once else contextlib.nullcontext(lambda _: None)
    try:
        with bar as advance:
            report = advance_to(advance)
            return await archiver.run(stop, once=once, progress=lambda read, total: report(read / max(total, 1)))
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _render(done: dict[str, Any]) -> str:
    return (
        f"{done['samples']} samples of {done['records']} records in {done['files']} new files in {done['folder']};"
        f" {done['invalid']} invalid ones left out"
    )
