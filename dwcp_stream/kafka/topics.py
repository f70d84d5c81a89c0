"""Ask the brokers about topics, create those that are missing, say where they differ from the catalogue."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError, for_code

from dwcp_stream.errors import BrokerError
from dwcp_stream.kafka.catalogue import TIMESTAMPS, TopicSpec, catalogue
from dwcp_stream.kafka.reach import unreachable
from dwcp_stream.kafka.rights import REFUSALS, hidden_topics, refused
from dwcp_stream.settings import Settings, kafka_client_options
from dwcp_stream.streams import load_streams

TOPIC_EXISTS = 36
UNKNOWN_TOPIC = 3
POLL_SECONDS = 0.05
CREATE_TIMEOUT = 30.0


@dataclass(frozen=True)
class TopicState:
    """A topic as the brokers have it; `config` is empty where a broker does not tell."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """Where a topic is not as the catalogue says.

    `serious` differences break something; the others may be an operator's choice.
    """

    topic: str
    what: Literal["missing", "partitions", "cleanup", "retention", "timestamps"]
    want: str
    have: str
    serious: bool
    remedy: str


@asynccontextmanager
async def admin_client(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """Yield a started admin client.

    Raises
    ------
    BrokerError
        No broker answers, or one refuses what is asked within.
    """
    admin = AIOKafkaAdminClient(**kafka_client_options(settings))
    try:
        await admin.start()
    except (KafkaError, OSError) as error:
        await admin.close()
        raise await unreachable(settings) from error
    try:
        yield admin
    except REFUSALS as error:
        raise refused(settings.kafka.bootstrap_servers) from error
    finally:
        await admin.close()


async def describe(admin: AIOKafkaAdminClient, names: Iterable[str]) -> dict[str, TopicState]:
    """Return those of the named topics that exist, with partitions and configuration.

    Raises
    ------
    BrokerError
        One of the others may not be seen, so that nobody can say whether it exists.
    """
    # All topics are asked for: naming one that is missing would make some brokers create it.
    wanted = set(names)
    found = {t["topic"]: t["partitions"] for t in await admin.describe_topics() if t["topic"] in wanted}
    hidden = await hidden_topics(admin, sorted(wanted - found.keys()))
    if hidden:
        raise refused(", ".join(hidden), "this user may not see it")
    configs = await _configs(admin, sorted(found))
    return {
        name: TopicState(name, len(parts), min((len(p["replicas"]) for p in parts), default=0), configs[name])
        for name, parts in found.items()
    }


async def _configs(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    configs: dict[str, dict[str, str]] = {name: {} for name in names}
    if not names:
        return configs
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    try:
        responses = await admin.describe_configs(resources)
    except (KafkaError, IndexError, ValueError):  # the embedded broker tells little about configuration
        return configs
    for response in responses:
        for code, _message, _kind, name, entries in response.resources:
            if code == 0 and name in configs:
                configs[name] = {entry[0]: entry[1] for entry in entries if entry[1] is not None}
    return configs


def partitions_changed(source: str, stream: str, now: int | None, before: int) -> BrokerError:
    """Return the error of a telemetry topic with another number of partitions than its state.

    Parameters
    ----------
    now, before
        The topic's number of partitions (None: more than before, but not known), and that of the state.
    """
    return BrokerError(
        f"has {now or 'more'} partitions, but its state was written for {before}: keys have moved between them",
        where=source,
        remedy="Stop all workers and senders of the stream, then run:"
        f" dwcp-stream topics repartition {stream} --partitions {now or 'N'}",
    )


async def partition_count(admin: AIOKafkaAdminClient, topic: str) -> int | None:
    """Return a topic's number of partitions, None if it does not exist."""
    state = (await describe(admin, [topic])).get(topic)
    return state.partitions if state else None


async def create_topics(admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec]) -> list[str]:
    """Create the topics that are missing, wait until they can be used, and return their names.

    Topics that exist stay as they are: `differences` says where they deviate.

    Raises
    ------
    BrokerError
        The brokers refuse, or the topics do not appear in time.
    """
    existing = await describe(admin, [s.name for s in specs])
    missing = [s for s in specs if s.name not in existing]
    if not missing:
        return []
    new = [NewTopic(s.name, s.partitions, s.replication, topic_configs=dict(s.config)) for s in missing]
    try:
        response = await admin.create_topics(new)
    except (KafkaError, TimeoutError) as error:
        raise BrokerError(f"topics cannot be created: {error!r}", remedy="Check the brokers' log") from error
    created = []
    for name, code, *message in response.topic_errors:
        if code == 0:
            created.append(name)
        elif code != TOPIC_EXISTS:  # somebody else was faster: as good
            detail = next((m for m in message if m), None) or for_code(code).__name__
            raise BrokerError(
                f"cannot be created: {detail}",
                where=name,
                remedy="Check DWCP_TOPICS__REPLICATION against the number of brokers, and your rights",
            )
    await _appear(admin, [s.name for s in missing])
    return created


