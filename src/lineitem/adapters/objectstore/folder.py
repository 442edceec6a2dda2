"""Raw segments as files of a folder: created exclusively, synced to disk before anything refers to them."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from threading import get_ident

from lineitem.core.errors import EnvironmentProblem, IntegrityError, LineitemError
from lineitem.kit.failpoint import failpoint

_NAME = re.compile(r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$")


class FolderStore:
    """A ``kit.blobs.BlobStore`` in a local folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def create(self, name: str, content: bytes | memoryview) -> None:
        """Write to a temporary name, sync, then link exclusively: a reader never sees half a segment."""
        path = self._path(name)
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{get_ident()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                with open(temporary, "wb") as file:
                    os.fchmod(file.fileno(), 0o600)
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                failpoint("before_segment")
                os.link(temporary, path)
            except FileExistsError:
                if path.read_bytes() != bytes(content):
                    raise IntegrityError(
                        "a raw segment of this name exists with other content",
                        where=str(path),
                        do="Run `lineitem doctor`; it says whether the file is an orphan and may go.",
                    ) from None
            finally:
                temporary.unlink(missing_ok=True)
            _sync_folder(path.parent)
        except OSError as error:
            raise _explained(error, path) from error

    def read(self, name: str) -> bytes:
        """The whole segment."""
        path = self._path(name)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise IntegrityError(
                "a raw segment is missing", where=str(path), do="Restore the data folder's `segments` from a backup."
            ) from None

    def names(self, prefix: str = "") -> Iterator[str]:
        """Sorted names of all segments; temporary files left by a crash included, as they are removable."""
        if not self._root.is_dir():
            return
        found = (str(path.relative_to(self._root)) for path in self._root.rglob("*") if path.is_file())
        yield from sorted(name for name in found if name.startswith(prefix))

    def remove(self, name: str) -> None:
        """Delete one segment."""
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        if not _NAME.match(name) or ".." in name.split("/"):
            raise LineitemError(f"{name!r} is not a segment name")
        return self._root / name


def _sync_folder(folder: Path) -> None:
    """Make the new directory entry durable as well."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explained(error: OSError, path: Path) -> LineitemError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EnvironmentProblem(
            "the disk of the data folder is full",
            where=str(path.parent),
            do="Free space and run the same command again: it goes on where it stopped.",
        )
    return EnvironmentProblem(f"cannot write a raw segment: {error.strerror}", where=str(path.parent))
