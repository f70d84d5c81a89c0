"""Ids that are the same wherever and however often an event is derived from the same samples."""

import struct
from collections.abc import Sequence
from hashlib import blake2b

import msgspec

_json = msgspec.json.Encoder()
_time = struct.Struct(">d")


def digest(*parts: str | float) -> str:
    """Return a hash of the parts in order: 32 hexadecimal digits.

    Texts and integers are hashed as canonical JSON, so that neighbours cannot run into each other; a float
    by its bits, so that two times within a millisecond stay apart.
    """
    plain = [_time.pack(p).hex() if isinstance(p, float) else p for p in parts]
    return blake2b(_json.encode(plain), digest_size=16).hexdigest()


class EntityDigest:
    """`digest(*before, entity, *after, ts)` of many entities and times; what they share is encoded once.

    Parameters
    ----------
    before, after
        The parts around the entity, each at least one.

    Examples
    --------
    >>> EntityDigest(["alert"], ["m", 1])("eu/1", 2.5) == digest("alert", "eu/1", "m", 1, 2.5)
    True
    """

    def __init__(self, before: Sequence[str | int], after: Sequence[str | int]) -> None:
        self._before = _json.encode(before)[:-1] + b","
        self._after = b"," + _json.encode(after)[1:-1] + b',"'

    def __call__(self, entity: str, ts: float) -> str:
        """Return the digest for one entity and time."""
        parts = self._before, _json.encode(entity), self._after, _time.pack(ts).hex().encode(), b'"]'
        return blake2b(b"".join(parts), digest_size=16).hexdigest()


def fingerprint(alertname: str, stream: str, entity: str, model: str) -> str:
    """Return the identity of an alert over all its life: no severity, score or version goes in."""
    return digest("alert", alertname, stream, entity, model)


def ce_id(alert_fingerprint: str, starts_at: float, action: str, event_time: float) -> str:
    """Return the id of one transition; two faults of one entity differ by their start."""
    return digest(alert_fingerprint, float(starts_at), action, float(event_time))
