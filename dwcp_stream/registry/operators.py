"""What a graph may be made of: operators from an allow-list, nothing outside the file, nothing hidden.

Left out on purpose: loops and branches (time and memory without bound), random operators (a replay would
differ), operators whose output size depends on values (they mix the windows of a batch), and other vendors'
domains (another runtime could not run the model).
"""

import math
from collections.abc import Iterator
from typing import Any

import onnx

from dwcp_stream.errors import ModelError

STANDARD = frozenset(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast CastLike
    Ceil Celu Clip Concat Constant ConstantOfShape Conv Cos Cosh CumSum DequantizeLinear Div Einsum Elu Equal
    Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool
    GlobalMaxPool Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Hardmax Identity
    InstanceNormalization IsInf IsNaN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax
    LpNormalization MatMul Max MaxPool Mean MeanVarianceNormalization Min Mish Mod Mul Neg Not OneHot Or PRelu
    Pad Pow QuantizeLinear RNN Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape ReverseSequence Round
    ScatterElements ScatterND Selu Shape Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign Split Sqrt
    Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Where Xor
    """.split()  # noqa: SIM905  # a hundred quoted words are harder to read
)
MACHINE_LEARNING = frozenset(
    """
    ArrayFeatureExtractor Binarizer Imputer LinearClassifier LinearRegressor Normalizer SVMClassifier
    SVMRegressor Scaler TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor
    """.split()  # noqa: SIM905  # a hundred quoted words are harder to read
)
MAX_ELEMENTS = 1 << 24
"""Elements of a value for one window; the graphs that ship have a thousandth of it."""

ALLOWED = {"": STANDARD, "ai.onnx": STANDARD, "ai.onnx.ml": MACHINE_LEARNING}


def parse_graph(data: bytes, *, where: str) -> Any:
    """Decode and check a graph without running anything of it.

    Parameters
    ----------
    data
        The ONNX file's bytes.
    where
        File, for the error.

    Returns
    -------
    onnx.ModelProto
        Made of allowed operators only, with all its numbers inside.

    Raises
    ------
    ModelError
        If it is no ONNX file, or uses what it may not.
    """
    try:
        proto = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's own class, which is not worth a dependency
        raise ModelError(
            f"is not an ONNX file ({error})",
            where=where,
            remedy="Export the graph with onnx's SerializeToString",
        ) from error
    for problem, remedy in _problems(proto):
        raise ModelError(problem, where=where, remedy=remedy)
    _check_sizes(proto, where)
    return proto


def _check_sizes(proto: Any, where: str) -> None:
    """Refuse what makes much out of little: a runtime computes constants while it loads the graph."""
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    except Exception as error:  # onnx raises classes of its own, all plain Exceptions
        raise ModelError(
            f"its shapes contradict each other ({error})", where=where, remedy="Check it with onnx.checker"
        ) from error
    for value in (*inferred.value_info, *inferred.output):
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim if dim.HasField("dim_value")]
        if math.prod(shape) > MAX_ELEMENTS:  # a size that is not known counts as 1
            raise ModelError(
                f"the value {value.name!r} has the shape {shape}: more than {MAX_ELEMENTS} elements",
                where=where,
                remedy="Build it from smaller values",
            )


def _problems(proto: Any) -> Iterator[tuple[str, str]]:
    """Yield (what is wrong, what to do)."""
    if not proto.graph.node:
        yield "holds no graph", "Export the graph with onnx's SerializeToString"
    for opset in proto.opset_import:
        if opset.domain not in ALLOWED:
            yield f"imports the domain {opset.domain!r}", "Build it from standard operators"
    if proto.functions or proto.training_info:
        yield "defines functions or training steps", "Inline the functions and export for inference only"
    for node in proto.graph.node:
        yield from _node_problems(node)
    for tensor in _tensors(proto.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            yield (
                f"keeps the tensor {tensor.name!r} in another file",
                "Store all weights in the ONNX file (save_as_external_data=False)",
            )


def _node_problems(node: Any) -> Iterator[tuple[str, str]]:
    label = f"{node.domain or 'ai.onnx'}.{node.op_type} (node {node.name or '?'})"
    if node.domain not in ALLOWED:
        yield f"uses {label} of a custom domain", "Build it from standard operators"
    elif node.op_type not in ALLOWED[node.domain]:
        yield (
            f"uses the operator {label}, which is not allowed",
            "Replace it; dwcp_stream/registry/operators.py lists what is allowed",
        )
    if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
        yield f"has a subgraph in {label}", "Unroll it"


def _tensors(graph: Any) -> Iterator[Any]:
    """Every place that can hold numbers, and so point to another file for them."""
    yield from graph.initializer
    sparse = list(graph.sparse_initializer)
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        yield attribute.t
        yield from attribute.tensors
        sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
    for tensor in sparse:
        yield tensor.values
        yield tensor.indices
