"""How invoices are numbered, and how their check tells what is missing or different; no database."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.billing.check import _check_counter, _compare, _LineKey, _LineSum
from lineitem.billing.history import cut_text, parse_cut
from lineitem.billing.run import BillingResult, number_text, series_of
from tests.billing.samples import OCTOBER

KEY = _LineKey(OCTOBER.index, "standard", "web", "requests", "request", "USD")


@pytest.mark.parametrize(
    ("issuer", "series"),
    [({}, "INV-2026"), ({"series": "NW"}, "NW-2026"), ({"series": "  "}, "INV-2026"), ({"name": "N"}, "INV-2026")],
)
def test_a_series_is_the_issuers_word_and_the_periods_year(issuer: dict[str, str], series: str) -> None:
    """`issuer.series` of the catalog, else INV."""
    assert series_of(issuer, OCTOBER) == series


def test_numbers_are_padded_and_never_cut() -> None:
    """Six digits, more once a million invoices are out."""
    assert number_text("INV-2026", 1) == "INV-2026-000001"
    assert number_text("INV-2026", 1_234_567) == "INV-2026-1234567"


@given(st.dictionaries(st.integers(0, 32_767), st.integers(0, 2**62)))
def test_a_cut_survives_being_stored(cut: dict[int, int]) -> None:
    """Whatever the lanes and their order."""
    assert parse_cut(cut_text(cut)) == cut
    assert cut_text(dict(reversed(cut.items()))) == cut_text(cut)


def test_open_periods_are_named_by_number() -> None:
    """Those the command line warns about."""
    made = BillingResult([{"number": "A", "open_period": True}, {"number": "B", "open_period": False}])
    assert made.open_periods == ["A"]


@given(st.sets(st.integers(1, 60)), st.integers(0, 70))
def test_a_series_without_gap_has_nothing_to_say_and_any_other_has(taken: set[int], last: int) -> None:
    """Numbers 1 to the counter, each once: anything else is told, and only that."""
    told = list(_check_counter("default", "INV-2026", last, sorted(taken)))
    assert (not told) == (taken == set(range(1, last + 1)))
    assert len(told) <= len(taken) + 2


def test_missing_numbers_are_told_as_ranges() -> None:
    """Even when a counter was set absurdly far ahead."""
    assert list(_check_counter("default", "S-1", 10**15, [1, 3])) == [
        "invoice S-1-000002 of default is missing from its series",
        "invoices S-1-000004 to S-1-1000000000000000 of default are missing from their series",
    ]


def test_lines_are_compared_by_amount_quantity_and_count() -> None:
    """Each difference is told once, by the line's price and service month."""
    line = _LineSum(3, Fraction(1500), 2_500_000_000)
    said = {KEY: line}
    assert list(_compare(said, said)) == []
    assert list(_compare(said, {KEY: line._replace(amount_nano=1)})) == [
        "line web of 2026-10 says 2.5 USD, its line items come to 0.000000001"
    ]
    for other in (line._replace(line_items=4), line._replace(quantity=Fraction(1501))):
        assert "another quantity or count" in next(_compare(said, {KEY: other}))
    assert list(_compare(said, {})) == ["line web of 2026-10 has no line items in the ledger"]
    assert "is missing, the ledger has 3 line items" in next(_compare({}, said))
