"""Which events a condition is true for, of a filter or inside a value: ``catalog.expression_tree`` over columns.

What a test means for one event:

- A path that is missing is ``null``. Values of different kinds are never equal: ``"1" == 1`` and ``true == 1`` are
  false; numbers compare exactly (``1 == 1.0``); a list or an object equals nothing.
- ``<``, ``<=``, ``>``, ``>=`` compare numbers and ``startsWith``, ``endsWith``, ``contains`` ask texts. Of any other
  value, a missing one and a numeric text included, they are *undecided*, and so is their negation: neither
  ``data.n < 5`` nor ``!(data.n < 5)`` matches an event without ``n``.
- ``&&``, ``||`` and ``!`` treat undecided as SQL treats null. An undecided filter does not match.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from decimal import ROUND_FLOOR, Decimal
from functools import reduce
from typing import Any, NamedTuple, assert_never

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog.expression import ORDERINGS
from lineitem.catalog.expression_tree import (
    AllOf,
    Among,
    AnyOf,
    Compare,
    Condition,
    Literal,
    Not,
    TextTest,
    Value,
)
from lineitem.rate.columns import Column, Columns, booleans, is_number

_ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_TEXT_TESTS: dict[str, Callable[[str, str], bool]] = {
    "startsWith": str.startswith, "endsWith": str.endswith, "contains": str.__contains__,
}  # fmt: skip


class Truth(NamedTuple):
    """(n,) where the condition is true and (n,) where it is false; neither where it is undecided."""

    true: NDArray[np.bool_]
    false: NDArray[np.bool_]


def passes(condition: Condition, columns: Columns) -> NDArray[np.bool_]:
    """(n,) which events the condition is true for."""
    return decide(condition, columns).true


def decide(condition: Condition, columns: Columns) -> Truth:
    """Which events the condition is true for, and which it is false for."""
    match condition:
        case Compare():
            return _comparison(condition, columns)
        case Among(path, options):
            return _decided(_among(columns.column(path), options))
        case TextTest(path, method, text):
            return _text_test(columns.column(path), _TEXT_TESTS[method], text)
        case Not(inner):
            true, false = decide(inner, columns)
            return Truth(false, true)
        case AllOf(conditions):
            parts = [decide(part, columns) for part in conditions]
            return Truth(
                reduce(np.logical_and, [part.true for part in parts]),
                reduce(np.logical_or, [part.false for part in parts]),
            )
        case AnyOf(conditions):
            parts = [decide(part, columns) for part in conditions]
            return Truth(
                reduce(np.logical_or, [part.true for part in parts]),
                reduce(np.logical_and, [part.false for part in parts]),
            )
        case _:
            assert_never(condition)


def _decided(true: NDArray[np.bool_]) -> Truth:
    return Truth(true, ~true)


def _comparison(test: Compare, columns: Columns) -> Truth:
    left = columns.column(test.left)
    if test.operator in ORDERINGS:
        if isinstance(test.right, Literal):
            return _order_literal(left, test.operator, test.right.value)
        return _order_columns(left, _ORDER[test.operator], columns.column(test.right))
    if isinstance(test.right, Literal):
        equal = _equal_literal(left, test.right.value)
    else:
        equal = _equal_columns(left, columns.column(test.right))
    return _decided(equal if test.operator == "==" else ~equal)


# --- order


def _order_literal(column: Column, sign: str, literal: Value) -> Truth:
    if not isinstance(literal, int | Decimal):
        raise TypeError(f"{sign} with {literal!r} cannot come from parse_filter")
    compare = _ORDER[sign]
    if column.ints is not None:
        return _decided(_order_ints(column.ints, sign, literal))
    numbers = booleans(map(is_number, column.values), len(column))
    pairs = zip(column.values, numbers.tolist(), strict=True)
    true = booleans((number and compare(value, literal) for value, number in pairs), len(column))
    return Truth(true, numbers & ~true)


def _order_ints(ints: NDArray[np.int64], sign: str, literal: int | Decimal) -> NDArray[np.bool_]:
    """Exact against a fraction too: an integer lies below 4.5 if it is at most 4, and above it if it is above 4."""
    floor = int(literal.to_integral_value(ROUND_FLOOR)) if isinstance(literal, Decimal) else literal
    if floor != literal:
        sign = {"<": "<=", ">=": ">"}.get(sign, sign)
    result: NDArray[np.bool_] = _ORDER[sign](ints, floor)  # NumPy 2 compares exactly with an int beyond int64
    return result


def _order_columns(left: Column, compare: Callable[[Any, Any], Any], right: Column) -> Truth:
    if left.ints is not None and right.ints is not None:
        return _decided(compare(left.ints, right.ints))
    pairs = list(zip(left.values, right.values, strict=True))
    numbers = booleans((is_number(a) and is_number(b) for a, b in pairs), len(left))
    decidable = zip(pairs, numbers.tolist(), strict=True)
    true = booleans((number and compare(a, b) for (a, b), number in decidable), len(left))
    return Truth(true, numbers & ~true)


# --- equality


def _equal_literal(column: Column, literal: Value) -> NDArray[np.bool_]:
    count = len(column)
    if literal is None or isinstance(literal, bool):
        return booleans((value is literal for value in column.values), count)
    if isinstance(literal, str):
        return booleans((value == literal for value in column.values), count)
    if column.ints is not None:
        whole = int(literal)
        return np.equal(column.ints, whole) if whole == literal else np.zeros(count, dtype=np.bool_)
    return booleans((is_number(value) and value == literal for value in column.values), count)


def _equal_columns(left: Column, right: Column) -> NDArray[np.bool_]:
    if left.ints is not None and right.ints is not None:
        return np.equal(left.ints, right.ints)
    return booleans(map(_same, left.values, right.values), len(left))


def _same(a: Any, b: Any) -> bool:
    if is_number(a):
        return is_number(b) and bool(a == b)
    if isinstance(a, str):
        return bool(a == b)
    return a is b and (a is None or isinstance(a, bool))


def _among(column: Column, options: tuple[Value, ...]) -> NDArray[np.bool_]:
    plain = frozenset(option for option in options if isinstance(option, str) or is_number(option))
    if column.kinds <= {str, int}:
        return booleans((value in plain for value in column.values), len(column))
    special = [option for option in options if option is None or isinstance(option, bool)]

    def listed(value: Any) -> bool:
        if isinstance(value, str) or is_number(value):
            return value in plain
        return any(value is option for option in special)

    return booleans(map(listed, column.values), len(column))


# --- texts


def _text_test(column: Column, test: Callable[[str, str], bool], text: str) -> Truth:
    texts = booleans((value.__class__ is str for value in column.values), len(column))
    pairs = zip(column.values, texts.tolist(), strict=True)
    true = booleans((is_text and test(value, text) for value, is_text in pairs), len(column))
    return Truth(true, texts & ~true)
