"""Map files: which series become which fields of a stream."""

from pathlib import Path
from typing import Literal

import msgspec

from dwcp_stream.collect.selector import parse_selector
from dwcp_stream.errors import UNREADABLE, ConfigError
from dwcp_stream.streams.definition import StreamDefinition

Take = Literal["value", "increase", "rate", "quantile"]
Combine = Literal["sum", "max", "min", "mean", "count", "quorum"]


class MapField(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where one field comes from.

    Either `value`, a constant, or `series`, a selector of series of which each entity has some. Of these is taken the
    value, the `increase` over one step, the `rate` per second or a `quantile` (`q`) of a histogram's buckets, since the
    page before; then they are combined, divided by the same of the series `per`, and scaled. `only` leaves the
    instances in that have such a series that is not 0. A field may be there several times: the first with a value
    counts.
    """

    name: str
    series: str | None = None
    value: float | str | None = None
    take: Take = "value"
    q: float | None = None
    combine: Combine = "sum"
    per: str | None = None
    only: str | None = None
    scale: float = 1.0
    offset: float = 0.0


class CollectMap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A map: the stream, the label that each part of its entity is taken from, and the fields."""

    stream: str
    entity: dict[str, str]
    fields: tuple[MapField, ...]
    description: str = ""


def load_map(path: Path) -> CollectMap:
    """Read a map and check what can be checked without the stream.

    Raises
    ------
    ConfigError
        Naming file, key and remedy.
    """
    try:
        mapping = msgspec.toml.decode(path.read_bytes(), type=CollectMap)
    except OSError as error:
        raise ConfigError(
            f"cannot read the map: {error.strerror}",
            where=str(path),
            remedy="Give --map etcd, --map node_exporter, or a file; docs/collect.md says what is in one",
        ) from error
    except msgspec.ValidationError as error:
        raise ConfigError(str(error), where=str(path), remedy="docs/collect.md lists the keys of a map") from error
    except UNREADABLE as error:
        raise ConfigError(
            f"not valid TOML: {error}", where=str(path), remedy="Correct the line that is named"
        ) from error
    for index, field in enumerate(mapping.fields):
        if wrong := _wrong(field):
            raise ConfigError(wrong, where=f"{path}: fields[{index}]", remedy="docs/collect.md explains the keys")
    return mapping


def check_map(mapping: CollectMap, stream: StreamDefinition, path: Path) -> None:
    """Raise ConfigError if a map names what the stream has not."""
    for part in mapping.entity:
        if part not in stream.entity:
            raise ConfigError(
                f'"{part}" is no part of the entity',
                where=f"{path}: entity",
                remedy=f"Parts are {', '.join(stream.entity)}",
            )
    for part in stream.entity:
        if part not in mapping.entity and part not in stream.entity_optional:
            raise ConfigError(
                f'the entity part "{part}" is missing',
                where=f"{path}: entity",
                remedy=f'Add {part} = "instance", perhaps',
            )
    for index, field in enumerate(mapping.fields):
        if field.name not in stream.field_names:
            raise ConfigError(
                f'stream {stream.name} has no field "{field.name}"',
                where=f"{path}: fields[{index}].name",
                remedy=f"Fields are {', '.join(stream.field_names)}",
            )


def _wrong(field: MapField) -> str | None:
    """Return what is wrong with a field of a map, None if nothing is."""
    if (field.series is None) == (field.value is None):
        return f'"{field.name}" needs either series or value'
    if (field.take == "quantile") != (field.q is not None) or not 0 <= (field.q or 0) <= 1:
        return f'"{field.name}": take = "quantile" needs q, 0 to 1, and nothing else does'
    for text in (field.series, field.per, field.only):
        if text is not None:
            try:
                parse_selector(text)
            except ValueError as error:
                return f'"{field.name}": {error}'
    return None
