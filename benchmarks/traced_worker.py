"""The worker, noting for every alert when its chunk was fetched, begun and processed: traced_worker.py worker STREAM.

Lines of JSON go to the file named by TRACE_FILE: [ce_id, fetched, begun, processed], epoch milliseconds.
"""

from __future__ import annotations

import json
import os
import sys
import time
from bisect import bisect_left
from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dwcp_stream.cli.main import run
from dwcp_stream.kafka import lane, processor
from dwcp_stream.pipeline import SOURCE_TIMESTAMP, Pipeline

FILE = Path(os.environ["TRACE_FILE"])


class TimedChunk(lane.FetchedChunk):
    """A fetched chunk that notes when it came."""

    __slots__ = ()
    came: ClassVar[defaultdict[int, list[tuple[int, float]]]] = defaultdict(list)
    """By partition: latest timestamp up to the end of a chunk, and when it was fetched."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        came = self.came[self.partition]
        latest = max(record.timestamp for record in self.records)  # timestamps need not ascend
        came.append((max(latest, came[-1][0]) if came else latest, 1000 * time.time()))


def trace() -> None:
    """Put the clock readings around the parts that the worker looks up by name."""
    times: dict[str, float] = {}
    to_chunk, process, out = processor.to_chunk, Pipeline.process, FILE.open("a", buffering=1, encoding="utf-8")

    def begun(tp: Any, records: list[Any]) -> Any:
        times["begun"] = 1000 * time.time()
        return to_chunk(tp, records)

    def processed(pipeline: Pipeline, chunk: Any, state: Any = None) -> Any:
        result = process(pipeline, chunk, state)
        now, lines, came = 1000 * time.time(), [], TimedChunk.came[chunk.partition]
        for output in result.outputs:
            headers = dict(output.headers)
            if output.topic == "anomalies" and SOURCE_TIMESTAMP in headers:
                place = bisect_left(came, (int(headers[SOURCE_TIMESTAMP]), 0.0))
                lines.append(json.dumps([headers["ce_id"].decode(), came[place][1], times["begun"], now]))
        if lines:
            out.write("\n".join(lines) + "\n")
        del came[: bisect_left(came, (int(chunk.timestamps_ms[-1]), 0.0))]
        return result

    lane.FetchedChunk = TimedChunk  # type: ignore[misc]
    processor.to_chunk = begun  # type: ignore[assignment]
    Pipeline.process = processed  # type: ignore[method-assign]


if __name__ == "__main__":
    trace()
    sys.exit(run(sys.argv[1:]))
