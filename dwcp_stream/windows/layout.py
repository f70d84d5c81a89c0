"""What the windows need to know of a stream, resolved once: shapes, steps and column numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.streams.definition import StreamDefinition

F32: TypeAlias = NDArray[np.float32]
F64: TypeAlias = NDArray[np.float64]
I64: TypeAlias = NDArray[np.int64]
U8: TypeAlias = NDArray[np.uint8]
Bool: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Shape and rules of the windows of one stream.

    Attributes
    ----------
    fields
        Names of the F columns.
    counters
        Names of those columns that arrive as counters and are kept as rates per second.
    window
        T, rows per window.
    min_periods
        Filled rows a window needs before it is scored.
    stride
        Every stride-th row of the grid is scored.
    step
        Seconds from row to row; None for an irregular stream, whose rows are its samples.
    lateness
        Seconds behind the newest row within which an empty row may still be filled.
    max_entities
        Entities one partition may hold.
    """

    fields: tuple[str, ...]
    counters: tuple[str, ...]
    window: int
    min_periods: int
    stride: int
    step: float | None
    lateness: float
    max_entities: int

    @classmethod
    def of(cls, stream: StreamDefinition) -> "Layout":
        """Take what matters here from a stream definition.

        A field with a vocabulary holds codes, whatever its kind says, so it is never a counter.
        """
        return cls(
            fields=tuple(f.name for f in stream.fields),
            counters=tuple(f.name for f in stream.fields if f.kind == "counter" and not f.vocabulary),
            window=stream.window,
            min_periods=stream.min_periods,
            stride=stream.stride,
            step=None if isinstance(stream.step, str) else float(stream.step),
            lateness=stream.lateness,
            max_entities=stream.max_entities,
        )

    @cached_property
    def columns(self) -> Mapping[str, int]:
        """Column number by field name."""
        return {name: i for i, name in enumerate(self.fields)}

    @cached_property
    def rotations(self) -> I64:
        """Ring positions from oldest row to newest by ring position of the newest, int64[T, T]."""
        return (np.arange(1, self.window + 1)[:, None] + np.arange(self.window)) % self.window

    @cached_property
    def counter_columns(self) -> I64:
        """Column numbers of the counters, int64[C]."""
        return np.array([self.columns[name] for name in self.counters], np.int64)
