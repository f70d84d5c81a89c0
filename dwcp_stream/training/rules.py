"""The trivial rules that detectors must be read beside; each gives a score with 1 at its threshold.

They see the same rows as the model and no label. For consensus: the ratio of two latency percentiles (perfect
on the reference's synthetic rows), a robust z against the last two minutes, and a look at the members. For
nodes: two fixed limits. For any other stream: distance from a moving mean.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.anomaly.baselines import ewma_z
from dwcp_stream.training.dataset import Grid

Floats = NDArray[np.floating[Any]]
Z_FIELDS = ("latency_p99", "queue_depth", "proposals_committed", "leader_changes")
Z_ROWS, Z_LIMIT, RATIO_LIMIT = 120, 6.0, 3.0
EWMA_LIMIT = 3.0


def percentile_ratio(grid: Grid) -> Floats:
    """Score p99/p50 against 3."""
    p99, p50 = _field(grid, "latency_p99"), _field(grid, "latency_p50")
    ratio: Floats = np.nan_to_num(p99 / np.maximum(p50, 1e-6), nan=0.0)
    return ratio / RATIO_LIMIT


def robust_z(grid: Grid) -> Floats:
    """Score the largest robust z over `Z_FIELDS` against 6.

    z = |x - median| / max(1.4826 MAD, 5 % of the median, 0.5) over the 120 rows before.
    """
    worst = np.zeros(len(grid.ts))
    group = np.stack([grid.source, grid.entity])
    cuts = np.flatnonzero(np.any(np.diff(group, axis=1) != 0, axis=0)) + 1
    for rows in np.split(np.arange(len(grid.ts)), cuts):
        for name in Z_FIELDS:
            worst[rows] = np.fmax(worst[rows], _trailing_z(_field(grid, name)[rows]))
    return worst / Z_LIMIT


def membership(grid: Grid) -> Floats:
    """Score 2 where a member is missing or a leader changed, else 0."""
    members = 2.0 * _field(grid, "quorum_size") - 1.0
    missing = _field(grid, "active_nodes") < members
    return np.where(missing | (_field(grid, "leader_changes") > 0), 2.0, 0.0)


def node_limits(grid: Grid) -> Floats:
    """Score error_rate against 0.01 and latency_p99 against 100 ms, the larger of the two."""
    worst: Floats = np.fmax(_field(grid, "error_rate") / 0.01, _field(grid, "latency_p99") / 100.0)
    return np.asarray(np.nan_to_num(worst, nan=0.0))


RULES: dict[str, Callable[[Grid], Floats]] = {
    "p99/p50 > 3": percentile_ratio,
    "robust z over 120 s > 6": robust_z,
    "member missing or leader change": membership,
}


def moving_z(grid: Grid) -> Floats:
    """Score the largest distance over fields from an exponentially weighted mean against 3 of its deviations."""
    rows = np.flatnonzero(grid.filled)
    values = grid.values[rows].astype(np.float64)
    known = np.isfinite(values).any(axis=0)
    spread = np.nanstd(values[:, known], axis=0)
    scaled = (values[:, known] - np.nanmedian(values[:, known], axis=0)) / np.where(spread > 0, spread, 1.0)
    score = np.full(len(grid.ts), np.nan)
    score[rows] = ewma_z(scaled, grid.entity[rows]) / EWMA_LIMIT
    return score


BY_STREAM: dict[str, dict[str, Callable[[Grid], Floats]]] = {
    "consensus": RULES,
    "node": {"error_rate > 0.01 or latency_p99 > 100 ms": node_limits},
}


ANY_STREAM: dict[str, Callable[[Grid], Floats]] = {"EWMA z over 3": moving_z}


def _trailing_z(values: Floats) -> Floats:
    padded = np.concatenate([np.full(Z_ROWS, np.nan), values[:-1]])
    before = np.lib.stride_tricks.sliding_window_view(padded, Z_ROWS)
    enough = np.isfinite(before).sum(axis=1) >= Z_ROWS // 5
    middle, spread = np.full(len(values), np.nan), np.full(len(values), np.nan)
    middle[enough] = np.nanmedian(before[enough], axis=1)
    spread[enough] = np.nanmedian(np.abs(before[enough] - middle[enough, None]), axis=1)
    floor = np.maximum(0.05 * np.abs(middle), 0.5)
    z: Floats = np.nan_to_num(np.abs(values - middle) / np.fmax(1.4826 * spread, floor), nan=0.0)
    return z


def _field(grid: Grid, name: str) -> Floats:
    return grid.values[:, grid.stream.field_index(name)].astype(np.float64)
