"""What the daemon publishes: the payload of each topic, and a message ready for the producer.

Payloads are JSON. A number that does not exist (NaN, infinity) is `null`; times are RFC 3339 in UTC with
milliseconds. Nothing here depends on a clock: the same samples give the same bytes and the same ids.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple

import msgspec

Topic = Literal["anomalies", "predictions", "drift", "accuracy", "deadletter", "models", "incidents"]
Action = Literal["firing", "escalated", "resolved"]
ModelAction = Literal["loaded", "refused"]
DriftState = Literal["stable", "warning", "drifted"]
DecisionWord = Literal["trained", "rejected", "shadowed", "challenged", "promoted", "dropped", "rolled_back", "failed"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = 253_402_300_799.999  # 9999-12-31T23:59:59.999Z, the last time RFC 3339 can write


class Output(NamedTuple):
    """A message to publish; `topic` is the logical name, without the configured prefix."""

    topic: Topic
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


class AlertField(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A field that contributed to an alert; a category's value is its name."""

    name: str
    value: float | str | None
    expected: float | str | None = None
    contribution: float | None = None
    unit: str = ""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A transition of an alert: Alertmanager v2's fields, and what a person wants to know besides.

    `starts_at` is the event time of the first verdict over the threshold; `ends_at` is absent until the alert
    is resolved, which Alertmanager's API takes as "still firing".
    """

    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: str = msgspec.field(name="startsAt")
    ends_at: str | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="endsAt")
    generator_url: str | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="generatorURL")
    fingerprint: str
    action: Action
    reason: str
    severity: str
    score: float | None
    kind: str | None
    state: str
    fields: list[AlertField]
    stream: str
    entity: str
    model: str
    model_version: int
    event_time: str


class Advice(msgspec.Struct, frozen=True, gc=False):
    """What to do with a link that is forecast to be like this."""

    streams: int
    buffer_bytes: int


class HorizonForecast(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A forecast for one target time: per target the quantiles at the prediction's `levels`.

    `raw` is what the model said, `corrected` is after the conformal correction.
    """

    id: str
    horizon: int
    target_time: str | None
    raw: dict[str, list[float]]
    corrected: dict[str, list[float]]
    confidence: float
    advice: Advice | None


class Prediction(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a model expects of an entity: quantiles per horizon, or the probability of an incident.

    `advice` and `confidence` are those of the nearest horizon. `repeats` is the share of the medians that are the last
    value: 1 where the model has switched itself off, because repeating it was better of late.
    """

    kind: Literal["forecast", "incident"]
    stream: str
    entity: str
    model: str
    version: int
    arm: str
    issued_at: str
    score: float | None = None
    probability: float | None = None
    confidence: float | None = None
    advice: Advice | None = None
    repeats: float | None = None
    levels: tuple[float, ...] = ()
    forecasts: list[HorizonForecast] = []


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """A watched number of one block of event time, and what each detector makes of it."""

    mean: float | None
    n: int
    detectors: dict[str, DriftState]


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a model's drift state on one partition, with the numbers that led to it."""

    stream: str
    model: str
    version: int
    partition: int
    state: DriftState
    previous: DriftState
    reasons: list[str]
    block_start: str
    block_end: str
    event_time: str
    signals: dict[str, Signal]
    psi: dict[str, float]
    psi_n: int


class Accuracy(msgspec.Struct, frozen=True, kw_only=True):
    """Realised errors of one bucket of target time, as sums and counts: add messages of a bucket up.

    Sums are in the target's unit (`sq_error` in its square) over `n` realised forecasts; `error` is
    forecast minus actual. `ape` sums |error / actual| over the `ape_n` whose actual is not 0.
    `paired_abs_error` is `abs_error` over the `persistence_n` forecasts whose value at the time of issue
    was known, beside `persistence_abs_error` of repeating that value. `pinball` is summed over the three
    quantiles. `covered` counts actuals within the corrected interval, `covered_raw` within the model's own.
    `missed` forecasts found no actual.
    `event_time` is when this part was closed; what came later for the bucket is in further parts.
    """

    stream: str
    model: str
    version: int
    arm: str
    horizon: int
    target: str
    partition: int
    bucket_start: str
    bucket_end: str
    event_time: str
    n: int
    abs_error: float
    sq_error: float
    error: float
    ape: float
    ape_n: int
    persistence_n: int
    persistence_abs_error: float
    paired_abs_error: float
    pinball: float
    covered: int
    covered_raw: int
    missed: int


class ArmScores(msgspec.Struct, frozen=True, kw_only=True):
    """How a challenger's or shadow's scores stood to the champion's on the same windows, in one bucket of event time.

    Counts and sums: add messages of a bucket up. Of the `n` windows that both scored, `both` were over the threshold
    for both, `only_champion` and `only_arm` for one of them; `difference` sums the score's absolute differences, each
    at most 1000. `version` is the arm's, `champion` the other's. `event_time` is when this part was closed.
    """

    stream: str
    model: str
    version: int
    arm: str
    champion: int
    partition: int
    bucket_start: str
    bucket_end: str
    event_time: str
    n: int
    both: int
    only_champion: int
    only_arm: int
    difference: float


class ModelEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker did with a version of a model that it was to use.

    `loaded`: it is verified, and each partition moves to it at an offset of its own. `refused`: `reason` says why, and
    the version `serving` scores instead. `alias` is what points at the version; it is empty for one that was to score
    samples again after a crash.
    """

    stream: str
    model: str
    alias: str
    version: int
    action: ModelAction
    reason: str
    serving: int
    event_time: str


class ModelDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What the trainer decided about a version of a model, and by which numbers.

    `trained`: published as a candidate. `rejected`: trained, but no better than it may be, and not published (version
    0). `shadowed`, `challenged`, `promoted`: what it is from now on. `dropped`: runs beside the champion no longer.
    `rolled_back`: `version` was champion, and `champion` is it again. `failed`: could not be trained. `champion` is
    the champion after the decision; `event_time` the newest time of what was looked at.
    """

    stream: str
    model: str
    decision: DecisionWord
    version: int
    champion: int | None
    reason: str
    numbers: dict[str, float | None]
    event_time: str


encoder = msgspec.json.Encoder()
"""Shared encoder of all payloads."""


def rfc3339(ts: float) -> str:
    """Return epoch seconds as RFC 3339 UTC with milliseconds, e.g. `2024-05-01T12:00:00.250Z`.

    Raises
    ------
    ValueError
        If the time is not finite or outside the years 1 to 9999.
    """
    if not -62_135_596_800.0 <= ts <= _LAST:
        raise ValueError(f"{ts} is not a time between the years 1 and 9999")
    seconds, milliseconds = divmod(round(ts * 1000), 1000)
    return f"{_to_the_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=8192)
def _to_the_second(seconds: int) -> str:
    """Return the text without the fraction: many events share a second, and this is the slow part."""
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:-6]
