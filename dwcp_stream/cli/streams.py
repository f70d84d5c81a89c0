"""`dwcp-stream streams`: which streams there are, and what one of them looks like."""

from typing import Any

import click

from dwcp_stream.cli.common import emit, json_option, settings_option
from dwcp_stream.cli.infer import infer
from dwcp_stream.errors import ConfigError
from dwcp_stream.settings import Settings
from dwcp_stream.streams import Field, StreamDefinition, load_streams


@click.group()
def command() -> None:
    """List the streams, show one, or draft one from a file.

    A stream is a kind of telemetry, defined by a file in streams_dir (config/streams): topic, entity, fields
    with units and ranges, windows, models, alert policy. To add one, add a file; `infer` drafts it.
    """


command.add_command(infer)


@command.command(
    "list",
    epilog="""\b
Example:
  dwcp-stream streams list --json | jq -r '.streams[] | "\\(.name) \\(.topic)"'
""",
)
@settings_option
@json_option
def list_streams(settings: Settings, as_json: bool) -> None:
    """List the streams with topic, entity, step, window and models."""
    streams = load_streams(settings.streams_dir)
    rows = [
        {
            "name": stream.name,
            "topic": stream.topic,
            "entity": _entity(stream),
            "step": stream.step,
            "window": stream.window,
            "fields": len(stream.fields),
            "models": [model.name for model in stream.models],
            "description": stream.description,
        }
        for stream in streams.values()
    ]
    emit({"streams_dir": str(settings.streams_dir), "streams": rows}, as_json, _render_list)


@command.command(
    epilog="""\b
Examples:
  dwcp-stream streams show link
  dwcp-stream streams show consensus --json | jq '.streams[0].fields[].name'
"""
)
@click.argument("name", required=False)
@settings_option
@json_option
def show(settings: Settings, as_json: bool, name: str | None) -> None:
    """Show the stream NAME, or all: fields with unit, range and vocabulary; timing; models; alert policy."""
    streams = load_streams(settings.streams_dir)
    if name is not None and name not in streams:
        raise ConfigError(
            f'there is no stream "{name}"',
            where=str(settings.streams_dir),
            remedy=f"Streams are {', '.join(streams)}",
        )
    chosen = [streams[name]] if name is not None else list(streams.values())
    emit({"streams": chosen}, as_json, lambda result: _render_show(result["streams"]))


def _entity(stream: StreamDefinition) -> str:
    parts = [f"[/{part}]" if part in stream.entity_optional else f"/{part}" for part in stream.entity]
    return "".join(parts).removeprefix("/")


def _render_list(result: dict[str, Any]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for header in ("stream", "topic", "entity", "step", "window", "fields", "models"):
        table.add_column(header, overflow="fold")
    for row in result["streams"]:
        cells = [row["name"], row["topic"], row["entity"], _step(row["step"]), f"{row['window']} rows"]
        table.add_row(*map(escape, cells), str(row["fields"]), ", ".join(row["models"]))
    return table


def _render_show(streams: list[StreamDefinition]) -> Any:
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    shown: list[Any] = []
    for stream in streams:
        shown.append(f"[bold]{stream.name}[/bold]  {escape(stream.description)}")
        facts = Table.grid(padding=(0, 2))
        for label, value in _facts(stream):
            facts.add_row(label, escape(value))
        fields = Table("field", "kind", "unit", "valid", "", box=None, header_style="bold")
        for field in stream.fields:
            note = ("required; " if field.required else "") + field.description
            fields.add_row(field.name, field.kind, field.unit, escape(_valid(field)), escape(note.removesuffix("; ")))
        shown += [facts, "", fields, ""]
    return Group(*shown)


def _facts(stream: StreamDefinition) -> list[tuple[str, str]]:
    periods = f"scored from {stream.min_periods} filled rows on, every {stream.stride} row(s)"
    late = f"late after {stream.lateness:g} s, ahead after {stream.ahead_tolerance:g} s"
    alert, resolves = stream.alert, stream.alert.threshold * stream.alert.resolve_below
    facts = [
        ("topic", stream.topic),
        ("entity", f"{_entity(stream)}, at most {stream.max_entities} per partition"),
        ("window", f"{stream.window} rows, step {_step(stream.step)}; {periods}"),
        ("time", f"{stream.time}; {late}, expires after {stream.expire_after:g} s"),
        (
            "alert",
            f"over {alert.threshold:g} for {alert.min_duration:g} s fires, under {resolves:g} resolves",
        ),
    ]
    facts += [("alert", f"of {name} over {factor:g}") for name, factor in alert.thresholds.items()]
    for model in stream.models:
        aim = f" of {', '.join(model.targets)} in {model.horizons} steps" if model.targets else ""
        facts.append(("model", f"{model.name} ({model.alias}): {model.task}{aim}"))
    return facts


def _step(step: float | str) -> str:
    return step if isinstance(step, str) else f"{step:g} s"


def _valid(field: Field) -> str:
    if field.coded:
        words = ", ".join(field.vocabulary[:6])
        return words + (f", ... ({len(field.vocabulary)} words)" if len(field.vocabulary) > 6 else "")
    if field.max is None:
        return "any number" if field.min is None else f"{field.min:g} or more"
    return f"up to {field.max:g}" if field.min is None else f"{field.min:g} to {field.max:g}"
