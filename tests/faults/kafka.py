"""``lineitem worker`` on a real broker: a ledger with a topic, as the tests against Kafka use it."""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

from lineitem.kit.db import connect
from lineitem.kit.embedded import EmbeddedServer
from tests.acceptance.command import Command
from tests.faults import workload
from tests.faults.broker import Broker, until

QUICK = (
    "session.timeout.ms=1500\nheartbeat.interval.ms=300\ntopic.metadata.propagation.max.ms=1000\nfetch.wait.max.ms=50\n"
)
"""Settings of the client: a dead worker is missed, and a lost topic noticed, within two seconds."""
PARTITIONS = 4


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

    def accepted(self) -> int:
        """How many events are billed."""
        with connect(self.server.dsn) as connection:
            row = connection.execute("select count(*) from ingest.identity").fetchone()
        return 0 if row is None else int(row[0])

    def batch_sizes(self) -> list[int]:
        """Records of each batch, those of one partition in order."""
        with connect(self.server.dsn) as connection:
            rows = connection.execute(
                "select received from ledger.batch where partition_key is not null order by partition_key, position_start"
            ).fetchall()
        return [int(row[0]) for row in rows]

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
    ledger.broker.produce(ledger.topic, [(account_of(one), one) for one in lines])
    return expected


def account_of(record: bytes) -> str | None:
    """The key a producer gives a record."""
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
