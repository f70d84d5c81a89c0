"""Decides whether a record of the control topic is a command to obey.

Nothing is parsed before the signature holds, and no clock is asked: the broker's timestamp of the record says whether
it came in time, so that every reader decides alike, whenever it reads.
"""

from collections.abc import Collection, Mapping
from typing import Final, Literal, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from dwcp_stream.control.commands import Command
from dwcp_stream.control.signing import HEADER_KEY, Flaw, Headers, signer
from dwcp_stream.errors import UNREADABLE

EVERYONE: Final = "*"
LONGEST_SECONDS: Final = 86_400.0
"""A command may wait no longer. It bounds what a reader has to remember: the topic keeps records for longer."""

Refusal = Literal["unsigned", "unknown_key", "bad_signature", "malformed", "foreign", "untimed", "expired", "replayed"]
REFUSED: Final[tuple[Refusal, ...]] = (
    "unsigned",
    "unknown_key",
    "bad_signature",
    "malformed",
    "foreign",
    "untimed",
    "expired",
    "replayed",
)


class Received(NamedTuple):
    """A record as it came; `append_time` says that the timestamp is the broker's, not the sender's."""

    offset: int
    timestamp_ms: int
    append_time: bool
    value: bytes | None
    headers: Headers


class Verdict(NamedTuple):
    """A command to obey, or why there is none; a refused command is given where its signature holds."""

    refusal: Refusal | None
    reason: str
    command: Command | None = None


class Verifier:
    """Checks records in the order of the topic; it remembers the last sequence of each key and audience.

    Parameters
    ----------
    keys
        Public keys by id.
    audiences
        Names that we answer to, besides `*`.
    """

    def __init__(self, keys: Mapping[str, Ed25519PublicKey], audiences: Collection[str]) -> None:
        self._keys = dict(keys)
        self._audiences = frozenset({*audiences, EVERYONE})
        self._last: dict[tuple[str, str], int] = {}
        self._decoder = msgspec.json.Decoder(Command)

    def check(self, record: Received) -> Verdict:
        """Decide about the next record."""
        found = self._authentic(record)
        return self._judge(found, record) if isinstance(found, Command) else found

    def _authentic(self, record: Received) -> Command | Verdict:
        """Return the command if its signature holds and it can be read."""
        value = record.value or b""
        found = signer(value, record.headers, self._keys, "control.keys")
        if isinstance(found, Flaw):
            return Verdict(found.word, found.reason)
        try:
            return self._decoder.decode(value)
        except UNREADABLE as error:
            return Verdict("malformed", str(error))

    def _judge(self, command: Command, record: Received) -> Verdict:
        """Decide about a command whose signature holds."""
        found = self._in_time(command, record)
        line = (command.key_id, command.audience)
        last = self._last.get(line, 0)
        if found is None and command.sequence <= last:
            found = "replayed", f"sequence {command.sequence} is not after {last}"
        if found is not None:
            return Verdict(*found, command)
        self._last[line] = command.sequence
        return Verdict(None, "", command)

    def _in_time(self, command: Command, record: Received) -> tuple[Refusal, str] | None:
        """Return why a command is not for us, or not any more."""
        claims = [given for name, given in record.headers if name == HEADER_KEY]
        if command.key_id.encode() not in claims:
            return "malformed", f"says {command.key_id!r} and is signed by another key"
        if command.audience not in self._audiences:
            return "foreign", f"is for {command.audience!r}"
        if not record.append_time:
            return "untimed", "the topic does not keep the broker's time (message.timestamp.type)"
        left = command.not_after.timestamp() - record.timestamp_ms / 1000
        if left < 0:
            return "expired", f"came {-left:.0f} s after {command.not_after.isoformat()}"
        if left > LONGEST_SECONDS:
            return "malformed", f"may wait for {left:.0f} s; {LONGEST_SECONDS:.0f} are the most"
        return None
