"""Scoring a grid's rows with a model that remembers: each entity's windows one after the other, as they came."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.scoring import rounds
from dwcp_stream.scoring.model import Model
from dwcp_stream.training.dataset import Grid, Ints

PROGRESS_EVERY = 256  # rounds


def scores_in_turn(model: Model, grid: Grid, ends: Ints, progress: Callable[[float], None]) -> NDArray[np.float32]:
    """Return the scores [N] of windows that end at the rows `ends`, by file, entity and time.

    As in the daemon an entity that was silent for `expire_after` is new again; so is one in another file.
    """
    group = grid.source[ends] * (len(grid.entities) + 1) + grid.entity[ends]
    new = np.concatenate([[True], (np.diff(group) != 0) | (np.diff(grid.ts[ends]) > grid.stream.expire_after)])
    life = np.cumsum(new) - 1
    memory = np.full((int(life.max(initial=-1)) + 1, model.state_size), np.nan, np.float32)
    scores = np.empty(len(ends), np.float32)
    parts = rounds(life)
    for i, chosen in enumerate(parts):
        verdicts = model.score(*grid.windows(ends[chosen]), memory[life[chosen]])
        scores[chosen] = verdicts.score
        if verdicts.state_out is not None:
            memory[life[chosen]] = verdicts.state_out
        if i % PROGRESS_EVERY == 0:
            progress((i + 1) / len(parts))
    return scores
