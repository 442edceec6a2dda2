"""Calls that are wrong, catalogs that are wrong: one sentence, the right exit code, nothing on stdout, nothing written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from tests.acceptance.command import CATALOG, PROGRAM, Command, line, ndjson

TIERS = "{id: web, meter: requests, model: graduated, itemize: each, tiers: [%s]}"
WEB = '{id: web, meter: requests, model: per_unit, unit_price: "0.002", itemize: each}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files of this module lie."""
    return tmp_path_factory.mktemp("calls")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("ingst usage.ndjson", "Did you mean 'ingest'?"),
        ("ingest", "FILE"),
        ("ingest usage.ndjson --bath-size 5", "--batch-size"),
        ("ingest usage.ndjson --batch-size 0", "--batch-size"),
        ("usage --account acme", "--period"),
        ("line-items --limit none", "--limit"),
        ("dlq show first", "KEY"),
        ("quote --quantity 5", "--price"),
        ("gaps list --older-than soon", "'soon' is no age"),
        ("gaps waive /a one 2 --reason x", "FROM"),
    ],
)
def test_a_wrong_call_says_what_is_wrong_with_it(folder: Path, arguments: str, said: str) -> None:
    """Exit code 2, before any ledger is opened."""
    command = Command(folder / "none")
    assert said in command.refused(*arguments.split(), code=2)
    assert not command.data_dir.exists()


def test_global_options_may_stand_before_any_command(folder: Path) -> None:
    """Also before those that need no ledger, and before none at all."""
    (folder / "price.yaml").write_text('{model: per_unit, currency: USD, unit_price: "0.1"}')
    command = Command(folder / "none")
    assert command.run("--help").out.startswith("Usage: lineitem")
    assert command.run("--version").code == 0
    assert command.run().code == 2
    assert command.json("quote", "--price", folder / "price.yaml", "--quantity", "3")["amounts"] == ["0.3"]
    assert "complete" in command.run("completion", "bash").out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("usage --account acme --period 2026-13", 2, "YYYY-MM"),
        ("usage --account nobody --period 2026-01", 1, "no account 'nobody'"),
        ("bill --period 2026-01 --account nobody", 1, "no account 'nobody'"),
        ("line-items --account nobody", 1, "no account 'nobody'"),
        ("invoice show INV-9", 1, "no invoice 'INV-9'"),
        ("explain nothing", 1, "'nothing'"),
        ("proof 00000000-0000-0000-0000-000000000000", 1, "no line item"),
        ("dlq show 999999999999999999999", 1, "no dead letter"),
        ("gaps show /nowhere", 1, "No producer has sent one so far"),
        ("gaps waive /nowhere 2 1 --reason x", 2, "no range"),
        ("grant void none --reason \x1b", 1, "a reason of 1 to"),
        ("retract --source /gateway --id nothing --reason wrong", 1, "no event 'nothing'"),
        ("period close 2199-01", 1, "has not ended"),
        ("ingest --namespace elsewhere /dev/null --format cloudevents", 1, "no catalog"),
    ],
)
def test_what_does_not_exist_is_named(lineitem: Command, arguments: str, code: int, said: str) -> None:
    """And what to do instead."""
    assert said in lineitem.refused(*arguments.split(), code=code)


def test_an_event_of_a_closed_period_can_still_be_retracted(lineitem: Command, folder: Path) -> None:
    """The difference is posted to the next open period, though nothing was ever posted there."""
    path = ndjson(folder / "late.ndjson", [line("late", 1000, subject="late", time="2020-03-01T00:00:00Z")])
    lineitem.json("ingest", path)
    assert lineitem.json("period", "close", "2020-03")["state"] == "closed"
    answer = lineitem.json("retract", "--source", "/gateway", "--id", "late", "--reason", "never happened")
    assert answer["line_items"] == 1
    items = lineitem.line_items("--account", "late")
    assert {item["posting_period"]: Decimal(item["amount"]) for item in items} == {
        "2020-03": Decimal("0.0025"),
        "2020-04": Decimal("-0.0025"),
    }


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "overlap",
            CATALOG.replace(WEB, TIERS % '{up_to: "9", unit_price: "1"}, {up_to: "5", unit_price: "1"}'),
            ":12:",
        ),
        ("open-end", CATALOG.replace(WEB, TIERS % '{up_to: "9", unit_price: "1"}'), "no upper bound"),
        ("no-currency", CATALOG.replace("currency: USD", "currency: XYZ"), "ISO 4217"),
        ("binary-float", CATALOG.replace('"0.002"', "0.002"), "in quotes"),
        ("not-a-number", CATALOG.replace('"0.002"', '"NaN"'), "not a decimal number"),
        ("too-large", CATALOG.replace('"0.002"', '"1e400"'), "38 digits"),
        ("negative", CATALOG.replace('"0.002"', '"-1"'), "negative"),
        ("typo", CATALOG.replace("unit_price", "unit_prise"), "did you mean unit_price"),
        ("no-zone", CATALOG.replace("timezone: UTC", "timezone: Mars"), "'Mars'"),
        ("no-meter", CATALOG.replace("meter: requests", "meter: nothing"), "'nothing'"),
        ("cut-off", CATALOG[:200], "YAML"),
    ],
)
def test_a_wrong_catalog_is_refused_with_its_line(folder: Path, name: str, content: str, said: str) -> None:
    """``check`` answers with the problems, as JSON too."""
    path = folder / f"{name}.yaml"
    path.write_text(content)
    problems = Command(folder / "none").json("catalog", "check", path, code=1)["problems"]
    assert any(said in problem for problem in problems), problems
    assert all(problem.startswith(f"{path}:") for problem in problems)


