"""What the consensus models see of a window: deviations from the cluster's own normal, over several spans.

Memory. Of each load and latency, as a logarithm, the graph keeps a level and a spread with the cluster (begun at
its first window), how many members it has had, how many rows it has seen, and in which tier and mode. A row moves
level and spread a little, and never by more than `REACH` units, so that a fault of a minute is hardly learnt while
a change that stays is normal in the end. In another tier or mode the memory begins anew, and rows of the window
from before are unknown.

Channels of a row. The logarithm of the ratio to the level, in units of sqrt(spread^2 + `FLOOR`^2); members missing;
whether a quorum is; whether a row that arrived has no latency (nothing was committed in it); changes of leader. So
neither the machine's speed nor the number of members matters, only what differs from before; in calm all are 0.

Features. Means of the channels over the last rows of each of `SPANS`, over known values, and the changes of leader
in the last `CHANGES` rows.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from dwcp_stream.training.graph import Graph, to_bytes

COUNTS: Final = ("queue_depth", "proposals_pending", "proposals_committed")
LATENCIES: Final = ("latency_p50", "latency_p95", "latency_p99")
LOGGED: Final = (*COUNTS, *LATENCIES)
EVENTS: Final = ("missing", "no_quorum", "no_completions", "leader_changes")
CHANNELS: Final = (*LOGGED, *EVENTS)
SPANS: Final = (1, 3, 8)
ROWS: Final = max(SPANS)
CHANGES: Final = 15
FEATURES: Final = (*(f"{channel} over {span}" for span in SPANS for channel in CHANNELS), "leader_changes in all")

FLOOR: Final = np.array([0.5, 0.5, 0.3, 0.15, 0.2, 0.3], np.float32)
RATE: Final = np.array([1 / 100, 1 / 100, 1 / 100, 1 / 300, 1 / 300, 1 / 300], np.float32)
REACH: Final = 2.0
LIMIT: Final = 12.0
SMALLEST_MS: Final = 0.05
MOST_CHANGES, MOST_MISSING, MOST_IN_ALL = 3.0, 2.0, 10.0
MEMBERS_FADE: Final = 1 / 1200
STATE_SIZE: Final = 2 * len(LOGGED) + 4
"""Levels, spreads, members, rows, tier and mode."""


@dataclass(frozen=True)
class Seen:
    """Names of the values in a graph.

    Attributes
    ----------
    features
        [B, len(FEATURES)].
    channels, known
        [B, span, len(CHANNELS)]; 0 where a channel is not known, and 1 or 0 for whether it is.
    level, unit
        [B, 6] of the logged fields, before the newest row.
    members
        [B, 1], members of the cluster.
    state
        [B, STATE_SIZE], the memory after the newest row.
    """

    features: str
    channels: str
    known: str
    level: str
    unit: str
    members: str
    state: str


def add_features(g: Graph, window: str, state: str, fields: tuple[str, ...], rows: int, span: int = ROWS) -> Seen:
    """Add memory, channels and features to a graph.

    Parameters
    ----------
    g
        The graph.
    window, state
        Values [B, rows, F] and [B, STATE_SIZE], NaN where there is no memory yet.
    fields, rows
        Columns and rows of the window.
    span
        Rows of the channels that are wanted, `ROWS` at least.
    """
    made = _Builder(g, window, state, fields, rows, span)
    return made.seen()


class _Builder:
    """The steps of `add_features`, which share much."""

    def __init__(self, g: Graph, window: str, state: str, fields: tuple[str, ...], rows: int, span: int) -> None:
        self.g, self.window, self.state = g, window, state
        self.at = {name: i for i, name in enumerate(fields)}
        self.rows, self.span = rows, span
        self.zero, self.one = g.const(0.0), g.const(1.0)

    def seen(self) -> Seen:
        """Add everything."""
        g = self.g
        self._read()
        level, spread, unit = self._normal()
        step = g.sub(g.slice(self.logs, 1, -self.span), g.op("Unsqueeze", level, g.ints(1)))
        z = g.clip(g.div(step, g.op("Unsqueeze", unit, g.ints(1))), -LIMIT, LIMIT)
        members, events, events_known = self._events()
        here = g.slice(self.here, 1, -self.span)
        known = g.concat([here, events_known])
        channels = g.mul(g.concat([z, events]), known)
        state = self._remember(level, spread, unit, members)
        return Seen(self._features(channels, known), channels, known, level, unit, members, state)

    def _read(self) -> None:
        """Logarithms of the loads and latencies [B, rows, 6], 0 where unknown, and whether they are known."""
        g = self.g
        raw = g.take(self.window, 2, [self.at[name] for name in LOGGED])
        count, missing = len(COUNTS), g.is_nan(raw)
        lift = g.const(np.array([1.0] * count + [0.0] * len(LATENCIES), np.float32))
        least = g.const(np.array([0.0] * count + [SMALLEST_MS] * len(LATENCIES), np.float32))
        positive = g.add(g.op("Max", g.where(missing, self.zero, raw), least), lift)
        logs = g.smooth("Log", positive, self.rows, len(LOGGED))
        where = g.take(self.window, 2, [self.at["network_tier"], self.at["dwcp_mode"]])
        where = g.where(g.is_nan(where), g.const(-1.0), where)
        self.here_now = g.take(where, 1, self.rows - 1)
        apart = g.op("Abs", g.sub(where, g.op("Unsqueeze", self.here_now, g.ints(1))))
        same = g.op("Less", g.reduce("ReduceMax", apart, [2]), g.const(0.5))
        self.here = g.mul(g.cast(g.op("Not", missing), np.float32), g.cast(same, np.float32))
        self.logs = g.mul(logs, self.here)

    def _normal(self) -> tuple[str, str, str]:
        """Level, spread and unit [B, 6] before the newest row; those of a new cluster are of its window."""
        g, logged = self.g, len(LOGGED)
        self.held = g.reduce("ReduceSum", self.here, [1], keep=False)
        held = g.op("Max", self.held, self.one)
        mean = g.div(g.reduce("ReduceSum", self.logs, [1], keep=False), held)
        off = g.mul(g.op("Abs", g.sub(self.logs, g.op("Unsqueeze", mean, g.ints(1)))), self.here)
        first = g.div(g.reduce("ReduceSum", off, [1], keep=False), held)
        before = g.slice(self.state, 1, 2 * logged + 2)
        apart = g.reduce("ReduceMax", g.op("Abs", g.sub(self._start(before, self.here_now), self.here_now)), [1])
        self.anew = g.op("Greater", apart, g.const(0.5))
        level = self._start(g.slice(self.state, 1, 0, logged), mean)
        spread = self._start(g.slice(self.state, 1, logged, 2 * logged), first)
        level, spread = g.where(self.anew, mean, level), g.where(self.anew, first, spread)
        return level, spread, g.op("Sqrt", g.add(g.mul(spread, spread), g.const(FLOOR * FLOOR)))

    def _events(self) -> tuple[str, str, str]:
        """Members of the cluster [B, 1]; the last channels [B, span, 4], and whether they are known."""
        g, span = self.g, self.span
        quorum = g.take(self.window, 2, [self.at["quorum_size"]])
        active = g.take(self.window, 2, [self.at["active_nodes"]])
        unknown = g.op("Or", g.is_nan(quorum), g.is_nan(active))
        quorum, active = g.where(unknown, self.zero, quorum), g.where(unknown, self.zero, active)
        most = g.reduce("ReduceMax", active, [1], keep=False)
        place = 2 * len(LOGGED)
        had = g.op("Max", self._start(g.slice(self.state, 1, place, place + 1), most), most)
        # a cluster has 2 quorum - 1 members, or one less if their number is even
        double = g.mul(g.reduce("ReduceMax", quorum, [1], keep=False), g.const(2.0))
        members = g.op("Min", g.op("Max", had, g.sub(double, g.const(2.0))), g.sub(double, self.one))
        members = g.op("Max", members, self.zero)
        quorum, active = g.slice(quorum, 1, -span), g.slice(active, 1, -span)
        gone = g.clip(g.sub(g.op("Unsqueeze", members, g.ints(1)), active), 0.0, MOST_MISSING)
        no_quorum = g.cast(g.op("Less", active, quorum), np.float32)
        arrived = g.op("Not", g.is_nan(g.slice(g.take(self.window, 2, [self.at["queue_depth"]]), 1, -span)))
        no_latency = g.is_nan(g.slice(g.take(self.window, 2, [self.at["latency_p50"]]), 1, -span))
        silent = g.cast(g.op("And", no_latency, arrived), np.float32)
        changes = g.slice(g.take(self.window, 2, [self.at["leader_changes"]]), 1, -max(span, CHANGES))
        told = g.op("Not", g.is_nan(changes))
        self.changes = g.clip(g.where(told, changes, self.zero), 0.0, MOST_CHANGES)
        here = g.slice(g.op("Not", unknown), 1, -span)
        known = [g.cast(k, np.float32) for k in (here, here, arrived, g.slice(told, 1, -span))]
        events = g.concat([gone, no_quorum, silent, g.slice(self.changes, 1, -span)])
        return members, events, g.concat(known)

    def _features(self, channels: str, known: str) -> str:
        g = self.g
        parts = []
        for span in SPANS:
            total = g.reduce("ReduceSum", g.slice(channels, 1, -span), [1], keep=False)
            count = g.reduce("ReduceSum", g.slice(known, 1, -span), [1], keep=False)
            parts.append(g.div(total, g.op("Max", count, self.one)))
        recent = g.reduce("ReduceSum", g.slice(self.changes, 1, -CHANGES), [1], keep=False)
        return g.concat([*parts, g.clip(recent, None, MOST_IN_ALL)], axis=1)

    def _remember(self, level: str, spread: str, unit: str, members: str) -> str:
        """Let the newest row move the memory."""
        g, logged = self.g, len(LOGGED)
        new = g.take(self.here, 1, self.rows - 1)
        bound = g.mul(unit, g.const(REACH))
        step = g.sub(g.take(self.logs, 1, self.rows - 1), level)
        step = g.mul(g.op("Max", g.op("Min", step, bound), g.op("Neg", bound)), new)
        held = g.reduce("ReduceMax", self.held, [1])
        rows = self._start(g.slice(self.state, 1, 2 * logged + 1, 2 * logged + 2), held)
        rows = g.where(self.anew, held, g.op("Max", rows, self.zero))
        gain = g.op("Max", g.const(RATE), g.div(self.one, g.add(rows, self.one)))
        grown = g.mul(g.mul(g.sub(g.op("Abs", step), spread), gain), new)
        fewer = g.op("Max", g.sub(members, g.const(MEMBERS_FADE)), self.zero)
        moved = [g.add(level, g.mul(step, gain)), g.add(spread, grown)]
        return g.concat([*moved, fewer, g.add(rows, self.one), self.here_now], axis=1)

    def _start(self, state: str, value: str) -> str:
        """Take the state where there is one."""
        return self.g.where(self.g.is_nan(state), value, state)


def features_model(fields: tuple[str, ...], rows: int, span: int = ROWS) -> bytes:
    """Serialise the graph of the features alone: training reads what serving will compute."""
    g = Graph("consensus_features")
    window = g.input("window", np.float32, ["batch", rows, len(fields)])
    state = g.input("state_in", np.float32, ["batch", STATE_SIZE])
    seen = add_features(g, window, state, fields, rows, span)
    g.output(seen.features, "features", np.float32, ["batch", len(FEATURES)])
    g.output(seen.channels, "channels", np.float32, ["batch", span, len(CHANNELS)])
    g.output(seen.known, "known", np.float32, ["batch", span, len(CHANNELS)])
    g.output(seen.state, "state_out", np.float32, ["batch", STATE_SIZE])
    return to_bytes(g.model())
