"""The language of meters, for filters and for values: a small whitelisted subset of CEL, parsed by hand and checked.

    expression  := condition ["?" expression ":" expression]
    condition   := and ("||" and)*                      also written  or
    and         := not ("&&" not)*                      also written  and
    not         := "!" not | test                       also written  not
    test        := sum [compare sum]
                 | path ["not"] "in" "[" literal ("," literal)* "]"
                 | path "." ("startsWith" | "endsWith" | "contains") "(" string ")"
    compare     := "==" | "!=" | "<" | "<=" | ">" | ">="
    sum         := product (("+" | "-") product)*
    product     := sign (("*" | "/") sign)*
    sign        := "-" sign | "(" expression ")" | function "(" expression ("," expression)* ")" | path | literal
    path        := "data" ("." name | "[" string "]")+ | "type" | "source" | "subject" | "id"
    literal     := ["-"] digits ["." digits] | string | "true" | "false" | "null"
    function    := "ceil" | "floor" | "round" | "min" | "max" | "abs" | "default" | "has"

A filter is a condition, a value is a number, and what cannot be one is refused: computed numbers are not compared,
texts are not computed with, only a constant divides. There are no regular expressions and no binary floats; an
expression cannot name another one, so none can go round in circles. The trees are in ``catalog.expression_tree``.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import TypeAlias, assert_never

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
    Literal,
    Not,
    Number,
    Path,
    Rounded,
    TextTest,
    Value,
)
from lineitem.catalog.expression_words import WORD_SIGNS, Token, tokens, unquoted, wrong
from lineitem.core.limits import (
    EXPRESSION_DEPTH_MAX,
    EXPRESSION_DIGITS_MAX,
    EXPRESSION_FACTORS_MAX,
    EXPRESSION_NODES_MAX,
)

ROOTS = ("data", "type", "source", "subject", "id")
"""What a path may start with; all but ``data`` stand alone, and are texts."""
METHODS = ("startsWith", "endsWith", "contains")
ORDERINGS = ("<", "<=", ">", ">=")
"""Comparisons that ask for numbers; ``==`` and ``!=`` take anything."""
ROUNDINGS = ("ceil", "floor", "round")
EXTREMES = ("min", "max")
FUNCTIONS = ("abs", *ROUNDINGS, "default", "has", *EXTREMES)

_CONSTANTS: dict[str, Value] = {"true": True, "false": False, "null": None}
_COMPARISONS = ("==", "!=", *ORDERINGS)
_FLIPPED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}

_Parsed: TypeAlias = Condition | Number | Literal


@lru_cache(maxsize=4096)
def parse_filter(text: str) -> Condition:
    """Parse a filter. Raises ExpressionError."""
    return _Parser(text, strict=False).filter()


def check_filter(text: str) -> None:
    """What publishing asks of a filter beyond being readable: no number beside a path that is always a text.

    Such a test is never true, or always; a filter that was published before this was asked is still read.
    Raises ExpressionError.
    """
    _Parser(text, strict=True).filter()


@lru_cache(maxsize=4096)
def parse_value(text: str) -> Number:
    """Parse and type-check a meter's value; a plain path comes out as ``Path``. Raises ExpressionError."""
    return _Parser(text, strict=True).value()


@lru_cache(maxsize=4096)
def parse_path(text: str) -> Path:
    """Parse a path such as ``data.usage.tokens``, ``data["x-y"]`` or ``subject``. Raises ExpressionError."""
    parser = _Parser(text, strict=False)
    path = parser.path()
    parser.expect("end")
    return path


def dimension_name(path: str) -> str:
    """The tag key of a dimension: its path without ``data.``; ``data.usage.model -> usage.model``."""
    steps = parse_path(path).steps
    return ".".join(steps[1:] if steps[0] == "data" else steps)


