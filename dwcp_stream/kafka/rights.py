"""The rights that Kafka must give to whom: as a list, as kafka-acls commands, and asked of the brokers."""

import shlex
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
)
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

from dwcp_stream.errors import BrokerError
from dwcp_stream.kafka.catalogue import OWN, WRITTEN, catalogue, topic_name

REFUSALS = (TopicAuthorizationFailedError, GroupAuthorizationFailedError, ClusterAuthorizationFailedError)
"""What aiokafka raises when a right is missing."""

Operation = Literal["Read", "Write", "Create", "Describe", "DescribeConfigs"]
Role = Literal["worker", "sender", "operator", "archiver", "incidents"]

INCIDENT_TOPICS = ("incidents", "silences", "anomalies")
"""What `incidents run` reads."""

CODES: dict[str, int] = {"Read": 3, "Write": 4, "Create": 5, "Describe": 8, "DescribeConfigs": 10}
"""Kafka's numbers of the operations (org.apache.kafka.common.acl.AclOperation); a bit mask has bit n for n."""


@dataclass(frozen=True)
class Right:
    """One operation on one topic or group, and what it is needed for."""

    resource: Literal["topic", "group"]
    name: str
    operation: Operation
    why: str

    def __str__(self) -> str:
        return f"{self.operation} on {self.resource} {self.name}"


def worker_rights(
    source: str, state: str, group: str, journal: str, prefix: str, *, commanded: bool = False
) -> list[Right]:
    """Return what a worker needs; Describe, which Read and Write bring with them, is not named.

    Parameters
    ----------
    source
        Topic of the stream's telemetry.
    state
        Topic of its state.
    group
        Its consumer group.
    journal
        Topic that exists while `topics repartition` is at work.
    prefix
        Of the daemon's own topics.
    commanded
        Whether it reads commands.
    """
    control = [Right("topic", topic_name(prefix, "control"), "Read", "signed commands")] if commanded else []
    return [
        Right("topic", source, "Read", "the telemetry"),
        Right("topic", state, "Read", "the state, at recovery"),
        Right("group", group, "Read", "membership and committed offsets"),
        Right("topic", journal, "Describe", "whether the partitions are being changed"),
        Right("topic", state, "Write", "checkpoints"),
        *(Right("topic", topic_name(prefix, own[0]), "Write", own[2]) for own in OWN if own[0] in WRITTEN),
        Right("topic", state, "Create", "the first start"),
        *control,
    ]


def sender_rights(source: str) -> list[Right]:
    """Return what `replay` and every other sender of telemetry needs."""
    return [Right("topic", source, "Write", "the telemetry")]


def archiver_rights(source: str, group: str) -> list[Right]:
    """Return what `archive` needs.

    Parameters
    ----------
    source
        Topic of the stream's telemetry.
    group
        The archivers' consumer group.
    """
    return [
        Right("topic", source, "Read", "the telemetry"),
        Right("group", group, "Read", "membership and committed offsets"),
    ]


def sink_rights(prefix: str, groups: Iterable[str]) -> list[Right]:
    """Return what `alert-sink` needs: the alerts, the silences, and the group of each sink."""
    return [
        Right("topic", topic_name(prefix, "anomalies"), "Read", "the alerts"),
        Right("topic", topic_name(prefix, "silences"), "Read", "silences"),
        *(Right("group", group, "Read", "membership and committed offsets") for group in groups),
    ]


def incident_rights(group: str, prefix: str) -> list[Right]:
    """Return what `incidents run` needs.

    Parameters
    ----------
    group
        The consumer group of which one member leads.
    prefix
        Of the daemon's own topics.
    """
    return [
        *(Right("topic", topic_name(prefix, name), "Read", "incidents run") for name in INCIDENT_TOPICS),
        Right("topic", topic_name(prefix, "incidents"), "Write", "incidents run"),
        Right("group", group, "Read", "who leads"),
    ]


def operator_rights(source: str, state: str, prefix: str) -> list[Right]:
    """Return what `topics create`, `topics list` and `doctor` need for one stream."""
    own = [spec.name for spec in catalogue(prefix)]
    return [
        *(Right("topic", name, "Create", "topics create") for name in (source, *own)),
        *(Right("topic", name, "Describe", "topics list, doctor") for name in (source, state, *own)),
        *(Right("topic", name, "DescribeConfigs", "topics list, doctor") for name in (source, state, *own)),
        Right("topic", source, "Read", "doctor looks at the newest records"),
    ]


