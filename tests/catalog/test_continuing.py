"""Which prices may go on with the tiers of the version before them, and which contents share tiers in which period."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lineitem.catalog.document import price_digest
from lineitem.catalog.load import parse_catalog
from lineitem.catalog.model import Catalog
from lineitem.catalog.publish import UsageSoFar, check_publish
from lineitem.catalog.snapshot import Snapshot, TierChains
from lineitem.catalog.trial import draft_snapshot
from lineitem.core.errors import CatalogError, Refused

HEAD = """\
currency: USD
meters:
  - {id: calls, event_type: call, aggregation: count}
  - {id: other, event_type: other, aggregation: sum, value: data.v}
  - {id: peak, event_type: call, aggregation: max, value: data.v}
pricebooks:
"""
DAY_US = 86_400_000_000
OCTOBER_US = 1_790_812_800_000_000  # 2026-10-01T00:00:00Z


def version(number: int, day: str, price: str, book: str = "b") -> str:
    """A version in one line, on line 6 + number of the file."""
    about = f"id: {book}, version: {number}, effective_from: {day}T00:00:00Z"
    return f"  - {{{about}, prices: [{{id: p, model: per_unit, {price}}}]}}\n"


def priced(unit_price: int, on_change: str = "", meter: str = "calls") -> str:
    tail = f", on_change: {on_change}" if on_change else ""
    return f'meter: {meter}, unit_price: "{unit_price}"{tail}'


def catalog(*versions: tuple[str, str], tail: str = "") -> Catalog:
    text = HEAD + "".join(version(number, *one) for number, one in enumerate(versions, 1)) + tail
    return parse_catalog(text, "c.yaml")


def chains(*versions: tuple[str, str]) -> tuple[TierChains | None, list[int]]:
    """The chains of a catalog and the price key of each version, in order."""
    found = catalog(*versions)
    snapshot = draft_snapshot(Snapshot("n", 1, 1, replace(found, pricebooks=()), (), ()), found, as_dated=True)
    return snapshot.tier_chains, [row.price_key for row in sorted(snapshot.rows, key=lambda row: row.version)]


REFUSED = {
    "a maximum": (
        [("2026-01-01", priced(1, meter="peak")), ("2026-02-01", priced(2, "continue", meter="peak"))],
        ["c.yaml:8: price 'p' continues, but the meter 'peak' is a max"],
    ),
    "another meter": (
        [("2026-01-01", priced(1)), ("2026-02-01", priced(2, "continue", meter="other"))],
        ["c.yaml:8: price 'p' continues, but version 1 has the meter calls, not other"],
    ),
    "another currency": (
        [("2026-01-01", priced(1)), ("2026-02-01", priced(2, "continue") + ", currency: EUR")],
        ["c.yaml:8: price 'p' continues, but version 1 has the currency USD, not EUR"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_one_quantity_is_refused_with_its_line(case: str) -> None:
    """A fold that parts do not add up to, or another meter or currency before."""
    versions, problems = REFUSED[case]
    with pytest.raises(CatalogError) as caught:
        catalog(*versions)
    assert len(caught.value.problems) == len(problems)
    for found, wanted in zip(caught.value.problems, problems, strict=True):
        assert found.startswith(wanted)


def test_an_override_continues_an_override_only() -> None:
    """The first one of an account has nothing to go on with; the second one has the first."""

    def with_overrides(first: str, second: str) -> Catalog:
        written = (
            f"{{version: {n}, effective_from: 2026-0{n}-01T00:00:00Z, prices: [{{id: p, model: per_unit, {priced(n, how)}}}]}}"
            for n, how in ((1, first), (2, second))
        )
        tail = f"accounts: {{list: [{{id: x, pricebook: b, overrides: [{', '.join(written)}]}}]}}\n"
        return catalog(("2026-01-01", priced(1)), tail=tail)

    good = with_overrides("restart", "continue")
    assert [book.prices[0].continues for book in good.pricebooks if book.id != "b"] == [False, True]
    with pytest.raises(CatalogError, match="no override of it comes before"):
        with_overrides("continue", "restart")


def test_publish_looks_at_what_is_published_too() -> None:
    """A file that lists only the new version is held against the published one."""
    old = catalog(("2026-01-01", priced(1, meter="other")))
    both = catalog(("2026-01-01", priced(1)), ("2026-02-01", priced(2, "continue")))
    new = replace(both, pricebooks=both.pricebooks[1:])
    usage = UsageSoFar({}, frozenset(), {}, {})
    with pytest.raises(Refused, match="pricebook b version 2: price 'p' continues, but version 1 has the meter other"):
        check_publish(old, list(old.pricebooks), {}, new, usage)
    check_publish(old, list(old.pricebooks), {("b", 1): 0}, new, usage)  # withdrawn: it never counted


def test_restart_is_no_other_content() -> None:
    """`continue` is one: line items under it are worked out otherwise."""
    plain, restart, goes_on = (
        catalog(("2026-01-01", priced(1, how))).pricebooks[0].prices[0] for how in ("", "restart", "continue")
    )
    assert price_digest(plain) == price_digest(restart) != price_digest(goes_on)


def test_nothing_continues_nothing_is_kept() -> None:
    """A catalog without `continue` has no chains at all, and a price that stands alone in a period has none there."""
    assert chains(("2026-01-01", priced(1)), ("2026-10-16", priced(2)))[0] is None
    found, keys = chains(("2026-01-01", priced(1)), ("2026-10-16", priced(2, "continue")))
    assert found is not None
    september, october = (OCTOBER_US - 30 * DAY_US, OCTOBER_US), (OCTOBER_US, OCTOBER_US + 31 * DAY_US)
    november = (october[1], october[1] + 30 * DAY_US)
    assert [found.chain(keys[1], *period) for period in (september, november)] == [(), ()]
    assert [row.version for row in found.chain(keys[0], *october)] == [1, 2]
    assert [[row.version for row in found.before(key, *october)] for key in keys] == [[], [1]]
    assert found.chain(999, *october) == ()
    exactly = (OCTOBER_US + 15 * DAY_US, november[1])
    assert found.chain(keys[1], *exactly) == ()  # version 1 ended where the period begins


def test_a_chain_goes_back_to_the_part_that_restarts() -> None:
    """And a content that comes back stands where it was first."""
    october = (OCTOBER_US, OCTOBER_US + 31 * DAY_US)
    parts = [priced(1), priced(2), priced(3, "continue"), priced(4, "continue"), priced(5), priced(4, "continue")]
    found, keys = chains(
        *((f"2026-10-{day:02}", part) for day, part in zip((1, 5, 10, 15, 20, 25), parts, strict=True))
    )
    assert found is not None
    assert keys[3] == keys[5]
    assert [[row.version for row in found.before(key, *october)] for key in keys] == [[], [], [2], [2, 3], [], [2, 3]]
    assert [row.version for row in found.chain(keys[1], *october)] == [2, 3, 4]
    assert found.chain(keys[0], *october) == found.chain(keys[4], *october) == ()
