"""Find what a command names: a stream definition, and its models, verified and bound to it."""

from structlog import get_logger

from dwcp_stream.errors import ConfigError, ModelError
from dwcp_stream.registry import ModelRepository
from dwcp_stream.scoring import Model
from dwcp_stream.settings import Settings
from dwcp_stream.streams import ModelBinding, StreamDefinition, load_streams

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


def bound_models(settings: Settings, stream: StreamDefinition) -> list[Model]:
    """Load and verify the models a stream names, bound to it.

    A version that is refused gives way to the alias `last_good`, if the model has one.

    Raises
    ------
    ModelError
        A model is refused and has no last good version, or that one is refused too.
    """
    repository = ModelRepository(settings.models_dir)
    return [_bound(repository, binding, stream) for binding in stream.models]


def _bound(repository: ModelRepository, binding: ModelBinding, stream: StreamDefinition) -> Model:
    try:
        return repository.load(binding.name, binding.alias).bind(stream)
    except ModelError as error:
        if LAST_GOOD not in repository.aliases(binding.name):
            raise
        log.error(  # noqa: TRY400  the reason says all; a traceback would hide it
            "model refused; its last good version serves",
            model=binding.name,
            reason=str(error),
            error_type=error.error_type,
            stage=error.stage,
        )
        return repository.load(binding.name, LAST_GOOD).bind(stream)
