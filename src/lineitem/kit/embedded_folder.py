"""The embedded PostgreSQL's folder: what lies where, the lock files, and what its file errors mean to people."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lineitem.core.errors import EnvironmentProblem


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the server's things lie: all in one folder that only its account may enter."""

    folder: Path

    @property
    def data(self) -> Path:
        """The database: what PostgreSQL calls PGDATA."""
        return self.folder / "data"

    @property
    def unfinished(self) -> Path:
        """A database being made; it moves to ``data`` when it is whole."""
        return self.folder / "data.new"

    @property
    def log(self) -> Path:
        """What the server, and the keeper when it fails, have to say."""
        return self.folder / "server.log"

    @property
    def pid_file(self) -> Path:
        """PostgreSQL's own note of who runs; ``status`` reads it."""
        return self.data / "postmaster.pid"

    @property
    def cluster(self) -> str:
        """A name that shows in the title of each of the server's processes and so tells them from other servers'."""
        return "lineitem-" + hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:12]

    def lock(self, name: str) -> Path:
        """``users``, ``start``, ``keeper`` or ``server``."""
        return self.folder / f"{name}.lock"

    def status(self) -> list[str]:
        """The lines of postmaster.pid: pid, data, start time, port, socket folder, address, shared memory, state."""
        try:
            return [line.strip() for line in self.pid_file.read_text(errors="surrogateescape").splitlines()]
        except FileNotFoundError:
            return []


def open_private(path: Path) -> int:
    """A descriptor to append to the file, made (private, owned by the folder's owner) when missing."""
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def try_lock(descriptor: int, kind: int) -> bool:
    """Take the lock if that needs no waiting."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Ask ``condition`` until it holds or the time is over."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


@contextlib.contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """Turn what the operating system says about files into an EnvironmentProblem with a remedy."""
    try:
        yield
    except OSError as error:
        raise disk_problem(error, where) from error


def disk_problem(error: OSError, where: Path) -> EnvironmentProblem:
    """What the operating system says about files, with a remedy."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_full(where)
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return EnvironmentProblem(
            "the data folder is a file, or lies below one", where=str(where), do="Name a folder with --data-dir."
        )
    path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(where)
    said = error.strerror or str(error)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
        return EnvironmentProblem(
            f"the data folder cannot be written ({path}: {said})",
            where=str(where),
            do="Run as the account it belongs to, or name another folder with --data-dir.",
        )
    return EnvironmentProblem(f"the data folder cannot be used ({path}: {said})", where=str(where))


def disk_full(where: Path) -> EnvironmentProblem:
    """There is no room for the database."""
    return EnvironmentProblem(
        "the disk is full: no room for the database",
        where=str(where),
        do="Free space (a new ledger needs about 60 MB) and try again; what was committed is safe.",
    )


def log_tail(layout: Layout, since: int = 0, lines: int = 12) -> str:
    """The end of the server's log from byte ``since`` on, ready to be put under a message."""
    try:
        with layout.log.open("rb") as log:
            log.seek(max(since, log.seek(0, os.SEEK_END) - 16_384))
            text = log.read().decode(errors="replace").strip()
    except FileNotFoundError:
        text = ""
    return "".join(f"\n    {line}" for line in text.splitlines()[-lines:])
