"""Whom a changed price concerns, since when, and how much usage it would have met last month. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lineitem.catalog.diff import Change, Reach
from lineitem.catalog.model import Catalog, Pricebook, owner
from lineitem.catalog.ranges import Ends, effective_ranges
from lineitem.core.money import scaled_to_text

FIRST_MAX = 5
"""Accounts that are named; the others are counted."""

Quantities = Mapping[str, tuple[int, int]]
"""Unit -> (quantity, its scale)."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What prices metered in one month: by pricebook and price, and by account and price whatever pricebook it was."""

    period: str
    by_book: Mapping[tuple[str, str], Quantities] = field(default_factory=dict)
    by_account: Mapping[tuple[str, str], Quantities] = field(default_factory=dict)


def with_reach(
    changes: Iterable[Change],
    new: Catalog,
    published: Sequence[Pricebook],
    ends_us: Ends,
    accounts: Mapping[str, str | None],
    usage: Usage,
) -> list[Change]:
    """``changes`` with the reach of each that is about a price. ``accounts``: those there are, and their pricebook."""
    has = {**accounts, **{account.id: account.pricebook for account in new.accounts}}
    members: dict[str, list[str]] = {}
    for account in sorted(has):
        members.setdefault(has[account] or "", []).append(account)
    books = {(book.id, book.version): book for book in (*new.pricebooks, *published)}
    replaced = _Replaced(books.values(), ends_us)
    found = []
    for change in changes:
        if change.what == "price":
            name, _, rest = change.id.rpartition(
                "@"
            )  # an account may have any id, a price's has no "@" and no version "/"
            version, _, price = rest.partition("/")
            book = books[(name, int(version))]
            change = replace(change, reach=_reach(book, price, new, members.get(name, []), replaced, usage))
        found.append(change)
    return found


def _reach(book: Pricebook, price: str, new: Catalog, members: list[str], replaced: _Replaced, usage: Usage) -> Reach:
    since_us, own = book.effective_from_us, owner(book.id)
    if own is not None:
        whom, used = [own], usage.by_account.get((own, price), {})
    else:
        whom = [account for account in members if not replaced.at(account, price, since_us)]
        used = usage.by_book.get((book.id, price), {})
    amounts = tuple((scaled_to_text(quantity, scale), unit) for unit, (quantity, scale) in sorted(used.items()))
    by_default = new.defaults.open and new.defaults.pricebook == book.id
    return Reach(len(whom), tuple(whom[:FIRST_MAX]), by_default, since_us, usage.period, amounts)


class _Replaced:
    """Which prices accounts have replaced by their own, and when."""

    def __init__(self, books: Iterable[Pricebook], ends_us: Ends) -> None:
        every = list(books)
        ranges = effective_ranges(every, ends_us)
        self._found: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for book in every:
            account = owner(book.id)
            for price in book.prices if account is not None else ():
                self._found.setdefault((account or "", price.id), []).append(ranges[(book.id, book.version)])

    def at(self, account: str, price: str, time_us: int) -> bool:
        """Whether the account's own price bills it then."""
        return any(start <= time_us < end for start, end in self._found.get((account, price), ()))


def summed(rows: Iterable[tuple[str, str, str, int, int]]) -> dict[tuple[str, str], Quantities]:
    """Rows ``(whose, price, unit, scale, quantity)`` as quantities per unit, at the largest scale among them."""
    found: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
    for whose, price, unit, scale, quantity in rows:
        units = found.setdefault((whose, price), {})
        before, held = units.get(unit, (0, 0))
        wide = max(scale, held)
        units[unit] = (before * 10 ** (wide - held) + quantity * 10 ** (wide - scale), wide)
    return {**found}
