"""Connections: one way to open them, with limits, a role and UTC; and errors people can act on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lineitem.core.errors import DatabaseUnavailable, EnvironmentProblem, UsageError

T = TypeVar("T")

Connection = psycopg.Connection[tuple[Any, ...]]

POST: LiteralString = "set role lineitem_post"
"""The pipeline: may do what a batch needs and nothing else."""
READ: LiteralString = "set role lineitem_read"
"""People and reports: under row-level security."""
_PATIENCE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000}
"""Of a connection over TCP: a server that is cut off without a word is given up on after a minute (seconds; milliseconds), not
after the two hours and more that systems wait by themselves. An address that says otherwise is heeded."""
_SERVER_PATIENCE = (
    "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3 -c tcp_user_timeout=60000"
)
"""The same the other way round: a worker that is cut off in the middle of a batch must not hold its lane for longer."""


def connect(dsn: str, *, role: LiteralString | None = None, autocommit: bool = True) -> Connection:
    """Open a connection in UTC. Raises DatabaseUnavailable with the address (never the password) when it fails."""
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        # Without what the library says: it quotes the address, which may hold a password.
        raise UsageError(
            "LINEITEM_DATABASE_URL is no address of a database",
            do="Write postgresql://user@host:5432/name; @ / % and a space in a password are written as %40 %2F %25 %20.",
        ) from None
    try:
        connection: Connection = psycopg.connect(
            make_conninfo(dsn, **{name: value for name, value in _PATIENCE.items() if name not in given}),
            autocommit=True,
            connect_timeout=10,
            application_name="lineitem",
            options="-c timezone=UTC -c client_min_messages=warning -c idle_in_transaction_session_timeout=600000 "
            + _SERVER_PATIENCE,
        )
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(
            f"cannot reach the ledger's PostgreSQL: {str(error).strip()}",
            do="Check LINEITEM_DATABASE_URL and that the server is running.",
        ) from error
    if role is not None:
        connection.execute(role)
    connection.autocommit = autocommit
    return connection


@contextmanager
def asked_beside(connection: Connection, beside: Connection, query: LiteralString) -> Iterator[Future[list[Any]]]:
    """Run a reading query on ``beside`` while the caller uses ``connection``; both see one snapshot.

    For the start of a repeatable-read transaction of ``connection``. The query is cancelled where the caller leaves
    without having waited for it.
    """
    exported = connection.execute("select pg_export_snapshot()").fetchone()
    assert exported is not None

    def ask() -> list[Any]:
        with beside.transaction():
            beside.execute("set transaction isolation level repeatable read, read only")
            beside.execute(sql.SQL("set transaction snapshot {}").format(exported[0]))
            return beside.execute(query).fetchall()

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask)
        try:
            yield answer
        finally:
            while not answer.done():  # a cancel that comes before the query does nothing
                beside.cancel_safe()
                wait([answer], timeout=0.1)


def retried(action: Callable[[], T], tries: int = 10) -> T:
    """Run a whole transaction, again when PostgreSQL chose it to break a deadlock."""
    for _ in range(tries - 1):
        try:
            return action()
        except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
            continue
    return action()


@contextmanager
def explained() -> Iterator[None]:
    """Turn failures of the server that people can mend (disk, permissions, connection) into EnvironmentProblem."""
    try:
        yield
    except psycopg.errors.DiskFull as error:
        raise EnvironmentProblem(
            f"the ledger's disk is full: {str(error).strip()}",
            do="Free space and run the same command again: nothing was written in part, it goes on where it stopped.",
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise EnvironmentProblem(
            f"the database refuses: {str(error).strip()}",
            do="The ledger is append-only; see docs/how-to/use-your-own-postgresql.md.",
        ) from error
    except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
        raise  # not for people: the caller rolls back and tries again
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(
            f"the connection to the ledger was lost: {str(error).strip()}",
            do="Run the same command again: it goes on where it stopped.",
        ) from error
