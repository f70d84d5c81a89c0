"""What aiokafka gives at most: `getmany` on a topic, nothing decoded. raw_consumer.py BOOTSTRAP TOPIC MESSAGES WARM."""

from __future__ import annotations

import asyncio
import sys
import time

from aiokafka import AIOKafkaConsumer


async def main(bootstrap: str, topic: str, messages: int, warm: int) -> None:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        group_id=None,
        fetch_max_bytes=50 << 20,
        max_partition_fetch_bytes=4 << 20,
    )
    await consumer.start()
    try:
        begun, busy, seen, first = 0.0, 0.0, 0, 0
        while seen < messages:
            fetched = await consumer.getmany(timeout_ms=500, max_records=20_000)
            seen += sum(map(len, fetched.values()))
            if seen >= warm and not begun:  # what is there by then does not count
                begun, busy, first = time.perf_counter(), time.process_time(), seen
        counted = max(seen - first, 1)
        rate, spent = counted / (time.perf_counter() - begun), (time.process_time() - busy) / counted
    finally:
        await consumer.stop()
    print(f"{rate:,.0f} messages/s, {1e6 * spent:.3f} us CPU/message")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:5])))
