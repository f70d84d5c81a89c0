"""Faust as its guide shows it: a Record, an agent, a Table. idiomatic_faust.py BOOTSTRAP TOPIC MESSAGES WARM.

The table is in memory, which is the faster of its stores, and has its changelog topic, for which the producer's
batches are made larger; JSON is orjson's. Logging is off: Faust warns at every message while the changelog is behind.
"""

from __future__ import annotations

import sys

import faust
from clock import FIELDS, ROWS, Clock, arguments, output_topic

bootstrap, topic, messages, warm, name = arguments()
clock = Clock(messages, warm)
app = faust.App(
    name,
    broker=f"kafka://{bootstrap}",
    store="memory://",
    datadir="faust",
    topic_partitions=4,
    topic_disable_leader=True,
    consumer_auto_offset_reset="earliest",
    broker_rebalance_timeout=10,
    stream_wait_empty=False,
    producer_max_batch_size=1 << 18,
    producer_linger=0.02,
    web_enabled=False,
)


class Sample(faust.Record, serializer="json"):
    cluster_id: str
    ts: float
    queue_depth: float
    proposals_pending: int
    proposals_committed: int
    latency_p50: float
    latency_p95: float
    latency_p99: float
    leader_changes: int
    quorum_size: int
    active_nodes: int
    network_tier: str
    dwcp_mode: str
    consensus_type: str


samples = app.topic(topic, key_type=str, value_type=Sample)
output = app.topic(output_topic(topic), key_type=str, value_type=Sample)
windows = app.Table("windows", default=list)


@app.agent(samples)
async def keep(stream: faust.Stream[Sample]) -> None:
    async for entity, sample in stream.items():
        rows = windows[entity]
        rows.append([getattr(sample, field) for field in FIELDS])
        windows[entity] = rows[-ROWS:]
        if clock.count():
            await output.send(key=entity, value=sample)


if __name__ == "__main__":
    sys.argv[1:] = ["worker", "--loglevel=error"]
    app.main()
