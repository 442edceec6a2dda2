"""People and billing against ingest, against each other and against kill -9: numbers gapless, closed months closed."""

from __future__ import annotations

import signal
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest

from lineitem.kit.embedded import EmbeddedServer
from tests.acceptance.command import Command
from tests.faults import workload
from tests.faults.supervisor import Supervisor

MONTHS = ("2026-01", "2026-02", "2026-03")


def _totals(items: list[dict[str, Any]], month: str) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for item in items:
        if item["posting_period"] == month:
            sums[item["account"]] += Decimal(item["amount"])
    return sums


def _check_invoices(command: Command, month: str) -> None:
    """Numbers without a gap in order of issue, each account once, every invoice the sum of its line items."""
    invoices = command.json("invoice", "list")["invoices"]
    numbers = sorted(int(invoice["number"].rpartition("-")[2]) for invoice in invoices)
    assert numbers == list(range(1, len(invoices) + 1))
    accounts = [invoice["account"] for invoice in invoices]
    assert len(accounts) == len(set(accounts))
    exact = _totals(command.line_items("--period", month), month)
    for invoice in invoices:
        lines = sum(Decimal(one["amount"]) for one in invoice["lines"])
        assert Decimal(invoice["total"]) == lines
        cent = Decimal("0.01") * len(invoice["lines"])
        assert abs(lines - exact[invoice["account"]]) <= cent
        for one in invoice["lines"]:
            assert Decimal(one["amount"]) == Decimal(one["amount_exact"]).quantize(Decimal("0.01"), ROUND_HALF_UP)


@pytest.mark.slow
def test_bills_are_killed_and_run_side_by_side_and_each_account_gets_one_invoice(tmp_path: Path) -> None:
    """Killed before the first, second, ... commit, then three at once; billing again yields nothing."""
    supervisor = Supervisor(tmp_path, 5, accounts=7)
    command, month = supervisor.command, MONTHS[1]
    supervisor.bring(1_000)
    with EmbeddedServer(command.data_dir):
        command.json("ingest", supervisor.file)
        for commit in (1, 2, 3):
            process = command.start("bill", "--period", month, env={"LINEITEM_FAILPOINT": f"before_commit@{commit}"})
            supervisor.ended(process, {-signal.SIGKILL, 0})
            supervisor.check()
        with ThreadPoolExecutor(3) as pool:
            done = [pool.submit(command.json, "bill", "--period", month) for _ in range(3)]
            made = [invoice["number"] for one in done for invoice in one.result()["invoices"]]
        assert len(made) == len(set(made))
        assert command.json("bill", "--period", month)["invoices"] == []
        _check_invoices(command, month)
        assert command.json("verify")["findings"] == []


@pytest.mark.slow
def test_a_month_closed_during_ingest_keeps_its_sums(tmp_path: Path) -> None:
    """What comes later is posted to the next open month as a correction; the totals are the oracle's all the same.

    Closed in the middle of a batch that found the month open when it began.
    """
    supervisor = Supervisor(tmp_path, 6)
    command = supervisor.command
    supervisor.bring(500)
    with EmbeddedServer(command.data_dir):
        process = supervisor.ingest("stop:after_position@4")
        supervisor.wait_until_stopped(process)
        closing = command.start("period", "close", MONTHS[0], "--json", env={"LINEITEM_FAILPOINT": "before_commit@2"})
        supervisor.ended(closing, {-signal.SIGKILL})
        closed = command.json("period", "close", MONTHS[0])
        assert closed["state"] == "closed"
        process.send_signal(signal.SIGCONT)
        supervisor.ended(process, {0})
        assert command.json("period", "show", MONTHS[0]) == closed
        kinds = {
            (item["service_period"], item["posting_period"], item["kind"])
            for item in command.line_items()
            if item["service_period"] != item["posting_period"]
        }
        assert kinds == {(MONTHS[0], MONTHS[1], "correction")}
    supervisor.finish()


@pytest.mark.slow
def test_a_catalog_published_while_batches_are_prepared_ahead(tmp_path: Path) -> None:
    """Batches that another process prepared under the revision before are priced again where they commit."""
    supervisor = Supervisor(tmp_path, 7)
    command = supervisor.command
    supervisor.bring(500)
    with EmbeddedServer(command.data_dir):
        process = supervisor.ingest("stop:before_write@3", two_processes=True)
        supervisor.wait_until_stopped(process)
        changed = tmp_path / "changed.yaml"
        changed.write_text(workload.CATALOG + "issuer: {name: Somebody else}\n")
        assert command.json("catalog", "publish", changed)["changed"]
        process.send_signal(signal.SIGCONT)
        supervisor.ended(process, {0})
    supervisor.finish()
