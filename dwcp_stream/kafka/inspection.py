"""Look at the topics and the newest records for what will not work: the checks behind `doctor`."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from dwcp_stream.diagnosis import Finding
from dwcp_stream.kafka.catalogue import TopicSpec, changelog, topic_name
from dwcp_stream.kafka.topics import describe, differences
from dwcp_stream.settings import Settings
from dwcp_stream.streams import StreamDefinition
from dwcp_stream.streams.decode import ChunkDecoder

SHOWN = 3
"""Examples named in a finding."""

READ_TIMEOUT = 20.0
SKEW_SECONDS = 1.0
"""How far ahead of this machine's clock a record timestamp may be."""


@dataclass(frozen=True)
class RecordCheck:
    """What the newest records of a stream's topic are like."""

    stream: str
    topic: str
    records: int = 0
    samples: int = 0
    invalid: int = 0
    key_mismatches: int = 0
    entities: int = 0
    entities_on_two_partitions: int = 0
    clock_ahead_seconds: float | None = None


async def check_topics(
    admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec], states: Mapping[str, str], replication: int
) -> list[Finding]:
    """Compare topics with the catalogue, and the state topics with their sources.

    Parameters
    ----------
    specs
        The catalogue.
    states
        State topic by source topic. One that does not exist yet is no fault: a worker makes it.
    replication
        Replicas expected of state topics.
    """
    found = await describe(admin, [*(s.name for s in specs), *states.values()])
    wanted = list(specs)
    for source, state in states.items():
        if source in found and state in found:
            wanted.append(changelog(state, found[source].partitions, replication))
    return [
        Finding(
            "problem" if d.serious else "note",
            "topics",
            d.topic,
            "does not exist" if d.what == "missing" else f"{d.what} is {d.have}, expected {d.want}",
            d.remedy,
        )
        for d in differences(wanted, found)
    ]


async def newest_records(consumer: AIOKafkaConsumer, topic: str, partitions: int, most: int) -> list[ConsumerRecord]:
    """Return about the last `most` records of a topic, an equal share of each partition."""
    tps = [TopicPartition(topic, p) for p in range(partitions)]
    consumer.assign(tps)
    begins, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
    for tp in tps:
        consumer.seek(tp, max(begins[tp], ends[tp] - -(-most // partitions)))
    records: list[ConsumerRecord] = []
    deadline = time.monotonic() + READ_TIMEOUT
    while any([await consumer.position(tp) < ends[tp] for tp in tps]) and time.monotonic() < deadline:
        for batch in (await consumer.getmany(timeout_ms=500)).values():
            records += [r for r in batch if r.offset < ends[TopicPartition(r.topic, r.partition)]]
    return records


def check_records(
    stream: StreamDefinition, topic: str, records: Sequence[ConsumerRecord], now: float
) -> tuple[RecordCheck, list[Finding]]:
    """Decode records and look for wrong keys, entities on two partitions, bad samples and wrong clocks.

    Parameters
    ----------
    now
        This machine's clock, epoch seconds.
    """
    if not records:
        return RecordCheck(stream.name, topic), []
    decoded = ChunkDecoder(stream).decode(
        [r.value for r in records], [r.key for r in records], [r.timestamp for r in records]
    )
    partitions: dict[str, set[int]] = defaultdict(set)
    wrong_key: dict[str, str] = {}
    pairs = np.unique(np.stack([decoded.record, decoded.entity], axis=1), axis=0)
    for index, code in pairs.tolist():
        entity, record = decoded.entities[code], records[index]
        partitions[entity].add(record.partition)
        if record.key != entity.encode():
            wrong_key.setdefault(entity, repr(record.key))
    split = {e: sorted(p) for e, p in partitions.items() if len(p) > 1}
    invalid = sum(r.samples for r in decoded.rejects)
    ahead = max(r.timestamp for r in records) / 1000 - now
    check = RecordCheck(
        stream.name,
        topic,
        len(records),
        decoded.samples_in,
        invalid,
        decoded.key_mismatches,
        len(partitions),
        len(split),
        round(ahead, 3),
    )
    findings = []
    if wrong_key:
        shown = ", ".join(f"{entity} has key {key}" for entity, key in list(wrong_key.items())[:SHOWN])
        findings.append(
            Finding(
                "problem",
                "record keys",
                topic,
                f"{decoded.key_mismatches} of {len(records)} records are not keyed by their entity: {shown}",
                "Send each record with its entity as the key: "
                + "/".join(stream.entity)
                + ", each part percent-encoded",
            )
        )
    if split:
        shown = ", ".join(f"{entity} on {where}" for entity, where in list(split.items())[:SHOWN])
        findings.append(
            Finding(
                "problem",
                "partitions",
                topic,
                f"{len(split)} entities are on several partitions, so their windows are torn apart: {shown}",
                "Key all records by entity, with one partitioner (murmur2, Kafka's default), and never change"
                " the number of partitions",
            )
        )
    if invalid:
        first = decoded.rejects[0]
        findings.append(
            Finding(
                "note",
                "samples",
                topic,
                f"{invalid} of {decoded.samples_in} samples are invalid; {first.error_type}: {first.reason}",
                f"Look at the dead letters, or correct the sender or the definition of {stream.name}",
            )
        )
    if ahead > SKEW_SECONDS:
        findings.append(
            Finding(
                "problem",
                "clock",
                topic,
                f"its newest record is {ahead:.1f} s ahead of this machine's clock",
                "Synchronise the clocks of this machine, the brokers and the senders (NTP)",
            )
        )
    return check, findings


def source_topic(settings: Settings, stream: StreamDefinition) -> str:
    """Return the full name of a stream's telemetry topic."""
    return topic_name(settings.topics.prefix, stream.topic)
