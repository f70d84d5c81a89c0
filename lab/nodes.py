"""Simulator of nodes: the `node` stream's fields, one row a minute, with incidents and hard negatives.

Ranges follow the reference's "realistic" generator, but rows have a history: load with a day and a week,
noise that lasts, incidents that build up, and events that look like incidents and are not.
Run `python -m lab.nodes --help`.
"""

from pathlib import Path
from typing import Final

import click
import numpy as np
import polars as pl

from lab.files import arrived, history_columns, measured, report, write_table
from lab.incidents import History, Kind, draw_history
from lab.signals import MONDAY, STEP, Floats, ar1, entity_rng, load_shape, logistic, logit, spikes

FAMILY: Final = 1
NODES_PER_CLUSTER: Final = 10
LOST: Final = {"error_rate": 0.0}  # share of missing values; the stream refuses a sample without this one
MODES: Final = ("standard", "optimized", "fallback")
TIERS: Final = ("tier1", "tier2", "tier3")
REGIONS: Final = ("us-east-1", "us-west-2", "eu-west-1", "ap-southeast-1")
PEAK_HOUR: Final = {"us-east-1": 18.0, "us-west-2": 21.0, "eu-west-1": 13.0, "ap-southeast-1": 6.0}

# Effects are in log units for error, timeout, latency (both percentiles), tail (p99 over p50), loss, conn and
# disk; in logits for cpu and memory. At severity 1 they reach the reference's incident ranges; most are
# milder.
KINDS: Final = [
    Kind(
        "network_failure",
        {"error": 1.7, "timeout": 2.4, "latency": 0.8, "tail": 0.4, "loss": 2.2, "conn": 3.0, "cpu": -0.3},
        lead=(5, 30), plateau=(10, 60), recovery=(5, 20), weight=1.2,
    ),
    Kind(
        "memory_leak",
        {"error": 1.3, "timeout": 1.4, "latency": 0.7, "tail": 0.7, "conn": 1.0, "cpu": 0.8, "memory": 2.6,
         "disk": 0.8},
        lead=(60, 240), plateau=(15, 50), recovery=(2, 8), weight=0.8,
    ),
    Kind(
        "disk_full",
        {"error": 2.0, "timeout": 1.3, "latency": 0.6, "tail": 1.0, "disk": 1.3, "cpu": 0.3},
        lead=(20, 120), plateau=(15, 90), recovery=(5, 30), weight=0.8,
    ),
    Kind(
        "overload",
        {"error": 1.1, "timeout": 1.8, "latency": 1.1, "tail": 0.6, "conn": 1.4, "cpu": 2.0, "memory": 0.9,
         "disk": 0.5},
        lead=(15, 60), plateau=(15, 80), recovery=(10, 40), weight=1.2,
    ),
    Kind(
        "crash",
        {"error": 2.6, "timeout": 2.0, "latency": 0.4, "tail": 0.7, "conn": 3.2, "cpu": -0.7, "memory": -0.9},
        lead=(2, 12), plateau=(6, 25), recovery=(5, 20), weight=1.0, silence=0.25,
    ),
    Kind(
        "load_burst",
        {"error": 0.4, "timeout": 0.5, "latency": 0.55, "tail": 0.2, "cpu": 1.9, "memory": 0.5, "disk": 0.8},
        lead=(3, 30), plateau=(10, 90), recovery=(5, 40), weight=1.5, incident=False,
    ),
    Kind(
        "batch_job",
        {"cpu": 1.4, "memory": 1.2, "disk": 1.5, "tail": 0.35},
        lead=(1, 3), plateau=(20, 150), recovery=(1, 5), weight=1.0, incident=False,
    ),
    Kind(
        "maintenance",
        {"cpu": -1.2, "memory": -1.0, "disk": 0.7, "conn": 1.8, "error": 0.5, "fallback": 1.0},
        lead=(1, 10), plateau=(20, 120), recovery=(1, 10), weight=0.8, incident=False, silence=0.15,
    ),
    Kind(
        "tier_change",
        {"latency": 0.75, "loss": 0.9, "timeout": 0.5, "tier": 1.0},
        lead=(0, 1), plateau=(60, 480), recovery=(0, 1), weight=0.6, incident=False,
    ),
    Kind(
        "bad_client",  # one caller sends broken requests: errors, and nothing is wrong with the node
        {"error": 2.9},
        lead=(1, 10), plateau=(5, 60), recovery=(1, 10), weight=1.0, incident=False,
    ),
    Kind(
        "lossy_path",  # retransmissions hide it from the requests
        {"loss": 2.1, "latency": 0.25, "tail": 0.3, "timeout": 0.4},
        lead=(1, 20), plateau=(10, 90), recovery=(1, 20), weight=0.8, incident=False,
    ),
]  # fmt: skip


