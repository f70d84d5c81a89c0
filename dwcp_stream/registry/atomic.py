"""Files that appear at once or not at all, also when the machine stops in between."""

import errno
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

TEMPORARY = ".tmp-"
"""What names of unfinished files and folders begin with; readers pass them over."""


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_file(path: Path, data: bytes) -> None:
    """Write a file and wait until it is on disk."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, data: bytes) -> None:
    """Put a new content in a file's place; readers see the old or the new one."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{secrets.token_hex(4)}")
    try:
        write_file(temporary, data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def append_lines(path: Path, data: bytes) -> None:
    """Add lines to a file, durably; one that a crash has torn stays, and the next begins on a line of its own."""
    with path.open("ab+") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def create_folder(path: Path, files: Mapping[str, bytes]) -> bool:
    """Make a folder with its files; it appears complete.

    Returns
    -------
    bool
        False if there is something of that name already, which is left as it is.
    """
    temporary = path.parent / f"{TEMPORARY}{path.name}-{secrets.token_hex(4)}"
    temporary.mkdir(parents=True)
    try:
        for name, data in files.items():
            write_file(temporary / name, data)
        sync_folder(temporary)
        temporary.rename(path)
    except OSError as error:
        # A rename onto a folder that has files fails, so of two publishers only one gets the name.
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return False
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync_folder(path.parent)
    return True
