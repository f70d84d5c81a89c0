"""The AsyncAPI document: a channel per topic, the messages on it, and who sends and who reads.

Source: the AsyncAPI specification 3.0.0 and its Kafka bindings 0.5.0.
"""

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import msgspec

from dwcp_stream.asyncapi.payloads import MESSAGES, Message, header_schema, message_schemas
from dwcp_stream.asyncapi.telemetry import frame_schema, sample_schema
from dwcp_stream.kafka.catalogue import TIMESTAMPS, TopicSpec, catalogue
from dwcp_stream.streams import StreamDefinition

BINDING = "0.5.0"
PREFIX = "dwcp."
Plain = dict[str, Any]


def document(streams: Iterable[StreamDefinition]) -> Plain:
    """Return the document for some streams and all topics of the daemon, with the default prefix."""
    streams = list(streams)
    topics = catalogue(PREFIX, streams=streams)
    schemas: Plain = {}
    messages: Plain = {}
    channels: Plain = {}
    operations: Plain = {}
    for stream, topic in zip(streams, topics, strict=False):
        kinds = {"Sample": sample_schema(stream), "Frame": frame_schema(stream)}
        names = [f"{stream.name}{kind}" for kind in kinds]
        for name, schema in zip(names, kinds.values(), strict=True):
            schemas[name] = schema
            messages[name] = _telemetry(stream, name)
        channels[f"telemetry-{stream.name}"] = _channel(topic, names, stream.description)
        operations[f"watch-{stream.name}"] = _operation("receive", f"telemetry-{stream.name}")
    for topic in topics[len(streams) :]:
        name = topic.name.removeprefix(PREFIX)
        found = MESSAGES[name]
        messages |= {message.name: _message(message, topic.key) for message in found}
        about = " ".join(message.summary for message in found)
        channels[name] = _channel(topic, [message.name for message in found], about)
        if found[0].types:
            operations[f"publish-{name}"] = _operation("send", name)
        else:
            operations[f"read-{name}"] = _operation("receive", name)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "dwcp-stream",
            "version": version("dwcp-stream"),
            "description": "What the daemon reads from Kafka and writes to it. Made by `make docs` from the types.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas | message_schemas()},
    }


def to_yaml(plain: Plain) -> str:
    """Return the document as YAML (needs PyYAML, of the extra `dev`)."""
    return "# Made by `make docs`; a test checks that it is current.\n" + msgspec.yaml.encode(plain).decode()


def _channel(topic: TopicSpec, messages: list[str], description: str) -> Plain:
    config: Plain = {"cleanup.policy": topic.cleanup.split(",")}
    numbers = {key: value for key, value in topic.config.items() if key not in ("cleanup.policy", TIMESTAMPS)}
    config |= {key: int(value) for key, value in numbers.items()}
    if TIMESTAMPS in topic.config:  # the binding has no key for it
        description += f" The topic has `{TIMESTAMPS}={topic.config[TIMESTAMPS]}`."
    return {
        "address": topic.name,
        "title": topic.purpose,
        "description": description,
        "messages": {name: _reference("messages", name) for name in messages},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "replicas": topic.replication,
                "topicConfiguration": config,
                "bindingVersion": BINDING,
            }
        },
    }


def _operation(action: str, channel: str) -> Plain:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}}


def _telemetry(stream: StreamDefinition, name: str) -> Plain:
    parts = "/".join(stream.entity)
    return {
        "name": name,
        "payload": _reference("schemas", name),
        "bindings": _key(f"The entity: {parts}, each part percent-encoded, an absent trailing part left out."),
    }


def _message(message: Message, key: str) -> Plain:
    payload: Plain = {"description": "The record's own bytes, whatever they are."}
    if message.payload is not None:
        payload = _reference("schemas", message.payload.__name__)
    return {
        "name": message.name,
        "summary": message.summary,
        "headers": header_schema(message),
        "payload": payload,
        "bindings": _key(f"{key[:1].upper()}{key[1:]}."),
    }


def _key(description: str) -> Plain:
    return {"kafka": {"key": {"type": "string", "description": description}, "bindingVersion": BINDING}}


def _reference(kind: str, name: str) -> Plain:
    return {"$ref": f"#/components/{kind}/{name}"}
