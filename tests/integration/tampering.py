"""A ledger with something of everything in it, and a superuser who alters it cell by cell and puts it back."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from psycopg import sql

from lineitem.catalog.canary import Bounds
from lineitem.catalog.draft import Act, Retirement
from lineitem.catalog.load import parse_catalog
from lineitem.catalog.rate_file import Rate
from lineitem.core.period import Month
from lineitem.ingest.throttle import What
from lineitem.kit.db import Connection
from lineitem.ledger import fx
from lineitem.ledger.canary import Choice
from lineitem.ledger.grant_terms import Asked
from lineitem.schemas.model import Reference, Schema
from lineitem.schemas.registry import COMPATIBILITY, ENFORCE
from tests.integration.drive import Space, World, microseconds, nothing

MIDWAY = datetime(2026, 11, 2, 12, 20, tzinfo=UTC)
LATER = datetime(2026, 11, 2, 13, 10, tzinfo=UTC)
SCHEMAS = ["catalog", "ingest", "ledger", "billing", "schemas"]
WIDE = "123456789012345678901234"
"""A quantity whose amount passes int64 at any price."""

_TIERS = [{"up_to": "3", "unit_price": "2", "flat_price": "1"}, {"up_to": None, "unit_price": "0.5"}]


GRANTS: dict[str, dict[str, Any]] = {
    "promo": {
        "amount": "10",
        "currency": "USD",
        "effective": "2026-09-01",
        "expires": "2026-10-15",
        "prices": "each,least",
    },
    "void": {"amount": "2.5", "currency": "EUR", "effective": "2026-10-01", "reason": "Welcome"},
    "idle": {"amount": "7", "currency": "JPY", "priority": 3},
}


def _meter(id_: str, aggregation: str, **more: Any) -> dict[str, Any]:
    value = {} if aggregation == "count" else {"value": "data.v"}
    return {"id": id_, "event_type": "a.used", "aggregation": aggregation, **value} | more


def catalog(version: int, **hourly: str) -> dict[str, Any]:
    """Every fold, several models, two itemizations, a second version that changes one price, and prices of an account's own."""
    prices: list[dict[str, Any]] = [
        {"id": "each", "meter": "total", "model": "per_unit", "unit_price": "0.25"},
        {
            "id": "hourly", "meter": "calls", "model": "graduated", "itemize": "hour", "tiers": _TIERS, **hourly,
        },
        {"id": "peak", "meter": "peak", "model": "volume", "tiers": _TIERS},
        {"id": "seats", "meter": "seats", "model": "package", "package_size": "2", "package_price": "5"},
        {"id": "level", "meter": "level", "model": "per_unit", "unit_price": "1", "currency": "EUR"},
        {"id": "fee", "meter": "total", "model": "percentage", "rate": "0.029", "per_event": "0.3", "free_events": 2},
        {
            "id": "cell", "meter": "calls", "model": "matrix", "itemize": "hour", "dimensions": ["data.model"],
            "cells": [{"when": {}, "unit_price": "0.01"}],
        },
        {"id": "least", "meter": "calls", "model": "per_unit", "unit_price": "0.01", "minimum": "40"},
        {"id": "base", "model": "flat", "amount": "49", "prorate": "day", "charge": "in_advance"},
        {"id": "floor", "model": "commitment", "amount": "500", "prorate": "day"},
        {"id": "licence", "meter": "licences", "model": "per_seat", "unit_price": "3", "prorate": "second"},
    ]  # fmt: skip
    books = [
        {"id": "book", "version": 1, "effective_from": "2020-01-01T00:00:00Z", "prices": prices},
        {
            "id": "book", "version": 2, "effective_from": "2026-11-01T00:00:00Z",
            "prices": [prices[0] | {"unit_price": "0.75"}, *prices[1:]],
        },
        {
            "id": "book", "version": 3, "effective_from": "2026-12-01T00:00:00Z",
            "prices": [prices[0] | {"unit_price": "0.9"}, *prices[1:]],
        },
    ]  # fmt: skip
    own = [{
        "version": 1, "effective_from": "2026-11-02T11:00:00Z", "effective_until": "2026-11-02T13:00:00Z",
        "prices": [prices[0] | {"unit_price": "0.5"}],
    }]  # fmt: skip
    return {
        "currency": "USD",
        "meters": [
            _meter("total", "sum", dimensions=["data.model"]),
            _meter("calls", "count"),
            _meter("peak", "max"),
            _meter("seats", "unique"),
            _meter("level", "latest"),
            _meter("licences", "time_weighted", event_type="l.set"),
        ],
        "pricebooks": books[:version],
        "accounts": {
            "defaults": {"pricebook": "book", "timezone": "Asia/Tokyo"},
            "list": [
                {
                    "id": "paris",
                    "name": "Paris",
                    "timezone": "Europe/Paris",
                    "tags": {"cost_center": "42"},
                    "active_from": "2026-10-05",
                    "overrides": own[: version - 1],
                    "invoice_currency": "EUR",
                }
            ],
        },
        "conversion": {"source": "ecb", "date": "period_end", "max_age_days": 5},
    }


