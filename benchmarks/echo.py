"""The least that reading and answering costs: every n-th record of a topic goes to another, with aiokafka alone.

echo.py BOOTSTRAP FROM TO EVERY FETCH_WAIT_MS, from the end of the topic on, until it is killed.
"""

from __future__ import annotations

import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition


async def main(bootstrap: str, source: str, target: str, every: int, wait_ms: int) -> None:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False, fetch_max_wait_ms=wait_ms
    )
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await consumer.start()
    await producer.start()
    partitions = [TopicPartition(source, p) for p in sorted(await producer.partitions_for(source))]
    consumer.assign(partitions)
    await consumer.seek_to_end(*partitions)
    for tp in partitions:
        await consumer.position(tp)
    print("ready", flush=True)
    count = 0
    while True:
        for records in (await consumer.getmany(timeout_ms=200, max_records=4000)).values():
            for record in records:
                count += 1
                if count % every == 0:
                    headers = [("source_timestamp_ms", str(record.timestamp).encode())]
                    await producer.send(target, record.value, record.key, headers=headers)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])))
