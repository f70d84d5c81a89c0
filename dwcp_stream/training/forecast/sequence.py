"""Run a graph with state over histories, entity by entity side by side, in the order in which the daemon would."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.scoring.batching import padded
from dwcp_stream.scoring.session import make_session
from dwcp_stream.training.dataset import Grid, Ints

Progress = Callable[[float], None]


def in_order(grid: Grid, ends: Ints, stride: int = 1) -> Ints:
    """Sort rows by entity and time; of each segment, a history without a long gap, keep every `stride`-th grid row."""
    if stride > 1:
        number = np.arange(len(grid.filled))
        counts = np.r_[0, np.cumsum(grid.filled)]
        recent = counts[number] - counts[np.maximum(number - (grid.stream.window - 1), 0)]
        begin = np.maximum.accumulate(np.where(grid.filled & (recent == 0), number, 0))
        ends = ends[(ends - begin[ends]) % stride == 0]
    chosen: Ints = ends[np.lexsort((grid.ts[ends], grid.entity[ends]))]
    return chosen


def run_sequence(
    model: bytes,
    grid: Grid,
    rows: Ints,
    columns: Sequence[int],
    *,
    window: int,
    state: int,
    names: Sequence[str],
    keep: NDArray[np.bool_] | None = None,
    restart: int | None = None,
    progress: Progress = lambda _share: None,
) -> dict[str, NDArray[Any]]:
    """Run a graph over whole histories, its `state_out` fed back.

    Parameters
    ----------
    model
        Serialised graph with the inputs `window`, `time`, `state_in`.
    grid, rows
        From `in_order`: the rows that windows end at, N of them.
    columns
        Columns of the grid that the graph reads.
    window, state
        Rows of the graph's window, numbers of its state.
    names
        Outputs wanted.
    keep
        [N], of which rows; None: all.
    restart
        Forget everything every so many windows, as if the entity were new.
    progress
        Called with the share done.

    Returns
    -------
    dict
        Output name -> [N kept, ...] in the order of `rows`.
    """
    session = make_session(model, where="training")
    kept = np.ones(len(rows), bool) if keep is None else keep
    place = np.cumsum(kept) - 1
    shapes = {output.name: output.shape[1:] for output in session.get_outputs()}
    found = {name: np.empty((int(kept.sum()), *shapes[name]), np.float32) for name in names}
    entity = grid.entity[rows]
    begins = np.flatnonzero(np.r_[True, entity[1:] != entity[:-1]]) if len(rows) else np.zeros(0, np.int64)
    counts = np.diff(np.r_[begins, len(rows)])
    longest = np.argsort(-counts, kind="stable")
    begins, counts = begins[longest], counts[longest]
    memory = np.full((len(begins), state), np.nan, np.float32)
    back = np.arange(1 - window, 1)
    values = np.ascontiguousarray(grid.values[:, list(columns)])
    wanted = [*names, "state_out"]
    for step in range(int(counts.max(initial=0))):
        if restart is not None and step % restart == 0:
            memory[:] = np.nan
        live = int(np.searchsorted(-counts, -step, side="left"))
        at = begins[:live] + step
        index = rows[at][:, None] + back
        feed = padded({"window": values[index], "time": grid.ts[index], "state_in": memory[:live]})
        *made, after = session.run(wanted, dict(feed))
        memory[:live] = after[:live]
        chosen = kept[at]
        if chosen.any():
            for name, array in zip(names, made, strict=True):
                found[name][place[at[chosen]]] = array[:live][chosen]
        if step % 256 == 0:
            progress(step / counts[0])
    return found
