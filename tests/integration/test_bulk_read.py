"""Reading millions of rows: binary COPY out by width, and a second connection that works on the same snapshot."""

from __future__ import annotations

import struct
from typing import Any

import psycopg
import pytest

from lineitem.app import App
from lineitem.kit.copy import rows_by_width
from lineitem.kit.db import asked_beside, connect


def _values(ledger: App, statement: Any, block_rows: int) -> tuple[list[int], list[tuple[int, str]]]:
    """Rows per block, and all (number, text) that came by."""
    sizes, values = [], []
    for width, data in rows_by_width(ledger.control, statement, block_rows):
        assert len(data) % width == 0
        sizes.append(len(data) // width)
        for start in range(0, len(data), width):
            fields, size, number, length = struct.unpack_from(">hiii", data, start)
            assert (fields, size) == (2, 4)
            values.append((number, data[start + 14 : start + width].decode() if length >= 0 else "null"))
    return sizes, values


def test_rows_come_by_width(ledger: App) -> None:
    """Every row once, in blocks of one width and no more rows than asked for at a time, in order within a width."""
    with ledger.control.transaction():
        sizes, values = _values(
            ledger,
            "copy (select n, case n % 7 when 0 then null else n::text end from generate_series(1, 30000) n)"
            " to stdout (format binary)",
            5000,
        )
    assert sorted(values) == [(n, str(n) if n % 7 else "null") for n in range(1, 30001)]
    assert sum(sizes) == 30000
    assert max(sizes) <= 5000
    for digits in range(1, 6):
        numbers = [number for number, text in values if len(text) == digits and text != "null"]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize("rows", [0, 1, 4, 5, 6])
def test_the_last_block(ledger: App, rows: int) -> None:
    """None, one, or just as many rows as a block takes: the header and the trailer are no rows."""
    statement: Any = f"copy (select n, 'x' from generate_series(1, {rows}) n) to stdout (format binary)"
    _, values = _values(ledger, statement, 5)
    assert values == [(n, "x") for n in range(1, rows + 1)]
    assert ledger.control.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize("at", [1, 100, 60000])
def test_an_error_on_the_way_is_the_servers_own(ledger: App, at: int) -> None:
    """COPY that breaks off raises what the server says, not a short ledger; the connection is good after the rollback."""
    statement: Any = (
        f"copy (select n, (1 / (n - {at}))::text from generate_series(1, 70000) n) to stdout (format binary)"
    )
    with pytest.raises(psycopg.errors.DivisionByZero, match="division by zero"), ledger.control.transaction():
        _values(ledger, statement, 65536)
    assert ledger.control.execute("select 1").fetchone() == (1,)


def test_leaving_early_stops_the_server(ledger: App) -> None:
    """Who stops reading half way can go on with the connection."""
    statement: Any = "copy (select generate_series(1, 1000000000), 'x') to stdout (format binary)"

    def leave() -> None:
        with ledger.control.transaction():
            for _ in rows_by_width(ledger.control, statement, 10):
                raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        leave()
    assert ledger.control.execute("select 1").fetchone() == (1,)


def test_both_connections_see_one_snapshot(ledger: App) -> None:
    """What is committed after the transaction began, the connection beside it does not see either."""
    with connect(ledger.dsn) as writer, connect(ledger.dsn) as beside:
        writer.execute("create table public.seen as select 1 as n")
        writer.execute("grant select on public.seen to lineitem_post")
        with ledger.control.transaction():
            ledger.control.execute("set transaction isolation level repeatable read, read only")
            assert ledger.control.execute("select count(*) from public.seen").fetchone() == (1,)
            writer.execute("insert into public.seen values (2)")
            with asked_beside(ledger.control, beside, "select count(*) from public.seen") as answer:
                assert answer.result(timeout=60) == [(1,)]
        assert beside.execute("select count(*) from public.seen").fetchone() == (2,)


def test_what_the_other_connection_meets_is_raised(ledger: App) -> None:
    """Its error is the caller's, when asked for the answer."""
    with connect(ledger.dsn) as beside, ledger.control.transaction():
        ledger.control.execute("set transaction isolation level repeatable read, read only")
        with (
            pytest.raises(psycopg.errors.DivisionByZero),
            asked_beside(ledger.control, beside, "select 1 / 0") as answer,
        ):
            answer.result(timeout=60)
        assert beside.execute("select 1").fetchone() == (1,)


def test_a_caller_that_fails_does_not_wait_for_the_answer(ledger: App) -> None:
    """The query beside is cancelled; both connections are good afterwards."""
    with connect(ledger.dsn) as beside:

        def fail() -> None:
            with ledger.control.transaction():
                ledger.control.execute("set transaction isolation level repeatable read, read only")
                with asked_beside(ledger.control, beside, "select pg_sleep(3600)"):
                    raise RuntimeError("stop")

        with pytest.raises(RuntimeError, match="stop"):
            fail()
        assert beside.execute("select 1").fetchone() == (1,)
        assert ledger.control.execute("select 1").fetchone() == (1,)
