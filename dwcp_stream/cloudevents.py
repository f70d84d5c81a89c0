"""CloudEvents 1.0 on Kafka, binary content mode: the payload is the value, the attributes are headers.

The names come from the Kafka protocol binding of CloudEvents 1.0: `ce_` before each attribute, and
`content-type`.
"""

from dwcp_stream.events import rfc3339

SPECVERSION = b"1.0"
JSON = b"application/json"
_SPECVERSION, _JSON = ("ce_specversion", SPECVERSION), ("content-type", JSON)


def headers(event_type: str, source: str, subject: str, time: float, event_id: str) -> list[tuple[str, bytes]]:
    """Return the headers of one event.

    Parameters
    ----------
    event_type
        Reverse-dotted name of what happened, e.g. `dwcp.anomaly.firing`.
    source
        URI reference of who says so; together with the id it identifies the event.
    subject
        What it is about: an entity, a model.
    time
        Event time, epoch seconds; never the clock's, so that a replay gives the same bytes.
    event_id
        Deterministic id: a repeat after a crash carries the same one.

    Returns
    -------
    list of (name, value)
    """
    return headers_at(event_type, source, subject, rfc3339(time), event_id)


def headers_at(event_type: str, source: str, subject: str, time: str, event_id: str) -> list[tuple[str, bytes]]:
    """Return the headers of one event whose time is text already; see `headers`."""
    return Envelope(event_type, source)(subject.encode(), time, event_id)


class Envelope:
    """Headers of many events of one type and source: what they share is encoded once.

    Parameters
    ----------
    event_type, source
        As for `headers`.
    """

    __slots__ = ("_source", "_type")

    def __init__(self, event_type: str, source: str) -> None:
        self._type, self._source = ("ce_type", event_type.encode()), ("ce_source", source.encode())

    def __call__(self, subject: bytes, time: str, event_id: str) -> list[tuple[str, bytes]]:
        """Return the headers of one event; its time is RFC 3339."""
        return [
            _SPECVERSION,
            ("ce_id", event_id.encode()),
            self._source,
            self._type,
            ("ce_time", time.encode()),
            ("ce_subject", subject),
            _JSON,
        ]


def source(stream: str) -> str:
    """Return the `source` attribute of a stream's events."""
    return f"/dwcp-stream/{stream}"
