"""`dwcp-stream topics`: what the topics are, creating those that are missing, changing their partitions."""

import asyncio
from typing import Any

import click

from dwcp_stream.cli import repartition, schema
from dwcp_stream.cli.common import emit, json_option, settings_option
from dwcp_stream.settings import Settings


@click.group()
def command() -> None:
    """List and create the topics, say which rights on them are needed, change a stream's number of partitions."""


command.add_command(repartition.command, "repartition")
command.add_command(schema.command, "schema")


@command.command(
    "list",
    epilog="""\b
Example:
  dwcp-stream topics list --json | jq '.topics[] | select(.exists | not) | .name'
""",
)
@settings_option
@json_option
def list_topics(settings: Settings, as_json: bool) -> None:
    """List the catalogue of topics beside what the brokers have.

    Telemetry topics come from the stream definitions, the others from the catalogue with the prefix of the
    settings. Differences are said with what to do; they do not change the exit code (`doctor` does that).
    """
    emit(asyncio.run(_list(settings)), as_json, _render)


@command.command(
    epilog="""\b
Example:
  DWCP_TOPICS__PARTITIONS=12 DWCP_TOPICS__REPLICATION=3 dwcp-stream topics create
"""
)
@settings_option
@json_option
def create(settings: Settings, as_json: bool) -> None:
    """Create the topics that are missing.

    The number of partitions is fixed from then on: entities live on the partition that their key was hashed
    to. Topics that exist are left as they are.
    """
    emit(asyncio.run(_create(settings)), as_json, _render_created)


@command.command(
    epilog="""\b
Examples:
  dwcp-stream topics acls node --principal User:dwcp-node
  dwcp-stream topics acls node --principal User:agents --for sender
  dwcp-stream topics acls node --principal User:dwcp-node --json | jq -r '.rights[] | "\\(.operation) \\(.name)"'
"""
)
@click.argument("stream")
@click.option("--principal", required=True, metavar="TYPE:NAME", help="Who gets the rights, such as User:dwcp-node.")
@click.option(
    "--for",
    "role",
    type=click.Choice(["worker", "sender", "operator", "archiver", "alert-sink", "incidents"]),
    default="worker",
    show_default=True,
    help="worker: `worker STREAM`; sender: `replay` and agents; operator: `topics create`, `topics list`, `doctor`;"
    " archiver: `archive STREAM`; alert-sink: `alert-sink`, and incidents: `incidents run`, for all streams.",
)
@settings_option
@json_option
def acls(settings: Settings, as_json: bool, stream: str, principal: str, role: str) -> None:
    """Print the kafka-acls commands that give a principal what it needs for STREAM, and no more.

    They follow from the catalogue and the settings (topics.prefix, app_id), and are for an administrator to run; add
    `--command-config FILE` with the administrator's login. An operator needs those of every stream. Reads no broker.
    """
    from dwcp_stream.kafka.alert_feed import sink_group
    from dwcp_stream.kafka.archiver import archive_group
    from dwcp_stream.kafka.catalogue import topic_name
    from dwcp_stream.kafka.incidents import incident_group
    from dwcp_stream.kafka.rights import (
        archiver_rights,
        commands,
        incident_rights,
        operator_rights,
        sender_rights,
        sink_rights,
        worker_rights,
    )
    from dwcp_stream.loading import find_stream
    from dwcp_stream.sinks import sinks_of
    from topologies.names import app_id, changelog_topic, journal_topic

    if not all(principal.partition(":")):
        raise click.BadParameter("is not TYPE:NAME, such as User:dwcp-node", param_hint="--principal")
    definition, prefix = find_stream(settings, stream), settings.topics.prefix
    source, state = topic_name(prefix, definition.topic), changelog_topic(settings, definition)
    if role == "sender":
        rights = sender_rights(source)
    elif role == "archiver":
        rights = archiver_rights(source, archive_group(settings, definition))
    elif role == "alert-sink":
        rights = sink_rights(prefix, [sink_group(settings, sink.name) for sink in sinks_of(settings.sinks)])
    elif role == "incidents":
        rights = incident_rights(incident_group(settings), prefix)
    elif role == "operator":
        rights = operator_rights(source, state, prefix)
    else:
        journal = journal_topic(settings, definition)
        group, commanded = app_id(settings, definition), bool(settings.control.keys)
        rights = worker_rights(source, state, group, journal, prefix, commanded=commanded)
    lines = commands(rights, principal, settings.kafka.bootstrap_servers)
    result = {"stream": stream, "principal": principal, "role": role, "rights": rights, "commands": lines}
    emit(result, as_json, lambda r: "\n".join(r["commands"]))


async def _list(settings: Settings) -> dict[str, Any]:
    from dwcp_stream.kafka.topics import admin_client, describe, differences, expected_topics

    specs = expected_topics(settings)
    async with admin_client(settings) as admin:
        states = await describe(admin, [s.name for s in specs])
    rows = []
    for spec in specs:
        state = states.get(spec.name)
        rows.append(
            {
                "name": spec.name,
                "exists": state is not None,
                "partitions": state.partitions if state else None,
                "replication": state.replication if state else None,
                "cleanup": state.config.get("cleanup.policy") if state else None,
                "key": spec.key,
                "purpose": spec.purpose,
                "expected": {"partitions": spec.partitions, "config": dict(spec.config)},
                "differences": differences([spec], states),
            }
        )
    return {"bootstrap_servers": settings.kafka.bootstrap_servers, "topics": rows}


async def _create(settings: Settings) -> dict[str, Any]:
    from dwcp_stream.kafka.topics import admin_client, create_topics, describe, differences, expected_topics

    specs = expected_topics(settings)
    async with admin_client(settings) as admin:
        created = await create_topics(admin, specs)
        states = await describe(admin, [s.name for s in specs])
    there = [s.name for s in specs if s.name not in created]
    return {"created": created, "existing": there, "differences": differences(specs, states)}


def _render(result: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.table import Table

    table = Table("topic", "partitions", "cleanup", "key", "what", box=None, header_style="bold")
    for row in result["topics"]:
        parts = str(row["partitions"]) if row["exists"] else "[red]missing[/red]"
        table.add_row(row["name"], parts, row["cleanup"] or "-", row["key"], row["purpose"])
    notes = [_line(d) for row in result["topics"] for d in row["differences"] if d.what != "missing"]
    if not all(row["exists"] for row in result["topics"]):
        notes.append("Create the missing ones: dwcp-stream topics create")
    return Group(table, *notes)


def _render_created(result: dict[str, Any]) -> str:
    lines = [f"created {name}" for name in result["created"]] or ["nothing to create: all topics exist"]
    return "\n".join(lines + [_line(d) for d in result["differences"]])


def _line(difference: Any) -> str:
    d = difference
    return f"{d.topic}: {d.what} is {d.have}, expected {d.want}. {d.remedy}"
