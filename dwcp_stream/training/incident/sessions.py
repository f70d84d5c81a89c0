"""The feature part of the graph in ONNX Runtime: training reads the numbers that serving will compute."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.scoring.batching import padded
from dwcp_stream.scoring.session import make_session
from dwcp_stream.training.dataset import Grid
from dwcp_stream.training.graph import Graph, to_bytes
from dwcp_stream.training.incident.design import Design
from dwcp_stream.training.incident.features import add_features, newest_words
from dwcp_stream.training.incident.normal import add_normal, add_scaled
from dwcp_stream.training.sequence import BEFORE, run_sequence

F32 = NDArray[np.float32]
Ints = NDArray[np.int64]
BATCH = 256


class StateSession:
    """Carries the entities' normal over the rows of a grid, as the daemon will."""

    def __init__(self, design: Design) -> None:
        g = Graph("incident-normal")
        window = g.input("window", np.float32, ["batch", design.window, len(design.fields)])
        state = g.input("state_in", np.float32, ["batch", design.state_size])
        normal = add_normal(g, add_scaled(g, window, design), state, design)
        g.output(normal.state, "state_out", np.float32, ["batch", design.state_size])
        self._design, self._model = design, to_bytes(g.model())

    def states(self, grid: Grid, ends: Ints, begins: NDArray[np.bool_], kept: Ints) -> F32:
        """Return the state before each of the rows `kept`.

        Parameters
        ----------
        grid
            With the rows.
        ends
            [N] scored rows, by entity, then time.
        begins
            [N] whether an entity is new at the row.
        kept
            [K] positions in `ends`, ascending.

        Returns
        -------
        ndarray of shape (K, S)
            NaN where the entity is new.
        """
        keep = np.zeros(len(ends), bool)
        keep[kept] = True
        found = run_sequence(
            self._model, grid, ends, [BEFORE], state=self._design.state_size,
            columns=self._design.columns(grid.stream), life=np.cumsum(begins), keep=keep,
        )  # fmt: skip
        return found[BEFORE]


class FeatureSession:
    """Features of windows and states."""

    def __init__(self, design: Design) -> None:
        g = Graph("incident-features")
        window = g.input("window", np.float32, ["batch", design.window, len(design.fields)])
        state = g.input("state_in", np.float32, ["batch", design.state_size])
        scaled = add_scaled(g, window, design)
        normal = add_normal(g, scaled, state, design)
        value, self.columns = add_features(g, scaled, normal, newest_words(g, window, design), design)
        g.output(value, "features", np.float32, ["batch", len(self.columns)])
        self._design, self._session = design, make_session(to_bytes(g.model()), where="training")

    def __call__(self, grid: Grid, ends: Ints, states: F32) -> F32:
        """Compute the features [N, C] of the windows that end at the rows `ends`."""
        columns = self._design.columns(grid.stream)
        out = np.empty((len(ends), len(self.columns)), np.float32)
        for begin in range(0, len(ends), BATCH):
            part = slice(begin, begin + BATCH)
            windows, _ = grid.windows(ends[part], columns)
            feed: dict[str, Any] = {"window": np.ascontiguousarray(windows), "state_in": states[part]}
            out[part] = self._session.run(None, padded(feed))[0][: len(windows)]
        return out
