"""Which trainer makes which model: by stream, task and the pattern of the model's name, first match wins."""

from fnmatch import fnmatchcase
from importlib import import_module
from typing import Final, cast

from dwcp_stream.errors import ConfigError
from dwcp_stream.streams.definition import ModelBinding
from dwcp_stream.training.job import Trainer

# (stream, pattern of the name, task, module, function); imported on use, because each pulls its own heavy library
TRAINERS: Final = (
    ("node", "*-iforest", "anomaly", "dwcp_stream.training.forest", "train_forest"),
    ("node", "*-gbt", "incident", "dwcp_stream.training.trees", "train_incident"),
    ("consensus", "*-lstm-ae", "anomaly", "dwcp_stream.training.consensus", "train_consensus"),
    ("link", "*-lstm", "forecast", "dwcp_stream.training.link", "train_link"),
    ("*", "*", "incident", "dwcp_stream.training.incident.trainer", "train_incident"),
)


def find_trainer(binding: ModelBinding, stream: str) -> Trainer:
    """Return the trainer of a model of the stream named `stream`.

    Raises
    ------
    ConfigError
        If there is none, or its library is not installed.
    """
    for of, pattern, task, module, function in TRAINERS:
        if task == binding.task and fnmatchcase(stream, of) and fnmatchcase(binding.name, pattern):
            try:
                return cast("Trainer", getattr(import_module(module), function))
            except ModuleNotFoundError as missing:
                raise ConfigError(
                    f"training needs {missing.name}, which is not installed",
                    where=binding.name,
                    remedy="Install the extra: pip install 'dwcp-stream[train]'",
                ) from missing
    known = ", ".join(f"{pattern} ({task}) on {of}" for of, pattern, task, _, _ in TRAINERS)
    raise ConfigError(
        f"no trainer makes the model {binding.name!r} with the task {binding.task!r}",
        where="models",
        remedy=f"Name it after one of: {known}",
    )
