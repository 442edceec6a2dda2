"""Rates files are read whole or refused, line by line."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.catalog.rate_file import Rate, parse_rates
from lineitem.core.errors import InputError

HEADER = "date,base,quote,rate,source\n"


def test_rates_are_read_exactly() -> None:
    """Columns in any order, a byte order mark, the same twice, eighteen decimals."""
    text = "\ufeffsource,date,quote,base,rate\necb,2026-10-30,USD,EUR,1.0800\necb,2026-10-30,USD,EUR,1.08\n"
    text += "bank,2026-10-30,EUR,KWD,2.999999999999999999\n"
    assert parse_rates(text.encode(), "f") == [
        Rate("bank", "KWD", "EUR", date(2026, 10, 30), Decimal("2.999999999999999999")),
        Rate("ecb", "EUR", "USD", date(2026, 10, 30), Decimal("1.08")),
    ]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("2026-10-30,EUR,USD,0,ecb", "above zero"),
        ("2026-10-30,EUR,USD,-1,ecb", "cannot be used"),
        ("2026-10-30,EUR,USD,nan,ecb", "not a decimal number"),
        ("2026-10-30,EUR,USD,1.0000000000000000001,ecb", "cannot be used"),
        ("2026-10-30,EUR,USD,100000000000000000000,ecb", "digits before the point"),
        ("2026-10-30,EUR,EUR,1,ecb", "same currency"),
        ("2026-10-30,EUR,ZZZ,1,ecb", "quote: 'ZZZ' is neither"),
        ("2026-10-30,eur,USD,1,ecb", "base: 'eur' is neither"),
        ("2026-02-30,EUR,USD,1,ecb", "not a date"),
        ("30.10.2026,EUR,USD,1,ecb", "not a date"),
        ("2026-10-30,EUR,USD,1,", "no name"),
        ("2026-10-30,EUR,USD,1", "has not 5 values"),
        ("2026-10-30,EUR,USD,1,ecb,6", "has not 5 values"),
        ("2026-10-30,EUR,USD,1,ecb\n2026-10-30,EUR,USD,1.1,ecb", "is 1.1 here and 1 above"),
    ],
)
def test_a_bad_line_is_named(row: str, told: str) -> None:
    """What is wrong and where; nothing of the file is taken."""
    with pytest.raises(InputError, match=told) as caught:
        parse_rates((HEADER + row + "\n").encode(), "rates.csv")
    assert "rates.csv:" in caught.value.what


@pytest.mark.parametrize("raw", [b"", b"date,base\n", b"a,b,c,d,e\n", b"\xff\xfe"])
def test_another_kind_of_file_is_refused(raw: bytes) -> None:
    """Not one of rates."""
    with pytest.raises(InputError):
        parse_rates(raw, "rates.csv")


def test_currencies_of_the_catalog_and_retired_ones_have_rates() -> None:
    """A credit is worth so and so much; a bank's history goes back to the mark."""
    text = HEADER + "2026-10-30,XCR,USD,0.01,contract\n1998-12-31,DEM,USD,0.6,ecb\n"
    assert len(parse_rates(text.encode(), "f", ["XCR"])) == 2
    with pytest.raises(InputError, match="XCR"):
        parse_rates(text.encode(), "f")


@given(st.decimals(min_value="0.000000000000000001", max_value="99999999999999999999", places=18, allow_nan=False))
def test_any_rate_survives(value: Decimal) -> None:
    """No digit is lost on the way in or out."""
    (found,) = parse_rates(f"{HEADER}2026-10-30,EUR,USD,{value:f},ecb\n".encode(), "f")
    assert found.rate == value
    assert Decimal(found.text) == value


def test_the_shipped_sample_is_marked_as_made_up(repository: Path) -> None:
    """Every rate of it names its source so."""
    raw = (repository / "src/lineitem/data/samples/fx-made-up.csv").read_bytes()
    assert {one.source for one in parse_rates(raw, "sample")} == {"made-up"}
