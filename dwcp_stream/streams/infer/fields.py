"""What each measured column is: kind, unit, range, vocabulary; or why it is left out."""

import re
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dwcp_stream.streams.checks import COLUMN
from dwcp_stream.streams.definition import Field
from dwcp_stream.streams.infer.entities import TELLING
from dwcp_stream.streams.infer.guess import Guess

LABELS: Final = re.compile(
    r"(is_?)?(label|labels|anomaly|anomalous|anomalies|attack|fault|faulty|outlier|ground_?truth|incident)"
)
STATES: Final = re.compile(r"(^|_)(state|status|mode|phase|level|code|role|type|tier)$")
LEVELS: Final = re.compile(
    r"(^|_)(used|size|free|usage|available|current|depth|length|temperature|temp|capacity|limit|max|min)(_|$)"
)
UNITS: Final = (
    (re.compile(r"_(ms|millis|milliseconds)$"), "ms"),
    (re.compile(r"_(us|micros|microseconds)$"), "us"),
    (re.compile(r"_(ns|nanos|nanoseconds)$"), "ns"),
    (re.compile(r"_(s|sec|secs|seconds)$"), "s"),
    (re.compile(r"_(bytes|by)$"), "By"),
    (re.compile(r"_(kb|kib)$"), "kB"),
    (re.compile(r"_(mb|mib)$"), "MB"),
    (re.compile(r"_(gb|gib)$"), "GB"),
    (re.compile(r"_mbps$"), "Mbit/s"),
    (re.compile(r"_bps$"), "bit/s"),
    (re.compile(r"_(percent|pct|percentage)$"), "%"),
    (re.compile(r"_(ratio|fraction)$"), "ratio"),
    (re.compile(r"_(celsius|degc)$"), "Cel"),
    (re.compile(r"_(hz|hertz)$"), "Hz"),
    (re.compile(r"_(watts)$"), "W"),
    (re.compile(r"_(volts)$"), "V"),
)  # fmt: skip
WORDS: Final = 40  # most words of a vocabulary that is guessed
STATE_WORDS: Final = 12  # most numbers of a state
NUMERIC: Final = 0.9  # share of cells that must be numbers where some are not
RESETS: Final = 0.02  # share of steps at which a counter may fall
MOVES: Final = 0.05  # share of steps at which it must grow
NULLS: Final = ("", "na", "n/a", "nan", "null", "none", "-")

Judged = tuple[Field | None, Guess]


def is_label(column: pl.Series) -> bool:
    """Return whether a column says of rows whether they are abnormal: by its name, and two values or a few words."""
    if not LABELS.fullmatch(column.name.lower()):
        return False
    if column.dtype.is_numeric():
        return bool(column.drop_nulls().is_in([0, 1]).all())
    return column.dtype == pl.Boolean or (column.dtype == pl.String and column.n_unique() <= WORDS)


def judge(column: pl.Series, follows: NDArray[np.bool_], order: NDArray[np.int64]) -> Judged:
    """Decide what a column is.

    Parameters
    ----------
    column
        Cells in the file's order.
    follows
        [rows - 1]: whether row i + 1, in the order `order`, is of the same entity as row i.
    order
        [rows]: rows by entity and time.

    Returns
    -------
    Field or None
        None if it is left out.
    Guess
        What was decided, and why.
    """
    name = column.name
    if column.null_count() == len(column):
        return _out(name, "it is empty")
    if not COLUMN.fullmatch(name):
        near = re.sub(r"\W+", "_", name.strip()).strip("_").lower()
        return _out(name, f"a field's name has only letters, digits and _: rename it, to {near or 'a word'} perhaps")
    if column.dtype == pl.Boolean:
        return _boolean(name, "true or false")
    if column.dtype == pl.String:
        return _text(column, follows, order)
    if not column.dtype.is_numeric():
        return _out(name, f"it holds {column.dtype}, neither numbers nor words")
    return _number(column.cast(pl.Float64), follows, order, whole=column.dtype.is_integer())


def unit_of(name: str) -> str:
    """Return the unit that a name's ending tells, `1` if it tells none; `_total` is passed over."""
    bare = name.lower().removesuffix("_total")
    return next((unit for ending, unit in UNITS if ending.search(bare)), "1")


def _out(name: str, why: str) -> Judged:
    return None, Guess(name, "left out", why)