def commands(rights: Iterable[Right], principal: str, bootstrap: str) -> list[str]:
    """Return kafka-acls commands that give the rights: one per operation, to be run by an administrator."""
    by_operation: dict[Operation, list[Right]] = defaultdict(list)
    for right in rights:
        by_operation[right.operation].append(right)
    return [
        shlex.join(
            [
                *("kafka-acls", "--bootstrap-server", bootstrap, "--add", "--allow-principal", principal),
                *("--operation", operation),
                *(word for right in of_one for word in (f"--{right.resource}", right.name)),
            ]
        )
        for operation, of_one in by_operation.items()
    ]


class _MetadataResponse(Response):
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", Array(("node_id", Int32), ("host", String("utf-8")), ("port", Int32), ("rack", String("utf-8")))),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String("utf-8")),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
        ("authorized_operations", Int32),
    )


class _MetadataRequestStruct(RequestStruct):
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class _MetadataRequest(Request[_MetadataRequestStruct]):
    """Metadata with the operations that are allowed to us, which aiokafka's own request does not know."""

    API_KEY = 3

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = list(topics)

    def build(self, request_struct_class: type[_MetadataRequestStruct]) -> _MetadataRequestStruct:
        return request_struct_class(self._topics, False, False, True)


async def missing_rights(admin: AIOKafkaAdminClient, rights: Sequence[Right]) -> list[Right]:
    """Ask the brokers which of some rights this client does not have.

    A topic that does not exist yet counts as allowed if it may be seen. Brokers that cannot say (before Kafka 2.3, or
    the embedded one) refuse nothing here.

    Raises
    ------
    KafkaError
        The brokers do not answer.
    """
    masks = await _topics(admin, sorted({right.name for right in rights if right.resource == "topic"}))
    allowed = {("topic", name): mask for name, mask in masks.items()}
    for group in {right.name for right in rights if right.resource == "group"}:
        allowed["group", group] = await _group(admin, group)
    return [
        right
        for right in rights
        if right.operation != "Create" and not _has(allowed.get((right.resource, right.name), -1), right.operation)
    ]


async def hidden_topics(admin: AIOKafkaAdminClient, names: Sequence[str]) -> list[str]:
    """Return those of some topics that this client may not even see, which else look as if they did not exist."""
    return [name for name, mask in (await _topics(admin, names)).items() if mask == 0] if names else []


async def _topics(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, int]:
    """Return the mask of the operations allowed on each topic: 0 if it may not be seen, all if it does not exist."""
    try:
        response = await admin._send_request(_MetadataRequest(names))
    except NotImplementedError:
        return {}
    return {
        entry["topic"]: 0
        if entry["error_code"] == TopicAuthorizationFailedError.errno
        else entry["authorized_operations"]
        if entry["error_code"] == 0
        else -1
        for entry in response.to_object()["topics"]
    }


def refused(where: str, what: str = "the broker refuses it to this user") -> BrokerError:
    """Return the error to raise when a right is missing."""
    return BrokerError(
        what,
        where=where,
        remedy="Have an administrator run what `dwcp-stream topics acls STREAM --principal User:NAME` prints"
        " (--for worker, sender or operator)",
    )


def _has(mask: int, operation: str) -> bool:
    return mask < 0 or bool(mask & (1 << CODES[operation]))  # negative: the broker does not say


async def _group(admin: AIOKafkaAdminClient, group: str) -> int:
    """Return 0 if the group may not be seen, else all: aiokafka 0.14 reads no mask, and Read brings Describe."""
    try:
        node = await admin.find_coordinator(group)
        response: Any = await admin._send_request(DescribeGroupsRequest([group]), node)
    except GroupAuthorizationFailedError:
        return 0
    except (KafkaError, NotImplementedError):
        return -1  # no coordinator yet: nothing that could be said
    code = response.groups[0][0]
    return 0 if code == GroupAuthorizationFailedError.errno else -1
