"""What the link forecaster sees: the raw window turned to per-link normal form, as ONNX nodes.

All numeric fields are taken as logarithms (a link of 10 Mbps and one of 1 Gbps then differ by a constant),
and normalised by mean and spread over the rows that are older than the longest horizon. So nothing in the
features of a row comes from later rows, and the last row can be judged by forecasts made up to that many
rows before it. The network also gets the level itself, time of day and week in UTC, and the kind of link.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.streams.definition import StreamDefinition
from dwcp_stream.training.graph import Graph, to_bytes

# log(x + offset): the offset is about the smallest value that matters
OFFSETS = {
    "bandwidth_mbps": 1.0,
    "latency_ms": 0.1,
    "packet_loss": 1e-4,
    "jitter_ms": 0.02,
    "rtt_ms": 0.1,
    "throughput_mbps": 1.0,
    "bytes_tx": 1e3,
    "bytes_rx": 1e3,
    "retransmits": 1.0,
    "congestion_window": 1.0,
    "queue_depth": 1.0,
}
WORDS = ("region", "link_type", "dwcp_mode", "network_tier", "transport_type")
SPREAD_FLOOR = 0.03
HARMONICS = 3
DAY, WEEK = 86_400, 604_800
MONDAY = 4 * DAY  # the epoch began on a Thursday


@dataclass(frozen=True)
class Layout:
    """Columns of a stream's window that the forecaster uses."""

    fields: tuple[str, ...]
    targets: tuple[str, ...]
    numeric: tuple[str, ...]
    words: tuple[str, ...]
    sizes: tuple[int, ...]
    window: int
    horizons: tuple[int, ...]

    @property
    def channels(self) -> int:
        """Width of a row of the sequence: values, and whether a sample came."""
        return len(self.numeric) + 1

    @property
    def context(self) -> int:
        """Width of the context: levels and spreads, time, words."""
        return 2 * len(self.numeric) + 2 * HARMONICS + 1 + sum(self.sizes)


def layout(stream: StreamDefinition, targets: Sequence[str], horizons: Sequence[int]) -> Layout:
    """Choose the columns: the targets first, then the other numeric fields that are known, then words."""
    names = stream.field_names
    numeric = (*targets, *(n for n in OFFSETS if n in names and n not in targets))
    words = tuple(n for n in WORDS if n in names)
    sizes = tuple(len(stream.fields[stream.field_index(n)].vocabulary) for n in words)
    return Layout((*numeric, *words), tuple(targets), numeric, words, sizes, stream.window, tuple(horizons))


def to_log(values: NDArray[Any], names: Sequence[str]) -> NDArray[np.float32]:
    """Take the logarithm of raw values [..., N] whose last axis is `names`; the graph's first step in numpy."""
    offsets = np.array([OFFSETS[n] for n in names], np.float32)
    return np.log(np.maximum(values.astype(np.float32), 0) + offsets).astype(np.float32)


@dataclass(frozen=True)
class Features:
    """Names of the values in the graph; with Y targets, C channels, K context numbers.

    `sequence` [B, T, C]; `context` [B, K]; `bases` [B, 1 + H, Y] the newest known logs at the last row, and at
    the row a horizon before it for each horizon; `actual` [B, Y] the logs in the last row itself (0 if missing),
    `present` [B, Y] whether it has them (float); `level` and `spread` [B, Y] of the older rows.
    """

    sequence: str
    context: str
    bases: str
    actual: str
    present: str
    spread: str
    level: str


