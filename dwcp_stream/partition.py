"""All that is known of one partition: windows, alerts, forecasts, model states, drift, event time, position."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.activations import Activation, Schedule, active, pending
from dwcp_stream.alerts import AlertTracker
from dwcp_stream.chunk import Swap
from dwcp_stream.drift import DriftMonitor
from dwcp_stream.drift.psi import WINDOW_BLOCKS
from dwcp_stream.forecasts import ForecastTracker
from dwcp_stream.forecasts.buckets import SECONDS as BUCKET_SECONDS
from dwcp_stream.scoring import Model, ModelState
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

DAY, MAX_PSI_BLOCKS = 86_400, 96
TICKS_PER_EXPIRY = 10
"""Event-time ticks in one `expire_after`, at least: an entity is expired at most a tenth of it late."""
ROWS_PER_TICK = 10
"""Rows between two ticks, at most: buckets of realised errors and blocks of drift are closed at ticks, also where an
entity may be silent for a week. Fewer would cut a backlog of few entities into pieces too small for the models."""


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
        self._coming: dict[Activation, Model] = {}
        self._early: dict[Activation, ModelState] = {}
        self.codec = SnapshotCodec(stream)
        self.windows = Windows(stream, scoring=bool(models))
        self.alerts = {m.name: AlertTracker(stream.alert, m.severity) for m in models}
        self.forecasts = {m.name: forecast_tracker(stream, m, number) for m in models if m.task == "forecast"}
        self.states = {m.name: model_state(m) for m in models if m.state_size}
        self.drift = {m.name: drift_monitor(stream, m, number) for m in models}
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
        return self._named(self.states)

    def _named(self, states: Mapping[str, ModelState]) -> dict[str, SlotPart]:
        named: dict[str, SlotPart] = {f"alert:{name}": part for name, part in self.alerts.items()}
        named |= {f"forecast:{name}": part for name, part in self.forecasts.items()}
        named |= {f"state:{name}": part for name, part in states.items()}
        return named

    def fit(self) -> None:
        """Give every part room for as many slots as the windows have."""
        for part in chain(self.parts.values(), self._early.values()):
            part.resize(self.windows.capacity)

    # --- versions of models -----------------------------------------------------------------------------

    @property
    def coming(self) -> Schedule:
        """Activations that have not taken effect yet, by offset."""
        return tuple(sorted(self._coming))

    def plan(self, schedule: Schedule, models: Mapping[Activation, Model]) -> None:
        """Take over a schedule that is durable; `models` are those of its activations that are new here."""
        self.schedule = schedule
        known = self._coming | dict(models)
        self._coming = {a: known[a] for a in pending(schedule, self.position or 0)}

    def activate(self, activation: Activation) -> Swap:
        """Let a version that was planned take over, now that all samples before its offset have been processed.

        Alerts go on, their severities by the new cut-offs. Pending forecasts keep the version that made them. What the
        model remembers of entities and what drifted belong to the version before: both begin anew.
        """
        model = self._coming.pop(activation)
        before, self.models[model.name] = self.models[model.name].version, model
        self.alerts[model.name].cutoffs = model.severity
        self.drift[model.name] = drift_monitor(self.stream, model, self.number)
        states = {**self.states, model.name: self._early.pop(activation, None) or model_state(model)}
        self.states = {name: states[name] for name, m in self.models.items() if m.state_size}  # in the models' order
        self.fit()
        return Swap(model.name, before, model.version, activation.offset)

    def _parts_at(self, applied: int) -> dict[str, SlotPart]:
        """Return where the parts of an entity belong whose newest sample has an offset.

        After a crash an entity can be ahead of the partition's position. What a model remembers of it then belongs to
        the version that scored that sample; if that version has been replaced since, it belongs nowhere.
        """
        begun = active(self.schedule, self.position or 0)
        states = {name: s for name, s in self.states.items() if name not in begun or begun[name].offset <= applied}
        for activation in self.coming:
            if activation.offset <= applied:
                states.pop(activation.model, None)
                if activation in self._early:
                    states[activation.model] = self._early[activation]
        return self._named(states)

    # --- entities and state -----------------------------------------------------------------------------

    def remove(self, slots: NDArray[np.int64]) -> None:
        """Forget entities; their keys are deleted from the changelog by the next checkpoint."""
        for slot in slots.tolist():
            self.removed.add(self.windows.entity_of(slot))
        self.touched.difference_update(slots.tolist())
        for part in chain(self.parts.values(), self._early.values()):
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
        self._early = {a: model_state(m) for a, m in self._coming.items() if m.state_size}
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
        position = self.position or 0
        expired = [e for e, s in snapshots.items() if s.state.last_ts <= silent_since and s.state.applied < position]
        gone = frozenset(expired)
        left = {entity: snapshot for entity, snapshot in snapshots.items() if entity not in gone}
        slots = self.windows.load({entity: snapshot.state for entity, snapshot in left.items()})
        self.fit()
        for slot, snapshot in zip(slots.tolist(), left.values(), strict=True):
            kept = {name: plain for name, plain in snapshot.parts.items() if plain is not None}
            for name, part in self._parts_at(snapshot.state.applied).items() if kept else ():
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


def model_state(model: Model) -> ModelState:
    """Return room for what a version of a model remembers of entities, empty."""
    return ModelState(model.state_size, version=model.version)


def drift_monitor(stream: StreamDefinition, model: Model, partition: int) -> DriftMonitor:
    """Return a monitor that has seen nothing yet of a model."""
    return DriftMonitor(
        stream.name,
        model.name,
        dict(model.manifest.reference),  # type: ignore[arg-type]  # a TypedDict is not a Mapping of its values
        stream.drift_block,
        model.fields,
        version=model.version,
        partition=partition,
        lateness=stream.lateness,
        psi_blocks=psi_blocks(stream.drift_block),
    )


def tick_interval(stream: StreamDefinition) -> float:
    """Return the seconds of event time between ticks of a stream."""
    step = 0.0 if stream.step == "irregular" else stream.step
    longest = max(BUCKET_SECONDS, ROWS_PER_TICK * step)
    return max(min(stream.expire_after / TICKS_PER_EXPIRY, longest), 1e-3)


def psi_blocks(seconds: float) -> int:
    """Return over how many blocks inputs are compared: a day, so that its shape is no drift, but at most 96."""
    return int(np.clip(math.ceil(DAY / seconds), WINDOW_BLOCKS, MAX_PSI_BLOCKS))


def forecast_tracker(stream: StreamDefinition, model: Model, partition: int) -> ForecastTracker:
    """Return an empty tracker of a model's forecasts, its intervals kept inside the targets' valid ranges."""
    targets = [stream.fields[stream.field_index(name)] for name in model.targets]
    return ForecastTracker(
        stream.name,
        model.name,
        model.targets,
        model.horizons,
        0.0 if isinstance(stream.step, str) else stream.step,
        partition=partition,
        lateness=stream.lateness,
        lower=[-np.inf if f.min is None else f.min for f in targets],
        upper=[np.inf if f.max is None else f.max for f in targets],
    )


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
