"""Which trainer makes which model: by the model's task and the pattern of its name, first match wins."""

from fnmatch import fnmatchcase
from importlib import import_module
from typing import Final, cast

from dwcp_stream.errors import ConfigError
from dwcp_stream.streams.definition import ModelBinding
from dwcp_stream.training.job import Trainer

# (pattern of the name, task, module, function); imported on use, because each pulls its own heavy library
TRAINERS: Final = (
    ("*-iforest", "anomaly", "dwcp_stream.training.forest", "train_forest"),
    ("*-gbt", "incident", "dwcp_stream.training.trees", "train_incident"),
    ("*-lstm-ae", "anomaly", "dwcp_stream.training.consensus", "train_consensus"),
    ("*-lstm", "forecast", "dwcp_stream.training.link", "train_link"),
)


def find_trainer(binding: ModelBinding) -> Trainer:
    """Return the trainer of a stream's model.

    Raises
    ------
    ConfigError
        If there is none, or its library is not installed.
    """
    for pattern, task, module, function in TRAINERS:
        if task == binding.task and fnmatchcase(binding.name, pattern):
            try:
                return cast("Trainer", getattr(import_module(module), function))
            except ModuleNotFoundError as missing:
                raise ConfigError(
                    f"training needs {missing.name}, which is not installed",
                    where=binding.name,
                    remedy="Install the extra: pip install 'dwcp-stream[train]'",
                ) from missing
    known = ", ".join(f"{pattern} ({task})" for pattern, task, _, _ in TRAINERS)
    raise ConfigError(
        f"no trainer makes the model {binding.name!r} with the task {binding.task!r}",
        where="models",
        remedy=f"Name it after one of: {known}",
    )
