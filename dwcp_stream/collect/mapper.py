"""Samples from pages: group series by entity, take growth since the pages before, combine."""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from dwcp_stream.collect.maps import CollectMap, MapField
from dwcp_stream.collect.page import Page, Series
from dwcp_stream.collect.quantile import bucket_quantile
from dwcp_stream.collect.selector import Selector, parse_selector
from dwcp_stream.streams.definition import StreamDefinition
from dwcp_stream.streams.encode import Cell

STALE_STEPS: Final = 5.0
STALE_SECONDS: Final = 60.0
"""A series is stale if it is older than the newest of its entity by both."""

COMBINE: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {
    "sum": math.fsum,
    "max": max,
    "min": min,
    "mean": statistics.fmean,
    "count": len,
}

FORGET_STEPS: Final = 60.0
"""After so many steps (or minutes, if longer) without a series, its growth is counted anew."""

Parts = tuple[str, ...]
Labels = frozenset[tuple[str, str]]
Reason = Literal["unchanged", "incomplete"]


@dataclass(frozen=True)
class Collected:
    """One sample: entity parts by name, epoch seconds, values by field."""

    entity: Mapping[str, str]
    ts: float
    values: Mapping[str, Cell]


@dataclass
class _Rule:
    """A field of a map with its selectors parsed."""

    spec: MapField
    series: Selector | None
    per: Selector | None
    only: Selector | None


@dataclass
class _Entity:
    """What is remembered of an entity."""

    instances: set[str] = field(default_factory=set)
    last_ts: float = -math.inf


class Mapper:
    """Makes samples of pages; keeps the values that growth is counted from.

    Parameters
    ----------
    mapping
        The map.
    stream
        Its stream, which `check_map` has seen.
    """

    def __init__(self, mapping: CollectMap, stream: StreamDefinition) -> None:
        self._mapping, self._stream = mapping, stream
        self._step = 1.0 if isinstance(stream.step, str) else float(stream.step)
        self._rules = [_Rule(f, *map(_parsed, (f.series, f.per, f.only))) for f in mapping.fields]
        self._required = {f.name for f in stream.fields if f.required}
        self._before: dict[tuple[str, Labels], Series] = {}
        self._entities: dict[Parts, _Entity] = defaultdict(_Entity)

    @property
    def selectors(self) -> list[str]:
        """All selectors of the map, each once, for `match[]` of a federation."""
        found = [s.text for rule in self._rules for s in (rule.series, rule.per, rule.only) if s is not None]
        return list(dict.fromkeys(found))

    def wanted(self, name: str, labels: Mapping[str, str]) -> bool:
        """Return whether any selector means a series."""
        return any(
            s.matches(name, labels) for rule in self._rules for s in (rule.series, rule.per, rule.only) if s is not None
        )

    def samples(self, pages: Iterable[Page]) -> tuple[list[Collected], dict[Reason, int]]:
        """Return a sample of each entity that has something new, and how many have none, by reason.

        `unchanged`: no series is newer than at the last call. `incomplete`: a required field has no value yet.
        """
        by_entity: dict[Parts, list[Series]] = defaultdict(list)
        for page in pages:
            for one in page.series:
                parts = tuple(one.labels.get(label, "") for label in self._mapping.entity.values())
                by_entity[parts].append(one)
        made: list[Collected] = []
        left: dict[Reason, int] = {"unchanged": 0, "incomplete": 0}
        after: dict[tuple[str, Labels], Series] = {}
        for parts, series in sorted(by_entity.items()):
            names = dict(zip(self._mapping.entity, parts, strict=True))
            if any(not part for name, part in names.items() if name not in self._stream.entity_optional):
                continue  # a series that lacks the label belongs to no entity
            known = self._entities[parts]
            newest = max(one.ts for one in series)
            known.instances |= {one.labels.get("instance", "") for one in series}
            if newest <= known.last_ts:
                left["unchanged"] += 1
                continue
            oldest = newest - max(STALE_STEPS * self._step, STALE_SECONDS)
            fresh = [one for one in series if one.ts >= oldest]
            values = self._values(fresh, len(known.instances))
            after |= {_key(one): one for one in fresh}
            known.last_ts = newest
            if not self._required <= values.keys() or not self._measured(values):
                left["incomplete"] += 1
                continue
            made.append(Collected({k: v for k, v in names.items() if v}, newest, values))
        self._remember(after)
        return made, left

    def _remember(self, after: Mapping[tuple[str, Labels], Series]) -> None:
        """Keep values for the next growth; forget series that have long been away."""
        self._before |= after
        if after:
            newest = max(one.ts for one in after.values())
            oldest = newest - FORGET_STEPS * max(self._step, STALE_SECONDS)
            self._before = {key: one for key, one in self._before.items() if one.ts >= oldest}

    def _measured(self, values: Mapping[str, Cell]) -> bool:
        """Return whether there is any value beside constants."""
        return any(rule.series is not None and rule.spec.name in values for rule in self._rules)

    def _values(self, series: Sequence[Series], instances: int) -> dict[str, Cell]:
        values: dict[str, Cell] = {}
        for rule in self._rules:
            if rule.spec.name in values:
                continue
            value = rule.spec.value if rule.series is None else self._measure(rule, series, instances)
            if value is not None and not (isinstance(value, float) and not math.isfinite(value)):
                values[rule.spec.name] = value
        return values

    def _measure(self, rule: _Rule, series: Sequence[Series], instances: int) -> float | None:
        spec = rule.spec
        if rule.only is not None:
            in_ = {s.labels.get("instance", "") for s in series if rule.only.matches(s.name, s.labels) and s.value}
            series = [s for s in series if s.labels.get("instance", "") in in_]
        value = self._taken(spec, rule.series, series, instances)
        if value is None:
            return None
        if rule.per is not None:
            divisor = self._taken(spec, rule.per, series, instances)
            if not divisor:
                return None
            value /= divisor
        return value * spec.scale + spec.offset

    def _taken(
        self, spec: MapField, selector: Selector | None, series: Sequence[Series], instances: int
    ) -> float | None:
        found = [one for one in series if selector is not None and selector.matches(one.name, one.labels)]
        if spec.take == "quantile":
            return self._quantile(spec, found)
        numbers = [v for v in (self._number(spec, one) for one in found) if v is not None and math.isfinite(v)]
        if not numbers:
            return None
        if spec.combine == "quorum":
            return float(instances // 2 + 1)
        return float(COMBINE[spec.combine](numbers))

    def _number(self, spec: MapField, one: Series) -> float | None:
        if spec.take == "value":
            return one.value
        growth = self._growth(one)
        if growth is None:
            return None
        value, seconds = growth
        return value / seconds * (self._step if spec.take == "increase" else 1.0)

    def _growth(self, one: Series) -> tuple[float, float] | None:
        """Return growth and seconds since the page before; a total that fell was reset, and counts from 0."""
        before = self._before.get(_key(one))
        if before is None or one.ts <= before.ts:
            return None
        return (one.value - before.value if one.value >= before.value else one.value), one.ts - before.ts

    def _quantile(self, spec: MapField, found: Sequence[Series]) -> float | None:
        buckets: dict[float, float] = defaultdict(float)
        for one in found:
            growth = self._growth(one)
            if growth is not None and "le" in one.labels:
                buckets[float(one.labels["le"])] += growth[0]
        return bucket_quantile(buckets, spec.q or 0.0)


def _parsed(text: str | None) -> Selector | None:
    return None if text is None else parse_selector(text)


def _key(one: Series) -> tuple[str, Labels]:
    return one.name, frozenset(one.labels.items())
