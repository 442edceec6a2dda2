"""Read the ledger: line items as a stream, the running usage of an account, the line items behind an invoice line.

Works in the posting role and in the reading role, which sees the namespace the session names and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.pq import TransactionStatus

from lineitem.core.errors import InputError
from lineitem.core.money import nano_to_text, scaled_to_text
from lineitem.core.period import Month, us_to_text
from lineitem.kit.db import Connection, explained
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.claims import Claim
from lineitem.ledger.rows import Kind, place_of_id
from lineitem.rate.working import fraction_text

SQL = load_queries("lineitem.ledger", "read.sql")
CREDITS = load_queries("lineitem.ledger", "credits.sql")
_STREAM_ROWS = 5_000
"""Line items fetched at once: what a reader of millions of them keeps in memory."""


@dataclass(frozen=True, slots=True)
class FoundItem:
    """One line item: as it is shown, and the keys that lead on from it. ``quantity`` is at ``scale``, times in µs UTC."""

    document: dict[str, Any]
    namespace_key: int
    lane: int
    batch: int
    seq: int
    kind: Kind
    account_key: int
    price_key: int
    timezone: str
    scale: int
    quantity: int
    amount_nano: int
    event_time_us: int
    service_month: int
    event_key: bytes | None  # 16 bytes; None where the line item stands for a window or a fixed due


class LineKey(NamedTuple):
    """What makes line items of one claim one line of an invoice."""

    service_month: int
    pricebook: str
    price: str
    meter: str
    unit: str


@dataclass(frozen=True, slots=True)
class ClaimedItems:
    """The line items behind an invoice line: how many, what they come to (decimal text), the ids of the first ones."""

    count: int
    quantity: str
    amount: str
    ids: list[str]


def line_items(
    connection: Connection, namespace: str, *, account: str | None = None, month: Month | None = None
) -> Iterator[dict[str, Any]]:
    """Line items of a namespace, or of one account or posting month, streamed by posting month, lane, batch and place.

    That order never changes, so two readings can be compared line by line. The database sorts, on its disk when they
    are many; this process holds a few thousand at a time. The iterator keeps a transaction open until it is exhausted
    or closed. Quantities and amounts are plain decimal text. Raises InputError for an unknown namespace or account.
    """
    namespace_key, account_key = keys_of(connection, namespace, account)
    where = {
        "namespace_key": namespace_key,
        "account_key": account_key,
        "posting_month": None if month is None else month.index,
        "batch": None,
        "id": None,
    }
    return _stream(connection, where)


def _stream(connection: Connection, where: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    with explained(), connection.transaction(), connection.cursor(name="line_items", binary=True) as cursor:
        cursor.itersize = _STREAM_ROWS
        cursor.execute(SQL.line_items, where)
        for row in cursor:
            yield _document(row)


@contextmanager
def one_snapshot(connection: Connection) -> Iterator[None]:
    """What is read inside is one state of the ledger; within a transaction of the caller's, the state that one sees."""
    idle = connection.info.transaction_status == TransactionStatus.IDLE
    with connection.transaction():
        if idle:
            connection.execute("set transaction isolation level repeatable read, read only")
        yield


@explained()
def find_line_item(connection: Connection, namespace: str, line_item_id: str) -> FoundItem:
    """One line item by its id. Raises InputError where there is none in the namespace, or the id is not one."""
    do = "`lineitem line-items` lists them."
    try:
        wanted = UUID(line_item_id)
    except ValueError:
        raise InputError(f"{line_item_id!r} is not the id of a line item", do=do) from None
    namespace_key, _ = keys_of(connection, namespace, None)
    batch = place_of_id(wanted.bytes)[1]
    where = {"namespace_key": namespace_key, "account_key": None, "posting_month": None, "batch": batch, "id": wanted}
    row = connection.execute(SQL.line_items, where, binary=True).fetchone()
    if row is None:
        raise InputError(f"there is no line item {line_item_id} in namespace {namespace!r}", do=do)
    return FoundItem(
        document=_document(row),
        namespace_key=namespace_key,
        lane=row[19],
        batch=row[20],
        seq=row[21],
        kind=Kind(row[4]),
        account_key=row[22],
        price_key=row[23],
        timezone=row[25],
        scale=row[7],
        quantity=_number(row[5], row[6]),
        amount_nano=_number(row[9], row[10]),
        event_time_us=row[12],
        service_month=row[13],
        event_key=None if row[24] is None else row[24].bytes,
    )


