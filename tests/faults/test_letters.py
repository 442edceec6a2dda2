"""Replays of dead letters that are killed, and two at once: each letter is billed once, whatever died when."""

from __future__ import annotations

import signal
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lineitem.kit.embedded import EmbeddedServer
from tests.acceptance.command import CATALOG, Command, line, ndjson
from tests.faults.world import stopped, until

LETTERS = 24
FAILPOINTS = ("after_segment", "before_write", "after_position", "after_identities", "before_commit", "after_commit")


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """A ledger with letters that wait for an account, and the catalog in force that has it."""
    command = Command(tmp_path / "data")
    closed = tmp_path / "closed.yaml"
    closed.write_text(CATALOG.replace("defaults: {", "defaults: {open: false, "))
    open_ = tmp_path / "open.yaml"
    open_.write_text(CATALOG)
    command.json("catalog", "publish", closed)
    command.json("ingest", ndjson(tmp_path / "usage.ndjson", [line(f"e-{n}", n) for n in range(LETTERS)]))
    command.json("catalog", "publish", open_, "--no-retry")
    return command


def replay(command: Command, failpoint: str = "") -> subprocess.Popen[bytes]:
    """Start to replay everything, six letters a batch."""
    return command.start("dlq", "replay", "--all", "--rate", "6/s", "--json", env={"LINEITEM_FAILPOINT": failpoint})


def billed_once(command: Command) -> None:
    """The ledger holds each event once and says so of each letter."""
    assert command.json("verify", "--deep")["findings"] == []
    items: list[dict[str, Any]] = command.line_items()
    assert sorted(item["event_id"] for item in items) == sorted(f"e-{n}" for n in range(LETTERS))
    assert sum(Decimal(item["amount"]) for item in items) == sum(range(LETTERS)) * Decimal("0.0000025")
    found = command.json("dlq", "list", "--state", "all", "--limit", "1000")["dead_letters"]
    assert {(one["state"], one["attempts"]) for one in found} == {("replayed", 1)}
    assert command.json("doctor")["ok"]


@pytest.mark.slow
def test_a_replay_that_is_killed_leaves_nothing_or_the_whole_batch(command: Command) -> None:
    """At every place it can die; what is left is replayed by the next one."""
    with EmbeddedServer(command.data_dir):
        for number, name in enumerate(FAILPOINTS):
            process = replay(command, f"{name}@{1 + number % 2}")
            process.communicate(timeout=120)
            assert process.returncode == -signal.SIGKILL, name
            found = command.json("verify")
            assert found["findings"] == []
            assert found["accepted_events"] % 6 == 0
        command.json("dlq", "replay", "--all")
        billed_once(command)


@pytest.mark.slow
def test_two_replays_at_once(command: Command) -> None:
    """The second waits while the first stands in the middle of its commit; together they replay each letter once."""
    with EmbeddedServer(command.data_dir):
        first = replay(command, "stop:before_commit@2")
        until(lambda: first.poll() is not None or stopped(first.pid))
        second = replay(command)
        first.send_signal(signal.SIGCONT)
        for process in (first, second):
            _, error = process.communicate(timeout=120)
            assert process.returncode == 0, error
        assert command.json("dlq", "replay", "--all")["tried"] == 0
        billed_once(command)