async def add_partitions(admin: AIOKafkaAdminClient, topic: str, partitions: int) -> None:
    """Raise a topic's number of partitions, and wait until they can be used.

    Raises
    ------
    BrokerError
        The brokers refuse.
    """
    try:
        await admin.create_partitions({topic: NewPartitions(partitions)})
    except (KafkaError, TimeoutError) as error:
        raise BrokerError(
            f"cannot have {partitions} partitions: {error}", where=topic, remedy="Check your rights"
        ) from error
    await _appear(admin, [topic], partitions)


async def delete_topics(admin: AIOKafkaAdminClient, names: Sequence[str]) -> None:
    """Delete those of the topics that exist, and wait until they are gone.

    Raises
    ------
    BrokerError
        The brokers refuse, or a topic does not go in time.
    """
    there = list(await describe(admin, names))
    if not there:
        return
    response = await admin.delete_topics(there)
    for name, code in response.topic_error_codes:
        if code not in (0, UNKNOWN_TOPIC):
            raise BrokerError(
                f"cannot be deleted: {for_code(code).__name__}",
                where=name,
                remedy="Check your rights, and delete.topic.enable of the brokers",
            )
    deadline = time.monotonic() + CREATE_TIMEOUT
    while left := list(await describe(admin, there)):
        if time.monotonic() > deadline:
            raise BrokerError("was deleted but is still there", where=left[0], remedy="Check the brokers' log")
        await asyncio.sleep(POLL_SECONDS)


async def group_members(admin: AIOKafkaAdminClient, group: str) -> list[str]:
    """Return the members of a consumer group as `client id (host)`; none if there is no such group."""
    try:
        responses = await admin.describe_consumer_groups([group])
    except GroupCoordinatorNotAvailableError:  # the first group of a cluster is still to come
        return []
    found = [described for response in responses for described in response.to_object()["groups"]]
    for described in found:
        if described["error_code"]:
            raise BrokerError(
                f"its members cannot be asked for: {for_code(described['error_code']).__name__}",
                where=group,
                remedy="Try again, and check your rights",
            )
    return [f"{m['client_id']} ({m['client_host']})" for described in found for m in described["members"]]


async def log_ranges(consumer: AIOKafkaConsumer, topic: str, partitions: int) -> dict[int, tuple[int, int]]:
    """Return the first and the end offset of each partition."""
    tps = [TopicPartition(topic, p) for p in range(partitions)]
    begins, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
    return {tp.partition: (begins[tp], ends[tp]) for tp in tps}


async def _appear(admin: AIOKafkaAdminClient, names: Sequence[str], partitions: int = 1) -> None:
    """Wait until every partition of the topics has a leader: metadata follow a creation after a while."""
    deadline = time.monotonic() + CREATE_TIMEOUT
    while True:
        topics: dict[str, Any] = {t["topic"]: t["partitions"] for t in await admin.describe_topics()}
        waiting = [n for n in names if len(topics.get(n, ())) < partitions or any(p["leader"] < 0 for p in topics[n])]
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise BrokerError("was created but has no leader", where=waiting[0], remedy="Check the brokers' log")
        await asyncio.sleep(POLL_SECONDS)


def differences(specs: Iterable[TopicSpec], states: Mapping[str, TopicState]) -> list[Difference]:
    """Compare topics with the catalogue; an empty list when all is as it should be."""
    found: list[Difference] = []
    for spec in specs:
        state = states.get(spec.name)
        if state is None:
            found.append(Difference(spec.name, "missing", "a topic", "none", True, "Run: dwcp-stream topics create"))
            continue
        if state.partitions != spec.partitions:
            remedy = (
                "Create it again with that number"
                if spec.fixed
                else "No fault if it was meant; else set DWCP_TOPICS__PARTITIONS to what is there"
            )
            found.append(
                Difference(spec.name, "partitions", str(spec.partitions), str(state.partitions), spec.fixed, remedy)
            )
        found += _config_differences(spec, state)
    return found


def _config_differences(spec: TopicSpec, state: TopicState) -> list[Difference]:
    found: list[Difference] = []
    have = state.config.get("cleanup.policy")
    if have is not None and set(have.split(",")) != set(spec.cleanup.split(",")):
        remedy = f"Run: kafka-configs --alter --topic {spec.name} --add-config cleanup.policy={spec.cleanup}"
        found.append(Difference(spec.name, "cleanup", spec.cleanup, have, True, remedy))
    of_time, has = spec.config.get(TIMESTAMPS), state.config.get(TIMESTAMPS)
    if of_time is not None and has is not None and of_time != has:
        remedy = f"Run: kafka-configs --alter --topic {spec.name} --add-config {TIMESTAMPS}={of_time}"
        found.append(Difference(spec.name, "timestamps", of_time, has, True, remedy))
    want, kept = spec.config.get("retention.ms"), state.config.get("retention.ms")
    if want is not None and kept is not None and want != kept:
        remedy = f"No fault if it was meant; else --add-config retention.ms={want}"
        found.append(Difference(spec.name, "retention", want, kept, False, remedy))
    return found


def expected_topics(settings: Settings) -> list[TopicSpec]:
    """Return the catalogue for the settings and their stream definitions.

    Raises
    ------
    ConfigError
        A stream definition is wrong.
    """
    topics = settings.topics
    streams = load_streams(settings.streams_dir).values()
    return catalogue(topics.prefix, topics.partitions, topics.replication, streams)
