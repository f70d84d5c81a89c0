"""What a definition must satisfy beyond its types: each rule yields the key it concerns and the remedy."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from dwcp_stream.streams.definition import MAX_FIELDS, MAX_WINDOW, AlertPolicy, Field, ModelBinding, StreamDefinition

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_FLOAT32_MAX = 3.4028234663852886e38

MIN_SECONDS = 0.001
"""Shortest step, block and expiry: what epoch seconds in a float64 still tell apart by far."""
MAX_COUNT = 1_000_000_000


class Problem(NamedTuple):
    """One thing wrong with a definition."""

    key: str
    what: str
    remedy: str


def problems(stream: StreamDefinition) -> Iterator[Problem]:
    """Yield everything that is wrong with `stream`, in the order of the file's sections."""
    yield from _identity(stream)
    yield from _grid(stream)
    seen: dict[str, int] = {}
    for index, field in enumerate(stream.fields):
        key = f"fields[{index}]"
        if field.name in seen:
            yield Problem(f"{key}.name", f'field "{field.name}" is defined twice', "Remove one of the two")
        seen[field.name] = index
        if field.name in (*stream.entity, stream.time):
            yield Problem(f"{key}.name", f'"{field.name}" is already the entity or the time', "Rename it")
        yield from _field(field, key)
    names: set[str] = set()
    for index, model in enumerate(stream.models):
        yield from _model(stream, model, f"models[{index}]")
        if model.name in names:
            yield Problem(f"models[{index}].name", f'model "{model.name}" is bound twice', "Remove one")
        names.add(model.name)
    yield from policy_problems(stream.alert)
    for name in sorted(stream.alert.thresholds.keys() - names):
        yield Problem(
            f"alert.thresholds.{name}", "is no model of the stream", f"Name one of: {', '.join(sorted(names))}"
        )


def policy_problems(alert: AlertPolicy) -> Iterator[Problem]:
    """Yield everything that is wrong with an alert policy."""
    if not 0 <= alert.min_duration < 1e9:
        yield Problem("alert.min_duration", "must be 0 or more", "Write seconds")
    if not 0 < alert.resolve_below <= 1:
        yield Problem("alert.resolve_below", "must be over 0 and at most 1", "1 is the threshold; 0.8 is usual")
    factors = {"threshold": alert.threshold, **{f"thresholds.{name}": f for name, f in alert.thresholds.items()}}
    for key, factor in factors.items():
        if not 0 < factor < 1e9:
            yield Problem(
                f"alert.{key}", "must be over 0", "1 leaves the model's own threshold; 2 needs twice the score"
            )


def _identity(stream: StreamDefinition) -> Iterator[Problem]:
    if not NAME.fullmatch(stream.name):
        yield Problem("name", f'"{stream.name}" is no stream name', "Use lower case letters, digits, - and _")
    if not _TOPIC.fullmatch(stream.topic) or stream.topic in (".", ".."):
        yield Problem("topic", f'"{stream.topic}" is no Kafka topic', "Use letters, digits, dot, - and _")
    if not COLUMN.fullmatch(stream.time):
        yield Problem("time", f'"{stream.time}" is no column name', "Use letters, digits and _")
    if not stream.entity:
        yield Problem("entity", "is empty", "Name the payload fields that tell the entities apart")
    for part in stream.entity:
        if not COLUMN.fullmatch(part) or part == stream.time:
            yield Problem("entity", f'"{part}" cannot be an entity part', "Use letters, digits and _")
    if len(set(stream.entity)) != len(stream.entity):
        yield Problem("entity", "names a part twice", "Name each part once")
    optional = len(stream.entity_optional)
    if optional and (optional >= len(stream.entity) or stream.entity[-optional:] != stream.entity_optional):
        # a gap in the middle would make two different entities look the same
        yield Problem("entity_optional", "must be the last parts of entity", "Only trailing parts may be absent")


