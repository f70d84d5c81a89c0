"""Versions of models that are nearly right, with right hashes: python -m tests.fuzz.models --versions 1000.

Each is refused with a ModelError or loads; anything else, and the end of the process, is a failure. The program runs
them in a process of its own whose memory is limited, and says which seed was under way when it ended.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import resource
import subprocess
import sys
from collections import Counter
from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dwcp_stream.errors import ModelError
from dwcp_stream.registry.verify import check_version
from tests.fuzz.payloads import damaged
from tests.model_graphs import NAMES, make_files, make_manifest

MEMORY_BYTES = 3 << 30
SIZES = (0, 1, -1, 2, 7, 1 << 20, 1 << 31, 1 << 40, (1 << 63) - 1)
OPERATORS = (
    *("Identity", "Tile", "Expand", "Range", "ConstantOfShape", "EyeLike", "Pad", "OneHot", "Reshape", "Gather"),
    *("Einsum", "LSTM", "TopK", "Conv", "MaxPool", "CumSum", "Split", "Slice", "Transpose"),
    *("Loop", "If", "RandomNormal", "Custom"),
)


def version(seed: int) -> tuple[str, dict[str, bytes]]:
    """Name and files of a version; the same seed gives the same."""
    rng = Random(seed)
    name = rng.choice(NAMES)
    manifest, files = make_manifest(name), dict(make_files(name))
    for _ in range(rng.choice((1, 1, 2, 3))):
        kind = rng.randrange(4)
        if kind == 0:
            file = rng.choice(sorted(files))
            for _ in range(rng.choice((1, 1, 1, 4, 30))):
                files[file] = damaged(files[file] or b"\0", rng) or b"\0"
        elif kind == 1:
            files["model.onnx"] = graph(files["model.onnx"], rng)
        elif kind == 2:
            manifest = edited(manifest, rng)
        else:
            files["golden.npz"] = golden(files["golden.npz"], rng)
    hashes = {file: hashlib.sha256(data).hexdigest() for file, data in files.items()}
    whole = json.dumps({"version": 1, "files": hashes, **manifest}).encode()
    if rng.random() < 0.1:
        whole = damaged(whole, rng)
    return f"tiny-{name}", {**files, "manifest.json": whole}


def graph(data: bytes, rng: Random) -> bytes:
    """Change a graph where it still is one: operators, sizes, shapes, constants, edges."""
    try:
        proto = onnx.load_model_from_string(data)
    except Exception:  # noqa: BLE001  protobuf's own class; it was damaged before
        return data
    for _ in range(rng.choice((1, 1, 2, 5))):
        if proto.graph.node:
            rng.choice(CHANGES)(proto, rng)
    return proto.SerializeToString()


def operator(proto: Any, rng: Random) -> None:
    """Another operator for a node."""
    rng.choice(proto.graph.node).op_type = rng.choice(OPERATORS)


def edge(proto: Any, rng: Random) -> None:
    """Another input for a node."""
    node = rng.choice(proto.graph.node)
    if node.input:
        given = rng.choice([*proto.graph.node[0].output, "window", "time", "", "nowhere"])
        node.input[rng.randrange(len(node.input))] = given


def number(proto: Any, rng: Random) -> None:
    """A constant of another type, shape or size in the place of one."""
    tensor = rng.choice(proto.graph.initializer)
    array = np.full([rng.choice((0, 1, 2, 3))] * rng.randrange(4), rng.choice((0, 1, -1, 1 << 40)))
    kind = rng.choice((np.float32, np.int64, np.float64, np.bool_))
    tensor.CopyFrom(numpy_helper.from_array(array.astype(kind), tensor.name))


def shape(proto: Any, rng: Random) -> None:
    """One dimension more than there are numbers for."""
    rng.choice(proto.graph.initializer).dims.append(rng.choice(SIZES))


def explosion(proto: Any, rng: Random) -> None:
    """A node at the beginning that makes much out of little."""
    name = f"more{rng.randrange(10**6)}"
    sizes = [rng.choice(SIZES) for _ in range(rng.randrange(1, 3))]
    proto.graph.initializer.append(numpy_helper.from_array(np.array(sizes, np.int64), name))
    kind = rng.choice(("ConstantOfShape", "Expand", "Tile", "Reshape"))
    proto.graph.node.insert(
        0, helper.make_node(kind, [name] if kind == "ConstantOfShape" else ["time", name], [name + "o"])
    )


def versions(proto: Any, rng: Random) -> None:
    """Versions of the format that nobody knows."""
    proto.ir_version, proto.opset_import[0].version = rng.choice(SIZES), rng.choice((0, 1, 9, 17, 99, 1 << 40))


def elsewhere(proto: Any, rng: Random) -> None:
    """Weights in another file."""
    tensor = rng.choice(proto.graph.initializer)
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", rng.choice(("/etc/passwd", "../../x", "weights.bin", ""))


def attribute(proto: Any, rng: Random) -> None:
    """Another number for an attribute."""
    node = rng.choice(proto.graph.node)
    if node.attribute:
        rng.choice(node.attribute).i = rng.choice(SIZES)


CHANGES = (operator, edge, number, shape, explosion, versions, elsewhere, attribute)


VALUES = (None, 0, -1, 1 << 40, 1e300, "", "../../x", "x" * 5000, [], [[]], {}, [1, 2, 3], {"a": [1] * 50})


def edited(manifest: dict[str, Any], rng: Random) -> dict[str, Any]:
    """Give a key another value, or take it away."""
    key = rng.choice(sorted(manifest))
    changed = {k: v for k, v in manifest.items() if k != key or rng.random() < 0.8}
    if key in changed:
        changed[key] = rng.choice(
            (None, 0, -1, 1 << 40, 1e300, "", "../../x", "x" * 5000, [], [[]], {}, [1, 2, 3], {"a": [1] * 50})
        )
    return changed


def golden(data: bytes, rng: Random) -> bytes:
    """Change the arrays of a golden file: types, shapes, names, or headers alone."""
    try:
        with np.load(io.BytesIO(data)) as found:
            arrays = {name: found[name] for name in found.files}
    except Exception:  # noqa: BLE001  it was damaged before
        return data
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    kind = rng.randrange(6)
    if kind == 0:
        with np.errstate(all="ignore"):
            arrays[name] = array.astype(rng.choice((np.int8, np.float16, np.complex128, "U3", "M8[s]")))
    elif kind == 1:
        arrays[name] = array.reshape(rng.choice(((-1,), (1, -1), (*array.shape, 1))))
    elif kind == 2:
        arrays[rng.choice(("../x", "/etc/x", "window.npy", "", "x" * 300))] = arrays.pop(name)
    elif kind == 3:
        arrays[name] = np.full_like(array, rng.choice((np.nan, np.inf, -np.inf, 3e38, 0)))
    elif kind == 4:
        arrays[name] = np.zeros((rng.choice((0, 1, 2000)), *array.shape[1:]), array.dtype)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    text = buffer.getvalue()
    return damaged(text, rng) if kind == 5 else text


def check(seed: int) -> str:
    """Load a version; returns `loads` or `refused`, and raises anything but a ModelError."""
    name, files = version(seed)
    try:
        check_version(files, name, 1, where="fuzz")
    except ModelError:
        return "refused"
    return "loads"


def main() -> int:
    """Check versions, in a child whose memory is limited."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        counts: Counter[str] = Counter()
        for seed in range(given.seed, given.seed + given.versions):
            sys.stderr.write(f"\r{seed}")
            counts[check(seed)] += 1
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        sys.stdout.write(f"{given.versions} versions: {dict(counts)}, largest resident set {memory} MiB\n")
        return 0
    command = [
        sys.executable,
        "-m",
        "tests.fuzz.models",
        "--child",
        "--versions",
        str(given.versions),
        "--seed",
        str(given.seed),
    ]
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.stderr.write(f"ended with {done.returncode}\n{done.stderr[-4000:]}\n")
    return int(done.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
