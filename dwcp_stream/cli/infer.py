"""`dwcp-stream streams infer`: draft a stream's definition from files of telemetry."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dwcp_stream.cli.common import emit, json_option, progress, settings_option
from dwcp_stream.errors import ConfigError, PayloadError
from dwcp_stream.settings import Settings, own_folder

if TYPE_CHECKING:
    import polars as pl

    from dwcp_stream.streams.infer import Draft

FILE_COLUMN = "entity"


@click.command(
    "infer",
    epilog="""\b
Examples:
  dwcp-stream streams infer metrics.csv
  dwcp-stream streams infer web-*.csv --name web --time when --entity host
  dwcp-stream streams infer metrics.parquet --json | jq '.guesses[] | select(.what == "left out")'
""",
)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", help="Name of the stream; default: the first file's.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where to write it; default: NAME.toml in the setting streams_dir.",
)
@click.option("--entity", "entity", multiple=True, metavar="COL", help="Column that tells entities apart; repeatable.")
@click.option("--time", metavar="COL", help="Column of the time.")
@click.option("--force", is_flag=True, help="Write over a definition that is there.")
@settings_option
@json_option
def infer(
    files: tuple[Path, ...],
    name: str | None,
    out: Path | None,
    entity: tuple[str, ...],
    time: str | None,
    force: bool,
    settings: Settings,
    as_json: bool,
) -> None:
    """Draft a stream's definition from FILES of telemetry, and show what was guessed and why.

    Files are CSV or Parquet (also .gz) with one row per sample: a column of times, perhaps columns that tell entities
    apart, a column per measured quantity. Guessed are time, entity, step, and of each column kind, unit, range and
    vocabulary. Columns that cannot be fields, and labels, are left out with a remark. Look the file through before you
    rely on it: it says what each guess rests on.

    Next: `dwcp-stream train NAME --data FILE`, then `dwcp-stream worker NAME`. Until a version is trained, a detector
    that learns as it goes watches the stream.
    """
    from dwcp_stream.registry.atomic import replace_file
    from dwcp_stream.streams.infer import definition_text, infer_stream
    from dwcp_stream.streams.loading import parse_stream

    stream = name or _name_of(files[0])
    path = out or own_folder(settings.streams_dir, "config/streams") / f"{stream}.toml"
    if path.exists() and not force:
        raise ConfigError(
            "is there already", where=str(path), remedy="Give --force to write over it, or another --name"
        )
    with progress("read", total=None):
        draft = infer_stream(_read(files, entity), stream, files[0], time=time, entity=entity)
    text = definition_text(draft, tuple(file.name for file in files)).encode()
    definition = parse_stream(text, path)
    _must_be_free(definition.name, definition.topic, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text)
    except OSError as error:
        raise ConfigError(
            f"cannot be written: {error.strerror}", where=str(path), remedy="Give --out FILE where you may write"
        ) from error
    result = {
        "stream": definition.name,
        "file": str(path),
        "rows": draft.rows,
        "entities": draft.entities,
        "guesses": draft.guesses,
        "next": [
            f"dwcp-stream train {definition.name} --data {' '.join(map(str, files))}",
            f"dwcp-stream worker {definition.name}",
        ],
    }
    emit(result, as_json, lambda shown: _render(shown, draft))


def _name_of(path: Path) -> str:
    name = re.sub(r"[^a-z0-9_-]+", "-", path.name.split(".")[0].lower()).strip("-_")
    return name if name[:1].isalpha() else f"stream-{name}".rstrip("-")


def _read(files: tuple[Path, ...], text: tuple[str, ...]) -> "pl.DataFrame":
    """Read all files into one table; of several without a column for it, the file's name is the entity."""
    import polars as pl

    from dwcp_stream.streams.files import read_columns

    frames = [read_columns(file, text) for file in files]
    if len(frames) == 1:
        return frames[0]
    try:
        if all(FILE_COLUMN not in frame.columns for frame in frames):
            names = [file.name.split(".")[0] for file in files]
            frames = [f.with_columns(pl.lit(n).alias(FILE_COLUMN)) for f, n in zip(frames, names, strict=True)]
        return pl.concat(frames, how="diagonal_relaxed")
    except pl.exceptions.PolarsError as error:
        raise PayloadError(
            f"the files do not go together: {str(error).splitlines()[0]}",
            where=", ".join(map(str, files)),
            remedy="Give files with the same columns, or infer a stream from each",
        ) from error


def _must_be_free(name: str, topic: str, path: Path) -> None:
    """Refuse a name or topic that another definition beside the file has."""
    from dwcp_stream.streams.loading import load_stream

    for other in sorted(path.parent.glob("*.toml")):
        if other.resolve() == path.resolve():
            continue
        try:
            there = load_stream(other)
        except ConfigError:  # it is no stream, or a wrong one: that is for `config check` to say
            continue
        if name == there.name or topic == there.topic:
            raise ConfigError(f'stream "{name}" is there already', where=str(other), remedy="Give another --name")


def _render(result: dict[str, Any], draft: "Draft") -> Any:
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    table = Table("", "guess", "why", box=None, header_style="bold")
    for guess in draft.guesses:
        style = {"left out": "yellow", "doubtful": "bold red"}.get(guess.what)
        table.add_row(escape(guess.about), escape(guess.what), escape(guess.why), style=style)
    return Group(
        Text(f"{result['rows']} rows, {result['entities']} entities"),
        table,
        Text(f"written: {result['file']}; look it through, then:"),
        *(Text(f"  {line}", no_wrap=True, overflow="ignore") for line in result["next"]),
    )
