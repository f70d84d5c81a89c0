"""The rules of the windows, one sample at a time and as plainly as they can be written.

Slow and obviously right; the vectorised store must agree with it in everything that can be observed.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from dwcp_stream.streams.definition import StreamDefinition
from dwcp_stream.windows import Outcome


@dataclass
class Entity:
    applied: int = -1
    anchor: float = math.nan
    head: int | None = None
    last_ts: float = -math.inf
    rows: dict[int, list[float]] = field(default_factory=dict)
    times: dict[int, float] = field(default_factory=dict)
    raw: dict[int, tuple[float, float]] = field(default_factory=dict)


@dataclass
class Advanced:
    sample: int
    entity: str
    row: int
    ts: float
    values: np.ndarray
    restarted: bool
    window: np.ndarray | None = None
    times: np.ndarray | None = None


class Reference:
    def __init__(self, stream: StreamDefinition) -> None:
        self.stream = stream
        self.entities: dict[str, Entity] = {}
        self.counters = [i for i, f in enumerate(stream.fields) if f.kind == "counter" and not f.vocabulary]
        self.advanced: list[Advanced] = []
        self.outcomes: list[Outcome] = []

    def apply(self, offset: int, samples: list[tuple[float, str, list[float]]]) -> None:
        """Apply one record."""
        before = {name: entity.applied for name, entity in self.entities.items()}
        for ts, name, values in samples:
            self.outcomes.append(self._one(offset, before.get(name, -1), ts, name, values))

    def _one(self, offset: int, applied: int, ts: float, name: str, values: list[float]) -> Outcome:
        if name not in self.entities:
            if len(self.entities) >= self.stream.max_entities:
                return Outcome.INVALID
            self.entities[name] = Entity()
        entity = self.entities[name]
        if offset <= applied:
            return Outcome.REPLAYED
        entity.applied = offset
        if self.stream.irregular:
            return self._irregular(name, entity, ts, values)
        return self._grid(name, entity, ts, values)

    def _irregular(self, name: str, entity: Entity, ts: float, values: list[float]) -> Outcome:
        if ts == entity.last_ts:
            return Outcome.DUPLICATE
        if ts < entity.last_ts:
            return Outcome.LATE
        row = 0 if entity.head is None else entity.head + 1
        return self._advance(name, entity, row, ts, values, restarted=row == 0)

    def _grid(self, name: str, entity: Entity, ts: float, values: list[float]) -> Outcome:
        step, width = self.stream.step, self.stream.window
        restarted = entity.head is None
        if entity.head is not None:
            row = math.floor((ts - entity.anchor) / step + 0.5)
            restarted = row - entity.head > width
        if restarted:
            entity.rows, entity.times, entity.raw = {}, {}, {}
            entity.anchor, entity.head, row = ts, None, 0
        if entity.head is None or row > entity.head:
            return self._advance(name, entity, row, ts, values, restarted=restarted)
        if row <= entity.head - width:
            return Outcome.LATE
        if row in entity.rows:
            return Outcome.DUPLICATE
        if ts < entity.anchor + entity.head * step - self.stream.lateness:
            return Outcome.LATE
        entity.rows[row] = [math.nan if i in self.counters else v for i, v in enumerate(values)]
        return self._warmth(entity)

    def _advance(
        self, name: str, entity: Entity, row: int, ts: float, values: list[float], *, restarted: bool
    ) -> Outcome:
        held = list(values)
        for i in self.counters:
            held[i] = math.nan
            if not math.isnan(values[i]):
                if i in entity.raw:
                    last, when = entity.raw[i]
                    held[i] = (values[i] - (0.0 if values[i] < last else last)) / (ts - when)
                entity.raw[i] = values[i], ts
        entity.head, entity.last_ts = row, ts
        entity.rows[row], entity.times[row] = held, ts
        for old in [r for r in entity.rows if r <= row - self.stream.window]:
            del entity.rows[old]
            entity.times.pop(old, None)
        time = ts if self.stream.irregular else entity.anchor + row * self.stream.step
        entry = Advanced(len(self.outcomes), name, row, time, np.array(held).astype(np.float32), restarted)
        self.advanced.append(entry)
        outcome = self._warmth(entity)
        if outcome == Outcome.SCORED and row % self.stream.stride == 0:
            entry.window, entry.times = self.window(entity), self.window_times(entity)
        return outcome

    def _warmth(self, entity: Entity) -> Outcome:
        return Outcome.SCORED if len(entity.rows) >= self.stream.min_periods else Outcome.WARMING_UP

    def span(self, entity: Entity) -> range:
        return range(entity.head - self.stream.window + 1, entity.head + 1)

    def window(self, entity: Entity) -> np.ndarray:
        nothing = [math.nan] * len(self.stream.fields)
        return np.array([entity.rows.get(r, nothing) for r in self.span(entity)]).astype(np.float32)

    def window_times(self, entity: Entity) -> np.ndarray:
        if self.stream.irregular:
            return np.array([entity.times[max(r, 0)] for r in self.span(entity)])
        return np.array([entity.anchor + r * self.stream.step for r in self.span(entity)])