def add_features(g: Graph, window: str, time: str, shape: Layout) -> Features:
    """Add the features to a graph whose inputs are `window` [B, T, F] and `time` [B, T]."""
    t, y = shape.window, len(shape.targets)
    numeric = g.slice(window, 2, 0, len(shape.numeric))
    missing = g.is_nan(numeric)
    known = g.cast(g.op("Not", missing), np.float32)
    offsets = g.const([OFFSETS[n] for n in shape.numeric])
    floored = g.op("Max", g.where(missing, g.const(0.0), numeric), g.const(0.0))
    logs = g.mul(
        g.smooth("Log", g.add(floored, offsets), t, len(shape.numeric)), known
    )  # unknown values are 0 from here on

    old = t - max(shape.horizons)
    past_known, past = g.slice(known, 1, 0, old), g.slice(logs, 1, 0, old)
    count = g.op("Max", g.reduce("ReduceSum", past_known, [1]), g.const(1.0))
    mean = g.div(g.reduce("ReduceSum", past, [1]), count)
    centred = g.mul(g.sub(past, mean), past_known)
    variance = g.div(g.reduce("ReduceSum", g.mul(centred, centred), [1]), count)
    spread = g.op("Max", g.op("Sqrt", variance), g.const(SPREAD_FLOOR))
    normal = g.clip(g.mul(g.div(g.sub(logs, mean), spread), known), -12.0, 12.0)
    came = g.reduce("ReduceMax", known, [2])
    sequence = g.concat([normal, came], axis=2)

    level = g.reshape(mean, 0, -1)
    width = g.smooth("Log", g.reshape(spread, 0, -1), len(shape.numeric))
    context = g.concat([level, width, *_time(g, time, t), *_words(g, window, shape)], axis=1)
    target_logs, target_known = g.slice(logs, 2, 0, y), g.slice(known, 2, 0, y)
    return Features(
        sequence=sequence,
        context=context,
        bases=g.concat([_newest(g, target_logs, target_known, t - lag) for lag in (0, *shape.horizons)], axis=1),
        actual=g.take(target_logs, 1, t - 1),
        present=g.take(target_known, 1, t - 1),
        spread=g.slice(g.reshape(spread, 0, -1), 1, 0, y),
        level=g.slice(level, 1, 0, y),
    )


def features_model(shape: Layout) -> bytes:
    """Serialise the graph of the features alone: training reads what serving will compute."""
    g = Graph("link_features")
    window = g.input("window", np.float32, ["batch", shape.window, len(shape.fields)])
    time = g.input("time", np.float64, ["batch", shape.window])
    made = add_features(g, window, time, shape)
    y = len(shape.targets)
    g.output(made.sequence, "sequence", np.float32, ["batch", shape.window, shape.channels])
    g.output(made.context, "context", np.float32, ["batch", shape.context])
    g.output(made.bases, "bases", np.float32, ["batch", 1 + len(shape.horizons), y])
    for name in ("actual", "present", "spread", "level"):
        g.output(getattr(made, name), name, np.float32, ["batch", y])
    return to_bytes(g.model())


def _newest(g: Graph, logs: str, known: str, rows: int) -> str:
    """Newest known value per target within the first `rows` rows [B, 1, Y]; 0 if there is none.

    Rows are numbered from 1, the largest number that is known picks the row.
    """
    values = g.slice(logs, 1, 0, rows)
    numbers = g.const(np.arange(1, rows + 1, dtype=np.float32).reshape(1, rows, 1))
    number = g.mul(numbers, g.slice(known, 1, 0, rows))
    newest = g.reduce("ReduceMax", number, [1])
    chosen = g.op("And", g.op("Equal", number, newest), g.op("Greater", number, g.const(0.0)))
    return g.reduce("ReduceSum", g.mul(values, g.cast(chosen, np.float32)), [1])


def _time(g: Graph, time: str, rows: int) -> list[str]:
    """Sines and cosines of the time of day [B, HARMONICS] and whether it is a weekend [B, 1], of the last row.

    Whole seconds are taken modulo in int64: float32 cannot hold an epoch.
    """
    seconds = g.cast(g.slice(time, 1, rows - 1), np.int64)
    of_day = g.cast(g.op("Mod", seconds, g.const(DAY, np.int64)), np.float32)
    of_week = g.op("Mod", g.add(seconds, g.const(WEEK - MONDAY, np.int64)), g.const(WEEK, np.int64))
    angles = g.mul(of_day, g.const(2 * np.pi / DAY * np.arange(1, HARMONICS + 1)[None]))
    waves = [g.smooth(wave, angles, HARMONICS) for wave in ("Sin", "Cos")]
    return [*waves, g.cast(g.op("GreaterOrEqual", of_week, g.const(5 * DAY, np.int64)), np.float32)]


def _words(g: Graph, window: str, shape: Layout) -> list[str]:
    """One-hot words of the last row; a missing or unknown word is all zeros."""
    last = g.take(window, 1, shape.window - 1)
    columns = []
    for i, size in enumerate(shape.sizes):
        code = g.slice(last, 1, len(shape.numeric) + i, len(shape.numeric) + i + 1)
        columns.append(g.cast(g.op("Equal", code, g.const(np.arange(size, dtype=np.float32)[None])), np.float32))
    return columns
