"""`dwcp-stream silence`: let nobody be told of alerts of some entities for some time."""

import asyncio
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from dwcp_stream.cli.common import emit, json_option, key_name, optional_key_options, settings_option
from dwcp_stream.cli.recent import Span
from dwcp_stream.settings import Settings

if TYPE_CHECKING:
    from dwcp_stream.incidents import Silence

TIME = click.DateTime(["%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%MZ"])


@click.group()
def command() -> None:
    """Silences for planned work: alerts go on, but nobody is told of them.

    Where the settings name keys (silences.keys), only what one of them has signed counts: give --key FILE.
    """


@command.command(
    epilog="""\b
Examples:
  dwcp-stream silence add 'eu-1/*' --for 2h --reason "new switches"
  dwcp-stream silence add 'eu-1/n2' --from 2026-12-01T22:00Z --until 2026-12-02T04:00Z --reason "disk change"
"""
)
@click.argument("pattern")
@click.option("--from", "begin", type=TIME, help="UTC; default: now.")
@click.option("--until", "end", type=TIME, help="UTC.")
@click.option("--for", "length", type=Span(), metavar="TIME", help="Instead of --until, such as 90m or 2h.")
@click.option("--reason", required=True, help="For people.")
@optional_key_options
@settings_option
@json_option
def add(
    pattern: str,
    begin: datetime | None,
    end: datetime | None,
    length: float | None,
    reason: str,
    key_file: Path | None,
    key_id: str | None,
    settings: Settings,
    *,
    as_json: bool,
) -> None:
    """Silence the entities that match PATTERN.

    `*` is any text, `?` any character; `eu-1/*` is everything of the cluster eu-1, also the entity eu-1 itself.
    """
    from dwcp_stream.incidents import Silence
    from dwcp_stream.registry.history import local_user

    now = datetime.now(UTC)
    starts = now if begin is None else begin.replace(tzinfo=UTC)
    if (end is None) == (length is None):
        raise click.UsageError("Give --until TIME, or --for TIME.")
    ends = starts + timedelta(seconds=length or 0.0) if end is None else end.replace(tzinfo=UTC)
    if ends <= max(starts, now):
        raise click.UsageError(f"it would end at {ends.isoformat()}, which is over or before it begins")
    said = Silence(
        id=secrets.token_hex(4), pattern=pattern, starts_at=starts, ends_at=ends, said_at=now, by=local_user(),
        reason=reason,
    )  # fmt: skip
    _send(settings, said, key_file, key_id)
    emit(said, as_json, lambda s: f"{s.id}: {s.pattern} silenced until {s.ends_at.isoformat()}")


@command.command("list", epilog="\b\nExample:\n  dwcp-stream silence list --json | jq '.silences[].pattern'")
@click.option("--all", "also_over", is_flag=True, help="Also those that are over.")
@settings_option
@json_option
def list_silences(settings: Settings, *, also_over: bool, as_json: bool) -> None:
    """List the silences that count and are not over."""
    from dwcp_stream.kafka.silences import known_silences

    found = asyncio.run(known_silences(settings))
    found = [s for s in found if also_over or s.ends_at > datetime.now(UTC)]
    emit({"silences": msgspec.to_builtins(found)}, as_json, _render)


@command.command(epilog="\b\nExample:\n  dwcp-stream silence expire 4f2a91c3")
@click.argument("silence_id", metavar="ID")
@optional_key_options
@settings_option
@json_option
def expire(silence_id: str, key_file: Path | None, key_id: str | None, settings: Settings, *, as_json: bool) -> None:
    """End the silence with this ID (or its beginning) now."""
    from dwcp_stream.errors import PayloadError
    from dwcp_stream.incidents.silences import ended
    from dwcp_stream.kafka.silences import known_silences
    from dwcp_stream.registry.history import local_user

    found = [s for s in asyncio.run(known_silences(settings)) if s.id.startswith(silence_id)]
    if len(found) != 1:
        raise PayloadError(
            f"{len(found)} silences have an id that begins with {silence_id!r}",
            where=f"{settings.topics.prefix}silences",
            remedy="Take the id from `dwcp-stream silence list --all`",
        )
    said = ended(found[0], datetime.now(UTC), local_user())
    _send(settings, said, key_file, key_id)
    emit(said, as_json, lambda s: f"{s.id}: over")


def _send(settings: Settings, said: "Silence", key_file: Path | None, key_id: str | None) -> None:
    from dwcp_stream.cli.feedback import write
    from dwcp_stream.incidents import build_silence
    from dwcp_stream.keys import read_key

    signed_by = None if key_file is None else (key_name(key_file, key_id), read_key(key_file))
    asyncio.run(write(settings, "silences", *build_silence(said, signed_by)))
    if signed_by is None and settings.silences.keys:
        click.echo(
            "it does not count: the settings name keys (silences.keys), and it is not signed; give --key", err=True
        )


def _render(result: dict[str, Any]) -> str:
    return (
        "\n".join(
            f"{s['id']}  {s['startsAt']} to {s['endsAt']}  {s['pattern']}  {s['reason']} ({s['by']})"
            for s in result["silences"]
        )
        or "no silences"
    )
