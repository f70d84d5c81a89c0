"""Find what a command names: a stream definition, and its models, verified and bound to it."""

from weakref import WeakValueDictionary

from structlog import get_logger

from dwcp_stream.errors import ConfigError, ModelError
from dwcp_stream.registry import ModelRepository
from dwcp_stream.scoring import UNTRAINED, Model
from dwcp_stream.settings import Settings
from dwcp_stream.streams import ModelBinding, StreamDefinition, load_streams
from dwcp_stream.untrained import untrained_model

LAST_GOOD = "last_good"

log = get_logger(__name__)


def find_stream(settings: Settings, name: str) -> StreamDefinition:
    """Return a stream definition by name; ConfigError says which there are."""
    streams = load_streams(settings.streams_dir)
    if name not in streams:
        raise ConfigError(
            f"there is no stream {name!r}",
            where=str(settings.streams_dir),
            remedy=f"Choose one of: {', '.join(sorted(streams))}",
        )
    return streams[name]


def open_repository(settings: Settings) -> ModelRepository:
    """Return the model repository that the settings name, with the keys whose signature they demand."""
    if not settings.model_keys:
        return ModelRepository(settings.models_dir)
    from dwcp_stream.keys import public_keys  # noqa: PLC0415  cryptography takes its time

    return ModelRepository(settings.models_dir, keys=public_keys(settings.model_keys))


def bound_models(settings: Settings, stream: StreamDefinition) -> list[Model]:
    """Load and verify the models a stream names, bound to it.

    A version that is refused gives way to the alias `last_good`, if the model has one.

    Raises
    ------
    ModelError
        A model is refused and has no last good version, or that one is refused too.
    """
    return BoundModels(settings, stream).first()


class BoundModels:
    """Versions of a stream's models, verified and bound to it; one that is in use is loaded once.

    Models are held weakly: one that nothing uses any more is gone, with its sessions.

    Parameters
    ----------
    settings
        Name the repository.
    stream
        The stream's definition.
    """

    def __init__(self, settings: Settings, stream: StreamDefinition) -> None:
        self.stream, self.repository = stream, open_repository(settings)
        self.refused: list[tuple[ModelBinding, ModelError, Model]] = []
        self._held: WeakValueDictionary[tuple[str, int], Model] = WeakValueDictionary()

    def first(self) -> list[Model]:
        """Load what a worker begins with, see `bound_models`; `refused` says what gave way to a last good version."""
        return [self._first(binding) for binding in self.stream.models]

    def load(self, name: str, which: str | int) -> Model:
        """Load a version by number or alias; ModelError if it is refused.

        The alias of an anomaly model that has no version at all means the detector that needs no training.
        """
        binding = next(binding for binding in self.stream.models if binding.name == name)
        untrained = binding.task == "anomaly" and not self.repository.versions(name)
        if which == UNTRAINED or (untrained and which == binding.alias):
            version = UNTRAINED
        else:
            version = self.repository.resolve(name, which)
        model = self._held.get((name, version))
        if model is None:
            found = self.repository.load(name, version) if version else untrained_model(self.stream, binding)
            model = self._held[name, version] = found.bind(self.stream)
        return model

    def _first(self, binding: ModelBinding) -> Model:
        try:
            model = self.load(binding.name, binding.alias)
        except ModelError as error:
            if LAST_GOOD not in self.repository.aliases(binding.name):
                raise
            model = self.load(binding.name, LAST_GOOD)
            self.refused.append((binding, error, model))
            log.error(  # noqa: TRY400  the reason says all; a traceback would hide it
                "model refused; its last good version serves",
                model=binding.name,
                reason=str(error),
                error_type=error.error_type,
                stage=error.stage,
            )
        if model.degraded:
            log.warning(
                "no version is published; a detector that learns as it goes stands in",
                model=binding.name,
                models=self.repository.storage.where(),
            )
        return model
