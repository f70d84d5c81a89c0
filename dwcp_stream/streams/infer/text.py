"""A drafted definition as the text of its file, with the reasons beside the guesses."""

import json
from collections.abc import Iterator, Mapping

from dwcp_stream.streams.definition import Field, StreamDefinition
from dwcp_stream.streams.infer.draft import Draft

TIMING = {
    "step": "seconds between rows",
    "window": "rows",
    "min_periods": "rows that must be filled before a window is scored",
    "lateness": "seconds behind the newest row that a sample may still fill an empty one",
    "expire_after": "seconds of silence after which an entity's state is dropped",
    "ahead_tolerance": "seconds a sample may be ahead of its Kafka record",
    "drift_block": "seconds of event time per block mean",
}


def definition_text(draft: Draft, files: tuple[str, ...]) -> str:
    """Return the TOML of a draft; `files` are named in its first line."""
    return "\n".join(_lines(draft, files)) + "\n"


def _lines(draft: Draft, files: tuple[str, ...]) -> Iterator[str]:
    stream = draft.stream
    why = {guess.about: guess for guess in draft.guesses}
    yield f"# Drafted by `dwcp-stream streams infer` from {_plain(', '.join(files))}: {draft.rows} rows,"
    yield f"# {draft.entities} entities. Look it through: docs/streams.md says what each key means."
    yield f"name = {_text(stream.name)}"
    yield f"topic = {_text(stream.topic)}"
    yield f"entity = {_list(stream.entity)}"
    yield f"time = {_text(stream.time)}"
    yield ""
    for key, meaning in TIMING.items():
        yield f"{key} = {_value(getattr(stream, key))}  # {meaning}"
    yield ""
    yield "[alert]"
    yield f"min_duration = {_value(stream.alert.min_duration)}  # seconds over the threshold until an alert fires"
    yield f"resolve_below = {_value(stream.alert.resolve_below)}"
    for field in stream.fields:
        yield ""
        if field.name in why:
            yield f"# {_plain(why[field.name].what)}: {_plain(why[field.name].why)}"
        yield from _field(field)
    for guess in draft.guesses:
        if guess.what == "left out":
            yield ""
            yield f"# left out: {_plain(guess.about)}: {_plain(guess.why)}"
    yield from _models(stream)


def _field(field: Field) -> Iterator[str]:
    yield "[[fields]]"
    yield f"name = {_text(field.name)}"
    if field.kind != "gauge":
        yield f"kind = {_text(field.kind)}"
    if not field.coded:
        yield f"unit = {_text(field.unit)}"
    for key in ("min", "max"):
        if getattr(field, key) is not None:
            yield f"{key} = {_value(getattr(field, key))}"
    if field.required:
        yield "required = true"
    if field.vocabulary:
        yield f"vocabulary = {_list(field.vocabulary)}"
    if field.aliases:
        yield f"aliases = {_table(field.aliases)}"


def _models(stream: StreamDefinition) -> Iterator[str]:
    for model in stream.models:
        yield ""
        yield "[[models]]"
        yield f"name = {_text(model.name)}"
        yield f"task = {_text(model.task)}"
        if model.label is not None:
            yield f"label = {_text(model.label)}"


def _text(value: str) -> str:
    """Quote as a basic string: JSON's escapes are TOML's, which wants DEL escaped too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _plain(value: str) -> str:
    """Return what may stand in a comment: one line without control characters."""
    return "".join(c if c.isprintable() else " " for c in value)


def _list(values: tuple[str, ...]) -> str:
    return f"[{', '.join(map(_text, values))}]"


def _table(values: Mapping[str, str]) -> str:
    return "{ " + ", ".join(f"{_text(key)} = {_text(value)}" for key, value in values.items()) + " }"


def _value(value: object) -> str:
    return _text(value) if isinstance(value, str) else repr(value)
