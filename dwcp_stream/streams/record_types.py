"""msgspec types made from a stream: a sample with just the fields that are needed, and a frame of columns."""

import re
from collections.abc import Callable
from typing import Any

import msgspec

from dwcp_stream.streams.definition import StreamDefinition
from dwcp_stream.streams.timestamps import Rfc3339

EntityPart = str | int | None
Time = float | Rfc3339 | None
Number = float | None
Word = str | float | None

MAX_LEARNED = 64
MAX_LEARNED_NAME = 128
_UNNAMEABLE = re.compile(r'["\\\x00-\x1f]')
"""What msgspec takes in no field's name."""


def learnable(name: str) -> bool:
    """Tell whether an unknown field can become part of the types."""
    return len(name) <= MAX_LEARNED_NAME and not _UNNAMEABLE.search(name)


class RecordTypes:
    """Decoders of one stream's records, in column order: time, entity parts, fields, learned unknown fields.

    Both decoders forbid fields they do not know, so an unknown field shows as a failure. A producer that
    always sends one would make every record fail and take the slow way; so names seen are learned: they
    become columns of the types, skipped by the parser, present or not, and thereby counted exactly.
    """

    def __init__(self, stream: StreamDefinition, learned: tuple[str, ...] = ()) -> None:
        self.learned = learned
        self.names: tuple[str, ...] = (stream.time, *stream.entity, *stream.field_names)
        parts = len(stream.entity)
        self.first_field = 1 + parts
        scalars: list[Any] = [Time, *[EntityPart] * parts]
        scalars += [Word if field.coded else Number for field in stream.fields]
        self.scalars: tuple[Any, ...] = tuple(scalars)
        nan = float("nan")
        absent = [None] * (1 + parts) + [None if field.coded else nan for field in stream.fields]
        # attribute names are positions: a stream's own names may clash with a struct's attributes
        extra: list[Any] = [
            (f"u{index}", msgspec.Raw | msgspec.UnsetType, msgspec.field(name=name, default=msgspec.UNSET))
            for index, name in enumerate(learned)
        ]
        self.sample = msgspec.defstruct(
            "Sample",
            [
                (f"c{index}", kind, msgspec.field(name=name, default=default))
                for index, (name, kind, default) in enumerate(zip(self.names, self.scalars, absent, strict=True))
            ]
            + extra,
            forbid_unknown_fields=True,
            gc=False,
        )
        self.frame = msgspec.defstruct(
            "Frame",
            [("c0", list[Time], msgspec.field(name=stream.time))]
            + [
                (f"c{index}", list[kind] | kind, msgspec.field(name=name, default=None))  # type: ignore[valid-type]
                for index, (name, kind) in enumerate(zip(self.names, self.scalars, strict=True))
                if index
            ]
            + extra,
            forbid_unknown_fields=True,
            gc=False,
        )
        self.decode_sample: Callable[[bytes], msgspec.Struct] = msgspec.json.Decoder(self.sample).decode
        self.decode_frame: Callable[[bytes], msgspec.Struct] = msgspec.json.Decoder(self.frame).decode
