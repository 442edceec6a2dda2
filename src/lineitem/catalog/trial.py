"""A catalog that was never published, as the snapshot it would be: what `shadow` prices past usage with. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import count

from lineitem.catalog.model import Catalog, Pricebook
from lineitem.catalog.published import content_of
from lineitem.catalog.ranges import END_OF_TIME_US
from lineitem.catalog.snapshot import PriceRow, Snapshot

DRAFT_REVISION = 0
"""No publication has it."""


def draft_snapshot(in_force: Snapshot, draft: Catalog, *, as_dated: bool, without_canaries: bool = False) -> Snapshot:
    """``draft`` as if it had been in force all along, over the pricebook versions ``in_force`` that it leaves alone.

    A version of the draft is *new* when none of its number is published with this content. Where a pricebook has new
    versions, the first of them reaches back to the beginning, the last one on to the end, and no published version of
    it counts; with ``as_dated`` all versions keep the dates they were written with. Members of a running canary keep its
    prices, as they would under a publish, unless ``without_canaries``. Keys are negative: nothing stored has them.
    """
    published, ends_us = in_force.pricebooks, in_force.ends_us
    known = {(book.id, book.version): book for book in published}
    new = [book for book in draft.pricebooks if known.get((book.id, book.version)) != book]
    if as_dated:
        known |= {(book.id, book.version): book for book in new}
        books = list(known.values())
    else:
        drafted = {book.id for book in new}
        books = [book for book in published if book.id not in drafted] + _throughout(new)
        ends_us = {version: end_us for version, end_us in ends_us.items() if version[0] not in drafted}
    rows = tuple(_rows(draft, books))
    canaries = () if without_canaries else in_force.canaries
    about = (in_force.namespace, in_force.namespace_key, DRAFT_REVISION, draft, tuple(books), rows)
    return Snapshot(*about, ends_us=ends_us, canaries=canaries)


def _throughout(new: Iterable[Pricebook]) -> list[Pricebook]:
    """New versions, stretched so that each pricebook has one at any time before the second and after the last."""
    by_id: dict[str, list[Pricebook]] = {}
    for book in sorted(new, key=lambda book: book.effective_from_us):
        by_id.setdefault(book.id, []).append(book)
    for books in by_id.values():
        books[0] = replace(books[0], effective_from_us=-END_OF_TIME_US)
        books[-1] = replace(books[-1], effective_until_us=None)
    return [book for books in by_id.values() for book in books]


def _rows(draft: Catalog, books: Iterable[Pricebook]) -> list[PriceRow]:
    """As publishing would make them: a price whose content is the same in two versions has one price key."""
    meters = {meter.id: meter for meter in draft.meters}
    price_keys: dict[tuple[str, str, bytes], int] = {}
    version_keys = count(-1, -1)
    rows = []
    for book in books:
        for price in book.prices:
            meter = price.meter_of(meters)
            if meter is not None:
                content = content_of(price, meter)
                key = price_keys.setdefault((book.id, price.id, content), -1 - len(price_keys))
                rows.append(PriceRow(key, next(version_keys), book.id, book.version, price, meter, content.hex()))
    return rows
