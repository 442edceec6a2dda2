"""From prices in two currencies to one invoice in euros, and from a unit of one's own to a PDF, through the command line."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pypdf import PdfReader

from lineitem.kit.embedded import EmbeddedServer
from tests.acceptance.command import CATALOG, Command, line, ndjson

WIDE = {"COLUMNS": "160"}
"""A terminal whose lines are long enough for a table's cells."""
RULE = "conversion: {source: made-up, date: period_end, max_age_days: 5}\n"
EURO = '      - {id: euro, meter: tokens, model: per_unit, currency: EUR, unit_price: "0.0000071"}\naccounts:'
ACCOUNTS = "  list: [{id: acme, invoice_currency: EUR}]\n"
RATES = "date,base,quote,rate,source\n2026-01-30,EUR,USD,1.0832,made-up\n"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Command, Path]]:
    """A ledger with a rule and with usage of January, no rates yet, and a folder."""
    folder = tmp_path_factory.mktemp("desk")
    command = Command(folder / "data")
    with EmbeddedServer(command.data_dir):
        catalog = folder / "catalog.yaml"
        catalog.write_text(RULE + CATALOG.replace("accounts:", EURO) + ACCOUNTS)
        assert command.json("catalog", "publish", catalog)["changed"]
        command.json("ingest", ndjson(folder / "usage.ndjson", [line("1", 4_000_000), line("2", 1_000_001)]))
        yield command, folder


def _pdf(run: Command, number: str, file: Path) -> str:
    run.json("invoice", "pdf", number, "-o", file)
    return "\n".join(page.extract_text() for page in PdfReader(BytesIO(file.read_bytes())).pages).replace("\u00a0", " ")


def test_two_currencies_one_invoice(desk: tuple[Command, Path]) -> None:
    """No rate, no invoice; a stale one, none; a good one, one invoice that adds up and says how it came about."""
    run, folder = desk
    answer = run.run("bill", "--period", "2026-01", "--json")
    assert answer.code == 1
    assert "acme has no invoice for 2026-01: no rate between USD and EUR from made-up for 2026-01-31" in answer.err
    assert answer.document["refused"][0]["account"] == "acme"
    rates = folder / "rates.csv"
    rates.write_text(RATES.replace("01-30", "01-20"))
    assert run.json("fx", "load", rates)["added"] == 1
    assert "11 days older, and max_age_days is 5" in run.run("bill", "--period", "2026-01").err
    rates.write_text(RATES)
    assert run.json("fx", "load", rates)["batch"].startswith("0-")
    assert run.run("fx", "load", rates).out == "Nothing to do: all 1 rates are known.\n"
    (made,) = run.json("bill", "--period", "2026-01")["invoices"]
    assert (made["currency"], made["total"]) == ("EUR", "47.04")
    dollar = next(one for one in made["lines"] if one["price"] == "token")
    assert (dollar["original"]["amount_exact"], dollar["amount"]) == ("12.5000025", "11.54")
    assert run.json("bill", "--period", "2026-01")["invoices"] == []
    shown = run.run("invoice", "show", made["number"], env=WIDE).out
    assert "1 EUR = 1.0832 USD (made-up, 2026-01-30)" in shown
    assert "12.5000025 USD at 1 EUR = 1.0832 USD" in run.run("explain", made["number"], env=WIDE).out
    assert "which is 11.53988" in " ".join(run.run("explain", f"{made['number']}#{dollar['line']}").out.split())
    text = " ".join(_pdf(run, made["number"], folder / "invoice.pdf").split())
    for told in ("12.5000025 USD at 1 EUR = 1.0832 USD", "Exchange rates", "30 January 2026", "made-up", "€47.04"):
        assert told in text
    assert run.json("verify")["ok"]


def test_a_rate_that_differs(desk: tuple[Command, Path]) -> None:
    """Refused with both values, kept with --correct; the list tells both."""
    run, folder = desk
    file = folder / "other.csv"
    file.write_text("date,base,quote,rate,source\n2026-03-02,EUR,USD,1.1,made-up\n")
    run.json("fx", "load", file)
    file.write_text("date,base,quote,rate,source\n2026-03-02,EUR,USD,1.2,made-up\n")
    assert "is 1.2 here and 1.1 in the ledger" in run.refused("fx", "load", file)
    assert run.json("fx", "load", file, "--correct")["corrected"] == 1
    shown = run.json("fx", "show", "--date", "2026-03-02", "--all")["rates"]
    assert [one["rate"] for one in shown] == ["1.2", "1.1"]
    assert [one["rate"] for one in run.json("fx", "show", "--date", "2026-03-04")["rates"]] == ["1.2"]
    assert "Exchange rates" in run.run("fx", "show").out
    assert run.json("verify")["ok"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("load", "nothing.csv"), 1, "cannot be read"),
        (("load", "."), 1, "cannot be read"),
        (("show", "--date", "yesterday"), 2, "not a date"),
        (("show", "--date", "2026-02-30"), 2, "not a date"),
    ],
)
def test_refused_calls(desk: tuple[Command, Path], arguments: tuple[str, ...], code: int, text: str) -> None:
    """Each says what is wrong."""
    run, _ = desk
    assert text in run.refused("fx", *arguments, code=code)


@pytest.mark.parametrize(
    ("currency", "exponent", "total", "residual", "shown"),
    [
        ("JPY", None, "12", "0.3456789", "¥12"),
        ("KWD", None, "12.346", "-0.0003211", "KWD 12.346"),
        ("XCR", 4, "12.3457", "-0.0000211", "cr 12.3457"),
    ],
)
def test_decimals_from_price_to_paper(
    desk: tuple[Command, Path], currency: str, exponent: int | None, total: str, residual: str, shown: str
) -> None:
    """Yen have none, dinars three, a unit of one's own four: rounded once, the rest kept, and so it is printed."""
    run, folder = desk
    own = "" if exponent is None else f"currencies: [{{code: {currency}, name: credits, exponent: 4, symbol: cr}}]\n"
    catalog = folder / f"{currency}.yaml"
    catalog.write_text(
        own + CATALOG.replace("currency: USD", f"currency: {currency}").replace("0.0000025", "12.3456789")
    )
    space = ("--namespace", currency.lower())
    run.json("catalog", "publish", catalog, *space)
    run.json("ingest", ndjson(folder / f"{currency}.ndjson", [line("1", 1)]), *space)
    (made,) = run.json("bill", "--period", "2026-01", *space)["invoices"]
    (one,) = made["lines"]
    assert (made["currency"], made["total"], one["amount"], one["residual"]) == (currency, total, total, residual)
    assert one["amount_exact"] == "12.3456789"
    file = folder / f"{currency}.pdf"
    run.json("invoice", "pdf", made["number"], "-o", file, *space)
    text = " ".join("".join(page.extract_text() for page in PdfReader(file).pages).split())
    assert shown in text.replace("\u00a0", " ")
    assert ("XCR stands for credits." in text) == (exponent is not None)
