"""Reads the entries of a mapping by name and type, and notes every problem at its line, not just the first."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

from lineitem.catalog.price_reader import path_text, shorten
from lineitem.catalog.yaml_lines import KeyPath, YamlDocument
from lineitem.core.limits import CATALOG_BYTES_MAX, FIELD_CHARS_MAX
from lineitem.core.period import day_start_us, zone_exists

ID_CHARS_MAX = 128
"""Characters of an id."""
ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
"""What an id may look like."""
ID_RULE = "use up to 128 letters, digits and . _ : / -, beginning with a letter or digit"
"""The same in words."""

_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d(?:\.\d{1,6})?) ?(Z|z|[+-]\d\d:\d\d)", re.ASCII)
DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_NO_INSTANT = "is not an instant with an offset; write for example 2026-01-01T00:00:00Z"
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")

E = TypeVar("E", bound=StrEnum)


class Problems:
    """The problems of one file: where, and what is wrong and what to do about it."""

    def __init__(self, document: YamlDocument, name: str) -> None:
        self._document = document
        self._name = name
        self._found: list[tuple[int, str]] = list(document.problems)

    def at(self, path: KeyPath, text: str) -> None:
        """Note a problem with the value at ``path``; ``text`` is ``what; what to do``."""
        self._found.append((self.line(path), text))

    def line(self, path: KeyPath) -> int:
        """The line of ``path`` or of its nearest ancestor."""
        return self._document.line(path)

    def listed(self) -> list[str]:
        """All problems as ``file:line: text``, in file order."""
        ordered = sorted(dict.fromkeys(self._found), key=lambda found: found[0])
        return [f"{self._name}:{line}: {text}" for line, text in ordered]


class Fields:
    """One mapping of the file. Reading an entry that is missing or wrong notes a problem and returns a stand-in."""

    def __init__(self, value: object, path: KeyPath, problems: Problems, known: Collection[str] | None) -> None:
        self.path = path
        self.problems = problems
        self.is_mapping = isinstance(value, Mapping)
        self._entries: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
        if not self.is_mapping:
            self.problems.at(path, f"{self.name} must be a mapping, not {kind(value)}; write `key: value` entries")
        if known is not None:
            self._refuse_unknown(known)

    @property
    def name(self) -> str:
        """The mapping as people would point at it."""
        return path_text(self.path) or "the catalog"

    def _refuse_unknown(self, known: Collection[str]) -> None:
        for key in self._entries:
            if key not in known:
                self.problems.at((*self.path, key), f"{self.name} has no key {key!r}; {suggestion(key, known)}")

    def __contains__(self, key: str) -> bool:
        return self._entries.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        """The keys that are written, null ones included."""
        return iter(self._entries)

    def raw(self, key: str) -> Any:
        """The value as it was read, None when missing."""
        return self._entries.get(key)

    def at(self, key: str, text: str) -> None:
        """Note a problem with the entry ``key``."""
        self.problems.at((*self.path, key), text)

    def require(self, key: str, example: str) -> bool:
        """Whether ``key`` has a value; notes a problem when not."""
        if key in self:
            return True
        if self.is_mapping:
            self.at(key, f"{self.name} needs {key!r}; add for example `{key}: {example}`")
        return False

    def text(self, key: str, default: str = "", *, chars_max: int = FIELD_CHARS_MAX, blank: bool = False) -> str:
        """A text entry, trimmed; empty only if ``blank``. A bare number is refused: its text would be a guess."""
        value = self._entries.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            self.at(key, f"{key!r} must be text, not {kind(value)}; write it in quotes")
            return default
        value = value.strip()
        if not value and not blank:
            self.at(key, f"{key!r} is empty; write a text, or remove the key")
            return default
        if len(value) > chars_max:
            self.at(key, f"{key!r} is {len(value)} characters long; at most {chars_max} are kept")
            return default
        return value

    def identifier(self, key: str, example: str) -> str:
        """A required id, "" when it is missing or malformed."""
        if not self.require(key, example):
            return ""
        value = self.text(key, chars_max=CATALOG_BYTES_MAX)
        if value and not ID_PATTERN.fullmatch(value):
            self.at(key, f"{shorten(value)} is not an id; {ID_RULE}")
            return ""
        return value

    def integer(self, key: str, low: int, high: int, default: int) -> int:
        """A whole number within ``[low, high]``."""
        value = self._entries.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.at(key, f"{key!r} must be a whole number from {low} to {high}, not {shown(value)}")
            return default
        return value

    def boolean(self, key: str, default: bool) -> bool:
        """``true`` or ``false``."""
        value = self._entries.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.at(key, f"{key!r} must be true or false, not {shown(value)}")
            return default
        return value

    def choice(self, key: str, options: type[E]) -> E | None:
        """A required member of ``options``."""
        names = [option.value for option in options]
        if not self.require(key, names[0]):
            return None
        value = self._entries[key]
        if value in names:
            return options(value)
        self.at(key, f"{shown(value)} is not a known {key}; {suggestion(str(value), names)}")
        return None

    def zone(self, key: str, default: str) -> str:
        """An IANA time zone."""
        value = self.text(key, default)
        if not zone_exists(value):
            self.at(key, f"the time zone {value!r} does not exist; use an IANA name such as Europe/Paris")
            return default
        return value

    def instant_us(self, key: str) -> int | None:
        """An RFC 3339 instant with an offset, as microseconds since the epoch."""
        value = self._entries.get(key)
        if value is None:
            return None
        found, defect = instant_us(value) if isinstance(value, str) else (None, _NO_INSTANT)
        if defect is not None:
            self.at(key, f"{shown(value)} {defect}")
        return found

    def day_or_instant_us(self, key: str, zone: str) -> int | None:
        """A calendar day (its start in ``zone``) or an instant with an offset, as microseconds since the epoch."""
        value = self._entries.get(key)
        if not isinstance(value, str) or not DAY.fullmatch(value):
            return self.instant_us(key)
        try:
            return day_start_us(value, zone)
        except ValueError:
            self.at(key, f"{shown(value)} is no day; write it as 2026-10-01")
            return None

    def items(self, key: str) -> list[tuple[Any, KeyPath]]:
        """The entries of a list, each with its path."""
        value = self._entries.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.at(key, f"{key!r} must be a list, not {kind(value)}; write `- ` before each entry")
            return []
        return [(item, (*self.path, key, index)) for index, item in enumerate(value)]

    def text_pairs(self, key: str) -> tuple[tuple[str, str], ...]:
        """A mapping of text to text, sorted by key."""
        if key not in self:
            return ()
        inner = Fields(self._entries[key], (*self.path, key), self.problems, None)
        for name in inner:
            if not ID_PATTERN.fullmatch(name):
                inner.at(name, f"{shorten(name)} is not a good key; {ID_RULE}")
            elif name not in inner:
                inner.at(name, f"{name!r} has no value; write one or remove the key")
        return tuple(sorted((name, inner.text(name, blank=True)) for name in inner))


def instant_us(text: str) -> tuple[int, None] | tuple[None, str]:
    """An RFC 3339 instant with an offset: ``(microseconds since the epoch, None)``, or ``(None, what is wrong)``."""
    match = _INSTANT.fullmatch(text)
    if match is None:
        return None, _NO_INSTANT
    try:
        instant = datetime.fromisoformat(f"{match[1]}T{match[2]}{match[3].upper()}")
    except ValueError:
        return None, "names a time that does not exist; check day, hour and offset"
    return (instant - _EPOCH) // timedelta(microseconds=1), None


def suggestion(word: str, known: Collection[str]) -> str:
    """What to write instead of ``word``: the nearest known word, else all of them."""
    if not known:
        return "none is defined"
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(sorted(known)[:20])}"


def kind(value: object) -> str:
    """What a YAML value is, in words."""
    if value is None:
        return "nothing"
    names: list[tuple[type, str]] = [(bool, "true or false"), (int, "a number"), (str, "text"), (list, "a list")]
    return next((name for type_, name in names if isinstance(value, type_)), "a mapping")


def shown(value: object) -> str:
    """A value as it may stand in a message."""
    return kind(value) if isinstance(value, dict | list) else shorten(value)


def unique(values: list[tuple[Any, KeyPath]], problems: Problems, describe: Callable[[Any], str]) -> None:
    """Note every value that occurs a second time."""
    first: dict[Any, KeyPath] = {}
    for value, path in values:
        if value in first:
            line = problems.line(first[value])
            problems.at(path, f"{describe(value)} is already defined on line {line}; keep one of the two")
        else:
            first[value] = path
