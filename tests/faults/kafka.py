"""``lineitem worker`` on a real broker, and the long run against it: ``python -m tests.faults.kafka --seed 1 --rounds 20``."""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

from lineitem.kit.db import connect
from lineitem.kit.embedded import EmbeddedServer
from tests.acceptance.command import Command
from tests.faults import workload
from tests.faults.broker import Broker, install, running, until
from tests.faults.supervisor import stopped

QUICK = (
    "session.timeout.ms=1500\nheartbeat.interval.ms=300\ntopic.metadata.propagation.max.ms=1000\nfetch.wait.max.ms=50\n"
)
"""Settings of the client: a dead worker is missed, and a lost topic noticed, within two seconds."""
PARTITIONS = 4
FAILPOINTS = ("after_segment", "before_write", "after_position", "after_identities", "before_commit", "after_commit")
SHARE = 2_000
"""Records each round brings."""


class Ledger:
    """``lineitem`` on a topic: a ledger of its own with a catalog in force, its server up."""

    def __init__(self, folder: Path, server: EmbeddedServer, broker: Broker, topic: str) -> None:
        self.command, self.server = Command(folder / "data"), server
        self.broker, self.topic = broker, topic
        self.settings = folder / "client.properties"
        self.settings.write_text(QUICK)

    def _call(self, *options: str) -> list[str]:
        source = ["--source", self.broker.url(self.topic), "--group", f"group-{self.topic}"]
        return ["worker", *source, "--config", str(self.settings), *options]

    def start(self, *options: str, failpoint: str = "") -> subprocess.Popen[bytes]:
        """Start a worker with small batches and do not wait."""
        small = ["--batch-size", "200", "--batch-ms", "50", "--json"]
        return self.command.start(*self._call(*small, *options), env={"LINEITEM_FAILPOINT": failpoint})

    def read(self, *options: str) -> dict[str, Any]:
        """Read to the end."""
        found: dict[str, Any] = self.command.json(*self._call("--until-idle", *options))
        return found

    def refused(self, *options: str) -> str:
        """Why it cannot be read."""
        return self.command.refused(*self._call("--until-idle", *options))

    def _again(self, *options: str) -> list[str]:
        source = ["--source", self.broker.url(self.topic), "--group", f"group-{self.topic}"]
        return ["replay", *source, "--config", str(self.settings), *options]

    def again(self, *options: str) -> dict[str, Any]:
        """Read what was read again."""
        found: dict[str, Any] = self.command.json(*self._again(*options))
        return found

    def again_refused(self, *options: str, code: int = 1) -> str:
        """Why it cannot be read again."""
        return self.command.refused(*self._again(*options), code=code)

    def batches(self) -> int:
        """How many batches of usage are in the ledger."""
        with connect(self.server.dsn) as connection:
            row = connection.execute("select count(*) from ledger.batch where partition_key is not null").fetchone()
        return 0 if row is None else int(row[0])

    def wait_for(self, batches: int, process: subprocess.Popen[bytes]) -> None:
        """Until the ledger has so many batches, or the worker has ended."""
        assert until(lambda: process.poll() is not None or self.batches() >= batches)

    def verified(self) -> dict[str, Any]:
        """What ``verify --deep`` counts; it must find nothing."""
        found: dict[str, Any] = self.command.json("verify", "--deep")
        assert found["findings"] == []
        return found

    def amounts_nano(self) -> dict[str, int]:
        """Account -> sum of its line items."""
        sums: dict[str, int] = defaultdict(int)
        for item in self.command.line_items():
            sums[item["account"]] += int(Decimal(item["amount"]).scaleb(9))
        return dict(sums)

    def equals(self, expected: workload.Expected) -> None:
        """Every record was counted once, as the oracle counts it, and every account owes what the oracle says."""
        found = self.verified()
        wanted = dict.fromkeys(("received", "itemized", "pending", "duplicate", "dead_lettered", "not_billable"), 0)
        assert found["counts"] == wanted | expected.counts
        assert found["accepted_events"] == expected.accepted
        assert self.amounts_nano() == expected.amounts_nano
        again = self.read()
        assert (again["received"], again["batches"]) == (0, 0)


def fill(ledger: Ledger, folder: Path, seed: int, events: int) -> workload.Expected:
    """Seeded usage over several partitions, keyed by account: repeats, conflicts, broken and unbillable records."""
    (folder / "catalog.yaml").write_text(workload.CATALOG)
    ledger.command.json("catalog", "publish", folder / "catalog.yaml")
    ledger.broker.create(ledger.topic, PARTITIONS)
    expected = workload.write(folder / "usage.ndjson", seed, events)
    lines = (folder / "usage.ndjson").read_bytes().removesuffix(b"\n").split(b"\n")
    ledger.broker.produce(ledger.topic, [(_account(one), one) for one in lines])
    return expected


