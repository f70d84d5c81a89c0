"""An entity's own normal: level and spread of each field, carried from window to window in the graph's state.

Level and spread are running means (of the value, and of its distance from the level) over the rows seen so
far, at most `MEMORY` of them. Two things keep an incident out of them: a step is limited to a few spreads
(Huber 1964), and a row in which all fields together are far from normal counts a fraction of a row.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from dwcp_stream.training.graph import Graph
from dwcp_stream.training.incident.design import LIMIT, Design

MEMORY: Final = 2000.0  # rows that the running means remember
PRIOR: Final = 20.0  # rows that the typical spread of the training data counts as
STEP_LIMIT: Final = 4.0  # spreads that one row can be away from the level, at most
LEAST_WEIGHT: Final = 0.05  # of a strange row: a new normal is learnt in the end
LEAST_SHARE: Final = 0.1  # of the typical spread, below which no entity's spread falls
CAP: Final = 8.0  # spreads up to which a distance counts
QUANTUM: Final = 1024.0  # sums over fields are made of multiples of 1 / 1024: exact, so in any order the same


@dataclass(frozen=True)
class Scaled:
    """Names of values: scaled numeric fields [B, T, P] (0 where missing) and 1 where known, 0 elsewhere."""

    value: str
    known: str


@dataclass(frozen=True)
class Normal:
    """Names of values [B, P]: level and spread before the newest row, and the state [B, 3 P] after it."""

    level: str
    spread: str
    state: str


def add_scaled(g: Graph, window: str, design: Design) -> Scaled:
    """Scale the numeric fields of a window [B, T, F]."""
    raw = g.slice(window, 2, 0, design.numeric)
    missing = g.is_nan(raw)
    center = g.const(design.center)
    distance = g.div(g.sub(g.where(missing, center, raw), center), g.const(design.scale))
    value = g.clip(g.smooth("Asinh", distance, design.window, design.numeric), -LIMIT, LIMIT)
    known = g.cast(g.op("Not", missing), np.float32)
    return Scaled(g.mul(value, known), known)


def add_mean(g: Graph, scaled: Scaled, rows: int) -> tuple[str, str]:
    """Mean over the newest rows, NaN where none is known, and their number: two values [B, 1, P]."""
    count = g.reduce("ReduceSum", g.slice(scaled.known, 1, -rows), [1])
    return g.div(g.reduce("ReduceSum", g.slice(scaled.value, 1, -rows), [1]), count), count


def add_median(g: Graph, scaled: Scaled, rows: int) -> tuple[str, str]:
    """Lower median over the window's known rows, 0 where none is known, and their number: two values [B, 1, P]."""
    count = g.reduce("ReduceSum", scaled.known, [1])
    missing = g.op("Equal", scaled.known, g.const(0.0))
    sortable = g.where(missing, g.const(2.0 * LIMIT), scaled.value)
    ascending, _ = g.multi("TopK", [sortable, g.ints(rows)], 2, axis=1, largest=0)
    place = g.op("Floor", g.mul(g.op("Max", g.sub(count, g.const(1.0)), g.const(0.0)), g.const(0.5)))
    middle = g.op("GatherElements", ascending, g.cast(place, np.int64), axis=1)
    return g.where(g.op("Greater", count, g.const(0.0)), middle, g.const(0.0)), count


def add_capped(g: Graph, distance: str) -> str:
    """Absolute distances in spreads, at most `CAP`, in steps of a quantum; NaN becomes 0."""
    known = g.where(g.is_nan(distance), g.const(0.0), distance)
    capped = g.op("Min", g.op("Abs", known), g.const(CAP))
    return g.div(g.op("Round", g.mul(capped, g.const(QUANTUM))), g.const(QUANTUM))


def add_normal(g: Graph, scaled: Scaled, state: str, design: Design) -> Normal:
    """Read an entity's normal from its state and take the newest row into it.

    Parameters
    ----------
    g, scaled
        Graph, and the values of `add_scaled`.
    state
        [B, 3 P]: level, spread, weight; NaN for an entity that has none yet. Until as many values as a window has
        rows have come, the normal is the window's median and the mean distance from it: one odd first row does no harm.
    design
        Constants.
    """
    zero, one, typical = g.const(0.0), g.const(1.0), g.const(design.spread)
    held = [g.slice(state, 1, i * design.numeric, (i + 1) * design.numeric) for i in range(3)]
    level, spread, weight = (g.where(g.is_nan(x), zero, x) for x in held)
    middle, count = add_median(g, scaled, design.window)
    few, some = g.op("Less", weight, g.const(float(design.window))), g.op("Greater", _row(g, count), zero)
    young = g.op("And", few, some)
    distance = g.mul(g.op("Abs", g.sub(scaled.value, middle)), scaled.known)
    total = g.add(g.reduce("ReduceSum", distance, [1]), g.mul(typical, g.const(PRIOR)))
    first_spread = _row(g, g.div(total, g.add(count, g.const(PRIOR))))
    first_level = _row(g, middle)
    level = g.where(young, first_level, level)
    spread = g.where(young, first_spread, spread)
    spread = g.op("Max", spread, g.mul(typical, g.const(LEAST_SHARE)))

    newest, seen = (g.take(x, 1, -1) for x in (scaled.value, scaled.known))
    step = g.sub(newest, level)
    away = g.mul(g.div(step, spread), seen)
    share = g.mul(seen, _weight(g, away, seen, design))
    grown = g.op("Min", g.add(weight, share), g.const(MEMORY))
    limit = g.mul(spread, g.const(STEP_LIMIT))
    bounded = g.op("Max", g.op("Min", step, limit), g.op("Neg", limit))
    pull = g.sub(g.op("Abs", bounded), spread)
    next_level = g.add(level, g.mul(g.div(share, g.op("Max", grown, one)), bounded))
    next_spread = g.add(spread, g.mul(g.div(share, g.add(grown, g.const(PRIOR))), pull))
    after = [
        g.where(young, first_level, next_level),
        g.where(young, first_spread, next_spread),
        g.where(young, g.op("Max", _row(g, count), g.add(weight, seen)), grown),
    ]
    return Normal(level, spread, g.concat(after, 1))


def _weight(g: Graph, away: str, seen: str, design: Design) -> str:
    """Return how much the newest row counts, [B, 1]: 1 up to `calm`, little from `strange` on."""
    known = g.op("Max", g.reduce("ReduceSum", seen, [1]), g.const(1.0))
    strangeness = g.div(g.reduce("ReduceSum", add_capped(g, away), [1]), known)
    room = g.const(np.float32(design.strange - design.calm))
    return g.clip(g.div(g.sub(g.const(design.strange), strangeness), room), LEAST_WEIGHT, 1.0)


def _row(g: Graph, x: str) -> str:
    """Drop the time axis of [B, 1, P]."""
    return g.op("Squeeze", x, g.ints(1))


def expected_values(g: Graph, level: str, design: Design) -> str:
    """Turn scaled levels [B, P] back into the fields' units."""
    raised = g.smooth("Sinh", level, design.numeric)
    return g.add(g.mul(raised, g.const(design.scale)), g.const(design.center))
