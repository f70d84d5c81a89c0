"""Samples of a chunk grouped by entity slot, and running maxima within the groups."""

from dataclasses import dataclass

import numpy as np

from dwcp_stream.windows.layout import F64, I64


@dataclass(slots=True)
class Segments:
    """m samples sorted by slot, in the order they came within a slot; one segment per slot.

    Attributes
    ----------
    sample
        int64[m], index of each sample in the chunk.
    seg
        int64[m], segment of each sample.
    start, end
        int64[k], first and last position of each segment.
    slot
        int64[k], slot of each segment; strictly increasing.
    """

    sample: I64
    seg: I64
    start: I64
    end: I64
    slot: I64


def group(sample: I64, slot: I64) -> Segments:
    """Group samples by slot.

    Parameters
    ----------
    sample
        int64[m], at least one, increasing.
    slot
        int64[m], the slot of each.
    """
    if (slot[1:] < slot[:-1]).any():
        # numpy sorts 16-bit integers by radix, several times faster than wider ones by merging
        narrow = slot.astype(np.uint16) if int(slot.max()) < 1 << 16 else slot
        order = np.argsort(narrow, kind="stable")
        sample, slot = sample[order], slot[order]
    first = np.empty(len(slot), np.bool_)
    first[0] = True
    np.not_equal(slot[1:], slot[:-1], out=first[1:])
    start = np.flatnonzero(first)
    end = np.empty_like(start)
    end[:-1] = start[1:] - 1
    end[-1] = len(slot) - 1
    return Segments(sample, np.cumsum(first) - 1, start, end, slot[start])


def running_max(key: I64, segments: Segments, initial: I64) -> I64:
    """Largest key seen in the segment before each sample.

    Parameters
    ----------
    key
        int64[m].
    segments
        The segments of the m samples.
    initial
        int64[k], what counts as seen before the first sample of each segment.

    Returns
    -------
    int64[m]
    """
    # lifting each segment above the one before it makes one accumulation serve all of them
    low = min(int(key.min()), int(initial.min()))
    span = max(int(key.max()), int(initial.max())) - low + 1
    lift = segments.seg * span - low
    lifted = key + lift
    before = initial + lift[segments.start]
    first = segments.start
    lifted[first] = np.maximum(lifted[first], before)
    largest = np.empty_like(lifted)
    np.maximum.accumulate(lifted[:-1], out=largest[1:])
    largest[first] = before
    return largest - lift


def ranks(values: F64, others: F64) -> tuple[I64, I64]:
    """Replace times by their ranks among all of both arrays: equal times have equal ranks."""
    _, rank = np.unique(np.concatenate([values, others]), return_inverse=True)
    return rank[: len(values)], rank[len(values) :]
