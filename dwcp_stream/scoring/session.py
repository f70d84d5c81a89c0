"""ONNX Runtime sessions: one way to make them, so that every process computes the same bits."""

from dataclasses import dataclass
from typing import Any

import onnxruntime as ort

from dwcp_stream.errors import ModelError

PROVIDERS = ("CPUExecutionProvider",)
_ERRORS_ONLY = 3


@dataclass(frozen=True, kw_only=True)
class SessionOptions:
    """How a session runs.

    Attributes
    ----------
    intra_threads
        Threads inside one operator. One is best when there is a process per stream: the graphs are small.
    """

    intra_threads: int = 1

    def __post_init__(self) -> None:
        """Refuse numbers of threads that ONNX Runtime would read as "all cores"."""
        if self.intra_threads < 1:
            raise ValueError(f"intra_threads must be at least 1, not {self.intra_threads}")


def make_session(model: bytes, options: SessionOptions | None = None, *, where: str = "model") -> Any:
    """Make an inference session of a serialised graph.

    Parameters
    ----------
    model
        The ONNX file's bytes; a path is not taken, so that what was hashed is what runs.
    options
        Threads; the defaults of `SessionOptions` if None.
    where
        Where the bytes came from, for the error.

    Returns
    -------
    onnxruntime.InferenceSession
        On the CPU.

    Raises
    ------
    ModelError
        If ONNX Runtime cannot load the graph.
    """
    chosen = options or SessionOptions()
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = chosen.intra_threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    settings.log_severity_level = _ERRORS_ONLY
    # Threads that spin for work would take the core from the consumer between two batches.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(model, settings, providers=list(PROVIDERS))
    except Exception as error:  # ONNX Runtime raises classes of its own, all plain Exceptions
        lines = str(error).splitlines() or [type(error).__name__]
        raise ModelError(
            f"ONNX Runtime {ort.__version__} cannot load the graph: {lines[0]}",
            where=where,
            remedy="Export it again with an opset and IR version that this runtime knows",
        ) from error
