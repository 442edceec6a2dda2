"""Included units that several prices share (``pool``) or that are carried into the next month (``rollover_max``). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction

from lineitem.catalog.continuing import CONTINUED
from lineitem.catalog.model import Meter, Price, Pricebook, Rounding, owner


def pool_units(price: Price, scale: int) -> int | None:
    """The included units of a pool as an integer of ``scale`` decimals, before ``transform``; None without a pool.

    Raises ValueError where they are no such integer.
    """
    return None if price.pool_name is None else _units(price, "included", scale)


def rollover_units(price: Price, scale: int) -> int:
    """What is carried over at most, likewise; 0 where nothing is."""
    return _units(price, "rollover_max", scale)


def _units(price: Price, name: str, scale: int) -> int:
    written = getattr(price, name)
    units = Fraction(written or 0) * 10**scale
    if price.transform is not None:
        units *= Fraction(price.transform.divide_by)
    if units.denominator != 1:
        raise ValueError(f"{name}, {written}, has more decimals than the meter's {scale}")
    return int(units)


def price_problem(price: Price, meter: Meter) -> str:
    """Why one price cannot take part in a pool or carry units over; "" where it can, or does not."""
    if price.pool_name is None:
        return ""
    what = "shares a pool" if price.pool is not None else "carries units over"
    if meter.aggregation not in CONTINUED:
        return f"price {price.id!r} {what}, but the meter {meter.id!r} is a {meter.aggregation}; use a sum or a count"
    if price.transform is not None and price.transform.round is not Rounding.NONE:
        return f"price {price.id!r} {what}, which does not go with rounding to whole units; write round: none"
    try:
        pool_units(price, meter.quantity_scale)
        rollover_units(price, meter.quantity_scale)
    except ValueError as error:
        return f"price {price.id!r} {what}: {error}; write fewer decimals"
    return ""


def book_problems(books: Sequence[Pricebook], meters: Mapping[str, Meter]) -> Iterator[tuple[Pricebook, Price, str]]:
    """Prices of one pricebook's versions that share a pool and do not agree on it, and on what."""
    first: dict[str, tuple[int, Price, Meter]] = {}
    for book in books:
        shared: dict[str, Price] = {}
        for price in book.prices:
            meter = price.meter_of(meters)
            if price.pool_name is None or meter is None:
                continue
            if owner(book.id) is not None:
                yield book, price, f"the override {price.id!r} cannot share a pool or carry units over; give it its own"
                continue
            other = shared.setdefault(price.pool_name, price)
            for name in ("included", "rollover_max", "transform"):
                if getattr(other, name) != getattr(price, name):
                    text = f"price {price.id!r} shares the pool {price.pool!r} with {other.id!r}, but not its {name}"
                    yield book, price, f"{text}; write the same in both"
            version, known, its = first.setdefault(price.pool_name, (book.version, price, meter))
            if (its.unit, its.quantity_scale) != (meter.unit, meter.quantity_scale):
                text = f"price {price.id!r} shares the pool {price.pool_name!r} with {known.id!r} of version {version},"
                yield (
                    book,
                    price,
                    (
                        f"{text} whose meter counts {its.unit} with {its.quantity_scale} decimals, not {meter.unit} with"
                        f" {meter.quantity_scale}; use one unit and scale"
                    ),
                )


def publish_problems(published: Iterable[Pricebook], new: Iterable[Pricebook], meters: Iterable[Meter]) -> list[str]:
    """What is wrong with the pools of ``new``, whatever is published before them."""
    books = {(book.id, book.version): book for book in published}
    fresh = {(book.id, book.version): book for book in new if (book.id, book.version) not in books}
    by_id: dict[str, list[Pricebook]] = {}
    for book in sorted((books | fresh).values(), key=lambda one: (one.effective_from_us, one.version)):
        by_id.setdefault(book.id, []).append(book)
    known = {meter.id: meter for meter in meters}
    return [
        f"pricebook {book.id} version {book.version}: {problem}"
        for versions in by_id.values()
        for book, _, problem in book_problems(versions, known)
        if (book.id, book.version) in fresh
    ]
