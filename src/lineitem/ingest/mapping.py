"""Mapping files: which columns of a CSV or Parquet file, or fields of a log line, are an event's attributes.

    type: {const: llm.completion}          # or a column's name, {column: C}, {template: "{region}-{tenant}"}
    subject: {column: CustomerID, default: guest}     # `default` stands in where the column is empty
    time: {column: InvoiceDate, format: iso, timezone: Europe/London}
    id: EventId                            # optional: without it a record's place in the file identifies it
    source: {const: /shop}                 # optional: without it the stream's name
    sequence: LineNo                       # optional: the producer's own numbering, see docs/how-to/find-lost-events.md
    data:                                  # optional: without it every column not used above, under its own name
      quantity: {column: Quantity, type: integer}     # string (default) | integer | decimal | boolean
      country: Country
    delimiter: ";"                         # CSV only; "," when left out

``time`` takes a ``format``: ``rfc3339`` (default: the offset is in the text), ``iso`` (``2026-10-01 12:00:00.5``,
offset optional), ``unix``, ``unix_ms``, ``unix_us`` (numbers), or ``%Y %m %d %H %M %S %f %y %b %p %I %z`` in any
arrangement; ``timezone`` (an IANA name) says what times without an offset mean, and is required for them. Unknown keys
are errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, get_args

import msgspec
import yaml

from lineitem.core.errors import MappingError
from lineitem.core.limits import CATALOG_BYTES_MAX
from lineitem.core.period import zone_exists
from lineitem.ingest.time_formats import TIME_FORMATS, compile_format

ValueType = Literal["string", "integer", "decimal", "boolean"]
_VALUE_TYPES = get_args(ValueType)

ATTRIBUTES = ("type", "subject", "id", "source", "traceparent", "sequence")
"""Attributes a mapping may fill besides ``time`` and ``data``."""
EXAMPLE = "type: {const: llm.completion}, subject: CustomerID, time: {column: Timestamp, format: iso, timezone: UTC}"
"""A small mapping, for messages."""

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


class Spec(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where one text or value comes from: exactly one of ``column``, ``const`` and ``template`` is set."""

    column: str | None = None
    const: str | None = None
    template: str | None = None
    default: str | None = None
    type: ValueType = "string"

    def columns(self) -> list[str]:
        """The columns it reads."""
        if self.template is not None:
            return _PLACEHOLDER.findall(self.template)
        return [] if self.column is None else [self.column]


class TimeSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """The column of the event's time and how it is written."""

    column: str
    format: str = "rfc3339"
    timezone: str | None = None


class FieldMapping(msgspec.Struct, frozen=True, omit_defaults=True):
    """A mapping file's content. It is also the JSON kept in a format's settings (``to_settings``)."""

    type: Spec | None = None
    subject: Spec | None = None
    time: TimeSpec | None = None
    id: Spec | None = None
    source: Spec | None = None
    traceparent: Spec | None = None
    sequence: Spec | None = None
    data: dict[str, Spec] | None = None
    delimiter: str | None = None

    def columns(self) -> set[str]:
        """The columns it reads."""
        specs = [getattr(self, attribute) for attribute in ATTRIBUTES] + list((self.data or {}).values())
        used = {name for spec in specs if spec is not None for name in spec.columns()}
        return used | ({self.time.column} if self.time else set())

    def to_settings(self) -> dict[str, Any]:
        """As values that serialise to JSON."""
        settings: dict[str, Any] = msgspec.to_builtins(self)
        return settings

    @classmethod
    def from_settings(cls, settings: Any) -> FieldMapping:
        """Inverse of ``to_settings``."""
        return msgspec.convert(settings, cls)


def fitted(mapping: FieldMapping, present: Sequence[str], where: str) -> FieldMapping:
    """The mapping made complete for a file with the columns ``present``; ``data`` lists its columns afterwards.

    Raises MappingError if a needed attribute is not mapped or a column does not exist, naming what there is.
    """
    missing = [name for name in ("type", "subject", "time") if getattr(mapping, name) is None]
    if missing:
        raise MappingError(
            f"nothing says where {', '.join(missing)} come from; the columns are {_listed(present)}",
            where=where,
            do=f"Write a mapping file, for example {{{EXAMPLE}}}, and name it with --map.",
        )
    complete = mapping
    if mapping.data is None:
        used = mapping.columns()
        rest = {name.removeprefix("data."): Spec(column=name) for name in present if name not in used}
        complete = msgspec.structs.replace(mapping, data=rest)
    if unknown := sorted(complete.columns() - set(present)):
        raise MappingError(
            f"the mapping names {_listed(unknown)}, which the file does not have; its columns are {_listed(present)}",
            where=where,
            do="Correct the names in the mapping (they are case-sensitive).",
        )
    return complete


def by_name(present: Sequence[str]) -> FieldMapping:
    """The mapping of a file whose columns are named like the attributes (and ``data.x``)."""
    found: dict[str, Any] = {name: Spec(column=name) for name in ATTRIBUTES if name in present}
    return FieldMapping(time=TimeSpec("time") if "time" in present else None, **found)


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    text = ", ".join(map(repr, names[:40]))
    return f"{text} and {len(names) - 40} more" if len(names) > 40 else text or "none"


