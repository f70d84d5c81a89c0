"""A repository in an object store, or in anything else that fsspec reaches.

Such a place has no rename and no lock. A version's manifest is written last, and a folder without one is a version
that is being written, or that never was: it is passed over. Aliases are replaced as a whole. Nothing keeps two writers
of the aliases apart, so one decider moves them.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import fsspec

from dwcp_stream.errors import ConfigError, ModelError, UnreachableError
from dwcp_stream.registry.storage import MANIFEST

_GENERIC = "Check that the place can be reached, and the rights to it"


def open_url(url: str) -> "ObjectStorage":
    """Return the storage that a URL names.

    Raises
    ------
    ConfigError
        If fsspec does not know its kind, or the package that reaches it is not installed.
    """
    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        kind = url.partition("://")[0]
        raise ConfigError(
            f"models in {kind}:// cannot be reached: {error}",
            where="models_dir",
            remedy="Install the package that fsspec needs for it, such as s3fs for s3, or name a folder",
        ) from error
    return ObjectStorage(system, path)


class ObjectStorage:
    """Files of an fsspec file system under a path.

    Parameters
    ----------
    system
        An `fsspec.AbstractFileSystem`.
    root
        Path in it, as its `url_to_fs` returns it.
    """

    def __init__(self, system: Any, root: str) -> None:
        self.system, self.root = system, root.rstrip("/")
        self._top = "/".join(self.root.split("/")[: 2 if root.startswith("/") else 1])  # a bucket, which is not ours
        self._writing = threading.Lock()

    def where(self, path: str = "") -> str:
        """Return the URL."""
        return str(self.system.unstrip_protocol(self._at(path)))

    def names(self, path: str = "") -> list[str]:
        """Return the names under a prefix, asked for anew each time."""
        with self._told(path):
            try:
                self.system.invalidate_cache()
                found = self.system.ls(self._at(path), detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        base = self._at(path).strip("/")
        names = {str(name).strip("/").removeprefix(base).strip("/") for name in found}
        return sorted(name for name in names if name and "/" not in name)

    def complete(self, path: str) -> bool:
        """Return whether the folder has its manifest, which is written last."""
        return MANIFEST in self.names(path)

    def read(self, path: str, limit: int) -> bytes:
        """Read an object."""
        with self._told(path):
            return bytes(self.system.cat_file(self._at(path), start=0, end=limit + 1))

    def replace(self, path: str, data: bytes) -> None:
        """Put a whole object."""
        with self._told(path):
            self._put(path, data)

    def create(self, path: str, files: Mapping[str, bytes]) -> bool:
        """Put the files, the manifest last; what a publisher that died has left is not taken up again."""
        if self.names(path):
            return False
        for name in sorted(files, key=lambda file: file == MANIFEST):
            where = f"{path}/{name}"
            with self._told(where):
                try:
                    self._put(where, files[name], mode="create")
                except FileExistsError:  # another publisher has come in between
                    return False
        return True

    def append(self, path: str, data: bytes) -> None:
        """Put the file anew with more in it."""
        with self._told(path):
            try:
                before = bytes(self.system.cat_file(self._at(path)))
            except FileNotFoundError:
                before = b""
            self._put(path, before + data)

    def remove(self, path: str) -> None:
        """Remove the manifest and then the rest."""
        with self._told(path):
            for name in (f"{path}/{MANIFEST}", path):
                if self.system.exists(self._at(name)):
                    self.system.rm(self._at(name), recursive=True)

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep nobody out."""
        return nullcontext()

    def _at(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root

    def _put(self, path: str, data: bytes, mode: str = "overwrite") -> None:
        with self._writing:
            try:
                self._put_at_once(path, data, mode)
            except FileNotFoundError:  # a system that needs folders
                if not self.system.exists(self._top):
                    raise UnreachableError("does not exist", where=self._top, remedy="Make it first") from None
                self.system.makedirs(self._at(path).rpartition("/")[0], exist_ok=True)
                self._put_at_once(path, data, mode)

    def _put_at_once(self, path: str, data: bytes, mode: str) -> None:
        # A transaction makes even those systems show a file at once that write into it bit by bit.
        with self.system.transaction:
            self.system.pipe_file(self._at(path), data, mode=mode)

    @contextmanager
    def _told(self, path: str) -> Iterator[None]:
        """Turn what clients raise into errors that say where; a missing file stays a FileNotFoundError."""
        try:
            yield
        except (FileNotFoundError, ModelError):
            raise
        except Exception as error:  # every client has classes of its own
            raise UnreachableError(
                f"cannot be reached: {error or type(error).__name__}", where=self.where(path), remedy=_GENERIC
            ) from error
