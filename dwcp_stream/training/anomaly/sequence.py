"""Run a finished graph over a grid row by row, each entity's state going from one row to the next."""

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.scoring.batching import padded
from dwcp_stream.scoring.session import make_session
from dwcp_stream.training.anomaly.memory import Ints, Turns
from dwcp_stream.training.dataset import Grid


def run_sequence(model: bytes, grid: Grid, ends: Ints, state_size: int) -> NDArray[np.float64]:
    """Score the windows that end at `ends`, [N], in the order in which the daemon would see them."""
    session = make_session(model, where="training")
    turns = Turns.of(grid.entity[ends])
    scores = np.full(len(ends), np.nan)
    state = np.full((turns.order.shape[1], state_size), np.nan, np.float32)
    for rows in turns.order:
        on = np.flatnonzero(rows >= 0)
        window, time = grid.windows(ends[rows[on]])
        feed = padded({"window": window, "time": time, "state_in": state[on]})
        score, after = session.run(["score", "state_out"], feed)
        scores[rows[on]] = score[: len(on)]
        state[on] = after[: len(on)]
    return scores
