"""What must hold of every record, however bad: for the property tests and for the programs that run for long."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from dwcp_stream.chunk import Chunk, ChunkResult
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.streams.decode import ChunkDecoder
from dwcp_stream.streams.decoded import Decoded
from dwcp_stream.windows import Outcome
from tests.fuzz.payloads import Fed


def decode(decoder: ChunkDecoder, records: Sequence[Fed]) -> Decoded:
    """Decode records as one chunk."""
    return decoder.decode([r.value for r in records], [r.key for r in records], [r.timestamp_ms for r in records])


def check_accounting(decoded: Decoded, records: Sequence[Fed]) -> None:
    """Each sample is either good or in exactly one reject, and each record is settled."""
    assert decoded.samples_in == len(decoded.record) + sum(reject.samples for reject in decoded.rejects)
    rejected = [reject.record for reject in decoded.rejects]
    assert rejected == sorted(set(rejected)), "at most one reject a record, in order"
    assert (np.diff(decoded.record) >= 0).all()
    assert decoded.values.shape[0] == len(decoded.ts) == len(decoded.entity) == len(decoded.row)
    assert not np.isinf(decoded.values).any()
    assert np.isfinite(decoded.ts).all()
    assert sorted(set(decoded.entity.tolist())) == list(range(len(decoded.entities)))
    settled = set(rejected) | set(np.unique(decoded.record).tolist())
    for index in range(len(records)):
        if index not in settled:
            assert rows_of(records[index].value) == 0, f"record {index} is in no counter: {records[index]!r}"
    pairs = list(zip(decoded.record.tolist(), decoded.row.tolist(), strict=True))
    bad = {(reject.record, row) for reject in decoded.rejects for row in reject.rows}
    assert len(set(pairs)) == len(pairs)
    assert not bad & set(pairs), "a row is good or bad, not both"


def rows_of(value: bytes | None) -> int | None:
    """Samples that a record holds, by another parser than the one under test; None if it cannot tell.

    Wrong bytes are no matter: in a field that the stream does not know they go unseen.
    """
    try:
        found = json.loads((value or b"").decode(errors="replace"), parse_int=str)
        times = found.get("ts")
    except (ValueError, AttributeError, RecursionError):
        return None
    return len(times) if isinstance(times, list) else 1


def flat(decoded: Decoded, start: int = 0) -> list[Any]:
    """Everything a chunk decoded to, independent of how entities are numbered."""
    rows: list[Any] = [
        (start + record, row, ts, decoded.entities[entity], values.tobytes())
        for record, row, ts, entity, values in zip(
            decoded.record.tolist(), decoded.row.tolist(), decoded.ts.tolist(), decoded.entity.tolist(),
            decoded.values + 0.0, strict=True,
        )
    ]  # fmt: skip
    rejects = [reject._replace(record=start + reject.record) for reject in decoded.rejects]
    return [rows, rejects, decoded.samples_in, decoded.unknown_fields, decoded.key_mismatches]


def check_cuts(decoder: ChunkDecoder, whole: Decoded, records: Sequence[Fed], cuts: Sequence[int]) -> None:
    """The same records cut anywhere come to the same, with a decoder that has seen others before."""
    total: list[Any] = [[], [], 0, 0, 0]
    bounds = sorted({0, len(records), *(cut for cut in cuts if cut < len(records))})
    for start, end in pairwise(bounds):
        found = flat(decode(decoder, records[start:end]), start)
        total = [a + b for a, b in zip(total, found, strict=True)]
    assert total == flat(whole)


class Accounted:
    """A pipeline without models whose every chunk is checked: each sample ends in exactly one counter.

    Attributes
    ----------
    samples, records
        Processed so far.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.samples = self.records = 0
        partition = pipeline.assign(0)
        self._decoder, self._offset = partition.decoder, 0
        self.last: Decoded | None = None
        partition.decoder = self  # type: ignore[assignment]

    def decode(self, *arguments: Any) -> Decoded:
        """Stand in for the partition's decoder, and keep what it gave."""
        self.last = self._decoder.decode(*arguments)
        return self.last

    def feed(self, records: Sequence[Fed]) -> tuple[Decoded, ChunkResult]:
        """Process a chunk and check its accounts."""
        n = len(records)
        offsets = np.arange(self._offset, self._offset + n)
        stamps = np.array([r.timestamp_ms for r in records], np.int64)
        chunk = Chunk("fuzz", 0, offsets, stamps, [r.key for r in records], [r.value for r in records])
        result = self.pipeline.process(chunk)
        self._offset += n
        decoded = self.last
        assert decoded is not None
        assert result.replayed == 0
        assert int(result.counts.sum()) == decoded.samples_in
        invalid = int(result.counts[Outcome.INVALID])
        assert invalid == sum(result.rejected.values())
        letters = [output for output in result.outputs if output.topic == "deadletter"]
        assert len(letters) == len({letter.key for letter in letters}) <= n
        headers = [dict(letter.headers) for letter in letters]
        assert invalid == sum(int(h["samples"]) for h in headers)
        for letter, have in zip(letters, headers, strict=True):
            assert letter.value == (records[int(have["source_offset"]) - int(offsets[0])].value or b"")
            assert have["error_type"]
            assert have["reason"]
        self.records += n
        self.samples += decoded.samples_in
        return decoded, result
