"""A namespace's registry: what is registered and asked, the next version of a subject, and what may stand in its way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple

from lineitem.core.errors import InputError, IntegrityError, Refused, UsageError
from lineitem.core.ids import length_prefixed
from lineitem.kit.db import Connection
from lineitem.schemas import _store, formats
from lineitem.schemas._store import Kept
from lineitem.schemas.model import (
    REFERENCES_MAX,
    SUBJECT_CHARS_MAX,
    BadSchema,
    Compatibility,
    Reference,
    Schema,
)

GLOBAL = ""
"""The subject that stands for all which ask nothing of their own."""
COMPATIBILITY, ENFORCE = "compatibility", "enforce"
DEFAULT = Compatibility.BACKWARD
_SHOWN_MAX = 20


class UnknownSubject(InputError):
    """Nothing was ever registered under it."""


class UnknownVersion(InputError):
    """The subject has no such version."""


class UnknownId(InputError):
    """No schema has this id."""


class Incompatible(Refused):
    """A subject asks more of its next version. ``problems``: one sentence each, with version and place."""

    def __init__(self, problems: Sequence[str], *, where: str, do: str) -> None:
        more = [f"and {len(problems) - _SHOWN_MAX} more"] if len(problems) > _SHOWN_MAX else []
        super().__init__("\n".join([*problems[:_SHOWN_MAX], *more]), where=where, do=do)
        self.problems = list(problems)


class Version(NamedTuple):
    """One version of a subject."""

    subject: str
    version: int
    id: int
    schema: Schema


@dataclass(slots=True)
class Book:
    """What a namespace's registry holds at one moment."""

    kept: dict[int, Kept]
    versions: dict[str, dict[int, int]]
    """Subject -> version -> id."""
    settings: dict[tuple[str, str], str]
    _schemas: dict[int, Schema] = field(default_factory=dict)

    def schema(self, id_: int) -> Schema:
        """The schema with an id and all it refers to. Raises UnknownId."""
        found = self._schemas.get(id_)
        if found is None:
            kept = self.kept.get(id_)
            if kept is None:
                raise UnknownId(f"no schema has the id {id_}", do="`lineitem schema list` shows what is registered.")
            found = self.whole(kept.format, kept.document, references_of(kept.refs))
            self._schemas[id_] = found
        return found

    def whole(self, format_: str, text: str, references: Sequence[Reference]) -> Schema:
        """A schema with the texts of what it refers to. Raises BadSchema where one is not registered."""
        needs: dict[str, str] = {}
        self._gather(references, needs)
        return Schema(format_, text, tuple(references), tuple(needs.items()))

    def _gather(self, references: Sequence[Reference], needs: dict[str, str]) -> None:
        for one in references:
            id_ = self.versions.get(one.subject, {}).get(one.version)
            if id_ is None:
                raise BadSchema([f"it refers to version {one.version} of {one.subject!r}, which is not registered"])
            if one.name in needs:
                continue
            self._gather(references_of(self.kept[id_].refs), needs)  # what refers can only be registered after it
            needs[one.name] = self.kept[id_].document
            if len(needs) > REFERENCES_MAX:
                raise BadSchema([f"it refers to more than {REFERENCES_MAX} schemas"])

    def of(self, subject: str) -> dict[int, int]:
        """Version -> id of a subject. Raises UnknownSubject."""
        found = self.versions.get(subject)
        if not found:
            raise UnknownSubject(f"no subject {subject!r}", do="`lineitem schema list` shows what is registered.")
        return found

    def version(self, subject: str, number: int | None = None) -> Version:
        """A version of a subject, None: the latest. Raises UnknownSubject, UnknownVersion."""
        known = self.of(subject)
        wanted = max(known) if number is None else number
        if wanted not in known:
            raise UnknownVersion(f"{subject!r} has no version {wanted}, only {', '.join(map(str, known))}")
        return Version(subject, wanted, known[wanted], self.schema(known[wanted]))

    def compatibility(self, subject: str) -> Compatibility:
        """What a subject asks of its next version."""
        own = self.settings.get((subject, COMPATIBILITY)) or self.settings.get((GLOBAL, COMPATIBILITY))
        return Compatibility(own) if own else DEFAULT

    def enforced(self, subject: str) -> bool:
        """Whether events of the subject's type that name no version are held to its latest one."""
        return (self.settings.get((subject, ENFORCE)) or self.settings.get((GLOBAL, ENFORCE))) == "yes"

    def problems(
        self, subject: str, schema: Schema, *, asked: Compatibility | None = None, against: int | None = None
    ) -> list[str]:
        """What stands in the way of ``schema`` as the subject's next version; ``against``: one version alone."""
        asked = self.compatibility(subject) if asked is None else asked
        numbers = sorted(self.versions.get(subject, {}), reverse=True)
        numbers = [against] if against is not None else numbers if asked.transitive else numbers[:1]
        found = []
        for number in numbers:
            old = self.version(subject, number).schema
            if asked.backward:
                found += [f"against version {number}, {one}" for one in formats.unreadable(schema, old)]
            if asked.forward:
                found += [f"for readers of version {number}, {one}" for one in formats.unreadable(old, schema)]
        return found

    def find(self, schema: Schema) -> int | None:
        """The id of a schema that says the same. Raises BadSchema."""
        digest = digest_of(schema)
        return next((kept.id for kept in self.kept.values() if kept.digest == digest), None)


