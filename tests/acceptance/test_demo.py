"""`lineitem demo` as a newcomer runs it: what it says comes out, what it prints to copy works, what it finds stays."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lineitem.app import App
from lineitem.kit.config import Config

PROGRAM = Path(sys.executable).parent / "lineitem"
# Sums over the shipped samples, taken with awk; tokens at 2.50 and 10.00 USD per million.
PROMPT_TOKENS, COMPLETION_TOKENS = "3450308", "778247"
SECONDS_MAX = 60


def _run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LINEITEM_")}
    path = f"{PROGRAM.parent}{os.pathsep}{kept['PATH']}"
    return subprocess.run(
        [PROGRAM, *arguments],
        cwd=folder,
        env={**kept, "PATH": path, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=4 * SECONDS_MAX,
        check=False,
    )


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder a demo ran in, and what it said; a database named by the environment must be left alone."""
    folder = tmp_path_factory.mktemp("newcomer")
    run = _run(folder, "demo", LINEITEM_DATABASE_URL="postgresql://nobody@nowhere.invalid/none")
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return folder, run.stdout


def _invoices(folder: Path) -> dict[str, dict[str, object]]:
    paths = sorted((folder / "lineitem-demo" / "invoices").glob("*.json"))
    return {found["account"]: found for found in map(json.loads, map(Path.read_text, paths))}


def test_it_says_what_happened(told: tuple[Path, str]) -> None:
    """Both samples are billed once, the second time is all duplicates, the faulty events are set aside with reasons."""
    text = re.sub(r"\s+", " ", told[1])
    assert "llm_conversations.csv 3,000 3,000 6,000 0 0 0" in text
    assert "access.log 3,000 2,999 28 0 0 1" in text
    assert "llm_conversations.csv 3,000 0 0 3,000 0 0" in text
    assert "access.log 3,000 0 0 3,000 0 0" in text
    assert "events.ndjson 9 5 10 1 3 0" in text
    assert all(reason in text for reason in ("conflict", "missing_value", "bad_json"))
    assert "Billed once more: 0 new invoices." in text
    assert "Nothing was altered." in text
    assert "CC BY 4.0" in text
    assert "Apache-2.0" in text


def test_the_narration_is_plain_text_in_a_pipe(told: tuple[Path, str]) -> None:
    """No escape codes; nothing but the commands to copy is wider than a window."""
    assert "\x1b" not in told[1]
    assert [line for line in told[1].splitlines() if len(line) > 100 and not line.startswith("  $ ")] == []


def test_the_invoices_are_right(told: tuple[Path, str]) -> None:
    """Four accounts in four zones; the tokens and the amount of the real trace, worked out by hand."""
    found = _invoices(told[0])
    assert set(found) == {"fabrikam", "llm-conversations", "northwind", "www.example.com"}
    trace = found["llm-conversations"]
    lines = {line["price"]: line for line in trace["lines"]}  # type: ignore[attr-defined]
    assert (lines["prompt"]["quantity"], lines["completion"]["quantity"]) == (PROMPT_TOKENS, COMPLETION_TOKENS)
    assert (lines["prompt"]["amount_exact"], lines["completion"]["amount_exact"]) == ("8.62577", "7.78247")
    assert trace["total"] == "16.41"
    # 2,999 requests: the first 100 free, the others 0.002; 495,063,329 bytes at 0.09 per 10^9.
    assert found["www.example.com"]["total"] == "5.84"


def test_each_invoice_is_also_a_pdf(told: tuple[Path, str]) -> None:
    """Beside every JSON lies the PDF of the same number."""
    folder = told[0] / "lineitem-demo" / "invoices"
    numbers = {path.stem for path in folder.glob("*.json")}
    assert {path.stem for path in folder.glob("*.pdf")} == numbers
    assert all((folder / f"{number}.pdf").read_bytes().startswith(b"%PDF-") for number in numbers)


def test_what_it_prints_to_try_works(told: tuple[Path, str]) -> None:
    """Every command of the last step ends with 0 as it stands, in the order it stands; afterwards the ledger verifies."""
    folder, text = told
    commands = re.findall(r"^  \$ (.+)$", text.partition("Try next")[2], re.MULTILINE)
    assert commands[0] == "unset LINEITEM_DATABASE_URL"
    for command in [*commands[1:], "lineitem verify --deep --data-dir lineitem-demo"]:
        words = shlex.split(command)
        assert words[0] == "lineitem"
        run = _run(folder, *words[1:])
        assert run.returncode == 0, f"{command}\n{run.stderr}"
        assert run.stdout.strip()


def test_a_second_demo_starts_clean_and_says_so(told: tuple[Path, str]) -> None:
    """The earlier one is removed, whatever was done with it since; ``--json`` is one document and nothing else."""
    run = _run(told[0], "demo", "--json")
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    assert document["removed_earlier"] is True
    assert document["verified"] is True
    assert document["invoices_again"] == 0
    assert [one["line_items"] for one in document["second"].values()] == [0, 0]


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """A folder with anything in it that no demo made is refused and keeps what it had."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    run = _run(tmp_path, "demo", "--data-dir", "mine")
    assert run.returncode == 1
    assert run.stdout == ""
    assert "no demo made it" in run.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_demo_in_use_is_left_alone(told: tuple[Path, str]) -> None:
    """While another command works on an earlier demo's ledger, that demo is not pulled from under it."""
    folder = (told[0] / "lineitem-demo").resolve()
    with App(Config(folder, None, folder / "checkpoints")) as app:
        run = _run(told[0], "demo")
        assert run.returncode == 1
        assert "is using this demo's ledger" in run.stderr
        row = app.control.execute("select count(*) from ledger.batch").fetchone()
    assert row is not None
    assert row[0] > 0


def test_a_link_to_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """A link is what it leads to."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "lineitem-demo").symlink_to("mine")
    run = _run(tmp_path, "demo")
    assert run.returncode == 1
    assert "no demo made it" in run.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
