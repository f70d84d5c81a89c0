"""Labelled runs of consensus clusters: events and their kinds, quiet time, hard negatives, rows to leave out.

Files may say it in two ways. In the column of the label a word is the kind of the fault, an empty cell none; or it
is 1 in a fault and 0 outside, and the kind stands in `fault_type`, as a word or as one of the letters of the
project's first recordings. Without either the kind is not known.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.errors import PayloadError
from dwcp_stream.streams.definition import StreamDefinition
from dwcp_stream.training.dataset import Floats, Grid, Ints, load_grid
from dwcp_stream.training.labels import Labelled, labelled

KINDS: Final = (
    *("leader_lost", "follower_lost", "quorum_lost", "slow_disk", "slow_network", "starved_cpu", "flapping"),
    "unknown",
)
UNKNOWN: Final = KINDS.index("unknown")
LETTERS: Final = {
    "a": "follower_lost",
    "b": "leader_lost",
    "c": "leader_lost",
    "d": "follower_lost",
    "f": "starved_cpu",
    "h": "slow_network",
    "i": "flapping",
}
"""Kinds of the project's first recordings."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Runs:
    """Runs with their labels.

    Attributes
    ----------
    data
        Grid, events and quiet time; rows marked `disturbed` are neither scored nor quiet.
    kind
        [R] position in `KINDS` of the fault that is on, -1 for none.
    negative
        [R] word of the hard negative that is on, or "".
    names
        Per file, its name without endings.
    """

    data: Labelled
    kind: Ints
    negative: NDArray[Any]
    names: tuple[str, ...]

    @property
    def grid(self) -> Grid:
        """Rows of all files."""
        return self.data.grid


def read_runs(
    stream: StreamDefinition, files: Sequence[Path], *, label: str = "label", entity: str | None = None
) -> Runs:
    """Read labelled files; each may have other columns beside the stream's fields.

    Raises
    ------
    PayloadError
        As `load_grid`; or if a file has no column of the label.
    """
    extra = (label, "fault_type", "negative", "note", "x_recovery", "disturbed")
    grids = [load_grid(stream, [path], extra=extra, entity=entity) for path in files]
    kinds = [_kinds(grid, label, path) for grid, path in zip(grids, files, strict=True)]
    grid = joined(
        [
            replace(
                grid,
                columns={
                    "label": (kind >= 0).astype(np.float64),
                    "x_recovery": _numbers(grid, "x_recovery"),
                    "disturbed": _numbers(grid, "disturbed"),
                },
            )
            for grid, kind in zip(grids, kinds, strict=True)
        ]
    )
    data = labelled(grid, "label")
    usable = ~(grid.columns["disturbed"] > 0)
    negative = [_words(grid, "negative" if "negative" in grid.columns else "note") for grid in grids]
    return Runs(
        data=replace(data, scored=data.scored & usable, quiet=data.quiet & usable),
        kind=np.concatenate(kinds),
        negative=np.concatenate(negative),
        names=tuple(path.name.split(".")[0] for path in files),
    )


def joined(grids: Sequence[Grid]) -> Grid:
    """Put grids of one file each behind one another."""
    entities = tuple(dict.fromkeys(name for grid in grids for name in grid.entities))
    position = {name: i for i, name in enumerate(entities)}
    return Grid(
        stream=grids[0].stream,
        values=np.concatenate([g.values for g in grids]),
        ts=np.concatenate([g.ts for g in grids]),
        entity=np.concatenate([np.array([position[n] for n in g.entities])[g.entity] for g in grids]),
        entities=entities,
        filled=np.concatenate([g.filled for g in grids]),
        source=np.concatenate([np.full(len(g.ts), i, np.int64) for i, g in enumerate(grids)]),
        columns={name: np.concatenate([g.columns[name] for g in grids]) for name in grids[0].columns},
    )


def _kinds(grid: Grid, label: str, path: Path) -> Ints:
    if label not in grid.columns:
        raise PayloadError(
            f"no column {label!r}", where=str(path), remedy="Label the rows: a kind of fault or 1, else nothing or 0"
        )
    marks = grid.columns[label]
    if marks.dtype != object:
        words = np.where(np.nan_to_num(marks) > 0, _words(grid, "fault_type"), "")
        on = np.nan_to_num(marks) > 0
    else:
        words = marks
        on = np.array([str(word).strip().lower() not in {"", "0", "normal", "none"} for word in words], bool)
    numbers = {word: i for i, word in enumerate(KINDS)} | {k: KINDS.index(word) for k, word in LETTERS.items()}
    return np.array([numbers.get(str(w), UNKNOWN) if o else -1 for w, o in zip(words, on, strict=True)], np.int64)


def _words(grid: Grid, name: str) -> NDArray[Any]:
    column = grid.columns.get(name)
    return column if column is not None and column.dtype == object else np.full(len(grid.ts), "", dtype=object)


def _numbers(grid: Grid, name: str) -> Floats:
    column = grid.columns.get(name)
    if column is None or column.dtype == object:
        return np.zeros(len(grid.ts))
    return np.asarray(np.nan_to_num(column), np.float64)
