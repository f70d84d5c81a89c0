"""Checks of a graph against its manifest: what goes in and comes out, metadata, goldens, finite results."""

import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from dwcp_stream.errors import UNREADABLE, ModelError
from dwcp_stream.registry.golden import ABSOLUTE, RELATIVE, compare
from dwcp_stream.registry.manifest import Manifest
from dwcp_stream.scoring.batching import padded
from dwcp_stream.scoring.signature import Tensor

PREFIX = "dwcp."
REPEATED = (
    "task", "stream", "fields", "schema_hash", "window", "horizons", "trained_at", "data_sha256", "metrics",
)  # fmt: skip
"""Keys of the manifest that the graph's metadata repeats."""

_TYPES = {np.float32: "tensor(float)", np.float64: "tensor(double)"}
_MAY_BE_NAN = frozenset({"expected"})
_EXPORT = "Correct the graph where it is built, and publish it again"
Arrays = Mapping[str, NDArray[Any]]
Signature = Mapping[str, Tensor]


def check_tensors(declared: Any, wanted: Signature, what: str, *, where: str) -> None:
    """Compare what a session declares with what the manifest asks for.

    Parameters
    ----------
    declared
        From `get_inputs` or `get_outputs`.
    wanted
        By name.
    what
        `input` or `output`, for errors.
    where
        File, for errors.
    """
    names = {tensor.name for tensor in declared}
    required = {name for name, tensor in wanted.items() if tensor.required}
    if not required <= names or not names <= set(wanted):
        raise ModelError(
            f"the {what}s are {', '.join(sorted(names))} where the manifest asks for "
            + ", ".join(name if tensor.required else f"[{name}]" for name, tensor in sorted(wanted.items())),
            where=where,
            remedy=_EXPORT,
        )
    for tensor in declared:
        expected, shape = wanted[tensor.name], list(tensor.shape)
        fits = len(shape) == len(expected.shape) + 1 and not isinstance(shape[0], int)
        # An output's sizes may be left to the run; the goldens show them.
        for found, size in zip(shape[1:], expected.shape, strict=False):
            fits = fits and (found == size if what == "input" else not isinstance(found, int) or found == size)
        if not fits or tensor.type != _TYPES[expected.dtype]:
            raise ModelError(
                f"the {what} {tensor.name!r} is {tensor.type} {shape} where {expected} is expected, B free",
                where=where,
                remedy=_EXPORT,
            )


def check_metadata(session: Any, manifest: Manifest, *, where: str) -> None:
    """Compare the graph's `dwcp.` metadata with the manifest."""
    held = session.get_modelmeta().custom_metadata_map
    plain = msgspec.to_builtins(manifest)
    for key in REPEATED:
        text = held.get(PREFIX + key)
        if text is None:
            raise ModelError(f"the metadata lacks {PREFIX + key!r}", where=where, remedy=_EXPORT)
        expected = plain[key]
        try:
            found = text if isinstance(expected, str) else json.loads(text)
            same = json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True)
        except UNREADABLE:
            found, same = text, False
        if not same:
            raise ModelError(
                f"the metadata says {PREFIX + key} = {_short(found)}, the manifest says {_short(expected)}",
                where=where,
                remedy=_EXPORT,
            )


def check_golden_arrays(
    golden: Arrays, taken: Signature, given: Signature, optional: AbstractSet[str], *, where: str
) -> None:
    """Check names, types and shapes of the arrays in `golden.npz`."""
    wanted = {**taken, **given}
    required = wanted.keys() - optional
    if not required <= set(golden) or not set(golden) <= set(wanted):
        raise ModelError(
            f"holds the arrays {', '.join(sorted(golden))} where {', '.join(sorted(required))} are expected",
            where=where,
            remedy="Make it with `make_golden`",
        )
    size = len(golden["window"]) if golden["window"].ndim else 0
    for name, array in golden.items():
        expected = wanted[name]
        if array.dtype != expected.dtype or array.shape != (size, *expected.shape) or not size:
            raise ModelError(
                f"the array {name!r} is {array.dtype}{list(array.shape)} where {expected} is expected",
                where=where,
                remedy="Make it with `make_golden`",
            )


def check_run(session: Any, golden: Arrays, taken: Signature, given: Signature, *, where: str) -> float:
    """Run the goldens: outputs as declared, finite, and as they were.

    Returns
    -------
    float
        Largest difference from a golden output.
    """
    found = run(session, {name: golden[name] for name in taken}, given, where=where)
    worst = 0.0
    known = np.isfinite(golden["window"]).any(axis=(1, 2))
    for name, array in found.items():
        bad = np.isinf(array) if name in _MAY_BE_NAN else ~np.isfinite(array)
        if bad[known].any():
            rows = np.flatnonzero(known & bad.reshape(len(bad), -1).any(axis=1))
            raise ModelError(
                f"the output {name!r} is not finite for the golden windows {rows.tolist()}",
                where=where,
                remedy="Mask missing values before logarithms, divisions and reductions",
            )
        if name not in golden:
            continue
        same, difference = compare(golden[name], array)
        worst = max(worst, difference)
        if not same:
            raise ModelError(
                f"the output {name!r} does not reproduce its golden: it differs by up to {difference:.3g}, "
                f"more than {RELATIVE:g} relative plus {ABSOLUTE:g}, or is NaN where the golden is not",
                where=where,
                remedy="The graph computes something else on this machine; do not use it here",
            )
    return worst


def check_empty(session: Any, golden: Arrays, taken: Signature, given: Signature, *, where: str) -> None:
    """Run windows without a single value: NaN is an answer, failing and ±inf are none."""
    empty = {name: np.full_like(golden[name], np.nan) if name != "time" else golden[name] for name in taken}
    for name, array in run(session, empty, given, where=where).items():
        if np.isinf(array).any():
            raise ModelError(
                f"the output {name!r} is infinite for a window without values",
                where=where,
                remedy="Mask missing values before logarithms, divisions and reductions",
            )


def run(session: Any, arrays: Arrays, given: Signature, *, where: str) -> Arrays:
    """Run a session and check types and shapes of what comes out."""
    names = [output.name for output in session.get_outputs()]
    size = len(arrays["window"])
    try:
        found = dict(zip(names, session.run(names, padded(arrays)), strict=True))
    except Exception as error:  # ONNX Runtime raises classes of its own, all plain Exceptions
        raise ModelError(f"the graph fails: {_short(str(error))}", where=where, remedy=_EXPORT) from error
    for name, array in found.items():
        expected = given[name]
        if array.dtype != expected.dtype or array.shape[1:] != expected.shape or len(array) < size:
            raise ModelError(
                f"the output {name!r} is {array.dtype}{list(array.shape)} where {expected} is expected",
                where=where,
                remedy=_EXPORT,
            )
    return {name: array[:size] for name, array in found.items()}


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 160 else text[:157] + "..."
