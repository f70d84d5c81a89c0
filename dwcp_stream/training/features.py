"""The node features as ONNX: from the raw window of the `node` stream to 123 numbers.

The definition is that of the reference system (windows of 5 and 15 rows over ten base fields, differences,
interactions, indicators, one-hot modes and tiers). Rows of the window before the entity's first sample are
NaN, so short histories need no case of their own: every statistic is over the values that exist
(min_periods 1).
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from dwcp_stream.streams import StreamDefinition
from dwcp_stream.training.graph import Graph, to_bytes

BASE_FIELDS: Final = (
    "error_rate",
    "timeout_rate",
    "latency_p50",
    "latency_p99",
    "sla_violations",
    "connection_failures",
    "packet_loss_rate",
    "cpu_usage",
    "memory_usage",
    "disk_io",
)
FIELDS: Final = (*BASE_FIELDS, "dwcp_mode", "network_tier")
ROLLING_WINDOWS: Final = (5, 15)
MODES: Final = ("fallback", "optimized", "standard")
TIERS: Final = ("tier1", "tier2", "tier3")
WINDOW: Final = max(ROLLING_WINDOWS)
HUGE: Final = np.float32(3e38)


def feature_names() -> tuple[str, ...]:
    """Return the 123 names in the order of the graph's output."""
    rolling = (
        f"{field}_rolling_{statistic}_{width}"
        for width in ROLLING_WINDOWS
        for field in BASE_FIELDS
        for statistic in ("mean", "std", "min", "max")
    )
    derivatives = (f"{field}_{name}" for field in BASE_FIELDS for name in ("rate_of_change", "acceleration"))
    return (
        *BASE_FIELDS,
        *rolling,
        *derivatives,
        *("error_timeout_product", "latency_spread", "latency_ratio", "resource_pressure"),
        *("high_error_rate", "high_latency", "high_packet_loss"),
        *(f"mode_{mode}" for mode in MODES),
        *(f"tier_{tier}" for tier in TIERS),
    )


def add_features(g: Graph, window: str, stream: StreamDefinition) -> str:
    """Add the features to a graph.

    Parameters
    ----------
    g
        Graph to add to.
    window
        Value of shape [B, 15, 12], columns in the order of `FIELDS`, NaN where missing.
    stream
        Gives the codes of the modes and tiers.

    Returns
    -------
    str
        Value of shape [B, 123], order of `feature_names`. NaN where a field has no value to compute from;
        standard deviations and differences are 0 there, indicators and one-hot columns 0 too.
    """
    base = g.slice(window, 2, 0, len(BASE_FIELDS))
    last = g.take(base, 1, -1)
    parts = [last]
    parts += [_rolling(g, g.slice(base, 1, -width)) for width in ROLLING_WINDOWS]
    parts += [_derivatives(g, base), _interactions(g, last), *_indicators(g, last)]
    for field, words in (("dwcp_mode", MODES), ("network_tier", TIERS)):
        vocabulary = stream.fields[stream.field_index(field)].vocabulary
        code = g.slice(g.take(window, 1, -1), 1, FIELDS.index(field), FIELDS.index(field) + 1)
        parts.append(g.cast(g.op("Equal", code, g.const([vocabulary.index(word) for word in words])), np.float32))
    return g.concat(parts, 1)


def _rolling(g: Graph, x: str) -> str:
    """Mean, sample deviation, minimum and maximum of each field over the rows of `x`: [B, 40], by field."""
    missing, zero = g.is_nan(x), g.const(0.0)
    count = g.reduce("ReduceSum", g.cast(g.op("Not", missing), np.float32), [1])
    mean = g.div(g.reduce("ReduceSum", g.where(missing, zero, x), [1]), count)  # 0 / 0 is NaN: no value at all
    deviation = g.where(missing, zero, g.sub(x, mean))
    variance = g.div(g.reduce("ReduceSum", g.mul(deviation, deviation), [1]), g.sub(count, g.const(1.0)))
    several, some = g.op("Greater", count, g.const(1.0)), g.op("Greater", count, zero)
    std = g.op("Sqrt", g.where(several, variance, zero))
    nan = g.const(np.float32(np.nan))
    low = g.where(some, g.reduce("ReduceMin", g.where(missing, g.const(HUGE), x), [1]), nan)
    high = g.where(some, g.reduce("ReduceMax", g.where(missing, g.const(-HUGE), x), [1]), nan)
    stacked = g.concat([mean, std, low, high], 1)  # [B, 4, 10]
    return g.reshape(g.op("Transpose", stacked, perm=[0, 2, 1]), -1, 4 * len(BASE_FIELDS))


def _derivatives(g: Graph, base: str) -> str:
    """First and second difference of each field at the last row, per sample; 0 where a value is missing."""
    now, before, earlier = (g.slice(base, 1, at, at + 1 or None) for at in (-1, -2, -3))
    first = g.sub(now, before)
    second = g.sub(first, g.sub(before, earlier))
    stacked = g.concat([g.where(g.is_nan(d), g.const(0.0), d) for d in (first, second)], 1)
    return g.reshape(g.op("Transpose", stacked, perm=[0, 2, 1]), -1, 2 * len(BASE_FIELDS))


def _column(g: Graph, last: str, field: str) -> str:
    at = BASE_FIELDS.index(field)
    return g.slice(last, 1, at, at + 1)


def _interactions(g: Graph, last: str) -> str:
    p50, p99 = _column(g, last, "latency_p50"), _column(g, last, "latency_p99")
    product = g.mul(_column(g, last, "error_rate"), _column(g, last, "timeout_rate"))
    ratio = g.div(p99, g.add(p50, g.const(1e-6)))
    pressure = g.mul(g.add(_column(g, last, "cpu_usage"), _column(g, last, "memory_usage")), g.const(0.5))
    return g.concat([product, g.sub(p99, p50), ratio, pressure], 1)


def _indicators(g: Graph, last: str) -> Iterator[str]:
    for field, limit in (("error_rate", 0.01), ("latency_p99", 100.0), ("packet_loss_rate", 0.05)):
        yield g.cast(g.op("Greater", _column(g, last, field), g.const(limit)), np.float32)


class FeatureGraph:
    """The feature graph alone, in ONNX Runtime: training reads the numbers that serving will compute.

    Parameters
    ----------
    stream
        The node stream.
    """

    def __init__(self, stream: StreamDefinition) -> None:
        g = Graph("node-features")
        window = g.input("window", np.float32, ["batch", WINDOW, len(FIELDS)])
        g.output(add_features(g, window, stream), "features", np.float32, ["batch", len(feature_names())])
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(to_bytes(g.model()), options, providers=["CPUExecutionProvider"])

    def __call__(self, windows: NDArray[np.float32], *, batch: int = 512) -> NDArray[np.float32]:
        """Compute the features of windows [B, 15, 12]: [B, 123]."""
        out = np.empty((len(windows), len(feature_names())), np.float32)
        for start in range(0, len(windows), batch):
            chunk = np.ascontiguousarray(windows[start : start + batch], np.float32)
            out[start : start + batch] = self._session.run(None, {"window": chunk})[0]
        return out


def field_columns(stream: StreamDefinition) -> Sequence[int]:
    """Return where the model's twelve fields are in the stream's windows."""
    return [stream.field_index(name) for name in FIELDS]