def simulate_nodes(
    nodes: int,
    days: float,
    seed: int,
    *,
    start: float = MONDAY,
    missing: float = 0.005,
    incidents: float = 0.35,
) -> pl.DataFrame:
    """Make the telemetry of a number of nodes.

    Parameters
    ----------
    nodes
        How many; node i is the same whatever the number.
    days
        Length of the history.
    seed
        Same seed, same rows.
    start
        Epoch seconds of the first step, UTC.
    missing
        Share of rows that never arrive.
    incidents
        Incidents per node and day; hard negatives are 1.6 times as many.

    Returns
    -------
    polars.DataFrame
        Columns ts, cluster_id, node_id, the twelve fields, region, label, kind, phase, severity; ordered by
        time, then node.
    """
    steps = round(days * 1440)
    ts = np.asarray(start + STEP * np.arange(steps), np.float64)
    parts = [_node(index, seed, ts, missing, incidents) for index in range(nodes)]
    return pl.concat(parts).sort("ts", "cluster_id", "node_id", maintain_order=True)


def _node(index: int, seed: int, ts: Floats, missing: float, incidents: float) -> pl.DataFrame:
    rng = entity_rng(seed, FAMILY, index)
    steps, cluster = len(ts), index // NODES_PER_CLUSTER
    region = REGIONS[cluster % len(REGIONS)]
    history = draw_history(rng, steps, KINDS, incidents, 1.6 * incidents)
    # the nodes of a cluster share part of their load; drawn from the cluster's own generator
    shared = ar1(entity_rng(seed, FAMILY + 100, cluster), steps, 90.0, 0.12)
    load = load_shape(ts, PEAK_HOUR[region] + rng.normal(0, 1), rng.uniform(0.2, 0.45), rng.uniform(0.6, 0.85))
    load = np.clip(load * (1.0 + shared + ar1(rng, steps, 25.0, 0.10)), 0.05, 2.5)
    fields = _fields(rng, history, load, tier := int(rng.choice(3, p=(0.6, 0.3, 0.1))))
    base_mode = int(rng.choice(3, p=(0.70, 0.25, 0.05)))
    mode = np.where(history.effect("fallback") > 0.2, 2, base_mode)
    mode = np.where((history.label == 1) & (history.severity > 0.8) & (history.phase == 2), 2, mode)
    tiers = np.minimum(tier + (history.effect("tier") > 0.05), 2)
    keep = arrived(rng, history, missing)
    columns: dict[str, object] = {
        "ts": ts[keep],
        "cluster_id": f"cluster-{cluster:02d}",
        "node_id": f"node-{index:03d}",
        **{name: measured(rng, values, LOST.get(name, 0.002))[keep] for name, values in fields.items()},
        "dwcp_mode": np.array(MODES)[mode][keep].tolist(),
        "network_tier": np.array(TIERS)[tiers][keep].tolist(),
        "region": region,
        **history_columns(history, KINDS, keep),
    }
    return pl.DataFrame(columns)


