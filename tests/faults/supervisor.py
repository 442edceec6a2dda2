"""A seeded supervisor: runs ``lineitem ingest`` as a real process, and strikes it or its embedded PostgreSQL."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from lineitem.kit.db import connect
from lineitem.kit.embedded import EmbeddedServer
from lineitem.kit.embedded_folder import Layout
from tests.faults.world import KILLED, Fault, FileWorld, until

FAILPOINTS = (
    "before_segment",
    "after_segment",
    "before_write",
    "after_position",
    "after_identities",
    "before_commit",
    "after_commit",
    "before_complete",
    "before_checkpoint",
)
"""Where a process can be made to die: the places ``kit.failpoint`` is called at."""
_HOLDS_ADVISORY = "select distinct pid from pg_locks where locktype = 'advisory' and granted"
_BACKENDS = "select pid from pg_stat_activity where application_name = 'lineitem' and pid <> pg_backend_pid()"


class Supervisor(FileWorld):
    """A ledger in the embedded server, and the faults that may come over it."""

    def __init__(self, folder: Path, seed: int, accounts: int = 40) -> None:
        super().__init__(folder, seed, accounts)
        self.layout = Layout(Path(os.path.realpath(folder)) / "data" / "postgres")
        self.publish()

    # --- processes ---------------------------------------------------------------------------------------------------

    def _preparing(self, process: subprocess.Popen[bytes]) -> list[int]:
        """The process that prepares batches for ``process``, where there is one."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            if b"kit.ahead" in _read(entry / "cmdline") and _parent(entry) == process.pid:
                found.append(int(entry.name))
        return found

    def server_processes(self) -> list[int]:
        """The server's processes, the main one first."""
        main, others = [], []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                command = (entry / "cmdline").read_bytes()
                if f"postgres\0-D\0{self.layout.data}\0".encode() in command:
                    main.append(int(entry.name))
                elif command.startswith(f"postgres: {self.layout.cluster}: ".encode()):
                    others.append(int(entry.name))
        return main + others

    def keepers(self) -> list[int]:
        """The processes that keep the server."""
        mark = f'"folder": "{self.layout.folder}"'.encode()
        return [int(path.parts[2]) for path in Path("/proc").glob("[0-9]*/cmdline") if mark in _read(path)]

    # --- faults ------------------------------------------------------------------------------------------------------

    def faults(self) -> list[Fault]:
        """Everything that can happen."""
        return [
            self.kill_at_a_failpoint,
            self.kill_the_process,
            self.kill_the_preparing_process,
            self.kill_the_server,
            self.kill_a_server_process,
            self.end_a_session,
            self.kill_the_keeper,
            self.interrupt_the_process,
            self.wake_a_zombie,
        ]

    def kill_at_a_failpoint(self) -> None:
        """SIGKILL at a named place, above all just before and after COMMIT."""
        name = self.chance.choice(FAILPOINTS)
        two_processes = self.chance.random() < 0.5
        process = self.ingest(f"{name}@{self.chance.randrange(1, 12)}", two_processes=two_processes)
        self.ended(process, {0, KILLED, *([1] if two_processes else [])})

    def kill_the_process(self) -> None:
        """SIGKILL anywhere."""
        process = self._running()
        process.kill()
        self.ended(process, {0, KILLED})

    def kill_the_preparing_process(self) -> None:
        """SIGKILL to the process that prepares batches: the one that commits them says so and ends."""
        process = self.ingest(two_processes=True)
        until(lambda: process.poll() is not None or bool(self._preparing(process)))
        self.wait_for_batches(process, self.chance.randrange(12))
        for pid in self._preparing(process):
            _kill(pid)
        self.ended(process, {0, 1})

    def interrupt_the_process(self) -> None:
        """Ctrl-C, or a service manager's stop."""
        process = self._running()
        process.send_signal(self.chance.choice([signal.SIGINT, signal.SIGTERM]))
        self.ended(process, {0, 130, 143, -signal.SIGINT, -signal.SIGTERM})

    def kill_the_server(self) -> None:
        """SIGKILL to the main PostgreSQL process."""
        process = self._running()
        for pid in self.server_processes()[:1]:
            _kill(pid)
        self.ended(process, {0, 1})

    def kill_a_server_process(self) -> None:
        """SIGKILL to one of the others: PostgreSQL throws every session out and recovers."""
        process = self._running()
        others = self.server_processes()[1:]
        if others:
            _kill(self.chance.choice(others))
        self.ended(process, {0, 1})

    def end_a_session(self) -> None:
        """``pg_terminate_backend`` on one session, in the middle of whatever it does."""
        with EmbeddedServer(self.command.data_dir) as server:
            process = self._running()
            self._terminate(server, _BACKENDS, only_one=True)
            self.ended(process, {0, 1})

    def kill_the_keeper(self) -> None:
        """SIGKILL to the process that looks after the server; the kernel shuts the server down."""
        process = self._running()
        for pid in self.keepers():
            _kill(pid)
        self.ended(process, {0, 1})

    def wake_a_zombie(self) -> None:
        """A process stands still, the server gives up on it, another one reads on; then it wakes and must do no harm."""
        place = self.chance.choice(["before_write", "after_segment", "after_position", "before_commit", "after_commit"])
        with EmbeddedServer(self.command.data_dir) as server:
            zombie = self.ingest(f"stop:{place}@{self.chance.randrange(1, 8)}")
            self.wait_until_stopped(zombie)
            in_transaction = place in ("after_position", "before_commit")
            self._terminate(server, _BACKENDS if in_transaction else _HOLDS_ADVISORY)
            other = self.ingest(self.chance.choice(["", f"after_commit@{self.chance.randrange(2, 15)}"]))
            self.ended(other, {0, KILLED})
            zombie.send_signal(signal.SIGCONT)
            self.ended(zombie, {0, 1})

    def _running(self) -> subprocess.Popen[bytes]:
        process = self.ingest(two_processes=self.chance.random() < 0.5)
        self.wait_for_batches(process, self.chance.randrange(12))
        return process

    def _terminate(self, server: EmbeddedServer, which: str, *, only_one: bool = False) -> None:
        with connect(server.dsn) as connection:
            pids = [row[0] for row in connection.execute(which.encode()).fetchall()]
            for pid in self.chance.sample(sorted(pids), 1) if only_one and pids else pids:
                connection.execute("select pg_terminate_backend(%s)", (pid,))

    # --- what must hold ----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """I1 to I10."""
        with EmbeddedServer(self.command.data_dir) as server:
            self.dsn = server.dsn
            super().check()

    def finish(self) -> None:
        """Read to the end in peace: everything holds, reading again adds nothing, and no server is left."""
        self.recover()
        assert self.command.json("ingest", self.file)["itemized"] == 0
        self.check()
        self.nothing_is_left()

    def nothing_is_left(self) -> None:
        """No process of a server, and nobody who looks after one."""
        assert until(lambda: not self.server_processes() and not self.keepers()), "a server is left"


def _parent(entry: Path) -> int:
    fields = _read(entry / "stat").rpartition(b")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def _read(path: Path) -> bytes:
    with suppress(OSError):
        return path.read_bytes()
    return b""


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
