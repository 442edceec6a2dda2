"""Bring a database to the schema this version needs: plain SQL files, checksummed, one at a time.

Two processes may call at once (an advisory lock lets one through), and a crash leaves whole migrations only: each file
runs in one transaction together with the row that says it ran.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import LiteralString, cast

import psycopg

from lineitem.core.errors import EnvironmentProblem, IntegrityError

_LOCK = 0x6C696E65  # "line"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of ``lineitem/migrations``."""

    number: int
    name: str
    text: LiteralString
    checksum: str


def shipped() -> list[Migration]:
    """The migrations of this version in order."""
    folder = files("lineitem").joinpath("migrations")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    texts = [folder.joinpath(name).read_text(encoding="utf-8") for name in names]
    return [
        Migration(int(name[:4]), name, text, sha256(text.encode()).hexdigest())
        for name, text in zip(names, texts, strict=True)
    ]


def migrate(connection: psycopg.Connection[tuple[object, ...]], migrations: list[Migration] | None = None) -> int:
    """Apply what is missing and return how many files ran. The connection must be in autocommit mode.

    Raises IntegrityError when a migration that already ran has another text now, EnvironmentProblem when the database
    is newer than this version or older than PostgreSQL 15.
    """
    if connection.info.server_version < 150000:
        raise EnvironmentProblem(
            f"PostgreSQL {connection.info.server_version // 10000} is too old", do="Use PostgreSQL 15 or newer."
        )
    wanted = shipped() if migrations is None else migrations
    if _is_current(connection, wanted):
        return 0
    connection.execute("select pg_advisory_lock(%s)", (_LOCK,))
    try:
        connection.execute(
            "create table if not exists public.lineitem_migration"
            " (number int primary key, name text not null, checksum text not null,"
            "  applied_at timestamptz not null default now())"
        )
        done = _applied(connection)
        _check(done, wanted)
        missing = [migration for migration in wanted if migration.number not in done]
        for migration in missing:
            with connection.transaction():
                connection.execute(migration.text)
                connection.execute("reset role")
                connection.execute(
                    "insert into public.lineitem_migration (number, name, checksum) values (%s, %s, %s)",
                    (migration.number, migration.name, migration.checksum),
                )
        return len(missing)
    finally:
        connection.execute("select pg_advisory_unlock(%s)", (_LOCK,))


def _is_current(connection: psycopg.Connection[tuple[object, ...]], wanted: list[Migration]) -> bool:
    """Whether nothing is to be done: the common case, without taking the lock."""
    row = connection.execute("select to_regclass('public.lineitem_migration') is not null").fetchone()
    if not row or not row[0]:
        return False
    done = _applied(connection)
    _check(done, wanted)
    return len(done) == len(wanted)


def _applied(connection: psycopg.Connection[tuple[object, ...]]) -> dict[int, str]:
    rows = connection.execute("select number, checksum from public.lineitem_migration").fetchall()
    return {cast("int", number): str(checksum) for number, checksum in rows}


def _check(done: dict[int, str], wanted: list[Migration]) -> None:
    known = {migration.number: migration for migration in wanted}
    for number, checksum in done.items():
        if number not in known:
            raise EnvironmentProblem(
                f"the database has migration {number:04d}, this version knows up to {max(known):04d}",
                do="A newer lineitem has been here: upgrade this one.",
            )
        if known[number].checksum != checksum:
            raise IntegrityError(
                f"migration {known[number].name} has changed since it ran",
                do="Restore the shipped file; schema changes are new files.",
            )
