"""Realised errors of two versions of a model on the same windows, bucket by bucket."""

import math
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.events import Accuracy
from dwcp_stream.loop.skill import WINDOW, lost

SETTLE = 600.0
"""Seconds of event time that a bucket has to be over before it counts."""
LARGEST = 1e100
"""What no sum of errors of single precision comes near."""
LIMIT = 1.0
"""What a horizon and target of one bucket may count at most, as a share of the usual error."""
WARM_UP = 12
"""Paired buckets of a horizon and target that only tell how large errors are: an hour."""

SUMS = 4
"""Kept of each cell of a bucket: realised forecasts, their absolute errors together, and of those that have a last
value beside them the errors of the forecasts and of repeating it."""

F64 = NDArray[np.float64]
Cell = tuple[int, str, int]


@dataclass(frozen=True, slots=True)
class Paired:
    """Differences of two versions' errors over time.

    Parameters
    ----------
    times
        Ends of the buckets, epoch seconds, rising, shape (n,).
    differences
        Champion's error less the candidate's as a share of the usual error, shape (n,): over 0 the candidate is better.
    unpaired
        Buckets from the first that is paired on that do not count, because the versions did not forecast the same:
        before it one of them may still learn to know the entities. If none is paired, all.
    first, last
        Ends of the first and the last bucket that is paired, those that only tell how large errors are among them;
        None if there is none.
    ratio
        Candidate's MAE over the champion's in all paired buckets, nothing clipped, mean over horizons and targets;
        NaN if the champion's is 0 or there is none.
    """

    times: F64
    differences: F64
    unpaired: int
    first: float | None
    last: float | None
    ratio: float = math.nan


@dataclass(slots=True)
class _Log:
    """What is kept of one model: columns are its cells, and a bucket is what `SUMS` says of each, shape (4, k)."""

    columns: dict[Cell, int] = field(default_factory=dict)
    buckets: dict[int, dict[float, F64]] = field(default_factory=lambda: defaultdict(dict))
    spans: dict[int, tuple[float, float]] = field(default_factory=dict)
    ids: dict[float, set[bytes]] = field(default_factory=lambda: defaultdict(set))

    def add(self, end: float, part: Accuracy) -> None:
        cell = part.horizon, part.target, part.partition
        column = self.columns.setdefault(cell, len(self.columns))
        buckets = self.buckets[part.version]
        sums = buckets.get(end)
        if sums is None or sums.shape[1] <= column:
            sums = buckets[end] = _widened(sums, len(self.columns))
        sums[:, column] += part.n, part.abs_error, part.paired_abs_error, part.persistence_abs_error

    def forget(self, until: float) -> None:
        for end in [end for end in self.ids if end <= until]:
            del self.ids[end]
            for buckets in self.buckets.values():
                buckets.pop(end, None)


