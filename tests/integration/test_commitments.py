"""Commitments over several prices: what is missing is posted when a month is settled, and moves with late usage."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from lineitem.app import App
from lineitem.billing.run import invoices
from lineitem.catalog.canary import Bounds
from lineitem.catalog.load import parse_catalog
from lineitem.core.errors import Refused
from lineitem.core.period import Month
from lineitem.ledger.canary import Choice
from lineitem.ledger.explain import explain
from lineitem.ledger.rows import Kind
from tests.integration.drive import Space, World
from tests.integration.test_dues import catalog, posted, use

NOVEMBER = datetime(2026, 11, 2, tzinfo=UTC)
ONE = {"id": "one", "meter": "m", "model": "per_unit", "unit_price": "1"}
TWO = {"id": "two", "meter": "m", "model": "per_unit", "unit_price": "0.5"}
BASE = {"id": "base", "model": "flat", "amount": "10"}
OVER_ALL = {"id": "floor", "model": "commitment", "amount": "100"}


@pytest.fixture
def world(ledger: App) -> World:
    """A ledger to live in."""
    return World(ledger)


def floors(space: Space) -> list[tuple[str, ...]]:
    """The line items of the commitment: kind, service month, posting month, amount."""
    return [tuple(rest) for price, *rest in posted(space) if price == "floor"]


def test_what_all_prices_leave_open_is_posted_once(world: World) -> None:
    """30 of one, 15 of two: 55 of 100 are missing; late usage takes off what it adds, and what passes 100 is usage alone."""
    space = world.space(catalog(ONE, TWO, OVER_ALL), NOVEMBER)
    use(space, "e-1", "30")
    space.bill("2026-10")
    space.bill("2026-10")
    assert floors(space) == [("true_up", "2026-10", "2026-10", "55")]
    use(space, "e-2", "20")
    space.bill("2026-10")
    assert floors(space)[1:] == [("true_up", "2026-10", "2026-10", "-30")]
    use(space, "e-3", "100")
    space.bill("2026-10")
    space.retract("/s", "e-3")
    space.bill("2026-10")
    assert [one[3] for one in floors(space)] == ["55", "-30", "-25", "25"]
    space.retract("/s", "e-1")
    space.retract("/s", "e-2")
    space.bill("2026-10")
    assert sum(Decimal(one[3]) for one in floors(space)) == 0, "without usage nobody who is not active owes it"
    assert world.findings(deep=True) == []


def test_an_active_account_owes_its_share(world: World) -> None:
    """Active from the 16th: 16 of 31 days of 100, filled by the base fee and usage; the rest is on the invoice."""
    floor = OVER_ALL | {"prorate": "day", "description": "Committed spend"}
    space = world.space(catalog(ONE, BASE, floor, active_from="2026-10-16"), NOVEMBER)
    use(space, "e-1", "21.5", "2026-10-20T10:00:00Z")
    space.bill("2026-10")
    assert floors(space) == [("true_up", "2026-10", "2026-10", "20.112903226")]
    (invoice,) = invoices(world.app.control, space.name, Month(2026, 10), None)
    assert invoice["total"] == "51.61"
    ((id_,),) = space.rows("""select x.id::text from ledger.line_item x join catalog.namespace n using (namespace_key)
        where n.namespace = %(namespace)s and x.kind = %(kind)s""", kind=int(Kind.TRUE_UP))  # fmt: skip
    found = explain(world.app.control, world.app.segments, space.name, id_)
    steps = [step["label"] for step in found["target"]["working"]]
    assert steps == ["quantity", "commitment", "less what its prices come to", "active for 16 of 31 days"]
    assert found["target"]["quantity"] == "31.5"
    assert world.findings(deep=True) == []


def test_an_active_account_owes_nothing_outside_its_time(world: World) -> None:
    """Neither for usage that trickles in after its end, nor once more under the version its month began with."""
    floor = OVER_ALL | {"prorate": "day"}
    document = catalog(ONE, floor, active_from="2026-09-01", active_until="2026-09-16")
    space = world.space(document, NOVEMBER)
    use(space, "e-1", "10")
    space.bill("2026-10")
    assert floors(space) == []
    later = catalog(ONE, floor, active_from="2026-10-20")
    changed = {"version": 2, "effective_from": "2026-10-15T00:00:00+00:00", "prices": [ONE, floor | {"amount": "155"}]}
    later["pricebooks"].append(later["pricebooks"][0] | changed)
    other = world.space(later, NOVEMBER)
    use(other, "e-1", "10")
    other.bill("2026-10")
    assert [one[3] for one in floors(other)] == ["50"], "12 of 31 days of 155, less 10"
    assert world.findings(deep=True) == []


def test_an_end_that_is_published_later_takes_back_what_is_too_much(world: World) -> None:
    """October was settled whole; then the account turns out to have ended with September."""
    space = world.space(catalog(ONE, OVER_ALL, active_from="2026-09-01"), NOVEMBER)
    use(space, "e-1", "10")
    space.bill("2026-10")
    space.publish(catalog(ONE, OVER_ALL, active_from="2026-09-01", active_until="2026-10-01"))
    space.bill("2026-10")
    assert [one[3] for one in floors(space) if one[1] == "2026-10"] == ["90", "-90"]
    assert world.findings(deep=True) == []


def test_a_canary_does_not_change_commitments(world: World) -> None:
    """No check could compare what a month is missing before it ends."""
    space = world.space(catalog(ONE, OVER_ALL), NOVEMBER)
    changed = catalog(ONE, OVER_ALL | {"amount": "90"})
    changed["pricebooks"][0] |= {"version": 2, "effective_from": "2026-12-01T00:00:00+00:00"}
    with pytest.raises(Refused, match="changes a commitment"):
        start_canary(space, changed)


def start_canary(space: Space, changed: dict[str, Any]) -> None:
    """Of a changed catalog, on everybody."""
    candidate, choice = parse_catalog(json.dumps(changed), "candidate"), Choice(percent=Decimal(100))
    space.act(lambda app: app.canary_start(space.name, candidate, choice, Bounds(), None, None, "ana"))


def test_only_named_prices_of_its_currency_count(world: World) -> None:
    """A commitment over one price does not look at the other, nor at another currency's; each has its own."""
    euro = TWO | {"id": "euro", "currency": "EUR"}
    first = OVER_ALL | {"prices": ["one"]}
    second = OVER_ALL | {"id": "euros", "currency": "EUR", "amount": "20"}
    space = world.space(catalog(ONE, TWO, euro, first, second), NOVEMBER)
    use(space, "e-1", "30")
    space.bill("2026-10")
    assert [one[3] for one in floors(space)] == ["70"]
    assert [row[4] for row in posted(space) if row[0] == "euros"] == ["5"]
    assert world.findings(deep=True) == []


