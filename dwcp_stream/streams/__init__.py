"""Streams: what telemetry looks like, and how bytes become checked samples.

Here belong the definitions (fields, units, ranges, vocabularies, grid), their loading from TOML, the
decoding and validation of a chunk of records, the encoding of a sample, and the reading of telemetry
files. Windows, scoring and anything that knows Kafka do not.

`streams.files` is not imported here: it needs polars, which takes longer to load than all the rest.
"""

from dwcp_stream.streams.decode import ChunkDecoder
from dwcp_stream.streams.decoded import Decoded, ErrorType, Reject
from dwcp_stream.streams.definition import AlertPolicy, Field, ModelBinding, StreamDefinition
from dwcp_stream.streams.encode import encode_sample
from dwcp_stream.streams.entity import decode_entity, encode_entity
from dwcp_stream.streams.loading import load_stream, load_streams
from dwcp_stream.streams.schema import schema_hash

__all__ = [
    "AlertPolicy",
    "ChunkDecoder",
    "Decoded",
    "ErrorType",
    "Field",
    "ModelBinding",
    "Reject",
    "StreamDefinition",
    "decode_entity",
    "encode_entity",
    "encode_sample",
    "load_stream",
    "load_streams",
    "schema_hash",
]
