"""What a partition keeps for each model, empty: trackers, monitors, and the times at which they are looked at."""

import math

import numpy as np

from dwcp_stream.drift import DriftMonitor
from dwcp_stream.drift.psi import WINDOW_BLOCKS
from dwcp_stream.forecasts import ForecastTracker
from dwcp_stream.forecasts.buckets import SECONDS as BUCKET_SECONDS
from dwcp_stream.scoring import Model, ModelState
from dwcp_stream.streams import StreamDefinition

DAY, MAX_PSI_BLOCKS = 86_400, 96
TICKS_PER_EXPIRY = 10
"""Event-time ticks in one `expire_after`, at least: an entity is expired at most a tenth of it late."""
ROWS_PER_TICK = 10
"""Rows between two ticks, at most: buckets of realised errors and blocks of drift are closed at ticks, also where an
entity may be silent for a week. Fewer would cut a backlog of few entities into pieces too small for the models."""


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


def forecast_tracker(stream: StreamDefinition, model: Model, partition: int, arm: str = "champion") -> ForecastTracker:
    """Return an empty tracker of a model's forecasts, its intervals kept inside the targets' valid ranges."""
    targets = [stream.fields[stream.field_index(name)] for name in model.targets]
    return ForecastTracker(
        stream.name,
        model.name,
        model.targets,
        model.horizons,
        0.0 if isinstance(stream.step, str) else stream.step,
        partition=partition,
        arm=arm,
        lateness=stream.lateness,
        lower=[-np.inf if f.min is None else f.min for f in targets],
        upper=[np.inf if f.max is None else f.max for f in targets],
    )
