"""Value expressions over columns: what exact fractions, one event at a time, come to; or the same flaw."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from lineitem.catalog.expression import parse_value
from lineitem.core.reasons import Reason
from lineitem.rate.columns import Columns
from lineitem.rate.readings import CHUNK, Flaw
from lineitem.rate.value import compute_values
from tests.rate.test_filter import events_of

GB_SECONDS = "ceil(data.duration_ms) * data.memory_mb / 1024000"
LEDGER_END = 10**38


def computed(
    text: str, data: list[dict[str, Any]], scale: int = 9, rows: list[int] | None = None
) -> list[int | Reason]:
    """What each event comes to: integers at ``scale``, or the reason of its flaw."""
    chosen = None if rows is None else np.array(rows, dtype=np.int64)
    values, flaws = compute_values(parse_value(text), Columns(events_of(data), None), chosen, scale)
    assert all(values[at] == 0 for at in flaws), "a flaw leaves no value behind"
    return [flaws[at].reason if at in flaws else int(value) for at, value in enumerate(values.tolist())]


def flaw_of(text: str, data: dict[str, Any], scale: int = 9) -> Flaw:
    """The one flaw of one event."""
    _, flaws = compute_values(parse_value(text), Columns(events_of([data]), None), None, scale)
    return flaws[0]


# --- the oracle: an expression is generated as a text together with a function that says what it means


class Flawed(Exception):
    def __init__(self, reason: Reason) -> None:
        self.reason = reason


Row = dict[str, Any]
Meaning = tuple[str, Callable[[Row], Fraction]]
Test = tuple[str, Callable[[Row], tuple[bool | None, Any]]]
"""A condition and its answer; None with the value that is in the way where it has none."""

NUMERIC = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def operand(value: Any) -> Fraction:
    if value is None:
        raise Flawed(Reason.MISSING_VALUE)
    if isinstance(value, bool | list | dict) or (isinstance(value, str) and not NUMERIC.fullmatch(value)):
        raise Flawed(Reason.BAD_VALUE)
    if isinstance(value, Decimal) and not value.is_finite():
        raise Flawed(Reason.BAD_VALUE)
    assert value.__class__ in (int, Decimal, str)
    number = Fraction(str(value))
    decimals = next((d for d in range(39) if (number * 10**d).denominator == 1), None)
    if abs(number) >= LEDGER_END or (decimals is not None and abs(number * 10**decimals) >= LEDGER_END):
        raise Flawed(Reason.VALUE_OUT_OF_RANGE)
    if decimals is None:
        raise Flawed(Reason.TOO_PRECISE)
    return number


def half_away(number: Fraction) -> int:
    return floor(number + Fraction(1, 2)) if number >= 0 else -floor(Fraction(1, 2) - number)


ROUND: dict[str, Callable[[Fraction], int]] = {"ceil": ceil, "floor": floor, "round": half_away}
ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
}  # fmt: skip
FIELDS = st.sampled_from(["a", "b", "c"])
CONSTANTS = st.sampled_from(["0", "1", "2", "30", "0.5", "0.001", "1024000", "123456789012345678901.25", "-7", "-0.3"])
STEPS = st.sampled_from(["1", "6", "100", "0.25", "0.001", "7", "12345678901234567890"])


def read(field: str) -> Meaning:
    return f"data.{field}", lambda row: operand(row.get(field))


def constant(text: str) -> Meaning:
    return text, lambda row: Fraction(text)


LEAVES = FIELDS.map(read) | FIELDS.map(read) | CONSTANTS.map(constant)


def is_number(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, Decimal) and value.is_finite()
    )


def ordering(field: str, sign: str, text: str) -> Test:
    def answer(row: Row) -> tuple[bool | None, Any]:
        value = row.get(field)
        return (ORDER[sign](Fraction(str(value)), Fraction(text)), None) if is_number(value) else (None, value)

    return f"data.{field} {sign} {text}", answer


def present(field: str) -> Test:
    return f"has(data.{field})", lambda row: (row.get(field) is not None, None)


def starts(field: str) -> Test:
    def answer(row: Row) -> tuple[bool | None, Any]:
        value = row.get(field)
        return (value.startswith("1"), None) if isinstance(value, str) else (None, value)

    return f"data.{field}.startsWith('1')", answer


def both(left: Test, right: Test, sign: str) -> Test:
    settling = sign == "||"

    def answer(row: Row) -> tuple[bool | None, Any]:
        a, b = left[1](row), right[1](row)
        if settling in (a[0], b[0]):
            return settling, None
        return (not settling, None) if a[0] is not None and b[0] is not None else (a if a[0] is None else b)

    return f"({left[0]} {sign} {right[0]})", answer


def negated(test: Test) -> Test:
    def answer(row: Row) -> tuple[bool | None, Any]:
        found, value = test[1](row)
        return (None if found is None else not found), value

    return f"!({test[0]})", answer


TESTS: st.SearchStrategy[Test] = st.recursive(
    st.builds(ordering, FIELDS, st.sampled_from(sorted(ORDER)), CONSTANTS) | FIELDS.map(present) | FIELDS.map(starts),
    lambda inner: st.builds(both, inner, inner, st.sampled_from(["&&", "||"])) | inner.map(negated),
    max_leaves=3,
)


def arithmetic(left: Meaning, sign: str, right: Meaning) -> Meaning:
    def result(row: Row) -> Fraction:
        a, b = left[1](row), right[1](row)
        return {"+": a + b, "-": a - b, "*": a * b}[sign]

    return f"({left[0]} {sign} {right[0]})", result


def divided(left: Meaning, divisor: str) -> Meaning:
    return f"({left[0]} / {divisor})", lambda row: left[1](row) / Fraction(divisor)


def rounded(mode: str, inner: Meaning, step: str) -> Meaning:
    text = f"{mode}({inner[0]})" if step == "1" else f"{mode}({inner[0]}, {step})"
    return text, lambda row: ROUND[mode](inner[1](row) / Fraction(step)) * Fraction(step)


def extreme(mode: str, parts: list[Meaning]) -> Meaning:
    choose = min if mode == "min" else max
    return f"{mode}({', '.join(part[0] for part in parts)})", lambda row: choose([part[1](row) for part in parts])


def conditional(test: Test, then: Meaning, otherwise: Meaning) -> Meaning:
    def result(row: Row) -> Fraction:
        found, value = test[1](row)
        if found is None:
            raise Flawed(Reason.MISSING_VALUE if value is None else Reason.BAD_VALUE)
        return then[1](row) if found else otherwise[1](row)

    return f"({test[0]} ? {then[0]} : {otherwise[0]})", result


def defaulted(field: str, fallback: Meaning) -> Meaning:
    def result(row: Row) -> Fraction:
        return fallback[1](row) if row.get(field) is None else operand(row[field])

    return f"default(data.{field}, {fallback[0]})", result


EXPRESSIONS: st.SearchStrategy[Meaning] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(arithmetic, inner, st.sampled_from("+-*"), inner),
        st.builds(divided, inner, st.sampled_from(["3", "1024000", "0.5", "-7"])),
        st.builds(rounded, st.sampled_from(sorted(ROUND)), inner, STEPS),
        st.builds(extreme, st.sampled_from(["min", "max"]), st.lists(inner, min_size=2, max_size=3)),
        inner.map(lambda one: (f"abs({one[0]})", lambda row: abs(one[1](row)))),
        inner.map(lambda one: (f"-({one[0]})", lambda row: -one[1](row))),
        st.builds(conditional, TESTS, inner, inner),
        st.builds(defaulted, FIELDS, inner),
    ),
    max_leaves=6,
)

GOOD: list[Any] = [0, 1, 5, -3, 31, 512, 1000, Decimal("100.2"), Decimal("-0.5"), Decimal("1E+3"), "7", "-2.50", "1e2",
        2**63 - 1, -(2**63), 2**63, 10**20, -(10**37), Decimal("99999999999.999999999"), Decimal("1E-18"),
        Decimal("-1.234567890123456789012345"), "0.00000000000000000000000000000000000001"]  # fmt: skip
BAD: list[Any] = [None, True, "x", "", " 1", [1], {}, Decimal("NaN"), Decimal("Infinity"), 10**38, Decimal("1E+40"), "1e-39",
       Decimal("12345678901234567890.1234567890123456789")]  # fmt: skip
VALUES = st.one_of(*[st.sampled_from(GOOD)] * 6, st.integers(-1000, 1000), st.sampled_from(BAD))
ROWS = st.lists(st.fixed_dictionaries({}, optional={"a": VALUES, "b": VALUES, "c": VALUES}), min_size=1, max_size=8)


def expected(meaning: Callable[[Row], Fraction], row: Row, scale: int) -> int | Reason:
    try:
        scaled = meaning(row) * 10**scale
    except Flawed as flawed:
        return flawed.reason
    if abs(scaled) >= LEDGER_END:
        return Reason.VALUE_OUT_OF_RANGE
    return scaled.numerator if scaled.denominator == 1 else Reason.TOO_PRECISE


@given(EXPRESSIONS, ROWS, st.sampled_from([0, 2, 9, 18]), st.booleans())
@example(rounded("ceil", read("a"), "1"), [{"a": -(2**63)}, {"a": 2**63 - 1}], 0, False)
@example(("-(data.a)", lambda row: -operand(row["a"])), [{"a": -(2**63)}], 0, False)
@example(("abs(data.a)", lambda row: abs(operand(row["a"]))), [{"a": -(2**63)}], 0, False)
@example(rounded("ceil", read("a"), "12345678901234567890"), [{"a": 0}], 0, False)
@example(rounded("round", read("a"), "1"), [{"a": 2**63 - 1}, {"a": -(2**63)}], 0, False)
def test_columns_equal_fractions(expression: Meaning, rows: list[Row], scale: int, every_other: bool) -> None:
    """Any expression over any rows, all of them or some: the same integers, else the same reason."""
    text, meaning = expression
    assume("data." in text)
    chosen = list(range(0, len(rows), 2)) if every_other else None
    wanted = [expected(meaning, rows[at], scale) for at in chosen or range(len(rows))]
    assert computed(text, rows, scale, chosen) == wanted


@given(ROWS, EXPRESSIONS)
def test_a_row_depends_on_itself_alone(rows: list[Row], expression: Meaning) -> None:
    """What stands beside an event in its batch changes neither its value nor its flaw."""
    assume("data." in expression[0])
    together = computed(expression[0], rows, 9)
    assert together == [computed(expression[0], [row], 9)[0] for row in rows]


def test_chunks_of_different_decimals_are_one_column() -> None:
    """A long column is read in chunks, each with the decimals it needs; the results know nothing of it."""
    kinds = [lambda n: n, lambda n: Decimal(n).scaleb(-1), lambda n: str(Decimal(n).scaleb(-7)), lambda n: n * 10**19,
             lambda n: None if n % 3 else Decimal(n).scaleb(-20)]  # fmt: skip
    rows: list[Row] = [{"a": kinds[n // CHUNK](n)} for n in range(CHUNK * len(kinds))]
    text, meaning = rounded("ceil", arithmetic(read("a"), "*", constant("2")), "0.25")
    assert computed(text, rows, 2) == [expected(meaning, row, 2) for row in rows]


def test_int64_stays_int64() -> None:
    """The narrow path answers in int64; one value beyond it makes Python ints, and both are exact."""
    narrow, _ = compute_values(
        parse_value(GB_SECONDS), Columns(events_of([{"duration_ms": 1000, "memory_mb": 512}] * 3), None), None, 9
    )
    assert (narrow.dtype.name, narrow.tolist()) == ("int64", [500_000_000] * 3)
    wide, flaws = compute_values(parse_value("data.a * data.a"), Columns(events_of([{"a": 10**15}]), None), None, 0)
    assert (wide.dtype.name, wide.tolist(), flaws) == ("object", [10**30], {})


@pytest.mark.parametrize(
    ("text", "data", "reason", "message"),
    [
        (GB_SECONDS, {"memory_mb": 512}, Reason.MISSING_VALUE, "data.duration_ms is missing or null"),
        (GB_SECONDS, {"duration_ms": 1, "memory_mb": "big"}, Reason.BAD_VALUE, "data.memory_mb is 'big', not a finite"),
        ('data["a b"].c + 1', {"a b": {"c": True}}, Reason.BAD_VALUE, 'data["a b"].c is True'),
        ("data.a + data.b", {"a": "x"}, Reason.BAD_VALUE, "data.a is 'x'"),
        ("data.a + 1", {"a": 10**38}, Reason.VALUE_OUT_OF_RANGE, "data.a is an integer of many digits"),
        ("data.a + 1", {"a": Decimal("1E+999999999")}, Reason.VALUE_OUT_OF_RANGE, "data.a is 1E+999999999"),
        ("data.a + 1", {"a": "1e99999999999999999999999"}, Reason.VALUE_OUT_OF_RANGE, "data.a is '1e999"),
        ("ceil(data.a)", {"a": Decimal("1E-999999999")}, Reason.TOO_PRECISE, "which has more than 38 decimals"),
        ("ceil(data.a)", {"a": "1e-99999999999999999999999"}, Reason.TOO_PRECISE, "which has more than 38 decimals"),
        ("ceil(data.a)", {"a": "0." + "3" * 5000}, Reason.TOO_PRECISE, "which has more than 38 decimals"),
        ("data.a / 3", {"a": 1}, Reason.TOO_PRECISE, "the value is 0.3333333333333333333333333333333333"),
        ("data.a * 10", {"a": 10**28}, Reason.VALUE_OUT_OF_RANGE, "the value has more than 38 digits at the meter's"),
        ("data.a < 5 ? 1 : 2", {}, Reason.MISSING_VALUE, "data.a is missing or null"),
        ("data.a < 5 ? 1 : 2", {"a": "3"}, Reason.BAD_VALUE, "data.a is '3', not a number, which < compares"),
        ("data.a < data.b ? 1 : 2", {"a": 1, "b": []}, Reason.BAD_VALUE, "data.b is a list, not a number"),
        ("data.a.contains('x') ? 1 : 2", {"a": 1}, Reason.BAD_VALUE, "data.a is 1, not a text, which contains asks"),
        ("data.a == 1 && !(data.b > 2) ? 1 : 2", {"a": 1}, Reason.MISSING_VALUE, "data.b is missing or null"),
    ],
)
def test_a_flaw_names_its_path(text: str, data: Row, reason: Reason, message: str) -> None:
    """Why an event is set aside, and which of its fields is to blame."""
    flaw = flaw_of(text, data)
    assert flaw.reason is reason
    assert message in flaw.text


@pytest.mark.parametrize(
    ("text", "data", "value"),
    [
        ("has(data.a) ? data.a : data.b * 2", {"b": 4}, 8),
        ("has(data.a) ? data.a : data.b * 2", {"a": 4, "b": "nonsense"}, 4),
        ("default(data.a, 0) + default(data.b, data.c)", {"c": 3}, 3),
        ("data.kind in ['in', 'both'] ? data.n : 0", {"kind": "out"}, 0),
        ("data.a == 1 ? 10 : data.a == 2 ? 20 : 30", {"a": 2}, 20),
        ("data.a == 1 || data.b < 5 ? 1 : 2", {"a": 1}, 1),
        ("1 + 2 * data.a - 6 / 3", {"a": 5}, 9),
        ("-data.a * -2 - -1", {"a": 5}, 11),
        ("(1 + 2) * data.a", {"a": 5}, 15),
        ("data.a -1", {"a": 5}, 4),
        ("round(data.a)", {"a": Decimal("-2.5")}, -3),
        ("ceil(data.a)", {"a": Decimal("-2.5")}, -2),
        ("floor(data.a)", {"a": Decimal("-2.5")}, -3),
        ("max(data.a, 0) + data.b", {"a": -7, "b": "2"}, 2),
    ],
)
def test_examples(text: str, data: Row, value: int) -> None:
    """Precedence, branches that are not taken, and rounding below zero."""
    assert computed(text, [data], 0) == [value]


def test_no_events_no_values() -> None:
    """An empty batch has neither values nor flaws, whatever the expression."""
    for text in (GB_SECONDS, "has(data.x) ? 1 : 2", "data.x < 5 ? data.x : 2"):
        assert computed(text, []) == []
