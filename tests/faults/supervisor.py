"""A seeded supervisor: runs ``lineitem ingest`` as a real process, strikes it or its PostgreSQL, and checks what is left.

After every fault the ledger must verify; in the end it must equal what ``workload`` says the file comes to.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

from lineitem.kit.db import connect
from lineitem.kit.embedded import EmbeddedServer
from lineitem.kit.embedded_folder import Layout, within
from tests.acceptance.command import Command
from tests.faults import workload

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
BATCH_RECORDS = 500
_PATIENCE_S = 120
_HOLDS_ADVISORY = "select distinct pid from pg_locks where locktype = 'advisory' and granted"
_BACKENDS = "select pid from pg_stat_activity where application_name = 'lineitem' and pid <> pg_backend_pid()"


class Supervisor:
    """One ledger, one file, and the faults that may come over them."""

    def __init__(self, folder: Path, seed: int, events: int, accounts: int = 40) -> None:
        self.chance = random.Random(seed)
        self.command = Command(folder / "data")
        self.layout = Layout(Path(os.path.realpath(folder)) / "data" / "postgres")
        self.file = folder / "usage.ndjson"
        self.expected = workload.write(self.file, seed, events, accounts)
        self.outcomes: Counter[tuple[str, int]] = Counter()
        """(Fault, exit code of a process it met) -> how often."""
        self._fault = ""
        catalog = folder / "catalog.yaml"
        catalog.write_text(workload.CATALOG)
        self.command.json("catalog", "publish", catalog)

    # --- processes ---------------------------------------------------------------------------------------------------

    def ingest(self, failpoint: str = "", *, two_processes: bool = False) -> subprocess.Popen[bytes]:
        """Start reading the file, or go on with it."""
        options = ["--batch-size", str(BATCH_RECORDS), "--two-processes" if two_processes else "--one-process"]
        return self.command.start("ingest", self.file, *options, "--json", env={"LINEITEM_FAILPOINT": failpoint})

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

    def segments(self) -> int:
        """How many raw segments there are: one appears for each batch, so they tell how far a process has come."""
        return sum(1 for _ in (self.command.data_dir / "segments").rglob("*.parquet"))

    def wait_for_batches(self, process: subprocess.Popen[bytes], count: int) -> None:
        """Until ``process`` has prepared ``count`` more batches, or has ended, and a random moment longer."""
        enough = self.segments() + count
        until(lambda: process.poll() is not None or self.segments() >= enough)
        time.sleep(self.chance.random() * 0.08)

    def wait_until_stopped(self, process: subprocess.Popen[bytes]) -> None:
        """Until a ``stop:`` failpoint has stopped the process, or it has ended."""
        until(lambda: process.poll() is not None or stopped(process.pid))

    # --- faults ------------------------------------------------------------------------------------------------------

    def faults(self) -> list[Callable[[], None]]:
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

    def strike(self, fault: Callable[[], None]) -> None:
        """Let one fault happen and see that the ledger is whole."""
        self._fault = fault.__name__
        fault()
        self.check()

    def kill_at_a_failpoint(self) -> None:
        """SIGKILL at a named place, above all just before and after COMMIT."""
        name = self.chance.choice(FAILPOINTS)
        two_processes = self.chance.random() < 0.5
        process = self.ingest(f"{name}@{self.chance.randrange(1, 12)}", two_processes=two_processes)
        self.ended(process, {0, -signal.SIGKILL, *([1] if two_processes else [])})

    def kill_the_process(self) -> None:
        """SIGKILL anywhere."""
        process = self._running()
        process.kill()
        self.ended(process, {0, -signal.SIGKILL})

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
            self.ended(other, {0, -signal.SIGKILL})
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

    def ended(self, process: subprocess.Popen[bytes], codes: set[int]) -> None:
        """The process ends in one of the ways it may, and says so like a civilised program."""
        _, said = process.communicate(timeout=_PATIENCE_S)
        error = said.decode()
        self.outcomes[self._fault, process.returncode] += 1
        assert process.returncode in codes, (process.returncode, error)
        assert "Traceback" not in error, error
        assert "unexpected error" not in error, error
        if process.returncode == 1:
            assert error.startswith("lineitem: "), error

    def check(self) -> None:
        """The ledger is whole."""
        answer = self.command.run("verify", "--json")
        assert answer.code == 0, answer

    def finish(self) -> None:
        """Read to the end in peace: the ledger equals the oracle, again adds nothing, and no server is left."""
        counts = self.command.json("ingest", self.file)
        if counts["itemized"] or counts["received"] < self.expected.counts["received"]:
            counts = self.command.json("ingest", self.file)
        wanted = self.expected.counts
        assert counts == {
            "received": wanted["received"],
            "itemized": 0,
            "line_items": 0,
            "duplicate": self.expected.accepted + wanted["duplicate"],
            "pending": 0,
            "dead_lettered": wanted["dead_lettered"],
            "not_billable": 0,
            "batches": counts["batches"],
        }
        found = self.command.json("verify", "--deep")
        assert found["findings"] == []
        assert found["accepted_events"] == self.expected.accepted
        assert found["counts"]["itemized"] == wanted["itemized"]
        assert found["counts"]["not_billable"] == wanted["not_billable"]
        assert found["counts"]["pending"] == 0
        assert self.amounts_nano() == self.expected.amounts_nano
        assert until(lambda: not self.server_processes() and not self.keepers()), "a server is left"

    def amounts_nano(self) -> dict[str, int]:
        """Account -> sum of its line items."""
        sums: dict[str, int] = defaultdict(int)
        for item in self.command.line_items():
            sums[item["account"]] += int(Decimal(item["amount"]).scaleb(9))
        return dict(sums)


def rounds(supervisor: Supervisor, count: int) -> Iterator[str]:
    """Let ``count`` random faults happen, the first of each kind before any comes twice; yields what happened."""
    order: list[Callable[[], None]] = []
    for _ in range(count):
        if not order:
            order = supervisor.faults()
            supervisor.chance.shuffle(order)
        fault = order.pop()
        supervisor.strike(fault)
        yield fault.__name__


def until(condition: Callable[[], bool]) -> bool:
    """Wait for a condition; whether it came about in time."""
    return within(_PATIENCE_S, condition)


def stopped(pid: int) -> bool:
    """Whether a process stands still."""
    return _read(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()[:1] == [b"T"]


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
