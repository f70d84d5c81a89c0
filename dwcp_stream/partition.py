"""All that is known of one partition: windows, alerts, forecasts, model states, drift, event time, position."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.activations import NOTHING, SHARE, Activation, Schedule, active, pending
from dwcp_stream.alerts import AlertTracker
from dwcp_stream.chunk import Swap
from dwcp_stream.contenders import Contenders, memory_name
from dwcp_stream.events import Output
from dwcp_stream.parts import drift_monitor, forecast_tracker, model_state, tick_interval
from dwcp_stream.scoring import LatestScores, Model, ModelState
from dwcp_stream.split import Split
from dwcp_stream.streams import StreamDefinition
from dwcp_stream.streams.decode import ChunkDecoder
from dwcp_stream.watermark import NEVER, NONE_AHEAD, Ahead, tick_of
from dwcp_stream.windows import Windows
from dwcp_stream.windows.part import SlotPart, TakenPart
from dwcp_stream.windows.snapshot import (
    EntitySnapshot,
    PartitionRecord,
    SnapshotCodec,
    encode_partition_record,
)
from dwcp_stream.windows.taken import Taken

if TYPE_CHECKING:
    from dwcp_stream.stages import Stage


class Partition:
    """The live state of one partition of one stream.

    Parameters
    ----------
    number
        Partition number.
    stream
        The stream's definition.
    models
        Models that score the stream.
    schedule
        From which offsets on; from the beginning unless told. What it says of later offsets is to be given to `plan`.

    Attributes
    ----------
    decoder, stages
        What decodes the partition's records and what scores them; the pipeline sets both.
    models
        Champions by name.
    contenders
        What runs beside them.
    latest
        Last scores that went out, by model.
    """

    decoder: ChunkDecoder

    def __init__(
        self, number: int, stream: StreamDefinition, models: Sequence[Model], schedule: Schedule | None = None
    ) -> None:
        self.number, self.stream = number, stream
        self.models = {m.name: m for m in models}
        self.stages: list[Stage] = []
        begun = tuple(Activation(0, m.name, m.version) for m in models)
        self.schedule = begun if schedule is None else schedule
        self._coming: dict[Activation, Model | None] = {}
        self._early: dict[Activation, ModelState] = {}
        self.contenders = Contenders(stream, number)
        self._remembers: dict[str, int] = {}
        self.codec = SnapshotCodec(stream)
        self.windows = Windows(stream, scoring=bool(models))
        self.alerts = {m.name: AlertTracker(stream.alert.of(m.name), m.severity) for m in models}
        self.forecasts = {m.name: forecast_tracker(stream, m, number) for m in models if m.task == "forecast"}
        self.states = {m.name: model_state(m) for m in models if m.state_size}
        self.drift = {m.name: drift_monitor(stream, m, number) for m in models}
        self.latest = {m.name: LatestScores() for m in models}
        self.watermark, self.ahead = NEVER, NONE_AHEAD
        self.position: int | None = None
        self.begin = 0
        self.touched: set[int] = set()
        self.removed: set[str] = set()
        self.confirmed: int | None = None
        self.notes: list[str] = []

    @property
    def tick_interval(self) -> float:
        """Seconds of event time between ticks."""
        return tick_interval(self.stream)

    @property
    def parts(self) -> dict[str, SlotPart]:
        """Everything kept per entity slot beside the window, by the name it has in a snapshot."""
        return self._named(self.states) | self.contenders.parts

    def _named(self, states: Mapping[str, ModelState]) -> dict[str, SlotPart]:
        named: dict[str, SlotPart] = {f"alert:{name}": part for name, part in self.alerts.items()}
        named |= {f"forecast:{name}": part for name, part in self.forecasts.items()}
        named |= {f"state:{name}": part for name, part in states.items()}
        return named

    def fit(self) -> None:
        """Give every part room for as many slots as the windows have."""
        for part in self._held():
            part.resize(self.windows.capacity)

    def _held(self) -> Iterator[SlotPart | Split | LatestScores]:
        """Yield everything that has something per slot, in effect or not yet."""
        return chain(
            self._named(self.states).values(), self._early.values(), self.contenders.held(), self.latest.values()
        )

    # --- versions of models -----------------------------------------------------------------------------

    @property
    def coming(self) -> Schedule:
        """Activations that have not taken effect yet, by offset."""
        return tuple(sorted(self._coming))

    def plan(self, schedule: Schedule, models: Mapping[Activation, Model]) -> None:
        """Take over a schedule that is durable; `models` are those of its activations that are new here."""
        self.schedule = schedule
        known = self._coming | dict(models)
        self._coming = {a: known[a] if a.scores else None for a in pending(schedule, self.position or 0)}

    def activate(self, activation: Activation) -> tuple[Swap, list[Output]]:
        """Let what was planned take effect, now that all samples before its offset have been processed.

        A champion's alerts go on, their severities by the new cut-offs. Pending forecasts keep the version that made
        them. What drifted belongs to the version before and begins anew. So do what the model remembers of entities and
        the correction of its intervals, unless it ran beside the champion before: then it brings both.

        Returns
        -------
        tuple
            The change, and what is left to say of a contender whose time ends here.
        """
        model = self._coming.pop(activation)
        if activation.arm == SHARE:
            share = max(activation.version, 0)
            return Swap(
                activation.base, self.contenders.set_share(activation.base, share), share, activation.offset, SHARE
            ), []
        if activation.arm != "champion":
            leaving = self.contenders.change(activation, model)
            self.fit()
            outputs = [] if leaving is None else self.contenders.last_of(leaving, self.watermark)
            before = NOTHING if leaving is None else leaving.model.version
            return Swap(activation.base, before, activation.version, activation.offset, activation.arm), outputs
        if model is None:
            raise RuntimeError(f"{activation} names no version of a champion")
        replaced, self.models[model.name] = self.models[model.name], model
        self.alerts[model.name].cutoffs = model.severity
        self.drift[model.name] = drift_monitor(self.stream, model, self.number)
        early, begin = self._early.pop(activation, None) or model_state(model), activation.offset
        contender = self.contenders.of(model)
        if contender is not None:
            begin = contender.since
            if contender.memory is not None:
                contender.memory.absorb(early)
                early, contender.memory = contender.memory, model_state(model)
            if contender.forecasts is not None:
                self.forecasts[model.name].correction.load(contender.forecasts.correction.state())
        if model.name in self.states:
            since = self._remembers.get(replaced.name, self._since.get(replaced.name, 0))
            self.contenders.leave(replaced, self.states[replaced.name], since, activation.offset)
        self._remembers[model.name] = begin
        states = {**self.states, model.name: early}
        self.states = {name: states[name] for name, m in self.models.items() if m.state_size}  # in the models' order
        self.fit()
        return Swap(model.name, replaced.version, model.version, activation.offset), []

    def served(self, name: str, arm: str, slots: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Return of which slots the verdicts of an arm go out, bool of the shape of `slots`; None: of all."""
        split = self.contenders.splits.get(name)
        if split is None:
            return None if arm == "champion" else np.zeros(len(slots), np.bool_)
        if arm == "shadow":
            return np.zeros(len(slots), np.bool_)
        split.resize(self.windows.capacity)
        challenged = split(slots, self.windows.entity_of)
        return challenged if arm == "challenger" else ~challenged

    @property
    def _since(self) -> dict[str, int]:
        """Offset from which on each champion has scored."""
        return {name: a.offset for name, a in active(self.schedule, self.position or 0).items() if a.arm == "champion"}

    def _parts_at(self, applied: int) -> list[tuple[str, SlotPart]]:
        """Return where the parts of an entity belong whose newest sample has an offset.

        After a crash an entity can be ahead of the partition's position. What a model remembers of it then belongs to
        the version that scored that sample; if that version has been replaced since, it belongs nowhere. So does all
        that a contender has of the entity.
        """
        since = self._since | self._remembers
        states = {name: s for name, s in self.states.items() if since.get(name, 0) <= applied}
        found: list[tuple[str, SlotPart]] = [(memory_name(self.models[name]), part) for name, part in states.items()]
        for activation in self.coming:
            if activation.offset <= applied:
                states.pop(activation.model, None)
                if activation in self._early:
                    states[activation.model] = self._early[activation]
        return [*found, *self._named(states).items(), *self.contenders.parts_at(applied)]

    def _version(self, name: str) -> int | None:
        model = self.models.get(name)
        return None if model is None else model.version

    # --- entities and state -----------------------------------------------------------------------------

    def remove(self, slots: NDArray[np.int64]) -> None:
        """Forget entities; their keys are deleted from the changelog by the next checkpoint."""
        for slot in slots.tolist():
            self.removed.add(self.windows.entity_of(slot))
        self.touched.difference_update(slots.tolist())
        for part in self._held():
            part.clear(slots)
        self.windows.free(slots)

    def record(self) -> PartitionRecord:
        """Return the record that a checkpoint writes last."""
        begun = active(self.schedule, self.position or 0)
        return PartitionRecord(
            position=self.position or 0,
            watermark=self.watermark,
            drift={name: monitor.state() for name, monitor in self.drift.items()},
            accuracy={name: tracker.state() for name, tracker in self.forecasts.items()},
            tick=tick_of(self.watermark, self.tick_interval),
            models={name: model.version for name, model in self.models.items()},
            since={name: begun[name].offset for name in self.models if name in begun},
            ahead=self.ahead,
            begin=self.begin,
            contenders=self.contenders.state(),
            remembers=dict(self._remembers),
        )

    def restore(self, record: PartitionRecord | None, snapshots: Mapping[str, EntitySnapshot]) -> list[str]:
        """Take over recovered state.

        Entities that had expired before the record was written (their deletion may not have been) are left out.

        Returns
        -------
        list of str
            The entities left out.
        """
        silent_since = NEVER
        self._early = {
            a: model_state(m) for a, m in self._coming.items() if m is not None and a.arm == "champion" and m.state_size
        }
        self.contenders.expect(self._coming)
        if record is not None:
            self.watermark, self.ahead = record.watermark, Ahead(*record.ahead)
            self.position, self.confirmed = record.position, record.position
            self.begin = record.begin
            silent_since = record.tick - self.stream.expire_after
            for name, monitor in self.drift.items():
                if name in record.drift:
                    self.notes += monitor.load(record.drift[name])
            for name, tracker in self.forecasts.items():
                if name in record.accuracy and (said := tracker.load_state(record.accuracy[name])):
                    self.notes.append(said)
            self.notes += self.contenders.load(record.contenders)
            self._remembers = {n: at for n, at in record.remembers.items() if record.models.get(n) == self._version(n)}
        position = self.position or 0
        expired = [e for e, s in snapshots.items() if s.state.last_ts <= silent_since and s.state.applied < position]
        gone = frozenset(expired)
        left = {entity: snapshot for entity, snapshot in snapshots.items() if entity not in gone}
        slots = self.windows.load({entity: snapshot.state for entity, snapshot in left.items()})
        self.fit()
        for slot, snapshot in zip(slots.tolist(), left.values(), strict=True):
            kept = {name: plain for name, plain in snapshot.parts.items() if plain is not None}
            for name, part in self._parts_at(snapshot.state.applied) if kept else ():
                if name in kept:
                    part.load(slot, kept[name])
        return expired

    def copy(self) -> "PartitionCopy":
        """Copy what changed since the last checkpoint; what changes from here on belongs to the next one."""
        slots = np.fromiter(self.touched, np.int64, len(self.touched))
        removed = sorted(self.removed - self.windows.slots.keys())
        taken = PartitionCopy(
            partition=self.number,
            position=self.position or 0,
            removed=removed,
            windows=self.windows.take(slots),
            parts={name: part.take(slots) for name, part in self.parts.items()},
            partition_record=self.record(),
            codec=self.codec,
        )
        self.touched, self.removed = set(), set()
        return taken

    def put_back(self, copy: "PartitionCopy") -> None:
        """Mark what a failed checkpoint had copied as changed again."""
        slots = self.windows.slots
        self.touched.update(slots[entity] for entity in copy.windows.entities if entity in slots)
        self.removed.update(copy.removed)


@dataclass(slots=True)
class PartitionCopy:
    """What changed in a partition since the last checkpoint, copied; encoding it needs no lock."""

    partition: int
    position: int
    removed: list[str]
    windows: Taken
    parts: Mapping[str, TakenPart]
    partition_record: PartitionRecord
    codec: SnapshotCodec

    def snapshots(self) -> list[tuple[str, bytes]]:
        """Encode every copied entity as (entity, snapshot)."""
        return list(self._encode())

    def _encode(self) -> Iterator[tuple[str, bytes]]:
        for i, entity in enumerate(self.windows.entities):
            parts = {name: plain for name, taken in self.parts.items() if (plain := taken.plain(i)) is not None}
            yield entity, self.codec.encode(self.windows.core(i), parts)

    def record(self) -> bytes:
        """Encode the partition record."""
        return encode_partition_record(self.partition_record)
