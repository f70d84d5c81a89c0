"""From telemetry, alerts and feedback to what a trainer gets, and what its candidate is judged on."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dwcp_stream.errors import PayloadError
from dwcp_stream.events import Alert
from dwcp_stream.history.episodes import Episode, Mask, Rows, episodes
from dwcp_stream.realised.feedback import Feedback
from dwcp_stream.streams import ModelBinding, StreamDefinition

HOLDOUT: Final = 0.2
LONGEST: Final = 0.25
"""Share of the training time that an alert which nobody judged is left out for; what lasts longer is no incident.

When a stream changes for good, alerts fire until the model has learnt it: if all that were left out, it never could.
"""
LABEL: Final = "label"


@dataclass(frozen=True)
class TrainingSet:
    """Rows to train on, and later ones that no trainer sees.

    Attributes
    ----------
    train
        Rows before `cut`. Those in and shortly before alerts and missed trouble are left out; with `labelled` all are
        there, with a label, `disturbed` = 1 where it is not known, and the kind of the fault in `fault_type`.
    holdout
        All rows from `cut` on, with a label whatever the task: what was left out of training is what a detector should
        find, and what a forecaster will be asked for.
    label
        Name of the label's column: 1 in trouble, 0 outside, null where nobody knows.
    cut
        Epoch seconds.
    left_out
        Rows before `cut` that are not in `train`.
    labelled
        Rows of both parts by label: `incident`, `normal`, `unknown`.
    alerts
        Episodes by what was said of them: `true`, `false`, `unjudged`, `missed`.
    """

    train: pl.DataFrame
    holdout: pl.DataFrame
    label: str
    cut: float
    left_out: int
    labelled: Mapping[str, int]
    alerts: Mapping[str, int]


def training_set(
    stream: StreamDefinition,
    binding: ModelBinding,
    table: pl.DataFrame,
    alerts: Iterable[Alert],
    feedback: Iterable[Feedback],
    *,
    holdout: float = HOLDOUT,
    before: float | None = None,
    labelled: bool | None = None,
    unjudged: bool = True,
) -> TrainingSet:
    """Split telemetry by time, and leave out or label what was no quiet time.

    An alert that somebody judged false is quiet time. One judged true, and what was said to be missed, is trouble. Of
    one that nobody judged nothing is known, nor of the time shortly before an alert: trouble begins before it is seen.
    Where such an alert goes on and on, the stream has changed: only its beginning is left out, see `LONGEST`.

    Parameters
    ----------
    stream, binding
        Definition of the stream, and which of its models.
    table
        Telemetry: the time column in epoch seconds, the entity's columns, the fields.
    alerts, feedback
        Messages of `dwcp.anomalies` and `dwcp.feedback`; those of other streams are ignored.
    holdout
        Share of the time, at its end, that is held out.
    before
        Seconds before an alert that are no quiet time either, and how long missed trouble lasts. Default: the length
        of a window, since that is how far a verdict looks back.
    labelled
        Whether the trainer learns from labels; default: that of incident models does.
    unjudged
        Whether alerts that nobody judged are left out. After a drift they tell of what has changed: it is to be learnt.

    Raises
    ------
    PayloadError
        If the table has no rows, or no time to split.
    """
    if not 0.0 < holdout < 1.0:
        raise ValueError(f"the share to hold out is {holdout}, not between 0 and 1")
    ts = table[stream.time].to_numpy() if len(table) else np.zeros(0)
    first, last = (float(ts.min()), float(ts.max())) if len(ts) else (0.0, 0.0)
    if first >= last:
        raise PayloadError(
            f"{len(table)} samples cannot be split by time", where=stream.name, remedy="Give more recent telemetry"
        )
    cut = last - holdout * (last - first)
    span = window_seconds(stream, table) if before is None else before
    found = episodes(stream.name, alerts, feedback, span)
    rows = Rows(stream, table)
    label = _labels(rows, found, span)
    name = binding.label or LABEL
    marked = table.with_columns(pl.Series(name, label, dtype=pl.Float64, nan_to_null=True))
    early = ts < cut
    supervised = binding.task == "incident" if labelled is None else labelled
    heard = [episode for episode in found if unjudged or episode.said != "unjudged"]
    keep = early if supervised else early & ~_disturbed(rows, heard, span, LONGEST * (cut - first))
    if supervised:
        train = marked.with_columns(
            pl.col(name).is_null().cast(pl.Float64).alias("disturbed"), pl.Series("fault_type", _kinds(rows, found))
        ).filter(pl.Series(keep))
    else:
        train = marked.filter(pl.Series(keep)).drop(name)
    return TrainingSet(
        train=train,
        holdout=marked.filter(pl.Series(~early)),
        label=name,
        cut=cut,
        left_out=int(early.sum() - keep.sum()),
        labelled={
            "incident": int((label == 1).sum()),
            "normal": int((label == 0).sum()),
            "unknown": int(np.isnan(label).sum()),
        },
        alerts={"true": 0, "false": 0, "unjudged": 0, "missed": 0} | Counter(e.said for e in found),
    )


def window_seconds(stream: StreamDefinition, table: pl.DataFrame) -> float:
    """Return how long a window of the stream lasts; where samples come as they like, going by how often they came."""
    if not isinstance(stream.step, str):
        return stream.window * stream.step
    parts = [part for part in stream.entity if part in table.columns]
    apart = table.select(pl.col(stream.time).sort().diff().over(parts) if parts else pl.col(stream.time).sort().diff())
    median = apart.to_series().median()
    return stream.window * (median if isinstance(median, float) else 0.0)


def _disturbed(rows: Rows, found: list[Episode], span: float, longest: float) -> Mask:
    """Return which rows [N] are no quiet time to learn from."""
    told = [
        replace(episode, ends=min(episode.ends, episode.starts + longest)) if episode.said == "unjudged" else episode
        for episode in found
        if episode.said != "false"
    ]
    return rows.inside(told, before=span)


def _labels(rows: Rows, found: list[Episode], span: float) -> NDArray[np.float64]:
    """Return the label of each row [N], NaN where nobody knows."""
    trouble = [episode for episode in found if episode.said in ("true", "missed")]
    told = [episode for episode in found if episode.said != "false"]
    missed = [episode for episode in found if episode.said == "missed"]
    # nobody says when missed trouble was over
    label = np.where(rows.inside(told, before=span) | rows.inside(missed, after=span), np.nan, 0.0)
    label[rows.inside(trouble)] = 1.0
    return label


def _kinds(rows: Rows, found: list[Episode]) -> list[str]:
    """Return the kind of the fault in each row, as the alert that was judged true called it, else nothing."""
    said = [episode for episode in found if episode.said == "true" and episode.kind]
    kinds = np.full(len(rows), "", dtype=object)
    for kind in sorted({episode.kind for episode in said}):
        kinds[rows.inside(episode for episode in said if episode.kind == kind)] = kind
    return list(kinds.tolist())
