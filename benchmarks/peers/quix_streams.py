"""Quix Streams: a stateful filter over a StreamingDataFrame. quix_streams.py BOOTSTRAP TOPIC MESSAGES WARM.

State in RocksDB with a changelog topic and a checkpoint every five seconds, as by default; JSON is orjson's.
"""

from __future__ import annotations

from typing import Any

from clock import FIELDS, ROWS, Clock, arguments, output_topic
from quixstreams import Application, State


def main() -> None:
    bootstrap, topic, messages, warm, name = arguments()
    app = Application(
        broker_address=bootstrap,
        consumer_group=name,
        auto_offset_reset="earliest",
        state_dir="state",
        loglevel="WARNING",
    )
    clock = Clock(messages, warm)

    def keep(sample: dict[str, Any], state: State) -> bool:
        rows = state.get("rows", default=[])
        rows.append([sample[field] for field in FIELDS])
        state.set("rows", rows[-ROWS:])
        return clock.count()

    samples = app.topic(topic, key_deserializer="str", value_deserializer="json")
    app.dataframe(samples).filter(keep, stateful=True).to_topic(app.topic(output_topic(topic)))
    app.run()


if __name__ == "__main__":
    main()