def event(id_: str, account: str, time: str, value: str, type_: str = "a.used") -> bytes:
    """One line of usage."""
    text = (
        f'{{"specversion":"1.0","id":"{id_}","source":"/s","type":"{type_}","subject":"{account}","time":"{time}",'
        f'"data":{{"v":{value},"model":"m"}}}}\n'
    )
    return text.encode()


def fill(world: World) -> Space:
    """Two namespaces and, in the one returned, every kind of row there is."""
    other = world.space(catalog(1, included="5", rollover_max="20"), MIDWAY)
    other.send(
        event("o-0", "paris", "2026-09-05T10:00:00Z", "7") + event("o-1", "paris", "2026-10-05T10:00:00Z", "7"), "other"
    )
    other.act(lambda app: app.bill(other.name, Month.parse("2026-09"), None))
    space = world.space(catalog(1), MIDWAY)
    accounts = ("paris", "walk-in")
    early = [event(f"e-{n}", accounts[n % 2], f"2026-09-1{n}T10:00:00Z", str(n)) for n in range(4)]
    space.send(b"".join(early), "september", 2)
    space.close("2026-09")
    space.publish(catalog(2))
    october = [event(f"u-{n}", accounts[n % 2], f"2026-10-1{n}T10:00:00Z", str(n)) for n in range(8)]
    october += [event("wide", "paris", "2026-10-20T10:00:00Z", WIDE), b"broken\n", b"broken\n"]
    october += [
        event("u-1", "walk-in", "2026-10-11T10:00:00Z", "999"),  # a conflict
        event("late", "paris", "2026-09-29T10:00:00Z", "3"),  # a correction
        event("u-2", "paris", "2026-10-12T10:00:00Z", "2"),  # a duplicate
        event("bad", "paris", "2026-10-12T10:00:00Z", "null"),  # a dead letter with an identity
        event("gone", "paris", "2026-10-19T10:00:00Z", "50"),
        event("none", "paris", "2026-10-21T10:00:00Z", "1", "b.used"),  # not billable
        event("licences", "paris", "2026-10-22T10:00:00Z", "12", "l.set"),  # a level that October's bill settles
    ]
    space.send(b"".join(october), "october", 4)
    space.retract("/s", "gone")
    space.send(event("more", "paris", "2026-11-02T09:00:00Z", "15", "l.set"), "licences")  # and one that waits
    waiting = [event(f"w-{n}", "paris", f"2026-11-02T1{n}:05:00Z", "4") for n in range(1, 4)]
    space.send(b"".join(waiting), "november", 2)
    space.send(b"broken\n" + waiting[0], "november", 2)
    space.flush(LATER)
    known = Rate("ecb", "EUR", "USD", date(2026, 10, 30), Decimal("1.08"))
    load_rate(space, known, correct=False)
    load_rate(space, known._replace(rate=Decimal("1.0832")), correct=True)
    for id_, asked in GRANTS.items():
        grant(space, Asked("paris", id=id_, **asked))
    space.act(lambda app: app.bill(space.name, Month.parse("2026-10"), None))
    space.act(lambda app: app.grant_void(space.name, "void", "a mistake", "ben"))
    candidate = parse_catalog(json.dumps(catalog(3)), "candidate")
    everybody, since_us = Choice(percent=Decimal(100)), microseconds(datetime(2026, 11, 1, tzinfo=UTC))
    space.act(lambda app: app.canary_start(space.name, candidate, everybody, Bounds(), "new", since_us, "ana"))
    space.send(event("tried", "walk-in", "2026-11-02T12:50:00Z", "5"), "canary")
    space.act(lambda app: app.canary_check(space.name))
    drafted = catalog(2) | {"issuer": {"name": "Somebody"}}
    space.act(lambda app: app.draft(space.name, parse_catalog(json.dumps(drafted), "draft"), "ana", "a note"))
    space.act(lambda app: app.step(space.name, 1, Act.REVIEW, "ben", "another"))
    space.act(lambda app: app.step(space.name, 1, Act.APPROVE, "ben"))
    end_us = microseconds(datetime(2027, 1, 1, tzinfo=UTC))
    space.act(lambda app: app.retire(space.name, Retirement("book", 2, end_us), "ana"))
    _register_schemas(space)
    _work_off_dead_letters(space)
    _number(space)
    _throttle(space)
    _backfill(space)
    return space