def _grid(stream: StreamDefinition) -> Iterator[Problem]:
    if not isinstance(stream.step, str) and not MIN_SECONDS <= stream.step < 1e9:
        yield Problem("step", f"must be {MIN_SECONDS} or more", 'Write seconds between samples, or "irregular"')
    if not 2 <= stream.window <= MAX_WINDOW:
        yield Problem("window", f"must be 2 to {MAX_WINDOW} rows", "30 rows are usual")
    if not 1 <= stream.min_periods <= stream.window:
        yield Problem("min_periods", "must be 1 to window", f"Write at most {stream.window}")
    if not 1 <= stream.stride <= MAX_COUNT:
        yield Problem("stride", f"must be 1 to {MAX_COUNT}", "1 scores every row")
    for key in ("lateness", "ahead_tolerance"):
        if not 0 <= getattr(stream, key) < 1e9:
            yield Problem(key, "must be 0 or more", "Write seconds")
    for key in ("expire_after", "drift_block"):
        if not MIN_SECONDS <= getattr(stream, key) < 1e9:
            yield Problem(key, f"must be {MIN_SECONDS} or more", "Write seconds")
    if not 1 <= stream.max_entities <= MAX_COUNT:
        yield Problem("max_entities", f"must be 1 to {MAX_COUNT}", "Write how many entities one partition may hold")
    if not stream.fields:
        yield Problem("fields", "is empty", "Add a [[fields]] table per measured quantity")
    if len(stream.fields) > MAX_FIELDS:
        yield Problem("fields", f"are more than {MAX_FIELDS}", "Split the stream, or send less")


def _field(field: Field, key: str) -> Iterator[Problem]:
    if not COLUMN.fullmatch(field.name):
        yield Problem(f"{key}.name", f'"{field.name}" is no field name', "Use letters, digits and _")
    low = -_FLOAT32_MAX if field.min is None else field.min
    high = _FLOAT32_MAX if field.max is None else field.max
    if not -_FLOAT32_MAX <= low <= high <= _FLOAT32_MAX:
        yield Problem(f"{key}.min", f"the range {low} to {high} is empty or not finite", "Write min <= max")
    if field.kind == "categorical" and not field.vocabulary:
        yield Problem(f"{key}.vocabulary", "a categorical field needs one", "List its words in order")
    if not field.vocabulary:
        if field.aliases:
            yield Problem(f"{key}.aliases", "there is no vocabulary to point into", "Add vocabulary")
        return
    if field.min is not None or field.max is not None:
        yield Problem(f"{key}.min", "a field with a vocabulary has no range", "Remove min and max")
    if field.kind == "counter":
        yield Problem(f"{key}.kind", "a counter cannot have a vocabulary", "Make it categorical or constant")
    words = [word.lower() for word in field.vocabulary]
    if len(set(words)) != len(words) or "" in words:
        yield Problem(f"{key}.vocabulary", "a word is empty or there twice", "Matching ignores case")
    for alias, word in field.aliases.items():
        if word.lower() not in words:
            yield Problem(f"{key}.aliases.{alias}", f'"{word}" is not in the vocabulary', "Point at a word of it")
        if alias.lower() in words and alias.lower() != word.lower():
            yield Problem(f"{key}.aliases.{alias}", "is itself a word of the vocabulary", "Remove the alias")


def _model(stream: StreamDefinition, model: ModelBinding, key: str) -> Iterator[Problem]:
    if not NAME.fullmatch(model.name):
        yield Problem(f"{key}.name", f'"{model.name}" is no model name', "Use lower case letters, digits, - and _")
    for target in model.targets:
        if target not in stream.field_names:
            yield Problem(f"{key}.targets", f'"{target}" is not a field', "Name fields of this stream")
    forecast = model.task == "forecast"
    if forecast and not (model.targets and model.horizons):
        yield Problem(f"{key}.targets", "a forecast needs targets and horizons", "Name fields and steps ahead")
    if not forecast and (model.targets or model.horizons):
        yield Problem(f"{key}.targets", f"an {model.task} model has no targets or horizons", "Remove them")
    if any(not 1 <= horizon <= MAX_WINDOW for horizon in model.horizons) or list(model.horizons) != sorted(
        set(model.horizons)
    ):
        yield Problem(f"{key}.horizons", "must be steps ahead, each larger than the last", "For example [1, 6, 12]")
    if model.label in stream.field_names:
        yield Problem(f"{key}.label", f'"{model.label}" is a field the models see', "Name another column")
    if model.alertname is not None and not COLUMN.fullmatch(model.alertname):
        yield Problem(f"{key}.alertname", f'"{model.alertname}" is no alert name', "Use letters, digits and _")
