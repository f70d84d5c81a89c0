"""All that is known of one partition: windows, alerts, forecasts, model states, drift, event time, position."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.alerts import AlertTracker
from dwcp_stream.drift import DriftMonitor
from dwcp_stream.drift.psi import WINDOW_BLOCKS
from dwcp_stream.forecasts import ForecastTracker
from dwcp_stream.scoring import Model, ModelState
from dwcp_stream.streams import StreamDefinition
from dwcp_stream.watermark import NEVER, tick_of
from dwcp_stream.windows import Windows
from dwcp_stream.windows.part import SlotPart, TakenPart
from dwcp_stream.windows.snapshot import (
    EntitySnapshot,
    PartitionRecord,
    SnapshotCodec,
    encode_partition_record,
)
from dwcp_stream.windows.taken import Taken

DAY, MAX_PSI_BLOCKS = 86_400, 96
TICKS_PER_EXPIRY = 10
"""Event-time ticks in one `expire_after`: an entity is expired at most a tenth of it late."""


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
    """

    def __init__(self, number: int, stream: StreamDefinition, models: Sequence[Model]) -> None:
        self.number, self.stream = number, stream
        self.codec = SnapshotCodec(stream)
        self.windows = Windows(stream, scoring=bool(models))
        self.alerts = {m.name: AlertTracker(stream.alert, m.severity) for m in models}
        self.forecasts = {m.name: forecast_tracker(stream, m, number) for m in models if m.task == "forecast"}
        self.states = {m.name: ModelState(m.state_size, version=m.version) for m in models if m.state_size}
        self.drift = {
            m.name: DriftMonitor(
                stream.name,
                m.name,
                dict(m.manifest.reference),  # type: ignore[arg-type]  # a TypedDict is not a Mapping of its values
                stream.drift_block,
                m.fields,
                version=m.version,
                partition=number,
                lateness=stream.lateness,
                psi_blocks=psi_blocks(stream.drift_block),
            )
            for m in models
        }
        self.versions = {m.name: m.version for m in models}
        self.since = dict.fromkeys(self.versions, 0)
        self.watermark = NEVER
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
        named: dict[str, SlotPart] = {f"alert:{name}": part for name, part in self.alerts.items()}
        named |= {f"forecast:{name}": part for name, part in self.forecasts.items()}
        named |= {f"state:{name}": part for name, part in self.states.items()}
        return named

    def fit(self) -> None:
        """Give every part room for as many slots as the windows have."""
        for part in self.parts.values():
            part.resize(self.windows.capacity)

    def remove(self, slots: NDArray[np.int64]) -> None:
        """Forget entities; their keys are deleted from the changelog by the next checkpoint."""
        for slot in slots.tolist():
            self.removed.add(self.windows.entity_of(slot))
        self.touched.difference_update(slots.tolist())
        for part in self.parts.values():
            part.clear(slots)
        self.windows.free(slots)

    def record(self) -> PartitionRecord:
        """Return the record that a checkpoint writes last."""
        return PartitionRecord(
            position=self.position or 0,
            watermark=self.watermark,
            drift={name: monitor.state() for name, monitor in self.drift.items()},
            accuracy={name: tracker.state() for name, tracker in self.forecasts.items()},
            tick=tick_of(self.watermark, self.tick_interval),
            models=dict(self.versions),
            since=dict(self.since),
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
        if record is not None:
            self.watermark, self.position, self.confirmed = record.watermark, record.position, record.position
            self.begin = record.begin
            silent_since = record.tick - self.stream.expire_after
            for name, version in self.versions.items():
                same = record.models.get(name) == version
                self.since[name] = record.since.get(name, 0) if same else record.position
            for name, monitor in self.drift.items():
                if name in record.drift:
                    self.notes += monitor.load(record.drift[name])
            for name, tracker in self.forecasts.items():
                if name in record.accuracy and (said := tracker.load_state(record.accuracy[name])):
                    self.notes.append(said)
        expired = []
        for entity, snapshot in snapshots.items():
            if snapshot.state.last_ts <= silent_since and snapshot.state.applied < (self.position or 0):
                expired.append(entity)
                continue
            slot = self.windows.load(entity, snapshot.state)
            self.fit()
            for name, part in self.parts.items():
                if snapshot.parts.get(name) is not None:
                    part.load(slot, snapshot.parts[name])
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


def tick_interval(stream: StreamDefinition) -> float:
    """Return the seconds of event time between ticks of a stream."""
    return max(stream.expire_after / TICKS_PER_EXPIRY, 1e-3)


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
