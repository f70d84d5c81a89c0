"""Turns what happens in a worker into metrics, progress and readiness."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from faust.types import TP
from structlog import get_logger

from dwcp_stream.activations import Activation
from dwcp_stream.chunk import Chunk, ChunkResult
from dwcp_stream.errors import BrokerError, ModelError
from dwcp_stream.events import Accuracy, ModelAction, ModelEvent, rfc3339
from dwcp_stream.forecasts import statistics
from dwcp_stream.kafka.checkpoint import CheckpointStats
from dwcp_stream.kafka.processor import by_topic
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.scoring import Model
from dwcp_stream.telemetry.health import Liveness, Readiness
from dwcp_stream.telemetry.metrics import Metrics

log = get_logger(__name__)

STATS = ("mae", "rmse", "bias", "mape", "skill")


class MetricsObserver:
    """Observer of one stream's worker.

    Parameters
    ----------
    clock
        Epoch seconds, for the age of alerts and checkpoints.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        metrics: Metrics,
        liveness: Liveness,
        readiness: Readiness,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.pipeline, self.metrics = pipeline, metrics
        self.liveness, self.readiness, self.clock = liveness, readiness, clock
        self.stream = pipeline.stream.name
        self.news: list[ModelEvent] = []
        self._held: set[int] = set()

    def chunk(self, chunk: Chunk, result: ChunkResult) -> None:
        """Count a processed chunk."""
        metrics, stream = self.metrics, self.stream
        metrics.samples(stream, result.counts.tolist(), result.replayed)
        metrics.payloads(stream, unknown_fields=result.unknown_fields, key_mismatches=result.key_mismatches)
        metrics.dead_letters(stream, result.rejected)
        metrics.outputs(stream, by_topic(result.outputs))
        metrics.timings(stream, result.seconds)
        for stamp in result.telling_ms:
            metrics.detection_latency(stream, self.clock() - stamp / 1000)
        for model, transition, top in result.transitions:
            score = 0.0 if math.isnan(transition.score) else transition.score
            metrics.alert(stream, model, transition.action, transition.severity, top or model, score)
        for drift in result.drifts:
            state = self.pipeline.partitions.get(drift.partition)
            if state is not None:  # else it was revoked while its last chunk was processed
                for detector, word in state.drift[drift.model].states().items():
                    metrics.drift(stream, drift.model, detector, word, drift.partition)
            if drift.state == "drifted":
                metrics.retrain(stream, drift.model)
        for model, number in result.predictions.items():
            metrics.count("dwcp_pba_predictions_total", number, stream, model)
        for model, sure in result.confidence.items():
            metrics.set("dwcp_pba_confidence", sure, stream, model)
        for model, windows in result.scored_windows.items():
            if windows:
                metrics.scoring(stream, model, result.model_seconds[model])
        self._accuracy(result.accuracies)
        self._swaps(chunk, result)

    def _swaps(self, chunk: Chunk, result: ChunkResult) -> None:
        for swap in result.swaps:
            if swap.arm == "champion":
                self.metrics.swapped(self.stream, swap.model, swap.version)
            log.info(
                "model version took over", model=swap.model, arm=swap.arm, version=swap.version,
                before=swap.before, partition=chunk.partition, offset=swap.offset,
            )  # fmt: skip

    def refused(self, wanted: Activation, error: ModelError, serving: Model) -> None:
        """Tell of a version that the state names and that cannot be had any more."""
        self.refusal(wanted.model, "", wanted.version, error, serving.version)

    def refusal(self, model: str, alias: str, version: int, error: ModelError, serving: int) -> None:
        """Count a refused version, log the reason and keep it to be published."""
        self.metrics.refused(self.stream, model)
        self.metrics.error(self.stream, error.error_type, error.stage)
        log.error(
            "model refused; another version serves", model=model, version=version, serving=serving, reason=str(error),
            error_type=error.error_type, stage=error.stage,
        )  # fmt: skip
        self.news.append(self._news("refused", model, alias, version, str(error), serving))

    def loaded(self, model: Model, alias: str) -> None:
        """Keep to be published that a version is verified and serves from here on."""
        log.info("model loaded", model=model.name, version=model.version, alias=alias)
        self.news.append(self._news("loaded", model.name, alias, model.version, "", model.version))

    def _news(self, action: ModelAction, model: str, alias: str, version: int, reason: str, serving: int) -> ModelEvent:
        return ModelEvent(
            stream=self.stream, model=model, alias=alias, version=version, action=action, reason=reason,
            serving=serving, event_time=rfc3339(self.clock()),
        )  # fmt: skip

    def _accuracy(self, parts: Sequence[Accuracy]) -> None:
        by_model: defaultdict[str, list[Accuracy]] = defaultdict(list)
        for part in parts:
            self.metrics.realised(part)
            if part.arm != "champion":
                continue
            by_model[part.model].append(part)
            labels = (self.stream, part.model, str(part.horizon), part.target)
            for stat, value in statistics([part]).items():
                if stat == "coverage":
                    self.metrics.set("dwcp_interval_coverage", value, *labels)
                elif stat in STATS:
                    self.metrics.set("dwcp_realised_error", value, *labels, stat)
            self.metrics.count("dwcp_forecasts_missed_total", part.missed, *labels)
        for model, of_model in by_model.items():
            whole = statistics(of_model)
            if not math.isnan(whole["mape"]):
                accuracy = max(0.0, 1.0 - whole["mape"])
                self.metrics.set("dwcp_pba_prediction_accuracy", accuracy, self.stream, model)
            self.metrics.set("dwcp_pba_sample_count", sum(p.n for p in of_model), self.stream, model)

    def recovered(self, partitions: int, entities: int, seconds: float) -> None:
        """Record a finished recovery after a change of the assignment."""
        self.metrics.recovery(self.stream, seconds=seconds, entities=entities)
        self.metrics.assigned(self.stream, partitions)
        for state in self.pipeline.partitions.values():
            for model in state.models.values():
                self.metrics.model(self.stream, model.name, model.version)

    def hole(self, tp: TP, position: int, first: int, refetched: bool) -> None:  # noqa: ARG002
        """Count a hole in the offsets."""
        self.metrics.hole(self.stream, refetched=refetched, offsets=first - position)

    def checkpoint(self, stats: CheckpointStats) -> None:
        """Record a checkpoint."""
        if stats.failed:
            self.metrics.checkpoint_failed(self.stream)
            self.metrics.error(self.stream, BrokerError.error_type, BrokerError.stage)
            return
        for partition in stats.partitions:
            self.metrics.checkpoint(
                self.stream,
                partition,
                seconds=stats.seconds,
                entities=stats.entities,
                size=stats.bytes,
                now=self.clock(),
            )
            stats.entities = stats.bytes = 0  # counted once, with the first partition

    def poll(self, end_offsets: dict[TP, int], ready: set[int], rebalancing: bool) -> None:
        """Record lag, state sizes, progress and readiness; called on a timer."""
        for partition in self._held - ready:
            self.liveness.revoked(partition)
            self.metrics.revoked(self.stream, partition)
        self._held = set(ready)
        for tp, end in list(end_offsets.items()):
            state = self.pipeline.partitions.get(tp.partition)
            if state is None or tp.partition not in ready:
                continue
            position = state.position if state.position is not None else 0
            self.liveness.progress(tp.partition, position, end)
            self.metrics.lag(self.stream, tp.partition, position, end)
            self.metrics.state(
                self.stream,
                tp.partition,
                entities=len(state.windows.slots),
                grid_fill=state.windows.fill_ratio(),
                watermark=state.watermark,
            )
            for model, tracker in state.alerts.items():
                self.metrics.firing(self.stream, tp.partition, model, tracker.firing)
        if rebalancing:
            self.readiness.fail("assigned", "the group is rebalancing")
        else:
            self.readiness.meet("assigned", f"{len(ready)} partitions")
        self.metrics.ready(self.stream, {n: c.ok for n, c in self.readiness.check().checks.items()})
