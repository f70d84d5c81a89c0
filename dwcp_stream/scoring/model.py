"""A verified model: a graph from raw windows to verdicts, with what its manifest says of it."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.errors import ModelError
from dwcp_stream.scoring import signature
from dwcp_stream.scoring.batching import Arrays, run_batched
from dwcp_stream.scoring.selection import Selection, select
from dwcp_stream.scoring.verdicts import Verdicts
from dwcp_stream.streams import StreamDefinition

if TYPE_CHECKING:
    from dwcp_stream.registry.manifest import Manifest

UNTRAINED = 0
"""Version of a model that nobody has trained: it learns as it goes, see `untrained`."""

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


class Model:
    """One version of a model, ready to score. Made by `ModelRepository.load`.

    Until `bind` is called, windows must have exactly the model's own columns.

    Parameters
    ----------
    manifest
        What the model is.
    session
        ONNX Runtime session of `model.onnx`.
    explain_session
        That of `explain.onnx`, if there is one.
    """

    def __init__(self, manifest: "Manifest", session: Any, explain_session: Any | None = None) -> None:
        self.manifest = manifest
        self.name, self.version = manifest.name, manifest.version
        self.task, self.stream = manifest.task, manifest.stream
        self.fields = manifest.field_names
        self.window = manifest.window
        self.horizons, self.targets = manifest.horizons, manifest.targets
        self.severity, self.kinds = manifest.severity, manifest.kinds
        self.state_size, self.schema_hash = manifest.state_size, manifest.schema_hash
        self._session, self._explain = session, explain_session
        self._outputs = [output.name for output in session.get_outputs()]
        self._select = Selection(self.window, len(self.fields))

    def __repr__(self) -> str:
        return f"<Model {self.name} version {self.version}: {self.task} on {self.stream}>"

    @property
    def degraded(self) -> bool:
        """Whether it only stands in for a model that has not been trained yet."""
        return self.version == UNTRAINED

    @property
    def explains(self) -> bool:
        """Whether `explain` gives contributions."""
        return self._explain is not None

    def bind(self, stream: StreamDefinition) -> "Model":
        """Check that the model fits a stream, and score that stream's windows from here on.

        Raises
        ------
        ModelError
            If a field, unit, vocabulary, the step, window, targets or horizons differ; names both sides.
        """
        self._select = select(self.manifest, stream, where=f"model {self.name} version {self.version}")
        return self

    def score(self, windows: F32, times: F64, state: F32 | None = None) -> Verdicts:
        """Score windows; the same window gets the same bits in any batch.

        Parameters
        ----------
        windows
            [B, T, F] of the stream bound: at least the model's rows, oldest first; NaN = missing.
        times
            [B, T], epoch seconds in UTC of the rows.
        state
            [B, S] from the entity's last verdict, NaN (or None for all) where there is none yet. Only for a
            model with a `state_size`; no entity may occur twice in the batch then (see `rounds`).

        Returns
        -------
        Verdicts
            For the last row of each window.

        Raises
        ------
        ModelError
            If the graph fails on these windows.
        """
        size = len(windows)
        if not size:
            expected = signature.outputs(self.manifest)
            return Verdicts.of({name: expected[name].full(0) for name in self._outputs})
        feed = self._feed(windows, times, state)
        return Verdicts.of(run_batched(self._run, feed))

    def explain(self, windows: F32, times: F64, state: F32 | None = None) -> F32 | None:
        """Say how much each field contributes to the score, [B, F]; None if the model has no explanation.

        Meant for the few windows that fire. Arguments as for `score`; `state` is the one before the window.
        """
        if self._explain is None:
            return None
        if not len(windows):
            return np.zeros((0, len(self.fields)), np.float32)
        session = self._explain
        found = run_batched(
            lambda arrays: {"contribution": self._call(session, ["contribution"], arrays)[0]},
            self._feed(windows, times, state),
        )
        contribution: F32 = found["contribution"]
        return contribution

    def _feed(self, windows: F32, times: F64, state: F32 | None) -> Arrays:
        cut = self._select(windows)
        if times.shape != windows.shape[:2]:
            raise ValueError(f"times of shape {times.shape} for windows of shape {windows.shape}")
        feed: dict[str, NDArray[Any]] = {
            "window": cut,
            "time": np.ascontiguousarray(times[:, times.shape[1] - self.window :], np.float64),
        }
        if self.state_size:
            shape = (len(windows), self.state_size)
            given = np.full(shape, np.nan, np.float32) if state is None else state
            if given.shape != shape:
                raise ValueError(f"state of shape {given.shape} where {shape} is expected")
            feed["state_in"] = np.ascontiguousarray(given, np.float32)
        return feed

    def _run(self, arrays: Arrays) -> Arrays:
        return dict(zip(self._outputs, self._call(self._session, self._outputs, arrays), strict=True))

    def _call(self, session: Any, names: list[str], arrays: Arrays) -> list[NDArray[Any]]:
        try:
            found: list[NDArray[Any]] = session.run(names, arrays)
        except Exception as error:  # ONNX Runtime raises classes of its own, all plain Exceptions
            raise ModelError(
                f"the graph failed on {len(arrays['window'])} windows: {str(error).splitlines()[0]}",
                where=f"model {self.name} version {self.version}",
                remedy="Go back to the version before (alias last_good), and keep the windows for a test",
            ) from error
        return found
