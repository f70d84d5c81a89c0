"""A small builder for ONNX graphs.

Nodes, constants and names only: shape inference and checking stay with `onnx` itself. Every value is a
plain string (the ONNX name of a tensor), so that a graph reads like the formula that it computes:

>>> g = Graph("demo")
>>> x = g.input("x", np.float32, ["batch", 3])
>>> g.output(g.mul(x, g.const(2.0)), "y", np.float32, ["batch", 3])
>>> model = g.model({"task": "anomaly"})
>>> [entry.key for entry in model.metadata_props]
['dwcp.task']
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike, NDArray
from onnx import helper, numpy_helper

OPSET = 18
IR_VERSION = 9  # the newest that every onnxruntime since 1.16 reads
METADATA_PREFIX = "dwcp."
REGISTER = 16  # float32 values in the widest vector register in use (AVX-512)
Dim = int | str
Reduction = Literal["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"]


class Graph:
    """Collects nodes and constants, then makes a checked `onnx.ModelProto` of them.

    Parameters
    ----------
    name
        Name of the graph, and the prefix of no value: values are named after the operator that makes them.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: list[Any] = []
        self._initializers: dict[str, Any] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._used: set[str] = set()

    # -- the ends of the graph

    def input(self, name: str, dtype: DTypeLike, shape: Sequence[Dim]) -> str:
        """Declare an input; a string in `shape` is a dynamic axis. Returns its name."""
        self._inputs.append(helper.make_tensor_value_info(self._claim(name), _onnx_type(dtype), list(shape)))
        return name

    def output(self, value: str, name: str, dtype: DTypeLike, shape: Sequence[Dim]) -> None:
        """Give `value` the public name `name`."""
        self.op("Identity", value, name=name)
        self._outputs.append(helper.make_tensor_value_info(name, _onnx_type(dtype), list(shape)))

    # -- nodes and constants

    def op(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node with one output and return the output's name.

        Parameters
        ----------
        operator
            ONNX operator, such as `"Add"`.
        inputs
            Names of values; an empty string leaves an optional input out.
        name
            Name of the node and of its output; made up from the operator if empty.
        attributes
            Attributes of the node.
        """
        return self.multi(operator, inputs, 1, name=name, **attributes)[0]

    def multi(
        self, operator: str, inputs: Sequence[str], outputs: int, *, name: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs (`Split`, `TopK`, `LSTM`) and return their names."""
        node = self._claim(name) if name else self._fresh(operator.lower())
        results = [node] if outputs == 1 else [self._claim(f"{node}.{i}") for i in range(outputs)]
        self._nodes.append(helper.make_node(operator, list(inputs), results, name=node, **attributes))
        return results

    def raw(self, node: Any) -> None:
        """Add a node made elsewhere (a tree ensemble, say); its output names are reserved."""
        for output in node.output:
            self._claim(output)
        self._nodes.append(node)

    def const(self, value: ArrayLike, dtype: DTypeLike = np.float32, *, name: str = "") -> str:
        """Add a constant (float32 unless told); equal unnamed constants are stored once."""
        array = np.ascontiguousarray(np.asarray(value, dtype=dtype)).reshape(np.shape(value))
        key = (array.dtype.str, array.shape, array.tobytes())
        if not name and key in self._constants:
            return self._constants[key]
        stored = self._claim(name) if name else self._fresh("c")
        self._initializers[stored] = numpy_helper.from_array(array, stored)
        if not name:
            self._constants[key] = stored
        return stored

    def ints(self, *values: int) -> str:
        """Add a 1-D int64 constant: axes, shapes, split sizes."""
        return self.const(values, np.int64)

    # -- short hands

    def add(self, a: str, b: str) -> str:
        """Add `a` and `b`."""
        return self.op("Add", a, b)

    def sub(self, a: str, b: str) -> str:
        """Take `b` from `a`."""
        return self.op("Sub", a, b)

    def mul(self, a: str, b: str) -> str:
        """Multiply `a` by `b`."""
        return self.op("Mul", a, b)

    def div(self, a: str, b: str) -> str:
        """Divide `a` by `b`."""
        return self.op("Div", a, b)

    def where(self, condition: str, a: str, b: str) -> str:
        """Choose `a` where `condition` holds, else `b`."""
        return self.op("Where", condition, a, b)

    def is_nan(self, x: str) -> str:
        """Boolean mask of the missing values."""
        return self.op("IsNaN", x)

    def cast(self, x: str, dtype: DTypeLike) -> str:
        """Convert to another element type."""
        return self.op("Cast", x, to=_onnx_type(dtype))

    def clip(self, x: str, low: float | None, high: float | None) -> str:
        """Limit a float32 value; `None` leaves an end open."""
        return self.op("Clip", x, "" if low is None else self.const(low), "" if high is None else self.const(high))

    def concat(self, values: Sequence[str], axis: int = -1) -> str:
        """Join along an axis."""
        return self.op("Concat", *values, axis=axis)

    def reduce(self, kind: Reduction, x: str, axes: Sequence[int], *, keep: bool = True) -> str:
        """Reduce over `axes`. NaN poisons sums and is treated unevenly by max: mask before."""
        return self.op(kind, x, self.ints(*axes), keepdims=int(keep))

    def reshape(self, x: str, *shape: int) -> str:
        """Reshape; 0 keeps an axis, -1 is inferred."""
        return self.op("Reshape", x, self.ints(*shape))

    def slice(self, x: str, axis: int, start: int, end: int | None = None, step: int = 1) -> str:
        """Slice `x[start:end:step]` along one axis (`end` None: to the end)."""
        stop = np.iinfo(np.int64).max if end is None else end
        return self.op("Slice", x, self.ints(start), self.ints(stop), self.ints(axis), self.ints(step))

    def take(self, x: str, axis: int, index: int | Sequence[int]) -> str:
        """Pick constant positions along an axis; an integer removes the axis."""
        return self.op("Gather", x, self.const(index, np.int64), axis=axis)

    def smooth(self, operator: str, x: str, *shape: int) -> str:
        """Apply a function such as `Log`, `Exp` or `Sin` so that its bits do not depend on the batch.

        ONNX Runtime computes such functions for a register of values at once, and the values left over at the
        end of the tensor by another routine, whose last bit may differ. So each window's values are filled up
        to whole registers.

        Parameters
        ----------
        operator
            Elementwise operator of one input.
        x
            Value [batch, *shape].
        shape
            Sizes after the batch axis.
        """
        size = math.prod(shape)
        spare = -size % REGISTER
        if not spare:
            return self.op(operator, x)
        flat = self.reshape(x, -1, size)
        filled = self.op("Pad", flat, self.ints(0, 0, 0, spare), self.const(1.0))
        return self.reshape(self.slice(self.op(operator, filled), 1, 0, size), -1, *shape)

    def row_sum(self, x: str, columns: int) -> str:
        """Sum a value [batch, columns] over its few columns to [batch], the same bits in any batch.

        A reduction along the last axis adds in an order that depends on where in memory the row begins.
        """
        return self.op("Sum", *(self.take(x, 1, i) for i in range(columns)))

    # -- the result

    def model(
        self, metadata: Mapping[str, str] | None = None, *, opsets: Mapping[str, int] | None = None
    ) -> onnx.ModelProto:
        """Assemble and check the model.

        Parameters
        ----------
        metadata
            Written as `metadata_props`, each key prefixed with `dwcp.`.
        opsets
            Further domains, such as `{"ai.onnx.ml": 3}` for tree ensembles.

        Returns
        -------
        onnx.ModelProto
            With a fixed opset and IR version, so that the same weights give the same bytes.

        Raises
        ------
        onnx.checker.ValidationError
            If a node does not fit its operator.
        """
        domains = {"": OPSET, **(opsets or {})}
        graph = helper.make_graph(
            self._nodes, self.name, self._inputs, self._outputs, initializer=list(self._initializers.values())
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid(domain, version) for domain, version in domains.items()],
            ir_version=IR_VERSION,
            producer_name="dwcp-stream",
        )
        set_metadata(model, metadata or {})
        onnx.checker.check_model(model, full_check=True)
        return model

    def _claim(self, name: str) -> str:
        if name in self._used:
            raise ValueError(f"two values named {name!r} in graph {self.name!r}")
        self._used.add(name)
        return name

    def _fresh(self, stem: str) -> str:
        number = len(self._nodes) + len(self._initializers)
        while f"{stem}_{number}" in self._used:
            number += 1
        return self._claim(f"{stem}_{number}")


def set_metadata(model: onnx.ModelProto, metadata: Mapping[str, str]) -> None:
    """Replace the `dwcp.` entries of `metadata_props` (sorted, so that bytes are reproducible)."""
    kept = {p.key: p.value for p in model.metadata_props if not p.key.startswith(METADATA_PREFIX)}
    kept |= {METADATA_PREFIX + key: metadata[key] for key in sorted(metadata)}
    helper.set_model_props(model, kept)


def to_bytes(model: onnx.ModelProto) -> bytes:
    """Serialise with a fixed field order."""
    return bytes(model.SerializeToString(deterministic=True))


def initializers(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Constants of a model by name."""
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def _onnx_type(dtype: DTypeLike) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
