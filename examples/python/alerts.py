"""Prints the alerts of dwcp-stream as they come, each once: python alerts.py BOOTSTRAP [--prefix dwcp.] [--count N].

Needs aiokafka alone.
"""

import argparse
import asyncio
import json
from typing import Any

from aiokafka import AIOKafkaConsumer


async def follow(bootstrap: str, topic: str, count: int) -> None:
    """Read the topic from its beginning; stop after `count` alerts, or never."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        seen: set[bytes] = set()
        async for record in consumer:
            # After a crash the daemon may publish an alert again: the id is the same, so it counts once.
            event_id = dict(record.headers)["ce_id"]
            if event_id not in seen:
                seen.add(event_id)
                print(line(json.loads(record.value)), flush=True)
                if len(seen) == count:
                    return
    finally:
        await consumer.stop()


def line(alert: dict[str, Any]) -> str:
    """Say when, what, how bad, where, and which field told; docs/asyncapi.yaml has all that an alert holds."""
    why = alert["fields"][0]["name"] if alert["fields"] else "-"
    score = "-" if alert["score"] is None else f"{alert['score']:.2f}"
    return " ".join(
        (alert["event_time"], alert["action"], alert["severity"], alert["stream"], alert["entity"], score, why)
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bootstrap")
    parser.add_argument("--prefix", default="dwcp.", help="what the daemon's topics begin with")
    parser.add_argument("--count", type=int, default=0, help="stop after so many alerts; 0: never")
    options = parser.parse_args()
    asyncio.run(follow(options.bootstrap, f"{options.prefix}anomalies", options.count))
