"""How unusual a window is whatever its kind: harmful deviations from the cluster's own normal, without a network.

Of each channel the mean over the last `SPAN` rows counts as far as it is bad news (slow, long, few, missing), in
units of its size in quiet training time, up to `LIMIT`; the root mean square over channels is the surprise. More
load excuses longer queues and latencies: as far as commits are over normal, `EXCUSED` of it is taken off. It knows no
fault, so it also tells of those that training never showed.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.consensus.features import CHANNELS, FEATURES
from dwcp_stream.training.graph import Graph

F32 = NDArray[np.float32]
SPAN: Final = 8
HARM: Final = np.array([1, 1, -1, 1, 1, 1, 1, 1, 1, 1], np.float32)
SMALLEST: Final = np.array([0.5, 0.5, 0.8, 0.4, 0.4, 0.4, 0.25, 0.25, 0.25, 0.15], np.float32)
LIMIT: Final = 8.0
EXCUSED: Final = 1.0
LOADED: Final = np.array([1, 1, 0, 1, 1, 1, 0, 0, 0, 0], np.float32) * EXCUSED
COMMITS: Final = CHANNELS.index("proposals_committed")
COLUMNS: Final = np.array([FEATURES.index(f"{channel} over {SPAN}") for channel in CHANNELS])


def fit_units(features: F32) -> F32:
    """Size of each channel's harmful deviations in quiet windows [N, F]: root mean square, with a floor."""
    size = np.sqrt(np.square(_harmful(features)).mean(axis=0))
    return np.asarray(np.maximum(size, SMALLEST), np.float32)


def surprise(features: F32, units: F32) -> NDArray[np.float64]:
    """Surprise [N] of windows' features [N, F]."""
    parts = np.minimum(_harmful(features) / units, np.float32(LIMIT))
    return np.asarray(np.sqrt(np.square(parts).mean(axis=1)), np.float64)


def add_parts(g: Graph, features: str, units: F32) -> str:
    """Add the squared parts [B, C] of the surprise to a graph."""
    means = g.take(features, 1, COLUMNS.tolist())
    more = g.op("Max", g.take(means, 1, [COMMITS]), g.const(0.0))
    harmful = g.sub(g.mul(means, g.const(HARM)), g.mul(more, g.const(LOADED)))
    parts = g.clip(g.div(harmful, g.const(units)), 0.0, LIMIT)
    return g.mul(parts, parts)


def add_surprise(g: Graph, parts: str) -> str:
    """Add the surprise [B] of its squared parts."""
    return g.op("Sqrt", g.mul(g.row_sum(parts, len(CHANNELS)), g.const(1.0 / len(CHANNELS))))


def _harmful(features: F32) -> F32:
    """Bad news of each channel [N, C]."""
    means = features[:, COLUMNS]
    more = np.maximum(means[:, [COMMITS]], 0.0)
    return np.asarray(np.maximum(means * HARM - more * LOADED, 0.0), np.float32)
