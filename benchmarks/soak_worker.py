"""`dwcp-stream` with a thread that notes what Python's memory does: python -m benchmarks.soak_worker FILE ARGUMENTS.

A line of JSON every few seconds: blocks that Python's allocator has given out, collections by generation and objects
that could not be collected. With SOAK_TRACE=1 also, at the end, the lines of code that hold more than they held
after the first five minutes.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import sys
import threading
import time
import tracemalloc
from pathlib import Path

from dwcp_stream.cli.main import main

EVERY_SECONDS = 5.0
SETTLED_SECONDS = 300.0
LINES = 40


def note(file: Path) -> None:
    """Append a line every few seconds; the thread ends with the process."""
    begun, first = time.monotonic(), None
    if os.environ.get("SOAK_TRACE"):
        tracemalloc.start(12)
        atexit.register(lambda: report(file.with_suffix(".trace"), first))
    while True:
        stats = gc.get_stats()
        line = {
            "time": time.time(),
            "blocks": sys.getallocatedblocks(),
            "collections": [s["collections"] for s in stats],
            "uncollectable": sum(s["uncollectable"] for s in stats),
        }
        with file.open("a", encoding="ascii") as out:
            out.write(json.dumps(line) + "\n")
        if tracemalloc.is_tracing() and first is None and time.monotonic() - begun > SETTLED_SECONDS:
            first = tracemalloc.take_snapshot()
        time.sleep(EVERY_SECONDS)


def report(file: Path, first: tracemalloc.Snapshot | None) -> None:
    """Write what has grown since the first snapshot."""
    if first is None:
        return
    grown = tracemalloc.take_snapshot().compare_to(first, "traceback")
    text = "\n\n".join(f"{s}\n" + "\n".join(s.traceback.format()) for s in grown[:LINES])
    file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    threading.Thread(target=note, args=(Path(sys.argv[1]),), daemon=True).start()
    sys.argv[1:2] = []
    main()
