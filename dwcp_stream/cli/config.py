"""`dwcp-stream config`: whether settings and stream definitions are right, and what the settings are."""

import os
from pathlib import Path
from typing import Any

import click

from dwcp_stream.cli.common import emit, json_option, settings_option
from dwcp_stream.errors import ConfigError, ModelError
from dwcp_stream.settings import Settings, unknown_variables
from dwcp_stream.streams import StreamDefinition, load_stream, load_streams


@click.group()
def command() -> None:
    """Check the settings and the stream definitions.

    Settings come from config/dwcp-stream.toml (or --config FILE, or DWCP_CONFIG); a variable such as
    DWCP_KAFKA__BOOTSTRAP_SERVERS overrides the file. `dwcp-stream config show` lists every setting with
    its variable; docs/settings.md explains them.
    """


@command.command(
    epilog="""\b
Examples:
  dwcp-stream config check
  dwcp-stream config check my-stream.toml      before it goes to streams_dir
  DWCP_STREAMS_DIR=/etc/dwcp/streams dwcp-stream config check --json | jq .errors
"""
)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@settings_option
@json_option
@click.pass_context
def check(context: click.Context, settings: Settings, as_json: bool, files: tuple[Path, ...]) -> None:
    """Check the settings and every stream definition, or only the definitions in FILES.

    Each error names the file, the key and what to write instead. Exit code 1 if there is an error;
    warnings (a misspelt variable, a model that is not there) do not change it.
    """
    paths = list(files) or sorted(settings.streams_dir.glob("*.toml"))
    streams: list[StreamDefinition] = []
    errors: list[ConfigError] = []
    for path in paths:
        try:
            streams.append(load_stream(path))
        except ConfigError as error:
            errors.append(error)
    if not files and not errors:
        try:
            load_streams(settings.streams_dir)  # what only shows between files: a name or topic taken twice
        except ConfigError as error:
            errors.append(error)
    warnings = [
        f"{name}: no setting has this variable; `dwcp-stream config show` lists them"
        for name in unknown_variables(os.environ)
    ]
    try:
        warnings += _missing_models(settings, streams)
    except ConfigError as error:
        errors.append(error)
    except ModelError as error:  # a store that does not answer is none of the settings' faults
        warnings.append(str(error))
    result = {
        "ok": not errors,
        "streams": [stream.name for stream in streams],
        "errors": [{"where": e.where, "what": e.what, "remedy": e.remedy} for e in errors],
        "warnings": warnings,
    }
    emit(result, as_json, _render_check)
    if errors:
        context.exit(1)


def _missing_models(settings: Settings, streams: list[StreamDefinition]) -> list[str]:
    """Return what to say of models that have no version."""
    from dwcp_stream.registry import ModelRepository

    repository = ModelRepository(settings.models_dir)
    return [
        f"{stream.name}: model {model.name} is not in {settings.models_dir}"
        for stream in streams
        for model in stream.models
        if not repository.versions(model.name)
    ]


@command.command(
    epilog="""\b
Example:
  dwcp-stream config show --json | jq -r '.settings[] | select(.set) | .variable'
"""
)
@settings_option
@json_option
def show(settings: Settings, as_json: bool) -> None:
    """Show every setting: its value, and the variable that overrides it. Secrets are masked.

    A star marks a setting whose variable is set.
    """
    from dwcp_stream.settings_docs import options

    plain = settings.model_dump(mode="json", by_alias=True)  # secrets become asterisks
    rows = [
        {
            "key": option.path,
            "value": plain[option.section][option.key] if option.section else plain[option.key],
            "variable": option.variable,
            "set": option.variable in os.environ,
            "help": option.help,
        }
        for option in options()
    ]
    emit({"settings": rows}, as_json, _render_show)


def _render_check(result: dict[str, Any]) -> str:
    lines = [f"ok: stream {name}" for name in result["streams"]]
    lines += [f"warning: {warning}" for warning in result["warnings"]]
    lines += [f"error: {error['where']}: {error['what']}. {error['remedy']}" for error in result["errors"]]
    if result["ok"]:
        lines.append("settings and stream definitions are right")
    return "\n".join(lines)


def _render_show(result: dict[str, Any]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table("setting", "value", "variable", box=None, header_style="bold")
    for row in result["settings"]:
        value = "-" if row["value"] is None else str(row["value"])
        table.add_row(row["key"], escape(value), row["variable"] + (" *" if row["set"] else ""))
    return table
