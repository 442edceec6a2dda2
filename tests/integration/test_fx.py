"""Rates are loaded once and vouched for; an account's invoice in one currency claims everything and ties out."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from psycopg.errors import InsufficientPrivilege

from lineitem.app import App
from lineitem.billing.check import check_invoices
from lineitem.billing.explain import explain_invoice
from lineitem.billing.run import invoice
from lineitem.catalog.load import parse_catalog
from lineitem.core.errors import InputError, Refused
from tests.integration.test_billing import event, ingest, make, superuser

CATALOG = """
currency: USD
currencies: [{code: XCR, name: credits, exponent: 4}]
conversion: {source: ecb, date: period_end, max_age_days: 5, pivot: USD}
meters:
  - {id: tokens, event_type: llm, aggregation: sum, value: data.tokens, unit: token, scale: 3}
pricebooks:
  - id: mixed
    version: 1
    effective_from: 2020-01-01T00:00:00Z
    prices:
      - {id: dollar, meter: tokens, model: per_unit, unit_price: "0.0333333335"}
      - {id: euro, meter: tokens, model: per_unit, currency: EUR, unit_price: "0.0123456785"}
      - {id: yen, meter: tokens, model: per_unit, currency: JPY, unit_price: "0.5"}
      - {id: dinar, meter: tokens, model: per_unit, currency: KWD, unit_price: "0.0001234"}
      - {id: credit, meter: tokens, model: per_unit, currency: XCR, unit_price: "0.00001234"}
accounts:
  defaults: {pricebook: mixed}
  list:
    - {id: one, invoice_currency: EUR}
    - {id: many}
