"""The catalog as one batch sees it: every published pricebook version, resolved to the keys the ledger stores."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

from lineitem.catalog.canary import Arms, Step, arms_of
from lineitem.catalog.levels import measured
from lineitem.catalog.model import Aggregation, Catalog, Meter, Price, Pricebook, owner
from lineitem.catalog.ranges import Ends, effective_ranges
from lineitem.core.ids import text_digest


@dataclass(frozen=True, slots=True)
class PriceRow:
    """One price of one pricebook version, with the dictionary keys a line item stores."""

    price_key: int
    price_version_key: int
    pricebook: str
    version: int
    price: Price
    meter: Meter
    content: str  # hex digest over everything that determines money, the meter included

    @property
    def unit(self) -> str:
        """What its line items count."""
        return measured(self.price, self.meter)[0]

    @property
    def quantity_scale(self) -> int:
        """Decimals of its line items' quantities."""
        return measured(self.price, self.meter)[1]

    @property
    def is_level(self) -> bool:
        """Whether it prices a level over time, which is settled by the month."""
        return self.meter.aggregation is Aggregation.TIME_WEIGHTED

    @property
    def digest(self) -> bytes:
        """What a leaf commits to: the resolved text of the price, its version and unit (32 bytes)."""
        return price_row_digest(
            self.pricebook,
            self.version,
            self.price.id,
            self.meter.id,
            self.unit,
            self.quantity_scale,
            self.price.currency,
            self.content,
        )


def price_row_digest(
    pricebook: str, version: int, price: str, meter: str, unit: str, scale: int, currency: str, content: str
) -> bytes:
    """SHA-256 over the resolved text of one price version."""
    return text_digest(pricebook, str(version), price, meter, unit, str(scale), currency, content)


def account_digest(namespace: str, account: str) -> bytes:
    """What a leaf commits to of its account."""
    return text_digest(namespace, account)


def tags_digest(tags: str) -> bytes:
    """What a leaf commits to of its tags (canonical JSON)."""
    return text_digest(tags)


