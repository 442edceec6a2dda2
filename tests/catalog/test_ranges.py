"""When a version is in force, as it follows from starts, ends, later versions and retirements."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lineitem.catalog.model import Pricebook
from lineitem.catalog.ranges import END_OF_TIME_US, collisions, effective_ranges


def book(version: int, start_us: int, until_us: int | None = None, id_: str = "b") -> Pricebook:
    return Pricebook(id_, version, start_us, until_us, ())


def test_an_open_end_is_the_next_start() -> None:
    """The last version has no end; an explicit end before the next start leaves a gap; other pricebooks do not matter."""
    books = [book(1, 0), book(2, 10, 15), book(3, 20), book(1, 5, id_="other")]
    assert effective_ranges(books, {}) == {
        ("b", 1): (0, 10), ("b", 2): (10, 15), ("b", 3): (20, END_OF_TIME_US), ("other", 1): (5, END_OF_TIME_US),
    }  # fmt: skip


def test_a_retired_version_ends() -> None:
    """At the instant that was set, which nothing takes over before the next version starts."""
    assert effective_ranges([book(1, 0), book(2, 10)], {("b", 1): 4}) == {
        ("b", 1): (0, 4),
        ("b", 2): (10, END_OF_TIME_US),
    }


def test_a_withdrawn_version_never_was() -> None:
    """The one before it goes on, and the one that replaces it may start when it would have."""
    books = [book(1, 0), book(2, 10)]
    ends = {("b", 2): 10}
    assert effective_ranges(books, ends) == {("b", 1): (0, END_OF_TIME_US), ("b", 2): (10, 10)}
    assert collisions(books, ends, [book(3, 10)]) == []
    assert effective_ranges([*books, book(3, 10)], ends) == {
        ("b", 1): (0, 10), ("b", 2): (10, 10), ("b", 3): (10, END_OF_TIME_US),
    }  # fmt: skip


@given(
    st.lists(st.tuples(st.integers(0, 30), st.none() | st.integers(0, 40)), max_size=6),
    st.dictionaries(st.integers(1, 6), st.integers(0, 40), max_size=3),
    st.integers(0, 45),
)
def test_no_instant_has_two_versions(written: list[tuple[int, int | None]], retired: dict[int, int], at: int) -> None:
    """Whatever is accepted one after the other: ranges never share an instant, and lie inside what was asked for."""
    books: list[Pricebook] = []
    ends = {("b", version): end for version, end in retired.items()}
    for version, (start, until) in enumerate(written, 1):
        new = book(version, start, until if until is None or until > start else None)
        if not collisions(books, ends, [new]):
            books.append(new)
    found = effective_ranges(books, ends)
    assert sum(start <= at < end for start, end in found.values()) <= 1
    for one in books:
        start, end = found[(one.id, one.version)]
        assert start == one.effective_from_us
        assert end <= min(
            one.effective_until_us or END_OF_TIME_US, max(start, ends.get(("b", one.version), END_OF_TIME_US))
        )