"""
RATES = """date,base,quote,rate,source
2026-10-30,EUR,USD,1.08,ecb
2026-10-30,EUR,JPY,162.5,ecb
2026-10-30,EUR,KWD,0.332,ecb
2026-10-30,USD,XCR,100,ecb
"""


def rates(ledger: App, text: str, *, correct: bool = False) -> Any:
    """Load a file of rates."""
    path = ledger.config.data_dir / "rates.csv"
    path.write_text(text)
    return ledger.load_rates("default", path, correct, "ana")


def findings(ledger: App) -> list[str]:
    return [found.what for found in ledger.verify(deep=True, progress=lambda what, done: None).findings]


@pytest.fixture
def published(ledger: App) -> App:
    """A ledger with the catalog above."""
    ledger.publish("default", parse_catalog(CATALOG, "catalog"))
    return ledger


# --- rates


def test_loading_again_does_nothing(published: App) -> None:
    """No batch, no row; a longer file adds what is new."""
    done = rates(published, RATES)
    assert (done.added, done.known, done.corrected) == (4, 0, 0)
    head = published.control.execute("select batch from ledger.lane where lane = 0").fetchone()
    again = rates(published, RATES.replace("1.08,", "1.0800,"))
    assert (again.added, again.known, again.batch) == (0, 4, None)
    assert published.control.execute("select batch from ledger.lane where lane = 0").fetchone() == head
    more = rates(published, RATES + "2026-10-31,EUR,USD,1.09,ecb\n")
    assert (more.added, more.known) == (1, 4)
    assert findings(published) == []


def test_another_value_is_refused_with_both(published: App) -> None:
    """And nothing of the file is loaded."""
    rates(published, RATES)
    with pytest.raises(Refused, match=r"EUR/USD of 2026-10-30 from ecb is 1\.081 here and 1\.08 in the ledger"):
        rates(published, RATES.replace("1.08,", "1.081,") + "2026-10-29,EUR,USD,1.07,ecb\n")
    assert len(published.rates("default", None, None, every=True)) == 4


def test_a_correction_keeps_both(published: App) -> None:
    """The newer one counts from then on, and is what the next correction is compared with."""
    rates(published, RATES)
    done = rates(published, RATES.replace("1.08,", "1.081,"), correct=True)
    assert (done.added, done.corrected, done.known) == (1, 1, 3)
    shown = [one for one in published.rates("default", None, None, every=True) if one["quote"] == "USD"]
    assert [one["rate"] for one in shown] == ["1.081", "1.08"]
    assert [one["rate"] for one in published.rates("default", None, "ecb", every=False) if one["quote"] == "USD"] == [
        "1.081"
    ]
    with pytest.raises(Refused, match=r"1\.08 here and 1\.081 in the ledger"):
        rates(published, RATES)
    assert findings(published) == []


def test_rates_of_another_namespace_are_not_known(published: App) -> None:
    """A namespace's rates are its own; without a catalog it has ISO's currencies only."""
    rates(published, RATES)
    path = published.config.data_dir / "rates.csv"
    with pytest.raises(InputError, match="XCR"):
        published.load_rates("other", path, False, None)
    path.write_text(RATES.replace("XCR", "GBP"))
    assert published.load_rates("other", path, False, None).added == 4


def test_many_rates_are_several_facts(published: App) -> None:
    """A long history is one batch, and every row of it is vouched for."""
    rows = [f"20{n // 336:02}-{n // 28 % 12 + 1:02}-{n % 28 + 1:02},EUR,USD,1.{n + 1},ecb" for n in range(1200)]
    assert rates(published, "date,base,quote,rate,source\n" + "\n".join(rows)).added == 1200
    count = published.control.execute("select count(*) from ledger.fact where kind = 'rates'").fetchone()
    assert count == (3,)
    assert findings(published) == []


def test_nobody_changes_a_rate(published: App) -> None:
    """The table is append-only, for everybody who is not a superuser with intent."""
    rates(published, RATES)
    with superuser(published) as connection, pytest.raises(InsufficientPrivilege):
        connection.execute("update catalog.fx_rate set rate = 2")


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (
            "update catalog.fx_rate set rate = rate + 0.000000000000000001 where quote = 'USD'",
            "rate EUR/USD of 2026-10-30 from ecb of default is 1.080000000000000001, it was recorded as 1.08",
        ),
        (
            "delete from catalog.fx_rate where quote = 'JPY'",
            "rate EUR/JPY of 2026-10-30 from ecb of default is missing",
        ),
        (
            """insert into catalog.fx_rate select namespace_key, source, base, 'GBP', day, rate, batch from catalog.fx_rate
               where quote = 'USD'""",
            "rate EUR/GBP of 2026-10-30 from ecb of default was never recorded",
        ),
    ],
)
def test_verify_names_the_row(published: App, statement: Any, told: str) -> None:
    """A rate that was altered, removed or smuggled in."""
    rates(published, RATES)
    with superuser(published) as connection:
        connection.execute("alter table catalog.fx_rate disable trigger all")
        connection.execute(statement)
    assert findings(published) == [told]


# --- invoices


def _used(ledger: App, account: str = "one") -> None:
    ingest(ledger, [event(account, f"{n}.125") for n in range(1, 8)])


def test_one_invoice_over_all_currencies(published: App) -> None:
    """Every line is its exact sum converted once and rounded once, and the ledger's own sums are untouched."""
    _used(published)
    rates(published, RATES)
    (made,) = make(published).invoices
    assert (made["account"], made["currency"]) == ("one", "EUR")
    tokens = sum(Fraction(f"{n}.125") for n in range(1, 8))
    unit = {
        "dollar": ("0.0333333335", Fraction("1.08")),
        "euro": ("0.0123456785", Fraction(1)),
        "yen": ("0.5", Fraction("162.5")),
        "dinar": ("0.0001234", Fraction("0.332")),
        "credit": ("0.00001234", 100 * Fraction("1.08")),
    }
    for line in made["lines"]:
        price, per_euro = unit[line["price"]]
        before = Fraction(line["original"]["amount_exact"])
        assert abs(before - tokens * Fraction(price)) <= Fraction(1, 2 * 10**9)
        assert abs(Fraction(line["amount_exact"]) - before / per_euro) <= Fraction(1, 2 * 10**9)
        assert abs(Fraction(line["amount"]) - before / per_euro) <= Fraction(1, 200)
        assert Fraction(line["amount"]) + Fraction(line["residual"]) == Fraction(line["amount_exact"])
    hops = {line["price"]: len(line["original"]["rates"]) for line in made["lines"]}
    assert hops == {"credit": 2, "dinar": 1, "dollar": 1, "euro": 0, "yen": 1}
    sums = published.control.execute(
        "select p.currency, sum(amount_nano) from ledger.line_item join catalog.price_version using (price_version_key) "
        "join catalog.price p using (price_key) group by 1"
    ).fetchall()
    said = {one["currency"]: Fraction(one["amount_exact"]) for one in made["conversion"]["totals"]}
    assert said == {currency: Fraction(nano) / 10**9 for currency, nano in sums}
    assert findings(published) == []
    assert invoice(published.control, "default", made["number"]).total_minor > 0


def test_the_others_have_an_invoice_per_currency(published: App) -> None:
    """With 0, 2, 3 and 4 decimals, each amount rounded at its own; no rate is asked for."""
    _used(published, "many")
    made = {one["currency"]: one for one in make(published).invoices}
    assert {currency: one["total"] for currency, one in made.items()} == {
        "EUR": "0.36", "JPY": "14", "KWD": "0.004", "USD": "0.96", "XCR": "0.0004",
    }  # fmt: skip
    assert made["JPY"]["residual_total"] == "0.4375"
    assert made["XCR"]["own_currency"] == {"name": "credits", "symbol": ""}
    assert not any("conversion" in one for one in made.values())
    assert findings(published) == []