def test_minimums_count_and_an_override_is_another_commitment(world: World) -> None:
    """What a minimum adds fills the commitment; an account may have committed itself to more."""
    least = ONE | {"minimum": "40"}
    document = catalog(least, OVER_ALL, active_from="2026-10-01")
    own: dict[str, Any] = {"version": 1, "effective_from": "2020-01-01T00:00:00+00:00"}
    document["accounts"]["list"][0]["overrides"] = [own | {"prices": [OVER_ALL | {"amount": "250"}]}]
    space = world.space(document, NOVEMBER)
    use(space, "e-1", "30", account="walk-in")
    space.bill("2026-10")
    assert sorted(one[3] for one in floors(space)) == ["210", "60"]
    assert world.findings(deep=True) == []


def test_a_closed_month_is_corrected_in_the_next(world: World) -> None:
    """Late usage of a closed month posts to November; so does what it takes off the commitment of October."""
    space = world.space(catalog(ONE, OVER_ALL), datetime(2026, 12, 2, tzinfo=UTC))
    use(space, "e-1", "30")
    space.close("2026-10")
    use(space, "e-2", "15")
    space.bill("2026-11")
    assert floors(space) == [("true_up", "2026-10", "2026-10", "70"), ("true_up", "2026-10", "2026-11", "-15")]
    assert world.findings(deep=True) == []
