"""Scores of a stream's models over a table, and the troubles in it: what alert policies are tried on."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dwcp_stream.alerts.budget import Trouble
from dwcp_stream.alerts.simulate import ScoreHistory
from dwcp_stream.backtest import backtest
from dwcp_stream.events import Alert
from dwcp_stream.history.episodes import episodes, numbered_entities
from dwcp_stream.history.made_up import MadeUp, make_up
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.realised import Feedback
from dwcp_stream.scoring import Model, Verdicts
from dwcp_stream.streams import StreamDefinition
from dwcp_stream.streams.files import rows_to_records

MISSED_SECONDS = 900.0
"""How long trouble lasts that no alert told of: nobody says when it was over."""


class _Scores:
    """Keeps the scores of a pipeline by model."""

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        self.parts: dict[str, list[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float32]]]] = {}

    def __call__(
        self,
        model: Model,
        entities: Sequence[str],
        ts: NDArray[np.float64],
        verdicts: Verdicts,
        _firing: NDArray[np.bool_],
    ) -> None:
        codes = [self.codes.setdefault(entity, len(self.codes)) for entity in entities]
        self.parts.setdefault(model.name, []).append((np.array(codes, np.int64), ts.copy(), verdicts.score.copy()))


def score_table(
    models: Sequence[Model],
    stream: StreamDefinition,
    table: pl.DataFrame,
    progress: Callable[[int], None] = lambda _: None,
) -> list[ScoreHistory]:
    """Run a stream's models over a table, beginning with nothing known of any entity.

    Parameters
    ----------
    table
        The stream's time, entity and field columns; others are ignored.
    progress
        Called with the samples done since the last call.
    """
    scores = _Scores()
    pipeline = Pipeline(stream, models, check_ahead=False, recorder=scores)
    for result in backtest(pipeline, rows_to_records(table.sort(stream.time, maintain_order=True), stream)):
        progress(int(result.counts.sum()) + result.replayed)
    names = list(scores.codes)
    found = []
    for model in models:
        parts = scores.parts.get(model.name, [])
        entity, ts, score = (np.concatenate(column) for column in zip(*parts, strict=True)) if parts else _NOTHING
        found.append(ScoreHistory(model.name, tuple(model.severity), names, entity, ts, score))
    return found


_NOTHING = np.zeros(0, np.int64), np.zeros(0, np.float64), np.zeros(0, np.float32)


def labelled(stream: StreamDefinition, table: pl.DataFrame, label: str) -> list[Trouble]:
    """Return the runs of rows of an entity whose label is 1."""
    names, codes = numbered_entities(stream, table)
    rows = pl.DataFrame(
        {"code": codes, "ts": table[stream.time], "on": table[label].cast(pl.Float64).eq(1.0).fill_null(value=False)}
    ).sort("code", "ts", maintain_order=True)
    change = (pl.col("on") != pl.col("on").shift(1)) | (pl.col("code") != pl.col("code").shift(1))
    runs = rows.with_columns(run=change.fill_null(value=True).cum_sum()).filter("on")
    runs = runs.group_by("run", maintain_order=True).agg(
        pl.col("code").first(), starts=pl.col("ts").min(), ends=pl.col("ts").max()
    )
    return [Trouble(names[row["code"]], row["starts"], row["ends"]) for row in runs.iter_rows(named=True)]


def judged(stream: str, alerts: Iterable[Alert], feedback: Iterable[Feedback]) -> list[Trouble]:
    """Return the alerts that operators called right, and what they called missed."""
    known = episodes(stream, alerts, feedback, MISSED_SECONDS)
    return [Trouble(e.entity, e.starts, e.ends) for e in known if e.said in ("true", "missed")]


def pieces(made: MadeUp) -> list[Trouble]:
    """Return the pieces of made-up trouble."""
    spans = made.places.group_by("piece", maintain_order=True).agg(
        pl.col("entity").first(), starts=pl.col("ts").min(), ends=pl.col("ts").max()
    )
    return [Trouble(row["entity"], row["starts"], row["ends"]) for row in spans.iter_rows(named=True)]


def made_up_trouble(
    models: Sequence[Model],
    stream: StreamDefinition,
    table: pl.DataFrame,
    span: tuple[float, float],
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[list[ScoreHistory], list[Trouble]]:
    """Return the models' scores over a part of a table into which trouble was put, and the troubles.

    Parameters
    ----------
    span
        Begin and end (excluded) of the part, epoch seconds.
    """
    part = table.filter(pl.col(stream.time).is_between(*span, closed="left"))
    label = "__label"
    made = make_up(stream, part.with_columns(pl.lit(0.0).alias(label)), label)
    return score_table(models, stream, made.table.drop(label), progress), pieces(made)
