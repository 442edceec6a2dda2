"""JSON Schema: exact numbers, containment that only a proof decides, and nothing fetched from anywhere."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from lineitem.schemas import formats
from lineitem.schemas.model import BadSchema, Schema, Unreadable


def schema(document: Any, **needs: Any) -> Schema:
    return Schema("JSON", json.dumps(document), (), tuple((name, json.dumps(text)) for name, text in needs.items()))


def obj(properties: dict[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), **more}


NUMBER, STRING = {"type": "number"}, {"type": "string"}


def test_numbers_are_exact() -> None:
    """A hundredth is a hundredth, whatever binary makes of it."""
    parsed = formats.parse(schema(obj({"a": {"type": "number", "multipleOf": 0.01}}, "a")))
    assert parsed.problems({"a": Decimal("4.35")}) == []
    assert parsed.problems({"a": Decimal("4.355")}) == ["data/a: 4.355 is not a multiple of 0.01"]
    assert parsed.decode(b'{"a": 4.35}') == {"a": Decimal("4.35")}
    with pytest.raises(Unreadable, match="data/a"):
        parsed.decode(b'{"a": "x"}')
    for payload in (
        b"{",
        b'{"a": NaN}',
        b'{"a": 1}\xff',
        b"[" * 50_000,
        b"[" * 80 + b"]" * 80,
        '{"a": 1}'.encode("utf-16"),
    ):
        with pytest.raises(Unreadable):
            parsed.decode(payload)


def test_an_exponent_costs_nothing() -> None:
    """A number of a few bytes that has a million digits is judged without anybody writing it out."""
    parsed = formats.parse(schema(obj({"a": {"type": "number", "multipleOf": 0.01}})))
    assert parsed.problems({"a": Decimal("1e999999999")}) == []
    assert parsed.problems({"a": Decimal("1e-999999999")})


def test_formats_are_held() -> None:
    """`format` is no comment here."""
    parsed = formats.parse(schema(obj({"t": {"type": "string", "format": "date-time"}})))
    assert parsed.problems({"t": "yesterday"})
    assert parsed.problems({"t": "2026-11-01T00:00:00Z"}) == []


@pytest.mark.parametrize(
    ("reader", "writer"),
    [
        (obj({"a": STRING, "b": NUMBER}, "a"), obj({"a": STRING}, "a")),  # an optional property more
        (obj({"a": STRING}), obj({"a": STRING, "b": NUMBER})),  # one less, in an open object
        (obj({"a": NUMBER}), obj({"a": {"type": "integer"}})),
        (obj({"a": {"enum": ["x", "y", "z"]}}), obj({"a": {"enum": ["x", "y"]}})),
        (obj({"a": {"multipleOf": 0.01, "type": "number"}}), obj({"a": {"multipleOf": 0.1, "type": "number"}})),
        (obj({"a": obj({"b": STRING, "c": STRING})}), obj({"a": obj({"b": STRING})})),
        (obj({"a": {"anyOf": [STRING, {"type": "null"}]}}), obj({"a": STRING})),
        (
            obj({"l": {"type": "array", "items": obj({"b": STRING, "c": NUMBER})}}),
            obj({"l": {"type": "array", "items": obj({"b": STRING})}}),
        ),
        ({"$defs": {"m": STRING}, **obj({"a": {"$ref": "#/$defs/m"}})}, obj({"a": STRING})),
    ],
)  # fmt: skip
def test_what_may_change(reader: Any, writer: Any) -> None:
    """The reader takes whatever the writer may write."""
    assert formats.unreadable(schema(reader), schema(writer)) == ()


@pytest.mark.parametrize(
    ("reader", "writer", "place"),
    [
        (obj({"a": STRING}, "a"), obj({"a": STRING}), "data/a: required"),
        (obj({"a": {"type": "integer"}}), obj({"a": NUMBER}), "data/a"),
        (obj({"a": {"type": "string", "format": "date"}}), obj({"a": {"type": "string", "format": "date-time"}}), "data/a"),
        (obj({"a": {"type": "string", "format": "date"}}), obj({"a": STRING}), "data/a"),
        (obj({"a": STRING}, additionalProperties=False), obj({"a": STRING, "b": NUMBER}), "data/b"),
        (obj({"a": obj({"b": NUMBER})}), obj({"a": obj({"b": STRING})}), "data/a/b"),
        (obj({"a": NUMBER}), obj({}, additionalProperties=STRING), "data"),
        # Two schemas say what one object holds: neither may be taken for the whole.
        (
            obj({"b": NUMBER}),
            {"allOf": [obj({"a": STRING}), obj({"b": STRING})]},
            "data",
        ),
    ],
)  # fmt: skip
def test_what_may_not_change(reader: Any, writer: Any, place: str) -> None:
    """Named with its place."""
    found = formats.unreadable(schema(reader), schema(writer))
    assert found
    assert found[0].startswith(place)


def test_references() -> None:
    """A schema elsewhere is one that is registered and named; nothing is fetched."""
    whole = schema(obj({"m": {"$ref": "urn:money"}}), **{"urn:money": {"type": "integer"}})
    assert formats.parse(whole).problems({"m": "x"})
    assert formats.unreadable(whole, whole) == ()
    wider = schema(obj({"m": {"$ref": "urn:money"}}), **{"urn:money": NUMBER})
    assert formats.unreadable(wider, whole) == ()
    assert formats.unreadable(whole, wider)
    with pytest.raises(BadSchema, match=r"retriev|not present"):
        formats.parse(schema({"$ref": "http://127.0.0.1:9/x.json"}))


@pytest.mark.parametrize(
    "text", ["", "[]", '{"a":1', '{"type":"objec"}', '{"pattern":"(?=a)"}', '{"$ref":"#/$defs/no"}']
)
def test_what_is_no_schema(text: str) -> None:
    """Each is refused with a sentence."""
    with pytest.raises(BadSchema) as error:
        formats.parse(Schema("JSON", text))
    assert all(error.value.problems)
