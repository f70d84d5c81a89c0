"""Realised errors, summed in buckets of target time so that workers and partitions add up."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.events import Accuracy, rfc3339

SUMS = (
    "n", "abs_error", "sq_error", "error", "ape", "ape_n", "persistence_n", "persistence_abs_error",
    "paired_abs_error", "pinball", "covered", "covered_raw", "missed",
)  # fmt: skip
"""Order of the sums in a bucket's last axis; the names are those of the payload."""
COUNTS = frozenset({"n", "ape_n", "persistence_n", "covered", "covered_raw", "missed"})
SECONDS = 300.0
"""Length of a bucket."""
LEVELS = (0.1, 0.5, 0.9)

F64 = NDArray[np.float64]


class AccuracyBuckets:
    """Sums per bucket, model version, horizon and target.

    Sums are made in the order of the log and by plain addition to what is there, so they are the same to
    the last bit however the log is cut into chunks.

    Parameters
    ----------
    horizons, targets
        Number of horizons H and of targets Y.
    seconds
        Length of a bucket of target time.
    lateness
        Seconds of event time to wait after a bucket's end. What comes later still makes a further part.
    """

    def __init__(self, horizons: int, targets: int, seconds: float = SECONDS, lateness: float = 0.0) -> None:
        self._shape = (horizons, targets, len(SUMS))
        self.seconds, self.lateness = seconds, lateness
        self._sums: dict[tuple[int, int], F64] = {}

    def add(
        self,
        horizon: NDArray[np.int64],
        version: NDArray[np.int32],
        target_ts: F64,
        forecast: NDArray[np.float32],
        actual: NDArray[np.float32],
    ) -> None:
        """Count settled forecasts, in the order of the rows that settled them.

        Parameters
        ----------
        horizon, version, target_ts
            Horizon's index, model version and target time (epoch seconds) of each, shape (n,).
        forecast
            q10, q50, q90, value at the time of issue, corrected q10, corrected q90, shape (n, Y, 6). A target
            whose q50 is NaN was not forecast and counts nowhere.
        actual
            What came, shape (n, Y); NaN = missed.
        """
        if not len(horizon):
            return
        terms = _terms(forecast.astype(np.float64), actual.astype(np.float64))
        bucket = np.floor(target_ts / self.seconds).astype(np.int64)
        order = np.lexsort((horizon, version, bucket))  # stable: each sum keeps the order of the log
        keys = np.stack((bucket, version, horizon), axis=1)[order]
        starts = np.flatnonzero(np.append(True, (keys[1:] != keys[:-1]).any(axis=1)))
        for (k, v, j), mine in zip(keys[starts].tolist(), np.split(order, starts[1:]), strict=True):
            sums = self._sums.setdefault((k, v), np.zeros(self._shape))
            # Accumulate adds one after the other, as later calls will go on doing.
            line = np.concatenate((sums[j].T[..., None], terms[..., mine]), axis=-1)
            sums[j] = np.add.accumulate(line, axis=-1, out=line)[..., -1].T

    def drain(self, watermark: float) -> list[tuple[int, int, F64]]:
        """Remove and return buckets that ended `lateness` before the watermark: (bucket, version, sums).

        Buckets come in order of time; sums have shape (H, Y, len(SUMS)).
        """
        return self._pop(key for key in self._sums if self._ended(key[0], watermark))

    def flush(self) -> list[tuple[int, int, F64]]:
        """Remove and return every bucket, ended or not."""
        return self._pop(self._sums)

    def _ended(self, bucket: int, watermark: float) -> bool:
        return (bucket + 1) * self.seconds + self.lateness <= watermark

    def _pop(self, keys: Any) -> list[tuple[int, int, F64]]:
        return [(*key, self._sums.pop(key)) for key in sorted(keys)]

    def __len__(self) -> int:
        return len(self._sums)

    def state(self) -> list[Any]:
        """Return the open buckets as plain values."""
        return [[*key, sums.ravel().tolist()] for key, sums in sorted(self._sums.items())]

    def load(self, plain: Any) -> None:
        """Take over what `state` gave; ValueError or TypeError if it does not fit."""
        self._sums = {
            (int(bucket), int(version)): np.array(sums, np.float64).reshape(self._shape)
            for bucket, version, sums in plain
        }

    def bounds(self, bucket: int) -> tuple[str, str]:
        """Return a bucket's start and end as RFC 3339."""
        return rfc3339(bucket * self.seconds), rfc3339((bucket + 1) * self.seconds)


def _terms(forecast: F64, actual: F64) -> F64:
    """Return what each settled forecast adds to the sums, shape (len(SUMS), Y, n).

    Infinities count as missing.
    """
    q10, q50, q90, last, low, high = np.ascontiguousarray(forecast.T)
    came = np.ascontiguousarray(actual.T)
    issued = np.isfinite(q50)
    real = issued & np.isfinite(came)
    terms = np.zeros((len(SUMS), *real.shape))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        error = q50 - came
        size = np.abs(error)
        paired = real & np.isfinite(last)
        relative = real & (came != 0)
        pinball = np.zeros_like(size)
        for level, quantile in zip(LEVELS, (q10, q50, q90), strict=True):
            under = came - quantile
            pinball += np.maximum(level * under, (level - 1) * under)
        columns: tuple[tuple[NDArray[np.bool_], float | F64 | NDArray[np.bool_]], ...] = (
            (real, 1.0),
            (real, size),
            (real, error * error),
            (real, error),
            (relative, size / np.abs(came)),
            (relative, 1.0),
            (paired, 1.0),
            (paired, np.abs(last - came)),
            (paired, size),
            (real & np.isfinite(pinball), pinball),
            (real, (low <= came) & (came <= high)),
            (real, (q10 <= came) & (came <= q90)),
            (issued & ~real, 1.0),
        )
        for term, (mask, value) in zip(terms, columns, strict=True):
            np.copyto(term, value, where=mask)
    return terms


def statistics(parts: list[Accuracy]) -> dict[str, float]:
    """Return the error statistics of messages about one model, horizon and target, added up.

    Returns
    -------
    dict
        `n`, `missed`, `mae`, `rmse`, `bias` (forecast - actual) in the target's unit, `mape` (actuals of 0
        left out), `skill` = 1 - MAE / MAE of repeating the last value on the same forecasts, `pinball`
        (mean over three quantiles), `coverage` and `coverage_raw` of the 80 % interval. NaN where nothing
        is known.
    """
    s = {name: math.fsum(getattr(part, name) for part in parts) for name in SUMS}

    def mean(total: str, count: str = "n") -> float:
        return s[total] / s[count] if s[count] else math.nan

    baseline = s["persistence_abs_error"]
    return {
        "n": s["n"],
        "missed": s["missed"],
        "mae": mean("abs_error"),
        "rmse": math.sqrt(mean("sq_error")),
        "bias": mean("error"),
        "mape": mean("ape", "ape_n"),
        "skill": 1.0 - s["paired_abs_error"] / baseline if baseline else math.nan,
        "pinball": mean("pinball") / len(LEVELS),
        "coverage": mean("covered"),
        "coverage_raw": mean("covered_raw"),
    }
