"""A loss to search parameters by where there are no labels: how well made-up trouble is told from held-out rows.

The training part is split once more by time. The earlier rows are fitted to; into a copy of the later ones trouble is
put, of known places: spikes, steps and ramps of some fields, in units of the field's own spread. The loss is one less
the average precision of the rows with it. M. Goswami et al., "Unsupervised Model Selection for Time-series Anomaly
Detection", ICLR 2023, find such a loss to be among the best stand-ins for labels; those of the files are not looked at.
"""

from dataclasses import replace
from typing import Final

import numpy as np
from sklearn.metrics import average_precision_score

from dwcp_stream.training.anomaly.memory import Ints, Rates
from dwcp_stream.training.anomaly.model import build, state_size
from dwcp_stream.training.anomaly.recipe import MIN_ROWS, fit_recipe
from dwcp_stream.training.anomaly.ridge import Floats
from dwcp_stream.training.dataset import Grid
from dwcp_stream.training.sequence import run_sequence

HELD_SHARE: Final = 0.25
MOST_ROWS: Final = 20_000
"""Newest held-out rows of each entity that are scored, divided by the number of entities."""
EVERY: Final = 30
"""Rows for each piece of trouble."""
LENGTHS: Final = (1, 3, 10)
SIZES: Final = (2.0, 4.0, 8.0)
"""Of trouble: rows, and how many of the field's spreads."""


def validation_loss(grid: Grid, rows: Ints, rates: Rates, seed: int) -> float | None:
    """Fit to the earlier of the rows, and judge on the later ones with made-up trouble in them.

    Parameters
    ----------
    grid, rows
        The grid, and the rows of the training part, those of an entity in order of time.
    rates
        Parameters to judge.
    seed
        Of the trouble: the same for all parameters.

    Returns
    -------
    float or None
        None if there are too few rows.
    """
    early, late = _split(grid, rows)
    if len(early) < MIN_ROWS or len(late) < EVERY or not np.isfinite(grid.values[early]).any():
        return None
    recipe = fit_recipe(grid, early, rates)
    troubled, on = with_trouble(grid, early, late, seed)
    size = state_size(grid.values.shape[1])
    model = build(recipe, grid.stream.window)
    score = run_sequence(model, troubled, late, ["score"], state=size)["score"].astype(np.float64)
    return 1.0 - float(average_precision_score(on, np.nan_to_num(score)))


def with_trouble(grid: Grid, early: Ints, late: Ints, seed: int) -> tuple[Grid, np.ndarray]:
    """Put trouble into a copy of the rows `late`, in units of the spread of the rows `early`.

    Returns
    -------
    tuple
        The copy, and [N] which of the rows `late` have some.
    """
    rng = np.random.default_rng(seed)
    measured = [i for i, field in enumerate(grid.stream.fields) if not field.coded]
    values, on = grid.values.copy(), np.zeros(len(late), bool)
    for number in range(max(len(late) // EVERY, 1)):
        length, size = LENGTHS[number % len(LENGTHS)], rng.choice(SIZES)
        first = int(rng.integers(0, len(late)))
        own = np.arange(first, min(first + length, len(late)))
        own = own[grid.entity[late[own]] == grid.entity[late[first]]]
        course = np.linspace(1.0 / len(own), 1.0, len(own)) if rng.random() < 0.5 else np.ones(len(own))
        fields = rng.choice(measured, size=1 + int(rng.integers(0, max(len(measured) // 3, 1))), replace=False)
        before = grid.values[early[grid.entity[early] == grid.entity[late[first]]]]
        before = before if len(before) else grid.values[early]
        for field in fields:
            shift = rng.choice([-1.0, 1.0]) * size * _spread(before[:, field].astype(np.float64))
            values[late[own], field] += (shift * course).astype(np.float32)
        on[own] = True
    return replace(grid, values=values), on


def _spread(values: Floats) -> float:
    known = values[np.isfinite(values)]
    if not len(known):
        return 1.0
    spread = float(known.std())
    return spread if spread > 0 else max(abs(float(known[0])), 1.0)


def _split(grid: Grid, rows: Ints) -> tuple[Ints, Ints]:
    """Earlier and later rows of each entity, the later ones not more than can be scored in short time."""
    entity = grid.entity[rows]
    names = np.unique(entity)
    early, late = [], []
    for number in names:
        own = rows[entity == number]
        cut = int((1.0 - HELD_SHARE) * len(own))
        early.append(own[:cut])
        late.append(own[cut:][-max(MOST_ROWS // len(names), 1) :])
    return np.concatenate(early), np.concatenate(late)
