"""What goes into the pipeline and what comes out: one partition's chunk of records, and its results."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.alerts import Transition
from dwcp_stream.events import Accuracy, Drift, Output

if TYPE_CHECKING:
    from dwcp_stream.stages import StageResult

PIECE_COMMAS = 131_072
"""More than a chunk of single samples has (4,000 of 30 fields), and twice as many as the longest frame has rows."""


@dataclass(slots=True, frozen=True)
class Chunk:
    """The records fetched from one partition at once, columns side by side.

    Parameters
    ----------
    topic, partition
        Where the records came from.
    offsets, timestamps_ms
        Kafka offsets (ascending) and record timestamps in milliseconds, int64 of shape (n,).
    keys, values
        The records' raw bytes; either may be None.
    """

    topic: str
    partition: int
    offsets: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]

    def __len__(self) -> int:
        return len(self.offsets)

    def since(self, position: int) -> "Chunk":
        """Return the part of the chunk at or after an offset."""
        return self._rows(int(np.searchsorted(self.offsets, position)), len(self))

    def before(self, position: int | None) -> "Chunk":
        """Return the part of the chunk before an offset; all of it for None."""
        return self if position is None else self._rows(0, int(np.searchsorted(self.offsets, position)))

    def piece(self, rows: slice) -> "Chunk":
        """Return some adjacent rows, as `pieces` gives them."""
        return self._rows(rows.start, rows.stop)

    def _rows(self, begin: int, end: int) -> "Chunk":
        if begin == 0 and end == len(self):
            return self
        return Chunk(
            self.topic,
            self.partition,
            self.offsets[begin:end],
            self.timestamps_ms[begin:end],
            self.keys[begin:end],
            self.values[begin:end],
        )


class Swap(NamedTuple):
    """Another version of a model took over on one of its arms, at an offset; on `share` a percentage did."""

    model: str
    before: int
    version: int
    offset: int
    arm: str = "champion"


def pieces(values: Sequence[bytes | None], commas: int = PIECE_COMMAS) -> list[slice]:
    """Cut records so that no piece decodes to more rows than memory is there for.

    A frame of two bytes a row decodes to hundreds of bytes a row, and a batch of such frames compresses to next to
    nothing: a few kilobytes from Kafka could fill the memory. A frame's rows are at most as many as its commas and one;
    a record without an array is no frame.

    Parameters
    ----------
    values
        Values of a chunk's records.
    commas
        Commas of a piece, unless one record alone has more.

    Returns
    -------
    list of slice
        At least one, in order; each record is in one of them.

    Examples
    --------
    >>> pieces([b"[1,2]", None, b"[3,4,5]", b"[6]"], commas=2)
    [slice(0, 2, None), slice(2, 4, None)]
    """
    if b"[" not in b"".join(filter(None, values)):  # much faster than a look at each, and the common case
        return [slice(0, len(values))]
    begin, held, cuts = 0, 0, []
    for i, value in enumerate(values):
        some = 0 if value is None else value.count(b",")
        if held + some > commas and i > begin:
            cuts.append(slice(begin, i))
            begin, held = i, 0
        held += some
    return [*cuts, slice(begin, len(values))]


@dataclass(slots=True)
class ChunkResult:
    """What a chunk led to.

    Attributes
    ----------
    outputs
        Messages to publish, in order.
    counts
        Samples by `Outcome` (scored, warming_up, duplicate, late, invalid), int64 of shape (5,).
    replayed
        Samples that changed nothing because they had been applied before a crash; in no other counter.
    rejected
        Invalid samples by error type.
    scored_windows, model_seconds, predictions
        Windows scored, the time that took, and predictions made, by model.
    telling_ms
        Record timestamps of the samples that completed an alert's transition.
    transitions
        Alerts' transitions as (model, transition, top contributing field or "").
    confidence
        Confidence (0 to 1) of the last forecast, by model.
    drifts, accuracies
        What was published of drift and realised errors.
    swaps
        Versions of models that took over.
    seconds
        Processing time by step (decode, windows, score).
    """

    outputs: list[Output] = field(default_factory=list)
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(5, np.int64))
    replayed: int = 0
    unknown_fields: int = 0
    key_mismatches: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    scored_windows: Counter[str] = field(default_factory=Counter)
    model_seconds: dict[str, float] = field(default_factory=dict)
    telling_ms: list[int] = field(default_factory=list)
    transitions: list[tuple[str, Transition, str]] = field(default_factory=list)
    drifts: list[Drift] = field(default_factory=list)
    accuracies: list[Accuracy] = field(default_factory=list)
    swaps: list[Swap] = field(default_factory=list)
    predictions: Counter[str] = field(default_factory=Counter)
    confidence: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def take(self, model: str, made: "StageResult") -> None:
        """Add what one model made of a pass or a tick."""
        self.outputs += made.outputs
        self.transitions += [(model, transition, top) for transition, top in made.transitions]
        self.drifts += made.drifts
        self.accuracies += made.accuracies
        self.predictions.update(made.predictions)
        self.confidence |= made.confidence
