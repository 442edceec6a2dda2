"""Named backfills as people look at them: what each brought in, what it came to, whether it was reverted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lineitem.core.errors import InputError
from lineitem.core.period import us_to_text
from lineitem.ingest import backfills, letters
from lineitem.kit.db import Connection, explained
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.changes import changes

SQL = load_queries("lineitem.ledger", "backfills.sql")


@explained()
def listed(connection: Connection, namespace: str) -> list[dict[str, Any]]:
    """Backfills by name: ``name``, ``state`` (``open``, ``reverting`` where a revert has to be gone on with, ``reverted``),
    ``batches``, ``received``, ``accepted``, ``duplicate``, ``dead_lettered``, ``retracted`` (of the accepted, one by one),
    ``reverted``, ``first_recorded_at``, ``last_recorded_at``."""
    key = letters.namespace_key(connection, namespace)
    passes = backfills.passes(connection, key)
    read = {row[0]: row[1:] for row in connection.execute(SQL.read_by, {"partitions": sorted(passes)}).fetchall()}
    facts = _reverts(connection, key)
    found = []
    for one in backfills.backfills(connection):
        if one.namespace_key != key:
            continue
        rows = [read[at] for at, (_, name) in passes.items() if name == one.name and at in read]
        counts = {
            name: sum(row[at] for row in rows)
            for at, name in enumerate(("batches", "received", "accepted", "duplicate", "dead_lettered"))
        }
        places = _places(connection, [at for at, (_, name) in passes.items() if name == one.name])
        retracted = backfills.retracted_at(connection, places)
        out = sum(fact["events"] for fact in facts.get(one.name, ()))
        whole = out + retracted >= counts["accepted"]
        state = "open" if one.reverted_batch is None else "reverted" if whole else "reverting"
        found.append(
            {"name": one.name, "state": state}
            | counts
            | {
                "retracted": retracted,
                "reverted": out,
                "first_recorded_at": us_to_text(min(row[5] for row in rows)) if rows else None,
                "last_recorded_at": us_to_text(max(row[6] for row in rows)) if rows else None,
            }
        )
    return found


@explained()
def shown(connection: Connection, namespace: str, name: str) -> dict[str, Any]:
    """One backfill as ``listed``, with ``changes`` (what its batches posted, by account and price) and ``reverts`` (who took
    it out, when, why, how much of it). Raises InputError for an unknown one."""
    found = next((one for one in listed(connection, namespace) if one["name"] == name), None)
    if found is None:
        raise no_backfill(namespace, name)
    key = letters.namespace_key(connection, namespace)
    own = [at for at, (_, of) in backfills.passes(connection, key).items() if of == name]
    return found | {
        "changes": [one.document() for one in changes(connection, key, _places(connection, own))],
        "reverts": [
            {name: fact[name] for name in ("by", "reason", "at", "batch", "events", "line_items")}
            for fact in _reverts(connection, key).get(name, ())
        ],
    }


def no_backfill(namespace: str, name: str) -> InputError:
    """What to say of a name that is not one of the namespace's."""
    return InputError(
        f"there is no backfill {name!r} in namespace {namespace!r}", do="`lineitem backfill list` shows their names."
    )


def _places(connection: Connection, partitions: Sequence[int]) -> list[tuple[int, int]]:
    """Lane and number of every batch of some passes."""
    rows = connection.execute(SQL.batches_of, {"partitions": list(partitions)}).fetchall()
    return [(lane, batch) for lane, batch in rows]


def _reverts(connection: Connection, namespace_key: int) -> Mapping[str, list[dict[str, Any]]]:
    """Backfill -> the facts of its revert, in order, with their batch and its time."""
    found: dict[str, list[dict[str, Any]]] = {}
    for body, lane, batch, at_us, items in connection.execute(SQL.reverts, {"namespace_key": namespace_key}).fetchall():
        fact = json.loads(body) | {"at": us_to_text(at_us), "batch": f"{lane}-{batch}", "line_items": items}
        found.setdefault(fact["backfill"], []).append(fact)
    return found
