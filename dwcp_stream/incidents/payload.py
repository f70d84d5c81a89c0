"""What is published of a change of an incident."""

from dwcp_stream import cloudevents
from dwcp_stream.alerts.identity import digest
from dwcp_stream.events import Output, encoder
from dwcp_stream.incidents.incident import Incident

SOURCE = "incidents"


def build_incident(incident: Incident) -> Output:
    """Return the message; its id is that of its content, so that one that is told twice can be told."""
    value = encoder.encode(incident)
    event_id = digest("incident event", incident.id, value.decode())
    headers = cloudevents.headers_at(
        f"dwcp.incident.{incident.action}", cloudevents.source(SOURCE), incident.id, incident.event_time, event_id
    )
    return Output("incidents", incident.id.encode(), value, headers)
