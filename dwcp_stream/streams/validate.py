"""Checks of decoded samples against their stream, over the whole chunk at once."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.streams.decoded import Fault
from dwcp_stream.streams.definition import StreamDefinition
from dwcp_stream.streams.timestamps import MAX_SECONDS
from dwcp_stream.streams.vocabulary import UNKNOWN

# rows of a window are float32: what does not fit there is out of range for any field
_LARGEST = float(np.finfo(np.float32).max)

Original = Callable[[int, str], object]


@dataclass(slots=True)
class Samples:
    """Samples of a chunk before validation, n rows in record order; `identity` indexes `EntityIds`."""

    record: NDArray[np.int64]
    row: NDArray[np.int64]
    ts: NDArray[np.float64]
    identity: NDArray[np.int64]
    values: NDArray[np.float64]


class Validator:
    """Vectorised validation of a stream's samples; faults are put in words only for those asked for."""

    def __init__(self, stream: StreamDefinition) -> None:
        self._stream = stream
        fields = stream.fields
        self._low = np.array([0.0 if f.coded else -_LARGEST if f.min is None else f.min for f in fields])
        self._high = np.array([_LARGEST if f.max is None else f.max for f in fields])
        self._required = np.array([i for i, f in enumerate(fields) if f.required], dtype=np.int64)

    def bad(self, samples: Samples, entity: NDArray[np.int64], limit: NDArray[np.float64] | None) -> NDArray[np.bool_]:
        """Mark the invalid samples.

        Parameters
        ----------
        samples
            n samples with F fields.
        entity
            int64 [n], negative where the entity is invalid.
        limit
            float64 [n], latest time that is not ahead; None: no such check.

        Returns
        -------
        bool [n]
        """
        values = samples.values
        missing = np.isnan(values)
        # comparisons with NaN are false: a missing value is not out of range
        outside = (values < self._low) | (values > self._high)
        bad: NDArray[np.bool_] = entity < 0
        bad |= ~((samples.ts >= 0) & (samples.ts < MAX_SECONDS))  # also NaN
        if limit is not None:
            bad |= samples.ts > limit
        # reductions along rows are slow, and clean chunks need none
        if outside.any():
            bad |= outside.any(axis=1)
        if missing.any():
            bad |= missing.all(axis=1)
            bad |= missing[:, self._required].any(axis=1)
        return bad

    def explain(self, samples: Samples, at: int, entity_reason: str | None, original: Original) -> Fault:
        """Say what is wrong with sample `at`, which `bad` has marked.

        Parameters
        ----------
        entity_reason
            Why the entity is invalid; None if it is valid.
        original
            Called with the sample's index and a field name, gives the value as it was in the record.
        """
        if entity_reason is not None:
            return Fault("bad_entity", entity_reason)
        time, ts = self._stream.time, float(samples.ts[at])
        if np.isnan(ts):
            return Fault("missing_field", f"{time} is missing")
        if not 0 <= ts < MAX_SECONDS:
            return Fault("bad_time", f"{time} = {ts} is not epoch seconds (milliseconds?)")
        fault = self._explain_values(samples.values[at], lambda name: original(at, name))
        return fault or Fault("time_ahead", f"{time} = {ts} is ahead of the record's timestamp")

    def _explain_values(self, values: NDArray[np.float64], original: Callable[[str], object]) -> Fault | None:
        for index in self._required:
            if np.isnan(values[index]):
                return Fault("missing_field", f"{self._stream.fields[index].name} is missing")
        if np.isnan(values).all():
            return Fault("missing_field", "none of the stream's fields is present")
        for index, field in enumerate(self._stream.fields):
            value = float(values[index])
            if field.coded and value == UNKNOWN:
                word = repr(original(field.name))[:80]
                return Fault("unknown_category", f"{field.name} = {word} is not in its vocabulary")
            if value < self._low[index] or value > self._high[index]:
                low, high = field.min, field.max
                bounds = f"{'-inf' if low is None else low} to {'inf' if high is None else high}"
                return Fault("out_of_range", f"{field.name} = {value} is outside {bounds} {field.unit}")
        return None
