"""The tables of drafts."""

from __future__ import annotations

from hashlib import sha256

from lineitem.catalog.draft import Act, Draft, Step
from lineitem.core.errors import InputError
from lineitem.core.period import us_to_datetime
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries

SQL = load_queries("lineitem.catalog", "drafts.sql")


def drafts(connection: Connection, key: int) -> list[Draft]:
    """All drafts of a namespace, oldest first."""
    steps: dict[int, list[Step]] = {}
    for number, act, by, note, acted_us in connection.execute(SQL.steps, {"namespace_key": key}).fetchall():
        steps.setdefault(number, []).append(Step(Act(act), by, note, acted_us))
    rows = connection.execute(SQL.drafts, {"namespace_key": key}).fetchall()
    return [Draft(row[0], row[1], row[2], row[3], row[4], tuple(steps[row[0]])) for row in rows]


def find(connection: Connection, key: int, number: int) -> Draft:
    """One draft. Raises InputError where there is none of this number."""
    for draft in drafts(connection, key):
        if draft.number == number:
            return draft
    raise InputError(f"there is no draft {number}", do="`lineitem catalog list` shows them.")


def add(connection: Connection, key: int, draft: Draft) -> None:
    """Store a new draft and its first step."""
    values = {
        "namespace_key": key, "draft": draft.number, "what": draft.what, "base_revision": draft.base_revision,
        "digest": draft.digest, "document": draft.document,
    }  # fmt: skip
    connection.execute(SQL.add_draft, values)
    add_step(connection, key, draft.number, 0, draft.steps[0])


def add_step(connection: Connection, key: int, number: int, step: int, done: Step) -> None:
    """Store what was done to a draft."""
    values = {
        "namespace_key": key, "draft": number, "step": step, "act": done.act.value, "actor": done.by, "note": done.note,
        "acted_at": us_to_datetime(done.acted_us),
    }  # fmt: skip
    connection.execute(SQL.add_step, values)


StoredDraft = tuple[str, int, str, int, str]
"""Namespace, number, what, base revision, digest; the digest is that of the document as it is stored now."""
StoredStep = tuple[str, int, int, str, str, str, int]
"""Namespace, number of the draft and of the step, act, actor, note, microseconds since the epoch."""


def stored(connection: Connection) -> tuple[set[StoredDraft], set[StoredStep]]:
    """Everything there is of drafts, in all namespaces. A digest that is not its document's is left out with its draft."""
    rows = connection.execute(SQL.all_drafts).fetchall()
    good = {row[:5] for row in rows if sha256(row[5].encode()).hexdigest() == row[4]}
    return good, set(connection.execute(SQL.all_steps).fetchall())
