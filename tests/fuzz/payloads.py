"""Telemetry that is nearly right: records of a stream with odd values, odd shapes and damaged bytes.

Everything comes from a `random.Random`, so a seed says which records there were.
"""

from __future__ import annotations

import json
from random import Random
from typing import NamedTuple

from dwcp_stream.streams import StreamDefinition
from dwcp_stream.streams.definition import Field

NOW = 1_790_000_000.0
"""Record timestamps are about this, epoch seconds."""


class Fed(NamedTuple):
    """A record as Kafka hands it over."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int


NUMBERS = (
    "NaN",
    "Infinity",
    "-Infinity",
    "nan",
    "1e999",
    "-1e999",
    "1e-999",
    "1E+38",
    "3.5e38",
    "-0",
    "-0.0",
    "+1",
    "01",
    "0x10",
    "1.",
    ".5",
    "1_000",
    "9" * 400,
    "-" + "9" * 400,
    "9" * 5000,
    "0." + "3" * 400,
    "9007199254740993",
    "18446744073709551616",
    "-9223372036854775809",
    "4.9e-324",
    "1e308",
    "2147483648",
)
TEXTS = (
    '""',
    '" "',
    '"\\u0000"',
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '"\\ud83d\\ude00"',
    '"%2F"',
    '"%"',
    '"%zz"',
    '"a/b"',
    '"/"',
    '".."',
    '"\\u202e"',
    '"\\ufeff"',
    '"' + "x" * 256 + '"',
    '"' + "x" * 257 + '"',
    '"' + "\u00e9" * 256 + '"',
    '"' + "y" * 5000 + '"',
    '"1"',
    '"1.0"',
    '"1e3"',
    '"inf"',
    '"nan"',
    '"TIER1"',
    '"true"',
    '"null"',
    '"\\n\\t\\r"',
    '"\\u0130"',
    '"\u0661"',
    '"\\"',
    '"\\x41"',
    "'a'",
    '"open',
)
ODD = (
    "null",
    "true",
    "false",
    "[]",
    "{}",
    "[1]",
    "[null]",
    "[[1]]",
    '{"a":1}',
    "[" * 60 + "]" * 60,
    "[" * 500 + "]" * 500,
    "[" * 3000,
    '{"a":' * 300 + "1" + "}" * 300,
    "",
    "undefined",
    "1,2",
    "1 2",
    "/**/1",
    "[1,]",
    '{"a":1,}',
)
TIMES = (
    "0",
    "-1",
    "-0.5",
    "1e-9",
    "253402300799",
    "253402300800",
    "1e12",
    "1.79e12",
    "1790000000.0000001",
    "1790000009.9",
    "1790000010.1",
    "4e9",
    "true",
    '"2026-09-21T14:13:20Z"',
    '"2026-09-21T14:13:20+00:00"',
    '"2026-09-21t14:13:20z"',
    '"2026-09-21 14:13:20Z"',
    '"2026-09-21T14:13:20"',
    '"2026-09-21T14:13:20.123456789Z"',
    '"2026-09-21T24:00:00Z"',
    '"2026-12-31T23:59:60Z"',
    '"2026-02-29T00:00:00Z"',
    '"0001-01-01T00:00:00+23:59"',
    '"9999-12-31T23:59:59.999999-23:59"',
    '"2026-09-21T14:13:20-00:00"',
    '"2026-9-21T14:13:20Z"',
    '"1790000000"',
    '"yesterday"',
    '"2026-09-21T14:13:20+99:99"',
)
RAW = (
    None,
    b"",
    b" ",
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b"null",
    b"[]",
    b"{}",
    b"1",
    b'"x"',
    b"{",
    b'{"',
    b"[" * 5000,
    b'{"a":' * 3000,
    b"\x00\x00\x00\x00\x01{}",
    b"PK\x03\x04",
    b"\x1f\x8b\x08",
    b"\x93NUMPY",
    b"{}{}",
    b"{}\n{}",
    b"\xc3\x28",
    b"[" * 450 + b"]" * 450,
    b'{"ts":' + b"[" * 900 + b"]" * 900 + b"}",
)


class Payloads:
    """Generator of a stream's records.

    Parameters
    ----------
    stream
        What they are nearly records of.
    rng
        Source of all choices.
    entities
        How many entities the good ones are of.
    """

    def __init__(self, stream: StreamDefinition, rng: Random, entities: int = 40) -> None:
        self.stream, self.rng = stream, rng
        self._names = [json.dumps(name) for name in (stream.time, *stream.entity, *stream.field_names)]
        self._entities = [json.dumps(f"e{i}") for i in range(entities)]
        self._good: list[list[str]] = [[f"{NOW + i / 4:.2f}" for i in range(40)]]
        self._good += [self._entities if i == 0 else ['"n1"', '"n2"', "7"] for i in range(len(stream.entity))]
        self._good += [good_values(field) for field in stream.fields]
        self._bad: list[tuple[str, ...]] = [TIMES + ODD]
        self._bad += [TEXTS + NUMBERS + ODD] * len(stream.entity)
        self._bad += [TEXTS + NUMBERS + ODD if f.coded else NUMBERS + ODD + TEXTS[:4] + ('"1"',) for f in stream.fields]

    def record(self) -> Fed:
        """One record, good more often than not."""
        rng = self.rng
        draw = rng.random()
        value: bytes | None
        if draw < 0.05:
            value = rng.choice(RAW)
        elif draw < 0.25:
            value = self.frame()
        else:
            value = self.sample()
        if value and rng.random() < 0.12:
            value = damaged(value, rng)
        key = rng.choice((None, b"", b"\xff", b"e1", b"e1/n1", b"e1/n1/7", b"k" * 300))
        stamp = int(NOW * 1000) if rng.random() < 0.95 else rng.choice((-1, 0, 1, 2**62, int(NOW * 1000) - 86_400_000))
        return Fed(key, value, stamp)

    def sample(self) -> bytes:
        """One sample as an object; about every second has something odd."""
        rng, rnd = self.rng, self.rng.random
        parts = []
        for name, good, bad in zip(self._names, self._good, self._bad, strict=True):
            draw = rnd()
            if draw < 0.04:
                if draw < 0.012:
                    continue
                parts.append(f"{name}:{rng.choice(bad)}")
            else:
                parts.append(f"{name}:{good[int(rnd() * len(good))]}")
        if rnd() < 0.1:
            parts.append(self._extra())
        if rnd() < 0.05:
            rng.shuffle(parts)
        return _encoded("{" + ",".join(parts) + "}", rng)

    def frame(self) -> bytes:
        """A frame of a few rows, at times ragged."""
        rng, rnd = self.rng, self.rng.random
        rows = rng.choice((0, 1, 2, 3, 3, 4, 9))
        parts = []
        for name, good, bad in zip(self._names, self._good, self._bad, strict=True):
            draw = rnd()
            if draw < 0.03:
                continue
            if draw < 0.25 and name != self._names[0]:
                parts.append(f"{name}:{rng.choice(bad if draw < 0.05 else good)}")  # one value for all rows
                continue
            length = rows if rnd() > 0.015 else rng.choice((0, rows + 1, max(0, rows - 1)))
            items = [rng.choice(bad) if rnd() < 0.02 else good[int(rnd() * len(good))] for _ in range(length)]
            parts.append(f"{name}:[{','.join(items)}]")
        if rnd() < 0.1:
            parts.append(self._extra())
        return _encoded("{" + ",".join(parts) + "}", rng)

    def _extra(self) -> str:
        """A field that the stream does not know, or one that is there twice."""
        rng = self.rng
        if rng.random() < 0.4:
            at = int(rng.random() * len(self._names))
            return f"{self._names[at]}:{rng.choice(self._bad[at])}"
        name = rng.choice(('"agent"', '"x"', '""', '"\\u0074s"', '"%s"' % ("u" * 200), f'"n{rng.randrange(1000)}"'))
        return f"{name}:{rng.choice(ODD + NUMBERS + TEXTS)}"


def good_values(field: Field) -> list[str]:
    """Values a field may have, as JSON."""
    if field.coded:
        return [json.dumps(word) for word in (*field.vocabulary, *field.aliases)]
    low = 0.0 if field.min is None else field.min
    high = low + 1000.0 if field.max is None else field.max
    return [json.dumps(low + (high - low) * part) for part in (0.0, 0.1, 0.25, 0.5, 1.0)] + ["null"] * (
        not field.required
    )


def damaged(value: bytes, rng: Random) -> bytes:
    """Flip, cut, repeat, insert or overwrite some bytes."""
    value = value or b"\x00"  # what is damaged again may have been cut to nothing
    kind, at = rng.randrange(6), rng.randrange(len(value))
    if kind == 0:
        return value[:at]
    if kind == 1:
        return value[:at] + bytes([value[at] ^ (1 << rng.randrange(8))]) + value[at + 1 :]
    if kind == 2:
        return value[:at] + value[at : at + rng.randrange(1, 20)] + value[at:]
    if kind == 3:
        return value[:at] + rng.randbytes(rng.randrange(1, 4)) + value[at:]
    if kind == 4:
        return (
            value[:at]
            + rng.choice((b'"', b",", b":", b"[", b"]", b"{", b"}", b"\\", b"\x00", b"e", b"-"))
            + value[at + 1 :]
        )
    return value[:at] + value[at + rng.randrange(1, 8) :]


def _encoded(text: str, rng: Random) -> bytes:
    if rng.random() < 0.99:
        return text.encode("utf-8", "surrogatepass")
    codec = rng.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "cp037"))
    return text.encode(codec, "replace")
