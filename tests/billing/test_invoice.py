"""An invoice is the sum of its rounded lines, whatever order its line items came in, and survives being stored."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.billing.currency import minor_digits
from lineitem.billing.invoice import (
    Status,
    canonical_bytes,
    canonical_json,
    finalise,
    invoice_from_json,
    invoice_to_json,
)
from lineitem.billing.rounding import RoundingMode
from lineitem.core.errors import InputError, IntegrityError
from lineitem.core.money import round_half_away
from lineitem.core.period import Month
from tests.billing.samples import ACCOUNT, ISSUED_AT_US, ISSUER, OCTOBER, SEPTEMBER, final, priced, review

sums = st.lists(
    st.builds(
        priced,
        st.sampled_from("abcd"),
        st.integers(-(10**37), 10**37) | st.integers(-(10**10), 10**10),
        quantity=st.integers(-(10**37), 10**37),
        scale=st.sampled_from([0, 3, 9]),
        versions=st.lists(st.integers(1, 3), max_size=2).map(tuple),
        service_month=st.sampled_from([Month(2026, 8), SEPTEMBER, OCTOBER]),
        kind=st.sampled_from(["usage", "recurring"]),
        pricebook=st.sampled_from(["standard", "custom"]),
    ),
    max_size=12,
)


@given(sums, st.sampled_from(["USD", "JPY", "KWD"]), st.sampled_from(RoundingMode))
def test_totals_law(some, currency, mode):
    """Total = sum of rounded lines; exact sum = total + residual total; nothing claimed is lost. In exact fractions."""
    invoice = review(some, currency, mode=mode)
    unit = Fraction(1, 10 ** minor_digits(currency))
    exact = sum((Fraction(one.amount_nano, 10**9) for one in some), Fraction(0))
    assert invoice.total_minor == sum(line.amount_minor for line in invoice.lines)
    assert exact == invoice.total_minor * unit + Fraction(invoice.residual_total_nano, 10**9)
    assert sum(line.line_items for line in invoice.lines) == sum(one.line_item_count for one in some)
    quantity = sum((Fraction(one.quantity, 10**one.scale) for one in some), Fraction(0))
    assert quantity == sum((Fraction(line.quantity) for line in invoice.lines), Fraction(0))
    for line in invoice.lines:
        assert Fraction(line.amount_nano, 10**9) == line.amount_minor * unit + Fraction(line.residual_nano, 10**9)
        assert abs(Fraction(line.residual_nano, 10**9)) <= unit / 2


@given(sums, st.randoms(use_true_random=False))
def test_order_does_not_matter(some, random):
    """Any permutation of the sums gives the same invoice, down to its digest."""
    shuffled = list(some)
    random.shuffle(shuffled)
    assert review(shuffled) == review(some)


@given(st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=9))
def test_split_does_not_matter(parts_nano):
    """However a price's usage is split into sums and kinds, it becomes one line that is rounded once."""
    kinds = ["usage", "reversal", "recurring"]
    (line,) = review([priced("a", part, kind=kinds[i % 3]) for i, part in enumerate(parts_nano)]).lines
    assert line.amount_minor == round_half_away(sum(parts_nano), 10**7)


@given(sums)
def test_stored_invoice_is_read_back_the_same(some):
    """Invoice -> JSON text -> invoice changes nothing."""
    invoice = final(some)
    assert invoice_from_json(json.loads(canonical_json(invoice_to_json(invoice)))) == invoice


def test_adv_05_rounding_every_event_would_lose_the_whole_sum():
    """Vector adv-05: 1,000 events at 0.004 are 4.00 (400 cents); each rounded alone they are 0."""
    events = [priced("a", 4_000_000, quantity=1, line_item_count=1) for _ in range(1000)]
    assert sum(line.amount_minor for event in events for line in review([event]).lines) == 0
    invoice = review(events)
    assert (invoice.total_minor, invoice.lines[0].quantity, invoice.lines[0].line_items) == (400, "1000", 1000)


