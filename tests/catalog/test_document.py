"""The canonical document: it keeps everything, and tells contents apart, not spellings."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.catalog.document import (
    catalog_document,
    catalog_from_document,
    content_digest,
    decimal_text,
    price_digest,
)
from lineitem.catalog.load import parse_catalog
from lineitem.catalog.model import (
    Account,
    AccountDefaults,
    Catalog,
    Itemize,
    Meter,
    Price,
    Pricebook,
    Rounding,
    Tier,
    Transform,
)
from lineitem.core.errors import IntegrityError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, places=18, min_value=0, max_value=10**20)
PAIRS = st.dictionaries(TEXTS, TEXTS, max_size=3).map(lambda pairs: tuple(sorted(pairs.items())))
METERS = st.builds(Meter, dimensions=st.lists(TEXTS, max_size=3).map(tuple), filter=st.none() | TEXTS, id=TEXTS)
TIERS = st.builds(Tier, up_to=st.none() | DECIMALS, unit_price=DECIMALS, flat_price=DECIMALS)
PRICES = st.builds(
    Price,
    id=TEXTS,
    meter=TEXTS,
    model=TEXTS,
    currency=TEXTS,
    itemize=st.sampled_from(Itemize),
    unit_price=st.none() | DECIMALS,
    tiers=st.lists(TIERS, max_size=3).map(tuple),
    package_size=st.none() | DECIMALS,
    transform=st.none() | st.builds(Transform, divide_by=DECIMALS, round=st.sampled_from(Rounding)),
    description=TEXTS,
)
BOOKS = st.builds(
    Pricebook,
    id=TEXTS,
    version=st.integers(1, 9),
    effective_from_us=st.integers(-(10**17), 10**17),
    effective_until_us=st.none() | st.integers(-(10**17), 10**17),
    prices=st.lists(PRICES, max_size=2).map(tuple),
)
CATALOGS = st.builds(
    Catalog,
    currency=TEXTS,
    meters=st.lists(METERS, max_size=3).map(tuple),
    pricebooks=st.lists(BOOKS, max_size=2).map(tuple),
    defaults=st.builds(AccountDefaults),
    accounts=st.lists(st.builds(Account, tags=PAIRS), max_size=3).map(tuple),
    issuer=PAIRS,
)


@given(CATALOGS)
def test_a_document_keeps_everything(catalog: Catalog) -> None:
    """Reading a stored catalog back gives the catalog, and storing that gives the same bytes."""
    document = catalog_document(catalog)
    assert catalog_from_document(document) == catalog
    assert catalog_from_document(document.decode()) == catalog
    assert catalog_document(catalog_from_document(document)) == document


BLOCK = """\
currency: USD
meters:
  - {id: tokens, event_type: llm, aggregation: sum, value: data.tokens, scale: 0, dimensions: [data.a, data.b]}
  - {id: calls, event_type: llm, aggregation: count}
pricebooks:
  - {id: b, version: 1, effective_from: 2026-01-01T00:00:00Z, prices: [
      {id: p, meter: tokens, model: per_unit, unit_price: "1.0", itemize: each},
      {id: q, meter: calls, model: per_unit, unit_price: 100}]}
accounts:
  list: [{id: x, timezone: UTC, tags: {a: "1", b: "2"}}, {id: y}]
"""
OTHER = """\
# the same content, laid out otherwise
accounts:
  list:
    - id: 'y'
    - tags: {b: "2", a: "1"}   # order of tags means nothing
      id: "x"
pricebooks:
  - id: b
    effective_from: "2026-01-01T01:00:00+01:00"
    version: 1
    prices:
      - {id: q, meter: calls, model: per_unit, unit_price: "1e2", currency: USD}
      - {id: p, meter: tokens, model: per_unit, unit_price: 1}
meters:
  - {id: calls, aggregation: count, event_type: llm, scale: 9, unit: unit}
  - {id: tokens, event_type: llm, aggregation: sum, value: data.tokens, scale: 0, dimensions: [data.a, data.b]}
