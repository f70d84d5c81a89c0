"""Signatures of records: two headers beside a value that stays the bytes that were signed."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from dwcp_stream.control.commands import Command

HEADER_KEY = "key_id"
HEADER_SIGNATURE = "signature"
"""64 bytes, Ed25519 (RFC 8032) over the record's value as it is."""

Headers = Sequence[tuple[str, bytes | None]]


class Signed(NamedTuple):
    """A record for `dwcp.control`."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


class Flaw(NamedTuple):
    """Why nobody known has signed a record, in a word and for people."""

    word: Literal["unsigned", "unknown_key", "bad_signature"]
    reason: str


def sign(command: Command, key: Ed25519PrivateKey) -> Signed:
    """Sign a command; the record's key is its audience."""
    value = msgspec.json.encode(command)
    return Signed(command.audience.encode(), value, sign_value(value, command.key_id, key))


def sign_value(value: bytes, key_id: str, key: Ed25519PrivateKey) -> list[tuple[str, bytes]]:
    """Return the headers that go with a value; `key_id` is what readers call the key."""
    return [(HEADER_KEY, key_id.encode()), (HEADER_SIGNATURE, key.sign(value))]


def signer(value: bytes, headers: Headers, keys: Mapping[str, Ed25519PublicKey], setting: str) -> str | Flaw:
    """Return whose key has signed a value, or why nobody's has.

    Parameters
    ----------
    value
        The record's value; nothing of it is parsed.
    headers
        The record's headers.
    keys
        Public keys by name.
    setting
        Where the keys come from, for the reason.
    """
    signatures = [given for name, given in headers if name == HEADER_SIGNATURE]
    claims = [given for name, given in headers if name == HEADER_KEY]
    if len(signatures) != 1 or len(claims) != 1 or not signatures[0] or not claims[0]:
        return Flaw("unsigned", f"needs one header {HEADER_SIGNATURE} and one {HEADER_KEY}")
    key_id = claims[0].decode(errors="replace")
    key = keys.get(key_id)
    if key is None:
        return Flaw("unknown_key", f"no key {key_id[:200]!r} in the settings ({setting})")
    try:
        key.verify(signatures[0], value)
    except InvalidSignature:
        return Flaw("bad_signature", f"the signature is not that of {key_id!r} over these bytes")
    return key_id
