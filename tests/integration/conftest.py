"""One PostgreSQL for all integration tests, and for each test a ledger of its own in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from psycopg import sql

from lineitem.app import App
from lineitem.core.clock import FixedClock
from lineitem.kit.config import Config
from lineitem.kit.db import connect
from lineitem.kit.embedded import EmbeddedServer
from lineitem.kit.migrate import migrate

NOW_US = 1_793_577_600_000_000
"""2026-11-02T00:00:00Z: what the ``ledger`` fixture's clock says."""
_numbers = count(1)
_MEMORY = Path("/dev/shm")
_ROOM_BYTES_MIN = 4 << 30
_SETTINGS = {"fsync": "off", "shared_buffers": "256MB", "max_wal_size": "512MB"}
"""Dropping a database searches all of ``shared_buffers`` and flushes: what survives a crash, tests/faults ask."""


@contextmanager
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the server lives: in memory if there is room, else among pytest's folders.

    Each test makes and drops a database of 500 files. ext4 passes over every inode deleted in the last minutes when it
    makes a file, one after the other: after some hundred databases a copy took 0.4 s of CPU instead of 0.04.
    """
    if not _MEMORY.is_dir() or shutil.disk_usage(_MEMORY).free < _ROOM_BYTES_MIN:
        yield tmp_path_factory.mktemp("server")
        return
    for left in _MEMORY.glob("lineitem-tests-*"):  # by a run that was killed
        if not Path("/proc", left.name.rpartition("-")[2]).exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = _MEMORY / f"lineitem-tests-{os.getpid()}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A private PostgreSQL for the whole run; its database ``lineitem`` is migrated and empty, and copied per test."""
    with _folder(tmp_path_factory) as folder, EmbeddedServer(folder, settings=_SETTINGS) as started:
        with connect(started.dsn) as connection:
            migrate(connection)
        yield started


@pytest.fixture
def database(server: EmbeddedServer) -> Iterator[str]:
    """The connection string (as superuser) of a fresh, migrated database, dropped when the test ends."""
    name = f"test_{next(_numbers)}"
    address = server.dsn.removesuffix("lineitem")
    with connect(address + "postgres") as connection:
        connection.execute(sql.SQL("create database {} template lineitem").format(sql.Identifier(name)))
        yield address + name
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def ledger(database: str, tmp_path: Path) -> Iterator[App]:
    """An App on a fresh database (``ledger.config.database_url``), with its own data folder, at ``NOW_US``.

    The clock stands still: pass the instant where a function takes one, or set ``ledger.clock`` before use. Roles are
    the real ones (``ledger.connection()`` posts); tampering needs ``connect(ledger.config.database_url)``.
    """
    folder = tmp_path / "data"
    with App(Config(folder, database, folder / "checkpoints"), FixedClock(NOW_US)) as app:
        yield app
