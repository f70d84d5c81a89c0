"""The draft of a definition, put together from the guesses about a table."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from dwcp_stream.errors import PayloadError
from dwcp_stream.streams.checks import COLUMN
from dwcp_stream.streams.definition import AlertPolicy, Field, ModelBinding, StreamDefinition
from dwcp_stream.streams.infer.entities import find_entities
from dwcp_stream.streams.infer.fields import is_label, judge
from dwcp_stream.streams.infer.guess import Guess
from dwcp_stream.streams.infer.times import Step, find_step, find_time

WINDOW: Final = 30
SINGLE: Final = "entity"
"""Entity part of a file that has no column for it."""


@dataclass(frozen=True)
class Draft:
    """A definition, the guesses it is made of, and what is known of the file.

    Parameters
    ----------
    stream
        The definition; it passes `config check`.
    guesses
        In the order of the definition, then what was left out.
    rows, entities
        Of the table.
    """

    stream: StreamDefinition
    guesses: tuple[Guess, ...]
    rows: int
    entities: int


def infer_stream(
    frame: pl.DataFrame, name: str, path: Path, *, time: str | None = None, entity: tuple[str, ...] = ()
) -> Draft:
    """Guess a definition from the columns of a table.

    Parameters
    ----------
    frame
        All rows, as the file has them.
    name
        Name of the stream.
    path
        Named in errors.
    time, entity
        Columns that the user named.

    Raises
    ------
    PayloadError
        If the table has no rows, no time, no column that can be a field, or lacks a column that was named.
    """
    if frame.is_empty():
        raise PayloadError("has no rows", where=str(path), remedy="Give a file of some hours of telemetry")
    for part in entity:
        if part not in frame.columns:
            raise PayloadError(
                f'there is no column "{part}"', where=str(path), remedy=f"Columns are {', '.join(frame.columns[:12])}"
            )
    time_name, times, time_guess = find_time(frame, path, time)
    if not COLUMN.fullmatch(time_name):
        raise PayloadError(
            f'the time column "{time_name}" has a name that no definition can hold',
            where=str(path),
            remedy="Rename it, to ts perhaps: letters, digits and _",
        )
    labels = [column for column in frame.columns if column not in (time_name, *entity) and is_label(frame[column])]
    measured = [column for column in frame.columns if column != time_name and column not in labels]
    parts, entity_guesses = find_entities(
        frame, times, [column for column in measured if COLUMN.fullmatch(column)], entity
    )
    codes = _codes(frame, parts)
    order, follows, seconds = _in_order(times, codes)
    step = find_step(seconds, codes)
    fields, said, out = _fields(frame, [c for c in measured if c not in parts], follows, order)
    if not fields:
        raise PayloadError(
            "no column can be a field",
            where=str(path),
            remedy="A field is a column of numbers, of few words, or of true and false: "
            + "; ".join(f"{guess.about}: {guess.why}" for guess in out),
        )
    if len(fields) == 1:  # a sample without it would say nothing
        fields = [msgspec.structs.replace(fields[0], required=True)]
    if not parts:
        entity_guesses = [
            *entity_guesses,
            Guess(
                SINGLE, "entity", "no column tells entities apart: the file's name is the entity; senders must say it"
            ),
        ]
    entities = len(np.unique(codes))
    stream, timing = _definition(
        name, time_name, parts or (SINGLE,), step, tuple(fields), labels, len(frame) / entities
    )
    label_guesses = [
        Guess(label, "left out", "a label by its name and values: no model sees it, `evaluate` judges by it")
        for label in labels
    ]
    guesses = (time_guess, *entity_guesses, step.guess, *timing, *said, *label_guesses, *out)
    return Draft(stream, guesses, len(frame), entities)


def _codes(frame: pl.DataFrame, parts: tuple[str, ...]) -> NDArray[np.int64]:
    if not parts:
        return np.zeros(len(frame), np.int64)
    return frame.select(pl.struct(parts).rank("dense").alias("code"))["code"].cast(pl.Int64).to_numpy()


def _in_order(
    times: pl.Series, codes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]:
    seconds = times.fill_null(np.nan).to_numpy()
    order = np.lexsort((seconds, codes))
    return order, np.diff(codes[order]) == 0, seconds


def _fields(
    frame: pl.DataFrame, columns: list[str], follows: NDArray[np.bool_], order: NDArray[np.int64]
) -> tuple[list[Field], list[Guess], list[Guess]]:
    fields: list[Field] = []
    said: list[Guess] = []
    out: list[Guess] = []
    for column in columns:
        field, guess = judge(frame[column], follows, order)
        if field is None:
            out.append(guess)
        else:
            fields.append(field)
            said.append(guess)
    return fields, said, out


def _definition(
    name: str, time: str, parts: tuple[str, ...], step: Step, fields: tuple[Field, ...], labels: list[str], rows: float
) -> tuple[StreamDefinition, list[Guess]]:
    """Return the definition, and the guesses about its timing; `rows` is the mean of an entity."""
    window = int(min(WINDOW, max(5, rows // 10)))
    least = int(max(2, round(0.8 * window * min(step.fill, 1.0)))) if step.step != "irregular" else max(2, window // 2)
    seconds = step.median if step.step == "irregular" else float(step.step)
    stream = StreamDefinition(
        name=name,
        topic=f"dwcp.telemetry.{name}",
        entity=parts,
        time=time,
        step=step.step,
        window=window,
        min_periods=least,
        fields=fields,
        lateness=_rounded(5 * seconds),
        expire_after=_rounded(max(300.0, 60 * seconds)),
        ahead_tolerance=_rounded(max(10.0, seconds)),
        drift_block=_rounded(max(60.0, 30 * seconds)),
        models=(ModelBinding(name=f"{name}-anomaly", task="anomaly", label=labels[0] if labels else None),),
        alert=AlertPolicy(min_duration=_rounded(seconds)),
    )
    short = f"an entity has only {rows:.0f} rows" if window < WINDOW else "usual; a model sees so much of the past"
    timing = [
        Guess("window", f"{window} rows", short),
        Guess(
            "min_periods", f"{least} rows", f"{step.fill:.0%} of the steps have a row; four fifths of that are needed"
        ),
    ]
    return stream, timing


def _rounded(seconds: float) -> float:
    return float(f"{max(seconds, 0.001):.3g}")
