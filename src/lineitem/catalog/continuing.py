"""Which prices may go on with the tiers of the version before them (``on_change: continue``). Pure.

The quantity they go on with must be one quantity: a sum or a count of the same meter. And tiers may be sums of money
(``graduated_percentage``), so the currency must be the same too.
"""

from __future__ import annotations

from collections.abc import Iterable

from lineitem.catalog.model import Aggregation, Meter, Price, Pricebook

CONTINUED = (Aggregation.SUM, Aggregation.COUNT)
"""Folds whose quantity over two parts of a period is that of both together."""


def version_before(book: Pricebook, price: Price, books: Iterable[Pricebook]) -> tuple[int, Price] | None:
    """The version in front of ``book`` among ``books`` that has the price, and what it says there."""
    earlier = [
        (one.effective_from_us, one.version, other)
        for one in books
        if one.id == book.id and one.effective_from_us < book.effective_from_us
        for other in one.prices
        if other.id == price.id
    ]
    return None if not earlier else max(earlier, key=lambda found: found[0])[1:]


def meter_problem(price: Price, aggregation: Aggregation) -> str:
    """Why a price cannot continue under its meter; "" when it can, or does not."""
    if not price.continues or aggregation in CONTINUED:
        return ""
    return (
        f"price {price.id!r} continues, but the meter {price.meter!r} is a {aggregation}, which parts of a month do not"
        " add up to; write restart"
    )


def change_problem(book: Pricebook, price: Price, books: Iterable[Pricebook]) -> str:
    """Why a price cannot go on with the tiers of the version before it; "" when it can, or does not."""
    found = version_before(book, price, books) if price.continues else None
    if found is None:
        return ""
    version, other = found
    if other.pool_name is not None:
        return f"price {price.id!r} continues, but version {version} shares or carries over its included units; write restart"
    for what, old, new in (("meter", other.meter, price.meter), ("currency", other.currency, price.currency)):
        if old != new:
            return (
                f"price {price.id!r} continues, but version {version} has the {what} {old}, not {new}: its tiers are not"
                " the same quantity; write restart"
            )
    return ""


def publish_problems(published: Iterable[Pricebook], new: Iterable[Pricebook], meters: Iterable[Meter]) -> list[str]:
    """What is wrong with the prices of ``new`` that continue, whatever is published before them."""
    books = {(book.id, book.version): book for book in published}
    fresh = [book for book in new if (book.id, book.version) not in books]
    every = [*books.values(), *fresh]
    aggregations = {meter.id: meter.aggregation for meter in meters}
    return [
        f"pricebook {book.id} version {book.version}: {problem}"
        for book in fresh
        for price in book.prices
        if price.continues and price.meter in aggregations
        for problem in (meter_problem(price, aggregations[price.meter]), change_problem(book, price, every))
        if problem
    ]