def test_cur_02_yen_have_no_decimals():
    """Vector cur-02: 4.39999 yen are billed as 4."""
    document = invoice_to_json(review([priced("a", 4_399_990_000)], "JPY"))
    assert (document["total"], document["lines"][0]["residual"]) == ("4", "0.39999")


def test_cur_03_exact_cents():
    """Vector cur-03: 10,655.24 credits at 0.0075 are 79.9143 dollars, 7991 cents."""
    assert review([priced("a", round_half_away(1_065_524 * 75 * 10**9, 10**6))]).total_minor == 7991


def test_dinars_have_three_decimals():
    """KWD 1.2345 is billed as 1.235."""
    assert invoice_to_json(review([priced("a", 1_234_500_000)], "KWD"))["total"] == "1.235"


@pytest.mark.parametrize(
    ("amount_nano", "total", "residual"),
    [(-5_000_000, "-0.01", "0.005"), (-1_005_000_000, "-1.01", "0.005"), (-4_999_999, "0.00", "-0.004999999")],
)
def test_negative_lines_round_away_from_zero(amount_nano, total, residual):
    """A credit rounds like the charge it mirrors."""
    document = invoice_to_json(review([priced("a", amount_nano)]))
    assert (document["total"], document["residual_total"]) == (total, residual)


def test_billions():
    """Amounts beyond 64 bits stay exact to the last nano-unit."""
    document = invoice_to_json(review([priced("a", 9_223_372_036_854_775_808_123_456_789)]))
    assert document["total"] == "9223372036854775808.12"
    assert document["lines"][0]["amount_exact"] == "9223372036854775808.123456789"


def test_corrections_come_last_and_name_their_service_period():
    """Earlier months are lines of their own, oldest first, after this period's; the rest is ordered by price."""
    some = [
        priced("b", 10**9, service_month=SEPTEMBER),
        priced("b", 10**9),
        priced("a", 10**9, service_month=Month(2026, 8)),
        priced("a", 10**9, kind="recurring"),
        priced("c", 10**9, kind="reversal"),
        priced("c", 10**9),
    ]
    lines = review(some).lines
    assert [(line.line, line.price, str(line.service_period), line.kind) for line in lines] == [
        (1, "a", "2026-10", "recurring"),
        (2, "b", "2026-10", "usage"),
        (3, "c", "2026-10", "usage"),
        (4, "a", "2026-08", "correction"),
        (5, "b", "2026-09", "correction"),
    ]


def test_the_newest_description_speaks_for_the_line():
    """A description that changed between versions is the newest one's; the line names every version."""
    old, new = priced("a", 1, description="old", versions=(1,)), priced("a", 1, description="new", versions=(2,))
    (line,) = review([new, old]).lines
    assert (line.description, line.versions) == ("new", (1, 2))


def test_shape():
    """The JSON contract: money and quantities are strings, counts are integers."""
    document = invoice_to_json(final([priced("a", 2_345_678_901, quantity=1_500_000, scale=3)]))
    digest = document.pop("digest")
    assert len(digest) == 64
    assert document == {
        "schema": 1,
        "number": "INV-2026-000042",
        "status": "final",
        "account": "team-1",
        "account_name": "Team One SAS",
        "tags": {"cost_center": "42"},
        "currency": "USD",
        "period": "2026-10",
        "period_start": "2026-09-30T22:00:00Z",
        "period_end": "2026-10-31T23:00:00Z",
        "timezone": "Europe/Paris",
        "issued_at": "2026-11-02T00:00:00Z",
        "due_at": "2026-12-02T00:00:00Z",
        "issuer": ISSUER,
        "lines": [
            {
                "line": 1,
                "price": "a",
                "description": "Usage of a",
                "meter": "a_meter",
                "unit": "token",
                "quantity": "1500",
                "amount_exact": "2.345678901",
                "amount": "2.35",
                "residual": "-0.004321099",
                "pricebook": "standard",
                "versions": [1],
                "line_items": 3,
                "service_period": "2026-10",
                "kind": "usage",
            }
        ],
        "rounding": {"mode": "half_up", "minor_digits": 2},
        "subtotal": "2.35",
        "total": "2.35",
        "residual_total": "-0.004321099",
        "cut": {"0": 12, "1": 845, "10": 7},
    }


