"""What the labels of a grid mean: events, quiet time, and rows that count neither way."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.errors import PayloadError
from dwcp_stream.training.dataset import Floats, Grid, Ints
from dwcp_stream.training.metrics import Detection, detection, number_events

Mask = NDArray[np.bool_]

LEFT_OUT: Final = ("x_recovery", "disturbed")
"""Columns that are 1 in rows which are not quiet, whatever their label: after a fault, and beside other work."""


@dataclass(frozen=True)
class Labelled:
    """A grid with what its labels mean: scored and quiet rows, events, one group per file and entity."""

    grid: Grid
    scored: Mask
    quiet: Mask
    event: Ints
    group: Ints

    @property
    def step(self) -> float:
        """Seconds that a row stands for; of an irregular stream the median time between an entity's rows."""
        if not isinstance(self.grid.stream.step, str):
            return float(self.grid.stream.step)
        rows = np.flatnonzero(self.grid.filled)
        apart = np.diff(self.grid.ts[rows])[np.diff(self.group[rows]) == 0]
        return float(np.median(apart)) if len(apart) else 1.0

    def judge(self, scores: Floats, rows: Mask) -> Detection:
        """Judge scores [R] on the rows marked."""
        on = rows & self.scored
        return detection(
            scores[on],
            self.grid.ts[on],
            self.event[on],
            self.quiet[on],
            starts=self.starts(),
            group=self.group[on],
            step=self.step,
        )

    def starts(self) -> Floats:
        """Beginning of each event: a step before its first row, because a row tells of the step before it."""
        numbers, first = np.unique(self.event, return_index=True)
        begin = np.zeros(max(int(numbers.max(initial=-1)) + 1, 0))
        begin[numbers[numbers >= 0]] = self.grid.ts[first[numbers >= 0]] - self.step
        return begin


def labelled(grid: Grid, label: str) -> Labelled:
    """Read the labels of a grid; rows marked `x_recovery` or `disturbed`, and rows without a label, are not quiet.

    Where no row is 0, a row without a label is quiet. Neighbouring rows of different words are one event.
    """
    if label not in grid.columns:
        raise PayloadError(f"no column {label!r}", remedy="Label the rows: 1 in a fault, else 0")
    group = grid.source * (len(grid.entities) + 1) + grid.entity
    marks = grid.columns[label]
    on = abnormal(marks)
    none = np.zeros(len(marks))
    neither = np.any([np.nan_to_num(grid.columns.get(name, none)) > 0 for name in LEFT_OUT], axis=0)
    scored = np.zeros(len(marks), bool)
    scored[grid.ends()] = True
    quiet = grid.filled & ~on & ~neither
    if marks.dtype.kind == "f" and (marks == 0).any():
        quiet &= np.isfinite(marks)
    return Labelled(grid, scored, quiet, number_events(on.astype(np.float64), group), group)


def abnormal(marks: NDArray[Any]) -> Mask:
    """Read a label column [N]: a number over 0, or a word other than none, 0, false and normal."""
    if marks.dtype.kind == "f":
        return np.asarray(np.nan_to_num(marks) > 0)
    return np.array([str(mark).strip().lower() not in {"", "0", "normal", "none", "false"} for mark in marks], bool)
