"""Stream definitions from TOML files, with errors that name the file, the key and the remedy."""

import re
from pathlib import Path

import msgspec

from dwcp_stream.errors import UNREADABLE, ConfigError
from dwcp_stream.streams.checks import problems
from dwcp_stream.streams.defaults import completed
from dwcp_stream.streams.definition import StreamDefinition

# msgspec ends its messages with the place, as "... - at `$.fields[3].min`"
_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)


def load_stream(path: Path | str) -> StreamDefinition:
    """Read and check one definition.

    Raises
    ------
    ConfigError
        If the file cannot be read, is not TOML, or says something impossible; `where` is the file and
        the key in it (`fields[3].min`), `remedy` what to write instead.
    """
    path = Path(path)
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read the stream definition: {error.strerror}",
            where=str(path),
            remedy="Check the path, or set streams_dir to the folder that holds the definitions",
        ) from error
    return parse_stream(text, path)


def parse_stream(text: bytes, path: Path) -> StreamDefinition:
    """Read and check the text of a definition; as `load_stream`, where `path` is only named in errors."""
    try:
        stream = msgspec.toml.decode(text, type=StreamDefinition)
        says_models = "models" in msgspec.toml.decode(text)
    except msgspec.ValidationError as error:
        what, key = _place(str(error))
        raise ConfigError(what, where=f"{path}: {key}", remedy=_remedy(what)) from error
    except UNREADABLE as error:
        raise ConfigError(
            f"not valid TOML: {error}", where=str(path), remedy="Correct the line that is named"
        ) from error
    stream = completed(stream, says_models=says_models)
    for problem in problems(stream):
        raise ConfigError(problem.what, where=f"{path}: {problem.key}", remedy=problem.remedy)
    return stream


def load_streams(directory: Path | str) -> dict[str, StreamDefinition]:
    """Read every `*.toml` of a folder; names and topics must differ.

    Returns
    -------
    dict
        Definitions by stream name, in the order of their names.

    Raises
    ------
    ConfigError
        As `load_stream`; or if the folder has no definition, or two share a name or a topic.
    """
    directory = Path(directory)
    paths = sorted(directory.glob("*.toml"))
    if not paths:
        raise ConfigError(
            "no stream definition found",
            where=str(directory),
            remedy="Put one <name>.toml per stream there, or set streams_dir to the folder that has them",
        )
    streams: dict[str, StreamDefinition] = {}
    origin: dict[str, Path] = {}
    for path in paths:
        stream = load_stream(path)
        for key, value in (("name", stream.name), ("topic", stream.topic)):
            other = origin.setdefault(f"{key}={value}", path)
            if other is not path:
                raise ConfigError(
                    f'{key} "{value}" is taken by {other.name}',
                    where=f"{path}: {key}",
                    remedy=f"Give each stream its own {key}",
                )
        streams[stream.name] = stream
    return dict(sorted(streams.items()))


def _place(message: str) -> tuple[str, str]:
    """Split msgspec's message into what is wrong and the TOML key."""
    match = _AT.match(message)
    if match is None:
        return message, "(top level)"
    key = (match["path"] or "$").removeprefix("$").removeprefix(".")
    return match["what"], key or "(top level)"


def _remedy(what: str) -> str:
    if "unknown field" in what:
        return "Remove it, or correct its spelling; docs/streams.md lists the keys"
    if "missing required field" in what:
        return "Add it; docs/streams.md lists the keys and their meaning"
    return "Write a value of the expected type"
