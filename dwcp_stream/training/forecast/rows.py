"""Training rows of a forecaster: which windows there are, how they are split, their features and what came after."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.errors import PayloadError
from dwcp_stream.training.dataset import Grid, Ints
from dwcp_stream.training.forecast.features import features_model
from dwcp_stream.training.forecast.layout import Layout
from dwcp_stream.training.forecast.memory import Shapes
from dwcp_stream.training.forecast.network import flatten, is_cold
from dwcp_stream.training.forecast.plan import transformed
from dwcp_stream.training.sequence import Progress, in_order, run_sequence

CUTS = (0.70, 0.85)
HELD_OUT = 5
"""Every fifth entity is left out of training, if there are at least so many."""
MOST_PER_ENTITY, MOST = 60_000, 50_000_000
"""Windows looked at: the newest of an entity, and of all so many that their features are at most so many numbers."""
PER_WINDOW = 64
"""Features of a target and window, about."""
FARTHEST = 100.0
"""What came counts as at most so many scales away."""
FEWEST = 40
"""Windows with a target that training needs; half of that, validation and test together."""
F32 = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Split:
    """Rows that windows end at, by entity and time, and what each may be used for.

    Attributes
    ----------
    rows
        [N] of the grid.
    train, valid, test, unknown
        [N] masks. Of each entity the first 70 % of its time train, the next 15 % validate, the rest is the test;
        a window is left out where its targets lie on the other side. `unknown` are the last 15 % of entities that
        are in none of the others.
    """

    rows: Ints
    train: Mask
    valid: Mask
    test: Mask
    unknown: Mask


@dataclass(frozen=True)
class Table:
    """Features of windows and what came after.

    Attributes
    ----------
    x
        [N, Y, K] flattened raw features.
    origin, scale
        [N, Y] newest value, transformed, and the unit.
    actual
        [N, Y, H] what came, in units of the scale from the origin; NaN where unknown.
    """

    x: F32
    origin: F32
    scale: F32
    actual: F32

    def joined(self, other: "Table", rows: NDArray[np.int64]) -> "Table":
        """Return this table with some rows of another one after it."""
        return Table(
            np.concatenate([self.x, other.x[rows]]),
            np.concatenate([self.origin, other.origin[rows]]),
            np.concatenate([self.scale, other.scale[rows]]),
            np.concatenate([self.actual, other.actual[rows]]),
        )


def split(grid: Grid, reach: int, stride: int, targets: int) -> Split:
    """Split windows by time within each entity, and by entity.

    Parameters
    ----------
    grid
        All rows.
    reach, stride, targets
        Longest horizon in rows, rows between two windows, and how many targets there are.

    Raises
    ------
    PayloadError
        If there are too few windows.
    """
    rows = in_order(grid, grid.ends(), stride)
    entity = grid.entity[rows]
    first = np.r_[True, np.diff(entity) != 0] if len(rows) else np.zeros(0, bool)
    begins = np.flatnonzero(first)
    sizes = np.diff(np.r_[begins, len(rows)])
    left = np.repeat(sizes, sizes) - (np.arange(len(rows)) - np.repeat(begins, sizes))
    most = MOST // (PER_WINDOW * max(targets, 1))
    rows = rows[left <= min(MOST_PER_ENTITY, max(most // max(len(begins), 1), 2 * FEWEST))]
    rows = rows[np.arange(len(rows)) < max(most, 2 * FEWEST)]
    entity = grid.entity[rows]
    share, ahead = np.zeros(len(rows)), np.zeros(len(rows))
    step = 1.0 if isinstance(grid.stream.step, str) else float(grid.stream.step)
    for own in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(entity)) + 1) if len(rows) else []:
        ts = grid.ts[rows[own]]
        span = max(float(np.ptp(ts)), 1e-9)
        share[own] = (ts - ts[0]) / span
        ahead[own] = (np.median(np.diff(ts)) if grid.stream.irregular and len(ts) > 1 else step) * reach / span
    held = (entity % HELD_OUT == HELD_OUT - 1) if len(np.unique(entity)) >= HELD_OUT else np.zeros(len(rows), bool)
    found = Split(
        rows,
        (share + ahead < CUTS[0]) & ~held,
        (share >= CUTS[0]) & (share + ahead < CUTS[1]) & ~held,
        (share >= CUTS[1]) & ~held,
        (share >= CUTS[1]) & held,
    )
    if found.train.sum() < FEWEST or found.valid.sum() + found.test.sum() < FEWEST // 2:
        raise PayloadError(
            f"{len(rows)} windows of {grid.stream.window} rows are too few to learn from and to judge: "
            f"{int(found.train.sum())} remain for training where {FEWEST} are needed",
            where=grid.stream.name,
            remedy="Give longer histories, or shorten window, min_periods or horizons",
        )
    return found


def make_table(
    grid: Grid,
    rows: Ints,
    shape: Layout,
    shapes: Shapes,
    progress: Progress = lambda _share: None,
    *,
    restart: int | None = None,
) -> Table:
    """Compute the features of windows in order, with the graph that serves, and look up what came after.

    With `restart` the memory is lost every so many windows.
    """
    names = ["common", "origin", "scale", *(["seasonal"] if shape.seasons else [])]
    columns = [grid.stream.field_index(name) for name in shape.fields]
    made = run_sequence(
        features_model(shape, shapes), grid, rows, names,
        state=shape.memory, columns=columns, window=shape.window, restart=restart, progress=progress,
    )  # fmt: skip
    later = transformed(later_values(grid, rows, shape), shape)  # [N, H, Y]
    actual = np.clip((later - made["origin"][:, None]) / made["scale"][:, None], -FARTHEST, FARTHEST)
    known = np.isfinite(grid.values[rows[:, None] + np.arange(1 - shape.window, 1)][..., columns[: len(shape.targets)]])
    actual = np.where(known.any(axis=1)[:, None], actual, np.float32(np.nan)).transpose(0, 2, 1)
    return Table(flatten(made["common"], made.get("seasonal")), made["origin"], made["scale"], actual)


def later_values(grid: Grid, rows: Ints, shape: Layout) -> F32:
    """Raw targets [N, H, Y] at the horizons after each row; NaN where unknown, of another entity or after a gap."""
    columns = [grid.stream.field_index(name) for name in shape.targets]
    result = np.full((len(rows), len(shape.horizons), len(columns)), np.nan, np.float32)
    for i, horizon in enumerate(shape.horizons):
        at = np.minimum(rows + horizon, len(grid.ts) - 1)
        same = (grid.entity[at] == grid.entity[rows]) & (rows + horizon < len(grid.ts))
        if not shape.irregular:
            same &= np.abs(grid.ts[at] - grid.ts[rows] - horizon * shape.step) < 0.5 * shape.step
        result[same, i] = grid.values[at[same]][:, columns]
    return result


def add_cold(
    table: Table, grid: Grid, parted: Split, use: Mask, shape: Layout, shapes: Shapes, progress: Progress
) -> tuple[Table, Mask]:
    """Add rows as they are to an entity whose season has not been seen whole, at most as many as `use` has.

    Parameters
    ----------
    table, use
        The rows so far, and which of them are to be fitted on.
    grid, parted, shape, shapes, progress
        As for `make_table`.

    Returns
    -------
    tuple
        The longer table, and `use` for it.
    """
    if not shape.seasons:
        return table, use
    # restarts move through the season, so that it is not always the same part that is new
    again = make_table(grid, parted.rows, shape, shapes, progress, restart=math.ceil(1.37 * shape.cold))
    cold = np.flatnonzero(use & is_cold(again.x, shape).any(axis=1))
    cold = cold[np.linspace(0, len(cold) - 1, min(len(cold), int(use.sum()))).astype(np.int64)]
    return table.joined(again, cold), np.concatenate([use, np.ones(len(cold), bool)])
