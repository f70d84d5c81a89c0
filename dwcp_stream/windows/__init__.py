"""Rolling windows per entity: the live state of one partition of one stream, and its snapshots.

Here belong the rings (`Windows`), the rules by which a sample ends as scored, warming up, duplicate or
late (`Outcome`), counters turned into rates, what one call hands to scoring (`Pass`), read access
(`EntityView`) and the snapshot codec. Decoding payloads, scoring, alerts and anything that does I/O do not:
other parts that keep something per entity do so behind `SlotPart`, addressed by the slots given out here.
"""

from dwcp_stream.windows.layout import Layout
from dwcp_stream.windows.outcome import Outcome
from dwcp_stream.windows.part import SlotPart, TakenPart
from dwcp_stream.windows.passes import Pass
from dwcp_stream.windows.snapshot import (
    EntitySnapshot,
    PartitionRecord,
    SnapshotCodec,
    decode_partition_record,
    decode_snapshot,
    encode_partition_record,
    encode_snapshot,
)
from dwcp_stream.windows.taken import Taken, WindowState
from dwcp_stream.windows.view import EntityView
from dwcp_stream.windows.windows import Windows

__all__ = [
    "EntitySnapshot",
    "EntityView",
    "Layout",
    "Outcome",
    "PartitionRecord",
    "Pass",
    "SlotPart",
    "SnapshotCodec",
    "Taken",
    "TakenPart",
    "WindowState",
    "Windows",
    "decode_partition_record",
    "decode_snapshot",
    "encode_partition_record",
    "encode_snapshot",
]
