"""What `make fuzz` runs: odd records by the million, then the coverage-guided programs, one after the other.

python -m tests.fuzz.run --runs 200000 --records 1000000
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from random import Random

from dwcp_stream.streams import load_streams
from tests.fuzz import bulk, control
from tests.fuzz.payloads import Payloads
from tests.fuzz.snapshots import seeds

ROOT = bulk.ROOT
CORPUS = ROOT / "var" / "fuzz"
PROGRAMS = ("decoder", "snapshot", "control")
MEMORY_MIB = 2048
SECONDS_PER_INPUT = 20


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000, help="inputs of each coverage-guided program")
    parser.add_argument("--records", type=int, default=1_000_000, help="records of the generator")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(arguments)


def corpus(program: str) -> Path:
    """Folder of a program's inputs, which grows from run to run; begun with good ones."""
    folder = CORPUS / program
    folder.mkdir(parents=True, exist_ok=True)
    streams = load_streams(ROOT / "config" / "streams")
    if program == "snapshot":
        good = seeds(streams.values())
    elif program == "control":
        good = control.seeds()
    else:
        made = Payloads(streams["consensus"], Random(1))
        good = [made.sample() for _ in range(20)] + [made.frame() for _ in range(20)]
    for number, data in enumerate(good):
        (folder / f"seed-{number:03d}").write_bytes(data)
    return folder


def main(arguments: list[str] | None = None) -> int:
    """Run all; the first failure ends it, and the input that failed is in var/fuzz."""
    given = options(arguments)
    sys.stderr.write(f"{given.records} records of the generator\n")
    bulk.main(["--records", str(given.records), "--seed", str(given.seed)])
    control.main(["--records", str(given.records // 10), "--seed", str(given.seed)])
    for program in PROGRAMS:
        sys.stderr.write(f"{given.runs} runs of the coverage-guided {program}\n")
        command = [
            sys.executable, "-m", f"tests.fuzz.atheris_{program}", str(corpus(program)), f"-runs={given.runs}",
            f"-seed={given.seed}", f"-artifact_prefix={CORPUS}/{program}-", f"-rss_limit_mb={MEMORY_MIB}",
            f"-timeout={SECONDS_PER_INPUT}", "-max_len=16384", "-print_final_stats=1", "-verbosity=0",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, env=os.environ, check=False)
        if done.returncode:
            sys.stderr.write(f"{program} failed; the input is in {CORPUS}, and this runs it again:\n")
            sys.stderr.write(f"{sys.executable} -m tests.fuzz.atheris_{program} FILE\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
