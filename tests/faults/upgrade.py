"""A ledger of an older version, as a dump and a data folder: written by lineitem itself when migration 0006 was the newest.

``old-ledger.tar.xz`` was made from commit 04bfffe with its own command line: ``catalog publish`` (``workload.CATALOG``),
``ingest usage.ndjson --batch-size 100`` (``workload.write`` with seed 11, 300 events, 5 accounts), ``period close 2026-01``,
``bill --period 2026-02``; then ``pg_dump``, with the roles before it. Its signing key is of no use anywhere else.
"""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

from lineitem.kit.db import connect
from lineitem.kit.embedded import EmbeddedServer
from tests.acceptance.command import Command
from tests.faults import workload
from tests.faults.invariants import Watched, check
from tests.faults.postgres import binaries

_ARCHIVE = Path(__file__).with_name("old-ledger.tar.xz")
_HASHES = "select lane, batch, hash, hash_version, engine_version from ledger.batch order by lane, batch"
MIGRATIONS = 6
"""How many the old version knew."""


def restored(folder: Path, server: EmbeddedServer) -> Path:
    """Put the old ledger into an empty server and its folder; the file of usage it was made from."""
    with tarfile.open(_ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    command: list[str | Path] = [
        binaries() / "psql",
        "-q",
        "-X",
        "-v",
        "ON_ERROR_STOP=1",
        "-d",
        server.dsn,
        "-f",
        folder / "ledger.sql",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "usage.ndjson"


def upgrade(folder: Path) -> None:
    """Migrate the old ledger and go on with it: old hashes verify, old invoices and sums stay, new usage joins them."""
    command, data = Command(folder / "data"), folder / "data"
    data.mkdir(mode=0o700)
    with EmbeddedServer(data) as server:
        usage = restored(data, server)
        with connect(server.dsn) as connection:
            before = connection.execute(_HASHES).fetchall()
            assert connection.execute("select max(number) from public.lineitem_migration").fetchone() == (MIGRATIONS,)
            invoices = connection.execute("select number, document from billing.invoice order by number").fetchall()
        report = command.json("verify", "--deep")  # migrates first
        assert report["findings"] == []
        assert report["checkpoints"] == 4
        expected = workload.Expected()
        first = expected.take(usage.read_bytes().splitlines())
        watched = Watched(checkpoints=4, closed={"2026-01": command.json("period", "show", "2026-01")})
        again = command.json("ingest", usage)
        assert again["itemized"] == 0
        aside = first["dead_lettered"]
        expected.counts += {"received": 300, "duplicate": 300 - aside, "dead_lettered": aside}
        more = workload.Producer(11, 5).lines(500)[300:]
        (folder / "more.ndjson").write_bytes(b"\n".join(more) + b"\n")
        expected.take(more)
        command.json("ingest", folder / "more.ndjson")
        assert len(command.json("bill", "--period", "2026-02")["invoices"]) == len(invoices) == 5
        check(command, server.dsn, expected, watched)
        with connect(server.dsn) as connection:
            now = connection.execute(_HASHES).fetchall()
            assert [row for row in now if row in before] == before, "a batch of the old version has changed"
            kept = connection.execute("select number, document from billing.invoice order by number").fetchall()
        assert kept[: len(invoices)] == invoices
