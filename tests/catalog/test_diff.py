"""What a publish would change, in words and as JSON."""

from __future__ import annotations

import json

from lineitem.catalog.diff import diff
from lineitem.catalog.load import parse_catalog
from lineitem.catalog.model import Catalog

OLD = """\
currency: USD
meters:
  - {id: calls, event_type: api, aggregation: count}
  - {id: old, event_type: api, aggregation: count}
pricebooks:
  - {id: std, version: 1, effective_from: 2026-01-01T00:00:00Z, prices: [
      {id: call, meter: calls, model: per_unit, unit_price: "0.10"},
      {id: gone, meter: old, model: per_unit, unit_price: 1}]}
accounts:
  defaults: {pricebook: std}
  list: [{id: a, name: Ann, tags: {team: x}}, {id: b}]
issuer: {name: Me}
"""


def catalog(text: str = OLD) -> Catalog:
    return parse_catalog(text, "c.yaml")


def test_nothing_changes_nothing() -> None:
    """Another spelling of a number is no change."""
    assert diff(catalog(), catalog(OLD.replace('"0.10"', '"0.1"'))) == []


def test_a_first_catalog_is_all_added() -> None:
    """Every section, in the order of a file."""
    changes = diff(None, catalog())
    assert {change.action for change in changes} == {"added"}
    assert [f"{change.what} {change.id}".strip() for change in changes] == [
        "catalog", "meter calls", "meter old", "pricebook std@1", "price std@1/call", "price std@1/gone",
        "defaults", "account a", "account b", "issuer",
    ]  # fmt: skip
    assert changes[4].text().splitlines()[0] == "added price std@1/call"
    assert "  unit_price: 0.1" in changes[4].text().splitlines()


def test_a_change_names_old_and_new() -> None:
    """Field by field; what is the same is not mentioned."""
    new = OLD.replace("team: x", "team: y, cost: z").replace("name: Ann, ", "").replace("USD", "EUR")
    texts = [change.text() for change in diff(catalog(), catalog(new))]
    assert texts[0] == "changed catalog\n  currency: USD -> EUR"
    assert texts[-1] == "changed account a\n  name: Ann -> a\n  tags: team=x -> cost=z, team=y"


def test_removed_things_are_told() -> None:
    """By what they were."""
    new = OLD.replace("  - {id: old, event_type: api, aggregation: count}\n", "").replace(", {id: b}", "")
    new = new.replace(",\n      {id: gone, meter: old, model: per_unit, unit_price: 1}", "")
    assert [change.text() for change in diff(catalog(), catalog(new))] == [
        "removed meter old", "removed price std@1/gone", "removed account b",
    ]  # fmt: skip


def test_a_new_version_is_compared_with_the_one_before() -> None:
    """What changes for the accounts is told, not every price that goes on."""
    version = "  - {id: std, version: 2, effective_from: 2026-06-01T00:00:00Z, prices: [\n"
    version += "      {id: call, meter: calls, model: volume, tiers: [{up_to: 5, unit_price: 2}, {unit_price: 0}]}]}\n"
    changes = diff(catalog(), catalog(OLD.replace("accounts:", version + "accounts:")))
    tiers = "tiers: (none) -> (up_to 5, unit_price 2, flat_price 0), (up_to unbounded, unit_price 0, flat_price 0)"
    assert [change.text() for change in changes] == [
        "added pricebook std@2\n  effective_from: 2026-06-01T00:00:00Z",
        f"changed price std@2/call\n  model: per_unit -> volume\n  {tiers}\n  unit_price: 0.1 -> (none)",
        "removed price std@2/gone",
    ]


def test_tags_and_cost_centres_are_told() -> None:
    """An entry by its key and start; moving its start is another entry, ending it a change."""
    team = "{key: team, from: data.team, values: [a, b]%s}"
    old = f"tags: [{team % ''}]\ncost_centers: [{{when: {{team: a}}, cost_center: '1'}}]\n"
    new = f"tags: [{team % ', effective_until: 2026-06-01T00:00:00Z'}, {{key: team, effective_from: 2026-06-01T00:00:00Z}}]\n"
    new += "cost_centers: [{when: {team: a}, cost_center: '2'}, {when: {}, cost_center: '3'}]\n"
    assert [change.text() for change in diff(catalog(OLD + old), catalog(OLD + new))] == [
        "changed tag team\n  effective_until: (none) -> 2026-06-01T00:00:00Z",
        "added tag team@2026-06-01T00:00:00Z\n  unknown: accept",
        "added cost_center *\n  cost_center: 3",
        "changed cost_center team=a\n  cost_center: 1 -> 2",
    ]
    (first, *_) = diff(catalog(), catalog(OLD + old))
    assert first.text() == "added tag team\n  values: a, b\n  unknown: accept\n  from: data.team"


def test_changes_are_json() -> None:
    """One document per change; None where a field was not set."""
    (change,) = diff(catalog(), catalog(OLD.replace("issuer: {name: Me}", "issuer: {name: Me, email: a@b}")))
    assert json.loads(json.dumps(change.document())) == {
        "action": "changed", "what": "issuer", "id": "",
        "fields": [{"field": "email", "old": None, "new": "a@b"}],
    }  # fmt: skip
