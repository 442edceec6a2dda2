"""The words of an expression: text cut into tokens that know their column, and how a refusal names one."""

from __future__ import annotations

import re
from typing import NamedTuple

from lineitem.core.errors import InputError
from lineitem.core.limits import EXPRESSION_CHARS_MAX

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
      | (?P<number>[0-9]+(\.[0-9]+)?)
      | (?P<string>"(\\.|[^"\\])*"|'(\\.|[^'\\])*')
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<sign>==|!=|<=|>=|&&|\|\||[<>!()\[\],.+\-*/?:])""",
    re.VERBOSE | re.DOTALL,
)
WORD_SIGNS = {"and": "&&", "or": "||", "not": "!"}
"""Signs that may be written as words."""
_HINTS = {
    "=": "write == to compare", "&": "write &&", "|": "write ||", '"': "close the text", "'": "close the text",
    "%": "there is no remainder; floor(x, step) rounds down to a multiple",
}  # fmt: skip


class ExpressionError(InputError):
    """An expression cannot be read; the message names the column (counted from 1)."""


class Token(NamedTuple):
    """One word."""

    kind: str
    """``number``, ``string``, ``name``, ``end``, or the sign itself."""
    text: str
    column: int


def tokens(text: str) -> list[Token]:
    """The words of ``text`` with an ``end`` behind them. Raises ExpressionError."""
    if len(text) > EXPRESSION_CHARS_MAX:
        raise ExpressionError(f"is {len(text)} characters long; at most {EXPRESSION_CHARS_MAX} are read")
    found = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            char = text[position]
            hint = _HINTS.get(char, "remove it, or write it in quotes")
            raise wrong(position + 1, f"{char!r} is not understood; {hint}")
        kind, word = str(match.lastgroup), match[0]
        if kind == "sign":
            kind = word
        elif kind == "name":
            kind = WORD_SIGNS.get(word, kind)
        if kind != "space":
            found.append(Token(kind, word, position + 1))
        position = match.end()
    found.append(Token("end", "the end", len(text) + 1))
    return found


def wrong(column: int, text: str) -> ExpressionError:
    """The refusal of what stands at ``column``."""
    return ExpressionError(f"is wrong at column {column}: {text}")


def unquoted(token: Token) -> str:
    """The text of a quoted token: a backslash stands before a quote or a backslash, nothing else."""
    body = token.text[1:-1]
    bad = re.search(r"\\[^\"'\\]", re.sub(r"\\\\", "", body), re.DOTALL)
    if bad:
        raise wrong(token.column, f"{bad[0]} is not an escape; write \\\\ for a backslash")
    return re.sub(r"\\(.)", r"\1", body, flags=re.DOTALL)
