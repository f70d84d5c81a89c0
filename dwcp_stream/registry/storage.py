"""Where a repository keeps its bytes: the port that it reads and writes through, and the folder that fills it.

Paths are relative to the repository's root, with `/`. `dwcp_stream.registry.object_storage` fills the port with
anything that fsspec reaches.
"""

import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, Protocol

from dwcp_stream.errors import ModelError
from dwcp_stream.registry.atomic import TEMPORARY, append_lines, create_folder, replace_file

MANIFEST: Final = "manifest.json"
"""The file that makes a folder of files a version."""
SCHEME: Final = "://"


class Storage(Protocol):
    """What a repository needs of the place where its files are."""

    def where(self, path: str = "") -> str:
        """Return a path as people and other programs know it."""

    def names(self, path: str = "") -> list[str]:
        """Return the names of what lies directly in a folder; empty if there is no such folder."""

    def complete(self, path: str) -> bool:
        """Return whether a folder is there with all its files."""

    def read(self, path: str, limit: int) -> bytes:
        """Return a file's bytes, and of one that is larger than `limit` the first `limit + 1`.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        OSError, ModelError
            It cannot be read.
        """

    def replace(self, path: str, data: bytes) -> None:
        """Give a file a new content: readers see the old one or the new one."""

    def create(self, path: str, files: Mapping[str, bytes]) -> bool:
        """Make a folder, which is `complete` once all its files are there; False if there is one already."""

    def append(self, path: str, data: bytes) -> None:
        """Add whole lines to a file; what a crash has torn before stays a line of its own."""

    def remove(self, path: str) -> None:
        """Take a folder away, first its being `complete`; or a file, if it is there."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep other writers of what is replaced and appended out meanwhile, if the place can do so."""


Root = Storage | Path | str
"""Where a repository is: a folder, an fsspec URL such as `s3://bucket/models`, or what reads and writes there."""


def open_storage(root: Root) -> Storage:
    """Return what reads and writes at a place.

    Raises
    ------
    ConfigError
        If it is a URL of a kind for which nothing is installed.
    """
    if isinstance(root, str) and SCHEME in root:
        kind, _, path = root.partition(SCHEME)
        if kind == "file":
            return FolderStorage(Path(path))
        from dwcp_stream.registry.object_storage import open_url  # noqa: PLC0415  few need fsspec

        return open_url(root)
    return FolderStorage(Path(root)) if isinstance(root, Path | str) else root


class FolderStorage:
    """A folder of this machine: what is written appears at once or not at all, also if the machine stops meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def where(self, path: str = "") -> str:
        """Return the path in the file system."""
        return str(self.folder / path)

    def names(self, path: str = "") -> list[str]:
        """Return the names in a folder."""
        folder = self.folder / path
        return sorted(found.name for found in folder.iterdir()) if folder.is_dir() else []

    def complete(self, path: str) -> bool:
        """Return whether there is such a folder: it appears with all its files."""
        return (self.folder / path).is_dir()

    def read(self, path: str, limit: int) -> bytes:
        """Read a plain file; ModelError for links, pipes and the like."""
        # A link would lead elsewhere, and opening a named pipe would wait for its writer.
        handle = os.open(self.folder / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        known = os.fstat(handle)
        if not stat.S_ISREG(known.st_mode):
            os.close(handle)
            raise ModelError("is not a plain file", where=self.where(path), remedy="Put a file in its place")
        with os.fdopen(handle, "rb") as file:
            return file.read(min(known.st_size, limit) + 1)  # room for the limit would cost more than the file

    def replace(self, path: str, data: bytes) -> None:
        """Write beside the file and rename."""
        replace_file(self.folder / path, data)

    def create(self, path: str, files: Mapping[str, bytes]) -> bool:
        """Write beside the folder and rename."""
        folder = self.folder / path
        folder.parent.mkdir(parents=True, exist_ok=True)
        return create_folder(folder, files)

    def append(self, path: str, data: bytes) -> None:
        """Write at the end, and wait until it is on disk."""
        append_lines(self.folder / path, data)

    def remove(self, path: str) -> None:
        """Rename and remove: it disappears at once, whatever happens in between."""
        found = self.folder / path
        if not found.is_dir():
            found.unlink(missing_ok=True)
            return
        gone = found.with_name(f"{TEMPORARY}{found.name}-{secrets.token_hex(4)}")
        found.rename(gone)
        shutil.rmtree(gone)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold an advisory lock on the folder, so that of two writers none loses the other's change."""
        handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)  # releases the lock
