"""Joins forecasts with what really came, for all entities of one partition under one model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.errors import MISFITS, NewerStateError, StateError
from dwcp_stream.events import Accuracy, rfc3339
from dwcp_stream.forecasts.buckets import COUNTS, SECONDS, SUMS, AccuracyBuckets
from dwcp_stream.forecasts.conformal import Correction
from dwcp_stream.forecasts.ring import PARTS, PendingRing, TakenForecasts, Waiting
from dwcp_stream.forecasts.run import Run

STATE_VERSION = 1

I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Advanced:
    """What a run of rows led to.

    Attributes
    ----------
    corrected
        float32[b, H, Y, 3], quantiles after the conformal correction: publish these beside the raw ones.
    errors
        float32[a], how far off the forecasts for each row were: the mean over horizons and targets of |q50
        - actual| / (|q50| + |actual|), from 0 to 1, alike on links of any size; NaN where none was
        realised.
    """

    corrected: F32
    errors: F32


class ForecastTracker:
    """Keeps each forecast until its target row comes, and counts how it did.

    A target whose row brings no value for it, that is skipped, or that a restart or expiry of the window
    cuts off, counts as missed. What becomes of an entity depends on its own rows alone.

    Parameters
    ----------
    stream, model
        Names for the accuracy messages.
    targets, horizons
        Names of the Y targets, and the H horizons in grid steps.
    step
        Seconds of a grid step; 0 for an irregular stream, whose missed forecasts are counted at the time of
        issue.
    partition, arm
        For the accuracy messages.
    seconds, lateness
        Length of an accuracy bucket and how long to wait after its end, seconds of event time.
    lower, upper
        Valid range of each target, length Y: corrected quantiles stay inside. None: no limits.
    """

    def __init__(
        self,
        stream: str,
        model: str,
        targets: Sequence[str],
        horizons: Sequence[int],
        step: float,
        *,
        partition: int,
        arm: str = "champion",
        seconds: float = SECONDS,
        lateness: float = 0.0,
        lower: Sequence[float] | None = None,
        upper: Sequence[float] | None = None,
    ) -> None:
        self.stream, self.model, self.arm, self.partition = stream, model, arm, partition
        self.targets, self.horizons, self.step = tuple(targets), tuple(horizons), float(step)
        self._ring = PendingRing(self.horizons, self.targets)
        self._furthest = max(self.horizons)
        self.buckets = AccuracyBuckets(len(self.horizons), len(self.targets), seconds, lateness)
        self.correction = Correction(len(self.horizons), len(self.targets), lower, upper)

    def advance(
        self,
        slots: I64,
        rows: I64,
        ts: F64,
        actuals: F32,
        *,
        restarted: NDArray[np.bool_],
        forecast_index: I64,
        quantiles: F32,
        version: int,
    ) -> Advanced:
        """Take new rows: first they settle what waited for them, then forecasts made at them begin to wait.

        Parameters
        ----------
        slots, rows, ts
            Slot, grid row and time of each row (epoch seconds), shape (a,), in the order of the log.
        actuals
            Values of the targets, shape (a, Y); NaN = not measured.
        restarted
            Whether the window was started anew at the row, shape (a,).
        forecast_index, quantiles
            Rows with a new forecast, indices of shape (b,), and what the model said, shape (b, H, Y, 3).
        version
            Version of the model that said it.
        """
        self.correction.use(version)
        corrected = self.correction.apply(quantiles)
        if not len(slots):
            return Advanced(corrected, np.zeros(0, np.float32))
        run = Run(slots, rows, restarted, self._ring.row, self._furthest)
        old = self._ring.remove_until(run.slots, run.last)
        old_ts = self._ring.ts[run.slots[old.group]] + old.steps * self.step
        values = _packed(quantiles, corrected, actuals[forecast_index])
        new, new_ts = self._issue(run, run.place[forecast_index], ts[forecast_index], values, version)
        settled = Waiting.joined(old, new)
        place, matched = run.find(settled.group, settled.steps)
        row = run.order[place]
        actual = np.where(matched[:, None], actuals[row], np.float32(np.nan))
        target_ts = np.where(matched, ts[row], np.concatenate((old_ts, new_ts)))
        order = np.lexsort((settled.horizon, row))  # the order of the log: sums must not depend on chunks
        self.buckets.add(
            settled.horizon[order],
            settled.version[order],
            target_ts[order],
            settled.values[order],
            actual[order],
        )
        self._ring.head[run.slots] += run.last
        self._ring.row[run.slots] = rows[run.order[run.ends]]
        self._ring.ts[run.slots] = ts[run.order[run.ends]]
        q50 = settled.values[order, :, 1]
        return Advanced(corrected, _errors(len(slots), row[order], q50, actual[order]))

    def _issue(self, run: Run, place: I64, ts: F64, values: F32, version: int) -> tuple[Waiting, F64]:
        """Let new forecasts wait; return those whose target lies within the run, and their target times."""
        group, made_at = run.group[place], run.steps[place]
        told: NDArray[np.bool_] = np.asarray(np.isfinite(values[..., 1]).any(axis=2))
        found: list[Waiting] = []
        times: list[F64] = []
        for j, horizon in enumerate(self.horizons):
            target = made_at + horizon
            within = told[:, j] & (target <= run.last[group])
            later = told[:, j] & ~within
            slot = run.slots[group[later]]
            at = (slot, self._ring.place(j, self._ring.head[slot] + target[later]))
            self._ring.values[at] = values[later, j]
            self._ring.version[at] = version
            n = int(within.sum())
            found.append(
                Waiting(
                    group[within],
                    target[within],
                    np.full(n, j),
                    np.full(n, version, np.int32),
                    values[within, j],
                )
            )
            times.append(ts[within] + horizon * self.step)
        return Waiting.joined(*found), np.concatenate(times)

    def expire(self, slots: I64) -> None:
        """Close everything that waits in the slots as missed, and forget them."""
        left = self._ring.remove_until(slots, np.full(len(slots), self._furthest))
        nothing = np.full(left.values.shape[:2], np.nan, np.float32)
        ts = self._ring.ts[slots[left.group]] + left.steps * self.step
        self.buckets.add(left.horizon, left.version, ts, left.values, nothing)
        self.clear(slots)

    def drain(self, watermark: float) -> list[Accuracy]:
        """Return the accuracy of buckets that ended before the watermark; the correction learns from it."""
        return self._accuracy(self.buckets.drain(watermark), watermark)

    def flush(self, watermark: float) -> list[Accuracy]:
        """Return the accuracy of every bucket at the end of a file; `watermark` is the event time reached."""
        return self._accuracy(self.buckets.flush(), watermark)

    def _accuracy(self, ended: list[tuple[int, int, F64]], watermark: float) -> list[Accuracy]:
        result = []
        for bucket, version, sums in ended:
            named = {name: sums[..., k] for k, name in enumerate(SUMS)}
            self.correction.update(version, named["n"], named["covered"])
            start, end = self.buckets.bounds(bucket)
            for (j, y), n in np.ndenumerate(named["n"]):
                if n or named["missed"][j, y]:
                    numbers: dict[str, Any] = {
                        name: int(cell[j, y]) if name in COUNTS else float(cell[j, y]) for name, cell in named.items()
                    }
                    result.append(
                        Accuracy(
                            stream=self.stream,
                            model=self.model,
                            version=version,
                            arm=self.arm,
                            horizon=self.horizons[j],
                            target=self.targets[y],
                            partition=self.partition,
                            bucket_start=start,
                            bucket_end=end,
                            event_time=rfc3339(watermark),
                            **numbers,
                        )
                    )
        return result

    def state(self) -> dict[str, Any]:
        """Return what belongs to the partition rather than to an entity: open buckets and the correction."""
        return {
            "v": STATE_VERSION,
            "horizons": list(self.horizons),
            "targets": list(self.targets),
            "buckets": self.buckets.state(),
            "correction": self.correction.state(),
        }

    def load_state(self, plain: Any) -> str | None:
        """Take over what `state` gave.

        Returns
        -------
        str or None
            None if it was taken over; why not, if the model now has other horizons or targets.

        Raises
        ------
        StateError
            If it is not such a state; `NewerStateError` if a later version wrote it.
        """
        try:
            if int(plain["v"]) > STATE_VERSION:
                raise NewerStateError(
                    f"accuracy state version {plain['v']}, this daemon knows {STATE_VERSION}",
                    where=self.model,
                    remedy="Run the version that wrote it, or a later one.",
                )
            if tuple(plain["horizons"]) != self.horizons or tuple(plain["targets"]) != self.targets:
                return f"open accuracy buckets of {self.model} dropped: its horizons or targets have changed"
            self.buckets.load(plain["buckets"])
            self.correction.load(plain["correction"])
        except MISFITS as error:
            raise StateError(f"not the state of accuracy buckets: {error}", where=self.model) from error
        return None

    def resize(self, capacity: int) -> None:
        """Make room for `capacity` slots; never shrinks."""
        self._ring.resize(capacity)

    def clear(self, slots: I64) -> None:
        """Forget the slots without counting what waits in them."""
        self._ring.clear(slots)

    def take(self, slots: I64) -> TakenForecasts:
        """Copy what waits in the slots."""
        return self._ring.take(slots)

    def load(self, slot: int, plain: Any) -> None:
        """Put back what `TakenForecasts.plain` gave; StateError if it is something else."""
        self._ring.load(slot, plain)


def _packed(raw: F32, corrected: F32, last: F32) -> F32:
    """Return what is kept of forecasts: shape (b, H, Y, PARTS)."""
    values = np.empty((*raw.shape[:3], PARTS), np.float32)
    values[..., :3] = raw
    values[..., 3] = last[:, None, :]
    values[..., 4] = corrected[..., 0]
    values[..., 5] = corrected[..., 2]
    return values


def _errors(rows: int, row: I64, q50: F32, actual: F32) -> F32:
    forecast, came = q50.astype(np.float64), actual.astype(np.float64)
    real = np.isfinite(forecast) & np.isfinite(came)
    forecast, came = np.where(real, forecast, 0.0), np.where(real, came, 0.0)
    size = np.abs(forecast) + np.abs(came)
    off = np.divide(np.abs(forecast - came), size, out=np.zeros_like(size), where=real & (size > 0))
    n = np.bincount(row, real.sum(axis=1), rows)
    total = np.bincount(row, off.sum(axis=1), rows)
    mean: F64 = np.divide(total, n, out=np.full(rows, np.nan), where=n > 0)
    return mean.astype(np.float32)
