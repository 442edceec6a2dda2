"""Who is in a canary, and from which service month on."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.catalog.canary import (
    Bounds,
    CanaryAct,
    Change,
    Chosen,
    Step,
    arm_at,
    arms_of,
    change_from_document,
    check_change,
    first_month,
    held,
    percentage,
    started,
)
from lineitem.catalog.load import parse_catalog
from lineitem.core.errors import IntegrityError, Refused, UsageError
from lineitem.core.period import Month
from tests.catalog.canary_catalogs import catalog, version

OCTOBER, NOVEMBER, DECEMBER, JANUARY = range(Month(2026, 10).index, Month(2026, 10).index + 4)
EVERY = [f"account-{number}" for number in range(100_000)]
BOOK = "@canary/std-2"


def change(act: CanaryAct = CanaryAct.START, **more: Any) -> Change:
    given: dict[str, Any] = {"percent": Decimal(10), "salt": "s", "from_month": OCTOBER, **more}
    return Change("std-2", act, "std", 2, chosen="some", **given)


def steps(*changes: Change) -> list[Step]:
    return [Step(number, one) for number, one in enumerate(changes, start=2)]


@pytest.mark.parametrize("salt", ["std-2", "a", "b", "2026-11", "ü"])
def test_ten_percent_of_100_000_accounts_are_ten_percent(salt: str) -> None:
    """Between 9.7 and 10.3 %, whatever the salt: three standard deviations are 0.28 %."""
    (step,) = steps(change(salt=salt))
    assert 9_700 <= sum(step.has(account) for account in EVERY) <= 10_300


def test_another_salt_chooses_others() -> None:
    """Of two choices of 10 %, a tenth is in both: nobody is always the one who tries."""
    one, other = steps(change(salt="a"), change(salt="b"))
    both = sum(one.has(account) and other.has(account) for account in EVERY)
    assert 800 <= both <= 1_200


def test_a_ramp_keeps_its_members() -> None:
    """From 10 to 50 %, and to 100 %: nobody leaves, and in the end all are in."""
    ten, fifty, all_ = steps(change(), change(percent=Decimal(50)), change(percent=Decimal(100)))
    members = [{account for account in EVERY[:20_000] if step.has(account)} for step in (ten, fifty, all_)]
    assert members[0] < members[1] < members[2]
    assert len(members[2]) == 20_000


@given(st.text(max_size=30), st.integers(1, 100_000_000))
def test_membership_grows_with_the_percentage(account: str, millionths: int) -> None:
    """Whoever is in at some percentage is in at any higher one."""
    percent = Decimal(millionths).scaleb(-6)
    low, high = steps(change(percent=percent), change(percent=min(percent + 7, Decimal(100))))
    assert high.has(account) or not low.has(account)


def test_named_accounts_are_members() -> None:
    """And nobody else."""
    (step,) = steps(change(percent=None, accounts=("a", "b")))
    assert [step.has(account) for account in ("a", "b", "c")] == [True, True, False]


def test_arms_follow_the_steps() -> None:
    """In from the first month; after a stop, out again, from the month after the last one with usage."""
    start, stop = change(percent=None, accounts=("a",)), change(CanaryAct.STOP, percent=None)
    assert arms_of(steps(start), "a") == ((OCTOBER, BOOK),)
    assert arms_of(steps(start), "b") == ()
    assert arms_of(steps(start, stop), "a") == ()  # no usage yet: as if it had never begun
    later = [*steps(start), Step(3, stop, {"a": DECEMBER})]
    assert arms_of(later, "a") == ((OCTOBER, BOOK), (DECEMBER, None))
    assert [arm_at(arms_of(later, "a"), month) for month in (OCTOBER - 1, NOVEMBER, DECEMBER)] == [None, BOOK, None]


def test_months_with_usage_keep_their_arm() -> None:
    """A step holds exactly the accounts whose rated months it would move, until the month after the last of them."""
    start = steps(change(percent=None, accounts=("a", "b")))
    more = Step(3, change(CanaryAct.RAMP, percent=None, accounts=("b", "c", "d")))
    used = {"a": [OCTOBER], "b": [NOVEMBER], "c": [OCTOBER, NOVEMBER], "e": [DECEMBER]}
    assert held(start, more, used) == {"a": NOVEMBER, "c": DECEMBER}


_NAMES = st.sampled_from("abc")


@given(
    st.lists(st.tuples(st.booleans(), st.sets(_NAMES), st.sets(st.tuples(_NAMES, st.integers(0, 4)))), max_size=8),
)
def test_no_step_ever_moves_a_rated_month(acts: list[tuple[bool, set[str], set[tuple[str, int]]]]) -> None:
    """Whatever the order of steps and usage: a month of an account keeps the arm in which its first usage was rated."""
    found: list[Step] = []
    rated: dict[tuple[str, int], str | None] = {}
    for number, (runs, members, usage) in enumerate(acts):
        act = CanaryAct.RAMP if runs else CanaryAct.STOP
        new = Step(number, change(act, percent=None, accounts=tuple(members), from_month=OCTOBER + 1))
        used: dict[str, list[int]] = {}
        for account, month in rated:
            if month > OCTOBER:
                used.setdefault(account, []).append(month)
        found.append(replace(new, holds=held(found, new, used)))
        for (account, month), arm in rated.items():
            assert arm_at(arms_of(found, account), month) == arm
        for account, offset in usage:
            month = OCTOBER + offset
            rated.setdefault((account, month), arm_at(arms_of(found, account), month))


def test_a_step_comes_back_from_its_document() -> None:
    """With every field, decimals and the prices included; a damaged one is said to be."""
    book = parse_catalog(catalog(version(1), version(2)), "c").pricebooks[1]
    one = change(bounds=Bounds(Decimal("0.5"), Decimal(7)), book=book, accounts=("a",), reason="r")
    assert change_from_document(one.document()) == one
    with pytest.raises(IntegrityError, match="not a step"):
        change_from_document(one.document()[:-2])


# --- what may start


@pytest.mark.parametrize("text", ["0", "-1", "100.1", "ten", "NaN", "Infinity", "0.0000001", ""])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    """Above 0, up to 100, six decimals."""
    with pytest.raises(UsageError, match="is not a percentage"):
        percentage(text)


def begun(*books: dict[str, Any], **more: Any) -> Change:
    current = parse_catalog(catalog(version(1)), "c")
    file = parse_catalog(catalog(*books, **more), "c")
    return started(current, file, list(current.pricebooks), None, Chosen("some", Decimal(5)), Bounds(), None)


def test_a_canary_begins_with_a_month() -> None:
    """That of the new version's start, or the one after; its prices lie in a pricebook of its own."""
    made = begun(version(1), version(2, "2026-11-15T00:00:00Z"))
    assert (made.canary, made.pricebook, made.version, made.from_month) == ("std-2", "std", 2, DECEMBER)
    assert made.book is not None
    assert (made.book.id, made.book.version, str(made.book.prices[0].unit_price)) == (BOOK, 1, "2")
    assert first_month(0) == Month(1970, 1).index


