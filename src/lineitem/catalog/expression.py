"""The language of meter filters: a small whitelisted subset of CEL, parsed by hand into a checked tree.

    condition   := and ("||" and)*                      also written  or
    and         := unary ("&&" unary)*                  also written  and
    unary       := "!" unary | "(" condition ")" | test also written  not
    test        := operand compare operand
                 | path ["not"] "in" "[" literal ("," literal)* "]"
                 | path "." ("startsWith" | "endsWith" | "contains") "(" string ")"
    compare     := "==" | "!=" | "<" | "<=" | ">" | ">="
    operand     := path | literal
    path        := "data" ("." name | "[" string "]")+ | "type" | "source" | "subject" | "id"
    literal     := ["-"] digits ["." digits] | string | "true" | "false" | "null"

There are no functions, no arithmetic, no regular expressions and no binary floats: numbers are int or Decimal. What a
tree means for an event is told (and computed) in ``rate.filter``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from lineitem.core.errors import InputError

EXPRESSION_CHARS_MAX = 1000
"""Characters of one filter or path."""
EXPRESSION_DEPTH_MAX = 32
"""Levels of parentheses and negations."""

ROOTS = ("data", "type", "source", "subject", "id")
"""What a path may start with; all but ``data`` stand alone."""
METHODS = ("startsWith", "endsWith", "contains")
ORDERINGS = ("<", "<=", ">", ">=")
"""Comparisons that ask for numbers; ``==`` and ``!=`` take anything."""

Value: TypeAlias = str | int | Decimal | bool | None


class ExpressionError(InputError):
    """A filter or path cannot be read; the message names the column (counted from 1)."""


@dataclass(frozen=True, slots=True)
class Path:
    """Where a value is: ``("data", "usage", "tokens")`` or ``("subject",)``."""

    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Literal:
    """A value written in the filter."""

    value: Value


@dataclass(frozen=True, slots=True)
class Compare:
    """``left operator right``; a literal always stands on the right."""

    operator: str
    left: Path
    right: Path | Literal


@dataclass(frozen=True, slots=True)
class Among:
    """``path in [options]``."""

    path: Path
    options: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class TextTest:
    """``path.method("text")``."""

    path: Path
    method: str
    text: str


@dataclass(frozen=True, slots=True)
class Not:
    """Negation."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class AllOf:
    """Conjunction of two or more conditions."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Disjunction of two or more conditions."""

    conditions: tuple[Condition, ...]


Condition: TypeAlias = Compare | Among | TextTest | Not | AllOf | AnyOf


@lru_cache(maxsize=4096)
def parse_filter(text: str) -> Condition:
    """Parse and type-check a filter. Raises ExpressionError."""
    parser = _Parser(text)
    condition = parser.condition(0)
    parser.expect("end")
    return condition


@lru_cache(maxsize=4096)
def parse_path(text: str) -> Path:
    """Parse a path such as ``data.usage.tokens``, ``data["x-y"]`` or ``subject``. Raises ExpressionError."""
    parser = _Parser(text)
    path = parser.path()
    parser.expect("end")
    return path


def dimension_name(path: str) -> str:
    """The tag key of a dimension: its path without ``data.``; ``data.usage.model -> usage.model``."""
    steps = parse_path(path).steps
    return ".".join(steps[1:] if steps[0] == "data" else steps)


