"""`dwcp-stream feedback`: say whether an alert was right, or that one was missing."""

import asyncio
import functools
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dwcp_stream.cli.common import emit, json_option, key_name, optional_key_options, settings_option
from dwcp_stream.settings import Settings

if TYPE_CHECKING:
    from dwcp_stream.events import Alert
    from dwcp_stream.realised import Feedback

R = TypeVar("R")
TIME = click.DateTime(["%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%MZ"])


@click.group()
def command() -> None:
    """Say what alerts were worth; `dwcp-stream accuracy` makes precision and recall of it.

    Where the settings name keys (feedback.keys), only what one of them has signed counts: give --key FILE.
    """


def about_alert(function: Callable[..., R]) -> Callable[..., R]:
    """Add what names an alert, and a note."""
    options = (
        click.argument("fingerprint"),
        click.option(
            "--at", type=TIME, help="When the alert began (startsAt, UTC); default: the newest of the fingerprint."
        ),
        click.option("--note", default="", help="For people."),
        optional_key_options,
        settings_option,
        json_option,
    )
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), function)


@command.command(
    "true",
    epilog="""\b
Examples:
  dwcp-stream feedback true 4f2a --note "leader was out of memory"
  dwcp-stream feedback true 4f2a --key alice.key
""",
)
@about_alert
def true(**given: Any) -> None:
    """Say that the alert with this FINGERPRINT (or its beginning) told of real trouble."""
    _judge("true", **given)


@command.command("false", epilog='\b\nExample:\n  dwcp-stream feedback false 4f2a --note "planned restart"')
@about_alert
def false(**given: Any) -> None:
    """Say that the alert with this FINGERPRINT (or its beginning) was a false alarm."""
    _judge("false", **given)


@command.command(
    epilog="""\b
Example:
  dwcp-stream feedback missed consensus eu-1 --at 2026-11-28T07:30Z --note "writes stood still"
"""
)
@click.argument("stream")
@click.argument("entity")
@click.option("--at", type=TIME, required=True, help="When the trouble began, UTC.")
@click.option("--model", default="", help="The model that should have told; default: every model of the stream.")
@click.option("--note", default="", help="For people.")
@optional_key_options
@settings_option
@json_option
def missed(
    stream: str,
    entity: str,
    at: datetime,
    model: str,
    note: str,
    key_file: Path | None,
    key_id: str | None,
    settings: Settings,
    *,
    as_json: bool,
) -> None:
    """Say that ENTITY of STREAM was in trouble, and no alert told of it."""
    from dwcp_stream.loading import find_stream

    find_stream(settings, stream)
    said = _feedback("missed", at.replace(tzinfo=UTC), stream=stream, entity=entity, model=model, note=note)
    _send(settings, said, key_file, key_id, as_json)


def _judge(
    verdict: str,
    fingerprint: str,
    at: datetime | None,
    note: str,
    key_file: Path | None,
    key_id: str | None,
    settings: Settings,
    as_json: bool,
) -> None:
    alert = asyncio.run(_find(settings, fingerprint, at.replace(tzinfo=UTC) if at else None))
    said = _feedback(
        verdict,
        datetime.fromisoformat(alert.starts_at),
        stream=alert.stream,
        entity=alert.entity,
        model=alert.model,
        fingerprint=alert.fingerprint,
        note=note,
    )
    _send(settings, said, key_file, key_id, as_json)


def _feedback(verdict: Any, starts_at: datetime, **values: str) -> "Feedback":
    from dwcp_stream.realised import Feedback
    from dwcp_stream.registry.history import local_user

    return Feedback(verdict=verdict, starts_at=starts_at, said_at=datetime.now(UTC), by=local_user(), **values)


async def _find(settings: Settings, fingerprint: str, at: datetime | None) -> "Alert":
    import msgspec

    from dwcp_stream.errors import UNREADABLE, PayloadError
    from dwcp_stream.events import Alert
    from dwcp_stream.kafka.scan import scan

    found: dict[str, Alert] = {}
    async for record in scan(settings, "anomalies"):
        try:
            alert = msgspec.json.decode(record.value or b"", type=Alert)
            begun = datetime.fromisoformat(alert.starts_at)
        except UNREADABLE:  # anybody may write there
            continue
        if alert.fingerprint.startswith(fingerprint) and (at is None or begun == at):
            before = found.get(alert.fingerprint)
            if before is None or before.starts_at <= alert.starts_at:
                found[alert.fingerprint] = alert
    if len(found) == 1:
        return next(iter(found.values()))
    what = f"there is no alert {fingerprint!r}" if not found else f"{fingerprint!r} begins {len(found)} fingerprints"
    when = f" that began at {at.isoformat()}" if at else ""
    raise PayloadError(
        what + when,
        where=f"{settings.topics.prefix}anomalies",
        remedy="Take the fingerprint, and the startsAt, from the alert itself",
    )


def _send(settings: Settings, said: "Feedback", key_file: Path | None, key_id: str | None, as_json: bool) -> None:
    from dwcp_stream.keys import read_key
    from dwcp_stream.realised import build_feedback

    signed_by = None if key_file is None else (key_name(key_file, key_id), read_key(key_file))
    asyncio.run(write(settings, "feedback", *build_feedback(said, signed_by)))
    if signed_by is None and settings.feedback.keys:
        click.echo(
            "it does not count: the settings name keys (feedback.keys), and it is not signed; give --key", err=True
        )
    words = {"true": "right", "false": "a false alarm", "missed": "missing"}
    emit(said, as_json, lambda f: f"noted: an alert of {f.entity} ({f.stream}) was {words[f.verdict]}")


async def write(settings: Settings, name: str, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> None:
    """Send a record to one of the daemon's topics; BrokerError if it was not written."""
    from aiokafka.errors import KafkaError

    from dwcp_stream.errors import BrokerError
    from dwcp_stream.kafka.catalogue import topic_name
    from dwcp_stream.kafka.clients import producer_client

    topic = topic_name(settings.topics.prefix, name)
    async with producer_client(settings) as producer:
        try:
            await producer.send_and_wait(topic, value, key, headers=headers)
        except KafkaError as error:
            raise BrokerError(f"was not written: {error}", where=topic, remedy="Try again") from error
