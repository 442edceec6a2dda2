"""What grants pay of what is owed: in their order, never more than either, first what nobody behind could pay."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lineitem.rate.credits import Grant, Slice, cuts, draw, shares

ANY = Grant("any", "USD", 100, 10, 0, None)


def owing(month: int = 0, **owed: int) -> Slice:
    """A month of a hundred microseconds in which prices are owed in USD."""
    return Slice(month, month * 100, month * 100 + 100, {(price, "USD"): nano for price, nano in owed.items()})


def test_priority_then_expiry_then_start_then_id() -> None:
    """100 is owed; each grant gives 10, so the order shows in who has given what when 35 are paid."""
    some = [
        Grant("d", "USD", 10, 2, 0, 500),
        Grant("c", "USD", 10, 2, 0, 400),
        Grant("b", "USD", 10, 1, 0, None),
        Grant("a", "USD", 10, 2, 1, 500),
        Grant("e", "USD", 10, 2, 0, None),
    ]
    assert draw(some, [owing(p=35)]) == {
        ("b", 0): {"p": 10},
        ("c", 0): {"p": 10},
        ("d", 0): {"p": 10},
        ("a", 0): {"p": 5},
    }


def test_what_is_left_goes_to_later_months() -> None:
    """Months in order of time, whatever order they come in."""
    assert draw([ANY], [owing(2, p=50), owing(0, p=30), owing(1, p=40)]) == {
        ("any", 0): {"p": 30},
        ("any", 1): {"p": 40},
        ("any", 2): {"p": 30},
    }


def test_currency_prices_and_time() -> None:
    """It pays for prices of its own currency, those it names, in parts of the month that lie in its time."""
    part = Slice(0, 0, 100, {("p", "USD"): 5, ("p", "EUR"): 7, ("q", "USD"): 9})
    assert draw([ANY], [part]) == {("any", 0): {"p": 5, "q": 9}}
    assert draw([replace(ANY, prices=frozenset({"q"}))], [part]) == {("any", 0): {"q": 9}}
    assert draw([replace(ANY, expires_us=0)], [part]) == {}
    assert draw([replace(ANY, effective_us=100)], [part]) == {}


def test_a_grant_for_one_price_is_not_left_over() -> None:
    """The general grant pays q, which the special one cannot, although p comes first by name."""
    special = Grant("special", "USD", 100, 20, 0, None, frozenset({"p"}))
    assert draw([ANY, special], [owing(p=100, q=100)]) == {("any", 0): {"q": 100}, ("special", 0): {"p": 100}}


def test_parts_of_a_month() -> None:
    """A volume price fell from 30 to 20 with more usage: at the cut at most the 20 were owed. A retraction below zero is 0."""
    assert shares([], 7) == [7]
    assert shares([3], 10) == [3, 7]
    assert shares([30], 20) == [20, 0]
    assert shares([5, 30, 4], 20) == [4, 0, 0, 16]
    assert shares([-5], 3) == [0, 3]
    assert shares([5], -3) == [0, 0]
    grants = [replace(ANY, effective_us=40), replace(ANY, expires_us=70), replace(ANY, effective_us=100)]
    assert cuts(grants, 0, 100) == [40, 70]


_PRICES = st.sampled_from(["p", "q", "r"])
_GRANTS = st.lists(
    st.builds(
        Grant,
        st.integers(0, 10**6).map(str), st.sampled_from(["USD", "EUR"]), st.integers(1, 60), st.integers(1, 2),
        st.sampled_from([0, 100, 200]), st.sampled_from([None, 300, 400]), st.frozensets(_PRICES, max_size=2),
    ),
    max_size=5, unique_by=lambda one: one.id,
)  # fmt: skip
_OWED = st.dictionaries(st.tuples(_PRICES, st.sampled_from(["USD", "EUR"])), st.integers(-5, 50), max_size=5)


@given(_GRANTS, st.lists(_OWED, max_size=4), st.randoms(use_true_random=False))
def test_bounds_of_any_draw(grants: list[Grant], months: list[dict[tuple[str, str], int]], chance: object) -> None:
    """Never more than was granted or owed; nothing that a grant could have paid is open while it has something left."""
    slices = [Slice(at, at * 100, at * 100 + 100, owed) for at, owed in enumerate(months)]
    found = draw(grants, slices)
    shuffled = list(grants)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert draw(shuffled, slices[::-1]) == found
    for grant in grants:
        drawn = sum(sum(prices.values()) for (name, _), prices in found.items() if name == grant.id)
        assert 0 <= drawn <= grant.amount_nano
        for part in slices if drawn < grant.amount_nano else ():
            for covered, nano in part.owed.items():
                if grant.pays_for(covered) and grant.pays_in(part.start_us, part.end_us):
                    assert _paid(grants, found, part.month, covered) == max(nano, 0)
    for part in slices:
        for covered, nano in part.owed.items():
            assert 0 <= _paid(grants, found, part.month, covered) <= max(nano, 0)


def _paid(
    grants: list[Grant], found: dict[tuple[str, int], dict[str, int]], month: int, covered: tuple[str, str]
) -> int:
    return sum(found.get((one.id, month), {}).get(covered[0], 0) for one in grants if one.currency == covered[1])


@given(st.lists(st.integers(-50, 50), max_size=4), st.integers(-5, 50))
def test_shares_are_never_negative_and_sum_to_the_total(owed_by: list[int], total: int) -> None:
    """One part more than cuts."""
    found = shares(owed_by, total)
    assert len(found) == len(owed_by) + 1
    assert min(found) >= 0
    assert sum(found) == max(total, 0)
