"""A model run over a table as the daemon would run it: its verdicts, and what its forecasts were worth."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dwcp_stream.backtest import backtest
from dwcp_stream.events import Accuracy
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.scoring import Model, Verdicts
from dwcp_stream.streams import StreamDefinition
from dwcp_stream.streams.files import rows_to_records

CHUNK_RECORDS: Final = 2000
SCHEMA: Final = {"entity": pl.String, "ts": pl.Float64, "score": pl.Float32, "firing": pl.Boolean}


@dataclass(frozen=True)
class TrialRun:
    """What a model made of a table.

    Attributes
    ----------
    verdicts
        A row per scored window: entity, ts, score, firing (whether the entity's alert fires after it).
    accuracies
        Realised errors of its forecasts, also of buckets that the table ends in.
    alerts
        Alerts that began.
    infinite
        Windows with a score, probability or quantile that is infinite.
    """

    verdicts: pl.DataFrame
    accuracies: Sequence[Accuracy]
    alerts: int
    infinite: int

    @property
    def scored(self) -> int:
        """Windows with a score; NaN is no verdict."""
        return int(self.verdicts["score"].is_finite().sum())


class _Recorder:
    """Keeps the verdicts of a pipeline."""

    def __init__(self) -> None:
        self.parts: list[pl.DataFrame] = []
        self.infinite = 0

    def __call__(
        self,
        _model: Model,
        entities: Sequence[str],
        ts: NDArray[np.float64],
        verdicts: Verdicts,
        firing: NDArray[np.bool_],
    ) -> None:
        self.parts.append(
            pl.DataFrame(
                {"entity": list(entities), "ts": ts, "score": verdicts.score.astype(np.float32), "firing": firing},
                schema=SCHEMA,
            )
        )
        numbers = (verdicts.score, verdicts.probability, verdicts.quantiles)
        bad = np.zeros(len(ts), bool)
        for values in numbers:
            if values is not None:
                bad |= np.isinf(values).reshape(len(ts), -1).any(axis=1)
        self.infinite += int(bad.sum())


def trial_run(
    model: Model, stream: StreamDefinition, table: pl.DataFrame, progress: Callable[[int], None] = lambda _: None
) -> TrialRun:
    """Run a model over a table, beginning with nothing known of any entity.

    Parameters
    ----------
    model
        Bound to the stream.
    table
        The stream's time, entity and field columns; others are ignored.
    progress
        Called with the samples done since the last call.
    """
    recorder = _Recorder()
    pipeline = Pipeline(stream, [model], check_ahead=False, recorder=recorder)
    accuracies: list[Accuracy] = []
    alerts = 0
    records = rows_to_records(table.sort(stream.time, maintain_order=True), stream)
    for result in backtest(pipeline, records, chunk_records=CHUNK_RECORDS):
        accuracies += result.accuracies
        alerts += sum(transition.action == "firing" for _, transition, _ in result.transitions)
        progress(int(result.counts.sum()) + result.replayed)
    for state in pipeline.partitions.values():
        for tracker in state.forecasts.values():
            accuracies += tracker.flush(state.watermark)
    verdicts = pl.concat(recorder.parts) if recorder.parts else pl.DataFrame(schema=SCHEMA)
    return TrialRun(verdicts, accuracies, alerts, recorder.infinite)
