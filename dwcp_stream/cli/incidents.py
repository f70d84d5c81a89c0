"""`dwcp-stream incidents`: make incidents of alerts, and look at them."""

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import click
import msgspec

from dwcp_stream.cli.common import emit, json_option, settings_option
from dwcp_stream.settings import Settings

if TYPE_CHECKING:
    from dwcp_stream.incidents import Incident

LEAD_SECONDS = 30.0


@click.group()
def command() -> None:
    """Alerts of one cluster and time as one incident, on `dwcp.incidents`."""


@command.command(
    epilog="""\b
Examples:
  dwcp-stream incidents run
  dwcp-stream incidents run --once --json | jq -r '.incidents[] | "\\(.action) \\(.summary)"'
"""
)
@click.option("--once", is_flag=True, help="Tell what the topics hold now, and stop.")
@settings_option
@json_option
def run(settings: Settings, *, once: bool, as_json: bool) -> None:
    """Make incidents of the alerts of all streams, until SIGTERM or Ctrl-C.

    Several may run: one leads, the others stand by. What is known is in the topics, so that it can be killed at any
    time.
    """
    from dwcp_stream.telemetry.logs import configure_logging
    from dwcp_stream.telemetry.redact import secrets_of

    configure_logging(settings.log, secrets=secrets_of(settings))
    told = asyncio.run(_run(settings, once=once))
    emit({"incidents": told}, as_json, lambda r: f"{len(r['incidents'])} changes of incidents told")


async def _run(settings: Settings, *, once: bool) -> "list[Incident]":
    from dwcp_stream.errors import BrokerError
    from dwcp_stream.kafka.incidents import incident_service
    from dwcp_stream.streams import load_streams

    told: list[Incident] = []
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    streams = list(load_streams(settings.streams_dir).values())
    async with incident_service(settings, streams) as service:
        if not once:
            await service.run(lambda _: None, stop)
            return told
        try:
            await asyncio.wait_for(service.leads.wait(), LEAD_SECONDS)
        except TimeoutError as error:
            remedy = "Stop it, or let it do the work"
            raise BrokerError("another process leads", where=settings.app_id, remedy=remedy) from error
        return await service.look()


@command.command(
    "list",
    epilog="""\b
Examples:
  dwcp-stream incidents list --open
  dwcp-stream incidents list --json | jq '.incidents[] | select(.state == "open") | .cause'
""",
)
@click.option("--open", "only_open", is_flag=True, help="Only those of which an alert fires.")
@settings_option
@json_option
def list_incidents(settings: Settings, *, only_open: bool, as_json: bool) -> None:
    """List the incidents, the newest last; those that turned out to be part of another are left out."""
    from dwcp_stream.kafka.incidents import known_incidents

    found = [i for i in asyncio.run(known_incidents(settings)) if i.state != "merged"]
    found = [i for i in found if i.state == "open"] if only_open else found
    emit({"incidents": msgspec.to_builtins(found)}, as_json, _render)


@command.command(epilog="\b\nExample:\n  dwcp-stream incidents show 4f2a")
@click.argument("incident_id", metavar="ID")
@settings_option
@json_option
def show(incident_id: str, settings: Settings, *, as_json: bool) -> None:
    """Show the incident with this ID (or its beginning), and the alerts beneath it."""
    from dwcp_stream.errors import PayloadError
    from dwcp_stream.kafka.incidents import known_incidents

    found = [i for i in asyncio.run(known_incidents(settings)) if i.id.startswith(incident_id)]
    if len(found) != 1:
        raise PayloadError(
            f"{len(found)} incidents have an id that begins with {incident_id!r}",
            where=f"{settings.topics.prefix}incidents",
            remedy="Take the id from `dwcp-stream incidents list`",
        )
    emit(msgspec.to_builtins(found[0]), as_json, _render_one)


def _render(result: dict[str, Any]) -> str:
    return "\n".join(_line(i) for i in result["incidents"]) or "no incidents"


def _line(incident: dict[str, Any]) -> str:
    ends = incident.get("endsAt", "")
    hushed = f" (silenced by {', '.join(incident['silenced_by'])})" if incident["silenced_by"] else ""
    return f"{incident['id'][:8]}  {incident['startsAt']}  {ends or 'open':<24}  {incident['summary']}{hushed}"


def _render_one(incident: dict[str, Any]) -> str:
    cause = incident["cause"]
    lines = [_line(incident), f"first look at {cause['stream']} {cause['entity']}: {cause['why']}"]
    if incident["merged_into"]:
        lines.append(f"part of {incident['merged_into']}")
    lines += [
        f"  {m['startsAt']}  {m.get('endsAt', 'firing'):<24}  {m['severity']:<9}  {m['stream']} {m['entity']}"
        f"  {m['fingerprint'][:8]}"
        for m in incident["alerts"]
    ]
    more = incident["alert_count"] - len(incident["alerts"])
    return "\n".join([*lines, f"  ... {more} more"] if more else lines)
