"""What a subject asks of its next version: of which versions, in which direction; references; contract tests in words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lineitem.schemas import contract
from lineitem.schemas._store import Kept
from lineitem.schemas.model import BadSchema, Compatibility, Reference, Schema
from lineitem.schemas.registry import (
    COMPATIBILITY,
    ENFORCE,
    Book,
    UnknownId,
    UnknownSubject,
    UnknownVersion,
    digest_of,
    refs_text,
)


def schema(*required: str, **properties: str) -> Schema:
    """An object of JSON types by name."""
    document = {"type": "object", "required": list(required)}
    document["properties"] = {name: {"type": kind} for name, kind in properties.items()}  # type: ignore[assignment]
    return Schema("JSON", json.dumps(document))


def book(*versions: Schema, **settings: str) -> Book:
    """One subject, ``s``."""
    kept = {
        id_: Kept(id_, one.format, one.text, refs_text(one.references), digest_of(one))
        for id_, one in enumerate(versions, start=1)
    }
    return Book(kept, {"s": {id_: id_ for id_ in kept}} if kept else {}, {("s", k): v for k, v in settings.items()})


LESS, MORE, NEEDS, OTHER = (
    schema(a="string"),
    schema(a="string", b="string"),
    schema("b", b="string"),
    schema(a="number"),
)


@pytest.mark.parametrize(
    ("asked", "old", "new", "good"),
    [
        ("NONE", LESS, OTHER, True),
        ("BACKWARD", LESS, MORE, True),
        ("BACKWARD", MORE, NEEDS, False),  # b was not always written
        ("FORWARD", MORE, NEEDS, True),
        ("FORWARD", NEEDS, MORE, False),  # who needs b may not find it
        ("FULL", LESS, MORE, True),
        ("FULL", MORE, NEEDS, False),
        ("FULL", NEEDS, MORE, False),
        ("BACKWARD", LESS, OTHER, False),
        ("FORWARD", LESS, OTHER, False),
    ],
)
def test_directions(asked: str, old: Schema, new: Schema, good: bool) -> None:
    """Who has to read whom."""
    found = book(old).problems("s", new, asked=Compatibility(asked))
    assert (not found) == good, found


def test_transitive_looks_at_every_version() -> None:
    """The last version may stand between two that do not fit; so does checking against one alone."""
    held = book(OTHER, schema(b="string"))
    assert held.problems("s", LESS, asked=Compatibility.BACKWARD) == []
    assert "against version 1, data/a" in held.problems("s", LESS, asked=Compatibility.BACKWARD_TRANSITIVE)[0]
    assert held.problems("s", LESS, asked=Compatibility.BACKWARD, against=1)


def test_another_format_is_never_the_next_version() -> None:
    """Unless nothing is asked."""
    avro = Schema("AVRO", '{"type":"record","name":"R","fields":[]}')
    assert "the format changes" in book(LESS).problems("s", avro)[0]
    assert book(LESS, compatibility="NONE").problems("s", avro) == []


def test_what_is_asked() -> None:
    """Of the subject, else of all, else BACKWARD and nothing enforced."""
    assert (book().compatibility("s"), book().enforced("s")) == (Compatibility.BACKWARD, False)
    of_all = Book({}, {}, {("", COMPATIBILITY): "FULL", ("", ENFORCE): "yes"})
    assert (of_all.compatibility("s"), of_all.enforced("s")) == (Compatibility.FULL, True)
    own = Book(
        {}, {}, {("", COMPATIBILITY): "FULL", ("s", COMPATIBILITY): "NONE", ("s", ENFORCE): "no", ("", ENFORCE): "yes"}
    )
    assert (own.compatibility("s"), own.enforced("s")) == (Compatibility.NONE, False)


def test_what_is_not_there() -> None:
    """Each kind of missing thing has its own error."""
    held = book(LESS)
    with pytest.raises(UnknownSubject):
        held.version("t")
    with pytest.raises(UnknownVersion):
        held.version("s", 2)
    with pytest.raises(UnknownId):
        held.schema(2)
    with pytest.raises(BadSchema, match="not registered"):
        held.whole("JSON", "{}", [Reference("x", "t", 1)])
    assert held.version("s").schema == LESS
    assert held.find(Schema("JSON", " " + LESS.text)) == 1


def check(held: Book, text: str, events: list[Any] | None = None) -> contract.Verdict:
    made = Schema("JSON", text)
    verdict = contract.check(held, "s", made, "f.json")
    if events is not None:
        contract.check_events(verdict, made, "s", [json.dumps(one).encode() for one in events], "e.ndjson")
    return verdict


def test_problems_have_a_place() -> None:
    """The file and line of the field, of the broken text, of the event."""
    text = '{"type": "object",\n "properties": {\n  "b": {"type": "string"},\n  "a": {"type": "string"}}}'
    assert check(book(OTHER), text).problems[0].startswith("f.json:4: against version 1, data/a")
    assert check(book(), "{\n\n 1").problems[0].startswith("f.json:3: ")
    whole = {"specversion": "1.0", "type": "s", "data": {"a": 1}}
    verdict = check(book(), text, [whole | {"data": {"a": "x"}}, {"a": "x"}, {"b": 5}, whole, whole | {"type": "t"}])
    assert [one.partition(": ")[0] for one in verdict.problems] == ["e.ndjson:3", "e.ndjson:4"]
    assert (verdict.events, verdict.skipped) == (4, 1)
    assert list(contract.summary([verdict])) == [
        "f.json: 2 problems, nothing is registered under s yet; 4 events checked, 1 of other types."
    ]


def test_a_registered_schema_is_no_news() -> None:
    """It need not be compatible with itself through a version between."""
    verdict = check(book(LESS, OTHER, compatibility="BACKWARD"), LESS.text)
    assert (verdict.problems, verdict.registered) == ([], 1)
