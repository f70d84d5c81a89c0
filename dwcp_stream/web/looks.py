"""What a worker shows of its entities: a list of those that matter most, and one in full.

A `look` copies what it needs of a partition while nothing changes it, which takes well under a millisecond; what costs
more, above all scoring, works on the copy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from dwcp_stream.alerts.severity import LEVELS
from dwcp_stream.partition import Partition
from dwcp_stream.scoring import Model
from dwcp_stream.streams import StreamDefinition
from dwcp_stream.windows.view import EntityView

I64 = NDArray[np.int64]


class EntityRow(msgspec.Struct, frozen=True, gc=False):
    """One entity of a list: time of its newest sample, last scores by model, severities of the alerts that fire.

    Scores and severities are in the order of the list's models; null is no verdict yet, and no alert.
    """

    entity: str
    partition: int
    time: float
    scores: list[float | None]
    severities: list[str | None]


class ModelRow(msgspec.Struct, frozen=True, gc=False):
    """A champion: what it does, and the scores from which an alert fires, gets more severe and ends."""

    name: str
    version: int
    task: str
    degraded: bool
    severity: list[float]
    resolve_below: float
    targets: list[str]
    horizons: list[int]


class EntityList(msgspec.Struct, frozen=True):
    """Entities of a worker: of `count` that were asked for, the first by score."""

    stream: str
    description: str
    step: float | None
    window: int
    count: int
    models: list[ModelRow]
    entities: list[EntityRow]


class FieldColumn(msgspec.Struct, frozen=True, gc=False):
    """One field over the window, oldest first; a category's values are its codes, a counter's rates per second."""

    name: str
    unit: str
    kind: str
    description: str
    vocabulary: list[str]
    values: list[float | None]


class ModelLook(msgspec.Struct, frozen=True):
    """What a champion says of one entity's window as it is now.

    `expected` and `contributions` are by field of the model; `quantiles` by horizon and target, before the conformal
    correction. `since` is the event time since when the score has been over the threshold.
    """

    model: ModelRow
    score: float | None
    severity: str | None
    since: float | None
    kind: str | None
    probability: float | None
    fields: list[str]
    expected: list[float | None] | None
    contributions: list[float | None] | None


class EntityLook(msgspec.Struct, frozen=True):
    """One entity in full."""

    stream: str
    entity: str
    partition: int
    offset: int
    step: float | None
    times: list[float | None]
    fields: list[FieldColumn]
    models: list[ModelLook]


@dataclass(slots=True)
class Glimpse:
    """Copied from a partition: its entities with their times, and last scores [n, M] and severity levels [n, M]."""

    partition: int
    names: list[str]
    times: NDArray[np.float64]
    scores: NDArray[np.float32]
    levels: I64


def glimpse(state: Partition) -> Glimpse:
    """Copy what a list needs of a partition."""
    names = list(state.windows.slots)
    slots = np.fromiter(state.windows.slots.values(), np.int64, len(names))
    state.fit()
    scores = np.full((len(names), len(state.models)), np.nan, np.float32)
    levels = np.full(scores.shape, -1, np.int64)
    for column, name in enumerate(state.models):
        scores[:, column] = state.latest[name].read(slots)
        firing = np.flatnonzero(state.alerts[name].active(slots))
        taken = state.alerts[name].take(slots[firing])
        levels[firing, column] = [_level(taken.plain(i)) for i in range(len(firing))]
    return Glimpse(state.number, names, state.windows.last_ts[slots], scores, levels)


def entity_list(
    stream: StreamDefinition, models: Sequence[Model], parts: Sequence[Glimpse], *, like: str = "", limit: int = 1000
) -> EntityList:
    """Put a list together: what fires first, then by the highest score, then by name.

    Parameters
    ----------
    like
        Only entities whose name has this in it, whatever the case.
    limit
        Most entities to list.
    """
    found: list[tuple[int, float, str, Glimpse, int]] = []
    count = 0
    for part in parts:
        worst, level = _worst(part.scores), part.levels.max(axis=1, initial=-1)
        rows = range(len(part.names))
        if like:
            rows = [i for i in rows if like.casefold() in part.names[i].casefold()]  # type: ignore[assignment]
        count += len(rows)
        found += [(-int(level[i]), -float(worst[i]), part.names[i], part, i) for i in rows]
    found.sort(key=lambda row: row[:3])
    entities = [
        EntityRow(
            name,
            part.partition,
            round(float(part.times[i]), 3),
            [_number(score) for score in part.scores[i].tolist()],
            [LEVELS[level] if level >= 0 else None for level in part.levels[i].tolist()],
        )
        for _, _, name, part, i in found[:limit]
    ]
    step = stream.step if isinstance(stream.step, float) else None
    described = [model_row(stream, model) for model in models]
    return EntityList(stream.name, stream.description, step, stream.window, count, described, entities)


@dataclass(slots=True)
class Look:
    """Copied from a partition: one entity's window, and per champion its model, memory, last score and alert."""

    view: EntityView
    partition: int
    models: list[tuple[Model, NDArray[np.float32] | None, float, list[Any] | None]]


