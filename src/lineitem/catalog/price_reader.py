"""Reads the keys of one mapping of a price document; every defect is told, as a value, and the reading goes on.

A problem is ``(path, text)``: the path leads from the document's root to the defect, so that a loader can add the line
and a caller of ``quote`` can read it as it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from difflib import get_close_matches
from enum import StrEnum
from typing import NamedTuple, TypeVar

from lineitem.catalog.expression import parse_path
from lineitem.catalog.expression_words import ExpressionError
from lineitem.core.limits import FIELD_CHARS_MAX, QUANTITY_DIGITS_MAX

Path = tuple[str | int, ...]
Choice = TypeVar("Choice", bound=StrEnum)

DECIMALS_MAX = 18
"""Decimals of a price, a bound, a rate or a quoted quantity."""

_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?", re.ASCII)
_DECIMAL_CHARS_MAX = 128


class Problem(NamedTuple):
    """One defect: where it is (keys and list indexes from the document's root) and what is wrong."""

    path: Path
    text: str

    def __str__(self) -> str:
        return f"{path_text(self.path)}: {self.text}" if self.path else self.text


def path_text(path: Path) -> str:
    """A path as people write it: ``("tiers", 2, "up_to") -> "tiers[2].up_to"``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def shorten(value: object) -> str:
    """A value for a message, at most 40 characters of it."""
    if isinstance(value, int) and abs(value) >= 10**QUANTITY_DIGITS_MAX:
        return "a number of more than 38 digits"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def decimal_of(value: object, *, negative: bool = False) -> tuple[Decimal, None] | tuple[None, str]:
    """A decimal from an int, a decimal text or a Decimal: ``(value, None)``, or ``(None, what is wrong)``.

    A binary float is refused: what was written as 0.1 is no longer 0.1 by the time it arrives here. At most 38 digits
    and 18 decimals; below zero only with ``negative``.
    """
    if isinstance(value, bool) or value is None:
        return None, f"{shorten(value)} is not a number"
    if isinstance(value, float):
        return None, f"{value!r} was read as a binary fraction, which cannot hold it exactly; write it in quotes"
    if isinstance(value, int):
        if abs(value) >= 10**QUANTITY_DIGITS_MAX:
            return None, f"more than {QUANTITY_DIGITS_MAX} digits"
        value = str(value)
    if isinstance(value, str):
        if len(value) > _DECIMAL_CHARS_MAX or not _DECIMAL.fullmatch(value):
            return None, f"{shorten(value)} is not a decimal number"
        value = Decimal(value)
    if not isinstance(value, Decimal):
        return None, f"{shorten(value)} is not a number"
    return _within_limits(value, negative)


def _within_limits(value: Decimal, negative: bool) -> tuple[Decimal, None] | tuple[None, str]:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        return None, f"{value} is not a finite number"
    if not any(digits):
        return Decimal(0), None
    if sign and not negative:
        return None, f"{shorten(str(value))} is negative"
    trailing = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    if -(exponent + trailing) > DECIMALS_MAX:
        return None, f"more than {DECIMALS_MAX} decimals"
    if len(digits) + max(exponent, -trailing) > QUANTITY_DIGITS_MAX:
        return None, f"more than {QUANTITY_DIGITS_MAX} digits"
    return value, None


class Reader(NamedTuple):
    """One mapping being read; defects go to the shared list and the reading goes on."""

    doc: Mapping[object, object]
    where: Path
    problems: list[Problem]

    def problem(self, key: str | Path, text: str) -> None:
        """A defect at a key, or at a path from here."""
        tail = (key,) if isinstance(key, str) else key
        self.problems.append(Problem((*self.where, *tail), text))

    def check_keys(self, known: Collection[str], what: str) -> None:
        """Names every key that is not ``known``, with the nearest one that is."""
        for key in self.doc:
            if key not in known:
                near = get_close_matches(str(key)[:FIELD_CHARS_MAX], known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
                self.problem((str(key)[:40],), f"unknown key of {what}; {hint}")

    def require(self, key: str) -> None:
        """A defect if the key is missing or null."""
        if self.doc.get(key) is None:
            self.problem(key, "is missing")

    def text(self, key: str, *, required: bool = False) -> str | None:
        """A text that is not blank."""
        value = self.doc.get(key)
        if value is None:
            if required:
                self.require(key)
            return None
        if not isinstance(value, str) or not value.strip() or len(value) > FIELD_CHARS_MAX:
            self.problem(key, f"{shorten(value)} is not a text of 1 to {FIELD_CHARS_MAX} characters")
            return None
        return value

    def decimal(self, key: str, *, positive: bool = False) -> Decimal | None:
        """A decimal of at least 0, with ``positive`` more than 0."""
        if self.doc.get(key) is None:
            return None
        value, defect = decimal_of(self.doc[key])
        if defect is None and positive and value == 0:
            defect = "must be more than 0"
        if defect is not None:
            self.problem(key, defect)
            return None
        return value

    def integer(self, key: str, high: int) -> int | None:
        """A whole number from 0 to ``high``."""
        value = self.doc.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= high:
            self.problem(key, f"{shorten(value)} is not a whole number from 0 to {high}")
            return None
        return value

    def texts(self, key: str, most: int) -> tuple[str, ...]:
        """A list of 1 to ``most`` different texts, sorted."""
        value = self.doc.get(key)
        if value is None:
            return ()
        if not isinstance(value, list | tuple) or not 0 < len(value) <= most:
            self.problem(key, f"{shorten(value)} is not a list of 1 to {most} texts")
            return ()
        found: set[str] = set()
        for index, one in enumerate(value):
            if not isinstance(one, str) or not one.strip() or len(one) > FIELD_CHARS_MAX:
                self.problem((key, index), f"{shorten(one)} is not a text of 1 to {FIELD_CHARS_MAX} characters")
            elif one in found:
                self.problem((key, index), f"{shorten(one)} stands twice in the list")
            else:
                found.add(one)
        return tuple(sorted(found))

    def event_path(self, key: str) -> str | None:
        """Where in an event something is: ``data.amount``."""
        text = self.text(key)
        return None if text is None else self.checked_path(key, text)

    def checked_path(self, key: str | Path, text: str) -> str | None:
        """``text`` if it is a path into an event."""
        try:
            parse_path(text)
        except ExpressionError as error:
            self.problem(key, f"the path {error}")
            return None
        return text

    def choice(self, key: str, options: type[Choice]) -> Choice | None:
        """One of the options, as written."""
        value = self.doc.get(key)
        if value is None:
            return None
        if value not in list(options):
            self.problem(key, f"{shorten(value)} is not one of {', '.join(options)}")
            return None
        return options(str(value))

    def mapping(self, key: str) -> Reader | None:
        """A reader of the mapping at a key."""
        value = self.doc.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            self.problem(key, f"{shorten(value)} is not a mapping of keys")
            return None
        return Reader(value, (*self.where, key), self.problems)