class PairedErrors:
    """Takes the messages of `dwcp.accuracy`, in any order, repeated ones once, and pairs the errors of two versions.

    All versions that a worker runs on a model's windows forecast the same targets, whichever arm they are in, so arms
    are added up. A bucket is paired if both versions have realised as many forecasts in every cell of horizon, target
    and partition, and any at all; cells in which neither has any (all forecasts missed) are as if they were not there.

    A partition that lags sends its part of a bucket later, as a further message. A bucket is therefore not looked at
    before it has been over for `settle` seconds of the stream's own time. What comes even later is added to its bucket
    and changes that one number; for one version alone it makes the bucket unpaired until the other's part is there.

    Parameters
    ----------
    longest
        Seconds before a stream's newest bucket that are kept: no less than the greatest age of a candidate, for a
        sequential test needs its series from the beginning.
    settle
        Seconds of event time that a bucket has to be over before it counts.

    Notes
    -----
    Memory: 32 bytes for each bucket, version and cell, and about 100 for each message's id.
    """

    def __init__(self, longest: float, settle: float = SETTLE) -> None:
        self._longest, self._settle = longest, settle
        self._logs: dict[tuple[str, str], _Log] = defaultdict(_Log)
        self._newest: dict[str, float] = {}
        self._forgotten: dict[str, float] = {}

    def add(self, event_id: str, part: Accuracy) -> None:
        """Take a message; `event_id` is its `ce_id`.

        Raises
        ------
        ValueError
            If it has no id, its bucket's end is no time, or its sums are not what sums of errors can be.
        """
        if not event_id:
            raise ValueError("a part of a bucket without its id may be a repeat")
        errors = part.abs_error, part.paired_abs_error, part.persistence_abs_error
        if part.n < 0 or not all(0 <= error < LARGEST for error in errors):
            raise ValueError(f"{part.n} errors of {errors} together are no errors")
        end = datetime.fromisoformat(part.bucket_end).timestamp()
        log = self._logs[part.stream, part.model]
        first, last = log.spans.get(part.version, (end, end))
        log.spans[part.version] = min(first, end), max(last, end)
        newest = self._newest[part.stream] = max(self._newest.get(part.stream, end), end)
        short = blake2b(event_id.encode(), digest_size=12).digest()
        if end > newest - self._longest and short not in log.ids[end]:
            log.ids[end].add(short)
            log.add(end, part)
        if newest - self._forgotten.setdefault(part.stream, newest) > self._longest / 8:
            self._forget(part.stream, newest)

    def _forget(self, stream: str, newest: float) -> None:
        self._forgotten[stream] = newest
        for (name, _), log in self._logs.items():
            if name == stream:
                log.forget(newest - self._longest)

    def newest(self, stream: str) -> float | None:
        """Return the end of the stream's newest bucket, epoch seconds: its now. None if it has none."""
        return self._newest.get(stream)

    def versions(self, stream: str, model: str) -> dict[int, tuple[float, float]]:
        """Return for each version the ends of the first and the last bucket that was ever seen, epoch seconds."""
        log = self._logs.get((stream, model))
        return dict(log.spans) if log else {}

    def lost(self, stream: str, model: str, version: int) -> float | None:
        """Return since when a version's forecasts have had no skill, epoch seconds; see `skill.lost`.

        What was lost before the oldest bucket that is kept was lost when the version was first seen.
        """
        log = self._logs.get((stream, model), _Log())
        buckets, settled = log.buckets.get(version, {}), self._newest.get(stream, -math.inf) - self._settle
        ends = sorted(end for end in buckets if end <= settled)
        sums = _stacked(buckets, ends, len(log.columns))
        where = _by_line(log.columns)
        since = lost(np.array(ends), sums[:, 2] @ where, sums[:, 3] @ where)
        first = log.spans[version][0] if ends else 0.0
        return first if since is not None and first < ends[0] and since - ends[0] <= WINDOW + self._settle else since

    def series(self, stream: str, model: str, champion: int, candidate: int, since: float = -math.inf) -> Paired:
        """Return the paired differences of two versions over what is kept and settled, of buckets after `since`.

        Notes
        -----
        The difference of a bucket is the mean over horizons and targets of (champion's MAE - candidate's MAE) / scale,
        partitions added up. The scale is the MAE of the version that was better over the paired buckets *before* it (of
        the other, if that is 0): it is known before the errors that it divides, a version whose errors explode does not
        blow it up, and changing the versions' places only changes the sign. A horizon and target takes part once
        `WARM_UP` such buckets are known and their errors are not all 0: the first hour gives no differences.
        """
        log = self._logs.get((stream, model), _Log())
        mine, theirs = log.buckets.get(champion, {}), log.buckets.get(candidate, {})
        newest = self._newest.get(stream, -math.inf)
        kept = [
            sorted(end for end in buckets if max(since, newest - self._longest) < end <= newest - self._settle)
            for buckets in (mine, theirs)
        ]
        if not all(kept):
            return Paired(np.empty(0), np.empty(0), 0, None, None)
        begin, stop = max(kept[0][0], kept[1][0]), min(kept[0][-1], kept[1][-1])
        ends = sorted({end for ends in kept for end in ends if begin <= end <= stop})
        a, b = (_stacked(buckets, ends, len(log.columns)) for buckets in (mine, theirs))
        same = (a[:, 0] == b[:, 0]).all(axis=1) & (a[:, 0] > 0).any(axis=1)
        times = np.array(ends, np.float64)[same]
        where = _by_line(log.columns)
        sums = a[same, 0] @ where, a[same, 1] @ where, b[same, 1] @ where
        found = differences(*sums)
        known = np.isfinite(found)
        unpaired = int((~same[np.argmax(same) :]).sum()) if same.any() else len(ends)
        first, last = (float(times[0]), float(times[-1])) if len(times) else (None, None)
        return Paired(times[known], found[known], unpaired, first, last, _ratio(*sums[1:]))


def _widened(sums: F64 | None, columns: int) -> F64:
    wide = np.zeros((SUMS, columns))
    if sums is not None:
        wide[:, : sums.shape[1]] = sums
    return wide


def _stacked(buckets: dict[float, F64], ends: list[float], columns: int) -> F64:
    """Return the buckets one after the other, zeros where there is none, shape (len(ends), 4, columns)."""
    return np.stack([_widened(buckets.get(end), columns) for end in ends]) if ends else np.empty((0, SUMS, columns))


def _by_line(columns: dict[Cell, int]) -> F64:
    """Return which cells belong to which horizon and target, whatever the partition, shape (columns, lines)."""
    lines = sorted({cell[:2] for cell in columns})
    where = np.zeros((len(columns), len(lines)))
    for cell, column in columns.items():
        where[column, lines.index(cell[:2])] = 1.0
    return where


def differences(n: F64, mine: F64, theirs: F64) -> F64:
    """Return one number for each bucket, NaN as long as no scale is known: see `PairedErrors.series`.

    Parameters
    ----------
    n, mine, theirs
        Realised forecasts and both versions' sums of absolute errors, shape (t, horizons and targets).
    """
    count = _before((n > 0).astype(np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        usual = np.stack((_before(mine), _before(theirs))) / _before(n)
        scale = np.where(usual.min(axis=0) > 0, usual.min(axis=0), usual.max(axis=0))
        shares = np.clip((mine - theirs) / n / scale, -LIMIT, LIMIT)
    counts = (n > 0) & (count >= WARM_UP) & (scale > 0)
    total, lines = np.where(counts, shares, 0.0).sum(axis=1), counts.sum(axis=1)
    return np.where(lines > 0, total / np.maximum(lines, 1), np.nan)


def _ratio(mine: F64, theirs: F64) -> float:
    champion, candidate = mine.sum(axis=0), theirs.sum(axis=0)
    known = champion > 0
    return float((candidate[known] / champion[known]).mean()) if known.any() else math.nan


def _before(x: F64) -> F64:
    """Return the sums over all rows before each."""
    return np.concatenate((np.zeros_like(x[:1]), np.cumsum(x, axis=0)[:-1]))
