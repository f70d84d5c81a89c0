"""`dwcp-stream replay`: send files to a stream's topic."""

import asyncio
from pathlib import Path
from typing import Any, Literal

import click

from dwcp_stream.cli.common import emit, entity_option, json_option, progress, settings_option
from dwcp_stream.settings import Settings


class Speed(click.ParamType):
    """A positive factor, or `max` (None)."""

    name = "speed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | Literal["max"]:
        """Return the factor, or `max`."""
        if value == "max":
            return "max"
        try:
            speed = float(value)
        except ValueError:
            speed = 0.0
        if not 0 < speed < float("inf"):
            self.fail(f"{value!r} is neither a positive number nor max", param, ctx)
        return speed


@click.command(
    epilog="""\b
Examples:
  dwcp-stream replay consensus --data run.csv.gz --entity lab
  dwcp-stream replay node --data nodes.parquet --speed 60 --shift-to-now last
  dwcp-stream replay link --data a.csv --data b.csv --speed max --limit 100000 --json
"""
)
@click.argument("stream")
@click.option(
    "--data",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="CSV or Parquet file, also .gz; may be repeated. Several files are merged by time.",
)
@entity_option
@click.option(
    "--speed",
    type=Speed(),
    default="1",
    show_default=True,
    metavar="FACTOR",
    help="1: at the samples' own pace; 60: a minute per second; max: as fast as it goes.",
)
@click.option("--limit", type=click.IntRange(0), metavar="N", help="Send at most N samples.")
@click.option(
    "--stamp",
    type=click.Choice(["now", "sample"]),
    default="now",
    show_default=True,
    help="Record timestamp: the moment of sending, or the sample's own time.",
)
@click.option(
    "--shift-to-now",
    type=click.Choice(["first", "last"]),
    help="Move all sample times alike, so that the first or the last sample is now.",
)
@settings_option
@json_option
def command(
    *,
    stream: str,
    data: tuple[Path, ...],
    entity: str | None,
    speed: float | Literal["max"],
    limit: int | None,
    stamp: Literal["now", "sample"],
    shift_to_now: Literal["first", "last"] | None,
    settings: Settings,
    as_json: bool,
) -> None:
    """Send files' samples to the topic of STREAM, one record each, keyed by entity.

    A file has a column per field, `ts`, and the entity's columns; unknown columns are ignored. Sample times
    are sent as they are, and each record is stamped with the moment of its sending, which is what alert
    latency is counted from. With --shift-to-now the sample times move too: `first` suits --speed 1, where
    the samples then keep up with the clock; at higher speeds use `last`, else samples run ahead of the clock
    and are invalid. Record timestamps by
    --stamp sample must not be older than the topic's retention.
    """
    from dwcp_stream.kafka.replay import read_files, replay
    from dwcp_stream.loading import find_stream

    definition = find_stream(settings, stream)
    table = read_files(data, definition, entity)
    total = len(table) if limit is None else min(limit, len(table))
    with progress(f"replay {stream}", total) as advance:
        sent = asyncio.run(
            replay(
                settings,
                definition,
                table,
                speed=None if speed == "max" else speed,
                stamp=stamp,
                shift_to_now=shift_to_now,
                limit=limit,
                advance=advance,
            )
        )
    emit(sent, as_json, _render)


def _render(sent: Any) -> str:
    return (
        f"{sent.sent} samples of {sent.entities} entities sent to {sent.topic} in {sent.seconds:.1f} s"
        f" ({sent.messages_per_second:,.0f}/s)"
    )
