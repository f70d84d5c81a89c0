"""What is published of a change of drift state."""

from dwcp_stream import cloudevents
from dwcp_stream.alerts.identity import digest
from dwcp_stream.events import Drift, Output, encoder


def build_drift(drift: Drift) -> Output:
    """Return the message for one change of state; its id holds the partition and the block that led to it."""
    name = f"{drift.stream}/{drift.model}"
    event_id = digest("drift", name, drift.version, drift.partition, drift.state, drift.block_end)
    headers = cloudevents.headers_at(
        f"dwcp.drift.{drift.state}", cloudevents.source(drift.stream), name, drift.event_time, event_id
    )
    return Output("drift", name.encode(), encoder.encode(drift), headers)