def _throttle(space: Space) -> None:
    """A switch of every sort; of what waited, some went on, some waits, some waits again for another switch."""
    space.throttle(What.ACCOUNT, "walk-in")
    space.throttle(What.ACCOUNT, "idle")
    space.throttle(What.ACCOUNT, "slow", per_second=1, until=datetime(2026, 12, 1, tzinfo=UTC))
    space.throttle(What.EACH_ACCOUNT, "", per_second=1)
    accounts = ["walk-in", "paris", "slow", "idle", "walk-in"]
    lines = [event(f"t-{n}", accounts[n % 5], f"2026-11-02T12:{n:02}:00Z", "1") for n in range(20)]
    space.send(b"".join(lines), "throttled", 15)
    space.throttle(What.TYPE, "a.used", per_second=1)
    space.unthrottle(1)
    space.act(lambda app: app.release(space.name))


def _register_schemas(space: Space) -> None:
    """A schema, another that refers to it, a message that names it by id, and what is asked of its subject and of all."""
    desk = space.act(lambda app: app.schema_desk(space.name))
    desk.register("model-value", Schema("JSON", '{"type":"string"}'), "ana")
    text = '{"type":"object","properties":{"v":{"type":"number"},"model":{"$ref":"urn:model"}}}'
    done = desk.register("a.used-value", Schema("JSON", text, (Reference("urn:model", "model-value", 1),)), "ana")
    desk.put("a.used-value", {COMPATIBILITY: "FULL", ENFORCE: "yes"}, "ana")
    desk.put("", {COMPATIBILITY: "NONE"}, "ben")
    desk.put("model-value", {ENFORCE: "no"}, "ben")
    desk.put("model-value", {ENFORCE: None}, "ben")
    value = b64encode(b"\0" + done.id.to_bytes(4, "big") + b'{"v":0.5,"model":"m"}').decode()
    packed = event("packed", "paris", "2026-11-02T12:51:00Z", "0").decode().partition('"data"')[0]
    space.send(f'{packed}"data_base64":"{value}"}}\n'.encode(), "wire")


def _backfill(space: Space) -> None:
    """Two backfills, one of them reverted but for an event that somebody had retracted."""
    space.send(event("old-0", "paris", "2026-10-25T10:00:00Z", "3"), "old", backfill="kept")
    lines = [event(f"old-{n}", ("paris", "walk-in")[n % 2], f"2026-10-2{n}T10:00:00Z", "3") for n in range(1, 5)]
    space.send(b"".join(lines), "old", backfill="wrong")
    space.retract("/s", "old-1")
    space.act(lambda app: app.backfill_revert(space.name, "wrong", "ana", "the wrong file", nothing))


