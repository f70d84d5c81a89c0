"""`dwcp-stream doctor`: say what is wrong, and what to do about it."""

import asyncio
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from dwcp_stream.cli.common import emit, json_option, settings_option
from dwcp_stream.errors import DwcpError
from dwcp_stream.settings import Settings, unknown_variables

if TYPE_CHECKING:
    from dwcp_stream.diagnosis import Finding
    from dwcp_stream.streams import StreamDefinition


@click.command(
    epilog="""\b
Examples:
  dwcp-stream doctor
  dwcp-stream doctor --records 10000 --json | jq '.findings[] | select(.level == "problem")'
"""
)
@click.option("--records", default=1000, show_default=True, type=click.IntRange(0), help="Newest records to look at.")
@settings_option
@json_option
@click.pass_context
def command(context: click.Context, records: int, settings: Settings, as_json: bool) -> None:
    """Look for what is wrong with this installation.

    Checks settings and stream definitions, the models (files, hashes, results), whether workers could listen on their
    ports, whether a broker answers and which it is, topics against the catalogue, and in the newest records of each
    stream's topic: keys that are not the payload's entity, entities on two partitions, invalid samples, clocks. Reads
    only. Exits with 1 if there is a problem; notes do not count.
    """
    report = asyncio.run(_examine(settings, records))
    emit(report, as_json, _render)
    context.exit(0 if report["ok"] else 1)


async def _examine(settings: Settings, count: int) -> dict[str, Any]:
    from dwcp_stream.diagnosis import problem

    findings = _variables()
    streams, wrong = _streams(settings)
    findings += wrong
    models, wrong = await asyncio.to_thread(_models, settings, streams)
    findings += wrong
    findings += await asyncio.to_thread(_ports, settings, streams)
    broker: dict[str, Any] | None = None
    checks: list[Any] = []
    try:
        broker, checks, wrong = await _kafka(settings, streams, count)
        findings += wrong
    except DwcpError as error:
        findings.append(problem("broker", error))
    return {
        "ok": all(f.level != "problem" for f in findings),
        "findings": findings,
        "bootstrap_servers": settings.kafka.bootstrap_servers,
        "broker": broker,
        "streams": [s.name for s in streams],
        "models": models,
        "records": checks,
    }


def _variables() -> "list[Finding]":
    from dwcp_stream.diagnosis import Finding

    return [
        Finding("note", "settings", name, "no setting has this name", "Correct or unset it; see docs/settings.md")
        for name in unknown_variables(os.environ)
    ]


def _streams(settings: Settings) -> "tuple[list[StreamDefinition], list[Finding]]":
    from dwcp_stream.diagnosis import problem
    from dwcp_stream.streams import load_streams

    try:
        return list(load_streams(settings.streams_dir).values()), []
    except DwcpError as error:
        return [], [problem("streams", error)]


def _models(settings: Settings, streams: "Sequence[StreamDefinition]") -> "tuple[list[dict[str, Any]], list[Finding]]":
    from dwcp_stream.diagnosis import Finding, problem
    from dwcp_stream.loading import bound_models

    loaded, findings = [], []
    for stream in streams:
        try:
            models = bound_models(settings, stream)
        except DwcpError as error:
            findings.append(problem("models", error))
            continue
        loaded += [{"stream": stream.name, "model": m.name, "version": m.version} for m in models]
        findings += [
            Finding(
                "note",
                "models",
                f"{settings.models_dir}: {model.name}",
                "no version is published; a detector that learns as it goes stands in",
                f"Train one: dwcp-stream train {stream.name} --data FILE; or check models_dir",
            )
            for model in models
            if model.degraded
        ]
    return loaded, findings


def _ports(settings: Settings, streams: "Sequence[StreamDefinition]") -> "list[Finding]":
    from dwcp_stream.cli.worker import port_of
    from dwcp_stream.diagnosis import problem
    from dwcp_stream.web.ports import check_port

    http, names = settings.http, sorted(stream.name for stream in streams)
    if http.port == 0:
        return []
    token = http.token.get_secret_value() if http.token else None
    try:
        ports = {f"the worker of {name}": port_of(settings, name, names) for name in names}
    except DwcpError as error:
        return [problem("ports", error)]
    found = (check_port(http.host, port, whose, token) for whose, port in ports.items())
    return [finding for finding in found if finding]


async def _kafka(
    settings: Settings, streams: "Sequence[StreamDefinition]", count: int
) -> "tuple[dict[str, Any], list[Any], list[Finding]]":
    from dwcp_stream.diagnosis import Finding
    from dwcp_stream.kafka.catalogue import catalogue
    from dwcp_stream.kafka.clients import consumer_client
    from dwcp_stream.kafka.inspection import check_records, check_topics, newest_records, source_topic
    from dwcp_stream.kafka.topics import admin_client, partition_count
    from dwcp_stream.kafka.version import broker_version, too_old
    from topologies.names import changelog_topic

    topics = settings.topics
    sources = {source_topic(settings, s): s for s in streams}
    async with admin_client(settings) as admin:
        broker = await broker_version(admin)
        old = too_old(broker["fetch_api"])
        specs = catalogue(topics.prefix, topics.partitions, topics.replication, streams)
        states = {source: changelog_topic(settings, s) for source, s in sources.items()}
        findings = await check_topics(admin, specs, states, topics.replication)
        if old:
            what, remedy = f"its Kafka is older than {old}", f"Use Kafka {old} or newer; the tests run on 4.1"
            findings.append(Finding("problem", "broker", settings.kafka.bootstrap_servers, what, remedy))
        partitions = {source: await partition_count(admin, source) for source in sources}
    checks = []
    async with consumer_client(settings) as consumer:
        for source, stream in sources.items():
            number = partitions[source]
            if number and count:
                newest = await newest_records(consumer, source, number, count)
                check, wrong = check_records(stream, source, newest, time.time())
                checks.append(check)
                findings += wrong
    return broker, checks, findings


def _render(report: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.text import Text

    lines: list[Text] = []
    broker = report["broker"]
    if broker:
        lines.append(Text(f"broker   Kafka {broker['version']} at {report['bootstrap_servers']}"))
    lines += [Text(f"stream   {name}") for name in report["streams"]]
    lines += [Text(f"model    {m['model']} v{m['version']} ({m['stream']})") for m in report["models"]]
    lines += [Text(f"records  {c.topic}: {c.records} looked at, {c.entities} entities") for c in report["records"]]
    for finding in report["findings"]:
        style = "bold red" if finding.level == "problem" else "yellow"
        lines.append(Text(f"{finding.level:<8} {finding.check}: {finding.where}: {finding.what}", style=style))
        if finding.remedy:
            lines.append(Text(f"         {finding.remedy}"))
    lines.append(Text("nothing is wrong" if report["ok"] else "something is wrong", style="bold"))
    return Group(*lines)
