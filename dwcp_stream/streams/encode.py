"""Encoding of a sample as a record, the one way for replay, backtest and tests: same sample, same bytes."""

from collections.abc import Mapping
from datetime import datetime
from math import isinf, isnan

import msgspec

from dwcp_stream.streams.definition import StreamDefinition
from dwcp_stream.streams.entity import encode_entity

# JSON has no infinity; a number too large for float64 is rejected as out of range, as infinity must be
_INFINITE = {True: msgspec.Raw(b"1e999"), False: msgspec.Raw(b"-1e999")}

Cell = float | int | str | bool | None


def encode_sample(
    stream: StreamDefinition,
    entity_parts: Mapping[str, str | int | None],
    ts: float | str | datetime | None,
    values: Mapping[str, Cell],
) -> tuple[bytes, bytes]:
    """Encode one sample as JSON.

    Parameters
    ----------
    entity_parts
        Values of the stream's entity parts by name; absent or None where optional.
    ts
        Epoch seconds, a time with an offset, or RFC 3339 text.
    values
        Values of the stream's fields by name; None and NaN are missing and left out, others are not
        judged: a sample that is invalid must reach the decoder, to be counted there.

    Returns
    -------
    key, value
        The encoded entity (empty if it is invalid) and the JSON, whose floats read back bit for bit.

    Examples
    --------
    >>> from dwcp_stream.streams.definition import Field
    >>> stream = StreamDefinition(
    ...     name="demo", topic="demo", entity=("id",), step=1.0, window=5, fields=(Field(name="load"),)
    ... )
    >>> encode_sample(stream, {"id": "a b"}, 10.5, {"load": 0.1})
    (b'a%20b', b'{"id":"a b","ts":10.5,"load":0.1}')
    """
    body: dict[str, object] = {}
    parts: list[str] = []
    for name in stream.entity:
        part = entity_parts.get(name)
        if part is not None:
            body[name] = part
            parts.append(str(part))
    try:
        key = encode_entity(parts).encode()
    except ValueError:
        key = b""
    if ts is not None:
        body[stream.time] = _finite(ts)
    for field in stream.fields:
        value = values.get(field.name)
        if value is not None and not (isinstance(value, float) and isnan(value)):
            body[field.name] = _finite(value)
    return key, msgspec.json.encode(body)


def _finite(value: object) -> object:
    return _INFINITE[value > 0] if isinstance(value, float) and isinf(value) else value
