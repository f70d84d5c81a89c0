"""Counters become rates per second that survive resets."""

import numpy as np

from dwcp_stream.windows.layout import F64, I64


def rates(raw: F64, ts: F64, *, start: I64, seg: I64, last: F64) -> tuple[F64, F64]:
    """Turn raw counters into rates against the last value present, over any number of entities at once.

    A value below the one before it means that the counter was reset and has counted from 0 since, as in
    Prometheus' ``rate`` (https://prometheus.io/docs/prometheus/latest/querying/functions/#rate). The first
    value of an entity has nothing to be compared with, so its rate is NaN; a missing value has no rate and
    leaves the last one as it was. Everything is float64: float32 cannot hold a byte counter.

    Parameters
    ----------
    raw
        float64[a, C], counter values; rows of one entity are adjacent and in time order. NaN = missing.
    ts
        float64[a], seconds; strictly increasing within an entity.
    start
        int64[k], first row of each entity.
    seg
        int64[a], entity of each row, 0 .. k - 1.
    last
        float64[k, 2, C], last value present of each counter and its time; NaN = none yet.

    Returns
    -------
    rates : float64[a, C]
    last : float64[k, 2, C]
        As the argument, after these rows.
    """
    n, columns = raw.shape
    present = np.where(np.isnan(raw), -1, np.arange(n)[:, None])
    newest = np.maximum.accumulate(present, axis=0)  # newest row with a value, up to and including each row
    previous = np.full((n, columns), -1, np.int64)
    previous[1:] = newest[:-1]
    known = previous >= start[seg][:, None]  # else the newest belongs to the entity before, or there is none
    column = np.arange(columns)
    value = np.where(known, raw[previous, column], last[seg, 0])
    when = np.where(known, ts[previous], last[seg, 1])
    rate = (raw - np.where(raw < value, 0.0, value)) / (ts[:, None] - when)

    end = np.append(start[1:], n) - 1
    final = newest[end]
    changed = final >= start[:, None]
    after = np.empty_like(last)
    after[:, 0] = np.where(changed, raw[final, column], last[:, 0])
    after[:, 1] = np.where(changed, ts[final], last[:, 1])
    return rate, after
