"""What becomes of a chunk: valid samples as arrays, and one reject per record that had bad ones."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

ErrorType = Literal[
    "undecodable",
    "wrong_type",
    "missing_field",
    "unknown_category",
    "out_of_range",
    "time_ahead",
    "bad_time",
    "bad_entity",
    "ragged_frame",
    "too_large",
    "entity_limit",
]


class Fault(NamedTuple):
    """Why a sample or a record is invalid: a bounded word, and a sentence for a person."""

    error_type: ErrorType
    reason: str


class Reject(NamedTuple):
    """The invalid samples of one record.

    `rows` are the bad row numbers of a frame, ascending; empty for a single sample and for a record that
    is bad as a whole. `error_type` and `reason` are those of the first bad row.
    """

    record: int
    rows: tuple[int, ...]
    samples: int
    error_type: ErrorType
    reason: str


@dataclass(slots=True)
class Decoded:
    """A decoded chunk of n valid samples with F fields.

    Attributes
    ----------
    samples_in
        Every sample of the chunk, the invalid ones too; a record that cannot be decoded counts as one.
        Equals `len(record)` plus the sum of `samples` over `rejects`.
    record
        int64 [n], the record (index in the chunk) a sample came from; non-decreasing.
    row
        int64 [n], row number within the record's frame; 0 for a single sample.
    ts
        float64 [n], epoch seconds UTC.
    entity
        int64 [n], index into `entities`.
    entities
        Encoded entities in order of first appearance, each used by at least one sample.
    values
        float64 [n, F]; words as their codes, counters still raw, NaN = missing.
    rejects
        Ascending by record, at most one per record.
    unknown_fields
        Fields outside the definition, counted once per record that has them.
    key_mismatches
        Records whose key is missing or is not the entity of all their samples.
    """

    samples_in: int
    record: NDArray[np.int64]
    row: NDArray[np.int64]
    ts: NDArray[np.float64]
    entity: NDArray[np.int64]
    entities: list[str]
    values: NDArray[np.float64]
    rejects: list[Reject] = field(default_factory=list)
    unknown_fields: int = 0
    key_mismatches: int = 0
