"""Register schemas and say what subjects ask, recorded in lane 0; and whether the registry still says what was recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, NamedTuple

from lineitem.catalog import published
from lineitem.kit.db import Connection
from lineitem.ledger import claims
from lineitem.ledger.post import Fact, canonical
from lineitem.ledger.publishing import desk
from lineitem.schemas import registry
from lineitem.schemas.model import Schema
from lineitem.schemas.registry import Added

SCHEMA, SETTING = "schema", "schema_setting"
"""Kinds of the facts."""


def register(connection: Connection, namespace: str, subject: str, schema: Schema, by: str, now_us: int) -> Added:
    """Make ``schema`` the subject's next version; one the subject has already is found again and nothing is written.

    Raises BadSchema, registry.Incompatible.
    """
    registry.check_subject(subject)
    registry.judge(registry.load(connection, published.namespace_key(connection, namespace)), subject, schema)
    with desk(connection, namespace, by, now_us) as held:
        done = registry.add(connection, held.key, subject, schema, held.head.batch + 1)
        if done.fresh:
            body: dict[str, Any] = {"namespace": namespace, "by": by, "subject": subject}
            body |= {"version": done.version, "id": done.id, "new": None}
            if done.kept is not None:
                body["new"] = _content(done.kept[1:])
            held.record([Fact(SCHEMA, canonical(body))], held.revision)
    return done


def put(
    connection: Connection, namespace: str, subject: str, settings: dict[str, str | None], by: str, now_us: int
) -> None:
    """Set what a subject asks (``registry.COMPATIBILITY``, ``ENFORCE``), or all that ask nothing of their own."""
    with desk(connection, namespace, by, now_us) as held:
        book = registry.load(connection, held.key)
        changed = {name: value for name, value in settings.items() if book.settings.get((subject, name)) != value}
        if not changed:
            return
        for name, value in changed.items():
            registry.put(connection, held.key, subject, name, value, held.head.batch + 1)
        body = {"namespace": namespace, "by": by, "subject": subject, "settings": changed}
        held.record([Fact(SETTING, canonical(body))], held.revision)


def _content(row: tuple[Any, ...]) -> list[str]:
    """What a fact says of a schema: format, digest of the text, references, digest of what it means."""
    format_, document, refs, digest = row
    return [format_, sha256(document.encode()).hexdigest(), refs, bytes(digest).hex()]


class _Row(NamedTuple):
    what: str
    namespace: str
    batch: int
    name: tuple[Any, ...]
    """As stored, so that no subject's name can stand for another thing: (id,), (version, subject), (setting, subject)."""
    content: tuple[Any, ...]

    def __str__(self) -> str:
        first, *subject = self.name
        said = f"{first} of {subject[0] or 'all subjects'}" if subject else str(first)
        return f"{self.what} {said} of {self.namespace}"


def check_schemas(connection: Connection) -> Iterator[tuple[tuple[int, int] | None, str]]:
    """Every schema, version and setting is as a batch recorded it: (batch to blame, what is wrong)."""
    recorded = set(_recorded(connection))
    schemas, versions, settings = registry.stored(connection)
    kept = {_Row("schema", row[0], row[1], (row[2],), tuple(_content(row[3:]))) for row in schemas}
    kept |= {_Row("version", row[0], row[1], (row[3], row[2]), (row[4],)) for row in versions}
    kept |= {_Row("setting", row[0], row[1], (row[3], row[2]), (row[4],)) for row in settings}
    for one in sorted(recorded - kept, key=repr):
        yield (0, one.batch), f"{one} is not what was recorded"
    for one in sorted(kept - recorded, key=repr):
        yield None, f"{one} was never recorded"


def _recorded(connection: Connection) -> Iterator[_Row]:
    """What the facts say; one that cannot be read any more its batch's root gives away."""
    for namespace, lane, batch, body in claims.facts(connection, SCHEMA):
        try:
            fact = json.loads(body)
            version = _Row("version", namespace, batch, (fact["version"], fact["subject"]), (fact["id"],))
            new = fact["new"] and _Row("schema", namespace, batch, (fact["id"],), tuple(fact["new"]))
        except (ValueError, KeyError, TypeError):
            continue
        if lane == 0:
            yield version
            if new:
                yield new
    for namespace, lane, batch, body in claims.facts(connection, SETTING):
        try:
            fact = json.loads(body)
            subject = fact["subject"]
            rows = [
                _Row("setting", namespace, batch, (key, subject), (value,)) for key, value in fact["settings"].items()
            ]
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        if lane == 0:
            yield from rows