def _account(record: bytes) -> str | None:
    try:
        return str(json.loads(record)["subject"])
    except (ValueError, KeyError, TypeError):
        return None


def ended(process: subprocess.Popen[bytes], *codes: int) -> str:
    """The worker ends in one of the ways it may, and says so like a civilised program; what it said."""
    _, said = process.communicate(timeout=60)
    assert process.returncode in codes, (process.returncode, said.decode())
    assert b"Traceback" not in said, said.decode()
    assert b"unexpected error" not in said, said.decode()
    return said.decode()


class Run:
    """One ledger and one topic that grows by a share of the workload each round, while something goes wrong."""

    def __init__(self, folder: Path, server: EmbeddedServer, broker: Broker, seed: int, rounds: int) -> None:
        self.chance = random.Random(seed)
        self.ledger = Ledger(folder, server, broker, f"run-{seed}")
        (folder / "catalog.yaml").write_text(workload.CATALOG)
        self.ledger.command.json("catalog", "publish", folder / "catalog.yaml")
        broker.create(self.ledger.topic, PARTITIONS)
        self.expected = workload.write(folder / "usage.ndjson", seed, SHARE * rounds)
        lines = (folder / "usage.ndjson").read_bytes().removesuffix(b"\n").split(b"\n")
        self.shares = [lines[start : start + SHARE] for start in range(0, len(lines), SHARE)]
        self.outcomes: Counter[str] = Counter()

    def round(self) -> str:
        """Bring more usage, let one thing happen to those that read it; then everything is read and the ledger verified."""
        fault = self.chance.choice(
            [self.kill_at_a_failpoint, self.kill_a_worker, self.stop_a_worker, self.wake_a_zombie, self.kill_the_broker]
        )
        self.ledger.broker.produce(self.ledger.topic, [(_account(one), one) for one in self.shares.pop(0)])
        fault()
        self.ledger.read()
        self.ledger.verified()
        self.outcomes[fault.__name__] += 1
        return fault.__name__

    def kill_at_a_failpoint(self) -> None:
        """Two workers; one dies at a named place."""
        place = f"{self.chance.choice(FAILPOINTS)}@{self.chance.randrange(1, 6)}"
        workers = [self.ledger.start("--until-idle", failpoint=place), self.ledger.start("--until-idle")]
        for worker in workers:
            ended(worker, 0, -signal.SIGKILL)

    def kill_a_worker(self) -> None:
        """SIGKILL anywhere while another works."""
        before = self.ledger.batches()
        workers = [self.ledger.start("--until-idle") for _ in range(2)]
        self.ledger.wait_for(before + self.chance.randrange(5), workers[0])
        workers[0].kill()
        for worker in workers:
            ended(worker, 0, -signal.SIGKILL)

    def stop_a_worker(self) -> None:
        """SIGTERM while another works."""
        before = self.ledger.batches()
        workers = [self.ledger.start(), self.ledger.start("--until-idle")]
        self.ledger.wait_for(before + self.chance.randrange(1, 5), workers[0])
        workers[0].send_signal(signal.SIGTERM)
        for worker in workers:
            ended(worker, 0)

    def wake_a_zombie(self) -> None:
        """A worker stands still until another has read everything."""
        zombie = self.ledger.start("--until-idle", failpoint=f"stop:after_segment@{self.chance.randrange(1, 4)}")
        assert until(lambda: zombie.poll() is not None or stopped(zombie.pid))
        self.ledger.read()
        zombie.send_signal(signal.SIGCONT)
        ended(zombie, 0)

    def kill_the_broker(self) -> None:
        """SIGKILL to the broker under a worker, which waits for it to come back."""
        before, worker = self.ledger.batches(), self.ledger.start()
        self.ledger.wait_for(before + self.chance.randrange(1, 5), worker)
        self.ledger.broker.kill()
        self.ledger.broker.start()
        self.ledger.read()
        worker.send_signal(signal.SIGTERM)
        ended(worker, 0)


def main() -> None:
    """Run until ``rounds`` faults have happened; an assertion names the seed to try again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--rounds", type=int, default=20)
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}, {chosen.rounds} rounds", flush=True)
    install()
    with tempfile.TemporaryDirectory(prefix="lineitem-kafka-") as name:
        folder = Path(name)
        (folder / "broker").mkdir()
        with running(folder / "broker") as broker, EmbeddedServer(folder / "data") as server:
            run = Run(folder, server, broker, chosen.seed, chosen.rounds)
            for number in range(1, chosen.rounds + 1):
                print(f"{number:4} {run.round():24} verified", flush=True)
            run.ledger.equals(run.expected)
    print("the ledger equals the oracle after")
    for fault, count in sorted(run.outcomes.items()):
        print(f"{count:6} x {fault}")


if __name__ == "__main__":
    main()
