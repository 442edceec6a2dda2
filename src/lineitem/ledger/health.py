"""What must be true of the database for the ledger to be safe: guards in place, nothing stuck, durability on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from lineitem.catalog import published
from lineitem.core.period import age_text
from lineitem.ingest import intake, segments
from lineitem.kit.blobs import BlobStore
from lineitem.kit.db import Connection, explained
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger import gaps
from lineitem.ledger.chain import BatchKind
from lineitem.ledger.letters import depth
from lineitem.ledger.post import Counts, outcomes

SQL = load_queries("lineitem.ledger", "health.sql")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: whether it is as it should be, what was seen, and what to do where it is not."""

    name: str
    ok: bool
    seen: str
    do: str = ""


def database_checks(connection: Connection, now_us: int) -> list[Check]:
    """Version, durability, guards, dead letters and waiting windows."""
    facts: dict[str, str] = dict(connection.execute(SQL.facts).fetchall())
    unguarded = [row[0] for row in connection.execute(SQL.unguarded_tables).fetchall()]
    version = connection.info.server_version // 10000
    return [
        Check("PostgreSQL version", version >= 15, str(version), "Use PostgreSQL 15 or newer."),
        _durability("fsync", facts["fsync"]),
        _durability("synchronous_commit", facts["synchronous_commit"]),
        _durability("full_page_writes", facts["full_page_writes"]),
        Check(
            "append-only triggers",
            not unguarded,
            ", ".join(unguarded) or "on every table, ENABLE ALWAYS",
            "Somebody disabled them: enable them again (see migrations/0001) and run `lineitem verify`.",
        ),
        Check(
            "guard against DROP and DETACH",
            facts["event_triggers"] == "2",
            f"{facts['event_triggers']} of 2 event triggers",
            "Run the migrations as a superuser once, or accept that DROP is not refused.",
        ),
        Check("row-level security", facts["policies"] != "0", f"{facts['policies']} policies", "Run the migrations."),
        Check("dead letters", True, _depth(connection, now_us), "See `lineitem dlq list`."),
        Check("gaps in producers' sequences", True, gaps.in_words(gaps.everywhere(connection))),
        Check("events waiting for their window", True, facts["waiting"]),
        Check(
            "interrupted files",
            True,
            str(intake.interrupted(connection)),
            "Ingest them again: they go on where they stopped.",
        ),
    ]


class Totals(NamedTuple):
    """The ledger in figures. ``outcomes``: records of usage by what became of them when they came in."""

    outcomes: dict[str, int]
    line_items: int
    batches: int
    last_usage_us: int


@explained()
def totals(connection: Connection) -> Totals:
    """Over all namespaces, by whichever door records came."""
    row = connection.execute(SQL.totals, {"usage": int(BatchKind.USAGE)}).fetchone()
    assert row is not None
    names = outcomes(Counts())
    return Totals(dict(zip(names, row[: len(names)], strict=True)), *row[len(names) :])


def _depth(connection: Connection, now_us: int) -> str:
    """In words: ``3 open: no_price 2 (oldest 5 h), bad_json 1 (oldest 3 d)``."""
    found = depth(connection, now_us)
    parts = [f"{code} {one['dead_letters']} (oldest {age_text(one['oldest_seconds'])})" for code, one in found.items()]
    count = sum(one["dead_letters"] for one in found.values())
    return f"{count} open" + (": " + ", ".join(parts) if parts else "")


def _durability(name: str, value: str) -> Check:
    return Check(name, value not in ("off", "local"), value, f"Set {name} = on: an acknowledgement must mean durable.")


def orphan_segments(connection: Connection, store: BlobStore) -> list[str]:
    """Raw segments whose batch never committed and never can."""
    referenced: Collection[str] = {row[0] for row in connection.execute(SQL.segments).fetchall()}
    partitions = intake.partitions(connection, published.namespaces(connection)).values()
    return segments.orphans(store, referenced, {partition.name: partition.next for partition in partitions})


def missing_segments(connection: Connection, store: BlobStore) -> list[str]:
    """Raw segments that batches refer to and that are gone."""
    referenced = {row[0] for row in connection.execute(SQL.segments).fetchall()}
    return sorted(referenced - set(store.names()))
