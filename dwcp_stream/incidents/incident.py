"""What an incident is: the alerts of one cluster and time, and which of them may be the cause."""

from typing import Literal

import msgspec

IncidentAction = Literal["opened", "updated", "resolved", "reopened", "merged"]
IncidentState = Literal["open", "resolved", "merged"]


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One alert of an incident, from firing to resolved.

    `severity` and `score` are the highest that were told of. `endsAt` is absent while the alert fires;
    `event_time` is that of the newest message.
    """

    fingerprint: str
    stream: str
    entity: str
    model: str
    severity: str
    score: float | None
    kind: str | None = None
    starts_at: str = msgspec.field(name="startsAt")
    ends_at: str | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="endsAt")
    silenced_by: str | None = None
    event_time: str


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """A guess at where the trouble began, and why: a rule of thumb, no proof."""

    fingerprint: str
    stream: str
    entity: str
    why: str


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """The alerts of one cluster that are not more than a gap of time apart, and what has changed.

    `opened`, `updated`, `resolved` (no alert of it fires any more) and `reopened` say what happened; `merged`: a late
    alert showed that it is part of the incident `merged_into`, or an alert that held it together had ended earlier.
    `alerts` has the first of them, in order of their beginning, and `alert_count` how many there are. `silenced_by`
    names the silences if all alerts that fire, or in a resolved incident all, are silenced: then nobody is to be told
    of it.
    """

    id: str
    action: IncidentAction
    state: IncidentState
    cluster: str
    severity: str
    summary: str
    starts_at: str = msgspec.field(name="startsAt")
    ends_at: str | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="endsAt")
    streams: dict[str, int]
    firing: int
    alert_count: int
    cause: Cause
    silenced_by: list[str] = []
    merged_into: str | None = None
    alerts: list[Member]
    event_time: str
