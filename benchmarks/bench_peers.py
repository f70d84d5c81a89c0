"""The quick comparison: the worker beside the same frameworks as `bench ingest`, at 1,000 entities only.

dwcp-stream bench peers
dwcp-stream bench peers --peers faust --json
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import bench_ingest
from benchmarks.support import options_of, report

ENTITIES = 1_000


def measure(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Figures of one topic of single samples."""
    options.entities, options.frame_samples = [ENTITIES], 0
    found = bench_ingest.measure(options, directory)
    del found["frames"]
    return {**found, "benchmark": "peers"}


def text(found: dict[str, Any]) -> str:
    """Figures as a table."""
    return bench_ingest.text(found)


def main() -> None:
    parser = options_of(__doc__)
    bench_ingest.arguments(parser, samples=400_000, rounds=1)
    options = parser.parse_args()
    options.peers = bench_ingest.peers_wanted(parser, options.peers)
    with tempfile.TemporaryDirectory(prefix="dwcp-bench-") as directory:
        found = measure(options, Path(directory))
    report(found, options.json, text(found))


if __name__ == "__main__":
    main()
