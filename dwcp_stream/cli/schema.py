"""`dwcp-stream topics schema`: JSON Schemas of what the daemon publishes, reads and obeys."""

from pathlib import Path
from typing import Any

import click

from dwcp_stream.cli.common import emit, json_option, settings_option
from dwcp_stream.errors import ConfigError
from dwcp_stream.settings import Settings


@click.command(
    "schema",
    epilog="""\b
Examples:
  dwcp-stream topics schema
  dwcp-stream topics schema Alert --json | jq .schema.properties.severity
  dwcp-stream topics schema --out schemas/
""",
)
@click.argument("name", required=False)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Write a file for each there."
)
@settings_option
@json_option
def command(name: str | None, out: Path | None, settings: Settings, *, as_json: bool) -> None:
    """Print the JSON Schema of the payload NAME, list the payloads, or write all of them to files.

    Payloads are those of docs/asyncapi.yaml: of the daemon's own topics, and the samples and frames of each stream.
    """
    from dwcp_stream.asyncapi.schemas import json_schemas
    from dwcp_stream.streams import load_streams

    schemas = json_schemas(load_streams(settings.streams_dir).values())
    if out is not None:
        emit({"written": _write(schemas, out)}, as_json, lambda done: "\n".join(done["written"]))
    elif name is None:
        rows = [{"name": each, "description": schema.get("description", "")} for each, schema in schemas.items()]
        emit({"schemas": rows}, as_json, lambda found: "\n".join(row["name"] for row in found["schemas"]))
    elif name not in schemas:
        raise ConfigError(f"there is no payload {name!r}", remedy=f"Use one of {', '.join(schemas)}")
    else:
        emit({"name": name, "schema": schemas[name]}, as_json, lambda found: _pretty(found["schema"]))


def _write(schemas: dict[str, dict[str, Any]], out: Path) -> list[str]:
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, schema in schemas.items():
            (out / f"{name}.schema.json").write_text(_pretty(schema) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot be written: {error.strerror}", where=str(out), remedy="Give a folder of yours"
        ) from error
    return [str(out / f"{name}.schema.json") for name in schemas]


def _pretty(schema: dict[str, Any]) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode()