currency: USD
"""


def test_layout_and_spelling_make_no_difference() -> None:
    """Order, quotes, comments, defaults written out, 1.0 for 1, another offset: one digest."""
    one, other = parse_catalog(BLOCK, "one"), parse_catalog(OTHER, "other")
    assert catalog_document(one) == catalog_document(other)
    assert content_digest(one) == content_digest(other)
    assert len(content_digest(one)) == 64


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"1.0"', '"1.01"'),
        ("scale: 0", "scale: 1"),
        ("data.a, data.b", "data.b, data.a"),
        ("version: 1", "version: 2"),
        ('a: "1"', 'a: "2"'),
        ("USD", "EUR"),
        ("timezone: UTC", "timezone: Asia/Tokyo"),
    ],
)
def test_content_makes_a_difference(old: str, new: str) -> None:
    """Anything the file says is in the digest."""
    assert content_digest(parse_catalog(BLOCK, "c")) != content_digest(parse_catalog(BLOCK.replace(old, new, 1), "c"))


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**40), max_value=10**40))
def test_decimal_text_is_exact_and_one_per_value(value: Decimal) -> None:
    """Beyond the 28 digits of Python's default context too; trailing zeros never show."""
    text = decimal_text(value)
    assert Decimal(text) == value
    assert "E" not in text
    assert text == decimal_text(Decimal(text))
    assert not ("." in text and text.endswith("0"))


def test_decimal_text_of_what_has_none() -> None:
    """An infinite price cannot be stored by mistake."""
    assert [decimal_text(Decimal(text)) for text in ("1.50", "-0.0", "1E+3")] == ["1.5", "0", "1000"]
    with pytest.raises(ValueError, match="not finite"):
        decimal_text(Decimal("Infinity"))


PRICE = Price("p", "tokens", "graduated", "USD", tiers=(Tier(Decimal(10), Decimal(1)), Tier(None)))


@pytest.mark.parametrize(
    "change", [{"id": "x"}, {"description": "x"}, {"tiers": (Tier(Decimal("10.0"), Decimal("1.0")), Tier(None))}]
)
def test_names_and_spelling_are_not_money(change: dict[str, Any]) -> None:
    """Two versions of a price that differ so go on with the same tiers."""
    assert price_digest(replace(PRICE, **change)) == price_digest(PRICE)


@pytest.mark.parametrize(
    "change",
    [
        {"meter": "calls"},
        {"model": "volume"},
        {"currency": "EUR"},
        {"itemize": Itemize.HOUR},
        {"tiers": (Tier(Decimal(10), Decimal(1)), Tier(None, flat_price=Decimal(1)))},
        {"tiers": (Tier(None, Decimal(10)),)},
        {"unit_price": Decimal(0)},
        {"included": Decimal(1)},
        {"maximum": Decimal(1)},
        {"discount_rate": Decimal("0.1")},
        {"transform": Transform(Decimal(10))},
        {"package_size": Decimal(1)},
        {"package_price": Decimal(1)},
    ],
)
def test_everything_else_of_a_price_is_money(change: dict[str, Any]) -> None:
    """A change that can change an amount changes the digest."""
    assert price_digest(replace(PRICE, **change)) != price_digest(PRICE)
    assert len(price_digest(PRICE)) == 32


def test_a_digest_never_changes() -> None:
    """Stored digests are compared with computed ones for years: this one is of the first release."""
    catalog = parse_catalog(BLOCK, "c")
    assert content_digest(catalog) == "36da755f3479d911ce32c1a49a0f01784f7ebdd1caef9d962bace4e7208f5ac4"
    assert price_digest(PRICE).hex() == "c91d6c6286b132d8bf2849fead1af50ca44182b9909b2b5aa141430180124c6c"


@pytest.mark.parametrize(
    "document",
    [b"", b"{}", b"[]", b"null", b"{", b"\xff", b'{"format":2,"catalog":{}}', b'{"format":1,"catalog":{}}'],
)
def test_a_damaged_document_is_an_integrity_error(document: bytes) -> None:
    """What is stored is not what was written, or was written by a later program."""
    with pytest.raises(IntegrityError) as caught:
        catalog_from_document(document)
    assert caught.value.do