def references_of(refs: str) -> tuple[Reference, ...]:
    """Stored references. Raises IntegrityError for what is none."""
    try:
        return tuple(Reference(str(name), str(subject), int(version)) for name, subject, version in json.loads(refs))
    except (ValueError, TypeError):
        raise IntegrityError("the references of a schema cannot be read", do="Run `lineitem verify`.") from None


def refs_text(references: Sequence[Reference]) -> str:
    """References as they are stored."""
    return json.dumps([list(one) for one in references], ensure_ascii=False, separators=(",", ":"))


def digest_of(schema: Schema) -> bytes:
    """SHA-256 over format, canonical form and references. Raises BadSchema."""
    parts = (schema.format, formats.parse(schema).canonical, refs_text(schema.references))
    return sha256(length_prefixed(*(part.encode() for part in parts))).digest()


def load(connection: Connection, namespace_key: int) -> Book:
    """The registry as it stands."""
    versions: dict[str, dict[int, int]] = {}
    for subject, version, id_ in _store.versions(connection, namespace_key):
        versions.setdefault(subject, {})[version] = id_
    settings = {(subject, name): value for subject, name, value in _store.settings(connection, namespace_key) if value}
    return Book({kept.id: kept for kept in _store.schemas(connection, namespace_key)}, versions, settings)


def newest(connection: Connection, namespace_key: int) -> int:
    """The batch that changed the registry last; 0 for an empty one. A ``Book`` of before is out of date after it."""
    return _store.newest(connection, namespace_key)


def check_subject(subject: str) -> str:
    """Raise UsageError for what cannot name a subject."""
    if not subject or len(subject) > SUBJECT_CHARS_MAX or not subject.isprintable():
        raise UsageError(
            f"{subject[:60]!r} cannot name a subject", do=f"Use 1 to {SUBJECT_CHARS_MAX} printable characters."
        )
    return subject


class Added(NamedTuple):
    """What registering came to: ``fresh`` False where the subject had it. ``kept``: the schema where it is new to all."""

    id: int
    version: int
    fresh: bool
    kept: Kept | None = None


def judge(book: Book, subject: str, schema: Schema) -> tuple[Schema, int | None, int | None]:
    """A schema with all it needs, the id it has already, and the version of the subject that it is already.

    Raises BadSchema, and Incompatible for what the subject does not allow. What is worked out here is remembered: called
    before ``add``, it leaves little to do while others wait.
    """
    schema = book.whole(schema.format, schema.text, schema.references)
    id_ = book.find(schema)
    for version, known in book.versions.get(subject, {}).items():
        if known == id_:
            return schema, id_, version
    problems = book.problems(subject, schema)
    if problems:
        raise Incompatible(
            problems, where=f"{subject} ({book.compatibility(subject)})",
            do="Change the schema, or register it under another subject; `lineitem schema mode` shows what is asked.",
        )  # fmt: skip
    return schema, id_, None


def add(connection: Connection, namespace_key: int, subject: str, schema: Schema, batch: int) -> Added:
    """Make ``schema`` the subject's next version, in the caller's transaction, which holds lane 0. Raises as ``judge`` does."""
    book = load(connection, namespace_key)
    schema, id_, version = judge(book, subject, schema)
    if id_ is not None and version is not None:
        return Added(id_, version, fresh=False)
    kept = None
    if id_ is None:
        id_ = max(book.kept, default=0) + 1
        kept = Kept(id_, schema.format, schema.text, refs_text(schema.references), digest_of(schema))
        _store.add_schema(connection, namespace_key, kept, batch)
    version = max(book.versions.get(subject, {}), default=0) + 1
    _store.add_version(connection, namespace_key, subject, version, id_, batch)
    return Added(id_, version, fresh=True, kept=kept)


def put(connection: Connection, namespace_key: int, subject: str, name: str, value: str | None, batch: int) -> None:
    """Set what a subject asks, in the caller's transaction, which holds lane 0."""
    _store.add_setting(connection, namespace_key, subject, name, value, batch)


def stored(connection: Connection) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """All rows of all namespaces: schemas, versions, settings; namespace and batch stand first in each."""
    return _store.stored(connection)
