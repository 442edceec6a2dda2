"""The room's tables: schemas by id, versions by subject, settings; only ever added to."""

from __future__ import annotations

from typing import Any, NamedTuple

from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries

SQL = load_queries("lineitem.schemas", "schemas.sql")


class Kept(NamedTuple):
    """A schema as it is stored. ``refs``: canonical JSON, a list of (name, subject, version)."""

    id: int
    format: str
    document: str
    refs: str
    digest: bytes


def schemas(connection: Connection, namespace_key: int) -> list[Kept]:
    """Every schema of a namespace, by id."""
    rows = connection.execute(SQL.schemas, {"namespace_key": namespace_key}).fetchall()
    return [Kept(id_, format_, document, refs, bytes(digest)) for id_, format_, document, refs, digest in rows]


def versions(connection: Connection, namespace_key: int) -> list[tuple[str, int, int]]:
    """(subject, version, id) of a namespace, in order."""
    return connection.execute(SQL.versions, {"namespace_key": namespace_key}).fetchall()


def settings(connection: Connection, namespace_key: int) -> list[tuple[str, str, str | None]]:
    """(subject, name, value) as they count now."""
    return connection.execute(SQL.settings, {"namespace_key": namespace_key}).fetchall()


def newest(connection: Connection, namespace_key: int) -> int:
    """The batch that wrote here last; 0 where none did."""
    row = connection.execute(SQL.newest, {"namespace_key": namespace_key}).fetchone()
    return 0 if row is None or row[0] is None else int(row[0])


def add_schema(connection: Connection, namespace_key: int, kept: Kept, batch: int) -> None:
    """Keep a schema."""
    connection.execute(SQL.add_schema, {"namespace_key": namespace_key, "batch": batch, **kept._asdict()})


def add_version(connection: Connection, namespace_key: int, subject: str, version: int, id_: int, batch: int) -> None:
    """Make a schema a subject's next version."""
    values = {"namespace_key": namespace_key, "subject": subject, "version": version, "id": id_, "batch": batch}
    connection.execute(SQL.add_version, values)


def add_setting(
    connection: Connection, namespace_key: int, subject: str, name: str, value: str | None, batch: int
) -> None:
    """Set what a subject asks, or all that ask nothing (``""``); None: nothing of its own any more."""
    values = {"namespace_key": namespace_key, "subject": subject, "name": name, "value": value, "batch": batch}
    connection.execute(SQL.add_setting, values)


def stored(connection: Connection) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """All rows of all namespaces for ``verify``: schemas, versions, settings; namespace and batch stand first."""
    return (
        connection.execute(SQL.stored_schemas).fetchall(),
        connection.execute(SQL.stored_versions).fetchall(),
        connection.execute(SQL.stored_settings).fetchall(),
    )
