"""Everything that is due beside usage, in one month of one account: what counts what, in which order, to the cent."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest

from lineitem.app import App
from lineitem.billing.run import invoices
from lineitem.core.period import Month
from lineitem.ledger.grant_terms import Asked
from tests.integration.drive import Space, World

DECEMBER = datetime(2026, 12, 2, tzinfo=UTC)
SHARED = {"included": "100", "pool": "t", "rollover_max": "50"}
PRICES: list[dict[str, Any]] = [
    {
        "id": "a-prompt",
        "meter": "p",
        "model": "per_unit",
        "unit_price": "1",
        "included": "100",
        "pool": "t",
        "rollover_max": "50",
    },
    {
        "id": "b-reply",
        "meter": "r",
        "model": "per_unit",
        "unit_price": "2",
        "included": "100",
        "pool": "t",
        "rollover_max": "50",
    },
    {"id": "base", "model": "flat", "amount": "10"},
    {"id": "seats", "meter": "seats", "model": "per_seat", "unit_price": "5", "prorate": "day"},
    {"id": "floor", "model": "commitment", "amount": "200"},
]
CATALOG: dict[str, Any] = {
    "currency": "USD",
    "meters": [
        *({"id": id_, "event_type": "used", "aggregation": "sum", "value": f"data.{id_}", "scale": 0} for id_ in "pr"),
        {"id": "seats", "event_type": "held", "aggregation": "time_weighted", "value": "data.seats", "scale": 0},
    ],
    "pricebooks": [{"id": "b", "version": 1, "effective_from": "2020-01-01T00:00:00+00:00", "prices": PRICES}],
    "accounts": {"defaults": {"pricebook": "b"}, "list": [{"id": "acme", "active_from": "2026-09-01"}]},
}


@pytest.fixture
def space(ledger: App) -> Space:
    """A namespace with the catalog and a grant of 40 from October on, of which 15 October is the last day."""
    space = World(ledger).space(CATALOG, DECEMBER)
    asked = Asked("acme", "40", "USD", "welcome", effective="2026-10-01", expires="2026-10-16")
    space.act(lambda app: app.grant_add(space.name, asked, "ana"))
    return space


def used(id_: str, p: int, r: int, day: str) -> bytes:
    """Tokens of a day of 2026."""
    data = f'{{"p":{p},"r":{r}}}'
    return _event(id_, "used", day, data)


def held(id_: str, seats: int, day: str) -> bytes:
    """Seats from a day on."""
    return _event(id_, "held", day, f'{{"seats":{seats}}}')


def _event(id_: str, type_: str, day: str, data: str) -> bytes:
    return (
        f'{{"specversion":"1.0","id":"{id_}","source":"/s","type":"{type_}","subject":"acme",'
        f'"time":"2026-{day}T00:00:00Z","data":{data}}}\n'
    ).encode()


def owed(space: Space, month: str) -> dict[str, Fraction]:
    """What each price comes to in a month."""
    return {
        name: Fraction(int(nano), 10**9) for (_, name, of), (_, nano) in space.totals().items() if of == month and nano
    }


def test_seats_pool_fee_commitment_and_credit_in_one_month(space: Space) -> None:
    """October: 30 units are carried over, seats change on the 16th, the commitment counts all of it, the grant pays first.

    Prompts take 100 of 130 units, replies get 30 of their 50; late usage of September takes the carried units back.
    """
    september = used("1", 70, 0, "09-10") + held("2", 2, "09-16")
    october = used("3", 60, 0, "10-05") + used("4", 40, 50, "10-20") + held("5", 4, "10-16")
    for number, file in enumerate((october, september)):
        space.send(file, f"stream-{number}")
    space.bill("2026-09")
    assert owed(space, "2026-09") == {"base": 10, "seats": 5, "floor": 185}
    space.bill("2026-10")
    seats = Fraction(5 * (15 * 2 + 16 * 4), 31)
    nano = Fraction(round(seats * 10**9), 10**9)
    assert owed(space, "2026-10") == {
        "b-reply": 40, "base": 10, "seats": nano, "floor": 200 - 50 - nano, "welcome": -(10 + nano),
    }  # fmt: skip
    assert _total(space, 10) == Fraction(200) - round(10 + nano, 2)
    space.send(used("6", 30, 0, "09-20"), "late")
    for month in ("2026-09", "2026-10"):
        space.bill(month)
    assert owed(space, "2026-10") == {
        "b-reply": 100, "base": 10, "seats": nano, "floor": 200 - 110 - nano, "welcome": -(10 + nano),
    }  # fmt: skip
    assert space.world.findings(deep=True) == []


def _total(space: Space, month: int) -> Fraction:
    (invoice,) = invoices(space.world.app.control, space.name, Month(2026, month), None)
    return Fraction(invoice["total"])
