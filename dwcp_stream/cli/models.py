"""`dwcp-stream models`: what is in the model repository, and whether it may be used."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
import msgspec

from dwcp_stream.cli import arms, upkeep
from dwcp_stream.cli.common import emit, json_option, progress, settings_option
from dwcp_stream.settings import Settings

if TYPE_CHECKING:
    from dwcp_stream.errors import ModelError
    from dwcp_stream.registry import ModelRepository, Verification
    from dwcp_stream.streams import StreamDefinition


@click.group()
def command() -> None:
    """List, show, describe, verify, publish, promote and roll back the models.

    Models are folders of the repository (setting `models_dir`): NAME/VERSION/ with model.onnx, manifest.json
    and more. A version never changes; aliases.json says which is champion, challenger, shadow or last_good.
    """


for _more in (*arms.COMMANDS, *upkeep.COMMANDS):
    command.add_command(_more)


@command.command(
    "list",
    epilog="""\b
Example:
  dwcp-stream models list --json | jq '.models[] | {name, champion: .aliases.champion}'
""",
)
@settings_option
@json_option
def list_models(settings: Settings, as_json: bool) -> None:
    """List the models, their versions and aliases.

    Only manifests are read; `models verify` runs the graphs.
    """
    from dwcp_stream.loading import open_repository

    repository = open_repository(settings)
    rows = [_row(repository, name) for name in repository.names()]
    emit({"models_dir": str(settings.models_dir), "models": rows}, as_json, _render_list)


@command.command(
    epilog="""\b
Examples:
  dwcp-stream models show node-gbt
  dwcp-stream models show link-forecast 3 --json | jq .manifest.metrics
"""
)
@click.argument("name")
@click.argument("which", default="champion")
@settings_option
@json_option
def show(name: str, which: str, settings: Settings, as_json: bool) -> None:
    """Show the manifest of NAME: its champion, or WHICH (an alias or a version).

    What it says, from which fields, how it was trained, how good it was and beside which simple rules.
    """
    from dwcp_stream.loading import open_repository

    repository = open_repository(settings)
    manifest = repository.manifest(name, which)
    held = [alias for alias, version in repository.aliases(name).items() if version == manifest.version]
    result = {
        "path": repository.where(name, manifest.version),
        "aliases": held,
        "manifest": msgspec.to_builtins(manifest),
    }
    emit(result, as_json, _render_manifest)


@command.command(
    epilog="""\b
Examples:
  dwcp-stream models card node-gbt
  dwcp-stream models card link-lstm 2 --json | jq -r .card
"""
)
@click.argument("name")
@click.argument("which", default="champion")
@settings_option
@json_option
def card(name: str, which: str, settings: Settings, as_json: bool) -> None:
    """Print the model card of NAME as Markdown: its champion's, or that of WHICH (an alias or a version).

    What it is, what it was trained on and under which licence, its figures beside those of the simple rule and of the
    best other, what it is good and bad at, its size and its speed. A version from before there were cards gets one
    made from its manifest and report; its speed is then measured here and now.
    """
    from dwcp_stream.loading import open_repository

    repository = open_repository(settings)
    version = repository.resolve(name, which)
    result = {"name": name, "version": version, "card": repository.card(name, version)}
    emit(result, as_json, lambda found: found["card"].rstrip())


@command.command(
    epilog="""\b
Examples:
  dwcp-stream models verify                     # the versions that aliases point at
  dwcp-stream models verify node-gbt 2          # one version
  dwcp-stream models verify --all --json | jq '.models[] | select(.ok | not)'