def test_a_missing_rate_leaves_one_account_out(published: App) -> None:
    """It is named with the reason, the others are billed; once the rate is there, so is the invoice."""
    _used(published)
    _used(published, "many")
    rates(published, RATES.replace("2026-10-30,EUR,JPY", "2026-10-25,EUR,JPY"))
    done = make(published)
    assert {one["account"] for one in done.invoices} == {"many"}
    (refused,) = done.refused
    assert (refused["account"], refused["currency"]) == ("one", "EUR")
    assert "between JPY and EUR from ecb for 2026-10-31" in refused["reason"]
    assert "6 days older" in refused["reason"]
    rates(published, RATES)
    later = make(published)
    assert ([one["account"] for one in later.invoices], later.refused) == (["one"], [])
    assert make(published).invoices == []
    assert findings(published) == []


def test_late_usage_is_converted_alone(published: App) -> None:
    """A supplementary invoice claims above the one before it, in every currency, by the rate that counts then."""
    _used(published)
    rates(published, RATES)
    (first,) = make(published).invoices
    rates(published, RATES.replace("1.08,", "2,"), correct=True)
    ingest(published, [event("one", 1000)])
    (second,) = make(published).invoices
    assert {line["quantity"] for line in second["lines"]} == {"1000"}
    dollar = next(line for line in second["lines"] if line["price"] == "dollar")
    assert dollar["amount"] == "16.67"
    for made in (first, second):
        told = explain_invoice(published.control, "default", made["number"])
        assert all(line["adds_up"] for line in told["lines"])
    assert told["claim"]["predecessor"] == first["number"]
    assert findings(published) == []


def test_a_rule_that_comes_and_goes_never_bills_twice(published: App) -> None:
    """Per currency, then in one, then per currency again: each line item is claimed once."""
    plain = CATALOG.replace(", invoice_currency: EUR", "")
    published.publish("default", parse_catalog(plain, "catalog"))
    _used(published)
    assert len(make(published).invoices) == 5
    published.publish("default", parse_catalog(CATALOG, "catalog"))
    rates(published, RATES)
    assert make(published).invoices == []
    ingest(published, [event("one", 100)])
    (one,) = make(published).invoices
    assert {line["quantity"] for line in one["lines"]} == {"100"}
    published.publish("default", parse_catalog(plain, "catalog"))
    assert make(published).invoices == []
    ingest(published, [event("one", 10)])
    last = make(published).invoices
    assert {line["quantity"] for made in last for line in made["lines"]} == {"10"}
    assert len(last) == 5
    for made in (one, *last):
        assert all(line["adds_up"] for line in explain_invoice(published.control, "default", made["number"])["lines"])
    assert findings(published) == []


def test_an_invoice_by_a_rate_the_ledger_never_had(published: App) -> None:
    """Somebody takes the rate of a sent invoice out of the table: verify names the rate and the line."""
    _used(published)
    rates(published, RATES)
    make(published)
    with superuser(published) as connection:
        connection.execute("alter table catalog.fx_rate disable trigger all")
        connection.execute("delete from catalog.fx_rate where quote = 'USD'")
    told = check_invoices(published.control)
    assert any("the rate EUR/USD of 2026-10-30 from ecb, 1.08, is not one the ledger had" in what for what in told)


def test_the_mark_beside_the_document(published: App) -> None:
    """Whether an invoice was converted stands in its row too, and must be what its document says."""
    _used(published)
    rates(published, RATES)
    make(published)
    with superuser(published) as connection:
        connection.execute("alter table billing.invoice disable trigger all")
        connection.execute("update billing.invoice set converted = false")
    assert any("beside the document are not the document's" in what for what in findings(published))


def test_the_invoice_date_rule(published: App, tmp_path: Path) -> None:
    """The day the invoice is issued in the issuer's zone, here the first of November at 19:00 in New York."""
    text = CATALOG.replace("period_end", "invoice_date") + "issuer: {timezone: America/New_York}\n"
    published.publish("default", parse_catalog(text, "catalog"))
    _used(published)
    rates(published, RATES + "2026-11-01,EUR,USD,2,ecb\n2026-11-02,EUR,USD,3,ecb\n")
    (made,) = make(published).invoices
    assert made["conversion"]["date"] == "2026-11-01"
    used = {one["rate"] for line in made["lines"] for one in line["original"]["rates"] if one["quote"] == "USD"}
    assert used == {"2"}
