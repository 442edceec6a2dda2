"""Reverting a backfill and reading again, killed at every place they can die: what is left is done by the next one."""

from __future__ import annotations

import signal
from decimal import Decimal
from pathlib import Path

import pytest

from lineitem.kit.embedded import EmbeddedServer
from tests.acceptance.command import CATALOG, Command, line, ndjson

EVENTS = 12


@pytest.mark.slow
def test_killed_reverts_and_replays_leave_nothing_half_done(tmp_path: Path) -> None:
    """A revert is closed, then done; a replay reads file by file. In the end each event is billed once."""
    command = Command(tmp_path / "data")
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(CATALOG)
    lines = [line(f"e-{n}", n) for n in range(EVENTS)]
    with EmbeddedServer(command.data_dir):
        command.json("catalog", "publish", catalog)
        command.json("ingest", "--backfill", "b", ndjson(tmp_path / "all.ndjson", lines))
        command.json("ingest", *(ndjson(tmp_path / f"{n}.ndjson", lines[n::3]) for n in range(3)))
        revert = ("backfill", "revert", "b", "--reason", "a test says so")
        for failpoint, state in (("before_commit@1", "open"), ("before_commit@2", "reverting")):
            killed(command, failpoint, *revert)
            assert command.json("backfill", "show", "b")["state"] == state
        assert command.json(*revert)["events"] == EVENTS
        assert command.json(*revert)["events"] == 0
        for failpoint in ("before_commit@2", "after_commit@1"):
            killed(command, failpoint, "replay", "--segments")
        assert command.json("replay", "--segments")["resumed"]
        assert command.json("replay", "--segments")["duplicate"] == EVENTS
        assert command.json("verify", "--deep")["findings"] == []
        total = sum(Decimal(item["amount"]) for item in command.line_items())
    assert total == sum(range(EVENTS)) * Decimal("0.0000025")


def killed(command: Command, failpoint: str, *arguments: str) -> None:
    """It dies at the failpoint."""
    process = command.start(*arguments, "--json", env={"LINEITEM_FAILPOINT": failpoint})
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, failpoint
