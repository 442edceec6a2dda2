"""Reads YAML into plain values that remember their lines, safely: no tags, no floats, no alias bombs, no recursion.

Values are dict, list, str, int, bool and None. A number with a fraction is a problem rather than a binary float, a
time stays the text that was written, and only ``true`` and ``false`` are booleans (``no`` is a country). Built on
PyYAML's event stream rather than its composer, because that one recurses as deep as the file asks it to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

KeyPath = tuple[str | int, ...]
"""The way to a value from the root: keys of mappings and indices of lists."""

DEPTH_MAX = 32
"""Levels of nesting."""
ALIAS_NODES_MAX = 10_000
"""Values that aliases may add to a document by repeating what an anchor names."""
INTEGER_DIGITS_MAX = 100
"""Digits of a plain integer; a longer one stays text (and is then refused where a number is wanted)."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FRACTION = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NULLS = {"", "~", "null", "Null", "NULL"}
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_BYTE_ORDER_MARKS = ((b"\xef\xbb\xbf", "UTF-8"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))


@dataclass(slots=True)
class YamlDocument:
    """What a YAML text says. ``value`` is None for an empty text and what could be read for one with problems.

    ``lines`` maps the path of every value to its 1-based line: that of its key in a mapping, that of its start in a
    list. ``problems`` holds (line, text) in the order found; the text says what is wrong and what to do.
    """

    value: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)

    def line(self, path: KeyPath) -> int:
        """The line of ``path``, or of its nearest ancestor that is written in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read_yaml(raw: bytes) -> YamlDocument:
    """Read one YAML document. Never raises for what the text says: whatever is wrong with it is in ``problems``."""
    document = YamlDocument()
    for mark, name in _BYTE_ORDER_MARKS:
        if raw.startswith(mark):
            document.problems.append((1, f"starts with a {name} byte order mark; save the file as UTF-8 without one"))
            return document
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        document.problems.append((line, f"byte {raw[error.start]:#04x} is not UTF-8; save the file as UTF-8"))
        return document
    try:
        _Builder(text, document).build()
    except _TooMuch as error:
        document.problems.append((error.line, error.text))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        document.problems.append((line, "holds a control character YAML does not allow; remove it"))
    except yaml.MarkedYAMLError as error:
        document.problems.append(_syntax_problem(error))
    return document


def _syntax_problem(error: yaml.MarkedYAMLError) -> tuple[int, str]:
    mark = error.context_mark if error.problem_mark is None else error.problem_mark
    what = error.problem or error.context or "is not YAML"
    if "\\t" in what or "tab character" in what:
        what += "; indent with spaces, YAML forbids tabs there"
    else:
        what += "; check indentation, quotes and brackets on this line and the one before"
    return (1 if mark is None else mark.line + 1), f"not well-formed YAML: {what}"


class _TooMuch(Exception):
    """The document goes beyond a limit; reading stops."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line
        self.text = text


class _Builder:
    """Builds values from YAML events; recursion is bounded by ``DEPTH_MAX``."""

    def __init__(self, text: str, document: YamlDocument) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_LOADER)
        self._document = document
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._nodes = 0
        self._alias_nodes = 0

    def build(self) -> None:
        documents = 0
        for event in self._events:
            if not isinstance(event, yaml.DocumentStartEvent):
                continue
            documents += 1
            if documents > 1:
                raise _TooMuch(_line(event), "a second document starts here; keep one document per file")
            self._document.value = self._value(next(self._events), ())

    def _value(self, event: Any, path: KeyPath) -> Any:
        """The value that ``event`` starts."""
        if len(path) > DEPTH_MAX:
            raise _TooMuch(_line(event), f"nests deeper than {DEPTH_MAX} levels; flatten it")
        self._document.lines.setdefault(path, _line(event))
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        self._nodes += 1
        before = self._nodes + self._alias_nodes
        if isinstance(event, yaml.ScalarEvent):
            value: Any = self._scalar(event)
        else:
            if event.tag is not None:
                self._problem(event, f"the tag {event.tag} is not supported; remove it")
            value = self._mapping(path) if isinstance(event, yaml.MappingStartEvent) else self._list(path)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._nodes + self._alias_nodes - before + 1)
        return value

    def _alias(self, event: yaml.AliasEvent) -> Any:
        if event.anchor not in self._anchors:
            text = f"*{event.anchor} names no anchor written before it; write &{event.anchor} first"
            raise _TooMuch(_line(event), text)
        value, nodes = self._anchors[event.anchor]
        self._alias_nodes += nodes
        if self._alias_nodes > ALIAS_NODES_MAX:
            text = f"aliases repeat more than {ALIAS_NODES_MAX} values; write them out"
            raise _TooMuch(_line(event), text)
        return value

    def _list(self, path: KeyPath) -> list[Any]:
        items: list[Any] = []
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(self._value(event, (*path, len(items))))
        return items

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            if not isinstance(event, yaml.ScalarEvent):
                raise _TooMuch(_line(event), "a key must be plain text; write `key: value`")
            self._check_text(event)
            key = event.value
            if key in entries:
                first = self._document.lines[(*path, key)]
                self._problem(event, f"the key {key!r} is already on line {first}; keep one of the two")
                self._value(next(self._events), (*path, key))
                continue
            self._document.lines[(*path, key)] = _line(event)
            entries[key] = self._value(next(self._events), (*path, key))
        return entries

    def _scalar(self, event: yaml.ScalarEvent) -> str | int | bool | None:
        text: str = event.value
        self._check_text(event)
        if event.tag is not None:
            self._problem(event, f"the tag {event.tag} is not supported; remove it")
        if not event.implicit[0]:  # quoted, a block of text, or tagged
            return text
        if text in _NULLS:
            return None
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if _INTEGER.fullmatch(text) and len(text) <= INTEGER_DIGITS_MAX:
            return int(text)
        if _FRACTION.fullmatch(text) and not text.isdigit():
            self._problem(event, f"{text} would be read as a binary float; write it in quotes: {_shorten(text)!r}")
        return text

    def _check_text(self, event: yaml.ScalarEvent) -> None:
        """Text that neither UTF-8 nor PostgreSQL can hold comes from escapes such as ``"\\0"``."""
        if "\x00" in event.value or any("\ud800" <= char <= "\udfff" for char in event.value):
            self._problem(event, "the text holds a NUL or half a surrogate pair; remove the escape")

    def _problem(self, event: yaml.Event, text: str) -> None:
        self._document.problems.append((_line(event), text))


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _shorten(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