def _work_off_dead_letters(space: Space) -> None:
    """One is mended and passes, one repeats an event, one fails again, one is discarded, the others stay as they are."""
    (bad,), (conflict,) = space.letters("missing_value"), space.letters("conflict")
    broken, again, *_ = space.letters("bad_json")
    space.fix(bad, set={"data.v": "6"})
    space.fix(broken, record=event("u-2", "paris", "2026-10-12T10:00:00Z", "2").decode().strip())
    space.replay([bad, conflict, broken])
    space.discard(again)


def _number(space: Space) -> None:
    """Events with sequences: one twice, one repeated, one set aside, two with one number in a batch and over two, one without
    sense, over the bound of a block; gaps that are waived, and one that is not any more."""

    def numbered(number: str, id_: str = "", source: str = "/n", time: str = "2026-10-03T10:00:00Z") -> bytes:
        text = event(id_ or f"n-{number}", "paris", time, "1", "b.used").replace(b'"/s"', f'"{source}"'.encode())
        return text.replace(b'"data"', f'"sequence":"{number}","data"'.encode())

    parts = [numbered(one) for one in ("1", "2", "4", "65535", "65536", "x")]
    parts += [
        numbered("4", "other"),
        numbered("7", time="noon"),
        numbered("1", source="/m"),
        numbered("x", source="/x"),
    ]
    space.send(b"".join(parts), "numbers", 6)
    space.send(numbered("2") + numbered("1", "another") + numbered("9"), "more-numbers")
    space.act(lambda app: app.waive_gap(space.name, "/n", 1, 20, "ana", "lost for good"))
    space.act(lambda app: app.reopen_gap(space.name, "/n", 5, 5, "ben", "found"))


def load_rate(space: Space, rate: Rate, *, correct: bool) -> None:
    """Load one exchange rate."""
    now_us = space.clock.now_us()
    space.act(lambda app: fx.load(app.control, space.name, [rate], correct, "ana", now_us))


def grant(space: Space, asked: Asked) -> None:
    """Grant prepaid credit."""
    space.act(lambda app: app.grant_add(space.name, asked, "ana"))


Row = tuple[str, str]
"""A table's oid and a row's ctid in it."""


