"""Where a worker finds the schemas that messages name: the namespace's own registry, or another one behind an adapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, Protocol

from lineitem.core.errors import IntegrityError
from lineitem.kit.db import Connection
from lineitem.schemas import registry
from lineitem.schemas.model import BadSchema, Schema
from lineitem.schemas.registry import Book, UnknownId, UnknownSubject, UnknownVersion


class Absent(Enum):
    """Why there is no schema: the registry has none, or could not be asked."""

    UNKNOWN = "unknown"
    AWAY = "away"


class Held(Protocol):
    """A version of a subject as a source gives it."""

    @property
    def id(self) -> int:
        """What messages carry."""
        ...

    @property
    def schema(self) -> Schema:
        """The schema and all it refers to."""
        ...


class Source(Protocol):
    """A registry that schemas are read from. Answers are remembered where they cannot change; nothing is ever raised for
    what a message names."""

    def by_id(self, id_: int) -> Schema | Absent:
        """The schema with an id."""
        ...

    def by_version(self, subject: str, version: int | None) -> Held | Absent:
        """A version of a subject; None: the latest."""
        ...

    def subjects(self, id_: int) -> frozenset[str] | Absent:
        """The subjects that have the schema with an id as a version."""
        ...


class OwnRegistry:
    """The namespace's own registry, read again whenever it has changed; ``refresh`` once a batch."""

    def __init__(self, connection: Connection, namespace_key: int) -> None:
        self._connection, self._namespace_key = connection, namespace_key
        self._newest = 0
        self._book = Book({}, {}, {})

    @property
    def book(self) -> Book:
        """The registry as ``refresh`` found it."""
        return self._book

    def refresh(self) -> None:
        """Look whether anything was registered or set since."""
        newest = registry.newest(self._connection, self._namespace_key)
        if newest != self._newest:
            self._book = registry.load(self._connection, self._namespace_key)
            self._newest = newest

    def by_id(self, id_: int) -> Schema | Absent:
        """See ``Source``."""
        try:
            return self._book.schema(id_)
        except (UnknownId, BadSchema, IntegrityError):
            return Absent.UNKNOWN

    def by_version(self, subject: str, version: int | None) -> Held | Absent:
        """See ``Source``."""
        try:
            return self._book.version(subject, version)
        except (UnknownSubject, UnknownVersion, BadSchema, IntegrityError):
            return Absent.UNKNOWN

    def subjects(self, id_: int) -> frozenset[str] | Absent:
        """See ``Source``."""
        found = frozenset(name for name, versions in self._book.versions.items() if id_ in versions.values())
        return found or Absent.UNKNOWN


class Looked(Mapping[str, Mapping[str, Any]]):
    """The schemas a batch's messages name, by id as text, asked for when one is met; ``used``: those that were found.

    What is decoded later is decoded with ``used``, out of the raw segment, whatever the registry says by then.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.used: dict[str, Mapping[str, Any]] = {}
        self.away: set[str] = set()

    def __getitem__(self, id_: str) -> Mapping[str, Any]:
        if id_ not in self.used:
            found = Absent.AWAY if id_ in self.away else self._source.by_id(int(id_))
            if isinstance(found, Absent):
                if found is Absent.AWAY:
                    self.away.add(id_)
                raise KeyError(id_)
            self.used[id_] = found.document()
        return self.used[id_]

    def __iter__(self) -> Iterator[str]:
        return iter(self.used)

    def __len__(self) -> int:
        return len(self.used)
