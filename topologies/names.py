"""Names that Kafka sees: consumer groups and state topics."""

from dwcp_stream.settings import Settings
from dwcp_stream.streams import StreamDefinition

TABLE = "state"


def app_id(settings: Settings, stream: StreamDefinition) -> str:
    """Return the Faust app id, which is the consumer group: one per stream, so streams never rebalance each other."""
    return f"{settings.app_id}-{stream.name}"


def changelog_topic(settings: Settings, stream: StreamDefinition) -> str:
    """Return the name Faust gives the changelog topic of the state table."""
    return f"{app_id(settings, stream)}-{TABLE}-changelog"


def journal_topic(settings: Settings, stream: StreamDefinition) -> str:
    """Return the name of the topic that exists while `topics repartition` is at work."""
    return f"{app_id(settings, stream)}-repartition"
