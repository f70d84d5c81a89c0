"""`dwcp-stream report`: the card of a week."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dwcp_stream.cli.common import emit, json_option, progress, settings_option
from dwcp_stream.cli.recent import Span
from dwcp_stream.errors import ConfigError
from dwcp_stream.settings import Settings

if TYPE_CHECKING:
    from dwcp_stream.realised.weekly import Week

LONGEST_DAYS = 365
PREDICTIONS_SECONDS = 3600.0


@click.command(
    epilog="""\b
Examples:
  dwcp-stream report --out week.md
  dwcp-stream report link --since 36h
  dwcp-stream report --json | jq '.worse_than_repeating[] | {model, horizon, target, skill}'
"""
)
@click.argument("stream", required=False)
@click.option("--since", "seconds", type=Span(), default="7d", show_default=True, help="How far back, such as 36h.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the card there, and a picture of the days beside it (.png).",
)
@settings_option
@json_option
def command(stream: str | None, seconds: float, out: Path | None, settings: Settings, *, as_json: bool) -> None:
    """Write the card of a week as Markdown, of STREAM or of all.

    Alerts by stream and model and which share was right, with its interval; realised coverage and skill of forecasts,
    and where a model is worse than repeating the last value; entities of which a forecaster has switched itself off in
    the last hour, because repeating the last value was better; challengers and shadows; what the trainer decided; who
    became champion, by whom and why. Made of the topics anomalies, feedback, accuracy, predictions and models, and
    of the history of the model repository. The picture needs matplotlib (pip install 'dwcp-stream[train]').
    """
    from dwcp_stream.keys import public_keys
    from dwcp_stream.loading import find_stream, open_repository
    from dwcp_stream.realised.weekly import Week, champions
    from dwcp_stream.realised.weekly_card import write_week
    from dwcp_stream.registry.history import read_history

    if stream is not None:
        find_stream(settings, stream)
    if seconds > LONGEST_DAYS * 86_400:
        raise click.BadParameter(f"more than {LONGEST_DAYS}d", param_hint="--since")
    until = datetime.now(UTC)
    since = until - timedelta(seconds=seconds)
    week = Week(seconds, public_keys(settings.feedback.keys))
    asyncio.run(_read(settings, week, since.timestamp()))
    moves = champions(read_history(open_repository(settings).storage), since)
    result = {
        "since": since.isoformat(timespec="seconds"),
        "until": until.isoformat(timespec="seconds"),
        **week.result(stream),
        "champions": moves if stream is None else _of_models(moves, settings, stream),
    }
    if out is None:
        emit(result, as_json, lambda found: write_week(found).rstrip())
    else:
        picture = _write(out, result)
        emit(result, as_json, lambda _: f"wrote {out}" + (f" and {picture}" if picture else ", without a picture"))


async def _read(settings: Settings, week: "Week", since: float) -> None:
    from dwcp_stream.kafka.scan import scan
    from dwcp_stream.realised.weekly import TOPICS

    # a week of predictions is a lot to read, and who is switched off now is what matters
    begins = {**dict.fromkeys(TOPICS, since), "predictions": max(since, time.time() - PREDICTIONS_SECONDS)}
    with progress("reading", len(begins)) as advance:
        for topic, begin in begins.items():
            async for record in scan(settings, topic, begin):
                week.take(topic, record.value or b"", list(record.headers))
            advance(1)


def _of_models(moves: list[dict[str, Any]], settings: Settings, stream: str) -> list[dict[str, Any]]:
    from dwcp_stream.loading import find_stream

    names = {binding.name for binding in find_stream(settings, stream).models}
    return [move for move in moves if move["model"] in names]


def _write(out: Path, result: dict[str, Any]) -> Path | None:
    """Write the card and its picture; returns the picture's path, None without matplotlib."""
    from dwcp_stream.realised.weekly_card import draw_week, write_week

    picture: Path | None = out.with_suffix(".png")
    try:
        try:
            out.with_suffix(".png").write_bytes(draw_week(result))
        except ImportError:
            picture = None
        out.write_text(write_week(result, picture.name if picture else None), encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot be written: {error.strerror}", where=str(out), remedy="Give a file in a folder of yours"
        ) from error
    return picture
