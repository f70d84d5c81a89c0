"""A guess at the cause of an incident: the most severe, then the most particular of the alerts that came first."""

from collections.abc import Mapping, Sequence
from typing import Final

from dwcp_stream.alerts.severity import LEVELS
from dwcp_stream.incidents.grouping import Episode
from dwcp_stream.incidents.incident import Cause
from dwcp_stream.streams import StreamDefinition

FIRST_SECONDS: Final = 120.0
"""Alerts that begin so soon after the first one count as first: two steps of the slowest streams that ship."""


def guess(episodes: Sequence[Episode], streams: Mapping[str, StreamDefinition]) -> Cause:
    """Return the likely cause of an incident.

    Streams are sampled at different steps, so that which alert came very first is chance. Of those that began within
    `FIRST_SECONDS` the most severe is taken; of equals that of the stream whose entities have the most parts, since a
    link that is down makes its node look ill, and an ill node its cluster, more often than the other way round.

    Parameters
    ----------
    episodes
        At least one, in the order of their beginning.
    """
    first = [e for e in episodes if e.starts <= episodes[0].starts + FIRST_SECONDS]
    best = max(first, key=lambda e: (e.level, _depth(e, streams), -e.starts, e.key))
    why = f"{LEVELS[best.level]}, {best.starts - episodes[0].starts:.0f} s after the first alert"
    if best is episodes[0]:
        why = f"first of {len(episodes)} alerts, {LEVELS[best.level]}"
    return Cause(fingerprint=best.key[0], stream=best.stream, entity=best.entity, why=why)


def _depth(episode: Episode, streams: Mapping[str, StreamDefinition]) -> int:
    known = streams.get(episode.stream)
    return episode.entity.count("/") + 1 if known is None else len(known.entity) - len(known.entity_optional)
