"""`dwcp-stream` with a thread that notes what Python's memory does: python -m benchmarks.soak_worker FILE ARGUMENTS.

A line of JSON every few seconds: blocks that Python's allocator has given out, collections by generation and objects
that could not be collected. With SOAK_TRACE=120, also every minute which lines of code hold what
was allocated after the first 120 seconds.
"""

from __future__ import annotations

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
REPORT_SECONDS = 60.0
FRAMES, LINES = 8, 40


def note(file: Path) -> None:
    """Append a line every few seconds; the thread ends with the process."""
    begun = reported = time.monotonic()
    traced_after = float(os.environ.get("SOAK_TRACE", "inf"))
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
        # from the start it would take minutes: what is imported and compiled is most of it
        if not tracemalloc.is_tracing() and time.monotonic() - begun > traced_after:
            tracemalloc.start(FRAMES)
            reported = time.monotonic()
        if tracemalloc.is_tracing() and time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            report(file.with_suffix(".trace"))
        time.sleep(EVERY_SECONDS)


def report(file: Path) -> None:
    """Write what is held, by the code that asked for it."""
    gc.collect()
    held = tracemalloc.take_snapshot().statistics("traceback")
    text = "\n\n".join(f"{s}\n" + "\n".join(s.traceback.format()) for s in held[:LINES])
    file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    threading.Thread(target=note, args=(Path(sys.argv[1]),), daemon=True).start()
    sys.argv[1:2] = []
    main()
