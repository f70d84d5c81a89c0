"""Silences: alerts of some entities that nobody is to be told of for some time."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Annotated

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from dwcp_stream.control import Flaw, Headers, sign_value, signer
from dwcp_stream.events import Alert

Text = Annotated[str, msgspec.Meta(max_length=1000)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]


class Silence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From `startsAt` until `endsAt` nobody is told of alerts of the entities that match `pattern`; see `matches`.

    The alerts are on `dwcp.anomalies` all the same. Of several messages with one `id` the one that was said last
    counts, by `said_at`. A silence is ended early by one with the same `id` and an earlier `endsAt`.
    """

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    pattern: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
    starts_at: Time = msgspec.field(name="startsAt")
    ends_at: Time = msgspec.field(name="endsAt")
    said_at: Time
    by: Text = ""
    reason: Text = ""

    def covers(self, entity: str, at: float) -> bool:
        """Return whether an entity is silenced at a time, epoch seconds."""
        return self.starts_at.timestamp() <= at < self.ends_at.timestamp() and matches(self.pattern, entity)


def matches(pattern: str, entity: str) -> bool:
    """Return whether an encoded entity matches a pattern, in which `*` is any text, `?` any character, `[ab]` a choice.

    A pattern that ends in `/*` matches the entity before it as well: whoever works on a cluster works on its consensus.

    Examples
    --------
    >>> [matches("eu-1/*", entity) for entity in ("eu-1", "eu-1/n2", "eu-1/n2/n3", "eu-10/n2")]
    [True, True, True, False]
    """
    if pattern.endswith("/*") and fnmatchcase(entity, pattern[:-2]):
        return True
    return fnmatchcase(entity, pattern)


def silenced(alert: Alert, silences: Iterable[Silence], at: float) -> Silence | None:
    """Return what silences an alert at a time, None if nobody has; of several the one that ends last.

    Parameters
    ----------
    alert
        A message of `dwcp.anomalies`.
    silences
        All that are known; see `Silences.current`.
    at
        Epoch seconds: the alert's event time, or now.
    """
    return silence_of(alert.entity, silences, at)


def silence_of(entity: str, silences: Iterable[Silence], at: float) -> Silence | None:
    """Return what silences an entity at a time; see `silenced`."""
    covering = [silence for silence in silences if silence.covers(entity, at)]
    return max(covering, key=lambda s: (s.ends_at, s.id), default=None)


class Silences:
    """Takes messages of `dwcp.silences` in any order, repeated ones once.

    Parameters
    ----------
    keys
        Public keys by name: what none of them has signed does not count. Without one everything counts.

    Attributes
    ----------
    refused
        How many messages do not count, by why: `unsigned`, `unknown_key`, `bad_signature`.
    """

    def __init__(self, keys: Mapping[str, Ed25519PublicKey] | None = None) -> None:
        self.refused: Counter[str] = Counter()
        self._keys = dict(keys or {})
        self._known: dict[str, Silence] = {}

    def take(self, value: bytes, headers: Headers) -> Silence | None:
        """Take a record as it came; returns the silence if it counts and is news.

        Raises
        ------
        ValueError, RecursionError
            If it is no silence.
        """
        if self._keys:
            found = signer(value, headers, self._keys, "silences.keys")
            if isinstance(found, Flaw):
                self.refused[found.word] += 1
                return None
        silence = msgspec.json.decode(value, type=Silence)
        before = self._known.get(silence.id)
        if before is not None and before.said_at >= silence.said_at:
            return None
        self._known[silence.id] = silence
        return silence

    @property
    def current(self) -> list[Silence]:
        """All silences, also those that are over, in order of their beginning."""
        return sorted(self._known.values(), key=lambda s: (s.starts_at, s.id))


def build_silence(
    silence: Silence, signed_by: tuple[str, Ed25519PrivateKey] | None = None
) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """Return key, value and headers of the record, signed if there is a key with its name."""
    value = msgspec.json.encode(silence)
    return silence.id.encode(), value, sign_value(value, *signed_by) if signed_by else []


def ended(silence: Silence, at: datetime, by: str) -> Silence:
    """Return the message that ends a silence at a time, which is now or was."""
    end = min(silence.ends_at, at.astimezone(UTC))
    return msgspec.structs.replace(silence, ends_at=max(end, silence.starts_at), said_at=at, by=by)
