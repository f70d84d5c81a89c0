"""Train a model again on recent telemetry, and publish the candidate only if it is no worse than the champion."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import polars as pl
from structlog import get_logger

from dwcp_stream.errors import ModelError, PayloadError
from dwcp_stream.events import Alert
from dwcp_stream.history.compare import MARGIN, compare
from dwcp_stream.history.comparison import Comparison
from dwcp_stream.history.training_set import HOLDOUT, TrainingSet, training_set
from dwcp_stream.loading import LAST_GOOD, BoundModels, open_repository
from dwcp_stream.realised.feedback import Feedback
from dwcp_stream.registry import ModelRepository
from dwcp_stream.scoring import Model
from dwcp_stream.settings import Settings
from dwcp_stream.streams import ModelBinding, StreamDefinition
from dwcp_stream.training.job import Candidate, Job
from dwcp_stream.training.publish import publish

log = get_logger(__name__)
Progress = Callable[[float, str], None]
TRAINED, COMPARED = 0.8, 0.95
"""Shares of the work that are done when training, and comparing, have ended."""


@dataclass(frozen=True)
class Retrained:
    """What became of an attempt to train a model again.

    Attributes
    ----------
    model
        Its name.
    version
        The version published; None if the candidate was refused, or there was none.
    champion
        Whether it serves already, because the model had no version before.
    comparison
        The candidate beside the champion; None if there was no candidate to compare.
    reasons
        Why nothing was published; empty if something was.
    data
        Of the training set: `rows`, `left_out`, `holdout` rows, `cut`, `labelled` rows, `alerts` by judgement.
    metrics
        What the trainer found, with the comparison under `holdout`.
    """

    model: str
    version: int | None = None
    champion: bool = False
    comparison: Comparison | None = None
    reasons: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "model": self.model,
            "version": self.version,
            "champion": self.champion,
            "reasons": list(self.reasons),
            "comparison": None if self.comparison is None else self.comparison.plain(),
            "data": dict(self.data),
            "metrics": dict(self.metrics),
        }


def retrain(
    settings: Settings,
    stream: StreamDefinition,
    binding: ModelBinding,
    table: pl.DataFrame,
    alerts: Iterable[Alert],
    feedback: Iterable[Feedback],
    *,
    holdout: float = HOLDOUT,
    margin: float = MARGIN,
    unjudged: bool = True,
    seed: int = 0,
    epochs: int | None = None,
    licence: str | None = None,
    command: str = "",
    progress: Progress = lambda _share, _what: None,
) -> Retrained:
    """Train on the telemetry before the hold-out, compare on the hold-out, publish what is acceptable.

    Takes minutes of CPU and blocks: an event loop calls it in a thread. No alias is moved, except that a model's first
    version becomes champion. What is published is the very candidate that was compared: the trainer has never seen
    the hold-out.

    Parameters
    ----------
    settings
        Name the model repository.
    stream, binding
        Definition of the stream, and which of its models.
    table
        Recent telemetry, as `recent_telemetry` and `read_archive` give it.
    alerts, feedback
        Messages of `dwcp.anomalies` and `dwcp.feedback` about that time.
    holdout
        Share of the time, at its end, that candidate and champion are compared on.
    margin
        See `compare`.
    unjudged
        Whether alerts that nobody judged are left out, see `training_set`.
    seed, epochs, licence, command
        As for the command `train`.
    progress
        Called with the share done and a word on what is being done.

    Returns
    -------
    Retrained
        Also when nothing could be trained: data that are too few or useless are a reason, not an error.

    Raises
    ------
    ConfigError
        If the trainer's library is not installed.
    """
    # jax reads it once, when it is imported: sums then come out in one order
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    from dwcp_stream.training.trainers import find_trainer, learns_from_labels  # noqa: PLC0415

    trainer = find_trainer(binding, stream.name)
    facts: dict[str, Any] = {}
    with TemporaryDirectory(prefix="dwcp-retrain-") as folder:
        try:
            progress(0.0, "choosing rows")
            supervised = learns_from_labels(binding, stream.name)
            data = training_set(
                stream, binding, table, alerts, feedback, holdout=holdout, labelled=supervised, unjudged=unjudged
            )
            facts = _facts(data)
            file = Path(folder) / f"{stream.name}-recent.parquet"
            data.train.write_parquet(file)
            told = msgspec.structs.replace(binding, label=data.label if supervised else None)
            job = Job(
                stream, told, (file,), seed, epochs, command,
                progress=lambda share, what: progress(TRAINED * share, what),
            )  # fmt: skip
            candidate = trainer(job)
            rehearsed = _rehearse(candidate, job, Path(folder) / "models", stream)
            comparison = compare(
                stream,
                rehearsed,
                serving(settings, stream, binding),
                data,
                margin=margin,
                progress=lambda share: progress(TRAINED + (COMPARED - TRAINED) * share, "comparing"),
            )
            found = Retrained(binding.name, comparison=comparison, reasons=comparison.reasons, data=facts)
            metrics = {**candidate.metrics, "holdout": comparison.plain()}
            if not comparison.acceptable:
                log.warning("candidate refused", stream=stream.name, model=binding.name, reasons=comparison.reasons)
                return replace(found, metrics=metrics)
            candidate = replace(
                candidate,
                metrics=metrics,
                report=f"{candidate.report.rstrip()}\n\n## Hold-out\n\n{comparison.section()}\n",
                licence=licence or candidate.licence,
            )
            repository = open_repository(settings)
            version = publish(candidate, job, repository)
            champion = repository.aliases(binding.name).get("champion") == version
        except (PayloadError, ModelError) as error:
            log.warning("no candidate", stream=stream.name, model=binding.name, reason=str(error))
            return Retrained(binding.name, reasons=(str(error),), data=facts)
    progress(1.0, "done")
    return replace(found, version=version, champion=champion, metrics=metrics)


def serving(settings: Settings, stream: StreamDefinition, binding: ModelBinding) -> Model | None:
    """Return what scores the stream now: the version its alias names, else the last good one; None if there is none.

    Of an anomaly model without versions it is the detector that needs no training.
    """
    models = BoundModels(settings, stream)
    for alias in (binding.alias, LAST_GOOD):
        try:
            return models.load(binding.name, alias)
        except ModelError as error:
            if models.repository.versions(binding.name):
                log.warning("cannot be compared with", model=binding.name, alias=alias, reason=str(error))
    return None


def _rehearse(candidate: Candidate, job: Job, root: Path, stream: StreamDefinition) -> Model:
    """Publish a candidate where nobody looks, and load it as a worker would: what is refused goes no further."""
    repository = ModelRepository(root)
    return repository.load(job.binding.name, publish(candidate, job, repository)).bind(stream)


def _facts(data: TrainingSet) -> dict[str, Any]:
    return {
        "rows": len(data.train),
        "left_out": data.left_out,
        "holdout": len(data.holdout),
        "cut": data.cut,
        "labelled": dict(data.labelled),
        "alerts": dict(data.alerts),
    }
