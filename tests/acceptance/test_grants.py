"""Prepaid credit through the real command line: wrong calls, and a bill that is killed while it draws."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from lineitem.kit.embedded import EmbeddedServer
from tests.acceptance.command import CATALOG, Command

EVENT = (
    '{"specversion":"1.0","id":"%s","source":"/s","type":"http.request","subject":"%s",'
    '"time":"2026-01-05T10:00:00Z","data":{"status":200}}\n'
)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """A ledger with usage of two accounts in January: 3 and 1 requests at 0.002."""
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    events = [EVENT % (number, "acme" if number < 3 else "zeta") for number in range(4)]
    (tmp_path / "usage.ndjson").write_text("".join(events))
    found = Command(tmp_path / "data")
    found.json("catalog", "publish", tmp_path / "catalog.yaml")
    found.json("ingest", tmp_path / "usage.ndjson")
    return found


def test_what_wrong_calls_are_told(command: Command) -> None:
    """One sentence and what to do: exit code 2 where the call is wrong, 1 where what it asks for is."""
    add = ("grant", "add", "--account", "acme", "--currency", "USD")
    with EmbeddedServer(command.data_dir):
        for arguments, code, told in (
            (("grant", "add", "--account", "acme"), 2, "--amount"),
            ((*add, "--amount", "5", "--priority", "-1"), 2, "--priority"),
            ((*add, "--amount", "five"), 1, "not an amount"),
            (("grant", "add", "--account", "nobody", "--currency", "USD", "--amount", "5"), 1, "accounts.list"),
            (("grant", "list", "--account", "nobody"), 1, "no account 'nobody'"),
            (("grant", "list", "--namespace", "nowhere"), 1, "no namespace 'nowhere'"),
            (("grant", "void", "x"), 2, "--reason"),
            (("grant", "void", "x", "--reason", "why"), 1, "no grant 'x'"),
        ):
            answer = command.run(*arguments)
            assert (answer.code, answer.out) == (code, ""), arguments
            assert told in answer.err, answer.err
        answer = command.run("grant", "add", "--account", "acme", "--currency", "JPY", "--amount", "5")
        assert answer.code == 0
        assert "No price is in JPY" in answer.err


def test_a_bill_killed_before_any_commit_draws_once(command: Command) -> None:
    """Killed before its first, second, ... commit: nothing or everything of a batch is there, and the rest follows."""
    with EmbeddedServer(command.data_dir):
        for account in ("acme", "zeta"):
            made = command.json(
                "grant", "add", "--account", account, "--amount", "0.005", "--currency", "USD",
                "--id", f"credit-{account}", "--effective", "2026-01-01",
            )  # fmt: skip
            assert (made["added"], made["state"]) == (True, "active")
        codes = []
        for commit in range(1, 4):
            process = command.start(
                "bill", "--period", "2026-01", env={"LINEITEM_FAILPOINT": f"before_commit@{commit}"}
            )
            process.communicate(timeout=120)
            codes.append(process.returncode)
            assert command.run("verify", "--deep").code == 0
        assert codes[0] == -signal.SIGKILL
        command.json("bill", "--period", "2026-01")
        items = [item for item in command.line_items() if item["kind"] == "credit"]
        assert sorted((item["price"], item["amount"]) for item in items) == [
            ("credit-acme", "-0.005"), ("credit-zeta", "-0.002"),
        ]  # fmt: skip
        listed = {one["id"]: one for one in command.json("grant", "list")["grants"]}
        assert {name: (one["drawn"], one["left"], one["state"]) for name, one in listed.items()} == {
            "credit-acme": ("0.005", "0", "used"),
            "credit-zeta": ("0.002", "0.003", "active"),
        }
        assert json.loads(command.run("verify", "--json").out)["findings"] == []
