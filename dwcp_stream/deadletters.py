"""Dead letters: the original bytes of a record with an invalid sample, the reason, and where it came from."""

from collections.abc import Iterable, Iterator

from dwcp_stream import cloudevents
from dwcp_stream.chunk import Chunk
from dwcp_stream.events import Output
from dwcp_stream.streams.decoded import Reject
from dwcp_stream.streams.timestamps import MAX_SECONDS

EVENT_TYPE = "dwcp.deadletter.v1"
ANY_BYTES = b"application/octet-stream"
"""Content type of a dead letter: the record may have been anything."""
MAX_ROWS_LISTED = 1000
MAX_VALUE_BYTES = 15 << 20
"""Longer values are cut: the dead-letter topic takes 16 MiB, headers included, and what it refused would stop all."""
MAX_KEY_BYTES = 64 << 10


def dead_letters(chunk: Chunk, rejects: Iterable[Reject]) -> Iterator[Output]:
    """Make one dead letter for each record that had at least one invalid sample.

    The value is the record's own bytes. The headers say the error type, the stage, the reason, the numbers of the bad
    rows (of a frame, zero-based) and the source topic, partition, offset, timestamp and key. Of a value or key of more
    bytes than a dead letter may have it is the first ones, and `truncated_from` says how long the value was.
    """
    for reject in sorted(rejects, key=lambda r: r.record):
        i = reject.record
        place = f"{chunk.topic}/{chunk.partition}/{chunk.offsets[i]}"
        key, value = chunk.keys[i], chunk.values[i] or b""
        # a producer may set any record timestamp; CloudEvents' time must be one that a calendar has
        when = min(max(int(chunk.timestamps_ms[i]) / 1000, 0.0), MAX_SECONDS - 1)
        event = cloudevents.headers(EVENT_TYPE, cloudevents.source(chunk.topic), place, when, place)
        headers = [
            *((name, value) for name, value in event if name != "content-type"),
            ("content-type", ANY_BYTES),
            ("error_type", reject.error_type.encode()),
            ("stage", b"receiving"),
            ("reason", reject.reason.encode()),
            ("rows", ",".join(map(str, reject.rows[:MAX_ROWS_LISTED])).encode()),
            ("samples", str(reject.samples).encode()),
            ("source_topic", chunk.topic.encode()),
            ("source_partition", str(chunk.partition).encode()),
            ("source_offset", str(chunk.offsets[i]).encode()),
            ("source_timestamp_ms", str(chunk.timestamps_ms[i]).encode()),
        ]
        if key is not None:
            headers.append(("source_key", key[:MAX_KEY_BYTES]))
        if len(value) > MAX_VALUE_BYTES:
            headers.append(("truncated_from", str(len(value)).encode()))
        yield Output("deadletter", place.encode(), value[:MAX_VALUE_BYTES], headers)
