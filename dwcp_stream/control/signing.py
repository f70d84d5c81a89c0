"""Puts a command into the bytes and headers of a record."""

from typing import NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dwcp_stream.control.commands import Command

HEADER_KEY = "key_id"
HEADER_SIGNATURE = "signature"
"""64 bytes, Ed25519 (RFC 8032) over the record's value as it is."""


class Signed(NamedTuple):
    """A record for `dwcp.control`."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def sign(command: Command, key: Ed25519PrivateKey) -> Signed:
    """Sign a command; the record's key is its audience."""
    value = msgspec.json.encode(command)
    headers = [(HEADER_KEY, command.key_id.encode()), (HEADER_SIGNATURE, key.sign(value))]
    return Signed(command.audience.encode(), value, headers)
