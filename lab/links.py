"""Simulator of WAN links: the `link` stream's fields, one row a minute, with incidents and hard negatives.

Levels follow reference 4.1 (throughput around 500 Mbps with a day and a week, loss in percents at most,
round trips from a metro to a long haul), but a link keeps its identity, its noise lasts, and congestion,
degradation and route changes have a beginning and an end. Run `python -m lab.links --help`.
"""

from pathlib import Path
from typing import Final

import click
import numpy as np
import polars as pl

from lab.files import arrived, history_columns, measured, report, write_table
from lab.incidents import History, Kind, draw_history
from lab.signals import MONDAY, STEP, Floats, ar1, entity_rng, load_shape, spikes

FAMILY: Final = 2
LINKS_PER_CLUSTER: Final = 10
MODES: Final = ("standard", "turbo", "reliable")
TIERS: Final = ("tier1", "tier2", "tier3")
TRANSPORTS: Final = ("tcp", "quic", "udp")
REGIONS: Final = ("us-east-1", "us-west-2", "eu-west-1", "ap-southeast-1")
PEAK_HOUR: Final = {"us-east-1": 18.0, "us-west-2": 21.0, "eu-west-1": 13.0, "ap-southeast-1": 6.0}
# link type: share of links, capacity in Mbps, propagation round trip in ms
TYPES: Final = {"dc": (0.3, 1400.0, 2.0), "metro": (0.35, 1000.0, 9.0), "wan": (0.3, 800.0, 55.0),
                "edge": (0.05, 300.0, 28.0)}  # fmt: skip

# Effects, all in log units: capacity, demand, delay (of the propagation time), loss, jitter.
KINDS: Final = [
    Kind("congestion", {"demand": 0.75, "loss": 1.2, "jitter": 0.6},
         lead=(20, 90), plateau=(20, 120), recovery=(10, 60), weight=1.4),
    Kind("fibre_degradation", {"capacity": -0.5, "loss": 2.4, "jitter": 0.4},
         lead=(60, 300), plateau=(30, 180), recovery=(2, 10), weight=0.8),
    Kind("route_flap", {"delay": 0.6, "jitter": 1.6, "loss": 1.5},
         lead=(2, 10), plateau=(10, 60), recovery=(5, 20), weight=0.8),
    Kind("partial_outage", {"capacity": -1.6, "loss": 2.0, "jitter": 1.0},
         lead=(2, 15), plateau=(5, 45), recovery=(5, 30), weight=0.7, silence=0.15),
    Kind("bulk_transfer", {"demand": 0.55},
         lead=(1, 5), plateau=(20, 180), recovery=(1, 10), weight=1.5, incident=False),
    Kind("maintenance", {"demand": -1.0, "delay": 0.3, "reliable": 1.0},
         lead=(2, 15), plateau=(30, 150), recovery=(2, 15), weight=0.8, incident=False, silence=0.1),
    Kind("tier_change", {"capacity": -0.25, "delay": 0.2, "tier": 1.0},
         lead=(0, 1), plateau=(120, 720), recovery=(0, 1), weight=0.6, incident=False),
    Kind("turbo", {"capacity": 0.2, "demand": 0.35, "turbo": 1.0},
         lead=(0, 2), plateau=(30, 240), recovery=(0, 2), weight=0.8, incident=False),
]  # fmt: skip


def simulate_links(
    links: int,
    days: float,
    seed: int,
    *,
    start: float = MONDAY,
    missing: float = 0.005,
    incidents: float = 0.5,
) -> pl.DataFrame:
    """Make the telemetry of a number of links.

    Parameters
    ----------
    links
        How many; link i is the same whatever the number.
    days
        Length of the history.
    seed
        Same seed, same rows.
    start
        Epoch seconds of the first step, UTC.
    missing
        Share of rows that never arrive.
    incidents
        Incidents per link and day; hard negatives are 1.6 times as many.

    Returns
    -------
    polars.DataFrame
        Columns ts, cluster_id, node_id, peer_id, the link's fields, label, kind, phase, severity; ordered
        by time, then link.
    """
    steps = round(days * 1440)
    ts = np.asarray(start + STEP * np.arange(steps), np.float64)
    parts = [_link(index, seed, ts, missing, incidents) for index in range(links)]
    return pl.concat(parts).sort("ts", "cluster_id", "node_id", "peer_id", maintain_order=True)


def _link(index: int, seed: int, ts: Floats, missing: float, incidents: float) -> pl.DataFrame:
    rng = entity_rng(seed, FAMILY, index)
    steps, cluster = len(ts), index // LINKS_PER_CLUSTER
    region = REGIONS[cluster % len(REGIONS)]
    link_type = str(rng.choice(list(TYPES), p=[share for share, _, _ in TYPES.values()]))
    history = draw_history(rng, steps, KINDS, incidents, 1.6 * incidents)
    shared = ar1(entity_rng(seed, FAMILY + 100, cluster), steps, 120.0, 0.10)
    load = load_shape(ts, PEAK_HOUR[region] + rng.normal(0, 1.5), rng.uniform(0.25, 0.55), rng.uniform(0.5, 0.85))
    load = np.clip(load * (1.0 + shared + ar1(rng, steps, 40.0, 0.12) + rng.normal(0, 0.03, steps)), 0.05, 3.0)
    transport = str(rng.choice(TRANSPORTS, p=(0.6, 0.3, 0.1)))
    tier, mode = int(rng.choice(3, p=(0.3, 0.5, 0.2))), int(rng.choice(3, p=(0.5, 0.3, 0.2)))
    fields = _fields(rng, history, load, TYPES[link_type][1:], transport)
    modes = np.where(history.effect("turbo") > 0.2, 1, np.where(history.effect("reliable") > 0.2, 2, mode))
    tiers = np.minimum(tier + (history.effect("tier") > 0.05), 2)
    keep = arrived(rng, history, missing)
    columns: dict[str, object] = {
        "ts": ts[keep],
        "cluster_id": f"cluster-{cluster:02d}",
        "node_id": f"node-{index:03d}",
        "peer_id": f"peer-{int(rng.integers(1000)):03d}",
        **{name: measured(rng, values, 0.002)[keep] for name, values in fields.items()},
        "region": region,
        "az": region + "abc"[int(rng.integers(3))],
        "link_type": link_type,
        "dwcp_mode": np.array(MODES)[modes][keep].tolist(),
        "network_tier": np.array(TIERS)[tiers][keep].tolist(),
        "transport_type": transport,
        **history_columns(history, KINDS, keep),
    }
    return pl.DataFrame(columns)


