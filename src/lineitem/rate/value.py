"""What a meter's value expression comes to for each event: exact rational columns, then integers at the meter's scale.

Every number is a column of integers over one denominator, which the expression's constants and the decimals of its
operands determine. int64 where a bound check proves that it fits, Python ints where it does not (``rate.exact``); a
value is rounded only where the expression says so. What a row's result depends on is that row alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from functools import reduce
from math import gcd, lcm
from typing import Any, NamedTuple, assert_never

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog.expression import ORDERINGS
from lineitem.catalog.expression_tree import (
    Absolute,
    AllOf,
    Among,
    AnyOf,
    Arithmetic,
    Compare,
    Condition,
    Conditional,
    Constant,
    Extreme,
    Not,
    Number,
    Path,
    Rounded,
    TextTest,
)
from lineitem.core.limits import QUANTITY_DIGITS_MAX
from lineitem.core.reasons import Reason
from lineitem.rate.columns import Columns, is_number
from lineitem.rate.exact import (
    BoolArray,
    IntArray,
    add,
    compact,
    exceeds_ledger,
    floor_divide,
    multiply,
    select,
    subtract,
    times,
)
from lineitem.rate.filter import decide
from lineitem.rate.operands import Operand, read_operand
from lineitem.rate.readings import Flaw, Flaws, shown

_SHOWN = Context(prec=QUANTITY_DIGITS_MAX, rounding=ROUND_HALF_EVEN)


class _Ratio(NamedTuple):
    """``numerator / denominator``; ``numerator`` is (n,), or (1,) where all events have one value."""

    numerator: IntArray
    denominator: int


def compute_values(
    number: Number, columns: Columns, rows: NDArray[np.int64] | None, scale: int
) -> tuple[IntArray, Flaws]:
    """The value of each event at ``rows`` (None: all) times ``10**scale``.

    Returns (n,) integers, int64 if all fit, else Python ints, with 0 where there is a flaw; and the flaws, each with
    the first one that working from left to right meets: ``missing_value`` and ``bad_value`` for an operand that is no
    number and for a condition that is undecided, ``too_precise`` for a result with more than ``scale`` decimals,
    ``value_out_of_range`` for one of more than 38 digits. Their texts name the path.
    """
    evaluation = _Evaluation(columns, rows)
    result = evaluation.number(number, None)
    return evaluation.scaled(result, scale), evaluation.flaws


class _Evaluation:
    """One expression over the events of one type. ``active`` masks the events a node matters for; None: all."""

    def __init__(self, columns: Columns, rows: NDArray[np.int64] | None) -> None:
        self.flaws: Flaws = {}
        self._columns = columns
        self._rows = rows
        self._count = len(columns) if rows is None else len(rows)
        self._operands: dict[Path, Operand] = {}

    def number(self, node: Number, active: BoolArray | None) -> _Ratio:
        """The numbers of ``node``; any number where it is not active or has a flaw."""
        match node:
            case Path():
                return self._path(node, active)
            case Constant(value):
                return _Ratio(_one(value.numerator), value.denominator)
            case Arithmetic(operator, left, right):
                return _arithmetic(operator, self.number(left, active), self.number(right, active))
            case Rounded(mode, inner, step):
                return _rounded(mode, self.number(inner, active), step.numerator, step.denominator)
            case Extreme(mode, numbers):
                choose = np.minimum if mode == "min" else np.maximum
                return reduce(lambda a, b: _extreme(choose, a, b), [self.number(one, active) for one in numbers])
            case Absolute(inner):
                numerator, denominator = self.number(inner, active)
                return _Ratio(select(numerator < 0, times(numerator, -1), numerator), denominator)
            case Conditional():
                return self._conditional(node, active)
            case _:
                assert_never(node)

    def scaled(self, result: _Ratio, scale: int) -> IntArray:
        """The result at the meter's scale; notes what does not fit."""
        numerator, denominator = result
        if len(numerator) != self._count:
            numerator = np.repeat(numerator, self._count)
        common = gcd(10**scale, denominator)
        divisor = denominator // common
        wanted = times(numerator, 10**scale // common)
        values = floor_divide(wanted, divisor)
        misfits = exceeds_ledger(values)
        if divisor != 1:
            misfits |= times(values, divisor) != wanted
        for at in np.flatnonzero(misfits).tolist():
            if at not in self.flaws:
                self.flaws[at] = _misfit(Fraction(int(numerator[at]), denominator), scale)
        if self.flaws:
            values = values.copy()
            values[list(self.flaws)] = 0
        return compact(values)

    def _path(self, path: Path, active: BoolArray | None) -> _Ratio:
        if path not in self._operands:
            self._operands[path] = read_operand(self._columns.column(path).take(self._rows))
        values, scale, flaws = self._operands[path]
        for at, flaw in flaws.items():
            if active is None or active[at]:
                self._note(at, path, flaw)
        return _Ratio(values, 10**scale)

    def _conditional(self, node: Conditional, active: BoolArray | None) -> _Ratio:
        true, false = decide(node.condition, self._columns)
        if self._rows is not None:
            true, false = true[self._rows], false[self._rows]
        if active is not None:
            true, false = true & active, false & active
        if np.count_nonzero(true) + np.count_nonzero(false) < (self._count if active is None else int(active.sum())):
            undecided = ~(true | false) if active is None else ~(true | false) & active
            self._note_undecided(node.condition, undecided)
        if not true.any():
            return self.number(node.otherwise, false)
        if not false.any():
            return self.number(node.then, true)
        then, otherwise = _alike(self.number(node.then, true), self.number(node.otherwise, false))
        return _Ratio(select(true, then.numerator, otherwise.numerator), then.denominator)

    def _note(self, at: int, path: Path, flaw: Flaw) -> None:
        self.flaws.setdefault(at, Flaw(flaw.reason, f"{path} {flaw.text}"))

    def _note_undecided(self, condition: Condition, undecided: BoolArray) -> None:
        """The first test that has no answer names the value that is in its way."""
        for test in _tests(condition):
            true, false = decide(test, self._columns)
            unanswered = ~(true | false)
            for at in np.flatnonzero(undecided & (unanswered if self._rows is None else unanswered[self._rows])):
                row = int(at if self._rows is None else self._rows[at])
                self._note(int(at), *_in_the_way(test, self._columns, row))


def _one(value: int) -> IntArray:
    return times(np.ones(1, dtype=np.int64), value)


# --- arithmetic


def _alike(left: _Ratio, right: _Ratio) -> tuple[_Ratio, _Ratio]:
    """Both over one denominator."""
    common = lcm(left.denominator, right.denominator)
    return (
        _Ratio(times(left.numerator, common // left.denominator), common),
        _Ratio(times(right.numerator, common // right.denominator), common),
    )


def _arithmetic(operator: str, left: _Ratio, right: _Ratio) -> _Ratio:
    if operator == "*":
        return _Ratio(_product(left.numerator, right.numerator), left.denominator * right.denominator)
    a, b = _alike(left, right)
    combine = add if operator == "+" else subtract
    return _Ratio(combine(a.numerator, b.numerator), a.denominator)


def _product(left: IntArray, right: IntArray) -> IntArray:
    for one, other in ((left, right), (right, left)):
        if len(one) == 1:
            return times(other, int(one[0]))
    return multiply(left, right)


def _extreme(choose: Any, left: _Ratio, right: _Ratio) -> _Ratio:
    a, b = _alike(left, right)
    numerators = (a.numerator, b.numerator)
    if any(one.dtype == object for one in numerators):
        return _Ratio(compact(choose(*(one.astype(object) for one in numerators))), a.denominator)
    return _Ratio(choose(*numerators), a.denominator)


def _rounded(mode: str, value: _Ratio, step: int, step_denominator: int) -> _Ratio:
    """To a multiple of ``step / step_denominator``: n/d in steps is n*sd / (d*s)."""
    common = gcd(step_denominator, value.denominator)
    steps = times(value.numerator, step_denominator // common)
    divisor = value.denominator // common * step
    if mode == "floor":
        whole = floor_divide(steps, divisor)
    elif mode == "ceil":
        whole = times(floor_divide(times(steps, -1), divisor), -1)
    else:
        # Half away from zero: the magnitude is rounded half up, so that credits mirror charges.
        negative = steps < 0
        twice = times(select(negative, times(steps, -1), steps), 2)
        magnitude = floor_divide(add(twice, _one(divisor)), 2 * divisor)
        whole = select(negative, times(magnitude, -1), magnitude)
    return _Ratio(times(whole, step), step_denominator)


def _misfit(value: Fraction, scale: int) -> Flaw:
    if abs(value) >= 10 ** (QUANTITY_DIGITS_MAX - scale):
        text = f"the value has more than {QUANTITY_DIGITS_MAX} digits at the meter's scale"
        return Flaw(Reason.VALUE_OUT_OF_RANGE, text)
    text = shown(_SHOWN.divide(Decimal(value.numerator), Decimal(value.denominator)))
    return Flaw(Reason.TOO_PRECISE, f"the value is {text}, but the meter keeps {scale} decimals")


# --- conditions without an answer


def _tests(condition: Condition) -> Iterator[Compare | TextTest]:
    """The tests that can be undecided, from left to right."""
    match condition:
        case Not(inner):
            yield from _tests(inner)
        case AllOf(conditions) | AnyOf(conditions):
            for part in conditions:
                yield from _tests(part)
        case TextTest():
            yield condition
        case Compare(operator):
            if operator in ORDERINGS:
                yield condition
        case Among():
            return
        case _:
            assert_never(condition)


def _in_the_way(test: Compare | TextTest, columns: Columns, row: int) -> tuple[Path, Flaw]:
    """The path whose value is not what ``test`` asks for, and what it is instead."""
    if isinstance(test, TextTest):
        path, wanted = test.path, f"not a text, which {test.method} asks"
    else:
        wanted = f"not a number, which {test.operator} compares"
        sides = [side for side in (test.left, test.right) if isinstance(side, Path)]
        path = next(side for side in sides if not is_number(columns.column(side).values[row]))
    value = columns.column(path).values[row]
    if value is None:
        return path, Flaw(Reason.MISSING_VALUE, "is missing or null")
    return path, Flaw(Reason.BAD_VALUE, f"is {shown(value)}, {wanted}")
