"""Verdicts on the windows of a grid, as the daemon would give them one after the other."""

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from dwcp_stream.scoring import Model, Verdicts, rounds
from dwcp_stream.training.dataset import Grid, Ints

BATCH: Final = 1024
Progress = Callable[[float], None]


def verdicts_in_turn(model: Model, grid: Grid, ends: Ints, progress: Progress) -> Iterator[tuple[Ints, Verdicts]]:
    """Yield positions in `ends` and the verdicts on the windows that end at these rows.

    What a model remembers of an entity goes from each of its windows to the next. As in the daemon an entity that was
    silent for `expire_after` is new again; so is one in another file.

    Parameters
    ----------
    model
        Bound to the grid's stream.
    grid, ends
        Rows, in the grid's order: by file, entity and time.
    progress
        Called with the share done.
    """
    if not model.state_size:
        for begin in range(0, len(ends), BATCH):
            rows = np.arange(begin, min(begin + BATCH, len(ends)))
            yield rows, model.score(*grid.windows(ends[rows]))
            progress((int(rows[-1]) + 1) / len(ends))
        return
    group = grid.source[ends] * (len(grid.entities) + 1) + grid.entity[ends]
    new = np.concatenate([[True], (np.diff(group) != 0) | (np.diff(grid.ts[ends]) > grid.stream.expire_after)])
    life = np.cumsum(new)[: len(ends)] - 1
    memory = np.full((int(life.max(initial=-1)) + 1, model.state_size), np.nan, np.float32)
    parts = rounds(life)
    for number, rows in enumerate(parts):
        verdicts = model.score(*grid.windows(ends[rows]), memory[life[rows]])
        if verdicts.state_out is not None:
            memory[life[rows]] = verdicts.state_out
        yield rows, verdicts
        progress((number + 1) / len(parts))
