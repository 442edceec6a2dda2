"""What an Avro schema must be to bill by, and schema resolution (Avro 1.11) that does not let a logical type change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lineitem.schemas.formats._avro_codec import Names

_PROMOTED = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}
"""Writer's type -> what a reader may have instead."""
_PRECISION_MAX = 38


def defects(schemas: Iterable[Any]) -> tuple[list[str], list[str]]:
    """(problems, warnings) of types and all they contain: decimals that cannot be, numbers that are binary floats."""
    problems: list[str] = []
    warnings: list[str] = []
    for place, one in _parts(schemas):
        kind = one["type"] if isinstance(one, dict) else one
        if kind in ("float", "double"):
            warning = f"{place} is a {kind}: a binary float, billed as its shortest decimal; a decimal is exact"
            if warning not in warnings:
                warnings.append(warning)
        if not isinstance(one, dict) or one.get("logicalType") != "decimal":
            continue
        precision, scale = one.get("precision"), one.get("scale", 0)
        if kind not in ("bytes", "fixed"):
            problems.append(f"{place}: a decimal is of type bytes or fixed, not {kind}")
        elif type(precision) is not int or not 0 < precision <= _PRECISION_MAX:
            problems.append(f"{place}: a decimal's precision is a whole number from 1 to {_PRECISION_MAX}")
        elif type(scale) is not int or not 0 <= scale <= precision:
            problems.append(f"{place}: a decimal's scale is a whole number from 0 to its precision, {precision}")
    return problems, warnings


def _parts(schemas: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    todo = [("data", one) for one in schemas]
    while todo:
        place, one = todo.pop(0)
        if isinstance(one, list):
            todo += [(place, branch) for branch in one]
            continue
        yield place, one
        if not isinstance(one, dict):
            continue
        if isinstance(one["type"], dict | list):
            todo.append((place, one["type"]))
        todo += [(f"{place}/{part['name']}", part["type"]) for part in one.get("fields", ())]
        todo += [(f"{place}/*", one[name]) for name in ("items", "values") if name in one]


@dataclass(slots=True)
class Resolution:
    """One reader against one writer. Pairs of named types in work are taken as good: they may contain themselves."""

    reader_names: Names
    writer_names: Names
    _seen: set[tuple[str, str]] = field(default_factory=set)

    def check(self, reader: Any, writer: Any, place: str) -> list[str]:
        """Problems, each with its place in the data."""
        reader, writer = _whole(reader, self.reader_names), _whole(writer, self.writer_names)
        if isinstance(writer, list):
            return [problem for branch in writer for problem in self.check(reader, branch, place)]
        if isinstance(reader, list):
            return self._some_branch(reader, writer, place)
        mine, theirs = reader["type"], writer["type"]
        if mine != theirs:
            if mine not in _PROMOTED.get(theirs, ()):
                return [f"{place}: {_shown(writer)} is read as {_shown(reader)}"]
            return _logical(reader, writer, place)
        return _logical(reader, writer, place) or self._structure(reader, writer, place)

    def _some_branch(self, branches: list[Any], writer: Any, place: str) -> list[str]:
        """The first branch of the writer's own type, or of one it may be promoted to, has to read it."""
        found = []
        for same in (True, False):
            for branch in branches:
                whole = _whole(branch, self.reader_names)
                if (whole["type"] == writer["type"] and _named_alike(whole, writer)) == same:
                    problems = self.check(branch, writer, place)
                    if not problems:
                        return []
                    if same:
                        return problems
                    found += problems
        return [f"{place}: no branch of the union reads {_shown(writer)}"]

    def _structure(self, reader: Any, writer: Any, place: str) -> list[str]:
        kind = reader["type"]
        if kind == "array":
            return self.check(reader["items"], writer["items"], f"{place}/*")
        if kind == "map":
            return self.check(reader["values"], writer["values"], f"{place}/*")
        if "name" not in reader:
            return []
        if not _named_alike(reader, writer):
            return [f"{place}: {kind} {writer['name']} is read as {reader['name']}"]
        if (reader["name"], writer["name"]) in self._seen:
            return []
        self._seen.add((reader["name"], writer["name"]))
        if kind == "enum":
            lost = [one for one in writer["symbols"] if one not in reader["symbols"]]
            if lost and "default" not in reader:
                return [f"{place}: symbols {', '.join(lost)} of enum {writer['name']} are not known to the reader"]
            return []
        if kind == "fixed":
            same = reader["size"] == writer["size"]
            return [] if same else [f"{place}: {writer['size']} bytes are read as {reader['size']}"]
        return self._fields(reader, writer, place)

    def _fields(self, reader: Any, writer: Any, place: str) -> list[str]:
        written = {one["name"]: one["type"] for one in writer["fields"]}
        found: list[str] = []
        for one in reader["fields"]:
            name = next((name for name in (one["name"], *one.get("aliases", ())) if name in written), None)
            if name is not None:
                if name != one["name"]:
                    found.append(f"{place}/{name}: is renamed to {one['name']}; a meter reads names")
                found += self.check(one["type"], written[name], f"{place}/{one['name']}")
            elif "default" not in one:
                found.append(f"{place}/{one['name']}: is read but not written, and has no default")
        return found


def _whole(schema: Any, names: Names) -> Any:
    """A type as an object (or a union as a list), names looked up."""
    while True:
        if isinstance(schema, str):
            schema = names.get(schema, {"type": schema})
        elif isinstance(schema, dict) and isinstance(schema["type"], dict | list):
            schema = schema["type"]
        elif isinstance(schema, dict) and "name" not in schema and schema["type"] in names:
            schema = names[schema["type"]]
        else:
            return schema


def _named_alike(reader: Any, writer: Any) -> bool:
    """Avro 1.11: unqualified names have to match, or an alias."""
    if "name" not in reader or "name" not in writer:
        return "name" not in reader and "name" not in writer
    last = writer["name"].rpartition(".")[2]
    aliases = [one.rpartition(".")[2] for one in reader.get("aliases", ())]
    return last in (reader["name"].rpartition(".")[2], *aliases)


def _logical(reader: Any, writer: Any, place: str) -> list[str]:
    mine, theirs = reader.get("logicalType"), writer.get("logicalType")
    if mine != theirs:
        return [f"{place}: {_shown(writer)} is read as {_shown(reader)}: the logical type may not change"]
    if mine != "decimal":
        return []
    if reader.get("scale", 0) != writer.get("scale", 0):
        change = f"{_shown(writer)} is read as {_shown(reader)}"
        return [f"{place}: {change}: a decimal's scale may not change, the same bytes would be another amount"]
    if reader["precision"] < writer["precision"]:
        return [f"{place}: {_shown(writer)} is read as {_shown(reader)}, which has fewer digits"]
    return []


def _shown(schema: Any) -> str:
    if schema.get("logicalType") == "decimal":
        return f"decimal({schema.get('precision')}, {schema.get('scale', 0)})"
    logical = schema.get("logicalType")
    name = schema.get("name", schema["type"])
    return f"{name} ({logical})" if logical else str(name)
