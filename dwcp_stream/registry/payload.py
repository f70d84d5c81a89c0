"""What is published of versions: that a worker has loaded or refused one, what the trainer decided about one."""

from dwcp_stream import cloudevents
from dwcp_stream.alerts.identity import digest
from dwcp_stream.events import ModelDecision, ModelEvent, Output, encoder


def build_model_event(event: ModelEvent) -> Output:
    """Return the message; its key is the model, so that a compacted topic keeps the last word on each.

    Unlike what follows from samples it is not made again after a crash, so its id holds the time.
    """
    event_id = digest("model", event.stream, event.model, event.alias, event.version, event.action, event.event_time)
    headers = cloudevents.headers_at(
        f"dwcp.model.{event.action}", cloudevents.source(event.stream), event.model, event.event_time, event_id
    )
    return Output("models", event.model.encode(), encoder.encode(event), headers)


def build_decision(decision: ModelDecision) -> Output:
    """Return the message; a compacted topic keeps the last decision of each kind about each version."""
    subject = f"{decision.model}/{decision.version}/{decision.decision}"
    numbers = encoder.encode(decision.numbers).decode()  # the time stands still where no samples come
    event_id = digest("decision", decision.stream, subject, decision.event_time, numbers)
    headers = cloudevents.headers_at(
        "dwcp.model.decided", cloudevents.source(decision.stream), subject, decision.event_time, event_id
    )
    return Output("models", subject.encode(), encoder.encode(decision), headers)
