"""Results of an evaluation on stdout: one JSON object, or plain text."""

import json
from typing import Any

import click


def emit_table(result: dict[str, Any], as_json: bool) -> None:
    """Print a result whose values are numbers, mappings of numbers, or lists of rows."""
    if as_json:
        click.echo(json.dumps(result, indent=1))
        return
    for key, value in result.items():
        if isinstance(value, list):
            for row in value:
                click.echo("  ".join(f"{name} {cell}" for name, cell in row.items()))
        elif isinstance(value, dict):
            click.echo(f"{key}:")
            for name, cell in value.items():
                click.echo(f"  {name}: {cell}")
        else:
            click.echo(f"{key}: {value}")
