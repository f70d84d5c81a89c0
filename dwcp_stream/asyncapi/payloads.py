"""JSON schemas of what the daemon publishes and of the commands it obeys: payloads from their types, and headers."""

import re
from dataclasses import dataclass
from typing import Any, get_args

import msgspec

from dwcp_stream import cloudevents, deadletters, pipeline
from dwcp_stream.control import HEADER_KEY, HEADER_SIGNATURE, Command
from dwcp_stream.events import (
    Accuracy,
    Action,
    Alert,
    ArmScores,
    Drift,
    DriftState,
    ModelAction,
    ModelDecision,
    ModelEvent,
    Prediction,
)
from dwcp_stream.incidents import Incident, Silence
from dwcp_stream.incidents.incident import IncidentAction
from dwcp_stream.realised import Feedback

Schema = dict[str, Any]

TIMES = frozenset(
    {"startsAt", "endsAt", "event_time", "issued_at", "target_time", "block_start", "block_end"}
    | {"bucket_start", "bucket_end"}
)
"""Properties that hold a time as RFC 3339 text."""

_CODE = re.compile("`([^`]*)`")

REFERENCE = "#/components/schemas/{name}"


@dataclass(frozen=True)
class Message:
    """One kind of message: the type of its payload (None: any bytes), its event types, and headers of its own.

    Without event types it is no CloudEvent: what people send.
    """

    name: str
    summary: str
    payload: type[msgspec.Struct] | None
    types: tuple[str, ...]
    headers: tuple[tuple[str, str], ...] = ()
    optional: tuple[str, ...] = ()


STAMP = (pipeline.SOURCE_TIMESTAMP, "Record timestamp, in ms, of the sample that completed the transition.")

MESSAGES: dict[str, tuple[Message, ...]] = {
    "anomalies": (
        Message(
            "Alert",
            "A transition of an alert.",
            Alert,
            tuple(f"dwcp.anomaly.{action}" for action in get_args(Action)),
            (STAMP,),
            (pipeline.SOURCE_TIMESTAMP,),  # an expiry has no telling sample
        ),
    ),
    "predictions": (
        Message(
            "Prediction",
            "A forecast with advice, or the probability of an incident.",
            Prediction,
            tuple(f"dwcp.prediction.{kind}" for kind in ("forecast", "incident")),
        ),
    ),
    "drift": (
        Message(
            "Drift",
            "A change of a model's drift state.",
            Drift,
            tuple(f"dwcp.drift.{state}" for state in get_args(DriftState)),
        ),
    ),
    "accuracy": (
        Message("Accuracy", "Realised errors of forecasts.", Accuracy, ("dwcp.accuracy.bucket",)),
        Message(
            "ArmScores",
            "Scores of a challenger or shadow beside the champion's.",
            ArmScores,
            ("dwcp.accuracy.scores",),
        ),
    ),
    "models": (
        Message(
            "ModelEvent",
            "A version of a model that a worker has loaded or refused.",
            ModelEvent,
            tuple(f"dwcp.model.{action}" for action in get_args(ModelAction)),
        ),
        Message(
            "ModelDecision",
            "What the trainer decided about a version of a model.",
            ModelDecision,
            ("dwcp.model.decided",),
        ),
    ),
    "deadletter": (
        Message(
            "DeadLetter",
            "A record with a bad sample, as it came, and why.",
            None,
            (deadletters.EVENT_TYPE,),
            (
                ("error_type", "Bounded word for what is wrong; docs/streams.md lists them."),
                ("stage", "Always receiving."),
                ("reason", "What is wrong, for people."),
                (
                    "rows",
                    f"Zero-based numbers of the bad rows, separated by commas; at most {deadletters.MAX_ROWS_LISTED}.",
                ),
                ("samples", "How many samples of the record are bad."),
                ("source_topic", "Topic the record came from."),
                ("source_partition", "Its partition."),
                ("source_offset", "Its offset."),
                ("source_timestamp_ms", "Its timestamp, in ms."),
                ("source_key", f"Its key, if it had one; at most the first {deadletters.MAX_KEY_BYTES} bytes."),
                ("truncated_from", f"Its length in bytes, if only the first {deadletters.MAX_VALUE_BYTES} are here."),
            ),
            ("source_key", "truncated_from"),
        ),
    ),
    "feedback": (
        Message(
            "Feedback",
            "What an operator says of an alert, or of one that was missing; signed or not.",
            Feedback,
            (),
            (
                (HEADER_KEY, "Name of the key in the settings (feedback.keys)."),
                (HEADER_SIGNATURE, "64 bytes, not text: Ed25519 over the bytes of the payload."),
            ),
            (HEADER_KEY, HEADER_SIGNATURE),
        ),
    ),
    "incidents": (
        Message(
            "Incident",
            "A change of an incident: the alerts of one cluster and time.",
            Incident,
            tuple(f"dwcp.incident.{action}" for action in get_args(IncidentAction)),
        ),
    ),
    "silences": (
        Message(
            "Silence",
            "Alerts of some entities that nobody is to be told of for some time; signed or not.",
            Silence,
            (),
            (
                (HEADER_KEY, "Name of the key in the settings (silences.keys)."),
                (HEADER_SIGNATURE, "64 bytes, not text: Ed25519 over the bytes of the payload."),
            ),
            (HEADER_KEY, HEADER_SIGNATURE),
        ),
    ),
    "control": (
        Message(
            "Command",
            "A signed command to workers.",
            Command,
            (),
            (
                (HEADER_KEY, "Name of the key in the workers' settings; the payload says the same."),
                (HEADER_SIGNATURE, "64 bytes, not text: Ed25519 over the bytes of the payload."),
            ),
        ),
    ),
}
"""Messages by logical topic, all of the catalogue."""


def message_schemas() -> dict[str, Schema]:
    """Return the schemas of all payload types by name, with references to each other."""
    types = [m.payload for messages in MESSAGES.values() for m in messages if m.payload is not None]
    _, found = msgspec.json.schema_components(types, ref_template=REFERENCE)
    names = {f.name: f.encode_name for kind in types for f in msgspec.structs.fields(kind)}
    for schema in found.values():
        for name, part in schema.get("properties", {}).items():
            if name in TIMES:
                _mark_time(part)
        about = " ".join(str(schema.get("description", "")).split())
        schema["description"] = _CODE.sub(lambda found: names.get(found[1], found[1]), about)
    return dict(sorted(found.items()))


def header_schema(message: Message) -> Schema:
    """Return the schema of a message's headers; every value is UTF-8 text but a signature."""
    event: Schema = {
        "ce_specversion": {"const": cloudevents.SPECVERSION.decode()},
        "ce_id": {"type": "string", "description": "The same whenever the same samples are read again."},
        "ce_source": {"type": "string", "description": "Who says so."},
        "ce_type": {"enum": list(message.types)},
        "ce_time": {"type": "string", "format": "date-time", "description": "Event time."},
        "ce_subject": {"type": "string", "description": "What it is about."},
        "content-type": {"const": (cloudevents.JSON if message.payload else deadletters.ANY_BYTES).decode()},
    }
    properties = event if message.types else {}
    properties |= {name: {"type": "string", "description": about} for name, about in message.headers}
    required = [name for name in properties if name not in message.optional]
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


def _mark_time(schema: Schema) -> None:
    for part in (schema, *schema.get("anyOf", ())):
        if part.get("type") == "string":
            part["format"] = "date-time"
