"""Whom a changed price concerns: the accounts that have it, without those whose own price takes its place."""

from __future__ import annotations

from typing import Any

from lineitem.catalog.diff import diff
from lineitem.catalog.load import parse_catalog
from lineitem.catalog.model import Catalog
from lineitem.catalog.reach import Usage, summed, with_reach
from tests.catalog.test_diff import OLD

LATER = """\
  - {id: std, version: 2, effective_from: 2026-06-01T00:00:00Z, prices: [
      {id: call, meter: calls, model: per_unit, unit_price: "0.20"},
      {id: gone, meter: old, model: per_unit, unit_price: 1}]}
accounts:"""
OWN = """{id: b, overrides: [{version: 1, effective_from: 2026-05-01T00:00:00Z, prices: [
      {id: call, meter: calls, model: per_unit, unit_price: "0.05"}]}]}"""


def catalog(text: str) -> Catalog:
    return parse_catalog(text, "c.yaml")


def reached(old: Catalog, new: Catalog, accounts: dict[str, str | None], usage: Usage) -> dict[str, dict[str, Any]]:
    changes = with_reach(diff(old, new), new, old.pricebooks, {}, accounts, usage)
    return {change.id: change.document()["affects"] for change in changes if change.what == "price"}


def test_a_new_version_concerns_the_accounts_of_its_pricebook() -> None:
    """Those the file lists and those the ledger knows; five are named, all are counted."""
    new = catalog(OLD.replace("accounts:", LATER))
    seen: dict[str, str | None] = {"elsewhere": "other", "none": None, **{f"seen-{n}": "std" for n in range(5)}}
    usage = Usage("2026-05", {("std", "call"): {"unit": (1500, 2)}})
    assert reached(catalog(OLD), new, seen, usage) == {
        "std@2/call": {
            "accounts": 7, "first": ["a", "b", "seen-0", "seen-1", "seen-2"], "by_default": True,
            "since": "2026-06-01T00:00:00Z", "period": "2026-05", "usage": [{"quantity": "15", "unit": "unit"}],
        }
    }  # fmt: skip


def test_an_override_concerns_its_account() -> None:
    """With what that account used under any pricebook; a later version of the pricebook then leaves it out."""
    with_own = catalog(OLD.replace("{id: b}", OWN))
    usage = Usage("2026-05", {}, {("b", "call"): {"unit": (3, 0)}})
    (affects,) = reached(catalog(OLD), with_own, {}, usage).values()
    assert (affects["accounts"], affects["first"], affects["by_default"]) == (1, ["b"], False)
    assert (affects["since"], affects["usage"]) == ("2026-05-01T00:00:00Z", [{"quantity": "3", "unit": "unit"}])
    later = catalog(OLD.replace("accounts:", LATER).replace("{id: b}", OWN))
    assert reached(with_own, later, {}, usage)["std@2/call"]["first"] == ["a"]


def test_an_override_is_compared_with_what_it_replaces() -> None:
    """The price of its id in the account's pricebook; a second version with the first."""
    changes = diff(catalog(OLD), catalog(OLD.replace("{id: b}", OWN.replace("{id: b,", "{id: b, pricebook: std,"))))
    assert [change.text() for change in changes if change.what == "price"] == [
        "changed price @account/b@1/call\n  unit_price: 0.1 -> 0.05"
    ]


def test_reach_in_words() -> None:
    """Below the fields of the change."""
    new = catalog(OLD.replace("accounts:", LATER))
    (_, change) = with_reach(diff(catalog(OLD), new), new, (), {}, {}, Usage("2026-05"))
    assert change.text().splitlines() == [
        "changed price std@2/call", "  unit_price: 0.1 -> 0.2",
        "  for 2 accounts (a, b) and new ones from 2026-06-01T00:00:00Z", "  in 2026-05: no usage",
    ]  # fmt: skip


def test_quantities_of_several_scales_add_up() -> None:
    """1.5 and 2 are 3.5; units stay apart."""
    rows = [("b", "p", "GB", 1, 15), ("b", "p", "GB", 0, 2), ("b", "p", "MB", 0, 7), ("c", "p", "GB", 0, 1)]
    assert summed(rows) == {("b", "p"): {"GB": (35, 1), "MB": (7, 0)}, ("c", "p"): {"GB": (1, 0)}}