class Tamperer:
    """A superuser for whom no trigger and no constraint stands in the way, with a copy of everything as it was."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        connection.execute("select ledger.ensure_month(max(posting_month) + 1) from ledger.line_item")
        connection.execute("set lineitem.sealed_path = 'archive'")
        connection.execute("set session_replication_role = replica")
        connection.execute("create schema copy")
        found = connection.execute(_TABLES, [SCHEMAS]).fetchall()
        self.tables = [f"{schema}.{table}" for schema, table in found]
        for table in self.tables:
            self.do("alter table {} disable trigger all", table)
            self.do("create table copy.{copy} as select * from {}", table)
        for (partition,) in connection.execute(_PARTITIONS).fetchall():
            self.do("alter table {} disable trigger all", partition)
        for schema, name, constraint in connection.execute(_CONSTRAINTS, [SCHEMAS]).fetchall():
            self.do("alter table {} drop constraint if exists {x} cascade", f"{schema}.{name}", x=constraint)
        for schema, name, column in connection.execute(_GENERATED, [SCHEMAS]).fetchall():
            self.do("alter table {} alter column {x} drop identity", f"{schema}.{name}", x=column)

    def do(self, statement: str, table: str, **names: str) -> int:
        """Run a statement on a table, ``{}``; ``{copy}`` is the name of its copy. Returns how many rows that touched."""
        quoted = {name: sql.Identifier(value) for name, value in (names | {"copy": table}).items()}
        text = sql.SQL(statement).format(sql.Identifier(*table.split(".")), **quoted)
        return self.connection.execute(text).rowcount

    def one(self, query: str, *values: Any) -> Any:
        """The first row of a query."""
        row = self.connection.execute(query, values).fetchone()
        assert row is not None
        return row

    def columns(self, table: str) -> list[str]:
        """Columns of a table, in order."""
        return [row[0] for row in self.connection.execute(_COLUMNS, table.split(".")).fetchall()]

    def samples(self, table: str) -> list[Row]:
        """Rows to try, one of every kind the table holds, as they lie in it just now (``restore`` moves them)."""
        kinds = _KINDS.get(table, "tableoid")
        query = f"select distinct on ({kinds}) tableoid::text, ctid::text from {table} order by {kinds}, {table}::text"
        return self.connection.execute(query.replace(f"{table}::text", f"{table.split('.')[1]}::text")).fetchall()

    def alter(self, table: str, column: str, row: Row) -> None:
        """Change one cell by as little as possible."""
        change = _CHANGES.get((table, column)) or _MUTATORS[self.one(_TYPE, *table.split("."), column)[0]]
        where = f"where tableoid = {row[0]} and ctid = '{row[1]}'"
        assert self.do(f"update {{}} set {{x}} = {change.replace('%', '{x}')} {where}", table, x=column) == 1

    def restore(self, *tables: str) -> None:
        """Put tables back as they were."""
        for table in tables:
            self.do("delete from {}", table)
            self.do("insert into {} select * from copy.{copy}", table)


_TABLES = """select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = any(%s) and c.relkind in ('r', 'p') and not c.relispartition order by 1, 2"""
_PARTITIONS = "select inhrelid::regclass::text from pg_inherits where inhparent = 'ledger.line_item'::regclass"
_CONSTRAINTS = """select n.nspname, c.relname, k.conname from pg_constraint k join pg_class c on c.oid = k.conrelid
  join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = any(%s) and k.contype in ('c', 'f', 'p', 'u', 'x') and not c.relispartition"""
_COLUMNS = """select column_name from information_schema.columns where table_schema = %s and table_name = %s
  order by ordinal_position"""
_GENERATED = """select table_schema, table_name, column_name from information_schema.columns
  where table_schema = any(%s) and is_identity = 'YES'"""
_TYPE = """select data_type from information_schema.columns
  where table_schema = %s and table_name = %s and column_name = %s"""
_KINDS = {
    "ledger.line_item": "kind, quantity is null, event_key is null, tableoid",
    "ledger.accumulator": "settled",
    "ledger.level": "waiting, seen",
    "ledger.batch": "kind",
    "ledger.fact": "kind",
    "ledger.credit_grant": "expires_us is null, reason",
    "catalog.price": "pricebook = '@grant'",
    "catalog.price_version": "price_key in (select price_key from catalog.price where pricebook = '@grant')",
    "catalog.draft_step": "act",
    "catalog.effective_range": "upper(during) is null",
    "ingest.dead_letter": "reason",
    "ingest.letter_act": "act, outcome",
    "ingest.throttle": "act, what",
    "ingest.held": "reason, account is null",
    "ingest.backfill": "reverted_batch is null",
    "billing.invoice": "converted",
    "schemas.setting": "value is null",
}
_MUTATORS = {
    "smallint": "coalesce(% + 1, 1)",
    "integer": "coalesce(% + 1, 1)",
    "bigint": "coalesce(% + 1, 1)",
    "numeric": "coalesce(% + 1, 1)",
    "boolean": "not %",
    "date": "% + 1",
    "text": "coalesce(left(%, -1) || chr(ascii(right(%, 1)) + 1), 'x')",
    "bytea": "coalesce(case when % = '' then '\\x01' else set_byte(%, 0, 255 - get_byte(%, 0)) end, '\\x01'::bytea)",
    "uuid": "coalesce(overlay(%::text placing case right(%::text, 1) when '0' then '1' else '0' end from 36), "
    "'00000000-0000-0000-0000-000000000001')::uuid",
    "int8multirange": "% + int8multirange(int8range(coalesce(upper(%), 7), coalesce(upper(%), 7) + 1))",
    "tstzrange": "tstzrange(lower(%), coalesce(upper(%), timestamptz '9000-01-01T00:00:00Z') + interval '1 microsecond')",
    "timestamp with time zone": "coalesce(% + interval '1 microsecond', timestamptz '2026-01-01T00:00:00Z')",
}
_CHANGES = {
    # Later is allowed: the latest event may have been retracted since.
    ("ledger.accumulator", "last_event_us"): "% - 1",
    ("ledger.period", "state"): "case when % = 'closed' then 'open' else 'closed' end",
}
