"""The commands of `dwcp-stream models` that say which version serves: publish, promote, rollback, shadow, split."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dwcp_stream.cli.common import emit, json_option, settings_option, share_of, share_option, version_or_none
from dwcp_stream.settings import Settings

if TYPE_CHECKING:
    from dwcp_stream.registry import ModelRepository
    from dwcp_stream.streams import StreamDefinition

R = TypeVar("R")
VERSION = click.argument("version", type=click.IntRange(min=1))


def moving(function: Callable[..., R]) -> Callable[..., R]:
    """Add what every move needs: why, the settings, and how to print."""
    options = (click.option("--reason", default="", help="Why, for the history."), settings_option, json_option)
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), function)


@click.command(
    epilog="""\b
Examples:
  dwcp-stream models publish node-gbt candidate/
  dwcp-stream models publish node-gbt candidate/ --json | jq .version
"""
)
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@moving
def publish(name: str, folder: Path, reason: str, settings: Settings, *, as_json: bool) -> None:
    """Publish FOLDER, made elsewhere, as the next version of NAME.

    The folder holds model.onnx, golden.npz and manifest.json, perhaps explain.onnx, report.md, card.md and pictures,
    and nothing else. Name, version and hashes of the manifest are filled in anew; then the version is verified as
    `models verify` does, and nothing is written if it is refused. Only a model's first version becomes champion, and
    where signatures are demanded (`model_keys`) not even that.
    """
    from dwcp_stream.loading import open_repository
    from dwcp_stream.registry.publishing import publish_folder
    from dwcp_stream.streams import load_streams

    repository, streams = open_repository(settings), load_streams(settings.streams_dir)
    version = publish_folder(repository, name, folder, streams, reason=reason)
    champion, stream = repository.aliases(name).get("champion"), repository.manifest(name, version).stream
    result = {"name": name, "version": version, "champion": champion, "stream": stream if stream in streams else None}
    emit(result, as_json, _render_published)


@click.command(
    epilog="""\b
Examples:
  dwcp-stream models promote node-gbt 2 --reason "better on last week"
  dwcp-stream models promote node-gbt 2 --json | jq .before
"""
)
@click.argument("name")
@VERSION
@moving
def promote(name: str, version: int, reason: str, settings: Settings, *, as_json: bool) -> None:
    """Make VERSION of NAME champion; the champion before becomes last_good.

    The version is verified first, as `models verify` does; one that is refused does not become champion. Workers that
    run notice within `models_interval` and move to it without a pause.
    """
    from dwcp_stream.registry.promotion import promote as move

    repository, stream = _of_stream(settings, name, version)
    before = move(repository, name, version, stream, reason=reason)
    _moved(repository, name, "champion", before, version, as_json)


@click.command(
    epilog="""\b
Example:
  dwcp-stream models rollback node-gbt --reason "alerts on every deploy"
"""
)
@click.argument("name")
@moving
def rollback(name: str, reason: str, settings: Settings, *, as_json: bool) -> None:
    """Make the last good version of NAME champion again.

    That is the version that was champion before the last `models promote`. It is verified first. Workers that run
    notice within `models_interval`.
    """
    from dwcp_stream.registry.promotion import rollback as move

    repository, stream = _of_stream(settings, name, "last_good")
    before, version = move(repository, name, stream, reason=reason)
    _moved(repository, name, "champion", before, version, as_json)


@click.command(
    epilog="""\b
Examples:
  dwcp-stream models shadow node-gbt 3
  dwcp-stream models shadow node-gbt none --reason "no better"
"""
)
@click.argument("name")
@version_or_none
@moving
def shadow(name: str, version: int | None, reason: str, settings: Settings, *, as_json: bool) -> None:
    """Let VERSION of NAME score beside the champion without being heard, or no version (none).

    The version is verified first, and must not be the champion.
    """
    from dwcp_stream.registry.promotion import shadow as move

    repository, stream = _of_stream(settings, name, version)
    before = move(repository, name, version, stream, reason=reason)
    _moved(repository, name, "shadow", before, version, as_json)


@click.command(
    epilog="""\b
Examples:
  dwcp-stream models split node-gbt 3 --share 10
  dwcp-stream models split node-gbt none --reason "worse than the champion"
"""
)
@click.argument("name")
@version_or_none
@share_option
@moving
def split(name: str, version: int | None, share: int | None, reason: str, settings: Settings, *, as_json: bool) -> None:
    """Make VERSION of NAME challenger, which serves a share of the entities; `none` ends it.

    The version is verified first, and must not be the champion.
    """
    from dwcp_stream.registry.promotion import split as move

    percent = share_of(version, share)
    repository, stream = _of_stream(settings, name, version)
    before = move(repository, name, version, percent, stream, reason=reason)
    _moved(repository, name, "challenger", before, version, as_json)


def _of_stream(
    settings: Settings, name: str, which: str | int | None
) -> "tuple[ModelRepository, StreamDefinition | None]":
    """Return the repository, and the definition of the stream that a version is made for, if it is here."""
    from dwcp_stream.loading import open_repository
    from dwcp_stream.streams import load_streams

    repository = open_repository(settings)
    if which is None:
        return repository, None
    return repository, load_streams(settings.streams_dir).get(repository.manifest(name, which).stream)


def _moved(
    repository: "ModelRepository", name: str, alias: str, before: int | None, version: int | None, as_json: bool
) -> None:
    share = repository.share(name)
    result = {"name": name, "before": before, alias: version, "aliases": repository.aliases(name), "share": share}
    now = f"version {version}" if version else "none"
    serves = f", for {share} % of the entities" if alias == "challenger" and version else ""
    emit(result, as_json, lambda _: f"{alias} of {name} is {now}{serves} (before: {before or 'none'})")


def _render_published(result: dict[str, Any]) -> str:
    name, version, champion = result["name"], result["version"], result["champion"]
    fit = f"fits stream {result['stream']}" if result["stream"] else "its stream is not defined here"
    if champion == version:
        state = "champion, as the first"
    else:
        state = f"champion is {f'version {champion}' if champion else 'none'}; `dwcp-stream models shadow` or `promote`"
    return f"published {name} version {version}: {fit}; {state}"


COMMANDS = (publish, promote, rollback, shadow, split)