"""
)
@click.argument("name", required=False)
@click.argument("which", required=False)
@click.option("--all", "every", is_flag=True, help="Every version, not only those that an alias points at.")
@settings_option
@json_option
def verify(name: str | None, which: str | None, *, every: bool, settings: Settings, as_json: bool) -> None:
    """Check versions as the worker does before it uses one, and say why one is refused.

    Files and their hashes, manifest, operators, inputs and outputs, metadata, goldens, and whether the model
    fits the definition of its stream. Exit code 1 if a version is refused.
    """
    from dwcp_stream.loading import open_repository
    from dwcp_stream.streams import load_streams

    if which is not None and every:
        raise click.UsageError("Give a version or --all, not both")
    repository = open_repository(settings)
    streams = load_streams(settings.streams_dir)
    wanted = list(_wanted(repository, name, which, every))
    checked = []
    with progress("verifying", len(wanted)) as advance:
        for model, version in wanted:
            checked.append(_verify(repository, streams, model, version))
            advance(1)
    emit({"models": checked, "refused": sum(not row["ok"] for row in checked)}, as_json, _render_verify)
    if not all(row["ok"] for row in checked):
        click.get_current_context().exit(1)


def _wanted(
    repository: "ModelRepository", name: str | None, which: str | None, every: bool
) -> Iterator[tuple[str, int]]:
    if name is not None and which is not None:
        yield name, repository.resolve(name, which)
        return
    for model in [name] if name is not None else repository.names():
        aliased = set(repository.aliases(model).values())
        versions = repository.versions(model)
        if not versions:
            repository.resolve(model)  # says which models there are
        # A model that no alias points at is new; checking nothing would look like a pass.
        chosen = versions if every or not aliased else sorted(aliased)
        yield from ((model, version) for version in chosen)


def _verify(
    repository: "ModelRepository", streams: "dict[str, StreamDefinition]", name: str, version: int
) -> dict[str, Any]:
    from dwcp_stream.errors import ModelError

    try:
        named = repository.manifest(name, version).stream
        result = repository.verify(name, version, streams.get(named))
    except ModelError as error:
        return {"name": name, "version": version, "ok": False, "error": _plain(error)}
    return _checked(result, named if named in streams else None)


def _checked(result: "Verification", stream: str | None) -> dict[str, Any]:
    return {
        "name": result.name,
        "version": result.version,
        "ok": result.ok,
        "stream": stream,
        "golden_difference": result.golden_difference,
        "seconds": round(result.seconds, 3),
        "error": None if result.error is None else _plain(result.error),
    }


def _plain(error: "ModelError") -> dict[str, str]:
    return {
        "error_type": error.error_type,
        "what": error.what,
        "where": error.where,
        "remedy": error.remedy,
    }


def _row(repository: "ModelRepository", name: str) -> dict[str, Any]:
    from dwcp_stream.errors import ModelError

    versions, aliases = repository.versions(name), repository.aliases(name)
    row: dict[str, Any] = {"name": name, "versions": versions, "aliases": aliases, "share": repository.share(name)}
    try:
        manifest = repository.manifest(name, aliases.get("champion", versions[-1]))
    except ModelError as error:
        return {**row, "error": _plain(error)}
    facts = ("task", "stream", "window", "trained_at", "licence")
    return {**row, **{fact: getattr(manifest, fact) for fact in facts}, "error": None}


def _render_list(result: dict[str, Any]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    if not result["models"]:
        return f"no models in {result['models_dir']}: train one with `dwcp-stream train`"
    table = Table("model", "stream", "task", "versions", "aliases", "trained", box=None, header_style="bold")
    for row in result["models"]:
        share = {"challenger": f" ({row['share']} %)"}
        aliases = ", ".join(f"{alias} {n}{share.get(alias, '')}" for alias, n in row["aliases"].items()) or "-"
        versions = ", ".join(map(str, row["versions"]))
        broken = row["error"] is not None
        facts = ("", "", f"[red]{escape(row['error']['what'])}[/red]") if broken else ()
        stream, task, trained = facts or (row["stream"], row["task"], row["trained_at"])
        table.add_row(row["name"], stream, task, versions, aliases, trained)
    return table


def _render_manifest(result: dict[str, Any]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    from dwcp_stream.registry.upkeep import leaves

    manifest = result["manifest"]
    aliases = ", ".join(result["aliases"]) or "no alias"
    fields = ", ".join(field["name"] for field in manifest["fields"])
    rows = {
        "model": f"{manifest['name']} version {manifest['version']} ({aliases})",
        "path": result["path"],
        "reads": f"{manifest['window']} rows of {fields}",
    }
    for key in ("task", "stream", "targets", "horizons", "kinds", "severity", "state_size"):
        value = manifest[key]
        if value:
            rows[key] = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    for key in ("trained_at", "command", "seed", "data_sha256", "schema_hash", "licence"):
        rows[key] = str(manifest[key])
    for key, value in leaves(manifest["metrics"], "metrics"):
        rows[key] = f"{value:.4g}" if isinstance(value, float) else str(value)
    table = Table(box=None, show_header=False)
    for key, text in rows.items():
        table.add_row(key, escape(text))
    return table


def _render_verify(result: dict[str, Any]) -> str:
    if not result["models"]:
        return "nothing to verify: the repository is empty"
    lines = []
    for row in result["models"]:
        label = f"{row['name']} version {row['version']}"
        if row["ok"]:
            fit = f"fits stream {row['stream']}" if row["stream"] else "its stream is not defined here"
            difference = f"goldens within {row['golden_difference']:.1e}"
            lines.append(f"ok       {label}: {difference}, {fit}, {row['seconds']:.2f} s")
        else:
            error = row["error"]
            lines.append(f"refused  {label}: {error['where']}: {error['what']}. {error['remedy']}")
    return "\n".join(lines)
