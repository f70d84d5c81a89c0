"""Coverage-guided fuzzing of the decoder: `make fuzz` runs it in an environment that has atheris.

python -m tests.fuzz.atheris_decoder [corpus folder] -runs=100000
"""

import sys
from random import Random

import atheris

with atheris.instrument_imports(include=["dwcp_stream"]):
    from dwcp_stream.streams import load_streams
    from dwcp_stream.streams.decode import ChunkDecoder

from tests.fuzz.bulk import ROOT
from tests.fuzz.payloads import NOW, Fed, Payloads, damaged
from tests.fuzz.properties import check_accounting, check_cuts, decode

STREAM = load_streams(ROOT / "config" / "streams")["consensus"]
SEPARATOR = b"\x1e"
"""Between the records of an input; JSON holds it nowhere."""
RENEWED_EVERY = 500
GOOD = Payloads(STREAM, Random(0)).sample()


def records(data: bytes) -> list[Fed]:
    """The records of an input, an odd one between two good ones."""
    stamp = int(NOW * 1000)
    found = [Fed(b"e1", value, stamp) for value in data.split(SEPARATOR)[:16]]
    return [Fed(b"e1", GOOD, stamp), *found, Fed(b"e1", GOOD, stamp)]


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Change a record as bytes, let libFuzzer change it, or put another of the generator's in its place."""
    rng = Random(seed)
    parts = data.split(SEPARATOR)
    at = rng.randrange(len(parts))
    draw = rng.random()
    if draw < 0.3 and parts[at]:
        parts[at] = damaged(parts[at], rng)
    elif draw < 0.6:
        parts[at] = atheris.Mutate(parts[at], max_size)
    else:
        parts.insert(at, Payloads(STREAM, rng).record().value or b"")
    return SEPARATOR.join(parts)[:max_size]


class Decoders:
    """One that has seen every input so far, and one that has seen few: making one takes longer than an input."""

    def __init__(self) -> None:
        self.old, self.young, self.inputs = ChunkDecoder(STREAM), ChunkDecoder(STREAM), 0

    def check(self, data: bytes) -> None:
        """Decode an input whole, in pieces and record by record."""
        self.inputs += 1
        if self.inputs % RENEWED_EVERY == 0:
            self.young = ChunkDecoder(STREAM)
        given = records(data)
        whole = decode(self.old, given)
        check_accounting(whole, given)
        assert {0, len(given) - 1} <= set(whole.record.tolist()), "good records are good whatever is between them"
        check_cuts(self.young, whole, given, range(len(given)))


def main() -> None:
    """Run until the options of libFuzzer say that it is enough."""
    atheris.Setup(sys.argv, Decoders().check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
