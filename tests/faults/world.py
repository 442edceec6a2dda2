"""One ledger that lives through faults: usage comes in shares, something goes wrong, it is healed, everything must hold."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path

from lineitem.kit.db import connect
from lineitem.kit.embedded_folder import within
from tests.acceptance.command import Command
from tests.faults import workload
from tests.faults.invariants import Watched, check, remember

BATCH_RECORDS = 50
HEALED_S = 120
"""I10: how long everything that was left may take to be read once nothing is wrong any more."""
PATIENCE_S = 180
Fault = Callable[[], None]


class World:
    """What all worlds share. A subclass has the ledger's ``dsn``, reads a share in ``recover``, and lists its ``faults``."""

    dsn: str
    share = 1_000
    """Records each fault finds; twenty batches, with a file."""

    def __init__(
        self, folder: Path, seed: int, accounts: int = 40, environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder, self.chance = folder, random.Random(seed)
        self.command = Command(folder / "data", {"PYTHONFAULTHANDLER": "1", **(environment or {})})
        self.expected, self.watched = workload.Expected(), Watched()
        self.outcomes: Counter[tuple[str, int]] = Counter()
        """(Fault, exit code of a process it met) -> how often."""
        self._producer = workload.Producer(seed, accounts)
        self._fault = ""

    def publish(self) -> None:
        """Put the catalog in force."""
        catalog = self.folder / "catalog.yaml"
        catalog.write_text(workload.CATALOG)
        self.command.json("catalog", "publish", catalog)

    def faults(self) -> list[Fault]:
        """Everything that can happen."""
        raise NotImplementedError

    def bring(self, count: int = 0) -> None:
        """New usage, ``share`` records unless told otherwise, acknowledged to its producer."""
        raise NotImplementedError

    def recover(self) -> None:
        """Read what is left, in peace."""
        raise NotImplementedError

    def take(self, count: int = 0) -> list[bytes]:
        """The producer's next records, which count from now on."""
        lines = self._producer.lines(count or self.share)
        self.expected.take(lines)
        return lines

    def strike(self, fault: Fault) -> None:
        """Bring usage, let one fault happen, heal, and see that every invariant holds."""
        self._fault = fault.__name__
        self.bring()
        fault()
        started = time.monotonic()
        self.recover()
        took_s = time.monotonic() - started
        assert took_s <= HEALED_S, f"I10: {took_s:.0f} s to read what was left"
        self.check()

    def last(self, least_s: float, most_s: float) -> None:
        """How long a fault lasts; nothing waits for anything here."""
        time.sleep(self.chance.uniform(least_s, most_s))

    def check(self) -> None:
        """I1 to I10."""
        check(self.command, self.dsn, self.expected, self.watched)

    def remember(self) -> None:
        """Whatever is committed now must be there for good."""
        remember(self.dsn, self.watched)

    def ended(self, process: subprocess.Popen[bytes], codes: set[int]) -> str:
        """The process ends in one of the ways it may, and says so like a civilised program; what it said."""
        try:
            _, said = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # it writes down where each of its threads stands
            raise AssertionError(f"it does not end: {process.communicate()[1].decode()}") from None
        error = said.decode()
        self.outcomes[self._fault, process.returncode] += 1
        self.said = error
        assert process.returncode in codes, (process.returncode, error)
        assert "Traceback" not in error, error
        assert "unexpected error" not in error, error
        if process.returncode == 1:
            assert "lineitem: " in error, error
        return error

    def batches(self) -> int:
        """How many batches of usage the ledger has."""
        with connect(self.dsn) as connection:
            row = connection.execute("select count(*) from ledger.batch where partition_key is not null").fetchone()
        return 0 if row is None else int(row[0])


class FileWorld(World):
    """Usage comes as files, which ``lineitem ingest`` reads."""

    def __init__(
        self, folder: Path, seed: int, accounts: int = 40, environment: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(folder, seed, accounts, environment)
        self.file = folder / "usage-0.ndjson"
        self._passes: dict[str, tuple[int, int, int]] = {}
        """Digest of a file -> its records, those set aside, passes over it that are in ``expected``."""

    def bring(self, count: int = 0) -> None:
        """Another file."""
        self.file = self.folder / f"usage-{len(self._passes)}.ndjson"
        before = self.expected.counts["dead_lettered"]
        lines = self.take(count)
        content = b"\n".join(lines) + b"\n"
        self.file.write_bytes(content)
        aside = self.expected.counts["dead_lettered"] - before
        self._passes[sha256(content).hexdigest()] = (len(lines), aside, 1)

    def ingest(
        self, failpoint: str = "", *, two_processes: bool = False, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start reading the file, or go on with it."""
        options = ["--batch-size", str(BATCH_RECORDS), "--two-processes" if two_processes else "--one-process"]
        env = {"LINEITEM_FAILPOINT": failpoint, **(environment or {})}
        return self.command.start("ingest", self.file, *options, "--json", env=env)

    def recover(self) -> None:
        """Read the file to its end."""
        self.command.json("ingest", self.file)

    def check(self) -> None:
        """I1 to I10. A pass that was complete before its process died made the next one read the file anew: all duplicates."""
        with connect(self.dsn) as connection:
            for digest, (count, aside, known) in self._passes.items():
                query = "select count(*) from ingest.partition where content = %s and completed_at is not null"
                row = connection.execute(query, (digest,)).fetchone()
                assert row is not None
                again = row[0] - known
                more = {"received": count, "duplicate": count - aside, "dead_lettered": aside}
                self.expected.counts += Counter({name: number * again for name, number in more.items()})
                self._passes[digest] = (count, aside, row[0])
        super().check()

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


def rounds(world: World, count: int) -> Iterator[str]:
    """Let ``count`` random faults happen, the first of each kind before any comes twice; yields what happened."""
    order: list[Fault] = []
    for _ in range(count):
        if not order:
            order = world.faults()
            world.chance.shuffle(order)
        fault = order.pop()
        world.strike(fault)
        yield fault.__name__


def until(condition: Callable[[], bool]) -> bool:
    """Wait for a condition; whether it came about in time."""
    return within(PATIENCE_S, condition)


def stopped(pid: int) -> bool:
    """Whether a process stands still."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[:1] == [b"T"]


KILLED = -signal.SIGKILL