class _Parser:
    """Recursive descent; a ``depth`` counts what encloses the words that come next."""

    def __init__(self, text: str, *, strict: bool) -> None:
        self._tokens = tokens(text)
        self._next = 0
        self._nodes = 0
        self._reads_event = False
        self._strict = strict

    # --- what is asked for

    def filter(self) -> Condition:
        """The whole text as a condition."""
        condition = _condition(self._expression(0), 1)
        self.expect("end")
        return condition

    def value(self) -> Number:
        """The whole text as a number; a path alone is left as it is."""
        found = self._expression(0)
        self.expect("end")
        number = found if isinstance(found, Path) else _number(found, 1)
        if not self._reads_event:
            raise wrong(1, "reads nothing of the event; name a path such as data.tokens, or count events")
        return number

    # --- words

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _take(self, *kinds: str) -> Token | None:
        token = self._token
        if token.kind not in kinds or token.kind == "end":
            return None
        self._next += 1
        return token

    def expect(self, kind: str) -> Token:
        """The next token, which must be a ``kind``."""
        token = self._token
        if token.kind != kind:
            if kind == "end" and token.kind in _COMPARISONS:
                raise wrong(token.column, "comparisons cannot be chained; join two with &&")
            wanted = {"end": "&& or || or the end", "string": "a text in quotes", "name": "a name"}.get(kind, kind)
            raise wrong(token.column, f"expected {wanted}, found {token.text}")
        if kind != "end":
            self._next += 1
        return token

    # --- limits

    def _deeper(self, depth: int) -> int:
        if depth >= EXPRESSION_DEPTH_MAX:
            raise wrong(self._token.column, f"nests deeper than {EXPRESSION_DEPTH_MAX} levels; simplify it")
        return depth + 1

    def _count(self, token: Token, nodes: int = 1) -> None:
        self._nodes += nodes
        if self._nodes > EXPRESSION_NODES_MAX:
            raise wrong(token.column, f"has more than {EXPRESSION_NODES_MAX} operations; simplify it")

    # --- conditions

    def _expression(self, depth: int) -> _Parsed:
        start = self._token.column
        found = self._disjunction(depth)
        mark = self._take("?")
        if mark is None:
            return found
        condition = _condition(found, start)
        self._count(mark)
        then = self._number(self._deeper(depth))
        self.expect(":")
        return Conditional(condition, then, self._number(self._deeper(depth)))

    def _number(self, depth: int) -> Number:
        start = self._token.column
        return _number(self._expression(depth), start)

    def _disjunction(self, depth: int) -> _Parsed:
        start = self._token.column
        first = self._conjunction(depth)
        if self._token.kind != "||":
            return first
        found = [_condition(first, start)]
        while self._take("||"):
            start = self._token.column
            found.append(_condition(self._conjunction(depth), start))
        return AnyOf(tuple(found))

    def _conjunction(self, depth: int) -> _Parsed:
        start = self._token.column
        first = self._negation(depth)
        if self._token.kind != "&&":
            return first
        found = [_condition(first, start)]
        while self._take("&&"):
            start = self._token.column
            found.append(_condition(self._negation(depth), start))
        return AllOf(tuple(found))

    def _negation(self, depth: int) -> _Parsed:
        if self._take("!") is None:
            return self._test(depth)
        inside = self._deeper(depth)
        start = self._token.column
        return Not(_condition(self._negation(inside), start))

    def _test(self, depth: int) -> _Parsed:
        start = self._token
        left = self._sum(depth)
        if self._token.text in ("in", "not"):
            if not isinstance(left, Path):
                text = "only a path can be in a list; write for example data.model in ['a', 'b']"
                raise wrong(start.column, text)
            return self._among(left)
        sign = self._take(*_COMPARISONS)
        if sign is None:
            return left
        self._count(sign)
        right_start = self._token.column
        return self._comparison(_operand(left, start.column), sign, _operand(self._sum(depth), right_start), start)

    def _comparison(self, left: Path | Literal, sign: Token, right: Path | Literal, start: Token) -> Compare:
        operator = sign.kind
        if isinstance(left, Literal):
            if isinstance(right, Literal):
                raise wrong(start.column, "compares two constants; one side must be a path such as data.status")
            left, right, operator = right, left, _FLIPPED[operator]
        if operator in ORDERINGS:
            if isinstance(right, Literal) and not _is_number(right.value):
                raise wrong(sign.column, f"{sign.text} compares numbers only; use == or !=, or write a number")
            for side in (left, right):
                if self._strict and isinstance(side, Path) and _is_text(side):
                    raise wrong(sign.column, f"{side} is a text, and {sign.text} compares numbers; use == or !=")
        elif isinstance(right, Literal):
            self._check_constant(left, right.value, sign)
        return Compare(operator, left, right)

    def _check_constant(self, path: Path, value: Value, token: Token) -> None:
        if self._strict and _is_text(path) and (isinstance(value, bool) or _is_number(value)):
            raise wrong(token.column, f"{path} is a text and never equals a {_kind(value)}; write it in quotes")

    def _among(self, path: Path) -> Condition:
        negated = self._take("!") is not None
        if self._token.text != "in":
            raise wrong(self._token.column, "expected in after not")
        self._count(self.expect("name"))
        self.expect("[")
        options = [self._option(path)]
        while self._take(","):
            options.append(self._option(path))
        self.expect("]")
        among = Among(path, tuple(options))
        return Not(among) if negated else among

    def _option(self, path: Path) -> Value:
        token = self._token
        value = self._literal().value
        self._check_constant(path, value, token)
        return value

    def _text_test(self, path: Path) -> TextTest:
        method = self.expect("name")
        self._count(method)
        self.expect("(")
        text = unquoted(self.expect("string"))
        self.expect(")")
        return TextTest(path, method.text, text)

    # --- numbers

    def _sum(self, depth: int) -> _Parsed:
        start = self._token.column
        left = self._product(depth)
        while sign := self._take("+", "-"):
            self._count(sign)
            right_start = self._token.column
            left = _arithmetic(sign.kind, _number(left, start), _number(self._product(depth), right_start))
        return left

    def _product(self, depth: int) -> _Parsed:
        start = self._token.column
        left = self._signed(depth)
        while sign := self._take("*", "/"):
            self._count(sign)
            right_start = self._token.column
            number, right = _number(left, start), _number(self._signed(depth), right_start)
            if sign.kind == "/":
                right = Constant(1 / _divisor(right, right_start))
            if _factors(number) + _factors(right) > EXPRESSION_FACTORS_MAX:
                raise wrong(
                    sign.column, f"multiplies more than {EXPRESSION_FACTORS_MAX} readings; meter a part of them"
                )
            left = _arithmetic("*", number, right)
        return left

    def _signed(self, depth: int) -> _Parsed:
        if self._token.kind != "-" or self._tokens[self._next + 1].kind == "number":
            return self._primary(depth)
        self._count(self.expect("-"))
        inside = self._deeper(depth)
        start = self._token.column
        return _arithmetic("*", Constant(Fraction(-1)), _number(self._signed(inside), start))

    def _primary(self, depth: int) -> _Parsed:
        token = self._token
        if self._take("("):
            inner = self._expression(self._deeper(depth))
            self.expect(")")
            return inner
        if token.kind != "name" or token.text in _CONSTANTS:
            return self._literal()
        if self._tokens[self._next + 1].kind == "(":
            return self._call(depth)
        path = self.path()
        return self._text_test(path) if self._tokens[self._next - 1].kind == "." else path

    def _literal(self) -> Literal:
        token = self._token
        if token.kind == "name" and token.text in _CONSTANTS:
            self._next += 1
            return Literal(_CONSTANTS[token.text])
        if token.kind == "string":
            self._next += 1
            return Literal(unquoted(token))
        sign = "-" if self._take("-") else ""
        number = self._take("number")
        if number is None:
            raise wrong(self._token.column, f"expected a path, a number or a text in quotes, found {self._token.text}")
        if self._strict and len(number.text.replace(".", "")) > EXPRESSION_DIGITS_MAX:
            raise wrong(number.column, f"the number has more than {EXPRESSION_DIGITS_MAX} digits")
        text = sign + number.text
        return Literal(Decimal(text) if "." in text else int(text))

    def path(self) -> Path:
        """A path; a method name behind it is left to the caller."""
        root = self.expect("name")
        if root.text not in ROOTS:
            text = f"a path starts with {', '.join(ROOTS)}; did you mean data.{root.text}?"
            if self._next > 1 and self._tokens[self._next - 2].kind == "-":
                text += ' A key with a dash is written data["x-y"]'
            raise wrong(root.column, f"{root.text} is not known; {text}")
        self._reads_event = True
        steps = [root.text]
        while self._token.kind in (".", "["):
            if self._take("["):
                steps.append(unquoted(self.expect("string")))
                self.expect("]")
                continue
            self._next += 1
            if self._token.text in METHODS and self._tokens[self._next + 1].kind == "(":
                break
            # A field may be called `and`, `or` or `not`: behind a dot every word is a name.
            word = self._take("name", *WORD_SIGNS.values())
            if word is None or not word.text.isidentifier():
                raise wrong(self._token.column, 'expected a name after the dot; write data["x-y"] for other keys')
            steps.append(word.text)
        if steps[0] == "data" and len(steps) == 1:
            raise wrong(root.column, "data needs a field, for example data.tokens")
        if steps[0] != "data" and len(steps) > 1:
            raise wrong(root.column, f"{steps[0]} is a text and has no fields; remove what follows it")
        return Path(tuple(steps))

    # --- functions

    def _call(self, depth: int) -> Condition | Number:
        name = self.expect("name")
        if name.text not in FUNCTIONS:
            raise wrong(name.column, f"{name.text} is not a function; use one of {', '.join(FUNCTIONS)}")
        self.expect("(")
        inside = self._deeper(depth)
        arguments: list[tuple[_Parsed, int]] = []
        while self._take(",") if arguments else self._token.kind != ")":
            column = self._token.column
            arguments.append((self._expression(inside), column))
        self.expect(")")
        self._count(name, max(1, len(arguments) - 1))
        if name.text in EXTREMES:
            _check_count(name, arguments, 2, EXPRESSION_NODES_MAX)
            return Extreme(name.text, tuple(_number(*argument) for argument in arguments))
        if name.text in ROUNDINGS:
            _check_count(name, arguments, 1, 2)
            step = _step(_number(*arguments[1]), arguments[1][1]) if len(arguments) == 2 else Fraction(1)
            return Rounded(name.text, _number(*arguments[0]), step)
        if name.text == "abs":
            _check_count(name, arguments, 1, 1)
            return Absolute(_number(*arguments[0]))
        _check_count(name, arguments, *((1, 1) if name.text == "has" else (2, 2)))
        path, column = arguments[0]
        if not isinstance(path, Path):
            raise wrong(column, f"{name.text} asks whether a path has a value; write one such as data.tokens")
        present = Compare("!=", path, Literal(None))
        if name.text == "has":
            return present
        return Conditional(present, _number(path, column), _number(*arguments[1]))


