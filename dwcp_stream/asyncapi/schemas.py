"""JSON Schemas that stand alone, of every payload of the AsyncAPI document."""

from collections.abc import Iterable
from typing import Any

from dwcp_stream.asyncapi.payloads import MESSAGES, REFERENCE, Schema, message_schemas
from dwcp_stream.asyncapi.telemetry import frame_schema, sample_schema
from dwcp_stream.streams import StreamDefinition

DIALECT = "http://json-schema.org/draft-07/schema#"
"""What AsyncAPI 3 takes its schemas for."""


def json_schemas(streams: Iterable[StreamDefinition]) -> dict[str, Schema]:
    """Return a schema for each payload of the daemon's topics, and for samples and frames of streams, by name."""
    parts = message_schemas()
    found = {
        message.payload.__name__: alone(parts[message.payload.__name__], parts)
        for messages in MESSAGES.values()
        for message in messages
        if message.payload is not None
    }
    for stream in streams:
        found |= {f"{stream.name}Sample": sample_schema(stream), f"{stream.name}Frame": frame_schema(stream)}
    return {name: {"$schema": DIALECT, **schema} for name, schema in sorted(found.items())}


def alone(schema: Schema, parts: dict[str, Schema]) -> Schema:
    """Return a schema with all that it refers to under `definitions`."""
    needed: dict[str, Schema] = {}
    whole: Schema = _resolved(schema, parts, needed)
    return {**whole, "definitions": dict(sorted(needed.items()))} if needed else whole


def _resolved(node: Any, parts: dict[str, Schema], needed: dict[str, Schema]) -> Any:
    if isinstance(node, list):
        return [_resolved(each, parts, needed) for each in node]
    if not isinstance(node, dict):
        return node
    at, end = REFERENCE.split("{name}")
    reference = node.get("$ref")
    if isinstance(reference, str) and reference.startswith(at):
        name = reference.removeprefix(at).removesuffix(end)
        if name not in needed:
            needed[name] = {}
            needed[name] = _resolved(parts[name], parts, needed)
        return {"$ref": f"#/definitions/{name}"}
    return {key: _resolved(value, parts, needed) for key, value in node.items()}
