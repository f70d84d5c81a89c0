"""Add a version that was made elsewhere: from a folder that need not be trusted to the next number of a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from dwcp_stream.errors import UNREADABLE, ModelError
from dwcp_stream.registry import files
from dwcp_stream.registry.aliases import move_aliases
from dwcp_stream.registry.repository import ModelRepository
from dwcp_stream.registry.storage import FolderStorage
from dwcp_stream.streams import StreamDefinition

ANEW = ("name", "version", "files")
"""Keys of the manifest that say where it was published before; they are filled in anew."""


def publish_folder(
    repository: ModelRepository,
    name: str,
    folder: Path,
    streams: Mapping[str, StreamDefinition] | None = None,
    *,
    by: str | None = None,
    reason: str = "",
) -> int:
    """Publish a folder's `model.onnx`, `golden.npz`, `manifest.json` and what may lie beside them as the next version.

    A model's first version becomes champion, unless the repository demands signatures: it has none yet.

    Parameters
    ----------
    streams
        Definitions by name: the version must fit the one that its manifest names, if that is among them.
    by, reason
        For the history of moves, see `dwcp_stream.registry.promotion.promote`.

    Returns
    -------
    int
        The version.

    Raises
    ------
    ModelError
        If a file is missing, is no plain file, does not belong there or is too large, or the version is refused;
        nothing is written then.
    """
    if not folder.is_dir():
        raise ModelError(
            "is not a folder",
            where=str(folder),
            remedy=f"Give the folder that holds {files.MANIFEST}, {' and '.join(files.REQUIRED)}",
        )
    contents = files.read_version(FolderStorage(folder), "")
    manifest = _plain_manifest(contents, where=str(folder / files.MANIFEST))
    stream = (streams or {}).get(str(manifest.get("stream")))
    version = repository.publish(name, contents, manifest, stream)
    if "champion" not in repository.aliases(name) and not repository.keys:
        move_aliases(repository.storage, name, {"champion": version}, by=by, reason=reason or "the first version")
    return version


def _plain_manifest(contents: Mapping[str, bytes], *, where: str) -> dict[str, Any]:
    """Return a folder's manifest as plain values, without what its place in a repository decides."""
    try:
        plain = msgspec.json.decode(contents[files.MANIFEST], type=dict[str, Any])
    except KeyError:
        raise ModelError(
            f"the file {files.MANIFEST!r} is missing", where=where, remedy="Give a folder that `train` has made"
        ) from None
    except UNREADABLE as error:
        raise ModelError(
            f"the manifest is wrong: {error}", where=where, remedy="Give a folder that `train` has made"
        ) from error
    return {key: value for key, value in plain.items() if key not in ANEW}
