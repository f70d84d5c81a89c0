"""Made-up trouble in the hold-out: a detector that has gone deaf raises no alarm too many, and misses this.

Judged alerts are few, so that most hold-outs have none. Shifts of known places stand in for them, as in M. Goswami et
al., "Unsupervised Model Selection for Time-series Anomaly Detection", ICLR 2023; they are so large that any detector
worth the name finds most of them.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dwcp_stream.history.episodes import numbered_entities
from dwcp_stream.history.trial_run import TrialRun
from dwcp_stream.streams import Field, StreamDefinition

SPREADS: Final = 8.0
"""Size of a shift in standard deviations of the field, of the entity's own quiet time."""
MOST_ROWS: Final = 50_000
"""Rows that trouble is put into: those of the first entities, until there are so many."""
LONGEST: Final = 3, 5
"""A piece of trouble lasts at least so many rows, and a window divided by so much."""


@dataclass(frozen=True)
class MadeUp:
    """Pieces of trouble that were put into rows of the hold-out.

    Attributes
    ----------
    table
        The rows with the trouble in them.
    places
        entity, ts and the number of the piece, a row for each row of trouble.
    pieces
        How many there are.
    """

    table: pl.DataFrame
    places: pl.DataFrame
    pieces: int

    def found(self, run: TrialRun) -> int:
        """Return in how many pieces a model's score is over the threshold, in a run over the table."""
        over = run.verdicts.filter(pl.col("score") >= 1.0)
        return over.join(self.places, on=["entity", "ts"])["piece"].n_unique()


def make_up(stream: StreamDefinition, holdout: pl.DataFrame, label: str, seed: int = 0) -> MadeUp:
    """Put trouble into quiet stretches of the hold-out: now and then some of the measured fields are shifted.

    Counters, words and constants are left alone, and no value leaves the field's valid range: the sample would be
    invalid.

    Parameters
    ----------
    holdout
        In order of time, with a label; only rows whose label is 0 are changed.
    """
    gauges = [field for field in stream.fields if field.kind == "gauge" and not field.coded]
    gauges = [field for field in gauges if field.name in holdout.columns]
    names, codes = numbered_entities(stream, holdout)
    sizes = np.bincount(codes, minlength=len(names))
    chosen = np.flatnonzero(np.cumsum(sizes) - sizes < MOST_ROWS)
    keep = np.isin(codes, chosen)
    table, codes = holdout.filter(pl.Series(keep)), codes[keep]
    values = {field.name: _numbers(table[field.name]) for field in gauges}
    quiet = (table[label] == 0.0).fill_null(value=False).to_numpy()
    rng = np.random.default_rng(seed)
    piece = np.full(len(table), -1, np.int64)
    number = 0
    for code in chosen if gauges else ():
        own = np.flatnonzero(codes == code)
        for rows in _places(stream, len(own)):
            at = own[rows]
            if quiet[at].all():
                for field in rng.choice(len(gauges), 1 + rng.integers(0, max(len(gauges) // 3, 1)), replace=False):
                    _shift(values[gauges[field].name], at, own[quiet[own]], gauges[field])
                piece[at] = number
                number += 1
    where = pl.DataFrame(
        {"entity": [names[code] for code in codes.tolist()], "ts": table[stream.time], "piece": piece},
        schema={"entity": pl.String, "ts": pl.Float64, "piece": pl.Int64},
    )
    shifted = [pl.Series(name, column, pl.Float64, nan_to_null=True) for name, column in values.items()]
    return MadeUp(table.with_columns(shifted), where.filter(pl.col("piece") >= 0), number)


def _places(stream: StreamDefinition, rows: int) -> list[NDArray[np.int64]]:
    """Rows of an entity that has so many: a piece every one and a half windows, after the first two."""
    length = max(LONGEST[0], stream.window // LONGEST[1])
    begins = range(min(2 * stream.window, rows // 2), rows - length + 1, 3 * stream.window // 2 + length)
    return [np.arange(begin, begin + length) for begin in begins]


def _shift(values: NDArray[np.float64], at: NDArray[np.int64], quiet: NDArray[np.int64], field: Field) -> None:
    known = values[quiet][np.isfinite(values[quiet])]
    if not len(known):
        return
    middle, spread = float(np.median(known)), float(known.std())
    size = SPREADS * (spread or abs(middle) or 1.0)
    low, high = (-np.inf if field.min is None else field.min), (np.inf if field.max is None else field.max)
    up = high - middle >= min(size, middle - low)
    values[at] = np.clip(values[at] + (size if up else -size), low, high)


def _numbers(column: pl.Series) -> NDArray[Any]:
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy().copy()
