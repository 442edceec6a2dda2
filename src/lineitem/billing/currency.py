"""Currencies: how many decimals each has, and money as people read it."""

from __future__ import annotations

import copy
import decimal
import re
from decimal import Decimal

from babel import Locale
from babel.numbers import format_decimal

from lineitem.catalog.currencies import iso_digits
from lineitem.core.errors import InputError
from lineitem.core.limits import AMOUNT_SCALE, QUANTITY_DIGITS_MAX
from lineitem.core.money import text_to_scaled

_LETTER_THEN_DIGIT = re.compile(r"(?<=[^\W\d_])(?=\d)")
"""Where CLDR's currency spacing puts a no-break space, which Babel leaves out: ``KWD 5``, not ``KWD5``."""
_DECIMAL_CONTEXT = decimal.Context(prec=2 * QUANTITY_DIGITS_MAX + AMOUNT_SCALE)


def minor_digits(currency: str) -> int:
    """Decimals of the currency's minor unit (ISO 4217): USD 2, JPY 0, KWD 3.

    Raises InputError for a code that does not exist and for one without a minor unit (gold, test codes).
    """
    try:
        exponent = iso_digits(currency)
    except KeyError:
        raise InputError(f"{currency!r} is not a currency", do="Use an ISO 4217 code such as USD.") from None
    if exponent is None:
        raise InputError(f"{currency} has no minor unit, so nothing can be billed in it", do="Bill in a currency.")
    return exponent


def minor_to_text(minor: int, digits: int) -> str:
    """Minor units as decimal text that keeps every decimal: ``(1230, 2) -> "12.30"``, ``(5, 0) -> "5"``."""
    sign, text = "-" if minor < 0 else "", str(abs(minor)).rjust(digits + 1, "0")
    return f"{sign}{text[:-digits]}.{text[-digits:]}" if digits else sign + text


def minor_from_text(text: str, digits: int) -> int:
    """Inverse of ``minor_to_text``. Raises InputError if the text has more than ``digits`` decimals."""
    return text_to_scaled(text, digits)


def format_money(
    minor: int, currency: str, *, digits: int | None = None, symbol: str | None = None, locale: str = "en"
) -> str:
    """Money with its symbol as a person reads it: ``(123450, "USD") -> "$1,234.50"``, ``(5, "JPY") -> "¥5"``.

    The decimals are ISO 4217's, not the locale data's (which shows IQD, UGX and others differently), or ``digits``:
    what was stored with an invoice holds even when the currency changes. ``symbol`` says that it is no ISO currency and
    what stands before its amounts ("": its code): ``(12345, "XCR", digits=4, symbol="") -> "XCR 1.2345"``.
    """
    places = minor_digits(currency) if digits is None else digits
    if symbol is not None:
        sign = "-" if minor < 0 else ""
        return f"{sign}{symbol or currency}\u00a0{format_amount(abs(minor), places, locale)}"
    babel_locale = Locale.parse(locale)
    pattern = copy.copy(babel_locale.currency_formats["standard"])
    pattern.frac_prec = (places, places)
    with decimal.localcontext(_DECIMAL_CONTEXT):
        text = str(pattern.apply(_exact(minor, places), babel_locale, currency=currency, currency_digits=False))
    return _LETTER_THEN_DIGIT.sub("\u00a0", text)


def format_amount(minor: int, digits: int, locale: str = "en") -> str:
    """An amount without symbol, grouped, all decimals kept: ``(123450, 2) -> "1,234.50"``."""
    pattern = "#,##0." + "0" * digits if digits else "#,##0"
    with decimal.localcontext(_DECIMAL_CONTEXT):
        return format_decimal(_exact(minor, digits), pattern, locale=locale)


def format_exact(text: str, locale: str = "en") -> str:
    """Plain decimal text, grouped, every digit kept: ``"1234.000000001" -> "1,234.000000001"``."""
    with decimal.localcontext(_DECIMAL_CONTEXT):
        return format_decimal(Decimal(text), locale=locale, decimal_quantization=False)


def _exact(minor: int, digits: int) -> Decimal:
    # Babel rounds half-even while it formats; a value that already has exactly these decimals leaves it nothing to do.
    return Decimal(minor_to_text(minor, digits))
