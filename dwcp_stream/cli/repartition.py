"""`dwcp-stream topics repartition`: more partitions for a stream, with its state."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from dwcp_stream.cli.common import emit, json_option, progress, settings_option
from dwcp_stream.settings import Settings


@click.command(
    epilog="""\b
Examples:
  dwcp-stream topics repartition node --partitions 12 --dry-run
  dwcp-stream topics repartition node --partitions 12
  dwcp-stream topics repartition node --partitions 12 --delete-copy
"""
)
@click.argument("stream")
@click.option("--partitions", type=click.IntRange(1), required=True, metavar="N", help="Partitions to have afterwards.")
@click.option("--dry-run", is_flag=True, help="Say what there is to do, and change nothing.")
@click.option("--delete-copy", is_flag=True, help="Delete the copy of the old state, at the end or afterwards.")
@settings_option
@json_option
def command(
    *, stream: str, partitions: int, dry_run: bool, delete_copy: bool, settings: Settings, as_json: bool
) -> None:
    """Give the telemetry topic of STREAM more partitions, and bring its state along.

    Stop the stream's workers and its senders first; nothing is processed until the workers run again. The topic
    keeps its name and its records; those not processed yet are appended again on the partition of their key.
    Windows, alerts, forecasts and positions go on as they were; drift detectors start anew. Also the remedy when
    partitions were added by hand.

    An interrupted migration goes on when the same command is run again; until it is finished no worker of the
    stream starts. The old state stays in a topic of its own until --delete-copy.
    """
    from dwcp_stream.kafka.inspection import source_topic
    from dwcp_stream.kafka.repartition import Names, repartition
    from dwcp_stream.loading import find_stream
    from topologies.names import app_id, changelog_topic, journal_topic

    definition = find_stream(settings, stream)
    names = Names(
        source_topic(settings, definition),
        app_id(settings, definition),
        changelog_topic(settings, definition),
        journal_topic(settings, definition),
    )
    done = asyncio.run(
        repartition(settings, definition, names, partitions, _stage, dry_run=dry_run, delete_copy=delete_copy)
    )
    emit(done, as_json, _render)


@contextmanager
def _stage(what: str, total: float | None) -> Iterator[Callable[[float], None]]:
    click.echo(f"{what} ...", err=True)
    with progress(what, total) as advance:
        yield advance


def _render(done: Any) -> str:
    if done.partitions == done.partitions_before:
        lines = [f"{done.topic} and its state have {done.partitions} partitions: nothing to do"]
        return "\n".join(lines + ["the copy of the old state is deleted"] * done.copy_deleted)
    verb = "would have" if done.dry_run else "has"
    lines = [
        f"{done.topic} {verb} {done.partitions} partitions instead of {done.partitions_before}",
        f"{done.moved} of {done.entities} entities on another partition",
        f"{done.backlog} records that are not processed yet appended again",
        "drift detectors start anew",
    ]
    if done.strays:
        lines.append(f"{done.strays} entities stood where their key does not belong; their records are read again")
    if done.dry_run and done.members:
        lines.append(f"to be stopped first: {', '.join(done.members)}")
    if not done.dry_run:
        lines.append(
            "the copy of the old state is deleted" if done.copy_deleted else f"the old state is kept in {done.copy}"
        )
        lines.append("start the workers, then the senders")
    return "\n".join(lines)
