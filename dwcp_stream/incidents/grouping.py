"""Which alerts belong together: those of one cluster whose times are not more than a gap apart."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dwcp_stream.streams import StreamDefinition, decode_entity

CLUSTER = "cluster_id"


@dataclass(frozen=True, slots=True)
class Episode:
    """One alert from its beginning to its end.

    Attributes
    ----------
    key
        Fingerprint, and the beginning in whole milliseconds.
    starts, ends
        Epoch seconds; `ends` is infinite while it fires.
    level
        Highest severity, an index into `alerts.severity.LEVELS`.
    score
        Highest score that was told, NaN if none.
    newest
        Event time of the newest message.
    """

    key: tuple[str, int]
    stream: str
    entity: str
    model: str
    starts: float
    ends: float
    level: int
    score: float
    kind: str | None
    newest: float

    def joined(self, other: "Episode") -> "Episode":
        """Return what both messages say of the alert together, whichever came first."""
        newer = max(self, other, key=lambda e: (e.newest, e.kind or ""))
        older = other if newer is self else self
        scores = [score for score in (self.score, other.score) if not math.isnan(score)]
        return replace(
            newer,
            ends=min(self.ends, other.ends),
            level=max(self.level, other.level),
            score=max(scores, default=math.nan),
            kind=newer.kind or older.kind,
        )

    @property
    def order(self) -> tuple[float, str, int]:
        """Key to sort by, the same for everybody."""
        return self.starts, *self.key


def cluster_of(stream: str, entity: str, streams: Mapping[str, StreamDefinition]) -> str:
    """Return the cluster of an entity: its part `cluster_id`, or the first part if the stream has no such one."""
    parts, known = decode_entity(entity), streams.get(stream)
    at = known.entity.index(CLUSTER) if known is not None and CLUSTER in known.entity else 0
    return parts[at] if at < len(parts) else parts[0]


def group(episodes: Iterable[Episode], gap: float) -> list[list[Episode]]:
    """Group the alerts of one cluster: an alert that begins within `gap` seconds after another's end belongs to it.

    What fires has no end yet, so that everything after its beginning belongs to it. An alert that was never resolved is
    over when the next one of the same fingerprint begins. The result depends on the set of alerts only.

    Returns
    -------
    list of lists
        Incidents in order of time, and the alerts of each in the order of their beginning.
    """
    found: list[list[Episode]] = []
    reach = -math.inf
    for episode in _closed(sorted(episodes, key=lambda e: e.order)):
        if not found or episode.starts > reach + gap:
            found.append([])
            reach = -math.inf
        found[-1].append(episode)
        reach = max(reach, episode.ends)
    return found


def _closed(ordered: Sequence[Episode]) -> list[Episode]:
    following: dict[str, float] = {}
    closed = []
    for episode in reversed(ordered):
        name = episode.key[0]
        closed.append(replace(episode, ends=min(episode.ends, following.get(name, math.inf))))
        following[name] = episode.starts
    return closed[::-1]
