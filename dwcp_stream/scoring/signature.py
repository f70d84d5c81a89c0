"""The arrays that go into and come out of a graph: names, element types and shapes, from the manifest."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dwcp_stream.registry.manifest import Manifest

QUANTILES = 3
"""q10, q50, q90."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An array of a graph.

    Attributes
    ----------
    dtype
        float32 or float64.
    shape
        Sizes after the batch axis.
    required
        Whether the graph must have it.
    """

    dtype: type[np.float32 | np.float64]
    shape: tuple[int, ...]
    required: bool = True

    def full(self, batch: int, value: float = np.nan) -> NDArray[Any]:
        """Return an array of this type for `batch` windows, filled with `value`."""
        return np.full((batch, *self.shape), value, self.dtype)

    def __str__(self) -> str:
        return f"{np.dtype(self.dtype).name}[{', '.join(['B', *map(str, self.shape)])}]"


def inputs(manifest: "Manifest") -> Mapping[str, Tensor]:
    """Return the inputs that a graph with this manifest takes, those of `explain.onnx` too."""
    rows, columns = manifest.window, len(manifest.fields)
    taken = {"window": Tensor(np.float32, (rows, columns)), "time": Tensor(np.float64, (rows,))}
    if manifest.state_size:
        taken["state_in"] = Tensor(np.float32, (manifest.state_size,))
    return taken


def outputs(manifest: "Manifest") -> Mapping[str, Tensor]:
    """Return the outputs that `model.onnx` with this manifest gives."""
    forecast = manifest.task == "forecast"
    given = {
        "score": Tensor(np.float32, ()),
        "expected": Tensor(np.float32, (len(manifest.fields),), required=not forecast),
    }
    if manifest.kinds:
        given["kind"] = Tensor(np.float32, (len(manifest.kinds),))
    if manifest.task == "incident":
        given["probability"] = Tensor(np.float32, ())
    if forecast:
        shape = (len(manifest.horizons), len(manifest.targets), QUANTILES)
        given["quantiles"] = Tensor(np.float32, shape)
    if manifest.state_size:
        given["state_out"] = Tensor(np.float32, (manifest.state_size,))
    return given


def explain_outputs(manifest: "Manifest") -> Mapping[str, Tensor]:
    """Return the outputs that `explain.onnx` with this manifest gives."""
    return {"contribution": Tensor(np.float32, (len(manifest.fields),))}
