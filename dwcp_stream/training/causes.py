"""What became of each cause: events found and missed, rows in alarm, and what kind the model said."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.dataset import Floats, Grid
from dwcp_stream.training.intervals import share
from dwcp_stream.training.labels import Labelled
from dwcp_stream.training.metrics import count_runs

COLUMNS = ("label", "cause", "kind")
NEGATIVE = "negative"
"""Column that names hard negatives: what looks like trouble and is none."""
MERGE = 10
NONE = "(none)"
"""Quiet rows that no hard negative was on in."""


def cause_column(grid: Grid, *candidates: str) -> str | None:
    """Return the first of these columns, then of the usual ones, that holds words."""
    known = [name for name in (*candidates, *COLUMNS) if name in grid.columns and grid.columns[name].dtype == object]
    return known[0] if known else None


def by_cause(
    data: Labelled, rows: NDArray[np.bool_], score: Floats, column: str, said: NDArray[Any] | None, kinds: Sequence[str]
) -> list[dict[str, Any]]:
    """Sum up a detector by the cause of the events, and by what quiet rows were like.

    Parameters
    ----------
    data, rows
        Labels, and [R] rows that count.
    score
        [R], 1.0 at the threshold.
    column
        Column that names the cause of a row; an event has the cause that most of its rows name.
    said, kinds
        [R, K] how much each of the model's kinds fits, or None.

    Returns
    -------
    list of dict
        `cause`, `events`, `found`, `found_interval`, `rows`, `rows_in_alarm`, `delay_median`; with kinds also `said`,
        a count of found events by the kind that fits best over their rows in alarm. For quiet rows, by hard negative,
        `events` is 0 and `false_alarms` counts the runs of alarm.
    """
    on = rows & data.scored
    alarm = on & (np.nan_to_num(score, nan=-np.inf) > 1.0)
    words = np.array([str(word).strip() for word in data.grid.columns[column]], dtype=object)
    named = {int(n): _usual(words[data.event == n]) for n in np.unique(data.event[on & (data.event >= 0)])}
    starts = data.starts()
    result = []
    for cause in sorted(set(named.values())):
        mine = [number for number, name in named.items() if name == cause]
        inside = on & np.isin(data.event, mine)
        hit = np.unique(data.event[inside & alarm])
        first = [int(np.flatnonzero(alarm & (data.event == n))[0]) for n in hit]
        delays = [float(data.grid.ts[row] - starts[n]) for row, n in zip(first, hit, strict=True)]
        row = {
            "cause": cause,
            "events": len(mine),
            "found": len(hit),
            "found_interval": share(len(hit), len(mine)),
            "rows": int(inside.sum()),
            "rows_in_alarm": float(alarm[inside].mean()),
            "delay_median": float(np.median(delays)) if delays else float("nan"),
        }
        if said is not None and kinds:
            best = [int(np.nanmean(said[alarm & (data.event == n)], axis=0).argmax()) for n in hit]
            row["said"] = {kind: best.count(i) for i, kind in enumerate(kinds)}
        result.append(row)
    return result + _quiet(data, on, alarm)


def _quiet(data: Labelled, on: NDArray[np.bool_], alarm: NDArray[np.bool_]) -> list[dict[str, Any]]:
    marks = data.grid.columns.get(NEGATIVE)
    words = np.full(len(on), "", dtype=object) if marks is None or marks.dtype != object else marks
    result = []
    for word in sorted({str(w).strip() for w in words[on & data.quiet]}):
        mine = on & data.quiet & np.array([str(w).strip() == word for w in words])
        result.append(
            {
                "cause": f"quiet: {word or NONE}",
                "events": 0,
                "found": 0,
                "found_interval": None,
                "rows": int(mine.sum()),
                "rows_in_alarm": float(alarm[mine].mean()),
                "delay_median": float("nan"),
                "false_alarms": count_runs(np.flatnonzero(alarm & mine), MERGE, data.group),
            }
        )
    return result


def _usual(words: NDArray[Any]) -> str:
    names, counts = np.unique(np.array([w for w in words if w] or ["(unnamed)"], dtype=str), return_counts=True)
    return str(names[counts.argmax()])
