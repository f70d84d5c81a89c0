"""`dwcp-stream alert-sink`: send alerts to Alertmanager and webhooks, until stopped."""

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import click

from dwcp_stream.cli.common import emit, json_option, settings_option
from dwcp_stream.settings import Settings

if TYPE_CHECKING:
    from dwcp_stream.sinks import Sink


@click.command(
    "alert-sink",
    epilog="""\b
Examples:
  DWCP_SINKS__ALERTMANAGER_URLS='["http://127.0.0.1:9093"]' dwcp-stream alert-sink
  dwcp-stream alert-sink --check
  dwcp-stream alert-sink --check --json | jq -r '.sinks[] | "\\(.sink) \\(.outcome) \\(.reason)"'
""",
)
@click.option("--check", is_flag=True, help="Send every sink an alert named DwcpSinkCheck and its end, and stop.")
@settings_option
@json_option
@click.pass_context
def command(context: click.Context, settings: Settings, *, check: bool, as_json: bool) -> None:
    """Send the alerts of all streams where the settings' section `sinks` says.

    Each sink reads the topic in a consumer group of its own, APP_ID-alert-sink-SINK, and commits offsets when it has
    the alerts: none is lost while a sink is away, and none waits for another sink. Alertmanager is told again and again
    what fires; a webhook is sent each transition once, or twice after a crash.

    Runs until SIGTERM or Ctrl-C. Several may run: they share the topic's partitions.
    """
    from dwcp_stream.telemetry.logs import configure_logging
    from dwcp_stream.telemetry.redact import secrets_of

    if check:
        sinks = asyncio.run(_check(settings))
        emit({"sinks": sinks}, as_json, _render)
        if any(sink["outcome"] != "taken" for sink in sinks):
            context.exit(1)
        return
    configure_logging(settings.log, secrets=secrets_of(settings))
    sent = asyncio.run(_run(settings))
    emit({"sent": sent}, as_json, lambda done: "\n".join(f"{name}: {n:.0f} sent" for name, n in done["sent"].items()))


async def _run(settings: Settings) -> dict[str, float]:
    from dwcp_stream.sinks import sinks_of
    from topologies.sink_process import SinkProcess

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    process = SinkProcess(settings)
    await process.run(stop)
    value = process.metrics.registry.get_sample_value
    return {sink.name: value("dwcp_sink_sent_total", {"sink": sink.name}) or 0.0 for sink in sinks_of(settings.sinks)}


async def _check(settings: Settings) -> list[dict[str, Any]]:
    from dwcp_stream.sinks import sinks_of
    from dwcp_stream.sinks.client import http_session
    from dwcp_stream.sinks.trial import NO_SINK

    sinks = sinks_of(settings.sinks)
    if not sinks:
        raise NO_SINK
    async with http_session(settings.sinks.timeout_seconds, settings.sinks.ssl_cafile) as session:
        return list(await asyncio.gather(*(_try(session, sink) for sink in sinks)))


async def _try(session: Any, sink: "Sink") -> dict[str, Any]:
    import time

    from dwcp_stream.sinks import Telling
    from dwcp_stream.sinks.client import post
    from dwcp_stream.sinks.trial import trial

    now = time.time()
    for telling in (Telling(trial(now, "firing"), None), Telling(trial(now, "resolved"), trial(now, "firing"))):
        answer = await post(session, sink, sink.tell([telling], now))
        if answer.word != "taken":
            break
    return {"sink": sink.name, "outcome": answer.word, "reason": answer.reason}


def _render(result: dict[str, Any]) -> str:
    return "\n".join(f"{sink['sink']}: {sink['outcome']} ({sink['reason']})" for sink in result["sinks"])
