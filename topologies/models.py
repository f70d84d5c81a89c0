"""Follow the aliases of the model repository: load what they come to point at, and move the partitions to it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from structlog import get_logger

from dwcp_stream.activations import line_of
from dwcp_stream.contenders import BESIDE
from dwcp_stream.errors import BrokerError, ModelError, UnreachableError
from dwcp_stream.kafka.outputs import KafkaOutputs
from dwcp_stream.loading import LAST_GOOD, BoundModels
from dwcp_stream.registry.payload import build_model_event
from dwcp_stream.registry.watch import AliasWatch
from dwcp_stream.scoring import Model
from dwcp_stream.streams import ModelBinding
from topologies.app import StreamApp
from topologies.background import Background
from topologies.observer import MetricsObserver

log = get_logger(__name__)


@dataclass(slots=True)
class ModelFollower:
    """Looks at the aliases on a timer.

    A version that is refused is looked at once, until its alias moves again: versions never change. One whose place
    does not answer is tried again at every look.

    Parameters
    ----------
    watch
        Notices moves.
    models
        Loads and verifies.
    interval
        Seconds between two looks.
    """

    app: StreamApp
    watch: AliasWatch
    models: BoundModels
    outputs: KafkaOutputs
    observer: MetricsObserver
    interval: float
    _refused: set[tuple[str, int]] = field(default_factory=set)
    _silent: set[tuple[str, int]] = field(default_factory=set)
    _task: Background = field(default_factory=Background)

    async def start(self) -> None:
        """Say what was loaded at the start, and begin to look."""
        gave_way = {binding.name for binding, _, _ in self.models.refused}
        for binding, error, serving in self.models.refused:
            pointed = self.watch.version(binding)
            self.observer.refusal(binding.name, binding.alias, pointed or 0, error, serving.version)
        for model in self.app.activator.pipeline.models:
            binding = self._binding(model.name)
            self.observer.loaded(model, LAST_GOOD if model.name in gave_way else binding.alias)
        self._task.begin(self._run())

    async def stop(self) -> None:
        """Stop looking."""
        await self._task.end()

    async def _run(self) -> None:
        try:
            while True:
                await self._look()
                await asyncio.sleep(self.interval)
        except Exception as error:
            log.exception("models cannot be followed any more; the worker stops")
            await self.app.crash(error)

    async def _look(self) -> None:
        try:
            moved = await asyncio.to_thread(self.watch.moved)
        except ModelError as error:
            log.warning("aliases cannot be read; the versions stay", error=str(error), error_type=error.error_type)
            moved = []
        for binding, version in moved:
            await self._load(binding, version)
        await self._contend()
        try:
            await self._publish()
            if not self.app.rebalancing and not self.app.should_stop:  # the consumer may be gone before this task
                await self.app.activator.follow()
        except BrokerError as error:
            log.warning("it is tried again", error=str(error), error_type=error.error_type)

    async def _load(self, binding: ModelBinding, version: int) -> None:
        pipeline = self.app.activator.pipeline
        (serving,) = [model.version for model in pipeline.models if model.name == binding.name]
        try:
            model = await asyncio.to_thread(self.models.load, binding.name, version)
        except ModelError as error:
            if isinstance(error, UnreachableError):
                self.watch.forget(binding)
            self._tell(binding.name, binding.alias, version, error, serving)
            return
        self._silent.discard((binding.name, version))
        pipeline.serve(model)
        self.observer.loaded(model, binding.alias)
        self.observer.readiness.meet("models", names_of(pipeline.models))

    async def _contend(self) -> None:
        """Let those versions run beside champions that the aliases say, and no others."""
        pipeline = self.app.activator.pipeline
        try:
            wanted = await asyncio.to_thread(self.watch.beside)
        except ModelError:  # said already
            return
        champions = {model.name: model.version for model in pipeline.models}
        for name, pointed in wanted.items():
            for arm in BESIDE:
                line, version = line_of(name, arm), pointed.versions.get(arm)
                running = pipeline.beside(line)
                if version in (None, champions[name]):
                    pipeline.contend(line, None)
                elif running is None or running.version != version:
                    pipeline.contend(line, await self._contender(name, arm, version, champions[name]))
            pipeline.share(name, pointed.share if pipeline.beside(line_of(name, "challenger")) else 0)

    async def _contender(self, name: str, arm: str, version: int, champion: int) -> Model | None:
        if (name, version) in self._refused:
            return None
        try:
            model = await asyncio.to_thread(self.models.load, name, version)
        except ModelError as error:
            if not isinstance(error, UnreachableError):
                self._refused.add((name, version))
            self._tell(name, arm, version, error, champion)
            return None
        self._silent.discard((name, version))
        self.observer.loaded(model, arm)
        return model

    def _tell(self, name: str, alias: str, version: int, error: ModelError, serving: int) -> None:
        """Say that a version is refused; of one whose place does not answer, until it does, once."""
        again = isinstance(error, UnreachableError)
        if not again or (name, version) not in self._silent:
            self.observer.refusal(name, alias, version, error, serving)
        if again:
            self._silent.add((name, version))

    async def _publish(self) -> None:
        news = list(self.observer.news)
        await self.outputs.send([build_model_event(event) for event in news])
        del self.observer.news[: len(news)]

    def _binding(self, name: str) -> ModelBinding:
        return next(binding for binding in self.models.stream.models if binding.name == name)


def names_of(models: Sequence[Model]) -> str:
    """Return names and versions of models, for people."""
    return ", ".join(f"{model.name} v{model.version}" for model in models)
