"""Currencies: ISO 4217 and what a catalog adds to it, with the decimals of each."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache

from lineitem.catalog.price_reader import shorten

RETIRED_MINOR_DIGITS = {
    "ANG": 2, "ATS": 2, "BEF": 0, "BGN": 2, "CUC": 2, "CYP": 2, "DEM": 2, "EEK": 2, "ESP": 0, "FIM": 2, "FRF": 2,
    "GRD": 0, "HRK": 2, "IEP": 2, "ITL": 0, "LTL": 2, "LUF": 0, "LVL": 2, "MTL": 2, "NLG": 2, "PTE": 0, "SIT": 2,
    "SKK": 2, "SLL": 2, "VEF": 2, "ZWL": 2,
}  # fmt: skip
"""Currencies withdrawn from ISO 4217 (its list three) that old invoices may still be in, with the decimals they had."""

CODE_PATTERN = re.compile(r"[A-Z0-9]{2,10}", re.ASCII)
"""What the code of a currency of a catalog's own may look like."""
CODE_RULE = "use 2 to 10 upper-case letters and digits"
"""The same in words."""


@cache
def current_digits(code: str) -> int | None:
    """Decimals of an ISO 4217 currency's minor unit: USD 2, JPY 0, KWD 3.

    None for a code without a minor unit (gold, test codes). Raises KeyError for a code that is not on the list.
    """
    from iso4217 import Currency  # reads an XML table: only once a currency is really looked at

    try:
        exponent = Currency(code).exponent
    except ValueError:
        raise KeyError(code) from None
    return None if exponent is None else int(exponent)


def iso_digits(code: str) -> int | None:
    """The same, retired currencies included."""
    return RETIRED_MINOR_DIGITS[code] if code in RETIRED_MINOR_DIGITS else current_digits(code)


def is_iso(code: str) -> bool:
    """Whether ISO 4217 knows the code, now or formerly, with or without a minor unit."""
    try:
        iso_digits(code)
    except KeyError:
        return False
    return True


def currency_problem(code: str, own: Collection[str] = ()) -> str | None:
    """Why nothing can be priced or invoiced in ``code``, or None if it can: ISO 4217 with a minor unit, or one's ``own``."""
    if code in own:
        return None
    try:
        digits = current_digits(code)
    except KeyError:
        return f"{shorten(code)} is not an ISO 4217 currency code"
    return None if digits is not None else f"{code} has no minor unit, so it cannot be invoiced"
