"""Quotes: published cases, exact text, and an answer for whatever is not a price or a quantity."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.catalog.model import Price
from lineitem.catalog.price_doc import MODEL_FIELDS
from lineitem.core.errors import InputError
from lineitem.rate.models import MODELS
from lineitem.rate.quote import quote, quote_explain, quote_line, quote_text
from lineitem.rate.working import fraction_text
from tests.rate import oracle

HERE = Path(__file__).parent
SHARED = HERE.parents[2] / "shared" / "vectors" / "quote.jsonl"
SIMPLE = {"model": "per_unit", "currency": "USD", "unit_price": "0.004"}


def vectors() -> list[dict[str, Any]]:
    """The published cases of the models we have; a newer collection beside the checkout is read too."""
    lines = (HERE / "quote_vectors.jsonl").read_text("utf-8").splitlines()
    lines += SHARED.read_text("utf-8").splitlines() if SHARED.exists() else []
    cases = [json.loads(line) for line in dict.fromkeys(lines)]
    return [case for case in cases if case["price"]["model"] in MODELS]


@pytest.mark.parametrize("case", vectors(), ids=lambda case: case["id"])
def test_published_cases(case: dict[str, Any]) -> None:
    """Each published or independently computed charge, to the last digit."""
    expected = {key: case[key] for key in ("id", "amounts", "amount") if key in case}
    assert quote_text(json.dumps(case)) == expected


def document(price: Price) -> dict[str, Any]:
    """A price written as a catalog writes it."""
    doc: dict[str, Any] = {"model": price.model, "currency": price.currency}
    for key in ("unit_price", "package_size", "package_price", "included", "maximum", "discount_rate"):
        if getattr(price, key) is not None:
            doc[key] = str(getattr(price, key))
    if price.tiers:
        doc["tiers"] = [
            {"up_to": None if tier.up_to is None else str(tier.up_to)}
            | {key: str(getattr(tier, key)) for key in MODEL_FIELDS[price.model].tier}
            for tier in price.tiers
        ]
    if price.transform is not None:
        doc["transform"] = {"divide_by": str(price.transform.divide_by), "round": price.transform.round.value}
    return doc


@given(oracle.prices(), st.integers(-(10**6), 10**30), st.integers(0, 18))
def test_quotes_equal_the_oracle_through_the_document(price: Price, quantity: int, scale: int) -> None:
    """Written as a document and read back, a price quotes what the oracle says; the working sums to it."""
    value = Fraction(quantity, 10**scale)
    text = f"{quantity}e-{scale}"
    expected = oracle.amount(price, value)
    assert quote(document(price), [text]) == [fraction_text(expected)]
    steps = quote_explain(document(price), text)
    assert sum(step.amount for step in steps if step.amount is not None) == expected


@given(st.fractions())
def test_text_is_exact_or_38_digits(value: Fraction) -> None:
    """Plain text, without exponent or trailing zeros; a value that never ends is off by less than its 38th digit."""
    text = fraction_text(value)
    assert "e" not in text.lower()
    assert not ("." in text and text.endswith("0"))
    error = abs(Fraction(text) - value)
    assert error == 0 if Fraction(Decimal(text)) == value else error <= abs(value) / 10**37


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(1, 3), "0." + "3" * 38),
        (Fraction(-2, 3), "-0." + "6" * 37 + "7"),
        (Fraction(100, 3), "33." + "3" * 36),
        (Fraction(1, 3 * 10**9), "0." + "0" * 9 + "3" * 38),
        (Fraction(1, 2**20), "0.00000095367431640625"),
        (Fraction(10**40, 3), "3" * 40),
        (Fraction(0), "0"),
        (Fraction(1200), "1200"),
    ],
)
def test_how_amounts_are_written(value: Fraction, text: str) -> None:
    """Endless expansions stop at 38 significant digits, half away from zero; whole units are never cut."""
    assert fraction_text(value) == text


def test_the_working_of_a_charge() -> None:
    """Conversion, included units, each tier, discount and maximum stand in the order they apply."""
    price = {
        "model": "graduated", "currency": "USD", "included": "2", "discount_rate": "0.1", "maximum": "20",
        "transform": {"divide_by": "1000", "round": "up"},
        "tiers": [{"up_to": "10", "unit_price": "2", "flat_price": "1"}, {"up_to": None, "unit_price": "1"}],
    }  # fmt: skip
    steps = [(step.label, step.quantity, step.amount) for step in quote_explain(price, "13500")]
    expected: list[tuple[str, Any, Any]] = [
        ("quantity", 13500, None),
        ("divided by 1000, rounded up", 14, None),
        ("less 2 included", 12, None),
        ("tier 1", 10, 21),
        ("tier 2", 2, 2),
        ("discount 10 %", None, Fraction("-2.3")),
        ("maximum 20", None, Fraction("-0.7")),
    ]
    assert steps == expected


def test_the_working_says_that_below_zero_is_zero() -> None:
    """A negative reading is shown as it came, and as it bills."""
    steps = quote_explain(SIMPLE, "-3")
    assert [step.label for step in steps][:2] == ["quantity", "below zero bills as zero"]
    assert [step.quantity for step in steps][:2] == [-3, 0]
    assert steps[-1].amount == 0


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ({"id": "a", "price": {"model": "stairs", "currency": "USD"}, "quantities": ["1"]}, "price.model"),
        ({"id": "a", "price": {**SIMPLE, "unit_price": 0.1}, "quantities": ["1"]}, "price.unit_price"),
        ({"id": "a", "price": {**SIMPLE, "unit_prize": "1", "included": "-1"}, "quantities": ["1"]}, "price"),
        ({"id": "a", "price": SIMPLE, "quantities": ["1", "x"]}, "quantities[1]"),
        ({"id": "a", "price": SIMPLE, "quantities": ["1e400"]}, "quantities[0]"),
        ({"id": "a", "price": SIMPLE, "quantities": ["NaN"]}, "quantities[0]"),
        ({"id": "a", "price": SIMPLE, "quantities": [None]}, "quantities[0]"),
        ({"id": "a", "price": SIMPLE, "quantities": ["0.0000000000000000001"]}, "quantities[0]"),
        ({"id": "a", "price": SIMPLE, "quantities": "12"}, "quantities"),
        ({"id": "a", "price": SIMPLE, "events": ["1"]}, "quantities"),
        ({"id": "a", "quantities": ["1"]}, "price"),
        ({"id": "a", "price": "per_unit", "quantities": ["1"]}, "price"),
    ],
)
def test_a_line_that_cannot_be_quoted_says_why(line: dict[str, Any], where: str) -> None:
    """The answer keeps the id and names what, where and what to do; nothing is raised."""
    answer = quote_line(line)
    assert set(answer) == {"id", "error"}
    assert (answer["id"], answer["error"]["where"]) == ("a", where)
    assert answer["error"]["what"]
    assert answer["error"]["do"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", "NaN", '{"id": "a", "id": "b"}', "[" * 100_000, "1" * 5000, "x" * (2 << 20), b"\xff\xfe{"],
    ids=["empty", "cut", "list", "number", "nan", "twice", "deep", "digits", "long", "encoding"],
)
def test_a_line_that_is_not_one_is_answered_too(text: str | bytes) -> None:
    """No JSON, no object, too deep, too long: an error line without id, for the caller to print and go on."""
    answer = quote_text(text)
    assert answer["id"] is None
    assert answer["error"]["what"]
    assert len(json.dumps(answer)) < 400


def test_fractions_in_json_are_decimals() -> None:
    """An unquoted 0.004 in a JSON line is the decimal 0.004, not the binary number next to it."""
    line = '{"id": 1, "price": {"model": "per_unit", "currency": "USD", "unit_price": 0.004}, "quantities": [1, 2.5]}'
    assert quote_text(line) == {"id": 1, "amounts": ["0.004", "0.01"]}


def test_a_bad_call_raises_by_name() -> None:
    """Called as a function, the same defects are errors with what, where and what to do."""
    with pytest.raises(InputError, match="is not a decimal") as caught:
        quote(SIMPLE, ["1,5"])
    assert caught.value.where == "quantities[0]"
    with pytest.raises(InputError) as several:
        quote({"model": "package", "currency": "EUR"}, [])
    assert several.value.what == "package_size: is missing; package_price: is missing"
