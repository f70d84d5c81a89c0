"""What operators say of alerts: it was right, it was wrong, or there should have been one."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dwcp_stream.control import sign_value

Text = Annotated[str, msgspec.Meta(max_length=1000)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]
Word = Literal["true", "false", "missed"]


class Feedback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One judgement.

    `true` and `false` are about the alert with this `fingerprint` that began at `startsAt`. `missed` is about trouble
    of an entity that no alert told of: it began at `startsAt`, and has no fingerprint. Of several judgements about the
    same the one that was said last counts, by `said_at`; so one that is sent again changes nothing.
    """

    verdict: Word
    stream: str
    entity: str
    model: str = ""
    fingerprint: str = ""
    starts_at: Time = msgspec.field(name="startsAt")
    said_at: Time
    by: Text = ""
    note: Text = ""

    @property
    def about(self) -> tuple[str | int, ...]:
        """What it judges; an alert is its fingerprint and the millisecond it began in."""
        starts = milliseconds(self.starts_at)
        missed = ("missed", self.stream, self.entity, self.model, starts)
        return missed if self.verdict == "missed" else (self.fingerprint, starts)


def milliseconds(time: datetime) -> int:
    """Return a time as whole milliseconds since 1970, which is how finely alerts write theirs."""
    return round(time.timestamp() * 1000)


def build_feedback(
    feedback: Feedback, signed_by: tuple[str, Ed25519PrivateKey] | None = None
) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """Return key, value and headers of the record, signed if there is a key with its name."""
    value = msgspec.json.encode(feedback)
    return feedback.entity.encode(), value, sign_value(value, *signed_by) if signed_by else []
