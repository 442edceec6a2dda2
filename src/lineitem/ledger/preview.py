"""What publishing a catalog would change, for whom, and how much usage that moved last month."""

from __future__ import annotations

from lineitem.catalog import published
from lineitem.catalog.diff import Change, diff
from lineitem.catalog.model import Catalog, owner
from lineitem.catalog.reach import Usage, summed, with_reach
from lineitem.core.period import Month
from lineitem.kit.db import Connection, explained
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.read import one_snapshot

SQL = load_queries("lineitem.ledger", "ledger.sql")


@explained()
def preview(connection: Connection, namespace: str, new: Catalog, now_us: int) -> list[Change]:
    """The changes from the catalog in force to ``new``; a changed price with the accounts it bills and their usage."""
    month = Month.from_index(Month.of_us(now_us).index - 1)  # the last full one
    key = published.namespace_key(connection, namespace)
    with one_snapshot(connection):
        changes = diff(published.current(connection, key), new)
        where = {"namespace_key": key, "month": month.index}
        owners = sorted({own for book in new.pricebooks if (own := owner(book.id)) is not None})
        by_book = connection.execute(SQL.month_by_book, where).fetchall()
        by_account = connection.execute(SQL.month_by_account, where | {"accounts": owners}).fetchall()
        books, ends_us = published.pricebooks(connection, key), published.retired(connection, key)
        accounts = published.account_books(connection, key)
    usage = Usage(str(month), summed(_whole(by_book)), summed(_whole(by_account)))
    return with_reach(changes, new, books, ends_us, accounts, usage)


def _whole(rows: list[tuple[str, str, str, int, object]]) -> list[tuple[str, str, str, int, int]]:
    return [(whose, price, unit, scale, int(str(quantity))) for whose, price, unit, scale, quantity in rows]