def canonical_tags(tags: Mapping[str, str]) -> str:
    """A tag set as canonical JSON text."""
    return json.dumps(dict(sorted(tags.items())), ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account with its dictionary key. ``tags`` is canonical JSON."""

    account_key: int
    account: str
    name: str
    pricebook: str | None
    timezone: str
    tags: str


Segment = tuple[int, int, tuple[int, ...]]
"""From, until (microseconds since the epoch, half-open), and positions in ``Snapshot.rows``."""


@dataclass(frozen=True)
class TierChains:
    """Which contents of a price share tiers (``on_change: continue``) or included units (``pool``), period by period.

    ``versions``: (pricebook, price id) -> (effective from, effective until, the price's row), in order of time, for the
    prices that continue in some version. ``pools``: the same of all prices of a pool, by (pricebook, its name).
    """

    versions: Mapping[tuple[str, str], list[tuple[int, int, PriceRow]]]
    pools: Mapping[tuple[str, str], list[tuple[int, int, PriceRow]]]

    @cached_property
    def _names(self) -> dict[int, tuple[str, str]]:
        return {row.price_key: name for name, found in self.versions.items() for _, _, row in found}

    @cached_property
    def _pool_names(self) -> dict[int, tuple[str, str]]:
        return {row.price_key: name for name, found in self.pools.items() for _, _, row in found}

    @cached_property
    def _chains(self) -> dict[tuple[int, int, int], tuple[PriceRow, ...]]:
        return {}

    def chain(self, price_key: int, start_us: int, end_us: int) -> tuple[PriceRow, ...]:
        """The contents that share tiers, or a pool, with a price in the period ``[start_us, end_us)``, itself included, in
        order of time; each one goes on where those before it ended. () where there is no other.

        A content that comes back within the period stands where it was first: it is one target. Those of a pool that
        begin together stand in order of their ids. A pool that carries units over may be of one content alone.
        """
        key = (price_key, start_us, end_us)
        if key not in self._chains:
            if price_key in self._pool_names:
                self._chains[key] = self._pool(self.pools[self._pool_names[price_key]], *key)
            elif price_key in self._names:
                self._chains[key] = self._chain(self.versions[self._names[price_key]], *key)
            else:
                return ()
        return self._chains[key]

    def pool_parts(self, name: tuple[str, str], start_us: int, end_us: int) -> tuple[PriceRow, ...]:
        """The contents that share a pool, by pricebook and name, in a period; () where nothing does."""
        found = [row for start, end, row in self.pools.get(name, []) if start < end_us and end > start_us]
        return self.chain(found[0].price_key, start_us, end_us) if found else ()

    def carries_over(self, name: tuple[str, str]) -> bool:
        """Whether months of a pool may have got units from the month before: whether any version says so."""
        return any(row.price.rollover_max is not None for _, _, row in self.pools[name])

    def pool_of(self, price_key: int) -> tuple[str, str] | None:
        """Pricebook and name of the pool a content shares; None where it shares none."""
        return self._pool_names.get(price_key)

    @staticmethod
    def _pool(
        versions: list[tuple[int, int, PriceRow]], price_key: int, start_us: int, end_us: int
    ) -> tuple[PriceRow, ...]:
        inside = [(max(start, start_us), row) for start, end, row in versions if start < end_us and end > start_us]
        contents: dict[int, PriceRow] = {}
        for _, row in sorted(inside, key=lambda one: (one[0], one[1].price.id)):
            contents.setdefault(row.price_key, row)
        alone = len(contents) < 2 and not any(row.price.rollover_max for row in contents.values())
        return () if alone or price_key not in contents else tuple(contents.values())

    @staticmethod
    def _chain(
        versions: list[tuple[int, int, PriceRow]], price_key: int, start_us: int, end_us: int
    ) -> tuple[PriceRow, ...]:
        contents: dict[int, PriceRow] = {}
        for start, end, row in versions:
            if start < end_us and end > start_us:
                contents.setdefault(row.price_key, row)
        found: list[PriceRow] = []
        for row in contents.values():
            if not row.price.continues:
                if any(one.price_key == price_key for one in found):
                    break
                found = []
            found.append(row)
        alone = len(found) < 2 or all(one.price_key != price_key for one in found)
        return () if alone else tuple(found)

    def before(self, price_key: int, start_us: int, end_us: int) -> tuple[PriceRow, ...]:
        """The contents whose tiers a price goes on with; () where it starts its own."""
        chain = self.chain(price_key, start_us, end_us)
        return chain[: next((at for at, row in enumerate(chain) if row.price_key == price_key), 0)]


@dataclass(frozen=True)
class Snapshot:
    """Everything that decides what an event costs, at one revision of one namespace."""

    namespace: str
    namespace_key: int
    revision: int
    catalog: Catalog
    pricebooks: tuple[Pricebook, ...]
    rows: tuple[PriceRow, ...]
    ends_us: Ends = field(default_factory=dict)  # of retired versions
    canaries: tuple[Step, ...] = ()  # oldest first

    @cached_property
    def _versions(self) -> dict[str, list[tuple[int, int, int]]]:
        versions: dict[str, list[tuple[int, int, int]]] = {}
        ranges = effective_ranges(self.pricebooks, self.ends_us)
        for (book, version), (start, end) in sorted(ranges.items(), key=lambda item: item[1]):
            if start < end:
                versions.setdefault(book, []).append((start, end, version))
        return versions

    @cached_property
    def _rows_by_meter(self) -> dict[tuple[str, int, str], tuple[int, ...]]:
        found: dict[tuple[str, int, str], tuple[int, ...]] = {}
        for index, row in enumerate(self.rows):
            key = (row.pricebook, row.version, row.meter.id)
            found[key] = (*found.get(key, ()), index)
        return found

    def versions(self, pricebook: str) -> list[tuple[int, int, int]]:
        """``(effective from, effective until, version)`` in order, microseconds since the epoch, half-open."""
        return self._versions.get(pricebook, [])

    @cached_property
    def tier_chains(self) -> TierChains | None:
        """Which prices share tiers or a pool; None where no price does."""
        continuing = {(row.pricebook, row.price.id) for row in self.rows if row.price.continues}
        if not continuing and not any(row.price.pool_name for row in self.rows):
            return None
        ranges = {
            (book, version): (start, end) for book, found in self._versions.items() for start, end, version in found
        }
        versions: dict[tuple[str, str], list[tuple[int, int, PriceRow]]] = {}
        shared: dict[tuple[str, str], list[tuple[int, int, PriceRow]]] = {}
        for row in self.rows:
            name, span = (row.pricebook, row.price.id), ranges.get((row.pricebook, row.version))
            if name in continuing and span is not None:
                versions.setdefault(name, []).append((*span, row))
            if row.price.pool_name is not None and span is not None:
                shared.setdefault((row.pricebook, row.price.pool_name), []).append((*span, row))
        return TierChains({name: sorted(found, key=lambda one: one[0]) for name, found in versions.items()}, shared)

    def version_at(self, pricebook: str, time_us: int) -> int | None:
        """The version of ``pricebook`` in force at ``time_us``."""
        versions = self.versions(pricebook)
        at = bisect_right([start for start, _, _ in versions], time_us) - 1
        return versions[at][2] if at >= 0 and time_us < versions[at][1] else None

    @cached_property
    def _schedules(self) -> dict[tuple[str | None, str | None, str], tuple[Segment, ...]]:
        return {}

    @cached_property
    def level_windows(self) -> dict[Any, Any]:
        """What ``rate.levels`` has worked out of this snapshot."""
        return {}

    @cached_property
    def own_books(self) -> dict[str, str]:
        """Account -> the pricebook of its overrides, for those that have any."""
        return {account: book for book in self._versions if (account := owner(book)) is not None}

    @cached_property
    def canaries_of(self) -> dict[str, list[Step]]:
        """Pricebook -> the steps of all canaries there were on it, oldest first."""
        found: dict[str, list[Step]] = {}
        for step in self.canaries:
            found.setdefault(step.change.pricebook, []).append(step)
        return found

    @cached_property
    def _arms(self) -> dict[tuple[str, str], Arms]:
        return {}

    def arms(self, account: str, pricebook: str | None) -> Arms:
        """When a canary's pricebook takes the place of an account's ``pricebook``, by service month; mostly ()."""
        steps = self.canaries_of.get(pricebook) if self.canaries and pricebook is not None else None
        if steps is None or pricebook is None:
            return ()
        key = (account, pricebook)
        if key not in self._arms:
            self._arms[key] = arms_of(steps, account)
        return self._arms[key]

    def schedule(self, pricebook: str | None, own: str | None, meter: str) -> tuple[Segment, ...]:
        """What bills ``meter`` and when, in order of time; a price of ``own`` replaces that of ``pricebook`` with its id."""
        key = (pricebook, own, meter)
        if key not in self._schedules:
            self._schedules[key] = self._schedule(*key)
        return self._schedules[key]

    def _schedule(self, pricebook: str | None, own: str | None, meter: str) -> tuple[Segment, ...]:
        books = [book for book in (pricebook, own) if book is not None]
        bounds = sorted({bound for book in books for start, end, _ in self.versions(book) for bound in (start, end)})
        found = []
        for start, end in pairwise(bounds):
            version = None if pricebook is None else self.version_at(pricebook, start)
            rows = () if pricebook is None or version is None else self.rows_for(pricebook, version, meter)
            replaced = self._replaced(own, start)
            if own is not None and replaced is not None:
                kept = (row for row in rows if self.rows[row].price.id not in replaced[1])
                rows = (*kept, *self.rows_for(own, replaced[0], meter))
            if rows:
                found.append((start, end, rows))
        return tuple(found)

    def _replaced(self, own: str | None, time_us: int) -> tuple[int, frozenset[str]] | None:
        """The version of an account's own pricebook at ``time_us`` and the ids of its prices."""
        version = None if own is None else self.version_at(own, time_us)
        if own is None or version is None:
            return None
        return version, self._price_ids[(own, version)]

    @cached_property
    def _price_ids(self) -> dict[tuple[str, int], frozenset[str]]:
        return {
            (book.id, book.version): frozenset(price.id for price in book.prices)
            for book in self.pricebooks
            if owner(book.id) is not None
        }

    def bills(self, pricebook: str, version: int, price: str, account: str, time_us: int) -> bool:
        """Whether, for ``account`` at ``time_us``, it is this version of this price and no override of it."""
        if self.version_at(pricebook, time_us) != version:
            return False
        own = self.own_books.get(account)
        replaced = None if own == pricebook else self._replaced(own, time_us)
        return replaced is None or price not in replaced[1]

    def rows_for(self, pricebook: str, version: int, meter: str) -> tuple[int, ...]:
        """Positions in ``rows`` of the prices that bill ``meter`` in one pricebook version."""
        return self._rows_by_meter.get((pricebook, version, meter), ())