@pytest.mark.parametrize(
    ("books", "more", "reason"),
    [
        ([version(1)], {}, "exactly one new pricebook version; it has none"),
        ([version(1), version(2), version(3, "2027-01-01T00:00:00Z")], {}, "it has std version 2, std version 3"),
        ([version(1), version(1, id_="other")], {}, "pricebook other is not published"),
        ([version(1), version(2)], {"issuer": {"name": "N"}}, "changes more than the prices of std: issuer"),
    ],
)
def test_a_file_that_is_no_candidate_is_refused(books: list[Any], more: dict[str, Any], reason: str) -> None:
    """One new version of one published pricebook, and nothing else."""
    with pytest.raises(Refused, match=reason):
        begun(*books, **more)


def test_one_canary_at_a_time_for_a_pricebook() -> None:
    """Another name does not help, the same name never comes again, and what has ended cannot go on."""
    running, stop = change(), change(CanaryAct.STOP, percent=None)
    with pytest.raises(Refused, match="canary std-2 is running on pricebook std"):
        check_change(replace(running, canary="other"), steps(running))
    with pytest.raises(Refused, match="there was a canary 'std-2' already"):
        check_change(running, steps(running, stop))
    check_change(replace(running, canary="other"), steps(running, stop))
    with pytest.raises(Refused, match="has been stopped"):
        check_change(replace(running, act=CanaryAct.RAMP), steps(running, stop))
    with pytest.raises(Refused, match="has these members already"):
        check_change(replace(running, act=CanaryAct.RAMP), steps(running))
    with pytest.raises(Refused, match="there is no canary 'x'"):
        check_change(replace(stop, canary="x"), steps(running))
