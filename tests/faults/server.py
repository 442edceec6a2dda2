"""Usage from files into a PostgreSQL of one's own: faults of the network, the server, the clock; months closed meanwhile."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.faults.network import Networked
from tests.faults.postgres import Postgres
from tests.faults.world import KILLED, Fault, FileWorld

MONTHS = ("2026-01", "2026-02")
"""Those the workload's usage lies in."""
_HOURS = ("-1d", "+1d", "-40d", "+3y")


class ServerWorld(Networked, FileWorld):
    """A ledger on a server of its own, reached over TCP."""

    def __init__(self, folder: Path, seed: int, server: Postgres) -> None:
        super().__init__(folder, seed, server)
        self.publish()

    def working(self, **environment: str) -> subprocess.Popen[bytes]:
        """``lineitem ingest`` of the file."""
        return self.ingest(environment=environment)

    def faults(self) -> list[Fault]:
        """Everything that can happen here."""
        shifted = [self.shift_the_clock] if libfaketime() else []
        races: list[Fault] = [self.close_a_month_meanwhile, self.bill_meanwhile]
        return [*self.network_faults(), *self.server_faults(), *races, *shifted]

    def shift_the_clock(self) -> None:
        """The process believes it is another day; its monotonic clock goes on."""
        library = libfaketime()
        assert library is not None
        faked = {
            "LD_PRELOAD": str(library),
            "FAKETIME": self.chance.choice(_HOURS),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.ended(self.ingest(environment=faked), {0})

    def close_a_month_meanwhile(self) -> None:
        """A month is closed, killed half way, and closed again while usage of it comes in."""
        month = self.chance.choice(MONTHS)
        process = self.working(**self.through_the_proxy(patient=True))
        self._wait_for_a_batch(process)
        killed = {"LINEITEM_FAILPOINT": f"before_commit@{self.chance.randrange(1, 4)}"}
        first = self.command.start("period", "close", month, "--json", env=killed)
        self.ended(first, {0, KILLED} | ({1} if month in self.watched.closed else set()))  # 1: it was closed before
        if first.returncode == KILLED:  # else it was through before the place to die came
            self.command.json("period", "close", month)
        closed = self.command.json("period", "show", month)
        assert closed["state"] == "closed"
        assert self.watched.closed.setdefault(month, closed) == closed, f"I8: {month} has changed"
        self.ended(process, {0})

    def bill_meanwhile(self) -> None:
        """Three bills of one month at once, one of them killed between its steps, while usage comes in."""
        month = self.chance.choice(MONTHS)
        process = self.working(**self.through_the_proxy(patient=True))
        self._wait_for_a_batch(process)
        killed = {"LINEITEM_FAILPOINT": f"before_commit@{self.chance.randrange(1, 4)}"}
        bills = [self.command.start("bill", "--period", month, "--json", env=one) for one in (killed, {}, {})]
        self.ended(bills[0], {0, KILLED})
        for bill in bills[1:]:
            self.ended(bill, {0})
        self.ended(process, {0})


class SmallDisk(FileWorld):
    """A server and a data folder, each on a disk that can be filled: small file systems in memory, which root may mount."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._mounts = [_mounted(folder / name, size) for name, size in (("pg", "300m"), ("data", "64m"))]
        self.server = Postgres(folder / "pg" / "server", {"max_wal_size": "48MB"})
        self.dsn = self.server.dsn
        super().__init__(folder, seed, environment={"LINEITEM_DATABASE_URL": self.dsn})
        self.publish()

    def faults(self) -> list[Fault]:
        """Both disks."""
        return [self.fill_the_servers_disk, self.fill_the_data_folder]

    def fill_the_servers_disk(self) -> None:
        """Write-ahead log, tables and the server's log find no room. The server may end itself over that."""
        self._filled(self._mounts[0], self.chance.randrange(500 << 10))
        self.server.start()

    def fill_the_data_folder(self) -> None:
        """Raw segments and checkpoints find no room."""
        self._filled(self._mounts[1], self.chance.randrange(100 << 10))

    def _filled(self, place: Path, left_bytes: int) -> None:
        """Fill a disk until so much is left, have usage read, free it again."""
        ballast = place / "ballast"
        free = shutil.disk_usage(place).free
        with suppress(OSError), ballast.open("wb") as file:
            for _ in range(max(free - left_bytes, 0) >> 12):
                file.write(bytes(1 << 12))
        process = self.ingest()
        said = self.ended(process, {0, 1})
        ballast.unlink()
        assert process.returncode == 0 or "full" in said or "lost" in said or "cannot reach" in said, said

    def close(self) -> None:
        """End the server and give the memory back."""
        self.server.stop()
        for place in self._mounts:
            subprocess.run(["umount", "--lazy", place], check=True)


def mountable(folder: Path) -> bool:
    """Whether a small disk can be had here."""
    with suppress(OSError, subprocess.CalledProcessError):
        subprocess.run(["umount", "--lazy", _mounted(folder / "try", "1m")], check=True)
        return True
    return False


def _mounted(place: Path, size: str) -> Path:
    place.mkdir()
    command: list[str | Path] = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "lineitem-faults", place]
    subprocess.run(command, check=True, capture_output=True)
    return place


def libfaketime() -> Path | None:
    """The library that shifts a process's clock, where it is installed (Debian and Ubuntu: libfaketime)."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