def _check_count(name: Token, arguments: list[tuple[_Parsed, int]], low: int, high: int) -> None:
    if not low <= len(arguments) <= high:
        wanted = str(low) if low == high else f"{low} or {high}" if high == low + 1 else f"at least {low}"
        raise wrong(name.column, f"{name.text} takes {wanted} argument{'' if high == 1 else 's'}, not {len(arguments)}")


def _step(step: Number, column: int) -> Fraction:
    if not isinstance(step, Constant):
        raise wrong(column, "the step must be a constant, because it decides the decimals; write a number")
    if step.value <= 0:
        raise wrong(column, "the step must be above zero: results are multiples of it")
    return step.value


def _divisor(divisor: Number, column: int) -> Fraction:
    if not isinstance(divisor, Constant):
        raise wrong(column, "only a constant can divide: a quotient of two readings has no end of decimals")
    if not divisor.value:
        raise wrong(column, "divides by zero; write another constant")
    return divisor.value


def _arithmetic(operator: str, left: Number, right: Number) -> Number:
    if not (isinstance(left, Constant) and isinstance(right, Constant)):
        return Arithmetic(operator, left, right)
    a, b = left.value, right.value
    return Constant({"+": a + b, "-": a - b, "*": a * b}[operator])


def _factors(number: Number) -> int:
    """How many readings are multiplied with each other at most: what bounds the digits of a result."""
    match number:
        case Path():
            return 1
        case Constant():
            return 0
        case Arithmetic(operator, left, right):
            return _factors(left) + _factors(right) if operator == "*" else max(_factors(left), _factors(right))
        case Rounded() | Absolute():
            return _factors(number.number)
        case Extreme():
            return max(map(_factors, number.numbers))
        case Conditional():
            return max(_factors(number.then), _factors(number.otherwise))
        case _:
            assert_never(number)