# --- words of the text

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
      | (?P<number>[0-9]+(\.[0-9]+)?)
      | (?P<string>"(\\.|[^"\\])*"|'(\\.|[^'\\])*')
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<sign>==|!=|<=|>=|&&|\|\||[<>!()\[\],.\-])""",
    re.VERBOSE | re.DOTALL,
)
_WORD_SIGNS = {"and": "&&", "or": "||", "not": "!"}
_CONSTANTS: dict[str, Value] = {"true": True, "false": False, "null": None}
_HINTS = {"=": "write == to compare", "&": "write &&", "|": "write ||", '"': "close the text", "'": "close the text"}
_COMPARISONS = ("==", "!=", *ORDERINGS)
_FLIPPED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


class _Token(NamedTuple):
    kind: str
    """``number``, ``string``, ``name``, ``end``, or the sign itself."""
    text: str
    column: int


def _tokens(text: str) -> list[_Token]:
    if len(text) > EXPRESSION_CHARS_MAX:
        raise ExpressionError(f"is {len(text)} characters long; at most {EXPRESSION_CHARS_MAX} are read")
    tokens = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            char = text[position]
            hint = _HINTS.get(char, "remove it, or write it in quotes")
            raise _error(position + 1, f"{char!r} is not understood; {hint}")
        kind, word = str(match.lastgroup), match[0]
        if kind == "sign":
            kind = word
        elif kind == "name":
            kind = _WORD_SIGNS.get(word, kind)
        if kind != "space":
            tokens.append(_Token(kind, word, position + 1))
        position = match.end()
    tokens.append(_Token("end", "the end", len(text) + 1))
    return tokens


def _error(column: int, text: str) -> ExpressionError:
    return ExpressionError(f"is wrong at column {column}: {text}")


# --- recursive descent


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = 0

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, *kinds: str) -> _Token | None:
        token = self._token
        if token.kind not in kinds or token.kind == "end":
            return None
        self._next += 1
        return token

    def expect(self, kind: str) -> _Token:
        """The next token, which must be a ``kind``."""
        token = self._token
        if token.kind != kind:
            if kind == "end" and token.kind in _COMPARISONS:
                raise _error(token.column, "comparisons cannot be chained; join two with &&")
            wanted = {"end": "&& or || or the end", "string": "a text in quotes", "name": "a name"}.get(kind, kind)
            raise _error(token.column, f"expected {wanted}, found {token.text}")
        if kind != "end":
            self._next += 1
        return token

    def condition(self, depth: int) -> Condition:
        """Alternatives joined by ``||``."""
        if depth > EXPRESSION_DEPTH_MAX:
            raise _error(self._token.column, f"nests deeper than {EXPRESSION_DEPTH_MAX} levels; simplify it")
        found = [self._conjunction(depth)]
        while self._take("||"):
            found.append(self._conjunction(depth))
        return found[0] if len(found) == 1 else AnyOf(tuple(found))

    def _conjunction(self, depth: int) -> Condition:
        found = [self._unary(depth)]
        while self._take("&&"):
            found.append(self._unary(depth))
        return found[0] if len(found) == 1 else AllOf(tuple(found))

    def _unary(self, depth: int) -> Condition:
        if self._take("!"):
            if depth >= EXPRESSION_DEPTH_MAX:
                raise _error(self._token.column, f"nests deeper than {EXPRESSION_DEPTH_MAX} levels; simplify it")
            return Not(self._unary(depth + 1))
        if self._take("("):
            inner = self.condition(depth + 1)
            self.expect(")")
            return inner
        return self._test()

    def _test(self) -> Condition:
        start = self._token.column
        left = self._operand()
        if isinstance(left, Path) and self._tokens[self._next - 1].kind == ".":
            return self._text_test(left)
        if isinstance(left, Path) and self._token.text in ("in", "not"):
            return self._among(left)
        sign = self._take(*_COMPARISONS)
        if sign is None:
            if self._token.text == "in":
                raise _error(start, "only a path can be in a list; write for example data.model in ['a', 'b']")
            if self._token.kind == "-":
                raise _error(self._token.column, 'nothing is computed here; write data["x-y"] for such a key')
            raise _error(start, "is a value, not a condition; compare it, for example with == true")
        return _comparison(left, sign, self._operand(), start)

    def _text_test(self, path: Path) -> TextTest:
        method = self.expect("name").text
        self.expect("(")
        text = _unquoted(self.expect("string"))
        self.expect(")")
        return TextTest(path, method, text)

    def _among(self, path: Path) -> Condition:
        negated = self._take("!") is not None
        if self._token.text != "in":
            raise _error(self._token.column, "expected in after not")
        self.expect("name")
        self.expect("[")
        options = [self._literal()]
        while self._take(","):
            options.append(self._literal())
        self.expect("]")
        among = Among(path, tuple(option.value for option in options))
        return Not(among) if negated else among

    def _operand(self) -> Path | Literal:
        token = self._token
        if token.kind == "name" and token.text not in _CONSTANTS:
            return self.path()
        return self._literal()

    def _literal(self) -> Literal:
        token = self._token
        if token.kind == "name" and token.text in _CONSTANTS:
            self._next += 1
            return Literal(_CONSTANTS[token.text])
        if token.kind == "string":
            self._next += 1
            return Literal(_unquoted(token))
        sign = "-" if self._take("-") else ""
        number = self._take("number")
        if number is None:
            raise _error(self._token.column, f"expected a path, a number or a text in quotes, found {self._token.text}")
        text = sign + number.text
        return Literal(Decimal(text) if "." in text else int(text))

    def path(self) -> Path:
        """A path; a method name behind it is left to the caller."""
        root = self.expect("name")
        if root.text not in ROOTS:
            text = f"a path starts with {', '.join(ROOTS)}; did you mean data.{root.text}?"
            raise _error(root.column, f"{root.text} is not known; {text}")
        steps = [root.text]
        while self._token.kind in (".", "["):
            if self._take("["):
                steps.append(_unquoted(self.expect("string")))
                self.expect("]")
                continue
            self._next += 1
            if self._token.text in METHODS and self._tokens[self._next + 1].kind == "(":
                break
            # A field may be called `and`, `or` or `not`: behind a dot every word is a name.
            word = self._take("name", *_WORD_SIGNS.values())
            if word is None or not word.text.isidentifier():
                raise _error(self._token.column, 'expected a name after the dot; write data["x-y"] for other keys')
            steps.append(word.text)
        if steps[0] == "data" and len(steps) == 1:
            raise _error(root.column, "data needs a field, for example data.tokens")
        if steps[0] != "data" and len(steps) > 1:
            raise _error(root.column, f"{steps[0]} is a text and has no fields; remove what follows it")
        return Path(tuple(steps))


def _comparison(left: Path | Literal, sign: _Token, right: Path | Literal, start: int) -> Compare:
    operator = sign.kind
    if isinstance(left, Literal):
        if isinstance(right, Literal):
            raise _error(start, "compares two constants; one side must be a path such as data.status")
        left, right, operator = right, left, _FLIPPED[operator]
    if operator in ORDERINGS and isinstance(right, Literal):
        value = right.value
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise _error(sign.column, f"{sign.text} compares numbers only; use == or !=, or write a number")
    return Compare(operator, left, right)


def _unquoted(token: _Token) -> str:
    """The text of a quoted token: a backslash stands before a quote or a backslash, nothing else."""
    body = token.text[1:-1]
    bad = re.search(r"\\[^\"'\\]", re.sub(r"\\\\", "", body), re.DOTALL)
    if bad:
        raise _error(token.column, f"{bad[0]} is not an escape; write \\\\ for a backslash")
    return re.sub(r"\\(.)", r"\1", body, flags=re.DOTALL)
