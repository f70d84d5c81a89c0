"""What a checkpoint writes: a snapshot per entity and a record per partition, with versions."""

import math
from typing import Any, Final, TypeVar

import msgspec

from dwcp_stream.errors import UNREADABLE, NewerStateError, StateError
from dwcp_stream.streams.definition import StreamDefinition
from dwcp_stream.windows.adapt import Schema, adapt
from dwcp_stream.windows.layout import Layout
from dwcp_stream.windows.restore import check
from dwcp_stream.windows.taken import WindowState

ENTITY_VERSION: Final = 2
"""Version 1 did not say the step of the grid; it is taken to be the stream's."""
PARTITION_VERSION: Final = 2
"""Version 1 did not say at which offset a model version became active."""

_WIPE = "Use the release that wrote it, or reset the stream's state and read the topic again"
_DAMAGED = "Delete it; the entity will warm up again"


class EntitySnapshot(msgspec.Struct, frozen=True):
    """One entity as recovered: its window, fitted to the stream, and the parts kept beside it, by name."""

    state: WindowState
    parts: dict[str, Any]


class PartitionRecord(msgspec.Struct, kw_only=True, array_like=True):
    """What is known of a partition as a whole, written last in a checkpoint.

    New attributes go last and have a default: that is how a reader knows the version before its own.

    Attributes
    ----------
    position
        Next source offset to process.
    watermark
        Event time reached, epoch seconds.
    tick
        Event time of the last tick that was acted on.
    drift, accuracy
        Plain state of the drift monitors and accuracy buckets, by model.
    models
        Active version by model.
    since
        Source offset at which that version became active, by model.
    ahead
        Samples in a row beyond the watermark's cap, and the earliest of them; see `dwcp_stream.watermark`. Records of
        this version from before it was kept are read as none.
    begin
        First source offset of the present number of partitions: before it keys may stand on other partitions. A
        rebuild begins there.
    contenders
        Plain state of what runs beside the champions, by line.
    remembers
        Source offset from which on what a champion remembers of entities is its own version's, by model, where that is
        before `since`: it ran beside the champion before.
    """

    version: int = PARTITION_VERSION
    position: int = 0
    watermark: float = float("-inf")
    tick: float = float("-inf")
    drift: dict[str, Any] = {}
    accuracy: dict[str, Any] = {}
    models: dict[str, int] = {}
    since: dict[str, int] = {}
    ahead: tuple[int, float] = (0, math.inf)
    begin: int = 0
    contenders: dict[str, Any] = {}
    remembers: dict[str, int] = {}


class _Head(msgspec.Struct, array_like=True):
    """The one thing that every version has in the same place."""

    version: int


class _Wire(msgspec.Struct, array_like=True):
    version: int
    schema: msgspec.Raw
    state: WindowState
    parts: dict[str, Any]


T = TypeVar("T")
_encode = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(_Head).decode
_wire = msgspec.msgpack.Decoder(_Wire)
_schema = msgspec.msgpack.Decoder(Schema)
_partition = msgspec.msgpack.Decoder(PartitionRecord)


class SnapshotCodec:
    """Writes and reads entity snapshots of one stream.

    Parameters
    ----------
    stream
        Its definition: a snapshot written under another one is fitted to it by field name.
    """

    def __init__(self, stream: StreamDefinition) -> None:
        self.layout = Layout.of(stream)
        self._own = Schema.of(self.layout)
        self._raw = _encode(self._own)
        self._schema = msgspec.Raw(self._raw)  # encoded once, copied into every snapshot

    def encode(self, state: WindowState, parts: dict[str, Any]) -> bytes:
        """Write a snapshot; `parts` holds whatever msgpack can."""
        return _encode(_Wire(ENTITY_VERSION, self._schema, state, parts))

    def decode(self, data: bytes) -> EntitySnapshot:
        """Read a snapshot.

        Raises
        ------
        StateError
            If it is truncated or damaged, or of a version that this release does not know.
        """
        wire = read_versioned(data, _wire, ENTITY_VERSION, "an entity snapshot")
        state = wire.state
        if bytes(wire.schema) != self._raw:
            try:
                schema = _schema.decode(wire.schema)
            except UNREADABLE as error:
                raise StateError(f"an entity snapshot is damaged: {error}", remedy=_DAMAGED) from error
            state = adapt(state, schema, self.layout)
        check(state, self.layout)  # so that a damaged one is refused here, not halfway into the rings
        return EntitySnapshot(state, wire.parts)


def encode_partition_record(record: PartitionRecord) -> bytes:
    """Write a partition record."""
    return _encode(record)


def decode_partition_record(data: bytes) -> PartitionRecord:
    """Read a partition record.

    Raises
    ------
    StateError
        If it is truncated or damaged, or of a version that this release does not know.
    """
    record = read_versioned(data, _partition, PARTITION_VERSION, "a partition record")
    offsets = (record.position, *record.since.values())
    times = (record.watermark, record.tick)
    if not (all(0 <= offset < 1 << 63 for offset in offsets) and all(time < math.inf for time in times)):
        raise StateError(f"a partition record is damaged: offsets {offsets}, times {times}", remedy=_DAMAGED)
    record.version = PARTITION_VERSION
    return record


def read_versioned(data: bytes, decoder: "msgspec.msgpack.Decoder[T]", newest: int, what: str) -> T:
    """Read a record whose first number is its version: `newest` or the one before.

    Raises
    ------
    StateError
        If it is truncated or damaged; `NewerStateError` if it is of another version.
    """
    try:
        version = _decode_head(data).version
        if version in (newest, newest - 1):
            return decoder.decode(data)
    except UNREADABLE as error:
        raise StateError(f"{what} is truncated or damaged: {error}", remedy=_DAMAGED) from error
    age = "newer" if version > newest else "older"
    known = f"{newest - 1} and {newest}"
    # not damage: state of a version that is not known must be kept as it is
    raise NewerStateError(f"{what} has version {version}, {age} than this release reads ({known})", remedy=_WIPE)


_codecs: dict[int, tuple[StreamDefinition, SnapshotCodec]] = {}
_CODECS_KEPT = 32


def codec_for(stream: StreamDefinition) -> SnapshotCodec:
    """Return the codec of a stream definition, made once (definitions hold dicts, so they have no hash)."""
    held = _codecs.get(id(stream))
    if held is None or held[0] is not stream:
        if len(_codecs) >= _CODECS_KEPT:
            _codecs.clear()
        held = _codecs[id(stream)] = stream, SnapshotCodec(stream)
    return held[1]


def encode_snapshot(stream: StreamDefinition, state: WindowState, parts: dict[str, Any]) -> bytes:
    """Write one entity's snapshot; see `SnapshotCodec`."""
    return codec_for(stream).encode(state, parts)


def decode_snapshot(data: bytes, stream: StreamDefinition) -> EntitySnapshot:
    """Read one entity's snapshot, fitted to the stream; see `SnapshotCodec`."""
    return codec_for(stream).decode(data)