def parse_mapping(text: str, where: str = "mapping") -> FieldMapping:
    """A mapping file's text, checked. Raises MappingError naming ``where`` and the line of the first thing wrong."""
    if len(text) > CATALOG_BYTES_MAX:
        raise MappingError(f"the mapping is larger than {CATALOG_BYTES_MAX} bytes", where=where)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise MappingError(f"not YAML: {getattr(error, 'problem', error)}", where=f"{where}{line}") from None
    reader = _Reader(where)
    if node is None:
        raise MappingError("the mapping is empty", where=where, do=f"Write for example {{{EXAMPLE}}}.")
    readers: dict[str, Callable[[yaml.Node], Any]] = dict.fromkeys(ATTRIBUTES, reader.spec)
    readers |= {"time": reader.time, "data": reader.data, "delimiter": reader.delimiter}
    items = reader.items(node, readers)
    return FieldMapping(**{name: readers[name](value) for name, value in items.items()})


class _Reader:
    """Reads the nodes of a mapping file; every complaint names the line."""

    def __init__(self, where: str) -> None:
        self._where = where

    def fail(self, node: yaml.Node, what: str, do: str = "") -> MappingError:
        return MappingError(what, where=f"{self._where}:{node.start_mark.line + 1}", do=do)

    def items(self, node: yaml.Node, known: Iterable[str] | None = None) -> dict[str, yaml.Node]:
        """A YAML mapping's entries; keys must be known, if given, and come once."""
        if not isinstance(node, yaml.MappingNode):
            raise self.fail(node, "expected keys and values here", do=f"Write for example {{{EXAMPLE}}}.")
        found: dict[str, yaml.Node] = {}
        for key_node, value in node.value:
            key = self.text(key_node)
            if known is not None and key not in known:
                raise self.fail(key_node, f"unknown key {key!r}; known are {', '.join(known)}")
            if key in found:
                raise self.fail(key_node, f"{key!r} is given twice")
            found[key] = value
        return found

    def text(self, node: yaml.Node) -> str:
        """A scalar as it is written; null is refused."""
        if not isinstance(node, yaml.ScalarNode) or node.tag == "tag:yaml.org,2002:null":
            raise self.fail(node, "expected a text here")
        return str(node.value)

    def spec(self, node: yaml.Node) -> Spec:
        """An attribute's origin."""
        return self._spec(node, ("column", "const", "template", "default"))

    def data(self, node: yaml.Node) -> dict[str, Spec]:
        """The payload: name -> origin."""
        known = ("column", "const", "template", "default", "type")
        return {name: self._spec(value, known) for name, value in self.items(node).items()}

    def _spec(self, node: yaml.Node, known: tuple[str, ...]) -> Spec:
        if isinstance(node, yaml.ScalarNode):
            return Spec(column=self.text(node))
        items = self.items(node, known)
        values: dict[str, Any] = {name: self.text(value) for name, value in items.items()}
        if sum(name in values for name in ("column", "const", "template")) != 1:
            raise self.fail(node, "give exactly one of column, const, template")
        if values.get("type", "string") not in _VALUE_TYPES:
            raise self.fail(items["type"], f"unknown type {values['type']!r}; known are {', '.join(_VALUE_TYPES)}")
        if "template" in values and not _PLACEHOLDER.search(values["template"]):
            raise self.fail(items["template"], "the template names no column", do='Write e.g. "{region}-{tenant}".')
        return Spec(**values)

    def time(self, node: yaml.Node) -> TimeSpec:
        """The time's column, format and zone."""
        if isinstance(node, yaml.ScalarNode):
            return TimeSpec(self.text(node))
        items = self.items(node, ("column", "format", "timezone"))
        values = {name: self.text(value) for name, value in items.items()}
        if "column" not in values:
            raise self.fail(node, "time needs a column")
        format_ = values.get("format", "rfc3339")
        if format_ not in TIME_FORMATS:
            try:
                compile_format(format_)
            except ValueError as error:
                known = f"Known are {', '.join(TIME_FORMATS)} and patterns with %."
                raise self.fail(items["format"], str(error), do=known) from None
        zone = values.get("timezone")
        if zone is not None and not zone_exists(zone):
            raise self.fail(items["timezone"], f"unknown time zone {zone!r}", do="Use a name such as Europe/Paris.")
        if zone is None and "%" in format_ and "%z" not in format_:
            raise self.fail(node, "the format has no offset (%z), so time needs a timezone")
        if zone is not None and (format_ in TIME_FORMATS and format_ != "iso"):
            raise self.fail(items["timezone"], f"{format_} times have their offset already; leave timezone away")
        return TimeSpec(**values)

    def delimiter(self, node: yaml.Node) -> str:
        """The CSV delimiter: one ASCII character."""
        text = self.text(node)
        if len(text) != 1 or not text.isascii() or text in '"\r\n':
            raise self.fail(node, f"{text!r} cannot be a delimiter", do='Use one character, such as ";" or "\\t".')
        return text
