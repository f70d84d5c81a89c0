"""All incidents, from the alerts seen so far, and what has to be told of them."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

import msgspec

from dwcp_stream.alerts.identity import digest
from dwcp_stream.alerts.severity import LEVELS
from dwcp_stream.events import Alert, rfc3339
from dwcp_stream.incidents.cause import guess
from dwcp_stream.incidents.grouping import Episode, cluster_of, group
from dwcp_stream.incidents.incident import Incident, IncidentAction, Member
from dwcp_stream.incidents.silences import Silence, silence_of
from dwcp_stream.realised.feedback import milliseconds
from dwcp_stream.streams import StreamDefinition

MOST_ALERTS: Final = 200
"""Alerts that a message lists: a cluster of a thousand nodes must not make it too large for the broker."""


class IncidentTracker:
    """Takes alerts in any order, repeated ones once, and says which incidents they make.

    What is found depends on the set of alerts, silences and the time only, so that whoever reads the topics again
    finds the same. An incident's id follows from its first alert; a late alert may show that two are one.

    Parameters
    ----------
    streams
        Definitions by name: where an entity names its cluster.
    gap
        Seconds of event time that may lie between two alerts of one incident.
    keep
        Seconds of event time after which a resolved incident is forgotten.
    """

    def __init__(self, streams: Mapping[str, StreamDefinition], gap: float, keep: float = math.inf) -> None:
        self._streams, self._gap, self._keep = streams, gap, keep
        self._episodes: defaultdict[str, dict[tuple[str, int], Episode]] = defaultdict(dict)
        self._told: defaultdict[str, dict[str, Incident]] = defaultdict(dict)
        self._changed: set[str] = set()
        self._newest = -math.inf

    def alert(self, alert: Alert) -> None:
        """Take a message of `dwcp.anomalies`; ValueError if a time of it is none."""
        self._take(_episode(alert))

    def told(self, incident: Incident) -> None:
        """Take a message of `dwcp.incidents`: what was told before, by whomever. ValueError if a time of it is none."""
        for member in incident.alerts:
            self._take(_remembered(member))
        self._told[incident.cluster][incident.id] = incident
        self._changed.add(incident.cluster)

    def _take(self, episode: Episode) -> None:
        cluster = cluster_of(episode.stream, episode.entity, self._streams)
        known = self._episodes[cluster].get(episode.key)
        joined = episode if known is None else known.joined(episode)
        if joined != known:
            self._episodes[cluster][episode.key] = joined
            self._changed.add(cluster)
            self._newest = max(self._newest, episode.newest)

    def incidents(self, silences: Iterable[Silence] = (), at: float | None = None) -> list[Incident]:
        """Return all incidents as they are now, in order of their beginning; the action is that of the state."""
        known = list(silences)
        found = [i for cluster in sorted(self._episodes) for i in self._of(cluster, known, at)]
        return sorted(found, key=lambda i: (i.starts_at, i.id))

    def changes(self, silences: Iterable[Silence] = (), at: float | None = None) -> list[Incident]:
        """Return what has to be told since the last call, or since what `told` has heard.

        Parameters
        ----------
        silences
            All that are known.
        at
            Epoch seconds at which open incidents are silenced or not; unless told the event time of their newest alert.
        """
        known = list(silences)
        news: list[Incident] = []
        opened = {name for name, own in self._told.items() if any(i.state == "open" for i in own.values())}
        for cluster in sorted(self._changed | (opened if at is not None else set())):
            news += self._news(cluster, self._of(cluster, known, at))
        self._changed.clear()
        for incident in news:
            self._told[incident.cluster][incident.id] = incident
        self._forget()
        return news

    def _news(self, cluster: str, current: list[Incident]) -> list[Incident]:
        news = []
        for incident in current:
            before = self._told[cluster].get(incident.id)
            action = _action(before, incident)
            if action is not None:
                news.append(msgspec.structs.replace(incident, action=action))
        ids = {incident.id for incident in current}
        gone = [i for i in self._told[cluster].values() if i.state != "merged" and i.id not in ids]
        return [*news, *(_merged(before, current) for before in gone)]

    def _of(self, cluster: str, silences: list[Silence], at: float | None) -> list[Incident]:
        return [
            self._incident(cluster, part, silences, at) for part in group(self._episodes[cluster].values(), self._gap)
        ]

    def _incident(self, cluster: str, episodes: list[Episode], silences: list[Silence], at: float | None) -> Incident:
        first, newest = episodes[0], max(e.newest for e in episodes)
        firing = [e for e in episodes if math.isinf(e.ends)]
        when = newest if at is None or not firing else max(at, newest)
        by = {e.key: silence_of(e.entity, silences, when if math.isinf(e.ends) else e.starts) for e in episodes}
        deciding = [by[e.key] for e in firing or episodes]
        ids = sorted({s.id for s in deciding if s is not None}) if None not in deciding else []
        cause = guess(episodes, self._streams)
        severity = LEVELS[max(e.level for e in episodes)]
        streams = dict(sorted(Counter(e.stream for e in episodes).items()))
        ends = {} if firing else {"ends_at": rfc3339(max(e.ends for e in episodes))}
        counted = ", ".join(f"{n} {stream}" for stream, n in streams.items())
        state = "open" if firing else "resolved"
        return Incident(
            id=digest("incident", cluster, *first.key),
            action="opened" if firing else "resolved",
            state="open" if firing else "resolved",
            cluster=cluster,
            severity=severity,
            summary=f"{cluster}: {state}, {severity}; alerts: {counted}; first look at {cause.stream} {cause.entity}",
            starts_at=rfc3339(first.starts),
            **ends,
            streams=streams,
            firing=len(firing),
            alert_count=len(episodes),
            cause=cause,
            silenced_by=ids,
            alerts=[_member(e, by[e.key]) for e in episodes[:MOST_ALERTS]],
            event_time=rfc3339(newest),
        )

    def _forget(self) -> None:
        """Drop what was resolved long ago."""
        before = self._newest - self._keep
        if math.isinf(before):
            return
        for cluster, episodes in list(self._episodes.items()):
            for part in group(episodes.values(), self._gap):
                if max(e.ends for e in part) + self._gap < before:
                    for episode in part:
                        del episodes[episode.key]
            if not episodes:
                del self._episodes[cluster]
        for name, own in list(self._told.items()):
            kept = {i.id: i for i in own.values() if i.state == "open" or _seconds(i.event_time) >= before}
            if kept:
                self._told[name] = kept
            else:
                del self._told[name]


def _action(before: Incident | None, now: Incident) -> IncidentAction | None:
    if before is None or before.state == "merged":
        return now.action
    if msgspec.structs.replace(now, action=before.action) == before:
        return None
    if before.state == now.state:
        return "updated"
    return "resolved" if now.state == "resolved" else "reopened"


def _merged(before: Incident, current: list[Incident]) -> Incident:
    """Return what is told of an incident that is none any more: where its first alert is now."""
    own = (before.alerts[0].fingerprint, before.alerts[0].starts_at)
    into = next((i.id for i in current if own in {(m.fingerprint, m.starts_at) for m in i.alerts}), None)
    return msgspec.structs.replace(before, action="merged", state="merged", merged_into=into)


def _episode(alert: Alert) -> Episode:
    starts = datetime.fromisoformat(alert.starts_at)
    ends = _seconds(alert.ends_at) if isinstance(alert.ends_at, str) else math.inf
    return Episode(
        key=(alert.fingerprint, milliseconds(starts)),
        stream=alert.stream,
        entity=alert.entity,
        model=alert.model,
        starts=starts.timestamp(),
        ends=ends,
        level=LEVELS.index(alert.severity),
        # the score of a resolved alert is low, and says nothing of the trouble
        score=alert.score if alert.score is not None and math.isinf(ends) else math.nan,
        kind=alert.kind,
        newest=_seconds(alert.event_time),
    )


def _remembered(member: Member) -> Episode:
    starts = datetime.fromisoformat(member.starts_at)
    ends = _seconds(member.ends_at) if isinstance(member.ends_at, str) else math.inf
    return Episode(
        key=(member.fingerprint, milliseconds(starts)),
        stream=member.stream,
        entity=member.entity,
        model=member.model,
        starts=starts.timestamp(),
        ends=ends,
        level=LEVELS.index(member.severity),
        score=math.nan if member.score is None else member.score,
        kind=member.kind,
        newest=_seconds(member.event_time),
    )


def _member(episode: Episode, silence: Silence | None) -> Member:
    ends = {} if math.isinf(episode.ends) else {"ends_at": rfc3339(episode.ends)}
    return Member(
        fingerprint=episode.key[0],
        stream=episode.stream,
        entity=episode.entity,
        model=episode.model,
        severity=LEVELS[episode.level],
        score=None if math.isnan(episode.score) else episode.score,
        kind=episode.kind,
        starts_at=rfc3339(episode.starts),
        **ends,
        silenced_by=None if silence is None else silence.id,
        event_time=rfc3339(episode.newest),
    )


def _seconds(text: str) -> float:
    """Return a time in epoch seconds; ValueError if it has no offset, since nobody knows when it is then."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text} is no time with an offset")
    return time.timestamp()
