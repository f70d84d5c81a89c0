"""Bytewax: a keyed stream with state in memory. bytewax_flow.py BOOTSTRAP TOPIC MESSAGES WARM.

Recovery is off, so nothing is durable; `stateful_flat_map` because it passes on only the messages that are due.
"""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from typing import Any

import bytewax.operators as op
import orjson
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main
from clock import FIELDS, ROWS, Clock, arguments, output_topic

BATCH = 5000
EPOCH = timedelta(seconds=10)  # of `python -m bytewax.run` without recovery


def flow(bootstrap: str, topic: str, clock: Clock) -> Dataflow:
    def decode(message: KafkaSourceMessage[bytes, bytes]) -> tuple[str, dict[str, Any]]:
        return message.key.decode(), orjson.loads(message.value)

    def keep(rows: deque[Any] | None, sample: dict[str, Any]) -> tuple[deque[Any], list[dict[str, Any]]]:
        rows = deque(maxlen=ROWS) if rows is None else rows
        rows.append([sample[field] for field in FIELDS])
        return rows, [sample] if clock.count() else []

    def message(item: tuple[str, dict[str, Any]]) -> KafkaSinkMessage[bytes, bytes]:
        return KafkaSinkMessage(item[0].encode(), orjson.dumps(item[1]))

    made = Dataflow("peer")
    records = op.input("input", made, KafkaSource([bootstrap], [topic], batch_size=BATCH))
    due = op.stateful_flat_map("keep", op.map("decode", records, decode), keep)
    op.output("output", op.map("encode", due, message), KafkaSink([bootstrap], output_topic(topic)))
    return made


if __name__ == "__main__":
    bootstrap, topic, messages, warm, _ = arguments()
    cli_main(flow(bootstrap, topic, Clock(messages, warm)), epoch_interval=EPOCH)
