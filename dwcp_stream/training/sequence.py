"""Run a graph with a state over the rows of a grid, entities side by side, each state going from row to row.

That is the order in which the daemon would see them. As no output depends on the batch, neither does it on the
entities that happen to run together.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.scoring.batching import padded
from dwcp_stream.scoring.session import make_session
from dwcp_stream.training.dataset import Grid, Ints

Progress = Callable[[float], None]
BEFORE = "state_in"
"""Name to ask for to get the state before each row."""


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
    names: Sequence[str],
    *,
    state: int,
    columns: Sequence[int] | None = None,
    window: int | None = None,
    life: Ints | None = None,
    keep: NDArray[np.bool_] | None = None,
    restart: int | None = None,
    progress: Progress = lambda _share: None,
) -> dict[str, NDArray[Any]]:
    """Run a graph over whole histories, its `state_out` fed back.

    Parameters
    ----------
    model
        Serialised graph with the inputs `window` and `state_in`, perhaps `time`, and the output `state_out`.
    grid, rows
        The rows that windows end at, N of them, those of a life in order of time.
    names
        Outputs wanted; `state_in` is the state before the row, NaN at the first of a life.
    state
        Numbers of the graph's state.
    columns, window
        Columns of the grid that the graph reads, and rows of its window; None: all, and the stream's.
    life
        [N] number of the life that each row belongs to: nothing is remembered from one to another. None: the entity.
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
    taken = {each.name for each in session.get_inputs()}
    shapes = {output.name: output.shape[1:] for output in session.get_outputs()} | {BEFORE: [state]}
    kept = np.ones(len(rows), bool) if keep is None else keep
    place = np.cumsum(kept) - 1
    found = {name: np.empty((int(kept.sum()), *shapes[name]), np.float32) for name in names}
    order, begins, counts = _longest_first(grid.entity[rows] if life is None else life)
    memory = np.full((len(begins), state), np.nan, np.float32)
    back = np.arange(1 - (grid.stream.window if window is None else window), 1)
    values = grid.values if columns is None else np.ascontiguousarray(grid.values[:, list(columns)])
    wanted = [name for name in names if name != BEFORE]
    for step in range(int(counts.max(initial=0))):
        if restart is not None and step % restart == 0:
            memory[:] = np.nan
        live = int(np.searchsorted(-counts, -step, side="left"))
        at = order[begins[:live] + step]
        index = rows[at][:, None] + back
        feed = {"window": values[index], "time": grid.ts[index], BEFORE: memory[:live].copy()}
        *made, after = session.run([*wanted, "state_out"], padded({n: a for n, a in feed.items() if n in taken}))
        chosen = kept[at]
        if chosen.any():
            outputs = dict(zip(wanted, made, strict=True)) | {BEFORE: feed[BEFORE]}
            for name in names:
                found[name][place[at[chosen]]] = outputs[name][:live][chosen]
        memory[:live] = after[:live]
        if step % 256 == 0:
            progress(step / counts[0])
    return found


def _longest_first(life: Ints) -> tuple[Ints, Ints, Ints]:
    """Order rows by life, and begin and length of each life in that order, the longest first.

    Lives that are still going on at any step are then a prefix.
    """
    order = np.argsort(life, kind="stable")
    sorted_ = life[order]
    begins = np.flatnonzero(np.r_[True, sorted_[1:] != sorted_[:-1]]) if len(life) else np.zeros(0, np.int64)
    counts = np.diff(np.r_[begins, len(life)])
    longest = np.argsort(-counts, kind="stable")
    return order, begins[longest], counts[longest]
