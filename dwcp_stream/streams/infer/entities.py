"""Which columns tell the entities apart."""

import re
from typing import Final

import polars as pl

from dwcp_stream.streams.infer.guess import Guess

TELLING: Final = re.compile(
    r"(^|_)(id|host|hostname|node|server|instance|device|pod|cluster|machine|entity|service|group|peer|sensor|vm|container"
    r"|member|shard|broker|link|job)(_(id|name))?$"
)
FEW: Final = 0.5  # an entity comes back: at most so many different values per row
TURNS: Final = 0.1  # share of rows, in order of time, that are of another entity than the row before
DOUBLE: Final = 0.02  # share of rows that may have the entity and time of another


def find_entities(
    frame: pl.DataFrame, times: pl.Series, columns: list[str], told: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], list[Guess]]:
    """Return the columns that tell the entities apart, none if the whole file is one entity, and why.

    Parameters
    ----------
    times
        Epoch seconds of the rows.
    columns
        Columns that may be parts.
    told
        What the user said they are.
    """
    if told:
        return told, [Guess(name, "entity", "as you said") for name in told]
    usable = [name for name in columns if _comes_back(frame[name])]
    whole = _doubles(frame, times, [])
    named = [
        name
        for name in usable
        if TELLING.search(name.lower())
        and (_interleaves(frame[name], times) or _doubles(frame, times, [name]) < whole - DOUBLE)
    ]
    guesses = [Guess(name, "entity", f"its name; {_count(frame[name])}") for name in named]
    parts, others = list(named), [name for name in usable if name not in named and frame[name].dtype == pl.String]
    double = _doubles(frame, times, parts)
    while double > DOUBLE and others:
        best = min(others, key=lambda name: _doubles(frame, times, [*parts, name]))
        fewer = _doubles(frame, times, [*parts, best])
        if fewer > double / 2:
            break
        parts.append(best)
        others.remove(best)
        guesses.append(
            Guess(best, "entity", f"without it {double:.0%} of the rows repeat a time; {_count(frame[best])}")
        )
        double = fewer
    if double > DOUBLE:
        why = f"{double:.0%} of the rows repeat a time of {'/'.join(parts) or 'the file'}: name all parts with --entity"
        guesses.append(Guess("entity", "doubtful", why))
    return tuple(parts), guesses


def _comes_back(column: pl.Series) -> bool:
    if column.dtype != pl.String and not column.dtype.is_integer():
        return False
    if column.null_count():
        return False
    different = column.n_unique()
    telling = TELLING.search(column.name.lower()) is not None
    if column.dtype.is_integer() and not telling:
        return False
    return different <= max(1.0, FEW * len(column)) if telling else 2 <= different <= FEW * len(column)


def _interleaves(column: pl.Series, times: pl.Series) -> bool:
    """Return whether one entity's name stays as it is, or those of several take turns: a leader's id does neither."""
    if column.n_unique() == 1:
        return column.dtype == pl.String
    cells = column.gather(times.arg_sort())
    return float((cells != cells.shift(1)).mean() or 0.0) >= TURNS  # type: ignore[arg-type]


def _doubles(frame: pl.DataFrame, times: pl.Series, parts: list[str]) -> float:
    rows = pl.DataFrame([times.alias("__time"), *(frame[name] for name in parts)]).drop_nulls("__time")
    return 1.0 - rows.n_unique() / len(rows) if len(rows) else 0.0


def _count(column: pl.Series) -> str:
    different = column.n_unique()
    return f"{different} different values" if different > 1 else "one value"
