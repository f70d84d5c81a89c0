"""`golden.npz`: made-up windows, and what the graph made of them where it was published."""

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from dwcp_stream.errors import ModelError
from dwcp_stream.scoring.session import make_session

RELATIVE, ABSOLUTE = 1e-4, 1e-5
"""How far an output may be from the golden one: runtimes and processors differ in the last bits."""

MAX_UNPACKED = 64 << 20
"""Bytes that the arrays of a golden file may take."""

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}

Arrays = Mapping[str, NDArray[Any]]


def make_golden(
    model_bytes: bytes,
    windows: NDArray[np.float32],
    times: NDArray[np.float64],
    state: NDArray[np.float32] | None = None,
    *,
    explain_bytes: bytes | None = None,
) -> bytes:
    """Run a graph and store inputs and outputs.

    Parameters
    ----------
    model_bytes
        The file `model.onnx`.
    windows, times
        [B, T, F] and [B, T], the model's own fields; made up, never rows of a data set. Four windows or more
        show what a batch does; one of them should miss values.
    state
        [B, S] for a model with a state.
    explain_bytes
        The file `explain.onnx`; its `contribution` is then stored too.

    Returns
    -------
    bytes
        The file `golden.npz`.

    Raises
    ------
    ModelError
        If ONNX Runtime cannot load the graph.
    """
    arrays: dict[str, NDArray[Any]] = {
        "window": np.ascontiguousarray(windows, np.float32),
        "time": np.ascontiguousarray(times, np.float64),
    }
    if state is not None:
        arrays["state_in"] = np.ascontiguousarray(state, np.float32)
    found = dict(arrays)
    for data, name in ((model_bytes, "model.onnx"), (explain_bytes, "explain.onnx")):
        if data is not None:
            session = make_session(data, where=name)
            names = [output.name for output in session.get_outputs()]
            found |= dict(zip(names, session.run(names, arrays), strict=True))
    buffer = io.BytesIO()
    stored: dict[str, Any] = found
    np.savez_compressed(buffer, **stored)
    return buffer.getvalue()


def read_golden(data: bytes, *, where: str) -> Arrays:
    """Unpack `golden.npz`.

    Raises
    ------
    ModelError
        If it is no such file, holds objects (which would have to be unpickled), or unpacks to too much.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check_size(sum(entry.file_size for entry in archive.infolist()), where)
            return {name.removesuffix(".npy"): _read_array(archive.read(name)) for name in archive.namelist()}
    except ModelError:
        raise
    except Exception as error:  # zipfile, its codecs, and numpy's reader of headers raise a dozen classes
        raise ModelError(
            f"is not a file of plain arrays ({error})", where=where, remedy="Make it with `make_golden`"
        ) from error


def _read_array(data: bytes) -> NDArray[Any]:
    """Return the array of an .npy file; unlike numpy's own reader without making room for what its header claims."""
    file = io.BytesIO(data)
    version = npy.read_magic(file)
    shape, fortran, dtype = _HEADERS[version](file)
    if dtype.hasobject or min(shape, default=0) < 0:
        raise ValueError(f"an array of {dtype} of shape {shape}")
    return np.frombuffer(data, dtype, offset=file.tell()).reshape(shape, order="F" if fortran else "C")


def _check_size(size: int, where: str) -> None:
    if size > MAX_UNPACKED:
        raise ModelError(
            f"unpacks to {size} bytes, more than {MAX_UNPACKED}",
            where=where,
            remedy="Store fewer windows; a handful is enough",
        )


def compare(expected: NDArray[Any], found: NDArray[Any]) -> tuple[bool, float]:
    """Compare an output with the golden one; NaN equals NaN.

    Returns
    -------
    tuple
        Whether every element is within RELATIVE of the golden one plus ABSOLUTE; the largest difference.
    """
    close = np.isclose(found, expected, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
    both = np.isfinite(expected) & np.isfinite(found)
    difference = np.abs(np.where(both, found, 0).astype(np.float64) - np.where(both, expected, 0))
    return bool(close.all()), float(difference.max(initial=0.0))