@explained()
def claimed_items(
    connection: Connection, namespace_key: int, posting_month: int, claim: Claim, line: LineKey, limit: int
) -> ClaimedItems:
    """The line items posted to a month that ``claim`` takes for ``line``, the first ``limit`` by lane, batch and place."""
    lanes = sorted(claim.up_to)
    where = line._asdict() | {
        "namespace_key": namespace_key,
        "account_key": claim.account_key,
        "posting_month": posting_month,
        "currency": claim.currency,
        "lanes": lanes,
        "above": [claim.above.get(lane, 0) for lane in lanes],
        "up_to": [claim.up_to[lane] for lane in lanes],
        "limit": limit,
    }
    rows = connection.execute(SQL.claimed, where).fetchall()
    if not rows:
        return ClaimedItems(0, "0", "0", [])
    _, count, quantity, amount_nano = rows[0]
    ids = [str(row[0]) for row in rows]
    return ClaimedItems(count, fraction_text(Fraction(quantity)), nano_to_text(int(amount_nano)), ids)


@explained()
def usage(connection: Connection, namespace: str, account: str, month: Month) -> dict[str, Any]:
    """What an account used in a service month and what it owes so far, price by price.

    As fresh as the last committed batch, which moved these sums in its own transaction. ``quantity`` counts every
    accepted event; where part of it waits for its window, ``pending_quantity`` says how much, and ``amount`` is what the
    rest owes. Of a level both are what was settled last, and ``pending_readings`` how many readings wait for it. A price
    whose content changed within the month stands once for each content, with the pricebook versions that carry it.
    ``credits``, where there are any: what was drawn of each prepaid grant when the month was last billed or closed. Raises
    InputError for an unknown account.
    """
    namespace_key, account_key = keys_of(connection, namespace, account)
    where = {"namespace_key": namespace_key, "account_key": account_key, "service_month": month.index}
    rows = connection.execute(SQL.usage, where).fetchall()
    document = {"account": account, "period": str(month), "prices": [_usage_document(row) for row in rows]}
    drawn = connection.execute(CREDITS.drawn_in_month, where).fetchall()
    credit = [{"grant": one[0], "drawn": nano_to_text(int(one[1])), "currency": one[2]} for one in drawn]
    return document | ({"credits": credit} if credit else {})


def _usage_document(row: tuple[Any, ...]) -> dict[str, Any]:
    (
        price,
        meter,
        quantity,
        posted_quantity,
        posted_nano,
        events,
        scale,
        unit,
        currency,
        pricebook,
        versions,
        readings,
    ) = row
    document = {
        "price": price,
        "meter": meter,
        "quantity": scaled_to_text(int(quantity), scale),
        "unit": unit,
        "amount": nano_to_text(int(posted_nano)),
        "currency": currency,
        "pricebook": pricebook,
        "versions": versions,
        "events": events,
    }
    if quantity != posted_quantity:
        document["pending_quantity"] = scaled_to_text(int(quantity - posted_quantity), scale)
    if readings:
        document["pending_readings"] = int(readings)
    return document


def keys_of(connection: Connection, namespace: str, account: str | None) -> tuple[int, int | None]:
    """The keys of a namespace and of an account, None for no account. Raises InputError for what is not known."""
    row = connection.execute(SQL.account, {"namespace": namespace, "account": account}).fetchone()
    if row is None:
        raise InputError(f"there is no namespace {namespace!r}", do="Publish a catalog in it, or name another one.")
    if account is not None and row[1] is None:
        raise InputError(
            f"there is no account {account!r} in namespace {namespace!r}",
            do="An account exists once a catalog lists it or an event names it; ids are case-sensitive.",
        )
    return int(row[0]), row[1]


def _document(row: tuple[Any, ...]) -> dict[str, Any]:
    """One row of ``line_items`` as it is shown."""
    return {
        "id": str(row[0]),
        "account": row[1],
        "price": row[2],
        "meter": row[3],
        "kind": _WORDS[row[4]],
        "quantity": scaled_to_text(_number(row[5], row[6]), row[7]),
        "unit": row[8],
        "amount": nano_to_text(_number(row[9], row[10])),
        "currency": row[11],
        "event_time": us_to_text(row[12]),
        "service_period": _month_text(row[13]),
        "posting_period": _month_text(row[14]),
        "pricebook": row[15],
        "version": row[16],
        "event_id": row[17],
        "tags": dict(_tags(row[18])),
        "batch": f"{row[19]}-{row[20]}",
    }


_WORDS = {int(kind): kind.word for kind in Kind}


# Few months and tag sets stand in many rows.
@lru_cache(maxsize=1024)
def _month_text(index: int) -> str:
    return str(Month.from_index(index))


@lru_cache(maxsize=4096)
def _tags(text: str) -> dict[str, str]:
    tags: dict[str, str] = json.loads(text)
    return tags


def _number(plain: int | None, wide: Any) -> int:
    """A stored quantity or amount: in its int64 column, or in the wide one beside it."""
    return int(wide) if plain is None else plain


def last_segment(connection: Connection, lane: int, partition_key: int) -> tuple[str, int, int] | None:
    """Of a partition's newest batch: its segment, its clock (microseconds) and the position it ends at; None without one."""
    with explained():
        row = connection.execute(SQL.last_segment, {"lane": lane, "partition_key": partition_key}).fetchone()
    return None if row is None else (str(row[0]), int(row[1]), int(row[2]))
