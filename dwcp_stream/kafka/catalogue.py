"""The catalogue of topics: what each is for, how it is keyed, and how the broker should keep it.

Retention and cleanup are part of the contract with readers: an alert can be read again for 30 days, the model
topic keeps its last word per model for ever.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

DAY_MS = 86_400_000
SEGMENT_BYTES = 64 << 20
SEGMENT_MS = 300_000
DEAD_LETTER_BYTES = 16 << 20  # the original record and why it is bad: larger than what the source topic accepts
TOMBSTONE_MS = 3_600_000
TIMESTAMPS = "message.timestamp.type"


class HasTopic(Protocol):
    """A stream definition, as far as topics are concerned."""

    @property
    def name(self) -> str:
        """Name of the stream."""

    @property
    def topic(self) -> str:
        """Topic of the stream's telemetry."""


@dataclass(frozen=True)
class TopicSpec:
    """How one topic should be.

    Parameters
    ----------
    name
        Full name, prefix included.
    partitions
        Number of partitions when it is created.
    key
        What the record key is.
    purpose
        What is in it, in a few words.
    config
        Topic configuration as the broker knows it.
    fixed
        The number of partitions is part of the design: any other number is wrong, not only unusual.
    replication
        Number of replicas when it is created.
    """

    name: str
    partitions: int
    key: str
    purpose: str
    config: Mapping[str, str] = field(default_factory=dict)
    fixed: bool = False
    replication: int = 1

    @property
    def cleanup(self) -> str:
        """`delete`, `compact` or both."""
        return self.config.get("cleanup.policy", "delete")


def topic_name(prefix: str, name: str) -> str:
    """Return a topic's full name: `name` with the prefix before it, unless it is there already.

    >>> topic_name("dwcp.", "anomalies"), topic_name("dwcp.", "dwcp.telemetry.node")
    ('dwcp.anomalies', 'dwcp.telemetry.node')
    """
    return name if prefix and name.startswith(prefix) else f"{prefix}{name}"


def _kept(days: int) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(days * DAY_MS)}


OWN = (
    ("anomalies", "fingerprint", "alerts: firing, escalated, resolved", _kept(30), False),
    ("predictions", "entity", "forecasts, incident probabilities, advice", _kept(7), False),
    ("drift", "stream/model", "stable, warning, drifted, with the numbers", _kept(30), False),
    ("accuracy", "stream/model/version/arm/horizon", "realised errors and arms' scores by bucket", _kept(30), False),
    (
        "models",
        "model, or model/version/decision",
        "versions loaded or refused, and decisions",
        {"cleanup.policy": "compact"},
        True,
    ),
    (
        "deadletter",
        "source topic/partition/offset",
        "records with a bad sample, and why",
        _kept(30) | {"max.message.bytes": str(DEAD_LETTER_BYTES)},
        False,
    ),
    ("feedback", "entity", "true, false and missed alerts", _kept(365), False),
    (
        "incidents",
        "incident",
        "alerts of one cluster and time as one",
        {"cleanup.policy": "compact,delete", "retention.ms": str(90 * DAY_MS)},
        True,
    ),
    ("silences", "silence", "who is not to be told of what, and when", {"cleanup.policy": "compact"}, True),
    ("control", "audience", "signed commands", _kept(7) | {TIMESTAMPS: "LogAppendTime"}, True),
)
"""The daemon's own topics: name, key, purpose, configuration, and whether it has exactly one partition.

`models`, `incidents`, `silences` and `control` have one, so that all readers see decisions and commands in the same
order. The time of a command
is the broker's, because it decides whether the command came too late.
"""

WRITTEN = frozenset({"anomalies", "predictions", "drift", "accuracy", "models", "deadletter"})
"""Those of the daemon's own topics that workers write."""


def changelog_config() -> dict[str, str]:
    """Return the configuration of a state changelog topic.

    Recovery reads the whole log, so what it costs is log bytes, not entities: segments are small and closed
    soon and the cleaner starts at a tenth of dirty bytes, since only closed segments are compacted.
    Tombstones stay an hour: longer than any recovery takes, much shorter than the day that is Kafka's
    default.
    """
    return {
        "cleanup.policy": "compact",
        "segment.bytes": str(SEGMENT_BYTES),
        "segment.ms": str(SEGMENT_MS),
        "min.cleanable.dirty.ratio": "0.1",
        "delete.retention.ms": str(TOMBSTONE_MS),
    }


def changelog(name: str, partitions: int, replication: int = 1) -> TopicSpec:
    """Return the changelog topic of a table whose source topic has `partitions` partitions."""
    return TopicSpec(
        name,
        partitions,
        "entity@generation",
        "state of the entities, for recovery",
        changelog_config(),
        fixed=True,
        replication=replication,
    )


def catalogue(
    prefix: str = "dwcp.", partitions: int = 4, replication: int = 1, streams: Iterable[HasTopic] = ()
) -> list[TopicSpec]:
    """Return all topics of the daemon: the telemetry of `streams` first, then what it writes and listens to.

    Parameters
    ----------
    prefix
        What names begin with; put before a stream's topic too, unless that begins with it.
    partitions, replication
        Of topics whose number of partitions is free.
    streams
        Stream definitions; each names its telemetry topic.
    """
    specs = [
        TopicSpec(
            topic_name(prefix, s.topic),
            partitions,
            "entity",
            f"telemetry of the stream {s.name}",
            _kept(7),
            replication=replication,
        )
        for s in streams
    ]
    specs += [
        TopicSpec(topic_name(prefix, name), 1 if one else partitions, key, purpose, config, one, replication)
        for name, key, purpose, config, one in OWN
    ]
    return specs