def _fields(rng: np.random.Generator, history: History, load: Floats, tier: int) -> dict[str, Floats]:
    """Return the ten numeric fields: node's own level x load x lasting noise x what is happening."""
    steps = len(load)

    def around(level: float, lasting: float, half_life: float, white: float) -> Floats:
        own = level * np.exp(rng.normal(0, 0.25))
        noise = ar1(rng, steps, half_life, lasting) + rng.normal(0, white, steps)
        return np.asarray(own * np.exp(noise), np.float64)

    pressure = load - 1.0
    cpu_base, memory_base = rng.uniform(0.25, 0.48), rng.uniform(0.3, 0.6)
    cpu = logistic(logit(cpu_base) + 1.1 * pressure + ar1(rng, steps, 8.0, 0.28) + history.effect("cpu"))
    memory = logistic(logit(memory_base) + 0.35 * pressure + ar1(rng, steps, 240.0, 0.3) + history.effect("memory"))
    queueing = 0.35 * pressure + 0.8 * np.maximum(cpu - 0.75, 0)
    latency = history.effect("latency")
    p50 = around((9.5, 12.5, 17.0)[tier], 0.13, 30.0, 0.06) * np.exp(queueing + latency)
    ratio = 2.7 * np.exp(
        ar1(rng, steps, 12.0, 0.13) + rng.normal(0, 0.09, steps) + spikes(rng, steps, 0.004, 0.5)
        + 0.3 * np.maximum(cpu - 0.8, 0) + history.effect("tail")
    )  # fmt: skip
    p99 = p50 * np.maximum(ratio, 1.02)
    error = around(0.0006, 0.45, 20.0, 0.35) * np.exp(spikes(rng, steps, 0.003, 1.2) + history.effect("error"))
    timeout = around(0.0004, 0.45, 20.0, 0.35) * np.exp(
        0.5 * queueing + spikes(rng, steps, 0.003, 1.0) + history.effect("timeout")
    )
    loss = around((0.004, 0.006, 0.009)[tier], 0.4, 45.0, 0.25) * np.exp(
        spikes(rng, steps, 0.003, 0.8) + history.effect("loss")
    )
    disk = around(30.0, 0.22, 15.0, 0.18) * np.exp(0.5 * pressure + history.effect("disk"))
    # violations follow what the callers see, so they lag nothing and lead nothing, but are few and noisy
    sla = 0.05 * (p99 / 35.0) ** 1.6 * (error / 0.0006) ** 0.35
    conn = 0.03 * np.exp(0.8 * pressure + history.effect("conn")) * (timeout / 0.0004) ** 0.2
    return {
        "error_rate": np.minimum(error, 0.5),
        "timeout_rate": np.minimum(timeout, 0.5),
        "latency_p50": p50,
        "latency_p99": p99,
        "sla_violations": rng.poisson(np.minimum(sla, 40.0)).astype(np.float64),
        "connection_failures": rng.poisson(np.minimum(conn, 40.0)).astype(np.float64),
        "packet_loss_rate": np.minimum(loss, 0.5),
        "cpu_usage": 100.0 * cpu,
        "memory_usage": 100.0 * memory,
        "disk_io": np.minimum(disk, 2000.0),
    }


@click.command(help=__doc__)
@click.option("--nodes", default=40, show_default=True, help="How many nodes, ten to a cluster.")
@click.option("--days", default=14.0, show_default=True, help="Length of the history.")
@click.option("--seed", default=7, show_default=True, help="Same seed, same rows.")
@click.option("--start", default=MONDAY, show_default=True, help="First step, epoch seconds.")
@click.option("--incidents", default=0.35, show_default=True, help="Incidents per node and day.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="FILE.parquet, .csv or .csv.gz.")
def main(*, nodes: int, days: float, seed: int, start: float, incidents: float, out: Path) -> None:
    """Write the telemetry of simulated nodes."""
    table = simulate_nodes(nodes, days, seed, start=start, incidents=incidents)
    write_table(table, out)
    report(table, out)


if __name__ == "__main__":
    main()
