"""The table of exchange rates: by namespace, source, pair and day, the newest batch's word counting."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date

from lineitem.catalog.rate_file import KeptRate, Rate
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries

SQL = load_queries("lineitem.catalog", "rates.sql")


def known(connection: Connection, key: int, rates: Sequence[Rate]) -> dict[tuple[str, str, str, date], Rate]:
    """What is kept of the same source, pair and day as each of ``rates``, as it counts now."""
    rows = connection.execute(SQL.rates_current, {"namespace_key": key, **_columns(rates)}).fetchall()
    return {row[:4]: Rate(*row[:5]) for row in rows}


def add(connection: Connection, key: int, rates: Sequence[Rate], batch: int) -> None:
    """Keep the rates a batch of lane 0 records."""
    values = {"namespace_key": key, "batch": batch, "rates": [one.rate for one in rates], **_columns(rates)}
    connection.execute(SQL.add_rates, values)


def rates_at(connection: Connection, key: int, day: date | None = None, source: str | None = None) -> list[KeptRate]:
    """The rate of every pair that counts on ``day``: its own or the latest before it; None: the latest there is."""
    return list(_kept(connection.execute(SQL.rates_at, {"namespace_key": key, "day": day, "source": source})))


def rates_all(connection: Connection, key: int, day: date | None = None, source: str | None = None) -> list[KeptRate]:
    """Every rate kept, those that were corrected behind their correction; of one day or of all."""
    return list(_kept(connection.execute(SQL.rates_all, {"namespace_key": key, "day": day, "source": source})))


def stored(connection: Connection) -> Iterator[tuple[str, KeptRate]]:
    """Every rate of every namespace, as it is stored now."""
    for namespace, *row in connection.execute(SQL.rates_stored).fetchall():
        yield namespace, KeptRate(Rate(row[0], row[1], row[2], row[3], row[4]), row[5])


def _kept(rows: Iterable[Sequence[object]]) -> Iterator[KeptRate]:
    for source, base, quote, day, rate, batch in rows:
        yield KeptRate(Rate(source, base, quote, day, rate), batch)  # type: ignore[arg-type]


def _columns(rates: Sequence[Rate]) -> dict[str, list[object]]:
    return {
        "sources": [one.source for one in rates],
        "bases": [one.base for one in rates],
        "quotes": [one.quote for one in rates],
        "days": [one.day for one in rates],
    }
