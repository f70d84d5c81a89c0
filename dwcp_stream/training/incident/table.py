"""Features of the rows to learn from, at most as many as fit into memory."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.incident.boosting import Rows
from dwcp_stream.training.incident.data import Folds, IncidentData
from dwcp_stream.training.incident.design import Design
from dwcp_stream.training.incident.features import Column
from dwcp_stream.training.incident.sessions import FeatureSession, StateSession

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

MOST_NUMBERS: Final = 60_000_000  # features times rows that training holds at once: 240 MB


@dataclass(frozen=True)
class Table:
    """Rows to learn from: positions in the data [K], part of each, and their features."""

    at: Ints
    fold: Ints
    rows: Rows
    columns: list[Column]

    def select(self, mask: Bools) -> "Table":
        """Rows where `mask` holds."""
        return Table(self.at[mask], self.fold[mask], self.rows.select(mask), self.columns)


def build_table(data: IncidentData, folds: Folds, design: Design, seed: int) -> Table:
    """Compute the features of all incident rows and as many normal ones as there is room for."""
    features = FeatureSession(design)
    room = max(MOST_NUMBERS // len(features.columns), 1)
    incident, normal = np.flatnonzero(data.incident), np.flatnonzero(data.normal)
    rng = np.random.default_rng(seed)
    taken = [
        rng.choice(rows, most, replace=False) if len(rows) > most else rows
        for rows, most in ((incident, room // 2), (normal, room - min(len(incident), room // 2)))
    ]
    at = np.sort(np.concatenate(taken))
    states = StateSession(design).states(data.grid, data.ends, data.begins, at)
    label = data.incident[at]
    shares = [len(rows) / max(len(some), 1) for rows, some in zip((incident, normal), taken, strict=True)]
    share = np.where(label, *shares).astype(np.float32)
    return Table(at, folds.number[at], Rows(features(data.grid, data.ends[at], states), label, share), features.columns)
