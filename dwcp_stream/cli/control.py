"""`dwcp-stream control`: keys, and signed commands to workers that run."""

import asyncio
import functools
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dwcp_stream.cli.common import (
    emit,
    json_option,
    key_name,
    key_options,
    settings_option,
    share_of,
    share_option,
    version_or_none,
)
from dwcp_stream.settings import Settings

if TYPE_CHECKING:
    from dwcp_stream.control import Action

R = TypeVar("R")


@click.group()
def command() -> None:
    """Command running workers through the topic `dwcp.control`.

    Every command is signed with the key of who gives it. Workers obey the keys that their settings name (control.keys),
    and count what they refuse, with the reason.
    """


@command.command(
    epilog="""\b
Example:
  dwcp-stream control keygen alice.key
"""
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@json_option
def keygen(file: Path, *, as_json: bool) -> None:
    """Make a key: the private half goes to FILE, which only you may read; the public one is printed."""
    from dwcp_stream.keys import create_key, public_text

    public = public_text(create_key(file))
    emit({"file": str(file), "key_id": file.stem, "public": public}, as_json, _render_key)


@command.group()
def send() -> None:
    """Sign a command and send it."""


def sending(function: Callable[..., R]) -> Callable[..., R]:
    """Add what every command needs: the key, to whom, until when, why."""
    options = (
        key_options,
        click.option(
            "--to", default="*", show_default=True, help="An app_id, app_id-STREAM, instance_id, or * for all."
        ),
        click.option(
            "--within",
            type=click.FloatRange(1, 86_400),
            default=600.0,
            show_default=True,
            metavar="SECONDS",
            help="Refused if it comes later.",
        ),
        click.option("--reason", default="", help="Why, for the history."),
    )
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), function)


def of_version(function: Callable[..., R]) -> Callable[..., R]:
    """Add the model and its version to what every command needs."""
    version = click.argument("version", type=click.IntRange(min=1))
    return click.argument("model")(version(sending(settings_option(json_option(function)))))


@send.command(
    epilog="""\b
Example:
  dwcp-stream control send promote node-gbt 2 --key alice.key --reason "better on last week"
"""
)
@of_version
def promote(model: str, version: int, **given: Any) -> None:
    """Make VERSION of MODEL champion, where workers find it in their repository."""
    from dwcp_stream.control import Promote

    _send(Promote(model, version), **given)


@send.command(
    epilog="""\b
Example:
  dwcp-stream control send rollback node-gbt 2 --key alice.key --reason "alerts on every deploy"
"""
)
@of_version
def rollback(model: str, version: int, **given: Any) -> None:
    """Go back from VERSION of MODEL, which is champion now, to its last good one."""
    from dwcp_stream.control import Rollback

    _send(Rollback(model, version), **given)


@send.command(
    epilog="""\b
Examples:
  dwcp-stream control send shadow node-gbt 3 --key alice.key --reason "trained on last month"
  dwcp-stream control send shadow node-gbt none --key alice.key
"""
)
@click.argument("model")
@version_or_none
@sending
@settings_option
@json_option
def shadow(model: str, version: int | None, **given: Any) -> None:
    """Let VERSION of MODEL score beside the champion without being heard, or no version (none)."""
    from dwcp_stream.control import Shadow

    _send(Shadow(model, version), **given)


@send.command(
    epilog="""\b
Examples:
  dwcp-stream control send split node-gbt 3 --share 10 --key alice.key
  dwcp-stream control send split node-gbt none --key alice.key --reason "worse than the champion"
"""
)
@click.argument("model")
@version_or_none
@share_option
@sending
@settings_option
@json_option
def split(model: str, version: int | None, share: int | None, **given: Any) -> None:
    """Let VERSION of MODEL serve a share of the entities as challenger, or no version (none)."""
    from dwcp_stream.control import Split

    _send(Split(model, version, share_of(version, share)), **given)


@send.command(
    epilog="""\b
Example:
  dwcp-stream control send retrain node-gbt --key alice.key --reason "new hardware"
"""
)
@click.argument("model")
@sending
@settings_option
@json_option
def retrain(model: str, **given: Any) -> None:
    """Have a new version of MODEL trained now; the trainer obeys it, workers ignore it."""
    from dwcp_stream.control import Retrain

    _send(Retrain(model), **given)


@send.command(
    "log-level",
    epilog="""\b
Example:
  dwcp-stream control send log-level debug --key alice.key --to dwcp-stream-node
""",
)
@click.argument("level", type=click.Choice(["debug", "info", "warning", "error"]))
@sending
@settings_option
@json_option
def log_level(level: Any, **given: Any) -> None:
    """Write log messages from LEVEL on; a worker that starts later does so too."""
    from dwcp_stream.control import SetLogLevel

    _send(SetLogLevel(level), **given)


@command.command(
    "list",
    epilog="""\b
Example:
  dwcp-stream control list --json | jq '.commands[] | select(.refused)'
""",
)
@settings_option
@json_option
def list_commands(settings: Settings, as_json: bool) -> None:
    """List what is in the topic, and what workers with these settings make of it.

    Refused records are shown with the reason; those for others are none of ours.
    """
    emit({"commands": asyncio.run(_list(settings))}, as_json, _render_list)


def _send(
    action: "Action",
    *,
    key_file: Path,
    key_id: str | None,
    to: str,
    within: float,
    reason: str,
    settings: Settings,
    as_json: bool,
) -> None:
    from dwcp_stream.control import Command, sign
    from dwcp_stream.kafka.control import send_command
    from dwcp_stream.keys import read_key

    whole = Command(
        key_id=key_name(key_file, key_id),
        audience=to,
        sequence=time.time_ns() // 1000,
        not_after=datetime.now(UTC) + timedelta(seconds=within),
        action=action,
        reason=reason,
    )
    offset = asyncio.run(send_command(settings, sign(whole, read_key(key_file))))
    emit({"offset": offset, "command": whole}, as_json, lambda _: f"sent: {action}, to {to}, at offset {offset}")


async def _list(settings: Settings) -> list[dict[str, Any]]:
    from dwcp_stream.control import Verifier
    from dwcp_stream.kafka.control import open_control
    from dwcp_stream.keys import public_keys
    from dwcp_stream.streams import load_streams

    ours = {settings.app_id, *(f"{settings.app_id}-{name}" for name in load_streams(settings.streams_dir))}
    verifier = Verifier(
        public_keys(settings.control.keys), ours | ({settings.instance_id} if settings.instance_id else set())
    )
    rows = []
    async with open_control(settings) as topic:
        for record in await topic.past():
            found = verifier.check(record)
            row = {"offset": record.offset, "at": datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)}
            rows.append({**row, "refused": found.refusal, "reason": found.reason, "command": found.command})
    return rows


def _render_key(made: dict[str, str]) -> str:
    line = f'"{made["key_id"]}" = "{made["public"]}"'
    return f"made {made['file']}. For the settings of the workers:\n\n[control.keys]\n{line}"


def _render_list(found: dict[str, Any]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    if not found["commands"]:
        return "no commands"
    table = Table("offset", "at", "by", "to", "command", "why", box=None, header_style="bold")
    for row in found["commands"]:
        command_ = row["command"]
        said = (command_.key_id, command_.audience, str(command_.action)) if command_ else ("?", "?", "?")
        why = f"refused, {row['refused']}: {row['reason']}" if row["refused"] else (command_.reason if command_ else "")
        table.add_row(str(row["offset"]), f"{row['at']:%Y-%m-%d %H:%M:%S}", *map(escape, said), escape(why))
    return table
