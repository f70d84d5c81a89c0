"""Reading the few metrics that matter off etcd's Prometheus page."""

from dataclasses import dataclass, field
from typing import Final

Buckets = dict[float, float]
"""Upper bound in seconds to the count of all that is not above it."""

VALUES: Final = {
    "etcd_server_proposals_pending": "pending",
    "etcd_server_proposals_committed_total": "committed",
    "etcd_server_proposals_failed_total": "proposals_failed",
    "etcd_server_leader_changes_seen_total": "leader_changes",
    "etcd_server_is_leader": "is_leader",
    "etcd_server_has_leader": "has_leader",
    "etcd_server_slow_apply_total": "slow_apply",
    "etcd_server_heartbeat_send_failures_total": "hb_send_fail",
    "etcd_mvcc_db_total_size_in_bytes": "db_size",
}
HISTOGRAMS: Final = {
    "etcd_disk_wal_fsync_duration_seconds_bucket": "wal_fsync",
    "etcd_disk_backend_commit_duration_seconds_bucket": "backend_commit",
    "etcd_network_peer_round_trip_time_seconds_bucket": "peer_rtt",
}
_WANTED: Final = (*VALUES, *HISTOGRAMS)


@dataclass
class Scrape:
    """One member's metrics at one time: the short names of `VALUES` and `HISTOGRAMS`."""

    values: dict[str, float] = field(default_factory=dict)
    histograms: dict[str, Buckets] = field(default_factory=dict)

    def get(self, name: str) -> float:
        """Return a value, 0 where etcd did not give it."""
        return self.values.get(name, 0.0)


def parse(page: str) -> Scrape:
    """Read a page; buckets of one histogram with several labels are added up.

    A page has a thousand lines and comes five times a second, in the process that also measures: so most lines are
    only looked at, not taken apart.
    """
    found = Scrape()
    for line in page.splitlines():
        if not line.startswith(_WANTED):
            continue
        name, _, value = line.rpartition(" ")
        name, _, labels = name.partition("{")
        if name in VALUES:
            found.values[VALUES[name]] = float(value)
        elif name in HISTOGRAMS:
            bound = float(labels.partition('le="')[2].partition('"')[0])
            buckets = found.histograms.setdefault(HISTOGRAMS[name], {})
            buckets[bound] = buckets.get(bound, 0.0) + float(value)
    return found
