"""The files of one version: which there may be, how large, and reading them once."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dwcp_stream.errors import ModelError
from dwcp_stream.registry import storage as place
from dwcp_stream.registry.manifest import Manifest
from dwcp_stream.registry.storage import Storage

MANIFEST: Final = place.MANIFEST
MODEL: Final = "model.onnx"
EXPLAIN: Final = "explain.onnx"
GOLDEN: Final = "golden.npz"
REQUIRED: Final = (MODEL, GOLDEN)
CARD: Final = "card.md"
OPTIONAL: Final = re.compile(r"explain\.onnx|report\.md|card\.md|[A-Za-z0-9_-][A-Za-z0-9._-]*\.png")
LIMITS: Final = {".onnx": 64 << 20, ".npz": 16 << 20, ".png": 4 << 20, ".md": 1 << 20, ".json": 4 << 20}
"""Most bytes of a file, by suffix."""

_AGAIN = "Publish the model again; do not edit the files of a version"


def read_version(storage: Storage, path: str) -> dict[str, bytes]:
    """Read every file of a version, at most as many bytes as are allowed.

    Parameters
    ----------
    storage
        Where the version is.
    path
        Its folder there.

    Raises
    ------
    ModelError
        If the folder is missing, or something in it is no plain file, does not belong there, or is too large.
    """
    names = storage.names(path)
    if not names and not storage.complete(path):
        raise ModelError(
            "there is no such version",
            where=storage.where(path),
            remedy="`dwcp-stream models list` shows what there is",
        )
    files = {}
    for name in names:
        file = f"{path}/{name}" if path else name
        check_name(name, where=storage.where(file))
        # The limit is on what is read: a size asked for beforehand could have changed.
        files[name] = _read(storage, file, LIMITS[Path(name).suffix])
    return files


def check_name(name: str, *, where: str) -> None:
    """Refuse a file that does not belong into a version."""
    if name not in (MANIFEST, *REQUIRED) and not OPTIONAL.fullmatch(name):
        raise ModelError(
            f"a file {name!r} does not belong into a model's version",
            where=where,
            remedy=f"There may be {MANIFEST}, {', '.join(REQUIRED)}, {EXPLAIN}, report.md, {CARD} and *.png",
        )


def check_size(name: str, size: int, *, where: str) -> None:
    """Refuse a file that is too large."""
    limit = LIMITS[Path(name).suffix]
    if size > limit:
        raise ModelError(
            f"the file is larger than {limit} bytes",
            where=where,
            remedy="Train a smaller model, or store less",
        )


def check_hashes(manifest: Manifest, files: Mapping[str, bytes], *, where: str) -> None:
    """Compare the files with the manifest: none missing, none extra, every hash right.

    Parameters
    ----------
    manifest
        Of the version.
    files
        All files but the manifest.
    where
        Folder, for errors.
    """
    present = set(files) - {MANIFEST}
    for name in sorted({*manifest.files, *REQUIRED} - present):
        raise ModelError(f"the file {name!r} is missing", where=where, remedy=_AGAIN)
    for name in sorted(present - set(manifest.files)):
        raise ModelError(f"the file {name!r} is not in the manifest", where=where, remedy=_AGAIN)
    for name in sorted(present):
        found = hashlib.sha256(files[name]).hexdigest()
        if found != manifest.files[name]:
            raise ModelError(
                f"the SHA-256 is {found}, the manifest says {manifest.files[name]}",
                where=f"{where}/{name}",
                remedy=f"The file was changed or damaged. {_AGAIN}",
            )


def _read(storage: Storage, file: str, limit: int) -> bytes:
    try:
        data = storage.read(file, limit)
    except OSError as error:
        raise ModelError(
            f"cannot be read as a plain file: {error.strerror or 'it is gone'}",
            where=storage.where(file),
            remedy=_AGAIN,
        ) from error
    check_size(file, len(data), where=storage.where(file))
    return data
