"""Currencies have ISO 4217's decimals, and money is shown without ever being rounded again."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.billing.currency import (
    format_amount,
    format_exact,
    format_money,
    minor_digits,
    minor_from_text,
    minor_to_text,
)
from lineitem.core.errors import InputError


@pytest.mark.parametrize(
    ("currency", "digits"),
    [("USD", 2), ("EUR", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4), ("IQD", 3), ("UGX", 0), ("DEM", 2), ("ITL", 0)],
)
def test_minor_digits(currency, digits):
    """Zero, two, three and four decimals; retired currencies keep theirs."""
    assert minor_digits(currency) == digits


@pytest.mark.parametrize("currency", ["", "usd", "EURO", "ABC", "XAU", "XXX"])
def test_what_is_not_a_currency(currency):
    """Unknown codes, lower case, gold and the no-currency code are refused with a way out."""
    with pytest.raises(InputError) as error:
        minor_digits(currency)
    assert error.value.do


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (123_450, "USD", "$1,234.50"),
        (-5, "USD", "-$0.05"),
        (0, "USD", "$0.00"),
        (1_234_567, "JPY", "¥1,234,567"),
        (1_235, "KWD", "KWD\u00a01.235"),
        (100, "CHF", "CHF\u00a01.00"),
        (123_456, "IQD", "IQD\u00a0123.456"),
        (10**37 + 5, "USD", "$100,000,000,000,000,000,000,000,000,000,000,000.05"),
    ],
)
def test_money_for_people(minor, currency, text):
    """Symbol, grouping and the currency's decimals, at any size."""
    assert format_money(minor, currency) == text


def test_other_locales():
    """A locale changes how it is written, never the decimals."""
    assert format_money(123_450, "EUR", locale="de") == "1.234,50\u00a0€"
    assert format_amount(123_450, 2, "de") == "1.234,50"


def test_stored_decimals_outlive_the_currency():
    """An invoice names its decimals, so that it can be shown after its currency is gone from every list."""
    assert format_money(123_450, "QQQ", digits=3) == "QQQ\u00a0123.450"


@given(st.integers(-(10**38), 10**38), st.integers(0, 4))
def test_text_is_exact(minor, digits):
    """Minor units -> text -> minor units gives the same; grouping commas are all that is added for people."""
    text = minor_to_text(minor, digits)
    assert minor_from_text(text, digits) == minor
    assert Decimal(text) * 10**digits == minor or len(text) > 28  # the default context is 28 digits wide
    assert format_amount(minor, digits).replace(",", "") == text


def test_exact_text_keeps_every_digit():
    """Babel would show three decimals; exact amounts show all."""
    assert format_exact("1234.000000001") == "1,234.000000001"
    assert format_exact("-0.0000025") == "-0.0000025"
    assert format_exact("1" * 38 + ".123456789").replace(",", "") == "1" * 38 + ".123456789"
