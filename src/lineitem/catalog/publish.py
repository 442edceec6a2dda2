"""What may be published over what is already in force. Pure: the rules, not the tables.

Published content never changes, and a price never changes under usage that is already rated: a publish that reaches
back must carry its re-rating or is refused (DESIGN, Rating).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from lineitem.catalog import continuing, pools
from lineitem.catalog.document import price_digest
from lineitem.catalog.model import Catalog, Meter, Pricebook, owner
from lineitem.catalog.ranges import Ends, collisions, effective_ranges, is_withdrawn
from lineitem.core.errors import Refused
from lineitem.core.period import us_to_text


@dataclass(frozen=True, slots=True)
class UsageSoFar:
    """What has been rated: last event per pricebook (microseconds since the epoch), meters, accounts with usage.

    The last event of a pricebook is that of the accounts that have it, whatever priced it; of an account's own pricebook,
    that of the account.
    """

    last_event_us: Mapping[str, int]
    meters: frozenset[str]
    accounts: Mapping[str, tuple[str | None, str]]  # account -> (pricebook, timezone)
    last_by_meter_us: Mapping[tuple[str, str], int]  # (pricebook, meter) -> the same of the meter; "": dues without one
    unmeasured_until_us: Callable[[Meter], int | None] = lambda _: None
    """The latest event accepted while a meter was not what it is now, or not there; None where there is none."""


def check_publish(
    old: Catalog | None, published: list[Pricebook], ends_us: Ends, new: Catalog, usage: UsageSoFar
) -> None:
    """Raise Refused when publishing ``new`` would change what has been published or rated.

    ``published`` are all versions, ``ends_us`` the ends that were set for some of them afterwards.
    """
    live = [book for book in published if not is_withdrawn(book, ends_us)]
    problems = [
        *_changed_versions(published, new),
        *_reaching_back(published, ends_us, new, usage),
        *collisions(published, ends_us, new.pricebooks),
        *(problem for one in (continuing, pools) for problem in one.publish_problems(live, new.pricebooks, new.meters)),
    ]
    if old is not None:
        problems += _changed_meters(old, new, usage)
        problems += _changed_currencies(old, published, new)
    problems += _moved_accounts(new, usage)
    if problems:
        raise Refused("\n".join(problems), do="Nothing was published.")


def _changed_versions(published: list[Pricebook], new: Catalog) -> list[str]:
    known = {(book.id, book.version): book for book in published}
    return [
        f"pricebook {book.id} version {book.version} is already published with other content: give it the next version"
        for book in new.pricebooks
        if known.get((book.id, book.version), book) != book
    ]


def _reaching_back(published: list[Pricebook], ends_us: Ends, new: Catalog, usage: UsageSoFar) -> list[str]:
    """Versions that start before rated usage and would price it otherwise; one that only adds prices for other meters may."""
    known = {(book.id, book.version) for book in published}
    fresh = [book for book in new.pricebooks if (book.id, book.version) not in known]
    before, after = _InForce(published, ends_us), _InForce([*published, *fresh], ends_us)
    problems = []
    for book in fresh:
        last = usage.last_event_us.get(book.id)
        if last is None or book.effective_from_us > last:
            continue
        label = f"pricebook {book.id} version {book.version} takes effect at {us_to_text(book.effective_from_us)}, but"
        changed = _changed_under_usage(book, before, after, usage)
        if owner(book.id) is not None or changed:
            named = " and ".join(meter or "what is due without a meter" for meter in changed)
            same = f", or leave the prices of {named} as they are until then" if owner(book.id) is None else ""
            problems.append(
                f"{label} usage up to {us_to_text(last)} is already rated: choose a later effective_from{same}"
            )
        for meter, seen_us in _added_too_late(book, before, after, new.meters, last, usage):
            problems.append(
                f"{label} the meter {meter}, which it prices there, was not what it is now for events up to"
                f" {us_to_text(seen_us)}: they would not count; choose a later effective_from"
            )
    return problems


class _InForce:
    """Which prices the versions of pricebooks ask, by time."""

    def __init__(self, books: list[Pricebook], ends_us: Ends) -> None:
        ranges = effective_ranges(books, ends_us)
        self._found = [(*ranges[(book.id, book.version)], book) for book in books]

    def bounds(self, pricebook: str) -> set[int]:
        """The instants at which another version begins to count, or none does."""
        return {at for start, end, book in self._found if book.id == pricebook and start < end for at in (start, end)}

    def prices(self, pricebook: str, meter: str, time_us: int) -> set[tuple[str, bytes]] | None:
        """Id and content of what is asked for a meter; None where no version is in force."""
        for start, end, book in self._found:
            if book.id == pricebook and start <= time_us < end:
                return {(price.id, price_digest(price)) for price in book.prices if price.meter == meter}
        return None


def _changed_under_usage(book: Pricebook, before: _InForce, after: _InForce, usage: UsageSoFar) -> list[str]:
    """The meters with rated usage from a new version's start on that something else, or nothing, would price then."""
    since = book.effective_from_us
    instants = {since, *(at for at in before.bounds(book.id) | after.bounds(book.id) if at > since)}

    def differs(meter: str, at: int) -> bool:
        asked = before.prices(book.id, meter, at)
        return asked is not None and asked != after.prices(book.id, meter, at)

    last_us = {meter: last for (name, meter), last in usage.last_by_meter_us.items() if name == book.id}
    return [
        meter for meter, last in sorted(last_us.items()) if any(differs(meter, at) for at in instants if at <= last)
    ]


