"""Reading one entity's window by field name."""

from collections.abc import Iterator, Mapping

import numpy as np

from dwcp_stream.windows.layout import F32, F64, Bool
from dwcp_stream.windows.taken import Taken


class EntityView(Mapping[str, F32]):
    """One entity's window at the moment it was asked for: field name to float32[T], oldest row first.

    Missing values are NaN; counters are rates per second, categories their codes.

    Parameters
    ----------
    entity
        Its name.
    taken
        Its state, the first of those taken.

    Attributes
    ----------
    entity
        Its name.
    rows
        float32[T, F], all fields side by side.
    filled
        bool[T], rows that have a sample.
    times
        float64[T], epoch seconds; on an irregular stream NaN where there is no sample.
    """

    def __init__(self, entity: str, taken: Taken) -> None:
        layout = taken.layout
        order = taken.oldest_first(slice(0, 1))[0]
        self.entity = entity
        self.rows: F32 = taken.rows[0, order]
        self.filled: Bool = taken.filled[0, order]
        self._columns = layout.columns
        self._applied, self._last_ts = int(taken.applied[0]), float(taken.last_ts[0])
        if layout.step is None:
            self.times: F64 = taken.times[0, order]
        else:
            row = taken.head[0] + np.arange(1 - layout.window, 1)
            self.times = np.asarray(taken.anchor[0] + row * layout.step)

    @property
    def last_ts(self) -> float:
        """Time of the newest sample, epoch seconds; -inf: none."""
        return self._last_ts

    @property
    def applied(self) -> int:
        """Offset of the last record applied."""
        return self._applied

    def __getitem__(self, field: str) -> F32:
        return self.rows[:, self._columns[field]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        return f"<EntityView {self.entity!r}: {int(self.filled.sum())} of {len(self.filled)} rows>"

    def features(self) -> dict[str, dict[str, float]]:
        """Return simple statistics of each field over the rows that have a value of it.

        Returns
        -------
        dict
            By field: ``last`` (newest value), ``mean``, ``std`` (of the population), ``min``, ``max``,
            ``slope`` (least squares, per step; 0 for a single value) and ``share`` (of the T rows, those that
            have a value). All but ``share`` are NaN for a field without a value.
        """
        return {field: _statistics(self[field]) for field in self}


def _statistics(column: F32) -> dict[str, float]:
    at = np.flatnonzero(~np.isnan(column))
    names = ("last", "mean", "std", "min", "max", "slope")
    if not len(at):
        return dict.fromkeys(names, float("nan")) | {"share": 0.0}
    values = column[at].astype(np.float64)
    away = at - at.mean()
    spread = float(away @ away)
    with np.errstate(invalid="ignore"):  # a value beyond float32 is infinite: so is its mean, others are NaN
        slope = float(away @ values) / spread if spread else 0.0
        numbers = (values[-1], values.mean(), values.std(), values.min(), values.max(), slope)
    return dict(zip(names, map(float, numbers), strict=True)) | {"share": len(at) / len(column)}
