"""Stretches of an entity's time that are not quiet, or were said to be: from alerts and feedback."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dwcp_stream.events import Alert
from dwcp_stream.realised.feedback import Feedback, milliseconds
from dwcp_stream.streams import StreamDefinition, encode_entity

Said = Literal["true", "false", "missed", "unjudged"]
Mask = NDArray[np.bool_]

ROUNDING: Final = 5e-4
"""Seconds that a time which was written in milliseconds may be off."""


@dataclass(frozen=True)
class Episode:
    """An alert from its beginning to its end, or trouble that no alert told of.

    Attributes
    ----------
    entity
        Encoded.
    starts, ends
        Epoch seconds, both inclusive; `ends` is infinite while the alert fires.
    said
        The newest judgement.
    kind
        What kind of trouble the alert said it was; empty if it did not.
    """

    entity: str
    starts: float
    ends: float
    said: Said
    kind: str = ""


def episodes(
    stream: str, alerts: Iterable[Alert], feedback: Iterable[Feedback], missed_seconds: float
) -> list[Episode]:
    """Join alerts with what was said of them.

    An alert is its fingerprint and its beginning; repeated messages change nothing, whatever their order. One that was
    never resolved is over when the next one of the same fingerprint begins.

    Parameters
    ----------
    stream
        Name of the stream; messages about others are ignored.
    missed_seconds
        How long trouble lasts that no alert told of: nobody says when it was over.

    Returns
    -------
    list of Episode
        In order of time.

    Raises
    ------
    ValueError
        If `startsAt` or `endsAt` of an alert is no time.
    """
    said: dict[tuple[str | int, ...], Feedback] = {}
    for judgement in feedback:
        before = said.get(judgement.about)
        if judgement.stream == stream and (before is None or before.said_at <= judgement.said_at):
            said[judgement.about] = judgement
    known: dict[str, dict[int, tuple[str, float, float, str]]] = defaultdict(dict)
    for alert in alerts:
        if alert.stream == stream:
            begin = datetime.fromisoformat(alert.starts_at)
            end = datetime.fromisoformat(alert.ends_at).timestamp() if isinstance(alert.ends_at, str) else inf
            own = known[alert.fingerprint]
            resolved, kind = own.get(milliseconds(begin), ("", 0.0, inf, ""))[2:]
            own[milliseconds(begin)] = alert.entity, begin.timestamp(), min(end, resolved), alert.kind or kind
    found = []
    for fingerprint, own in known.items():
        following = [*sorted(own)[1:], None]
        for key, after in zip(sorted(own), following, strict=True):
            entity, starts, ends, kind = own[key]
            if after is not None:
                ends = min(ends, own[after][1])
            judged = said.get((fingerprint, key))
            found.append(Episode(entity, starts, ends, "unjudged" if judged is None else judged.verdict, kind))
    for judgement in said.values():
        if judgement.verdict == "missed":
            starts = judgement.starts_at.timestamp()
            found.append(Episode(judgement.entity, starts, starts + missed_seconds, "missed"))
    return sorted(found, key=lambda e: (e.starts, e.entity, e.ends))


class Rows:
    """Rows of a table by entity and time, so that an episode's are found without a look at all of them.

    Parameters
    ----------
    stream
        The stream's definition.
    table
        A row per sample, with the time column and the entity's columns.
    """

    def __init__(self, stream: StreamDefinition, table: pl.DataFrame) -> None:
        names, codes = numbered_entities(stream, table)
        self._codes = {name: code for code, name in enumerate(names)}
        ts = table[stream.time].to_numpy()
        self._order = np.lexsort((ts, codes))
        self._ts, sorted_codes = ts[self._order], codes[self._order]
        self._bounds = np.searchsorted(sorted_codes, np.arange(len(names) + 1))

    def __len__(self) -> int:
        return len(self._ts)

    def inside(self, found: Iterable[Episode], before: float = 0.0, after: float = 0.0) -> Mask:
        """Return which rows [N] lie in any of some episodes, or at most so many seconds before or after one."""
        changes = np.zeros(len(self._ts) + 1, np.int64)
        for episode in found:
            code = self._codes.get(episode.entity)
            if code is not None:
                begin, end = self._bounds[code : code + 2]
                own = self._ts[begin:end]
                changes[begin + np.searchsorted(own, episode.starts - before - ROUNDING)] += 1
                changes[begin + np.searchsorted(own, episode.ends + after + ROUNDING, side="right")] -= 1
        mask = np.zeros(len(self._ts), bool)
        mask[self._order] = np.cumsum(changes[:-1]) > 0
        return mask


def numbered_entities(stream: StreamDefinition, table: pl.DataFrame) -> tuple[list[str], NDArray[np.int64]]:
    """Return the encoded entities of a table, and the number of each row's [N]."""
    parts = [part for part in stream.entity if part in table.columns]
    keys = table.select(pl.struct(pl.col(parts).cast(pl.String)).alias("entity"))
    unique = keys.unique(maintain_order=True).with_row_index("code")
    codes = keys.join(unique, on="entity", how="left", maintain_order="left", nulls_equal=True)["code"]
    names = [encode_entity([value for value in row.values() if value]) for row in unique["entity"].to_list()]
    return names, codes.to_numpy().astype(np.int64)
