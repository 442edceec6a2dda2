"""A ledger with something of everything in it, and a superuser who alters it cell by cell and puts it back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, LiteralString

from psycopg import sql

from lineitem.core.period import Month
from lineitem.kit.db import Connection
from tests.integration.drive import Space, World

MIDWAY = datetime(2026, 11, 2, 12, 20, tzinfo=UTC)
LATER = datetime(2026, 11, 2, 13, 10, tzinfo=UTC)
SCHEMAS = ("catalog", "ingest", "ledger", "billing")
NOT_LEDGER = frozenset({"ledger.migration"})
WIDE = "123456789012345678901234"
"""A quantity whose amount passes int64 at any price."""

_TIERS = [{"up_to": "3", "unit_price": "2", "flat_price": "1"}, {"up_to": None, "unit_price": "0.5"}]


def _meter(id_: str, aggregation: str, **more: Any) -> dict[str, Any]:
    value = {} if aggregation == "count" else {"value": "data.v"}
    return {"id": id_, "event_type": "a.used", "aggregation": aggregation, **value, **more}


def catalog(version: int) -> dict[str, Any]:
    """Every fold, three itemizations, two versions of which the second changes one price."""
    prices = [
        {"id": "each", "meter": "total", "model": "per_unit", "unit_price": "0.25"},
        {"id": "hourly", "meter": "calls", "model": "graduated", "itemize": "hour", "tiers": _TIERS},
        {"id": "peak", "meter": "peak", "model": "volume", "tiers": _TIERS},
        {"id": "seats", "meter": "seats", "model": "package", "package_size": "2", "package_price": "5"},
        {"id": "level", "meter": "level", "model": "per_unit", "unit_price": "1", "currency": "EUR"},
    ]
    changed = [prices[0] | {"unit_price": "0.75"}, *prices[1:]]
    books = [
        {"id": "book", "version": 1, "effective_from": "2020-01-01T00:00:00Z", "prices": prices},
        {"id": "book", "version": 2, "effective_from": "2026-11-01T00:00:00Z", "prices": changed},
    ]
    return {
        "currency": "USD",
        "meters": [
            _meter("total", "sum", dimensions=["data.model"]),
            _meter("calls", "count"),
            _meter("peak", "max"),
            _meter("seats", "unique"),
            _meter("level", "latest"),
        ],
        "pricebooks": books[:version],
        "accounts": {
            "defaults": {"pricebook": "book", "timezone": "Asia/Tokyo"},
            "list": [{"id": "paris", "name": "Paris", "timezone": "Europe/Paris", "tags": {"cost_center": "42"}}],
        },
    }


def event(id_: str, account: str, time: str, value: str, model: str = "m") -> bytes:
    """One line of usage."""
    text = (
        f'{{"specversion":"1.0","id":"{id_}","source":"/s","type":"a.used","subject":"{account}","time":"{time}",'
        f'"data":{{"v":{value},"model":"{model}"}}}}\n'
    )
    return text.encode()


def fill(world: World) -> Space:
    """Two namespaces, with all that the ledger can hold: see the steps."""
    other = world.space(catalog(1), MIDWAY)
    other.send(event("o-1", "paris", "2026-10-05T10:00:00Z", "7"), "other")
    space = world.space(catalog(1), MIDWAY)
    early = [event(f"e-{n}", ("paris", "walk-in")[n % 2], f"2026-09-1{n}T10:00:00Z", str(n)) for n in range(4)]
    space.send(b"".join(early), "september", 2)
    space.close("2026-09")
    space.publish(catalog(2))
    lines = [event(f"u-{n}", ("paris", "walk-in")[n % 2], f"2026-10-1{n}T10:00:00Z", str(n)) for n in range(8)]
    lines += [event("wide", "paris", "2026-10-20T10:00:00Z", WIDE), b"broken\n", b"broken\n"]
    lines += [event("u-1", "walk-in", "2026-10-11T10:00:00Z", "999"), event("late", "paris", "2026-09-29T10:00:00Z", "3")]
    lines += [event("u-2", "paris", "2026-10-12T10:00:00Z", "2"), event("x", "paris", "2026-10-12T10:00:00Z", "null")]
    lines += [event("gone", "paris", "2026-10-21T10:00:00Z", "50"), event("none", "paris", "2026-10-21T10:00:00Z", "1").replace(b"a.used", b"b.used")]
    space.send(b"".join(lines), "october", 4)
    space.retract("/s", "gone")
    waiting = [event(f"w-{n}", "paris", f"2026-11-02T1{n}:05:00Z", "4") for n in range(1, 4)]
    space.send(b"".join(waiting), "november", 2)
    space.send(b"broken\n" + waiting[0], "november", 2)
    space.flush(LATER)
    space.act(lambda app: app.bill(space.name, Month.parse("2026-10"), None))
    return space


class Tamperer:
    """A superuser for whom no trigger, rule or constraint stands in the way, with a copy of everything as it was."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        connection.execute("set lineitem.sealed_path = 'archive'")
        connection.execute("set session_replication_role = replica")
        self.tables = [f"{schema}.{table}" for schema, table in connection.execute(_TABLES, [list(SCHEMAS)]).fetchall()]
        connection.execute("select ledger.ensure_month(max(posting_month) + 1) from ledger.line_item")
        connection.execute("create schema copy")
        for table in self.tables:
            self._run("alter table {} disable trigger all", table)
            connection.execute(
                sql.SQL("create table {} as select * from {}").format(self._copy(table), self._name(table))
            )
        for schema, table, column in connection.execute(_GENERATED, [list(SCHEMAS)]).fetchall():
            connection.execute(
                sql.SQL("alter table {} alter column {} drop identity").format(
                    sql.Identifier(schema, table), sql.Identifier(column)
                )
            )
        for schema, table, constraint in connection.execute(_CHECKS, [list(SCHEMAS)]).fetchall():
            self.connection.execute(
                sql.SQL("alter table {} drop constraint if exists {} cascade").format(sql.Identifier(schema, table), sql.Identifier(constraint))
            )

    def _name(self, table: str) -> sql.Identifier:
        return sql.Identifier(*table.split("."))

    def _copy(self, table: str) -> sql.Identifier:
        return sql.Identifier("copy", table)

    def _run(self, statement: LiteralString, *tables: str) -> None:
        self.connection.execute(sql.SQL(statement).format(*map(self._name, tables)))

    def columns(self, table: str) -> list[str]:
        """Columns of a table, in order."""
        schema, name = table.split(".")
        return [row[0] for row in self.connection.execute(_COLUMNS, [schema, name]).fetchall()]

    def samples(self, table: str) -> list[tuple[str, str]]:
        """Rows to try, one of every kind the table holds, as they lie in it just now (``restore`` moves them)."""
        kinds = _KINDS.get(table, "tableoid")
        query = f"select distinct on ({kinds}) tableoid::text, ctid::text from {{}} order by {kinds}, {{}}"
        order = sql.SQL(", ").join(map(sql.Identifier, self.columns(table)))
        return self.connection.execute(sql.SQL(query).format(self._name(table), order)).fetchall()

    def alter(self, table: str, column: str, row: tuple[str, str]) -> None:
        schema, name = table.split(".")
        type_ = self.connection.execute(_TYPE, [schema, name, column]).fetchone()[0]
        change = _CHANGES.get((table, column)) or _MUTATORS[type_]
        statement = sql.SQL("update {} set {} = " + change.replace("%", "{}") + " where tableoid = {}::oid and ctid = {}::tid")
        fills = [sql.Identifier(column)] * change.count("%")
        self.connection.execute(statement.format(self._name(table), sql.Identifier(column), *fills, *map(sql.Literal, row)))

    def restore(self, *tables: str) -> None:
        """Put tables back as they were."""
        for table in tables:
            self._run("delete from {}", table)
            self.connection.execute(
                sql.SQL("insert into {} overriding system value select * from {}").format(self._name(table), self._copy(table))
            )