def look(state: Partition, entity: str) -> Look:
    """Copy what is known of an entity; KeyError if the partition does not have it."""
    slot = np.array([state.windows.slots[entity]])
    state.fit()
    models = []
    for name, model in state.models.items():
        memory = state.states[name].read(slot) if name in state.states else None
        alert = state.alerts[name].take(slot).plain(0)
        models.append((model, memory, float(state.latest[name].read(slot)[0]), alert))
    return Look(state.windows.view(entity), state.number, models)


def entity_look(stream: StreamDefinition, found: Look) -> EntityLook:
    """Score the copied window once more, and lay everything out.

    Raises
    ------
    ModelError
        If a graph fails on the window.
    """
    view = found.view
    step = stream.step if isinstance(stream.step, float) else None
    fields = [
        FieldColumn(f.name, f.unit, f.kind, f.description, list(f.vocabulary), _numbers(view[f.name]))
        for f in stream.fields
    ]
    enough = int(view.filled.sum()) >= stream.min_periods
    models = [_model_look(stream, view, *each, enough=enough) for each in found.models]
    times = [_number(time, 3) for time in view.times.tolist()]
    return EntityLook(stream.name, view.entity, found.partition, view.applied, step, times, fields, models)


def model_row(stream: StreamDefinition, model: Model) -> ModelRow:
    """Describe a champion."""
    return ModelRow(
        model.name,
        model.version,
        model.task,
        model.degraded,
        [float(cut) for cut in model.severity],
        stream.alert.resolve_below,
        list(model.targets),
        list(model.horizons),
    )


def _model_look(
    stream: StreamDefinition,
    view: EntityView,
    model: Model,
    memory: NDArray[np.float32] | None,
    score: float,
    alert: list[Any] | None,
    *,
    enough: bool,
) -> ModelLook:
    expected = contributions = kind = probability = None
    if enough:
        windows, times = view.rows[None], view.times[None]
        verdict = model.score(windows, times, memory)
        expected = None if verdict.expected is None else _numbers(verdict.expected[0])
        probability = None if verdict.probability is None else _number(float(verdict.probability[0]))
        if verdict.kind is not None and model.kinds and verdict.score[0] > 1:
            kind = model.kinds[int(np.argmax(verdict.kind[0]))]
        explained = model.explain(windows, times, memory)
        contributions = None if explained is None else _numbers(explained[0])
        if np.isnan(score) and memory is None:
            score = float(verdict.score[0])
    since, active, level = (None, False, 0) if alert is None else (alert[1], alert[2], alert[3])
    return ModelLook(
        model_row(stream, model),
        _number(score),
        LEVELS[level] if active else None,
        since,
        kind,
        probability,
        list(model.fields),
        expected,
        contributions,
    )


def _level(plain: list[Any] | None) -> int:
    return -1 if plain is None else int(plain[3])


def _worst(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the highest score of each row, (n,); -1 where there is none."""
    worst: NDArray[np.float32] = np.where(np.isnan(scores), np.float32(-1), scores).max(axis=1, initial=-1)
    return worst


def _number(value: float, digits: int = 6) -> float | None:
    return round(value, digits) if np.isfinite(value) else None


def _numbers(values: NDArray[np.float32]) -> list[float | None]:
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in values.tolist()]
