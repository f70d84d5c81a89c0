"""Coverage-guided fuzzing of the snapshot codec and of what it feeds: `make fuzz` runs it.

python -m tests.fuzz.atheris_snapshot [corpus folder] -runs=100000
"""

import sys
from random import Random

import atheris

with atheris.instrument_imports(include=["dwcp_stream"]):
    from dwcp_stream.errors import StateError
    from dwcp_stream.streams import load_streams
    from dwcp_stream.windows import Windows, decode_partition_record, decode_snapshot

from tests.fuzz.bulk import ROOT
from tests.fuzz.payloads import damaged
from tests.fuzz.snapshots import seeds

STREAMS = load_streams(ROOT / "config" / "streams")


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Change bytes of an input, or begin with a snapshot of another stream."""
    rng = Random(seed)
    if not data or rng.random() < 0.05:
        data = rng.choice(SEEDS)
    changed = damaged(data, rng) if rng.random() < 0.5 else atheris.Mutate(data, max_size)
    return changed[:max_size]


def one_input(data: bytes) -> None:
    """Read an input as an entity's snapshot of every stream, and as a partition's record."""
    for stream in STREAMS.values():
        try:
            snapshot = decode_snapshot(data, stream)
        except StateError:
            continue
        windows = Windows(stream)
        windows.load({"a": snapshot.state})
        windows.view("a").features()
    try:
        decode_partition_record(data)
    except StateError:
        return


SEEDS = seeds(STREAMS.values())


def main() -> None:
    """Run until the options of libFuzzer say that it is enough."""
    atheris.Setup(sys.argv, one_input, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
