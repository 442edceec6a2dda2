"""Differences between the ledger and a draft: their sums, their order, their percentages."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.core.money import nano_to_text
from lineitem.core.reasons import Reason
from lineitem.ledger.shadow_rows import Difference, Trial, largest_first, percent, totals

AMOUNTS = st.integers(0, 10**30)
ROWS = st.lists(
    st.builds(
        Difference, st.sampled_from("abc"), st.sampled_from("pq"), st.sampled_from(["EUR", "USD"]), AMOUNTS, AMOUNTS
    ),
    max_size=12,
)


@given(ROWS)
def test_totals_are_the_sums_of_the_rows(rows: list[Difference]) -> None:
    """Per currency, exactly; the largest delta is one of theirs; an account changes when any price of it does."""
    found = {total.currency: total for total in totals(rows)}
    assert list(found) == sorted({row.currency for row in rows})
    for currency, total in found.items():
        mine = [row for row in rows if row.currency == currency]
        assert total.live_nano == sum(row.live_nano for row in mine)
        assert total.draft_nano == sum(row.draft_nano for row in mine)
        assert abs(total.max_delta_nano) == max(abs(row.delta_nano) for row in mine)
        assert total.accounts == len({row.account for row in mine})
        assert total.accounts_changed == len({row.account for row in mine if row.delta_nano})
        assert total.document()["delta"] == nano_to_text(total.draft_nano - total.live_nano)


@given(ROWS)
def test_the_largest_change_comes_first(rows: list[Difference]) -> None:
    """Whatever its sign; nothing is lost, and the order does not depend on the order before."""
    ordered = largest_first(rows)
    sizes = [abs(row.delta_nano) for row in ordered]
    assert sizes == sorted(sizes, reverse=True)
    assert Counter(map(str, ordered)) == Counter(map(str, rows))
    assert [abs(row.delta_nano) for row in largest_first(reversed(rows))] == sizes


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (1, 3, "33.33"),
        (-1, 3, "-33.33"),
        (1, 1, "100"),
        (1, 16, "6.25"),
        (1, 80_000, "0"),
        (1, 20_000, "0.01"),
        (-1, 20_000, "-0.01"),
        (5, 0, None),
        (0, 0, None),
        (0, 7, "0"),
    ],
)
def test_percent_is_rounded_to_two_decimals(part: int, whole: int, text: str | None) -> None:
    """Halves away from zero; of nothing there is no share."""
    assert percent(part, whole) == text


def test_a_trial_as_json() -> None:
    """Money is text; reasons are counted by their code; a draft that would be refused is not publishable."""
    row = Difference("a", "p", "USD", 10**9, 5 * 10**8, events=4, draft_events=3, zero_priced=1, unpriced=1)
    losses = {"unpriced": 1, "not_billable": 0, "dead_lettered": 0}
    trial = Trial("d.yaml", ["no"], [row], 3, losses, Counter({Reason.NO_PRICE: 1}))
    assert trial.document() == {
        "draft": "d.yaml", "publishable": False, "refusals": ["no"], "draft_events": 3, "zero_priced": 1,
        "unpriced": 1, "not_billable": 0, "dead_lettered": 0, "reasons": {"no_price": 1},
        "totals": [
            {"currency": "USD", "live": "1", "draft": "0.5", "delta": "-0.5", "delta_percent": "-50",
             "max_delta": "-0.5", "accounts": 1, "accounts_changed": 1},
        ],
    }  # fmt: skip
    assert row.document()["delta"] == "-0.5"
