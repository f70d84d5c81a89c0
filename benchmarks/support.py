"""What the benchmarks share: the project's path, the machine's state, medians, tables, one JSON object.

Absolute figures belong to one machine and one moment, so every benchmark measures what it compares with in the same
run, by turns, and prints ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # the tests' Kafka is not part of the installed package
    sys.path.insert(0, str(ROOT))


def machine() -> dict[str, Any]:
    """What the figures were measured on, and how busy it was."""
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def guard() -> list[str]:
    """What a command begins with to be killed when this process dies, where the system can do that."""
    found = shutil.which("setpriv")
    return [found, "--pdeathsig", "KILL"] if found else []


def median(values: Sequence[float]) -> float:
    """Median of the rounds; for an even number the mean of the two in the middle."""
    return statistics.median(values)


def say(line: str = "") -> None:
    """Progress, on stderr: stdout is for the result."""
    print(line, file=sys.stderr, flush=True)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in plain text; the first column flush left, the others right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in (head, *rows)
    ]
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(lines)


def options_of(doc: str | None) -> argparse.ArgumentParser:
    """The options of a benchmark whose module has this docstring; each has `--json`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def run_benchmark(
    parser: argparse.ArgumentParser,
    measure: Callable[[argparse.Namespace, Path], dict[str, Any]],
    text: Callable[[dict[str, Any]], str],
) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Measure in a folder that is gone afterwards, and print the result."""
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dwcp-bench-") as directory:
        found = measure(options, Path(directory))
    report(found, options.json, text(found))
    return options, found


def report(found: dict[str, Any], as_json: bool, text: str) -> None:
    """Print the result: one JSON object, or text with how it was measured and the machine below it."""
    if as_json:
        print(json.dumps(found))
        return
    state = found["machine"]
    print(text)
    print(f"\n{found['method']}")
    print(f"{state['cores']} cores, load average {state['load_average']} at the start, Python {state['python']}\n")
