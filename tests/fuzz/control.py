"""Commands that are nearly right: python -m tests.fuzz.control --records 100000.

Whatever comes, it ends in one verdict and in nothing else, and what nobody with a key has signed, for us, in time and
only once, is never obeyed. Exits with 1 and the seed that shows it again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dwcp_stream.control import (
    REFUSED,
    Command,
    Promote,
    Received,
    Retrain,
    Rollback,
    SetLogLevel,
    Shadow,
    Split,
    Verdict,
    Verifier,
    sign,
)
from tests.fuzz.payloads import damaged

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
KEYS = {name: Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number, name in enumerate("abc")}
STRANGER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
OURS = ("app", "app-node", "*")
ROUND = 1000
"""Records of a seed, one verifier for all."""
WILD: tuple[Any, ...] = (
    None,
    0,
    -1,
    1 << 63,
    1 << 70,
    1e400,
    "",
    "x" * 70_000,
    [],
    [[]],
    {},
    True,
    "a\x00",
    "2026-13-45T99:00Z",
)


class Given(NamedTuple):
    """A record, and whether it may be obeyed: signed by a key of ours, whole, for us, in time."""

    record: Received
    sound: bool
    command: Command | None


class Commands:
    """Draws records from a random source."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.sent: list[Given] = []

    def command(self) -> Command:
        """A command that is right in itself, perhaps for others or too late."""
        rng = self.rng
        version = rng.randint(1, 9)
        actions = (
            Promote("m", version),
            Rollback("m", version),
            Shadow("m", version),
            Split("m", version, 10),
            Retrain("m"),
            SetLogLevel("debug"),
        )
        return Command(
            key_id=rng.choice("abc"),
            audience=rng.choice((*OURS, *OURS, "other")),
            sequence=rng.choice((len(self.sent) + 1, len(self.sent) + 1, rng.randint(1, 50))),
            not_after=NOW + timedelta(seconds=rng.choice((-86_400, -1, 0, 1, 600, 86_000, 90_000, 10**9))),
            action=rng.choice(actions),
            reason=rng.choice(("", "why", "\u20ac" * 300)),
        )

    def record(self) -> Given:
        """A record: good, forged, damaged, odd, or one of before once more."""
        rng, command = self.rng, self.command()
        signed = sign(command, KEYS[command.key_id])
        value, headers = signed.value, list(signed.headers)
        until = command.not_after
        sound = command.audience in OURS and NOW <= until <= NOW + timedelta(days=1)
        kind = rng.randrange(10)
        if kind == 0 and self.sent:
            again = rng.choice(self.sent)
            return again._replace(record=again.record._replace(offset=len(self.sent)))
        if kind == 1:
            value, sound = changed(value, rng), False
        elif kind == 2:
            headers, sound = self.headers(headers, value), False
        elif kind == 3:
            value = odd(value, rng)
            key = rng.choice(list(KEYS))
            headers, sound = [("key_id", key.encode()), ("signature", KEYS[key].sign(value))], False
        elif kind == 4:
            headers, sound = [headers[0], ("signature", STRANGER.sign(value))], False
        broker = rng.random() < 0.95
        found = Given(Received(len(self.sent), NOW_MS, broker, value, headers), sound and broker, command)
        self.sent.append(found)
        return found

    def headers(self, headers: list[tuple[str, bytes]], value: bytes) -> list[Any]:
        """Headers that do not fit, or are not there."""
        rng, (name, signature) = self.rng, headers
        other = rng.choice([key for key in KEYS if key.encode() != name[1]])
        return rng.choice(
            (
                [],
                [name],
                [signature],
                [name, signature, signature],
                [name, ("signature", None)],
                [name, ("signature", changed(signature[1], rng))],
                [name, ("signature", signature[1][: rng.randrange(64)])],
                [("key_id", b"\xff\xfe"), signature],
                [("key_id", other.encode()), signature],
                [("key_id", other.encode()), ("signature", KEYS[other].sign(value))],
            )
        )


def changed(data: bytes, rng: Random) -> bytes:
    """Other bytes than these."""
    while (found := damaged(data, rng)) == data:
        pass
    return found


def odd(value: bytes, rng: Random) -> bytes:
    """What a key's owner could sign by mistake: another value, one key more or less, deep nesting, no JSON."""
    body = json.loads(value)
    kind = rng.randrange(5)
    if kind == 0:
        return b"[" * rng.choice((10, 100_000))
    if kind == 1:
        return value[: rng.randrange(len(value))]
    target = rng.choice((body, body["action"]))
    needed = sorted(set(target) - {"reason"})  # a command needs none
    if kind == 2:
        del target[rng.choice(needed)]
    elif kind == 3:
        target["more"] = rng.choice(WILD[:5])
    else:
        target[rng.choice(needed)] = rng.choice(WILD)
    return json.dumps(body).encode()


def check(given: Given, verdict: Verdict, obeyed: set[tuple[str, str, int]]) -> None:
    """A verdict is one of the known ones, and nothing is obeyed that must not be, or twice."""
    if verdict.refusal is not None:
        assert verdict.refusal in REFUSED
        assert verdict.reason
        return
    assert given.sound, f"obeyed: {given.record}"
    assert verdict.command == given.command
    line = (given.command.key_id, given.command.audience, given.command.sequence)
    assert line not in obeyed, f"obeyed twice: {given.record}"
    obeyed.add(line)


def one_round(seed: int, counts: Counter[str]) -> None:
    """Give a verifier a round of records; AssertionError if something does not hold."""
    made = Commands(Random(seed))
    verifier = Verifier({name: key.public_key() for name, key in KEYS.items()}, ("app", "app-node"))
    obeyed: set[tuple[str, str, int]] = set()
    for _ in range(ROUND):
        given = made.record()
        verdict = verifier.check(given.record)
        check(given, verdict, obeyed)
        counts[verdict.refusal or "obeyed"] += 1


def main(arguments: list[str] | None = None) -> int:
    """Run rounds until there have been enough records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    counts: Counter[str] = Counter()
    begun = said = time.monotonic()
    seed = given.seed
    while counts.total() < given.records:
        try:
            one_round(seed, counts)
        except BaseException:
            sys.stderr.write(f"seed {seed} failed; again: python -m tests.fuzz.control --records 1 --seed {seed}\n")
            raise
        seed += 1
        if time.monotonic() - said > 5.0:
            said = time.monotonic()
            sys.stderr.write(f"{counts.total()} records, seed {seed}\n")
    words = ", ".join(f"{word} {number}" for word, number in sorted(counts.items()))
    sys.stdout.write(f"{counts.total()} records in {time.monotonic() - begun:.0f} s: {words}\n")
    return 0


def seeds() -> list[bytes]:
    """Payloads to begin from."""
    made = Commands(Random(1))
    return [msgspec.json.encode(made.command()) for _ in range(20)]


if __name__ == "__main__":
    sys.exit(main())
