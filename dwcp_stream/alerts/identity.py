"""Ids that are the same wherever and however often an event is derived from the same samples."""

import struct
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


def fingerprint(alertname: str, stream: str, entity: str, model: str) -> str:
    """Return the identity of an alert over all its life: no severity, score or version goes in."""
    return digest("alert", alertname, stream, entity, model)


def ce_id(alert_fingerprint: str, starts_at: float, action: str, event_time: float) -> str:
    """Return the id of one transition; two faults of one entity differ by their start."""
    return digest(alert_fingerprint, float(starts_at), action, float(event_time))
