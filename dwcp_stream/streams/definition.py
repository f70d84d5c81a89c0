"""What a stream is: fields, units, ranges, grid, windows, models and alert policy, as frozen data."""

from typing import Literal

import msgspec

Kind = Literal["gauge", "counter", "categorical", "constant"]
Task = Literal["anomaly", "incident", "forecast"]

MAX_WINDOW, MAX_FIELDS = 10_000, 1_000
"""Rows and columns of the largest window; a snapshot that claims more is damaged, not large."""


class Field(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measured quantity of a sample.

    A field with a vocabulary is coded, whatever its kind: its value is the position of the word. A counter
    arrives raw and becomes a rate per second when it enters a window. Bounds are inclusive and in `unit`.
    """

    name: str
    kind: Kind = "gauge"
    unit: str = "1"
    description: str = ""
    min: float | None = None
    max: float | None = None
    required: bool = False
    vocabulary: tuple[str, ...] = ()
    aliases: dict[str, str] = {}

    @property
    def coded(self) -> bool:
        """Whether values are words of a vocabulary, stored as their positions."""
        return bool(self.vocabulary)


class ModelBinding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that scores this stream's windows.

    `horizons` are in steps; `label` is the column of a training file that says whether the row is abnormal. A file
    may leave out the name (then it is STREAM-TASK), and of a forecast the targets (all gauges) and the
    horizons (one step).
    """

    name: str = ""
    task: Task
    alias: str = "champion"
    targets: tuple[str, ...] = ()
    horizons: tuple[int, ...] = ()
    label: str | None = None
    alertname: str | None = None


class AlertPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a score becomes an alert: seconds over the threshold to fire, and the score under which it resolves.

    `threshold` multiplies the models' own: at 2 an alert needs twice the score. What else is said of scores, the
    cut-offs of severities and `resolve_below`, is relative to it. `thresholds` has, by model, what holds instead.
    """

    min_duration: float = 0.0
    resolve_below: float = 0.8
    threshold: float = 1.0
    thresholds: dict[str, float] = {}

    def of(self, model: str) -> "AlertPolicy":
        """Return the policy for one model: `threshold` is its own then."""
        if model not in self.thresholds:
            return self
        return msgspec.structs.replace(self, threshold=self.thresholds[model], thresholds={})


class StreamDefinition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything the daemon knows about one kind of telemetry.

    Times (`step`, `lateness`, `expire_after`, `ahead_tolerance`, `drift_block`) are in seconds; `window`,
    `min_periods` and `stride` in rows. `entity_optional` names the trailing entity parts that may be absent.
    `max_entities` holds per partition, so that a replay decides alike after any rebalance.
    """

    name: str
    topic: str
    entity: tuple[str, ...]
    step: float | Literal["irregular"]
    window: int
    fields: tuple[Field, ...]
    description: str = ""
    entity_optional: tuple[str, ...] = ()
    time: str = "ts"
    min_periods: int = 1
    stride: int = 1
    lateness: float = 0.0
    expire_after: float = 3600.0
    ahead_tolerance: float = 60.0
    max_entities: int = 100_000
    drift_block: float = 60.0
    models: tuple[ModelBinding, ...] = ()
    alert: AlertPolicy = AlertPolicy()

    @property
    def field_names(self) -> tuple[str, ...]:
        """Names of the fields, in the order of a window's columns."""
        return tuple(field.name for field in self.fields)

    def field_index(self, name: str) -> int:
        """Column of the field `name`; KeyError if the stream has no such field."""
        for index, field in enumerate(self.fields):
            if field.name == name:
                return index
        raise KeyError(name)

    @property
    def categorical(self) -> tuple[int, ...]:
        """Columns of the fields that have a vocabulary."""
        return tuple(index for index, field in enumerate(self.fields) if field.coded)

    @property
    def counters(self) -> tuple[int, ...]:
        """Columns of the fields whose raw values become rates."""
        return tuple(index for index, field in enumerate(self.fields) if field.kind == "counter")

    @property
    def irregular(self) -> bool:
        """Whether windows hold the last samples rather than rows on a time grid."""
        return self.step == "irregular"

    def alertname(self, model: ModelBinding) -> str:
        """Label `alertname` of the alerts that `model` raises on this stream."""
        return model.alertname or f"{self.name}_{model.task}"
