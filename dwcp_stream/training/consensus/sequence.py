"""Windows of whole runs: what the feature graph sees, each run's memory going from one row to the next."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.scoring.batching import padded, rounds
from dwcp_stream.scoring.session import make_session
from dwcp_stream.training.consensus import features
from dwcp_stream.training.consensus.data import Mask, Runs
from dwcp_stream.training.dataset import Grid, Ints

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Windows:
    """Windows of runs, [N] by file and time.

    Attributes
    ----------
    runs, ends
        Where they come from: window n ends at row `ends[n]`.
    features, channels, known
        As in `features.Seen`; the channels over the whole window.
    kind, event, quiet, usable, source, group
        Of the last row: kind and event of a fault or -1; whether it is quiet; whether it is either, so that it
        counts; its file; its entity in that file.
    """

    runs: Runs
    ends: Ints
    features: F32
    channels: F32
    known: F32
    kind: Ints
    event: Ints
    quiet: Mask
    usable: Mask
    source: Ints
    group: Ints


def see(runs: Runs) -> Windows:
    """Run the feature graph over all windows that the daemon would score."""
    grid, ends = runs.grid, runs.grid.ends()
    model = features.features_model(grid.stream.field_names, grid.stream.window, grid.stream.window)
    names = ("features", "channels", "known")
    found = run_in_turn(model, grid, ends, runs.data.group[ends], names, features.STATE_SIZE)
    usable = runs.data.scored[ends] & (runs.data.quiet[ends] | (runs.data.event[ends] >= 0))
    return Windows(
        runs,
        ends,
        features=found["features"],
        channels=found["channels"],
        known=found["known"],
        kind=np.where(usable, runs.kind[ends], -1),
        event=np.where(usable, runs.data.event[ends], -1),
        quiet=usable & runs.data.quiet[ends],
        usable=usable,
        source=grid.source[ends],
        group=runs.data.group[ends],
    )


def run_in_turn(
    model: bytes, grid: Grid, ends: Ints, group: Ints, names: Sequence[str], state_size: int
) -> dict[str, F32]:
    """Run a graph over the windows that end at `ends`, in the order in which the daemon would see them.

    Parameters
    ----------
    model
        Takes `window`, perhaps `time`, and `state_in`; gives `state_out`.
    grid, ends, group
        Rows, the last row of each window, and whose memory it has.
    names, state_size
        Outputs that are wanted, and numbers of the memory.
    """
    session = make_session(model, where="training")
    timed = any(given.name == "time" for given in session.get_inputs())
    codes = np.unique(group, return_inverse=True)[1]
    memory = np.full((int(codes.max(initial=-1)) + 1, state_size), np.nan, np.float32)
    found: dict[str, F32] = {}
    for rows in rounds(codes):
        window, time = grid.windows(ends[rows])
        feed = {"window": window, "state_in": memory[codes[rows]]} | ({"time": time} if timed else {})
        made = session.run([*names, "state_out"], dict(padded(feed)))
        memory[codes[rows]] = made[-1][: len(rows)]
        for name, values in zip(names, made[:-1], strict=True):
            found.setdefault(name, np.empty((len(ends), *values.shape[1:]), np.float32))[rows] = values[: len(rows)]
    return found
