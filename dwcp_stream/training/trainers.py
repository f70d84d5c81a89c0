"""Which trainer makes which model: by stream, task and the pattern of the model's name, first match wins."""

from fnmatch import fnmatchcase
from importlib import import_module
from types import ModuleType
from typing import Final, cast

from dwcp_stream.errors import ConfigError
from dwcp_stream.streams.definition import ModelBinding
from dwcp_stream.training.job import Space, Trainer

# (stream, pattern of the name, task, module, function); imported on use, because each pulls its own heavy library.
# The last three are for any stream, one for each task.
TRAINERS: Final = (
    ("node", "*-iforest", "anomaly", "dwcp_stream.training.forest", "train_forest"),
    ("node", "*-gbt", "incident", "dwcp_stream.training.trees", "train_incident"),
    ("consensus", "*-kinds", "anomaly", "dwcp_stream.training.consensus.trainer", "train_consensus"),
    ("*", "*", "anomaly", "dwcp_stream.training.anomaly.trainer", "train_anomaly"),
    ("*", "*", "forecast", "dwcp_stream.training.forecast.trainer", "train_forecast"),
    ("*", "*", "incident", "dwcp_stream.training.incident.trainer", "train_incident"),
)

LABELLED: Final = (("node", "*-iforest"), ("consensus", "*-kinds"))
"""Anomaly models whose trainers need a label: one chooses its threshold by it, the other learns kinds of faults."""


def learns_from_labels(binding: ModelBinding, stream: str) -> bool:
    """Return whether a model's trainer needs the column of the label."""
    named = [fnmatchcase(stream, of) and fnmatchcase(binding.name, pattern) for of, pattern in LABELLED]
    return binding.task == "incident" or (binding.task == "anomaly" and any(named))


def find_trainer(binding: ModelBinding, stream: str) -> Trainer:
    """Return the trainer of a model of the stream with this name.

    Raises
    ------
    ConfigError
        If its library is not installed.
    """
    module, function = _find(binding, stream)
    return cast("Trainer", getattr(_imported(module, binding), function))


def find_space(binding: ModelBinding, stream: str) -> Space:
    """Return the parameters that the model's trainer can be told; ConfigError as for `find_trainer`."""
    return cast("Space", getattr(_imported(_find(binding, stream)[0], binding), "SPACE", {}))


def _find(binding: ModelBinding, stream: str) -> tuple[str, str]:
    return next(
        (module, function)
        for of_stream, pattern, task, module, function in TRAINERS
        if task == binding.task and fnmatchcase(stream, of_stream) and fnmatchcase(binding.name, pattern)
    )


def _imported(module: str, binding: ModelBinding) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        raise ConfigError(
            f"training needs {missing.name}, which is not installed",
            where=binding.name,
            remedy="Install the extra: pip install 'dwcp-stream[train]'",
        ) from missing
