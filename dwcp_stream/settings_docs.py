"""Makes docs/settings.md and config/dwcp-stream.toml from the types of the settings.

``python -m dwcp_stream.settings_docs page > docs/settings.md`` and
``python -m dwcp_stream.settings_docs file > config/dwcp-stream.toml``; a test checks that both are current.
"""

import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from dwcp_stream.setting_sections import Section
from dwcp_stream.settings import Settings, variable

SHIPPED = {
    "streams_dir": "config/streams",
    "models_dir": "models",
}  # found at run time, shown as they are here


class Option(NamedTuple):
    """One setting as its reader sees it."""

    section: str
    key: str
    variable: str
    kind: str
    default: Any
    help: str

    @property
    def path(self) -> str:
        """Section and key, as in an error message."""
        return f"{self.section}.{self.key}" if self.section else self.key


def kind_of(annotation: Any) -> str:
    """Return a reader's word for a type, such as text or true/false; the choices of a Literal."""
    origin = get_origin(annotation)
    if origin is Literal:
        return " / ".join(str(choice) for choice in get_args(annotation))
    if origin is types.UnionType:
        return kind_of(next(part for part in get_args(annotation) if part is not type(None)))
    if origin in (dict, list):
        return "table" if origin is dict else "list"
    words = {str: "text", int: "whole number", float: "number", bool: "true / false", Path: "path"}
    return "secret" if annotation is SecretStr else words.get(annotation, str(annotation))


def options() -> Iterator[Option]:
    """Yield every setting: those of no section first, then section by section."""
    sections: list[tuple[str, dict[str, FieldInfo]]] = []
    for name, field in Settings.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            sections.append((name, annotation.model_fields))
        else:
            yield _option("", name, field)
    for section, fields in sections:
        for name, field in fields.items():
            yield _option(section, field.alias or name, field)


def _option(section: str, key: str, field: FieldInfo) -> Option:
    default = SHIPPED.get(key) or (None if field.default_factory in (dict, list) else field.default)
    path = (section, key) if section else (key,)
    return Option(section, key, variable(*path), kind_of(field.annotation), default, field.description or "")


def _shown(default: Any) -> str:
    """Return a default as TOML; strings and paths quoted alike."""
    return json.dumps(default if isinstance(default, bool | int | float | str) else str(default))


def page() -> Iterator[str]:
    """Yield the lines of docs/settings.md."""
    yield "# Settings"
    yield ""
    yield "Made by `make docs`; a test checks that it is current."
    yield ""
    yield "A variable overrides the file, the file overrides the default. The file is the one given by"
    yield "`--config`, else by `DWCP_CONFIG`, else `config/dwcp-stream.toml` under the current directory."
    yield "Relative paths in it are relative to it. Secrets are never logged or printed;"
    yield "give them by their variables."
    section = None
    for option in options():
        if option.section != section:
            section = option.section
            yield ""
            yield f"## {section or 'General'}"
            yield ""
            yield "| setting | variable | type | default | meaning |"
            yield "|---|---|---|---|---|"
        default = "" if option.default is None else f"`{_shown(option.default)}`"
        yield f"| `{option.path}` | `{option.variable}` | {option.kind} | {default} | {option.help} |"


def file() -> Iterator[str]:
    """Yield the lines of config/dwcp-stream.toml: every setting with its default, as a comment."""
    yield "# Settings of dwcp-stream, each shown with its default: take away the # of a line to change it."
    yield "# The variable above a setting overrides it. Relative paths are relative to this file."
    yield "# Made by `make docs`; docs/settings.md says the same as tables."
    section = ""
    for option in options():
        if option.section != section:
            section = option.section
            yield ""
            yield f"[{section}]"
        default = option.default
        if option.key in SHIPPED:
            default = {"config/streams": "streams", "models": "../models"}[default]
        elif isinstance(default, Path):
            default = f"../{default}"
        yield ""
        yield f"# {option.help} ({option.kind}) {option.variable}"
        yield f"# {option.key} = {'...' if default is None else _shown(default)}"


if __name__ == "__main__":
    made = {"page": page, "file": file}[sys.argv[1]]
    sys.stdout.write("\n".join(made()) + "\n")
