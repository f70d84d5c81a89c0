"""Sends recorded telemetry at an even pace, in a process of its own, and says how well it kept the pace.

Every sample has a time at which it is due. Each tick sends what has become due, one batch per partition, stamped
when it is put together; how late a sample was by then is part of the result. `--rate 0` sends as fast as it can.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aiokafka import AIOKafkaProducer

from benchmarks.recorded import Recording
from dwcp_stream.kafka.producer import key_hash

TICK = 0.005
BURST = 10_000


async def send(options: argparse.Namespace) -> dict[str, Any]:
    """Send the samples from `first` on; returns what was achieved."""
    recording, entities = Recording(options.entities), options.entities
    producer = AIOKafkaProducer(bootstrap_servers=options.bootstrap, acks=1, max_batch_size=900_000)
    await producer.start()
    partitions = len(await producer.partitions_for(options.topic))
    homes = [key_hash(key) % partitions for key in recording.keys]
    late, waiting, order = np.zeros(options.samples), set(), recording.order.tolist()
    gc.collect()
    gc.freeze()

    async def batch(partition: int, indices: list[int]) -> None:
        built, stamp = producer.create_batch(), int(time.time() * 1000)
        for position, index in enumerate(indices):
            number, place = divmod(index, entities)
            entity = order[place]
            value = recording.value(entity, number, options.epoch + number + place / entities)
            if built.append(key=recording.keys[entity], value=value, timestamp=stamp) is None:
                await batch(partition, indices[position:])  # in order: the rest only once this one is handed over
                break
        built.close()
        future = await producer.send_batch(built, options.topic, partition=partition)
        waiting.add(future)
        future.add_done_callback(waiting.discard)

    begun, busy, sent = time.perf_counter(), time.process_time(), 0
    while sent < options.samples:
        passed = time.perf_counter() - begun
        due = min(options.samples, int(passed * options.rate) if options.rate else sent + BURST)
        by_partition: dict[int, list[int]] = {}
        for index in range(options.first + sent, options.first + due):
            by_partition.setdefault(homes[order[index % entities]], []).append(index)
        if options.rate:
            late[sent:due] = passed - np.arange(sent, due) / options.rate
        await asyncio.gather(*(batch(partition, indices) for partition, indices in by_partition.items()))
        sent = due
        if options.rate:
            ahead = (passed // TICK + 1) * TICK - (time.perf_counter() - begun)
            await asyncio.sleep(max(0.0, ahead))
        elif len(waiting) > 4 * partitions:
            await asyncio.wait(set(waiting))
    if waiting:
        await asyncio.wait(set(waiting))
    took, busy = time.perf_counter() - begun, time.process_time() - busy
    await producer.stop()
    return {
        "rate": options.samples / took,
        "cpu_share": busy / took,
        "late_ms": {f"p{q:g}": 1000 * float(np.percentile(late, q)) for q in (50, 99, 100)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("--entities", type=int, required=True)
    parser.add_argument("--samples", type=int, required=True)
    parser.add_argument("--rate", type=float, default=0.0, help="samples per second; 0: as fast as it can")
    parser.add_argument("--first", type=int, default=0, help="number of the first sample")
    parser.add_argument("--epoch", type=float, required=True, help="event time of sample 0, epoch seconds")
    print(json.dumps(asyncio.run(send(parser.parse_args()))))


if __name__ == "__main__":
    main()
