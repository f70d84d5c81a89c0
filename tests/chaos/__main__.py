"""Chaos as a program: faults in random order against a running site, and proof that nothing was lost.

python -m tests.chaos --faults 100 --samples 5000000 --seed 1
python -m tests.chaos --faults 10 --samples 150000 --only kill,broker-kill --keep /tmp/chaos --json

Needs Java and Kafka's jars (`make setup`). Exit code 1 if something was lost, changed, stuck, or ended by itself; the
message has the seed, the faults so far, and where the logs are.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.plan import ALWAYS, ON_REQUEST
from tests.chaos.program import ChaosError, Options, run_program


def say(line: str) -> None:
    """Progress, on stderr: stdout is for the result."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main(arguments: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Options()
    parser.add_argument("--faults", type=int, default=default.faults, help="how many (default %(default)s)")
    parser.add_argument("--samples", type=int, default=default.samples, help="at least (default %(default)s)")
    parser.add_argument("--seed", type=int, default=default.seed, help="of faults and samples (default %(default)s)")
    parser.add_argument("--entities", type=int, default=default.entities, help="samples a step (default %(default)s)")
    parser.add_argument("--rate", type=float, default=default.rate, help="steps per second (default %(default)s)")
    parser.add_argument("--only", metavar="A,B", help=f"classes of faults, of: {', '.join((*ALWAYS, *ON_REQUEST))}")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep topics and logs there, also after success")
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON object")
    given = parser.parse_args(arguments)
    kinds = tuple(given.only.split(",")) if given.only else ALWAYS
    unknown = set(kinds) - {*ALWAYS, *ON_REQUEST}
    if unknown:
        parser.error(f"unknown faults: {', '.join(sorted(unknown))}")
    options = Options(given.seed, given.faults, given.samples, given.entities, given.rate, kinds)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # of the load, whose broker is away time and again
    directory = given.keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        summary = asyncio.run(run_program(options, directory, say))
    except ChaosError as error:
        say(str(error))
        return 1
    sys.stdout.write((json.dumps(summary.plain()) if given.json else summary.table()) + "\n")
    if not given.keep:
        shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
