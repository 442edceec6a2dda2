"""A draft as a snapshot: which versions are in force when, and which prices are one price."""

from __future__ import annotations

from dataclasses import replace

from lineitem.catalog.load import parse_catalog
from lineitem.catalog.model import Catalog, Pricebook
from lineitem.catalog.ranges import END_OF_TIME_US
from lineitem.catalog.snapshot import Snapshot
from lineitem.catalog.trial import draft_snapshot

TEXT = """
currency: USD
meters:
  - {id: calls, event_type: call, aggregation: count}
  - {id: other, event_type: other, aggregation: count}
pricebooks:
  - {id: one, version: 1, effective_from: 2026-01-01T00:00:00Z,
     prices: [{id: p, meter: calls, model: per_unit, unit_price: "1"}]}
  - {id: two, version: 1, effective_from: 2026-01-01T00:00:00Z,
     prices: [{id: p, meter: calls, model: per_unit, unit_price: "1"}]}
"""
JULY_US = 1_782_864_000_000_000
PUBLISHED = parse_catalog(TEXT, "catalog")


def version(number: int, from_us: int, until_us: int | None = None, book: str = "one") -> Pricebook:
    """A version with the price of version 1."""
    first = next(one for one in PUBLISHED.pricebooks if one.id == book)
    return replace(first, version=number, effective_from_us=from_us, effective_until_us=until_us)


def snapshot(*new: Pricebook, as_dated: bool = False, draft: Catalog = PUBLISHED) -> Snapshot:
    """The draft of ``new`` versions over what is published."""
    books = (*(draft.pricebooks if not new else ()), *new)
    in_force = Snapshot("n", 1, 1, PUBLISHED, PUBLISHED.pricebooks, ())
    return draft_snapshot(in_force, replace(draft, pricebooks=books), as_dated=as_dated)


def test_what_is_published_stays_as_it_is() -> None:
    """A draft without anything new has the published versions, at their dates, listed by it or not."""
    for made in (snapshot(), snapshot(as_dated=True), snapshot(version(1, PUBLISHED.pricebooks[0].effective_from_us))):
        assert sorted(made.pricebooks, key=str) == sorted(PUBLISHED.pricebooks, key=str)
        assert {row.pricebook for row in made.rows} == {"one", "two"}


def test_new_versions_count_for_the_whole_time() -> None:
    """The first reaches back, the last one on, over an end it may have; other pricebooks are left alone."""
    made = snapshot(version(2, JULY_US), version(3, JULY_US + 10, JULY_US + 20))
    assert made.versions("one") == [(-END_OF_TIME_US, JULY_US + 10, 2), (JULY_US + 10, END_OF_TIME_US, 3)]
    assert [number for _, _, number in made.versions("two")] == [1]


def test_as_dated_keeps_all_dates() -> None:
    """A new version follows the published one; one that is published with other content takes its place."""
    made = snapshot(version(2, JULY_US, JULY_US + 5), as_dated=True)
    start_us = PUBLISHED.pricebooks[0].effective_from_us
    assert made.versions("one") == [(start_us, JULY_US, 1), (JULY_US, JULY_US + 5, 2)]
    moved = snapshot(version(1, JULY_US), as_dated=True)
    assert moved.versions("one") == [(JULY_US, END_OF_TIME_US, 1)]


def test_one_content_is_one_price_and_no_key_is_a_stored_one() -> None:
    """A price that does not change keeps its key from version to version; keys are negative."""
    made = snapshot(version(2, JULY_US), as_dated=True)
    keys = {(row.pricebook, row.version): row.price_key for row in made.rows}
    assert keys[("one", 1)] == keys[("one", 2)] != keys[("two", 1)]
    assert len({row.price_version_key for row in made.rows}) == len(made.rows) == 3
    assert all(row.price_key < 0 and row.price_version_key < 0 for row in made.rows)


def test_prices_take_the_meters_of_the_draft() -> None:
    """A changed meter changes what its prices are; without its meter a price bills nothing."""
    calls, other = PUBLISHED.meters
    changed = snapshot(draft=replace(PUBLISHED, meters=(replace(calls, unit="call"), other)))
    assert {row.meter.unit for row in changed.rows} == {"call"}
    assert {row.content for row in changed.rows}.isdisjoint({row.content for row in snapshot().rows})
    assert snapshot(draft=replace(PUBLISHED, meters=(other,))).rows == ()