_TABLES = """select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = any(%s) and c.relkind in ('r', 'p') and not c.relispartition order by 1, 2"""
_CHECKS = """select n.nspname, c.relname, k.conname from pg_constraint k join pg_class c on c.oid = k.conrelid
  join pg_namespace n on n.oid = c.relnamespace where n.nspname = any(%s) and k.contype in ('c', 'f', 'p', 'u') and not c.relispartition"""
_GENERATED = """select table_schema, table_name, column_name from information_schema.columns
  where table_schema = any(%s) and is_identity = 'YES'"""
_COLUMNS = "select column_name from information_schema.columns where table_schema = %s and table_name = %s order by ordinal_position"
_TYPE = "select data_type from information_schema.columns where table_schema = %s and table_name = %s and column_name = %s"
_KINDS = {
    "ledger.line_item": "kind, quantity is null, event_key is null, tableoid",
    "ledger.batch": "kind",
    "ledger.fact": "kind",
}
_MUTATORS = {
    "smallint": "coalesce(% + 1, 1)",
    "integer": "coalesce(% + 1, 1)",
    "bigint": "coalesce(% + 1, 1)",
    "numeric": "coalesce(% + 1, 1)",
    "text": "coalesce(left(%, -1) || chr(ascii(right(%, 1)) + 1), 'x')",
    "bytea": "coalesce(case when % = '' then '\\x01' else set_byte(%, 0, 255 - get_byte(%, 0)) end, '\\x01'::bytea)",
    "uuid": "coalesce(overlay(%::text placing case when right(%::text, 1) = '0' then '1' else '0' end from 36)::uuid, '00000000-0000-0000-0000-000000000001')",
    "timestamp with time zone": "coalesce(% + interval '1 microsecond', timestamptz '2026-01-01T00:00:00Z')",
}
_CHANGES = {
    # Later is allowed: the latest event may have been retracted since.
    ("ledger.accumulator", "last_event_us"): "% - 1",
    ("ledger.period", "state"): "case when % = 'closed' then 'open' else 'closed' end"}