def _fields(
    rng: np.random.Generator, history: History, load: Floats, size: tuple[float, float], transport: str
) -> dict[str, Floats]:
    """Return the numeric fields: demand meets capacity, and the queue between them makes delay and loss."""
    steps = len(load)
    capacity = size[0] * np.exp(rng.normal(0, 0.3) + history.effect("capacity") + ar1(rng, steps, 60.0, 0.03))
    demand = 0.5 * size[0] * rng.uniform(0.7, 1.2) * load * np.exp(history.effect("demand"))
    bandwidth = capacity * np.tanh(demand / capacity)  # close to demand when idle, to capacity when saturated
    used = np.clip(demand / capacity, 0.0, 1.6)
    propagation = size[1] * np.exp(rng.normal(0, 0.25) + history.effect("delay") + ar1(rng, steps, 200.0, 0.02))
    queueing = (1.0 + 0.2 * size[1]) * (1.2 * used**3 + 3.0 * np.maximum(used - 0.9, 0.0))
    queueing = queueing * np.exp(ar1(rng, steps, 6.0, 0.25))
    latency = np.clip(propagation + queueing + rng.gamma(2.0, 0.15, steps), 0.2, 900.0)
    quirk = rng.normal(0, 0.3)
    loss_base = 0.0015 * np.exp(quirk + ar1(rng, steps, 50.0, 0.45) + rng.normal(0, 0.2, steps))
    loss = loss_base * np.exp(2.2 * used**2 + spikes(rng, steps, 0.004, 0.9) + history.effect("loss"))
    loss = np.minimum(loss, 0.4)
    jitter = (0.3 + 0.06 * latency + 0.35 * queueing) * np.exp(
        ar1(rng, steps, 15.0, 0.25) + rng.normal(0, 0.15, steps) + history.effect("jitter")
    )
    sent = bandwidth * 1e6 / 8.0 * STEP
    packets = sent / 1400.0
    return {
        "bandwidth_mbps": bandwidth,
        "latency_ms": latency,
        "packet_loss": loss,
        "jitter_ms": np.clip(jitter, 0.02, 400.0),
        # the transport's own estimate: smoothed, so it lags the probe's latency
        "rtt_ms": _smoothed(latency * np.exp(rng.normal(0, 0.02, steps)), 0.4),
        "throughput_mbps": bandwidth * (1.0 - loss) * 0.96 * np.exp(rng.normal(0, 0.015, steps)),
        "bytes_tx": np.round(sent * rng.uniform(0.5, 0.8) * np.exp(rng.normal(0, 0.05, steps))),
        "bytes_rx": np.round(sent * rng.uniform(0.2, 0.5) * np.exp(rng.normal(0, 0.05, steps))),
        "retransmits": rng.poisson(np.where(transport == "udp", 0.02, 1.0) * packets * loss * 1e-3 + 0.5).astype(float),
        "congestion_window": np.clip(2.0 * bandwidth / (1 + 25 * loss) * np.exp(rng.normal(0, 0.08, steps)), 4, 1e4),
        "queue_depth": rng.poisson(np.clip(60.0 * used**3 + 2.0 * queueing, 0.0, 400.0)).astype(np.float64),
    }


def _smoothed(x: Floats, weight: float) -> Floats:
    """Return the exponential moving average with the weight of the newest value, by a short kernel."""
    kernel = weight * (1.0 - weight) ** np.arange(24)
    head = np.concatenate([np.full(len(kernel) - 1, x[0]), x])
    return np.asarray(np.convolve(head, kernel / kernel.sum(), mode="valid"), np.float64)


@click.command(help=__doc__)
@click.option("--links", default=40, show_default=True, help="How many links, ten to a cluster.")
@click.option("--days", default=14.0, show_default=True, help="Length of the history.")
@click.option("--seed", default=7, show_default=True, help="Same seed, same rows.")
@click.option("--start", default=MONDAY, show_default=True, help="First step, epoch seconds.")
@click.option("--incidents", default=0.5, show_default=True, help="Incidents per link and day.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="FILE.parquet, .csv or .csv.gz.")
def main(*, links: int, days: float, seed: int, start: float, incidents: float, out: Path) -> None:
    """Write the telemetry of simulated links."""
    table = simulate_links(links, days, seed, start=start, incidents=incidents)
    write_table(table, out)
    report(table, out)


if __name__ == "__main__":
    main()
