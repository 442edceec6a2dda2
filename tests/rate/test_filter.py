"""Filters over columns: the same answers as asking one event at a time."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.catalog.expression import METHODS, parse_filter
from lineitem.catalog.expression_tree import (
    AllOf,
    Among,
    AnyOf,
    Compare,
    Condition,
    Literal,
    Not,
    Path,
    TextTest,
    Value,
)
from lineitem.ingest.events import KEY_DTYPE, EventColumns
from lineitem.rate.columns import Columns
from lineitem.rate.filter import passes

A, B, DEEP = Path(("data", "a")), Path(("data", "b")), Path(("data", "o", "x"))


def events_of(data: Sequence[dict[str, Any]]) -> EventColumns:
    n = len(data)
    return EventColumns(
        ordinal=np.arange(n, dtype=np.int32),
        id=[f"e{i}" for i in range(n)],
        source=["s"] * n,
        type=["t"] * n,
        subject=[f"account-{i % 2}" for i in range(n)],
        time_us=np.zeros(n, dtype=np.int64),
        data=list(data),
        traceparent=[None] * n,
        key=np.zeros(n, dtype=KEY_DTYPE),
        digest=np.zeros(n, dtype=KEY_DTYPE),
    )


def passing(text: str, *data: dict[str, Any]) -> list[bool]:
    return passes(parse_filter(text), Columns(events_of(data), None)).tolist()


VALUES: list[Any] = [1, 1.0, 5, -3, 2**63, 10**40, Decimal("1.0"), Decimal("4.5"), Decimal("1E+30"), "1", "5", "abc",
                     "", True, False, None, [], [1], {}, {"x": 1}, Decimal("NaN"), Decimal("sNaN"),
                     Decimal("Infinity"), Decimal("-1E+999999999")]  # fmt: skip
VALUES = [value for value in VALUES if not isinstance(value, float)]  # the decoder never makes one
PAYLOADS = st.fixed_dictionaries(
    {},
    optional={
        "a": st.sampled_from(VALUES),
        "b": st.sampled_from(VALUES),
        "o": st.sampled_from([*VALUES, {"x": "abc"}, {"x": 5}]),
    },
)
INTEGERS = st.fixed_dictionaries(
    {"a": st.sampled_from([0, 1, 4, 5, -3, 2**63 - 1, -(2**63)]), "b": st.integers(-5, 5)},
    optional={"o": st.fixed_dictionaries({"x": st.integers(0, 3)})},
)
NUMBERS: st.SearchStrategy[Value] = st.sampled_from(
    [0, 1, 5, -3, 2**63, -(2**70), Decimal("4.5"), Decimal("-2.5"), Decimal("5.0")]
)
LITERALS: st.SearchStrategy[Value] = NUMBERS | st.sampled_from(["1", "abc", "", True, False, None])
PATHS = st.sampled_from([A, B, DEEP])
TESTS: st.SearchStrategy[Condition] = st.one_of(
    st.builds(Compare, st.sampled_from(["==", "!="]), PATHS, LITERALS.map(Literal)),
    st.builds(Compare, st.sampled_from(["<", "<=", ">", ">="]), PATHS, NUMBERS.map(Literal)),
    st.builds(Compare, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), PATHS, PATHS),
    st.builds(Among, PATHS, st.lists(LITERALS, min_size=1, max_size=4).map(tuple)),
    st.builds(TextTest, PATHS, st.sampled_from(METHODS), st.sampled_from(["", "a", "bc"])),
)
CONDITIONS = st.recursive(
    TESTS,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(AllOf, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(AnyOf, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=5,
)


def kind_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "text"
        case int():
            return "number"
        case Decimal() if value.is_finite():
            return "number"
    return "other"


def value_at(path: Path, data: Any) -> Any:
    for step in path.steps[1:]:
        data = data.get(step) if isinstance(data, dict) else None
    return data


def same(left: Any, right: Any) -> bool:
    return kind_of(left) == kind_of(right) != "other" and bool(left == right)


def holds(condition: Condition, data: dict[str, Any]) -> bool | None:
    """The meaning of a filter for one event, spelled out; None is undecided."""
    match condition:
        case Compare(sign, path, other):
            left = value_at(path, data)
            right = other.value if isinstance(other, Literal) else value_at(other, data)
            if sign in ("==", "!="):
                return same(left, right) == (sign == "==")
            if kind_of(left) != "number" or kind_of(right) != "number":
                return None
            return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[sign]
        case Among(path, options):
            return any(same(value_at(path, data), option) for option in options)
        case TextTest(path, method, text):
            value = value_at(path, data)
            if not isinstance(value, str):
                return None
            ask = {"startsWith": value.startswith, "endsWith": value.endswith, "contains": value.__contains__}
            return ask[method](text)
        case Not(inner):
            answer = holds(inner, data)
            return None if answer is None else not answer
        case AllOf(conditions):
            answers = [holds(inner, data) for inner in conditions]
            return False if False in answers else None if None in answers else True
        case AnyOf(conditions):
            answers = [holds(inner, data) for inner in conditions]
            return True if True in answers else None if None in answers else False


@given(CONDITIONS, st.lists(PAYLOADS, max_size=8) | st.lists(INTEGERS, min_size=1, max_size=8))
def test_columns_answer_as_events_do_one_by_one(condition: Condition, data: list[dict[str, Any]]) -> None:
    """The vectorised evaluation equals the definition, for every kind of value on both paths."""
    expected = [holds(condition, payload) is True for payload in data]
    assert passes(condition, Columns(events_of(data), None)).tolist() == expected


@given(TESTS, st.lists(PAYLOADS, min_size=1, max_size=8))
def test_a_condition_and_its_negation_never_both_hold(condition: Condition, data: list[dict[str, Any]]) -> None:
    """Usage cannot be billed by a meter and by the meter of everything else."""
    columns = Columns(events_of(data), None)
    assert not (passes(condition, columns) & passes(Not(condition), columns)).any()


@pytest.mark.parametrize(
    ("text", "payload", "expected"),
    [
        ("data.status < 500", {"status": 499}, True),
        ("data.status < 500", {"status": 500}, False),
        ("data.status < 500", {"status": "499"}, False),
        ("data.status < 500", {}, False),
        ("!(data.status < 500)", {}, False),
        ("!(data.status < 500)", {"status": "x"}, False),
        ("data.status < 500 || data.kind == 'a'", {"kind": "a"}, True),
        ("data.cached != true", {}, True),
        ("data.cached != true", {"cached": 1}, True),
        ("data.cached == 1", {"cached": True}, False),
        ("data.cached in [1]", {"cached": True}, False),
        ("data.n == 1", {"n": Decimal("1.0")}, True),
        ("data.n == '1'", {"n": 1}, False),
        ("data.n == null", {}, True),
        ("data.n == null", {"n": None}, True),
        ("data.n == null", {"n": 0}, False),
        ("data.n < 0.1", {"n": Decimal("0.09999999999999999999999999999999999999")}, True),
        ("data.n > 9007199254740992", {"n": 9007199254740993}, True),
        ("data.a.b == 1", {"a": [1]}, False),
        ("data.p.startsWith('/api')", {"p": "/api/x"}, True),
        ("!data.p.startsWith('/api')", {}, False),
        ("data.m not in ['a', 'b']", {"m": "c"}, True),
        ("data.m not in ['a', 'b']", {}, True),
        ("type == 't' && subject == 'account-0' && source == 's' && id == 'e0'", {}, True),
    ],
)
def test_what_a_filter_means(text: str, payload: dict[str, Any], expected: bool) -> None:
    """The cases the reference page tells."""
    assert passing(text, payload) == [expected]


def test_integers_compare_exactly_with_fractions_and_giants() -> None:
    """The int64 kernel never rounds the literal."""
    data = [{"a": n} for n in (-3, -2, 0, 4, 5, 2**63 - 1, -(2**63))]
    for sign in ("<", "<=", ">", ">=", "==", "!="):
        for literal in ("-2.5", "4.5", "4.0", "9223372036854775807.5", "9223372036854775808", "-9223372036854775809"):
            condition = parse_filter(f"data.a {sign} {literal}")
            expected = [holds(condition, payload) is True for payload in data]
            assert passing(f"data.a {sign} {literal}", *data) == expected
