"""Prepaid credit on an invoice: rounded with what it pays, behind the other lines, read back as it was written."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lineitem.billing.credits import CREDIT, credits_minor
from lineitem.billing.document_text import invoice_view
from lineitem.billing.invoice import Invoice, PricedSum, build_invoice, invoice_from_json, invoice_to_json
from lineitem.billing.rounding import RoundingMode, round_to_minor
from lineitem.catalog.model import Account
from lineitem.core.period import Month

OCTOBER = Month(2026, 10)
CENT = 10_000_000


def usage(price: str, nano: int, month: Month = OCTOBER) -> PricedSum:
    """A price's line items."""
    return PricedSum(price, "m", price, "unit", 1, 0, nano, "book", (1,), 1, month, "usage", "USD")


def credit(grant: str, nano: int, month: Month = OCTOBER) -> PricedSum:
    """What was drawn of a grant."""
    return PricedSum(grant, "", f"Credit {grant}", "", 0, 0, nano, "@grant", (1,), 1, month, CREDIT, "USD")


def invoice(*sums: PricedSum) -> Invoice:
    """An invoice of October."""
    account = Account("acme", "Acme", "book", "UTC", "monthly", ())
    bounds = OCTOBER.bounds_us("UTC")
    return build_invoice(
        sums,
        account=account,
        issuer={},
        period=OCTOBER,
        bounds_us=bounds,
        currency="USD",
        cut={0: 1},
        issued_at_us=bounds[1],
    )


def test_credit_comes_last_and_the_total_is_what_is_left() -> None:
    """A line per grant, of kind credit whatever month it pays for; ``credits`` is what they come to."""
    made = invoice(
        credit("a", -3 * 10**9),
        usage("z", 7 * 10**9),
        credit("a", -(10**9), Month(2026, 9)),
        usage("y", 2 * 10**9, Month(2026, 9)),
    )
    told = [(line.price, line.kind, line.amount_minor) for line in made.lines]
    assert told == [("z", "usage", 700), ("y", "correction", 200), ("a", "credit", -300), ("a", "credit", -100)]
    document = invoice_to_json(made)
    assert (document["total"], document["credits"]) == ("5.00", "-4.00")
    assert invoice_from_json(document) == made
    view = invoice_view(made)
    assert view["sections"][-1]["heading"] == "Prepaid credit"
    assert view["totals"] == [["Subtotal", "$9.00"], ["Prepaid credit", "-$4.00"]]
    assert [row["quantity"] for row in view["sections"][-1]["rows"]] == [["", ""]] * 2


def test_an_invoice_without_credit_is_what_it_was() -> None:
    """No key more: what was sent keeps its digest."""
    assert "credits" not in invoice_to_json(invoice(usage("z", 7)))


def test_what_is_paid_in_full_leaves_nothing() -> None:
    """0.004 three times is 0.00 three times; the credit of 0.012 would be -0.01 alone. 0.006 likewise the other way."""
    for nano in (4_000_000, 6_000_000):
        made = invoice(*(usage(price, nano) for price in "xyz"), credit("a", -2 * nano), credit("b", -nano))
        assert made.total_minor == 0
        assert made.residual_total_nano == 0


_NANO = st.integers(0, 30 * CENT)


@given(st.lists(_NANO, max_size=6), st.lists(_NANO, max_size=4), st.sampled_from(list(RoundingMode)))
def test_credit_never_makes_a_debt_a_credit(owed: list[int], wanted: list[int], mode: RoundingMode) -> None:
    """Credit within what is owed: the total is not below zero, nor above the rounded lines; nothing left is nothing."""
    left, drawn = sum(owed), []
    for nano in wanted:
        drawn.append(-min(nano, left))
        left += drawn[-1]
    minor = sum(round_to_minor(nano, 2, mode).minor for nano in owed)
    found = credits_minor(sum(owed), minor, drawn, 2, mode)
    assert len(found) == len(drawn)
    if any(drawn):
        assert minor + sum(found) >= 0
        assert left or minor + sum(found) == 0
    whole = [nano - nano % CENT for nano in owed]
    if sum(whole) + sum(nano - nano % CENT for nano in drawn) >= 0:
        exact = [nano - nano % CENT for nano in drawn]
        assert credits_minor(sum(whole), sum(whole) // CENT, exact, 2, mode) == [nano // CENT for nano in exact]


def test_an_altered_credit_line_is_no_longer_the_document() -> None:
    """The total of credit is part of what is compared."""
    made = invoice(usage("z", 7 * 10**9), credit("a", -(10**9)))
    forged = replace(made, lines=(made.lines[0], replace(made.lines[1], kind="usage")))
    assert invoice_to_json(forged) != invoice_to_json(made)