def _added_too_late(
    book: Pricebook, before: _InForce, after: _InForce, meters: tuple[Meter, ...], last: int, usage: UsageSoFar
) -> Iterator[tuple[str, int]]:
    """Meters that a new version prices where nothing priced them, and an event up to which they were not what they are."""
    known = {meter.id: meter for meter in meters}
    for name in sorted({price.meter for price in book.prices if price.meter in known}):
        at = book.effective_from_us
        seen_us = usage.unmeasured_until_us(known[name]) if not before.prices(book.id, name, at) else None
        if seen_us is not None and at <= min(seen_us, last) and after.prices(book.id, name, at):
            yield name, seen_us


def _changed_meters(old: Catalog, new: Catalog, usage: UsageSoFar) -> list[str]:
    now = {meter.id: meter for meter in new.meters}
    return [
        f"meter {meter.id} has usage and can neither change nor leave: give a changed meter a new id"
        for meter in old.meters
        if meter.id in usage.meters and now.get(meter.id) != meter
    ]


def _changed_currencies(old: Catalog, published: list[Pricebook], new: Catalog) -> list[str]:
    """A currency of the catalog's own that published prices are in keeps its decimals: invoices are rounded to them."""
    used = {price.currency for book in published for price in book.prices}
    now = {one.code: one.exponent for one in new.currencies}
    return [
        f"currency {one.code} has published prices: it can neither leave nor change its exponent {one.exponent}"
        for one in old.currencies
        if one.code in used and now.get(one.code) != one.exponent
    ]


def _moved_accounts(new: Catalog, usage: UsageSoFar) -> list[str]:
    problems = []
    for account in new.accounts:
        had = usage.accounts.get(account.id)
        if had is not None and had != (account.pricebook, account.timezone):
            problems.append(
                f"account {account.id} has usage under pricebook {had[0]} and zone {had[1]}, which cannot change to"
                f" {account.pricebook} and {account.timezone}"
            )
    return problems


def check_retire(
    published: list[Pricebook], ends_us: Ends, pricebook: str, version: int, end_us: int, usage: UsageSoFar
) -> None:
    """Raise Refused when ending a version at ``end_us`` would change what has been rated, or end nothing earlier."""
    label = f"pricebook {pricebook} version {version}"
    ranges = effective_ranges(published, ends_us)
    if (pricebook, version) not in ranges:
        raise Refused(f"{label} is not published", do="`lineitem catalog list` shows what is.")
    start, end = ranges[(pricebook, version)]
    if max(start, end_us) >= end:
        when = f"ends at {us_to_text(end)} already" if start < end else "was withdrawn before it started"
        raise Refused(f"{label} {when}", do="Nothing was changed.")
    last = usage.last_event_us.get(pricebook)
    if last is not None and last >= max(start, end_us):
        raise Refused(
            f"{label} cannot end at {us_to_text(max(start, end_us))}: usage up to {us_to_text(last)} is already rated",
            do="Choose a later instant.",
        )


def rolled_back(
    current: Catalog, published: list[Pricebook], pricebook: str, version: int, from_us: int
) -> tuple[Catalog, Pricebook]:
    """``current`` with the prices of an old version under the next number, and that version. Raises Refused."""
    old = next((book for book in published if (book.id, book.version) == (pricebook, version)), None)
    if old is None:
        raise Refused(
            f"pricebook {pricebook} version {version} is not published", do="`lineitem catalog list` shows what is."
        )
    gone = {price.meter for price in old.prices if price.meter} - {meter.id for meter in current.meters}
    if gone:
        raise Refused(
            f"pricebook {pricebook} version {version} bills {', '.join(sorted(gone))}, which the catalog no longer measures",
            do="Publish the meter again first.",
        )
    number = max(book.version for book in published if book.id == pricebook) + 1
    new = replace(old, version=number, effective_from_us=from_us, effective_until_us=None)
    books = tuple(sorted((*current.pricebooks, new), key=lambda book: (book.id, book.version)))
    return replace(current, pricebooks=books), new
