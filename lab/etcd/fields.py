"""From what members and load say to one row: the consensus stream's twelve fields, and columns beside them."""

from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np

from dwcp_stream.collect.quantile import growth_quantile
from lab.etcd.load import Window
from lab.etcd.scrape import Scrape

Row = dict[str, float | int | str | None]

FIELDS: Final = (
    "queue_depth",
    "proposals_pending",
    "proposals_committed",
    "latency_p50",
    "latency_p95",
    "latency_p99",
    "leader_changes",
    "quorum_size",
    "active_nodes",
    "network_tier",
    "dwcp_mode",
    "consensus_type",
)
RTT_ROWS: Final = 10  # etcd probes its peers some seconds apart, so one row has too few


def percentiles(values: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Return p50, p95 and p99, rounded to microseconds if the values are ms; None of nothing."""
    if not len(values):
        return None, None, None
    low, middle, high = np.percentile(np.asarray(values), (50, 95, 99))
    return round(float(low), 3), round(float(middle), 3), round(float(high), 3)


class Deriver:
    """Makes rows; keeps what the last ones said, since most fields are growth.

    Parameters
    ----------
    members
        Size of the cluster.
    """

    def __init__(self, members: int) -> None:
        self._members = members
        self._last: list[Scrape | None] = [None] * members
        self._committed: float | None = None
        self._leader = -1
        self._led: deque[tuple[int, Scrape]] = deque(maxlen=RTT_ROWS + 1)

    def row(self, scrapes: Sequence[Scrape | None], healthy: Sequence[bool], load: Window, dt: float) -> Row:
        """Return one row.

        Parameters
        ----------
        scrapes
            Of each member; None for one that did not answer in time.
        healthy
            Whether each member's /health said true in time.
        load
            What the load did since the last row.
        dt
            Seconds since the last row.

        Returns
        -------
        dict
            `FIELDS`, then columns `x_*`; None where there is nothing to say.
        """
        answering = [scrape for scrape in scrapes if scrape is not None]
        leader = max(
            (i for i, scrape in enumerate(scrapes) if scrape is not None and scrape.get("is_leader")),
            key=lambda i: (scrapes[i] or Scrape()).get("committed"),
            default=-1,
        )
        led = scrapes[leader] if leader >= 0 else None
        p50, p95, p99 = percentiles(load.latencies)
        pending = led.get("pending") if led else sum(scrape.get("pending") for scrape in answering)
        row: Row = {
            "queue_depth": load.in_flight,
            "proposals_pending": pending,
            "proposals_committed": self._commits(led, dt),
            "latency_p50": p50,
            "latency_p95": p95,
            "latency_p99": p99,
            "leader_changes": max(self._grown(scrapes, "leader_changes"), default=0.0),
            "quorum_size": self._members // 2 + 1,
            "active_nodes": sum(healthy),
            "network_tier": 1,
            "dwcp_mode": "hybrid",
            "consensus_type": "raft",
            "x_members": self._members,
            **_load_columns(load),
            **self._leader_columns(leader, led),
            "x_leader_id": leader,
            "x_answering": len(answering),
            "x_have_leader": sum(bool(scrape.get("has_leader")) for scrape in answering),
            **{f"x_{n}": sum(self._grown(scrapes, n)) for n in ("proposals_failed", "slow_apply", "hb_send_fail")},
            "x_db_size_mb": round(led.get("db_size") / (1 << 20), 2) if led else None,
        }
        for i, scrape in enumerate(scrapes):
            self._last[i] = scrape or self._last[i]
        self._leader = leader
        return row

    def _commits(self, led: Scrape | None, dt: float) -> float | None:
        """Return commits per second: the growth of the largest index that a leader has told."""
        before = self._committed
        if led is not None:
            self._committed = max(led.get("committed"), before or 0.0)
        if before is None or self._committed is None:
            return None
        return round((self._committed - before) / dt, 2)

    def _grown(self, scrapes: Sequence[Scrape | None], name: str) -> list[float]:
        """Return the growth since each member was last seen; nothing from one that began anew or is new."""
        return [
            max(scrape.get(name) - last.get(name), 0.0)
            for scrape, last in zip(scrapes, self._last, strict=True)
            if scrape is not None and last is not None
        ]

    def _leader_columns(self, leader: int, led: Scrape | None) -> Row:
        before = self._last[leader] if led is not None and leader == self._leader else None
        if led is not None:
            self._led.append((leader, led))
        oldest = next((scrape for who, scrape in self._led if who == leader), None)
        return {
            "x_wal_fsync_p99_ms": _grown_p99(before, led, "wal_fsync"),
            "x_backend_commit_p99_ms": _grown_p99(before, led, "backend_commit"),
            "x_peer_rtt_p99_ms": _grown_p99(oldest, led, "peer_rtt"),
        }


def _grown_p99(before: Scrape | None, after: Scrape | None, name: str) -> float | None:
    if before is None or after is None:
        return None
    seconds = growth_quantile(before.histograms.get(name, {}), after.histograms.get(name, {}), 0.99)
    return None if seconds is None else round(seconds * 1000, 3)


def _load_columns(load: Window) -> Row:
    return {
        "x_rate_set": round(load.rate, 2),
        "x_offered": load.offered,
        "x_completed": load.completed,
        "x_errors": load.errors,
        "x_timeouts": load.timeouts,
        "x_rejected": load.rejected,
        "x_gets": len(load.get_latencies),
        "x_get_p99_ms": percentiles(load.get_latencies)[2],
        "x_send_late_p99_ms": percentiles(load.late)[2],
    }
