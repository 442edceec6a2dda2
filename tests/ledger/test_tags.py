"""Coverage, drift and cost centres from sums by tag set."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from lineitem.catalog.cost_centers import CostCenters
from lineitem.catalog.model import CostCenterRule
from lineitem.ledger.tags import Sum, by_cost_center, by_value, share_text

SUMS = st.lists(
    st.builds(
        Sum, st.dictionaries(st.sampled_from("ab"), st.sampled_from(["", "x", "y", "untagged"])),
        st.sampled_from(["EUR", "USD"]), st.integers(0, 1), st.integers(1, 9), st.integers(-(10**12), 10**12),
    )
)  # fmt: skip


@given(SUMS)
def test_nothing_is_counted_twice_or_lost(sums: list[Sum]) -> None:
    """For each key, and over all cost centres, parts add up to the whole, currency by currency."""
    whole: dict[str, tuple[int, int]] = {}
    for one in sums:
        line_items, nano = whole.get(one.currency, (0, 0))
        whole[one.currency] = (line_items + one.line_items, nano + one.amount_nano)
    for (_, currency), parts in by_value(sums, ["a", "c"]).items():
        added = (sum(part.line_items for part in parts.values()), sum(part.amount_nano for part in parts.values()))
        assert added == whole[currency]
        assert "" not in parts
    centers = CostCenters(
        [CostCenterRule("1", (("a", "x"),), effective_from_us=5), CostCenterRule("2", (("b", "y"), ("a", "x")))]
    )
    found = by_cost_center(sums, centers)
    assert {row["currency"] for row in found["cost_centers"] if row["cost_center"] == "unallocated"} == set(whole)
    for total in found["totals"]:
        rows = [row for row in found["cost_centers"] if row["currency"] == total["currency"]]
        assert sum(Fraction(row["amount"]) for row in rows) == Fraction(total["amount"])
        assert Fraction(total["amount"]) == Fraction(whole[total["currency"]][1], 10**9)
        assert sum(row["line_items"] for row in rows) == total["line_items"]


def test_shares_are_exact_to_six_decimals() -> None:
    """Halves away from zero; of a negative whole too; of nothing there is none."""
    assert [share_text(1, 3), share_text(-1, 3), share_text(1, 1), share_text(1, -2)] == [
        "33.333333",
        "-33.333333",
        "100",
        "-50",
    ]
    assert share_text(1, 2 * 10**8) == "0.000001"
    assert share_text(0, 0) is None