def test_due_date_keeps_the_issuers_wall_clock():
    """Net 30 counts calendar days: issued 00:30 in Berlin in summer time, due 00:30 in winter time."""
    issued_at_us = ISSUED_AT_US - 20 * 86_400_000_000 - 5_400_000_000  # 2026-10-12T22:30Z, 00:30 on the 13th
    document = invoice_to_json(review([priced("a", 10**9)], issued_at_us=issued_at_us))
    assert (document["issued_at"], document["due_at"]) == ("2026-10-12T22:30:00Z", "2026-11-11T23:30:00Z")
    assert invoice_to_json(review([priced("a", 10**9)], net_days=0))["due_at"] == "2026-11-02T00:00:00Z"


@pytest.mark.parametrize("some", [[], [priced("a", 0)], [priced("a", -(10**9))]])
def test_nothing_to_pay_has_no_due_date(some):
    """Zero and negative totals are never due."""
    assert review(some).due_at_us is None


def test_number_is_given_once_and_changes_no_content():
    """In review the number is null; finalising keeps digest and hashed bytes, and happens once."""
    draft = review([priced("a", 10**9)])
    sent = finalise(draft, "INV-1")
    assert (draft.number, draft.status, invoice_to_json(draft)["number"]) == (None, Status.REVIEW, None)
    assert (sent.number, sent.status, sent.digest) == ("INV-1", Status.FINAL, draft.digest)
    assert canonical_bytes(sent) == canonical_bytes(draft)
    with pytest.raises(InputError, match="INV-1 is final"):
        finalise(sent, "INV-2")


@pytest.mark.parametrize(
    "change",
    [
        {"account": replace(ACCOUNT, name="Team Two")},
        {"issuer": {**ISSUER, "payment": "IBAN of somebody else"}},
        {"cut": {0: 12, 1: 846, 10: 7}},
        {"issued_at_us": ISSUED_AT_US + 1},
        {"net_days": 31},
        {"mode": RoundingMode.HALF_EVEN},
    ],
)
def test_digest_covers_everything_that_is_sent(change):
    """Two invoices that differ anywhere have different digests."""
    some = [priced("a", 10**9)]
    assert review(some, **change).digest != review(some).digest


def test_altered_document_is_found():
    """Changing any field of a stored document, or dropping it, is noticed when it is read."""
    document = json.loads(json.dumps(invoice_to_json(final([priced("a", 2_345_678_901)]))))
    for key in document.keys() - {"number", "status"}:
        altered, shortened = copy.deepcopy(document), copy.deepcopy(document)
        altered[key] = {"x": "y"} if isinstance(document[key], dict) else "2.36"
        del shortened[key]
        for broken in (altered, shortened):
            with pytest.raises(IntegrityError, match="INV-2026-000042"):
                invoice_from_json(broken)
    line = copy.deepcopy(document)
    line["lines"][0]["amount"] = "2.34"
    with pytest.raises(IntegrityError, match="not what was written"):
        invoice_from_json(line)


def test_canonical_json_is_rfc_8785():
    """Keys in UTF-16 order (a supplementary character sorts before U+FB33), UTF-8 unescaped, controls escaped."""
    assert canonical_json({"\ufb33": 1, "😀": 2, "b": ["é", None], "a": "\n\x01"}) == (
        '{"a":"\\n\\u0001","b":["é",null],"😀":2,"\ufb33":1}'.encode()
    )


def test_input_that_cannot_be_billed():
    """A currency or an issuer's zone that does not exist is a clear error."""
    with pytest.raises(InputError, match="'XYZ' is not a currency"):
        review([], "XYZ")
    with pytest.raises(InputError, match="Mars"):
        review([], issuer={"timezone": "Mars/Olympus"})
