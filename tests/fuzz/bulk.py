"""Millions of odd records through the decoder and the pipeline's accounts: python -m tests.fuzz.bulk --records 1000000.

Exits with 1 and the seed of the round that failed; that round alone comes again with --seed.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

from dwcp_stream.pipeline import Pipeline
from dwcp_stream.streams import load_streams
from dwcp_stream.streams.decode import ChunkDecoder
from tests.fuzz.payloads import Fed, Payloads
from tests.fuzz.properties import Accounted, check_accounting, check_cuts

ROOT = Path(__file__).resolve().parents[2]
ROUND, CHUNK = 50_000, 2_000
"""Records of a round, which has a seed of its own, and of a chunk."""
CUT_EVERY = 10
SAY_SECONDS = 5.0


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1, help="of the first round; the next has the next number")
    return parser.parse_args(arguments)


def one_round(seed: int, counts: Counter[str]) -> None:
    """Feed one round's records to a new pipeline; AssertionError if something does not add up."""
    streams = list(load_streams(ROOT / "config" / "streams").values())
    stream, rng = streams[seed % len(streams)], Random(seed)
    made, fed = Payloads(stream, rng), Accounted(Pipeline(stream))
    other = ChunkDecoder(stream)
    for number in range(ROUND // CHUNK):
        records = [made.record() for _ in range(CHUNK)]
        decoded, result = fed.feed(records)
        check_accounting(decoded, records)
        if number % CUT_EVERY == 0:
            check_cuts(other, decoded, records, [rng.randrange(CHUNK) for _ in range(20)])
            check_alone(ChunkDecoder(stream), records[:50])
        counts.update(result.rejected)
        counts["good"] += len(decoded.record)
    counts["records"] += fed.records
    counts["samples"] += fed.samples


def check_alone(decoder: ChunkDecoder, records: list[Fed]) -> None:
    """Each record alone comes to what it comes to among others."""
    whole = decoder.decode([r.value for r in records], [r.key for r in records], [r.timestamp_ms for r in records])
    check_cuts(decoder, whole, records, range(len(records)))


def main(arguments: list[str] | None = None) -> int:
    """Run rounds until there have been enough records."""
    given = options(arguments)
    counts: Counter[str] = Counter()
    begun = said = time.monotonic()
    seed = given.seed
    while counts["records"] < given.records:
        try:
            one_round(seed, counts)
        except BaseException:
            sys.stderr.write(
                f"the round of seed {seed} failed; again: python -m tests.fuzz.bulk --records 1 --seed {seed}\n"
            )
            raise
        seed += 1
        if time.monotonic() - said > SAY_SECONDS:
            said = time.monotonic()
            sys.stderr.write(f"{counts['records']} records, {counts['records'] / (said - begun):.0f}/s, seed {seed}\n")
    seconds, memory = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    kinds = ", ".join(f"{word} {n}" for word, n in sorted(counts.items()) if word not in ("records", "samples"))
    sys.stdout.write(
        f"{counts['records']} records, {counts['samples']} samples, seeds {given.seed} to {seed - 1}, {seconds:.0f} s, "
        f"largest resident set {memory:.0f} MiB\n{kinds}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