def _boolean(name: str, why: str) -> Judged:
    field = Field(name=name, kind="categorical", vocabulary=("false", "true"), aliases={"0": "false", "1": "true"})
    return field, Guess(name, "boolean", why)


def _text(column: pl.Series, follows: NDArray[np.bool_], order: NDArray[np.int64]) -> Judged:
    cells = column.str.strip_chars()
    given = cells.filter(cells.is_not_null() & ~cells.str.to_lowercase().is_in(NULLS))
    if given.is_empty():
        return _out(column.name, "it has no values")
    numbers = given.cast(pl.Float64, strict=False)
    if numbers.null_count() <= (1 - NUMERIC) * len(numbers):
        field, guess = _number(cells.cast(pl.Float64, strict=False), follows, order, whole=False)
        odd = numbers.null_count()
        return field, Guess(guess.about, guess.what, f"{guess.why}; {odd} cells are no numbers, such rows are invalid")
    words = sorted({word.lower() for word in given})
    if set(words) <= {"true", "false"}:
        return _boolean(column.name, "true or false")
    if len(words) > WORDS or len(words) > max(2, len(given) // 3):
        return _out(column.name, f"{len(words)} different texts in {len(given)} rows are no vocabulary")
    if len(words) == 1:
        return _out(column.name, f"always {words[0][:40]!r}; give it a vocabulary if other words may come")
    if len(given) < len(column.drop_nulls()):
        words = [word for word in words if word not in NULLS]
    field = Field(name=column.name, kind="categorical", vocabulary=tuple(words))
    return field, Guess(column.name, "categorical", f"{len(words)} words: {', '.join(words[:4])}{_more(len(words), 4)}")


def _number(column: pl.Series, follows: NDArray[np.bool_], order: NDArray[np.int64], *, whole: bool) -> Judged:
    name = column.name
    values = column.to_numpy()[order]
    finite = values[np.isfinite(values)]
    if not len(finite):
        return _out(name, "it has no finite values")
    different = np.unique(finite)
    plain = name.lower()
    if whole and TELLING.search(plain):
        return _out(name, f"an id, by its name, that does not tell entities apart (different values: {len(different)})")
    if whole and STATES.search(plain) and 2 <= len(different) <= STATE_WORDS and different[0] >= 0:
        field = Field(name=name, kind="categorical", vocabulary=tuple(str(int(value)) for value in different))
        return field, Guess(name, "state", f"its name, and {len(different)} whole numbers; add others at the end")
    low = 0.0 if finite.min() >= 0 else None
    unit = unit_of(name)
    if low is not None and (said := _counts(values, follows, name)):
        field = Field(name=name, kind="counter", unit=unit, min=low)
        return field, Guess(name, "counter", said)
    # a limit that is in the nature of the unit, never one that this file happened not to pass
    high = 1.0 if unit == "ratio" and low is not None and finite.max() <= 1 else None
    why = [f"{finite.min():.4g} to {finite.max():.4g}"]
    if len(different) == 1:
        why = [f"always {different[0]:.4g}: nothing can be learnt from it, but a change would show"]
    if missing := float(1 - len(finite) / len(values)):
        why.append(f"{missing:.1%} missing")
    why += [] if low is None else ["never negative"]
    why += [] if unit == "1" else [f"unit by its name: {unit}"]
    return Field(name=name, unit=unit, min=low, max=high), Guess(name, "gauge", "; ".join(why))


def _counts(values: NDArray[np.float64], follows: NDArray[np.bool_], name: str) -> str:
    """Return what speaks for a running total, empty if it is none: it grows, and where it falls it begins anew."""
    plain = name.lower()
    if LEVELS.search(plain) and not plain.endswith("_total"):
        return ""
    before, after = values[:-1][follows], values[1:][follows]
    both = np.isfinite(before) & np.isfinite(after)
    before, after = before[both], after[both]
    if len(after) < 4:
        return ""
    falls = after < before
    grows = float((after > before).mean())
    anew = bool((after[falls] <= 0.5 * before[falls]).all())
    if not anew or falls.mean() > RESETS or grows < MOVES or len(np.unique(after)) < 4:
        return ""
    resets = f", {int(falls.sum())} times anew from below" if falls.any() else ", never falls"
    return f"grows at {grows:.0%} of the rows{resets}: becomes a rate per second"


def _more(count: int, shown: int) -> str:
    return ", ..." if count > shown else ""
