"""What may be published over what is in force, and what is refused with a reason."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from lineitem.catalog.model import Account, Aggregation, Catalog, Meter, Price, Pricebook
from lineitem.catalog.publish import UsageSoFar, check_publish
from lineitem.core.errors import Refused

METER = Meter("m", "a.used", Aggregation.SUM, "data.v")
PRICE = Price("p", "m", "per_unit", "USD", unit_price=Decimal(1))
BOOK = Pricebook("b", 1, 0, None, (PRICE,))
CATALOG = Catalog("USD", (METER,), (BOOK,), accounts=(Account("x", "X", "b", "UTC"),))
NO_USAGE = UsageSoFar({}, frozenset(), {}, {})
USAGE = UsageSoFar({"b": 1000}, frozenset({"m"}), {"x": ("b", "UTC")}, {("b", "m"): 1000})
OTHER = replace(PRICE, id="q", meter="n")
BOTH = (METER, replace(METER, id="n"))
FEE = Price("fee", "", "flat", "USD", amount="5")


def book(version: int, start_us: int, unit_price: int = 2) -> Pricebook:
    return Pricebook("b", version, start_us, None, (replace(PRICE, unit_price=Decimal(unit_price)),))


def with_books(*books: Pricebook) -> Catalog:
    return replace(CATALOG, pricebooks=books)


ALLOWED = {
    "the first catalog": (None, [], CATALOG, NO_USAGE),
    "the same again": (CATALOG, [BOOK], CATALOG, USAGE),
    "a version that starts after all usage": (CATALOG, [BOOK], with_books(BOOK, book(2, 1001)), USAGE),
    "any version before there is usage": (CATALOG, [BOOK], with_books(BOOK, book(2, 5)), NO_USAGE),
    "a version that starts where an explicit range ends": (
        CATALOG, [replace(BOOK, effective_until_us=20)], with_books(book(2, 20)), NO_USAGE,
    ),
    "a version between two others": (
        CATALOG, [BOOK, book(3, 50)], with_books(replace(book(2, 10), effective_until_us=50)), NO_USAGE,
    ),
    "a version that reaches back with a price for a meter nobody has used yet": (
        CATALOG, [BOOK], with_books(BOOK, replace(book(2, 5, 1), prices=(PRICE, OTHER))), USAGE,
    ),
    "a version that reaches back with a price for a meter that was there before all events": (
        CATALOG, [BOOK], replace(with_books(BOOK, replace(book(2, 5, 1), prices=(PRICE, OTHER))), meters=BOTH),
        replace(USAGE, unmeasured_until_us=lambda _: 4),
    ),
    "a version that reaches back with dues where none are settled": (
        CATALOG, [BOOK], with_books(BOOK, replace(book(2, 5, 1), prices=(PRICE, FEE))), USAGE,
    ),
    "a version that reaches back into usage of a price it has too, after another one has ended": (
        CATALOG, [replace(BOOK, effective_until_us=20), replace(book(2, 20), effective_until_us=30)],
        with_books(book(3, 30, 7)),
        replace(USAGE, last_by_meter_us={("b", "m"): 29}),
    ),
    "a catalog that no longer lists an old version": (CATALOG, [BOOK], with_books(book(2, 1001)), USAGE),
    "another meter beside it": (CATALOG, [BOOK], replace(CATALOG, meters=(METER, replace(METER, id="n"))), USAGE),
    "a meter that changed before it was used": (
        CATALOG, [BOOK], replace(CATALOG, meters=(replace(METER, unit="call"),)), NO_USAGE,
    ),
    "a new name and tags": (
        CATALOG, [BOOK], replace(CATALOG, accounts=(Account("x", "Y", "b", "UTC", tags=(("k", "v"),)),)), USAGE,
    ),
}  # fmt: skip
REFUSED = {
    "another content of a version": (CATALOG, [BOOK], with_books(book(1, 0)), NO_USAGE, "already published"),
    "a version that reaches back": (CATALOG, [BOOK], with_books(BOOK, book(2, 1000)), USAGE, "already rated"),
    "a version that reaches back and drops a price": (
        CATALOG, [BOOK], with_books(BOOK, replace(book(2, 5), prices=())), USAGE, "leave the prices of m as they are",
    ),
    "a version that reaches back with a second price for a meter": (
        CATALOG, [BOOK], with_books(BOOK, replace(book(2, 5, 1), prices=(PRICE, replace(PRICE, id="q")))), USAGE,
        "leave the prices of m as they are",
    ),
    "a version that reaches back over two, of which the later one is another": (
        CATALOG, [BOOK, book(2, 900)], with_books(replace(book(3, 950, 1), prices=(PRICE,))), USAGE, "of m as they are",
    ),
    "a version that reaches back with other dues than were settled": (
        CATALOG, [replace(BOOK, prices=(PRICE, FEE))], with_books(book(2, 5, 1)),
        replace(USAGE, last_by_meter_us={("b", ""): 900}), "of what is due without a meter as they are",
    ),
    "a version that reaches back and ends before the usage does": (
        CATALOG, [BOOK], with_books(BOOK, replace(book(2, 5, 1), effective_until_us=50)), USAGE,
        "leave the prices of m as they are until then",
    ),
    "a version that reaches back with a price for a meter that events before did not know": (
        CATALOG, [BOOK], replace(with_books(BOOK, replace(book(2, 5, 1), prices=(PRICE, OTHER))), meters=BOTH),
        replace(USAGE, unmeasured_until_us=lambda meter: 700 if meter.id == "n" else None), "the meter n, which it prices",
    ),
    "two versions of one start": (CATALOG, [BOOK], with_books(book(2, 0)), NO_USAGE, "takes effect"),
    "a number below that of an earlier version": (
        CATALOG, [replace(BOOK, version=5)], with_books(book(2, 10)), NO_USAGE, "number versions by their start",
    ),
    "a number above that of a later version": (
        CATALOG, [BOOK, book(2, 50)], with_books(book(3, 10)), NO_USAGE, "number versions by their start",
    ),
    "a start inside an explicit range": (
        CATALOG, [replace(BOOK, effective_until_us=20)], with_books(book(2, 19)), NO_USAGE, "in effect until",
    ),
    "an end inside a later version": (
        CATALOG, [BOOK, book(3, 50)], with_books(replace(book(2, 10), effective_until_us=51)), NO_USAGE, "end it earlier",
    ),
    "a meter with usage that changes": (
        CATALOG, [BOOK], replace(CATALOG, meters=(replace(METER, scale=2),)), USAGE, "meter m has usage",
    ),
    "a meter with usage that leaves": (CATALOG, [BOOK], replace(CATALOG, meters=()), USAGE, "meter m has usage"),
    "an account with usage that moves": (
        CATALOG, [BOOK], replace(CATALOG, accounts=(Account("x", "X", "b", "Asia/Tokyo"),)), USAGE, "account x has usage",
    ),
    "an account with usage and another pricebook": (
        CATALOG, [BOOK], replace(CATALOG, accounts=(Account("x", "X", None, "UTC"),)), USAGE, "account x has usage",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ALLOWED)
def test_allowed(name: str) -> None:
    """Nothing rated changes."""
    old, published, new, usage = ALLOWED[name]
    refused = None
    try:
        check_publish(old, published, {}, new, usage)
    except Refused as error:
        refused = error
    assert refused is None


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    """What is published or rated would change."""
    old, published, new, usage, reason = REFUSED[name]
    with pytest.raises(Refused, match=reason):
        check_publish(old, published, {}, new, usage)


def test_every_problem_is_told_at_once() -> None:
    """One refusal names them all."""
    new = replace(CATALOG, meters=(), pricebooks=(book(1, 0),), accounts=(Account("x", "X", "b", "Asia/Tokyo"),))
    with pytest.raises(Refused) as refusal:
        check_publish(CATALOG, [BOOK], {}, new, USAGE)
    assert len(refusal.value.what.splitlines()) == 3