def test_a_wrong_catalog_is_not_published(lineitem: Command, folder: Path) -> None:
    """The one in force stays."""
    before = lineitem.json("catalog", "show")
    path = folder / "wrong.yaml"
    path.write_text(CATALOG.replace("currency: USD", "currency: XYZ"))
    assert "ISO 4217" in lineitem.refused("catalog", "publish", path)
    assert "no such" in lineitem.refused("catalog", "publish", folder / "missing.yaml")
    assert lineitem.json("catalog", "show") == before


def test_a_price_of_2_to_the_63_is_exact(lineitem: Command, folder: Path) -> None:
    """Amounts beyond 64 bits go through the wide path to the last digit, into the invoice; beyond 38 digits are refused."""
    catalog = folder / "wide.yaml"
    catalog.write_text(CATALOG.replace('"0.0000025"', f'"{2**63}"'))
    wide = ("--namespace", "wide")
    lineitem.json("catalog", "publish", catalog, *wide)
    lines = [line("one", 1), line("many", b"1000000.000000001"), line("more", 3), line("beyond", 10**28)]
    counts = lineitem.json("ingest", ndjson(folder / "wide.ndjson", lines), *wide)
    assert (counts["itemized"], counts["dead_lettered"]) == (3, 1)
    letters = lineitem.json("dlq", "list", *wide)["dead_letters"]
    assert [(letter["reason"], '"beyond"' in letter["raw"]) for letter in letters] == [("value_out_of_range", True)]
    total = sum(Fraction(item["amount"]) for item in lineitem.line_items(*wide))
    assert total == 2**63 * 1_000_004 + Fraction(2**63, 10**9)
    usage = lineitem.json("usage", "--account", "acme", "--period", "2026-01", *wide)["prices"]
    assert [Fraction(price["amount"]) for price in usage] == [total]
    invoices = lineitem.json("bill", "--period", "2026-01", *wide)["invoices"]
    assert [Fraction(invoice["total"]) for invoice in invoices] == [round(total, 2)]


def test_a_reader_that_goes_away_is_no_error(lineitem: Command) -> None:
    """``| head``: no traceback, no complaint."""
    for arguments in (["verify"], ["verify", "--json"], ["catalog", "show"], ["--help"]):
        process = lineitem.start(*arguments, env={"PYTHONUNBUFFERED": "1"})
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(60) == 128 + signal.SIGPIPE
        assert process.stderr is not None
        assert process.stderr.read() == b""
        process.stderr.close()


def test_a_full_device_on_stdout_is_named(lineitem: Command) -> None:
    """``> /dev/full``: the answer could not be written, so it did not succeed."""
    with Path("/dev/full").open("wb") as full:
        process = subprocess.run(
            [PROGRAM, "--data-dir", lineitem.data_dir, "verify", "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert process.returncode == 1
    assert b"No space left" in process.stderr
    assert b"Traceback" not in process.stderr


def test_odd_surroundings(lineitem: Command, folder: Path) -> None:
    """No UTF-8 locale, eight columns, no stdin, no terminal, no home: the answers are the same."""
    path = ndjson(folder / "odd.ndjson", [line("odd", subject="\u00fcn\u00efc\u00f6d\u00e9 \U0001f600")])
    odd = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "COLUMNS": "8", "TERM": "dumb"}
    assert lineitem.json("ingest", path, env=odd)["itemized"] == 1

    def no_stdin() -> None:
        os.close(0)

    for arguments in (["line-items", "--json"], ["line-items"], ["verify"], ["dlq", "list"]):
        process = lineitem.start(*arguments, env=odd, preexec_fn=no_stdin)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, b"")
        assert out
        if "--json" in arguments:
            accounts = [json.loads(one)["account"] for one in out.decode("utf-8").splitlines()]
            assert "\u00fcn\u00efc\u00f6d\u00e9 \U0001f600" in accounts
