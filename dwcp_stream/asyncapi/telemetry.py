"""JSON schemas of what producers send to a stream, from the stream's definition.

A schema can say less than the decoder checks (words of a vocabulary, whose case is ignored; equal lengths of a frame's
columns; clocks), never more: whatever the decoder takes is valid here.
"""

from typing import Any

from dwcp_stream.streams.definition import Field, StreamDefinition
from dwcp_stream.streams.entity import MAX_PART_LENGTH

Schema = dict[str, Any]

TIME: Schema = {
    "description": "Event time: epoch seconds, or RFC 3339 text with an offset or Z.",
    "anyOf": [{"type": "number"}, {"type": "string", "format": "date-time"}],
}


def sample_schema(stream: StreamDefinition) -> Schema:
    """Return the schema of one sample as an object."""
    return _record(stream, f"One sample of the stream {stream.name}.", columns=False)


def frame_schema(stream: StreamDefinition) -> Schema:
    """Return the schema of a frame: a list of times, and every other field a list as long or one value for all."""
    about = f"Many samples of the stream {stream.name} as columns; a single value holds for all rows."
    return _record(stream, about, columns=True)


def _record(stream: StreamDefinition, about: str, *, columns: bool) -> Schema:
    needed = [part for part in stream.entity if part not in stream.entity_optional]
    needed += [field.name for field in stream.fields if field.required]
    properties: Schema = {stream.time: _column(TIME) if columns else TIME}
    for part in stream.entity:
        properties[part] = _either(_part(part, optional=part in stream.entity_optional), columns)
    for field in stream.fields:
        properties[field.name] = _either(_field(field), columns)
    return {
        "type": "object",
        "description": f"{about} Other fields are ignored and counted; null is the same as absent.",
        "required": [stream.time, *needed],
        "properties": properties,
        "additionalProperties": True,
    }


def _part(name: str, *, optional: bool) -> Schema:
    text = {"type": "string", "minLength": 1, "maxLength": MAX_PART_LENGTH}
    kinds: list[Schema] = [text, {"type": "integer"}]
    about = f"Entity part {name}" + (", may be absent." if optional else ".")
    return {"description": about, "anyOf": [*kinds, {"type": "null"}] if optional else kinds}


def _field(field: Field) -> Schema:
    about = field.description[:1].upper() + field.description[1:]
    absent: list[Schema] = [] if field.required else [{"type": "null"}]
    if field.coded:
        text = f"{about}. " if about else ""
        words = ", ".join(field.vocabulary)
        aliases = ", ".join(f"{alias} for {word}" for alias, word in field.aliases.items())
        text += f"One of {words}; case is ignored" + (f"; also {aliases}." if aliases else ".")
        return {"description": text, "anyOf": [{"type": "string"}, {"type": "number"}, *absent]}
    number: Schema = {"type": "number"}
    if field.min is not None:
        number["minimum"] = field.min
    if field.max is not None:
        number["maximum"] = field.max
    kind = "running total; becomes a rate per second" if field.kind == "counter" else field.kind
    return {
        "description": f"{about or field.name} ({field.unit}, {kind}).",
        **({"anyOf": [number, *absent]} if absent else number),
    }


def _column(schema: Schema) -> Schema:
    inner = {key: value for key, value in schema.items() if key != "description"}
    return {"description": schema["description"], "type": "array", "items": inner}


def _either(schema: Schema, columns: bool) -> Schema:
    if not columns:
        return schema
    inner = {key: value for key, value in schema.items() if key != "description"}
    return {"description": schema["description"], "anyOf": [inner, {"type": "array", "items": inner}]}
