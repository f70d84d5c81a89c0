"""What a trainer is given and what it gives back; every trainer is a function from `Job` to `Candidate`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dwcp_stream.streams.definition import ModelBinding, StreamDefinition


@dataclass(frozen=True)
class Parameter:
    """A number that a trainer can be told.

    Attributes
    ----------
    usual
        What it takes if it is not told.
    low, high
        Bounds of a search.
    log, whole
        Whether ratios matter rather than differences, and whether it is a whole number.
    """

    usual: float
    low: float
    high: float
    log: bool = False
    whole: bool = False


Space = Mapping[str, Parameter]
"""A trainer's parameters by name; a module of a trainer calls its own `SPACE`."""


def _silent(_done: float, _what: str) -> None:
    """Discard progress."""


@dataclass(frozen=True)
class Job:
    """One model to train.

    Attributes
    ----------
    stream, binding
        Definition of the stream, and which of its models.
    files
        Telemetry files (CSV or Parquet), in the order of the command line. How they are split into training,
        validation and test is the trainer's choice, and said in its report.
    seed
        Everything random follows from it.
    epochs
        Passes over the training windows; None: the trainer's own number.
    command
        The command line that repeats the run; printed in report and manifest.
    entity
        Name for files that have no entity columns.
    progress
        Called with the share done (0 to 1) and a word on what is being done.
    parameters
        Values for some of the trainer's parameters, see `told`.
    """

    stream: StreamDefinition
    binding: ModelBinding
    files: tuple[Path, ...]
    seed: int = 0
    epochs: int | None = None
    command: str = ""
    entity: str | None = None
    progress: Callable[[float, str], None] = _silent
    parameters: Mapping[str, float] = field(default_factory=dict)

    def told(self, space: Space, name: str) -> float:
        """Return the value of one of the trainer's parameters."""
        return self.parameters.get(name, space[name].usual)


@dataclass(frozen=True)
class Candidate:
    """A trained model before it is published.

    Attributes
    ----------
    model, explain
        Serialised ONNX graphs without `dwcp.` metadata (publishing adds it); explain may be None.
    fields
        Names of the stream's fields that the graph reads, in its order.
    window
        Rows of the graph's window.
    reference
        Per field the histogram of the training rows, see `publish.histogram`.
    metrics
        Plain nested numbers: the model's and, beside them, the simple rules'.
    report
        Markdown; refers to the plots by file name.
    plots
        PNG files by name.
    severity
        Score at which an alert is a warning (always 1), critical, emergency.
    kinds, horizons, targets, state_size
        As in the manifest.
    licence
        Under which licence the training data stands.
    validation
        Loss on validation rows, the smaller the better: what a search of parameters goes by. None if it has none.
    """

    model: bytes
    fields: tuple[str, ...]
    window: int
    reference: Mapping[str, Mapping[str, list[float]]]
    metrics: Mapping[str, Any]
    report: str
    licence: str
    explain: bytes | None = None
    plots: Mapping[str, bytes] = field(default_factory=dict)
    severity: tuple[float, float, float] = (1.0, 2.0, 3.0)
    kinds: tuple[str, ...] = ()
    horizons: tuple[int, ...] = ()
    targets: tuple[str, ...] = ()
    state_size: int = 0
    validation: float | None = None


Trainer = Callable[[Job], Candidate]
