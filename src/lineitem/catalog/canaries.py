"""The tables of canaries: their steps, and the accounts that a step reaches later."""

from __future__ import annotations

from typing import NamedTuple

from lineitem.catalog.canary import Change, Step, change_from_document, holds_digest
from lineitem.core.period import us_to_datetime
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries

SQL = load_queries("lineitem.catalog", "canaries.sql")


def steps(connection: Connection, key: int, revision: int | None = None) -> tuple[Step, ...]:
    """The steps of all canaries of a namespace up to a revision or ever, oldest first."""
    where = {"namespace_key": key, "revision": revision}
    rows = connection.execute(SQL.steps, where).fetchall()
    if not rows:
        return ()
    holds: dict[int, dict[str, int]] = {}
    for at, account, month in connection.execute(SQL.holds, where).fetchall():
        holds.setdefault(at, {})[account] = month
    return tuple(Step(at, change_from_document(document), holds.get(at, {})) for at, document in rows)


def told(connection: Connection, key: int) -> dict[int, tuple[str, int]]:
    """Revision of a step -> who acted, and when (microseconds since the epoch)."""
    return {row[0]: (row[1], row[2]) for row in connection.execute(SQL.told, {"namespace_key": key}).fetchall()}


def add(connection: Connection, key: int, step: Step, by: str, now_us: int) -> None:
    """Store a step."""
    values = {"namespace_key": key, "revision": step.revision}
    who = {"acted_by": by, "acted_at": us_to_datetime(now_us)}
    connection.execute(SQL.add_step, values | who | {"canary": step.change.canary, "document": step.change.document()})
    if step.holds:
        accounts = sorted(step.holds)
        months = [step.holds[account] for account in accounts]
        connection.execute(SQL.add_holds, values | {"accounts": accounts, "months": months})


class StoredStep(NamedTuple):
    """A step as it is stored now; ``change`` None where its document is damaged."""

    namespace: str
    revision: int
    canary: str
    document: str
    holds: str
    by: str
    acted_us: int

    @property
    def change(self) -> Change:
        """What it says. Raises IntegrityError when it is damaged."""
        return change_from_document(self.document)


def stored(connection: Connection) -> list[StoredStep]:
    """Every step in all namespaces; ``holds`` is the digest of the accounts it reaches later, as they are stored now.

    Held accounts without a step come as a step without a document.
    """
    holds: dict[tuple[str, int], dict[str, int]] = {}
    for namespace, revision, account, month in connection.execute(SQL.all_holds).fetchall():
        holds.setdefault((namespace, revision), {})[account] = month
    found = []
    for namespace, _, revision, canary, document, by, acted_us in connection.execute(SQL.all_steps).fetchall():
        digest = holds_digest(holds.pop((namespace, revision), {}))
        found.append(StoredStep(namespace, revision, canary, document, digest, by, acted_us))
    strays = (StoredStep(name, at, "", "", holds_digest(some), "", 0) for (name, at), some in holds.items())
    return [*found, *strays]
