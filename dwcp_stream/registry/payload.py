"""What is published of a version that a worker has loaded or refused."""

from dwcp_stream import cloudevents
from dwcp_stream.alerts.identity import digest
from dwcp_stream.events import ModelEvent, Output, encoder


def build_model_event(event: ModelEvent) -> Output:
    """Return the message; its key is the model, so that a compacted topic keeps the last word on each.

    Unlike what follows from samples it is not made again after a crash, so its id holds the time.
    """
    event_id = digest("model", event.stream, event.model, event.alias, event.version, event.action, event.event_time)
    headers = cloudevents.headers_at(
        f"dwcp.model.{event.action}", cloudevents.source(event.stream), event.model, event.event_time, event_id
    )
    return Output("models", event.model.encode(), encoder.encode(event), headers)
