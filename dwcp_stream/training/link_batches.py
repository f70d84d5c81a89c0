"""Batches for the link forecaster: features from the graph that serves, actual values from the grid."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.scoring.session import make_session
from dwcp_stream.training import link_features as features
from dwcp_stream.training.dataset import Grid, Ints

NAMES: Final = ("sequence", "context", "bases", "actual", "present", "spread", "level")


class Maker:
    """Makes batches, and runs finished graphs on the same windows.

    Parameters
    ----------
    grid, shape
        All rows, and the columns used.
    train
        Rows that windows of training end at; they set the unit of the loss.
    """

    def __init__(self, grid: Grid, shape: features.Layout, train: Ints) -> None:
        self.grid, self.shape, self.horizons = grid, shape, shape.horizons
        names = grid.stream.field_names
        self.columns = [names.index(name) for name in shape.fields]
        self.logs = features.to_log(grid.values[:, self.columns[: len(shape.targets)]], shape.targets)
        self._session = make_session(features.features_model(shape), where="training")
        steps = np.abs(self.actual(train) - self.logs[train][:, None])
        # one unit per horizon and target, so that all count alike: the mean change until then
        self.unit = np.maximum(np.nanmean(steps, axis=0), 1e-3).astype(np.float32)

    def actual(self, rows: Ints) -> NDArray[np.float32]:
        """Look up the logs [B, H, Y] at the horizons after each row; NaN if unknown or of another link."""
        later = np.minimum(rows[:, None] + np.asarray(self.horizons), len(self.logs) - 1)
        same = self.grid.entity[later] == self.grid.entity[rows][:, None]
        return np.where(same[..., None], self.logs[later], np.float32(np.nan))

    def __call__(self, rows: Ints) -> dict[str, Any]:
        """Make the batch of the windows that end at `rows`."""
        windows, times = self.grid.windows(rows, self.columns)
        made = self._session.run(list(NAMES), {"window": windows, "time": times})
        return {
            **dict(zip(NAMES, made, strict=True)),
            "later": self.actual(rows),
            "unit": self.unit,
        }

    def run(self, model: bytes, rows: Ints, output: str) -> NDArray[np.float32]:
        """Run a graph on the windows that end at `rows` and return one of its outputs."""
        session = make_session(model, where="training")
        parts = []
        for i in range(0, max(len(rows), 1), 512):  # without rows: one empty run gives the output's shape
            windows, times = self.grid.windows(rows[i : i + 512], self.columns)
            parts.append(session.run([output], {"window": windows, "time": times})[0])
        return np.concatenate(parts)
