"""JSON Schema: drafts 4 to 2020-12, as ``$schema`` says.

Whether a schema reads what another allows is decided by containment of their canonical forms, and only a proof counts: what
cannot be decided is refused. Properties that a writer does not list are taken as not written, unless it says what they
look like (``additionalProperties``, ``patternProperties``): else no open object could ever get an optional property.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jsonschema_rs
from jsonschema_rs import RegexOptions, canonical

from lineitem.schemas.formats import _json
from lineitem.schemas.model import BadSchema, Schema, Unreadable

_PROBLEMS_MAX = 20
_ALTERNATIVES = frozenset({"anyOf", "oneOf", "$ref", "$dynamicRef"})
_TOGETHER = frozenset({"allOf", "not", "if", "unevaluatedProperties", "dependentSchemas", "dependencies"})
_VALUES = frozenset({"const", "enum", "default", "examples"})


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """A JSON Schema, compiled."""

    canonical: str
    warnings: Sequence[str]
    document: Any
    _validator: Any
    _resources: tuple[tuple[str, Any], ...]

    def decode(self, payload: bytes) -> Any:
        """A JSON text that satisfies the schema."""
        from lineitem.schemas.values import json_value

        data = json_value(payload)
        problems = self.problems(data)
        if problems:
            raise Unreadable(problems[0])
        return data

    def problems(self, data: Any) -> list[str]:
        """What is wrong, with its place as a JSON pointer."""
        if self._validator.is_valid(data):
            return []
        found = []
        for error in self._validator.iter_errors(data):
            found.append(f"{_pointer(error.instance_path)}: {error.message[:300]}")
            if len(found) >= _PROBLEMS_MAX:
                break
        return found


def _pointer(path: Sequence[object]) -> str:
    return "data" + "".join(f"/{part}" for part in path)


def parse(schema: Schema) -> JsonSchema:
    """Understand a JSON Schema. Raises BadSchema. Nothing is fetched: a ``$ref`` leads into it or to a reference."""
    document = _json.parsed(schema.text)
    if not isinstance(document, dict | bool):
        raise BadSchema(["a JSON Schema is an object"])
    resources = tuple((name, _json.parsed(text)) for name, text in schema.needs)
    try:
        validator = jsonschema_rs.validator_for(
            document, offline=True, validate_formats=True, pattern_options=RegexOptions(), **_registry(resources)
        )
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        raise BadSchema([_sentence(error)]) from None
    whole = {"schema": document, "needs": [list(one) for one in resources]} if resources else document
    return JsonSchema(_json.canonical(whole), (), document, validator, resources)


def _registry(resources: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    return {"registry": jsonschema_rs.Registry(list(resources), retriever=_nothing)} if resources else {}


def _nothing(uri: str) -> Any:
    raise ValueError(f"{uri} is neither in the schema nor among its references")


def _sentence(error: Exception) -> str:
    if isinstance(error, jsonschema_rs.ValidationError):
        return f"{_pointer(error.instance_path).replace('data', 'schema', 1)}: {error.message[:300]}"
    return str(error).splitlines()[0]


def unreadable(reader: JsonSchema, writer: JsonSchema) -> list[str]:
    """Where ``reader`` refuses, or may refuse, what ``writer`` allows."""
    found = _uncovered(reader, writer, _inlined(reader), _closed(_inlined(writer)), "data")
    return found[:_PROBLEMS_MAX]


def _inlined(schema: JsonSchema) -> Any:
    """The schema with what it refers to elsewhere in place: two references of one name may be two versions."""
    if not schema._resources:
        return schema.document
    return jsonschema_rs.dereference(schema.document, offline=True, **_registry(schema._resources))


def _uncovered(reader: JsonSchema, writer: JsonSchema, new: Any, old: Any, place: str) -> list[str]:
    """Problems of one place; those of properties one by one, because a person has to find them."""
    if _covers(reader, writer, new, old):
        return []
    found: list[str] = []
    if isinstance(new, dict) and isinstance(old, dict):
        mine, theirs = new.get("properties", {}), old.get("properties", {})
        for name in sorted(set(new.get("required", ())) - set(old.get("required", ()))):
            found.append(f"{place}/{name}: required by the one, not always written by the other")
        for name in sorted(mine.keys() & theirs.keys()):
            found += _uncovered(reader, writer, _within(new, mine[name]), _within(old, theirs[name]), f"{place}/{name}")
        if new.get("additionalProperties") is False:
            for name in sorted(theirs.keys() - mine.keys()):
                found.append(f"{place}/{name}: written by the one, forbidden by the other (additionalProperties)")
    return found or [f"{place}: values are allowed by the one that the other refuses, or may refuse"]


def _covers(reader: JsonSchema, writer: JsonSchema, new: Any, old: Any) -> bool:
    options: dict[str, Any] = {"offline": True, "validate_formats": True, "pattern_options": RegexOptions()}
    try:
        left = jsonschema_rs.canonicalize(new, **options, **_registry(reader._resources))
        right = jsonschema_rs.canonicalize(old, **options, **_registry(writer._resources))
        contained: object = left.covers(right)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, canonical.CanonicalizationError, ValueError):
        return False  # it could not be decided
    return contained == canonical.Containment.YES


def _within(root: Any, part: Any) -> Any:
    """A part of a schema with the definitions of the whole."""
    if not isinstance(part, dict) or not isinstance(root, dict):
        return part
    kept = {name: root[name] for name in ("$schema", "$defs", "definitions") if name in root}
    return kept | part


def _closed(writer: Any) -> Any:
    """A writer's schema in which objects that list their properties have no others.

    Left alone where several schemas describe one object together: closing one of them would forbid what the others list.
    """
    return writer if _conjoined(writer) else _close(writer)


def _conjoined(part: Any) -> bool:
    """Whether anywhere one value has to satisfy several schemas at once."""
    if isinstance(part, list):
        return any(map(_conjoined, part))
    if not isinstance(part, dict):
        return False
    several = len(part.keys() & _ALTERNATIVES) + ("properties" in part) > 1
    return several or bool(part.keys() & _TOGETHER) or any(map(_conjoined, part.values()))


def _close(part: Any) -> Any:
    if isinstance(part, list):
        return [_close(one) for one in part]
    if not isinstance(part, dict):
        return part
    made = {name: one if name in _VALUES else _close(one) for name, one in part.items()}
    lists_all = isinstance(part.get("properties"), dict) and "patternProperties" not in part
    if lists_all and part.get("additionalProperties", True) is True:
        made["additionalProperties"] = False
    return made
