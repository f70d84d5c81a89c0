"""Which alerts another policy or another version of a model would add to a history, and which it would take away."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from dwcp_stream.alerts.severity import LEVELS
from dwcp_stream.events import Alert

Word = Literal["appears", "vanishes", "same", "severity"]


@dataclass(frozen=True, slots=True)
class Raised:
    """One alert, from its beginning until it was resolved; `ends` is infinite if it never was."""

    entity: str
    model: str
    starts: float
    ends: float
    severity: str

    @property
    def day(self) -> str:
        """The day (UTC) on which it began."""
        return datetime.fromtimestamp(self.starts, UTC).date().isoformat()


@dataclass(frozen=True)
class Difference:
    """One alert before, after, or both: the same one overlaps in time with the other."""

    change: Word
    before: Raised | None
    after: Raised | None

    def plain(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        shown = self.after or self.before
        if shown is None:
            raise ValueError("neither before nor after")
        row = {"change": self.change, "entity": shown.entity, "model": shown.model}
        return row | {name: _shown(one) for name, one in (("before", self.before), ("after", self.after))}


@dataclass(frozen=True)
class Diff:
    """All alerts of two runs over the same history.

    Attributes
    ----------
    rows
        In order of time.
    counts
        How many of each change.
    days
        Alerts that began on each day, before and after.
    """

    rows: list[Difference]
    counts: dict[str, int]
    days: dict[str, tuple[int, int]]

    def plain(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        days = {day: {"before": before, "after": after} for day, (before, after) in self.days.items()}
        return {"counts": self.counts, "days": days, "alerts": [row.plain() for row in self.rows]}


def raised(alerts: Iterable[Alert]) -> list[Raised]:
    """Join the messages of each alert, which may come in any order, to one; in order of time."""
    found: dict[tuple[str, str], Raised] = {}
    for alert in alerts:
        key = alert.fingerprint, alert.starts_at
        known = found.get(key)
        ends = _seconds(alert.ends_at) if isinstance(alert.ends_at, str) else math.inf
        severity = alert.severity
        if known is not None:
            ends = min(ends, known.ends)
            severity = max(severity, known.severity, key=LEVELS.index)
        found[key] = Raised(alert.entity, alert.model, _seconds(alert.starts_at), ends, severity)
    return sorted(found.values(), key=lambda r: (r.starts, r.entity, r.model))


def diff(before: Iterable[Raised], after: Iterable[Raised]) -> Diff:
    """Compare the alerts of two runs.

    An alert of an entity and model is the same in both if the two overlap in time; of several the one that begins
    first. A long alert that becomes two short ones is the same as the first, and the second appears.
    """
    old, new = list(before), list(after)
    waiting: defaultdict[tuple[str, str], list[Raised]] = defaultdict(list)
    for one in sorted(new, key=lambda r: r.starts):
        waiting[one.entity, one.model].append(one)
    rows = []
    for one in sorted(old, key=lambda r: r.starts):
        own = waiting[one.entity, one.model]
        match = next((other for other in own if other.starts <= one.ends and one.starts <= other.ends), None)
        if match is None:
            rows.append(Difference("vanishes", one, None))
            continue
        own.remove(match)
        rows.append(Difference("same" if match.severity == one.severity else "severity", one, match))
    rows += [Difference("appears", None, other) for own in waiting.values() for other in own]
    rows.sort(key=lambda row: _order(row.before or row.after))
    counted = Counter(row.change for row in rows)
    words: tuple[Word, ...] = ("appears", "vanishes", "same", "severity")
    was, will = Counter(one.day for one in old), Counter(one.day for one in new)
    return Diff(rows, {w: counted[w] for w in words}, {d: (was[d], will[d]) for d in sorted(was | will)})


def _order(one: Raised | None) -> tuple[float, str, str]:
    return (0.0, "", "") if one is None else (one.starts, one.entity, one.model)


def _shown(one: Raised | None) -> dict[str, Any] | None:
    if one is None:
        return None
    plain = asdict(one)
    return {
        "severity": plain["severity"],
        "starts": _text(one.starts),
        "ends": None if math.isinf(one.ends) else _text(one.ends),
    }


def _text(ts: float) -> str:
    return datetime.fromtimestamp(ts, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
