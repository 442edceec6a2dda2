"""One namespace's schema registry as commands and HTTP use it: a connection for each act, the ledger signed behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

from lineitem.catalog import published
from lineitem.core.clock import Clock
from lineitem.kit import db
from lineitem.kit.db import Connection, explained
from lineitem.ledger import schemas
from lineitem.schemas import registry
from lineitem.schemas.model import Schema
from lineitem.schemas.registry import Added, Book


@dataclass(frozen=True, slots=True)
class SchemaDesk:
    """``sign``: makes a checkpoint of the ledger as a connection sees it. Several threads may use one desk."""

    namespace: str
    dsn: str
    clock: Clock
    sign: Callable[[Connection], object]
    _alone: Lock = field(default_factory=Lock)
    """One act at a time in a process: two checkpoints of one moment would be one file."""

    @contextmanager
    def _open(self) -> Iterator[Connection]:
        with explained(), db.connect(self.dsn, role=db.POST) as connection:
            yield connection

    def book(self) -> Book:
        """The registry as it stands."""
        with self._open() as connection:
            return registry.load(connection, published.namespace_key(connection, self.namespace))

    def register(self, subject: str, schema: Schema, by: str) -> Added:
        """See ``ledger.schemas.register``."""
        with self._alone, self._open() as connection:
            done = schemas.register(connection, self.namespace, subject, schema, by, self.clock.now_us())
            if done.fresh:
                self.sign(connection)
        return done

    def put(self, subject: str, settings: dict[str, str | None], by: str) -> None:
        """See ``ledger.schemas.put``."""
        with self._alone, self._open() as connection:
            schemas.put(connection, self.namespace, subject, settings, by, self.clock.now_us())
            self.sign(connection)
