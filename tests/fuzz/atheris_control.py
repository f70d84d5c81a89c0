"""Coverage-guided fuzzing of what is signed: `make fuzz` runs it.

Every input is a payload that a known key has signed, so that it reaches the decoder and what comes after it.

python -m tests.fuzz.atheris_control [corpus folder] -runs=100000
"""

import sys

import atheris

with atheris.instrument_imports(include=["dwcp_stream"]):
    from dwcp_stream.control import REFUSED, Received, Verifier

from tests.fuzz.control import KEYS, NOW_MS

KEY = KEYS["a"]


def one_input(data: bytes) -> None:
    """Check an input twice: if it is obeyed, then only once."""
    verifier = Verifier({"a": KEY.public_key()}, ["app"])
    record = Received(0, NOW_MS, True, data, [("key_id", b"a"), ("signature", KEY.sign(data))])
    first, second = verifier.check(record), verifier.check(record)
    if first.refusal is None:
        assert first.command is not None
        assert first.command.key_id == "a"
        assert second.refusal == "replayed"
    else:
        assert first.refusal in REFUSED
        assert second.refusal == first.refusal


def main() -> None:
    """Run until the options of libFuzzer say that it is enough."""
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
