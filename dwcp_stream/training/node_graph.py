"""The parts that both node models share: inputs, expected values, contributions by occlusion."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.streams import StreamDefinition
from dwcp_stream.training.features import BASE_FIELDS, FIELDS, WINDOW
from dwcp_stream.training.graph import Graph

Suspicion = Callable[[Graph, str], str]  # from window [B, 15, 12] to a number [B, 1] that grows with suspicion


def add_inputs(g: Graph) -> str:
    """Declare the inputs of a node model; return `window`. These models do not look at the time of day."""
    window = g.input("window", np.float32, ["batch", WINDOW, len(FIELDS)])
    g.input("time", np.float64, ["batch", WINDOW])
    return window


def add_expected(g: Graph, window: str, stream: StreamDefinition, typical: NDArray[np.float32]) -> str:
    """Look up what each gauge usually is under the window's last mode and tier.

    Parameters
    ----------
    typical
        Table of `node_data.typical_values`; its last row serves unknown modes and tiers.

    Returns
    -------
    str
        Value [B, 12]; NaN for the two categories.
    """
    modes, tiers = (float(len(stream.fields[stream.field_index(name)].vocabulary)) for name in FIELDS[-2:])
    mode, tier = (g.take(g.take(window, 1, -1), 1, FIELDS.index(name)) for name in FIELDS[-2:])
    # false for NaN, and for words that were added to a vocabulary after training
    known = g.op("And", g.op("Less", mode, g.const(modes)), g.op("Less", tier, g.const(tiers)))
    pair = g.add(g.mul(mode, g.const(tiers)), tier)
    row = g.where(known, pair, g.const(float(len(typical) - 1)))
    padded = np.full((len(typical), len(FIELDS)), np.nan, np.float32)
    padded[:, : len(BASE_FIELDS)] = typical
    return g.op("Gather", g.const(padded), g.cast(row, np.int64), axis=0)


def add_contribution(g: Graph, window: str, expected: str, suspicion: Suspicion, *, unit: float) -> str:
    """How much of the suspicion each field carries: what is lost when the field is replaced.

    A gauge is replaced by its expected value in every row where it has one, a category by unknown. The window
    as it is and its twelve variants go through the model as one batch.

    Parameters
    ----------
    g, window, expected
        Graph, its window, and the values of `add_expected`.
    suspicion
        Adds the model's raw output.
    unit
        Suspicion that is worth 1 of the score, so that contributions are shares of the score.

    Returns
    -------
    str
        Value [B, 12]; positive: the field speaks for an incident.
    """
    count = len(FIELDS)
    own = g.op("Unsqueeze", window, g.ints(1))  # [B, 1, 15, 12]
    replaced = np.eye(count, dtype=bool).reshape(1, count, 1, count)
    known = g.op("Not", g.is_nan(own))
    swap = g.op("And", g.const(replaced, np.bool_), known)  # [B, 12, 15, 12]
    variants = g.where(swap, g.op("Unsqueeze", expected, g.ints(1, 2)), own)
    every = g.reshape(g.concat([own, variants], 1), -1, WINDOW, count)
    values = g.reshape(suspicion(g, every), -1, count + 1)
    return g.div(g.sub(g.slice(values, 1, 0, 1), g.slice(values, 1, 1)), g.const(unit))
