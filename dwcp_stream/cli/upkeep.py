"""The commands of `dwcp-stream models` that keep the repository in order: history, sign, diff, gc."""

from pathlib import Path
from typing import Any

import click

from dwcp_stream.cli.common import emit, json_option, key_name, key_options, settings_option
from dwcp_stream.settings import Settings


@click.command(
    epilog="""\b
Examples:
  dwcp-stream models history
  dwcp-stream models history node-gbt --json | jq '.moves[-1]'
"""
)
@click.argument("name", required=False)
@settings_option
@json_option
def history(name: str | None, settings: Settings, as_json: bool) -> None:
    """Show who moved which alias, when, from which version to which, and why."""
    from dwcp_stream.registry.history import read_history

    emit({"moves": list(read_history(settings.models_dir, name))}, as_json, _render_history)


@click.command(
    epilog="""\b
Example:
  dwcp-stream models sign node-gbt 2 --key alice.key
"""
)
@click.argument("name")
@click.argument("which", default="champion")
@key_options
@settings_option
@json_option
def sign(name: str, which: str, key_file: Path, key_id: str | None, settings: Settings, *, as_json: bool) -> None:
    """Vouch for a version of NAME with your key: its champion, or WHICH.

    The version is verified first. The signature is over the manifest, which holds the hashes of all files, and lies
    beside the version's folder. Workers whose settings have `model_keys` refuse what none of these keys has signed.
    """
    from dwcp_stream.keys import read_key
    from dwcp_stream.registry import ModelRepository
    from dwcp_stream.registry.signatures import sign_version

    repository = ModelRepository(settings.models_dir)
    version = repository.resolve(name, which)
    found = repository.verify(name, version)
    if found.error is not None:
        raise found.error
    who = key_name(key_file, key_id)
    path = sign_version(repository.storage, name, version, who, read_key(key_file))
    result = {"name": name, "version": version, "key_id": who, "path": path}
    emit(result, as_json, lambda made: f"{who} vouches for {name} version {version}: {made['path']}")


@click.command(
    epilog="""\b
Examples:
  dwcp-stream models diff node-gbt last_good champion
  dwcp-stream models diff node-gbt 1 2 --json | jq '.differences[] | select(.key | startswith("metrics"))'
"""
)
@click.argument("name")
@click.argument("before", metavar="FROM")
@click.argument("after", metavar="TO")
@settings_option
@json_option
def diff(name: str, before: str, after: str, settings: Settings, *, as_json: bool) -> None:
    """Show in what two versions of NAME differ: fields, window, severities, figures, how they were made."""
    from dwcp_stream.loading import open_repository
    from dwcp_stream.registry.upkeep import differences

    rows = differences(open_repository(settings), name, before, after)
    emit({"name": name, "before": before, "after": after, "differences": rows}, as_json, _render_diff)


@click.command(
    epilog="""\b
Examples:
  dwcp-stream models gc --dry-run
  dwcp-stream models gc node-gbt --keep 2 --days 90
"""
)
@click.argument("name", required=False)
@click.option("--keep", default=5, show_default=True, type=click.IntRange(1), help="Newest versions that stay.")
@click.option("--days", default=30.0, show_default=True, type=click.FloatRange(0), help="What served since stays too.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@settings_option
@json_option
def gc(name: str | None, keep: int, days: float, settings: Settings, *, dry_run: bool, as_json: bool) -> None:
    """Remove versions that nothing needs, of NAME or of all models.

    What an alias points at stays, and what one has pointed at lately: a worker that comes back after a crash scores
    again with the version that scored first. How long a worker may be away is for you to say (--days).
    """
    from dwcp_stream.loading import open_repository
    from dwcp_stream.registry.upkeep import removable, remove

    repository = open_repository(settings)
    if name is not None and not repository.versions(name):
        repository.resolve(name)  # says which models there are
    gone = [
        {"name": model, "version": version}
        for model in ([name] if name is not None else repository.names())
        for version in removable(repository, model, keep=keep, days=days)
    ]
    if not dry_run:
        for row in gone:
            remove(repository, str(row["name"]), int(str(row["version"])))
    emit({"removed": gone, "dry_run": dry_run}, as_json, _render_gc)


def _render_history(result: dict[str, Any]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    if not result["moves"]:
        return "no alias has been moved"
    table = Table("at", "by", "model", "alias", "from", "to", "why", box=None, header_style="bold")
    for move in result["moves"]:
        versions = (str(move.before or "none"), str(move.version or "none"))
        table.add_row(move.at, escape(move.by), move.model, move.alias, *versions, escape(move.reason))
    return table


def _render_diff(result: dict[str, Any]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    if not result["differences"]:
        return "no difference"
    table = Table("", result["before"], result["after"], box=None, header_style="bold")
    for row in result["differences"]:
        table.add_row(row["key"], *(escape(_short(row[side])) for side in ("before", "after")))
    return table


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = "-" if value is None else str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _render_gc(result: dict[str, Any]) -> str:
    word = "would go" if result["dry_run"] else "removed"
    return (
        "\n".join(f"{row['name']} version {row['version']}: {word}" for row in result["removed"]) or "nothing to remove"
    )


COMMANDS = (history, sign, diff, gc)
