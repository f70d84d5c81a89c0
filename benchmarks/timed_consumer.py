"""Reads a topic and notes when each record came: timed_consumer.py BOOTSTRAP TOPIC FILE, until stdin ends.

One consumer per partition: a single one asks for the partitions it has nothing of, so that a record of another has to
wait until that question is answered, which would be measured as the daemon's latency.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition


async def read(
    bootstrap: str, tp: TopicPartition, taken: list[Any], started: asyncio.Event, ended: asyncio.Event
) -> None:
    """Read one partition up to where it ends when stdin does."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False)
    consumer.assign([tp])
    await consumer.start()
    try:
        end = None
        await consumer.seek_to_end(tp)
        await consumer.position(tp)
        started.set()
        while end is None or await consumer.position(tp) < end:
            fetched = await consumer.getmany(timeout_ms=200)
            now = 1000 * time.time()
            for record in fetched.get(tp, ()):
                headers = dict(record.headers)
                if "source_timestamp_ms" in headers:
                    source = int(headers["source_timestamp_ms"])
                    taken.append((headers.get("ce_id", b"").decode(), source, record.timestamp, now))
            if end is None and ended.is_set():
                end = (await consumer.end_offsets([tp]))[tp]
    finally:
        await consumer.stop()


async def main(bootstrap: str, topic: str) -> list[Any]:
    """Read all partitions."""
    finder = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, group_id=None)
    await finder.start()
    partitions = sorted(finder.partitions_for_topic(topic) or ())
    await finder.stop()
    ended, taken, started = asyncio.Event(), [[] for _ in partitions], [asyncio.Event() for _ in partitions]
    async with asyncio.TaskGroup() as group:
        for partition, rows, ready in zip(partitions, taken, started, strict=True):
            group.create_task(read(bootstrap, TopicPartition(topic, partition), rows, ready, ended))
        for ready in started:
            await ready.wait()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        ended.set()
    return [row for rows in taken for row in rows]


if __name__ == "__main__":
    found = asyncio.run(main(*sys.argv[1:3]))
    Path(sys.argv[3]).write_text(json.dumps(found), encoding="utf-8")
