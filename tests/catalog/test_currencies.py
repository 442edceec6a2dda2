"""Currencies of a catalog's own, and the rule by which an invoice is in one currency: what is read, what is refused."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from lineitem.catalog.diff import diff
from lineitem.catalog.document import catalog_document, catalog_from_document, content_digest
from lineitem.catalog.load import parse_catalog
from lineitem.catalog.model import Conversion, ConversionDate, OwnCurrency, Price, Pricebook
from lineitem.catalog.publish import UsageSoFar, check_publish
from lineitem.core.errors import CatalogError, Refused

PLAIN = """\
currency: USD
meters: [{id: m, event_type: a, aggregation: count}]
pricebooks:
  - {id: b, version: 1, effective_from: 2020-01-01T00:00:00Z, prices: [{id: p, meter: m, model: per_unit, unit_price: "1"}]}
accounts: {defaults: {pricebook: b}, list: [{id: x}, {id: y}]}
"""
OWN = "currencies: [{code: XCR, name: credits, exponent: 4, symbol: cr}]\n"
RULE = "conversion: {source: ecb, date: period_end, max_age_days: 5, pivot: EUR}\n"


def test_a_currency_of_the_catalogs_own() -> None:
    """Prices, the default and invoices may be in it."""
    found = parse_catalog(
        OWN + RULE + PLAIN.replace("USD", "XCR").replace("{id: x}", "{id: x, invoice_currency: XCR}"), "c"
    )
    assert found.currencies == (OwnCurrency("XCR", 4, "credits", "cr"),)
    assert found.pricebooks[0].prices[0].currency == found.currency == "XCR"
    assert [account.invoice_currency for account in found.accounts] == ["XCR", None]
    assert found.conversion == Conversion("ecb", ConversionDate.PERIOD_END, 5, "EUR")
    assert catalog_from_document(catalog_document(found)) == found


def test_accounts_take_the_invoice_currency_of_the_defaults() -> None:
    """Unless they have one of their own."""
    text = PLAIN.replace("{pricebook: b}", "{pricebook: b, invoice_currency: EUR}").replace(
        "{id: y}", "{id: y, invoice_currency: JPY}"
    )
    found = parse_catalog(RULE + text, "c")
    assert [account.invoice_currency for account in found.accounts] == ["EUR", "JPY"]


def test_a_catalog_without_any_of_it_is_what_it_was() -> None:
    """The digest of a catalog published before there were conversions."""
    assert (
        content_digest(parse_catalog(PLAIN, "c")) == "84a5ef1da7bf10a4fadb879db67dc2c40e823e8d5ee15efcee097cfca2f3e4bf"
    )


@pytest.mark.parametrize(
    ("added", "told"),
    [
        ("currencies: [{code: XCR, exponent: 10}]", "'exponent' must be a whole number from 0 to 9, not 10"),
        ("currencies: [{code: XCR}]", "needs 'exponent'"),
        ("currencies: [{exponent: 2}]", "needs 'code'"),
        ("currencies: [{code: EUR, exponent: 2}]", "EUR is an ISO 4217 code"),
        ("currencies: [{code: XAU, exponent: 2}]", "XAU is an ISO 4217 code"),
        ("currencies: [{code: DEM, exponent: 2}]", "DEM is an ISO 4217 code"),
        ("currencies: [{code: xcr, exponent: 2}]", "2 to 10 upper-case letters and digits"),
        ("currencies: [{code: X, exponent: 2}]", "2 to 10 upper-case letters and digits"),
        ("currencies: [{code: ABCDEFGHIJK, exponent: 2}]", "2 to 10 upper-case letters and digits"),
        ("currencies: [{code: XCR, exponent: 2}, {code: XCR, exponent: 3}]", "the currency 'XCR'"),
        ("conversion: {source: ecb, date: event_time, max_age_days: 5}", "event_time is not supported"),
        ("conversion: {source: ecb, date: someday, max_age_days: 5}", "not a known date"),
        ("conversion: {source: ecb, date: period_end}", "needs 'max_age_days'"),
        ("conversion: {source: ecb, date: period_end, max_age_days: -1}", "from 0 to 366"),
        ("conversion: {date: period_end, max_age_days: 1}", "needs 'source'"),
        ("conversion: {source: ecb, date: period_end, max_age_days: 1, pivot: ZZZ}", "'ZZZ' is not an ISO 4217"),
    ],
)
def test_what_is_refused(added: str, told: str) -> None:
    """With its line and what to do."""
    with pytest.raises(CatalogError, match=f"c:1: .*{told}"):
        parse_catalog(added + "\n" + PLAIN, "c")


def test_an_invoice_currency_needs_a_rule_and_a_currency() -> None:
    """There is no conversion without a rule that names the rates."""
    asked = PLAIN.replace("{id: x}", "{id: x, invoice_currency: ZZZ}")
    with pytest.raises(CatalogError) as caught:
        parse_catalog(asked, "c")
    assert ["add `conversion`" in told for told in caught.value.problems] == [True, False]
    with pytest.raises(CatalogError, match="'ZZZ' is not an ISO 4217"):
        parse_catalog(RULE + asked, "c")


def test_a_price_in_a_currency_nobody_defined_is_refused() -> None:
    """A typo is not a new currency."""
    with pytest.raises(CatalogError, match="'XCX' is not an ISO 4217"):
        parse_catalog(OWN + PLAIN.replace('unit_price: "1"', 'unit_price: "1", currency: XCX'), "c")


def test_a_diff_tells_currencies_and_the_rule() -> None:
    """What publishing would change."""
    changes = diff(parse_catalog(PLAIN, "c"), parse_catalog(OWN + RULE + PLAIN, "c"))
    assert [(change.action, change.what, change.id) for change in changes] == [
        ("added", "currency", "XCR"), ("added", "conversion", ""),
    ]  # fmt: skip


def test_a_currency_with_prices_keeps_its_decimals() -> None:
    """Invoices were rounded to them. One that no price is in may change or go."""
    nothing = UsageSoFar({}, frozenset(), {}, {})
    old = parse_catalog(OWN + PLAIN, "c")
    priced = Pricebook("c", 1, 0, None, (Price("p", "m", "per_unit", "XCR", unit_price=Decimal(1)),))
    changed = replace(old, currencies=(replace(old.currencies[0], exponent=2),))
    check_publish(old, [], {}, changed, nothing)
    check_publish(old, [priced], {}, replace(old, currencies=(replace(old.currencies[0], name="points"),)), nothing)
    for new in (changed, replace(old, currencies=())):
        with pytest.raises(Refused, match="currency XCR has published prices"):
            check_publish(old, [priced], {}, new, nothing)