# --- kinds


def _is_number(value: Value) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _is_text(path: Path) -> bool:
    return path.steps[0] != "data"


def _kind(value: Value) -> str:
    return "true or false" if isinstance(value, bool) else "number"


def _condition(parsed: _Parsed, column: int) -> Condition:
    if not isinstance(parsed, Condition):
        raise wrong(column, "is a value, not a condition; compare it, for example with == true")
    return parsed


def _operand(parsed: _Parsed, column: int) -> Path | Literal:
    """One side of a comparison."""
    if isinstance(parsed, Path | Literal):
        return parsed
    if isinstance(parsed, Condition):
        raise wrong(column, "comparisons cannot be compared; join two with &&")
    raise wrong(column, 'nothing is computed beside a comparison; compare paths and constants (data["x-y"] is one)')


def _number(parsed: _Parsed, column: int) -> Number:
    """An operand of arithmetic."""
    if isinstance(parsed, Condition):
        raise wrong(column, "is true or false, not a number; write (condition) ? 1 : 0")
    if isinstance(parsed, Path) and _is_text(parsed):
        raise wrong(column, f"{parsed} is a text, and arithmetic takes numbers; name a path under data")
    if not isinstance(parsed, Literal):
        return parsed
    value = parsed.value
    if isinstance(value, str):
        raise wrong(column, "is a text, and arithmetic takes numbers; write a path or a number")
    if isinstance(value, bool):
        raise wrong(column, "true and false are not numbers; write (condition) ? 1 : 0")
    if value is None:
        raise wrong(column, "null is not a number; write default(data.x, 0) where a value may be missing")
    return Constant(Fraction(value))
