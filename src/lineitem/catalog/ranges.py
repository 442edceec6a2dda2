"""When each version of a pricebook is in force, and which versions get into each other's way. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lineitem.catalog.model import Pricebook
from lineitem.core.period import us_to_text

END_OF_TIME_US = 253_402_300_800_000_000
"""Year 10000: the open end of an interval."""

Version = tuple[str, int]
"""A pricebook's id and the number of a version."""
Ends = Mapping[Version, int]
"""Ends set after publishing (``catalog retire``), microseconds since the epoch, excluded."""


def effective_ranges(books: Iterable[Pricebook], ends_us: Ends) -> dict[Version, tuple[int, int]]:
    """The range in which each version counts, microseconds since the epoch, half-open; ``start == end``: never.

    An open end is the start of the next version. A version withdrawn before it started bounds no other.
    """
    by_book: dict[str, list[Pricebook]] = {}
    for book in sorted(books, key=lambda book: book.effective_from_us):
        by_book.setdefault(book.id, []).append(book)
    found = {}
    for versions in by_book.values():
        later = END_OF_TIME_US
        for book in reversed(versions):
            start, end = book.effective_from_us, min(_own_end_us(book, ends_us), later)
            found[(book.id, book.version)] = (start, max(start, end))
            later = later if is_withdrawn(book, ends_us) else start
    return found


def is_withdrawn(book: Pricebook, ends_us: Ends) -> bool:
    """Whether the version was retired before it started."""
    return _own_end_us(book, ends_us) <= book.effective_from_us


def _own_end_us(book: Pricebook, ends_us: Ends) -> int:
    until = END_OF_TIME_US if book.effective_until_us is None else book.effective_until_us
    return min(until, ends_us.get((book.id, book.version), END_OF_TIME_US))


def collisions(published: Sequence[Pricebook], ends_us: Ends, new: Iterable[Pricebook]) -> list[str]:
    """Why versions of ``new`` cannot stand beside the published ones, a sentence each; [] when they can."""
    known = {(book.id, book.version) for book in published}
    beside: dict[str, list[Pricebook]] = {}
    for book in published:
        if not is_withdrawn(book, ends_us):
            beside.setdefault(book.id, []).append(book)
    return [
        f"pricebook {book.id} version {book.version} {problem}"
        for book in new
        if (book.id, book.version) not in known
        for other in beside.get(book.id, ())
        if (problem := _collision(book, other, ends_us))
    ]


def _collision(book: Pricebook, other: Pricebook, ends_us: Ends) -> str:
    start, other_start = book.effective_from_us, other.effective_from_us
    if start == other_start:
        return (
            f"takes effect when published version {other.version} does: move it, or withdraw the other (catalog retire)"
        )
    if (book.version > other.version) != (start > other_start):
        when = "later" if other_start > start else "earlier"
        text = f"starts at {us_to_text(start)}, but published version {other.version} starts {when}"
        return f"{text}: number versions by their start"
    end, other_end = _own_end_us(book, ends_us), _own_end_us(other, ends_us)
    if other_start < start < other_end < END_OF_TIME_US:
        return (
            f"takes effect at {us_to_text(start)}, when published version {other.version} is in effect until"
            f" {us_to_text(other_end)}: start later, or end the other earlier (catalog retire)"
        )
    if start < other_start < end < END_OF_TIME_US:
        text = f"is in effect until {us_to_text(end)}, but published version {other.version} starts at"
        return f"{text} {us_to_text(other_start)}: end it earlier"
    return ""
