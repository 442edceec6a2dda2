"""Checks every line item: leaves, Merkle root and sums of each batch, recomputed from the rows as they stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog import published
from lineitem.kit.copy import POSTGRES_EPOCH_US, rows_by_width
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.assembly import Assembly
from lineitem.ledger.chain import fact_leaf
from lineitem.ledger.merkle import EMPTY_ROOT, HASH, root
from lineitem.ledger.post import canonical
from lineitem.ledger.report import Link, Place, Progress, Report
from lineitem.ledger.rows import NO_KEY, Digests, gather, leaf_hashes, leaf_numbers, row_array, run_starts
from lineitem.rate.exact import total

SQL = load_queries("lineitem.ledger", "ledger.sql")
_ODD_ROWS = 2000

_COLUMNS = (
    ("lane", ">i2"), ("batch", ">i8"), ("seq", ">i4"), ("id", "V16"), ("account", ">i4"), ("price", ">i4"),
    ("tags", ">i4"), ("namespace", ">i4"), ("service_month", ">i4"), ("posting_month", ">i4"), ("kind", ">i2"),
    ("quantity", ">i8"), ("amount_nano", ">i8"), ("event_time_us", ">i8"), ("event_key", "V16"),
)  # fmt: skip
_PLAIN: list[tuple[str, str]] = [("fields", ">i2")]
for _name, _type in _COLUMNS:
    _PLAIN += [(f"{_name}_len", ">i4"), (_name, _type)]
_PLAIN.append(("event_id_len", ">i4"))
_PLAIN_BYTES = np.dtype(_PLAIN).itemsize
_ODD = np.dtype(
    [("lane", "i8"), ("batch", "i8"), ("seq", "i8"), ("account", "i4"), ("price", "i4"), ("namespace", "i4"),
     ("amount_nano", "O"), ("encoded", "O")]
)  # fmt: skip


def check_line_items(connection: Connection, links: Mapping[Place, Link], report: Report, progress: Progress) -> None:
    """Line items and facts are those each batch recorded: none missing, repeated, altered or in another namespace."""
    check = _Check(connection, links, report)
    assembly = Assembly({place: link.batch.line_items for place, link in links.items()})
    for rows in _blocks(connection, check.digests, report):
        for place, parts in assembly.add(rows):
            check.batch(place, parts)
        report.line_items += len(rows)
        progress("line items", report.line_items)
    for place, parts in assembly.rest():
        check.batch(place, parts)
    for place, count in assembly.strangers.items():
        report.add(place, f"{count} line items do not belong to it")
    for place in check.facts:
        report.add(place, "facts do not belong to it")


class _OrZeros(dict[int, bytes]):
    """Digests by key; one nobody knows is zeros, so the leaf it stands in cannot match."""

    def __missing__(self, key: int) -> bytes:
        return bytes(32)


class _Check:
    """What a batch is compared with besides its own record: dictionaries as they are now, and facts."""

    def __init__(self, connection: Connection, links: Mapping[Place, Link], report: Report) -> None:
        accounts, prices, tags, self.currency = published.digests(connection)
        self.digests = Digests(_OrZeros(accounts), _OrZeros(prices), _OrZeros(tags))
        self.links, self.report = links, report
        self.facts: dict[Place, list[tuple[int, str, str]]] = {}
        for lane, batch, seq, kind, body in connection.execute(SQL.facts, {"kind": None}).fetchall():
            self.facts.setdefault((lane, batch), []).append((seq, kind, body))

    def batch(self, place: Place, parts: list[NDArray[Any]]) -> None:
        """All rows of a batch have come by, or no more will: compare."""
        link, report = self.links[place], self.report
        batch, facts = link.batch, self.facts.pop(place, [])
        groups = _merged(parts)
        if any((rows["namespace"] != link.namespace_key).any() for rows in groups):
            report.add(place, "a line item of it stands in another namespace")
        if not _complete(place, batch.line_items, groups, report):
            return
        if [seq for seq, _, _ in facts] != list(range(batch.line_items, batch.line_items + batch.facts)):
            report.add(place, f"{batch.facts} facts were recorded, {len(facts)} are there")
            return
        fact_leaves = b"".join([fact_leaf(*place, seq, kind, body) for seq, kind, body in facts])
        leaves = np.concatenate([_leaves(groups, self.digests), np.frombuffer(fact_leaves, dtype=HASH)])
        if (root(leaves) if len(leaves) else EMPTY_ROOT) != batch.root:
            report.add(place, "a line item or fact was altered: the Merkle root does not match")
        if self._sums(groups) != batch.sums:
            report.add(place, "its sums do not match its line items")

    def _sums(self, groups: list[NDArray[Any]]) -> str:
        sums: dict[str, int] = {}
        for rows in groups:
            prices, amounts = rows["price"], rows["amount_nano"]
            amounts = amounts if amounts.dtype == object else amounts.astype(np.int64)
            for price in np.unique(prices[run_starts(prices)]).tolist():
                name = self.currency.get(price, "?")
                sums[name] = sums.get(name, 0) + total(amounts[prices == price])
        return canonical({name: str(value) for name, value in sums.items()})


def _merged(parts: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Rows of a batch by width, each width in ``seq`` order."""
    by_width: dict[np.dtype[Any], list[NDArray[Any]]] = {}
    for part in parts:
        by_width.setdefault(part.dtype, []).append(part)
    groups = []
    for same in by_width.values():
        rows = same[0] if len(same) == 1 else np.concatenate(same)
        seq = rows["seq"]
        groups.append(rows if (seq[1:] >= seq[:-1]).all() else rows[np.argsort(seq, kind="stable")])
    return groups


def _complete(place: Place, count: int, groups: list[NDArray[Any]], report: Report) -> bool:
    """Whether the rows are those with ``seq`` 0 to ``count`` - 1, each once."""
    seq = np.concatenate([*(rows["seq"] for rows in groups), np.zeros(0, np.int64)]).astype(np.int64)
    seq.sort()
    if len(seq) == count and (seq == np.arange(count)).all():
        return True
    inside = seq[(seq >= 0) & (seq < count)]
    distinct = len(run_starts(inside))
    if len(inside) < len(seq):
        report.add(place, f"{len(seq) - len(inside)} line items do not belong to it")
    if distinct < len(inside):
        report.add(place, "two line items claim the same place")
    if distinct != count:
        report.add(place, f"{count - distinct} of its {count} line items are missing")
    return False


def _leaves(groups: list[NDArray[Any]], digests: Digests) -> NDArray[np.void]:
    """Leaf hashes of a complete batch. Rows of one width, which is how most batches are, stay one array throughout."""
    encoded = [(rows["seq"][at], _encoded(rows[at], digests)) for rows in groups for at in _by_id_length(rows)]
    if len(encoded) == 1 and len(groups) == 1:
        return leaf_hashes(encoded[0][1], groups[0]["account"])
    count = sum(len(rows) for rows in groups)
    in_order: list[bytes] = [b""] * count
    account = np.zeros(count, dtype=np.int32)
    for rows in groups:
        account[rows["seq"]] = rows["account"]
    for seq, made in encoded:
        for number, row in zip(seq.tolist(), made.tolist(), strict=True):
            in_order[number] = row
    return leaf_hashes(in_order, account)


def _by_id_length(rows: NDArray[Any]) -> list[slice | NDArray[np.bool_]]:
    """Rows of one width split where no event id stands beside an empty one."""
    if rows.dtype == _ODD or rows.dtype.itemsize > _PLAIN_BYTES:
        return [slice(None)]
    null = rows["event_id_len"] < 0
    return [slice(None)] if null.all() or not null.any() else [null, ~null]


def _encoded(rows: NDArray[Any], digests: Digests) -> NDArray[Any]:
    """Rows of one width and one length of event id, encoded: (n,) void, or bytes objects."""
    if rows.dtype == _ODD:
        return np.asarray(rows["encoded"])
    names = ("kind", "lane", "batch", "seq", "id", "service_month", "posting_month", "event_key", "quantity")
    columns: dict[str, Any] = {name: rows[name] for name in (*names, "amount_nano")}
    columns["account"] = gather(digests.account, rows["account"])
    columns["price"] = gather(digests.price, rows["price"])
    columns["tags"] = gather(digests.tags, rows["tags"])
    columns["event_time_us"] = rows["event_time_us"] + POSTGRES_EPOCH_US
    length = int(rows["event_id_len"][0])
    if length > 0:
        columns["event_id"] = rows["event_id"]
    return row_array(None if length < 0 else length, False, columns)


def _blocks(connection: Connection, digests: Digests, report: Report) -> Iterator[NDArray[Any]]:
    """Every line item, in blocks of one width: fields lane, batch, seq, account, price, namespace, amount_nano and more."""
    for width, data in rows_by_width(connection, SQL.copy_out_line_items):
        length = width - _PLAIN_BYTES
        strange = len(data) // width
        if length >= 0:
            rows = np.frombuffer(data, dtype=_layout(length))
            plain = _plain(rows, length)
            strange = len(rows) - int(plain.sum())
            if len(rows) > strange:
                yield rows[plain] if strange else rows
        if strange:
            report.add(None, f"{strange} line items have a shape the engine never writes")
    yield from _odd_blocks(connection, digests, report)


def _layout(id_length: int) -> np.dtype[np.void]:
    return np.dtype([*_PLAIN, ("event_id", f"S{id_length}")] if id_length else _PLAIN)


def _plain(rows: NDArray[np.void], id_length: int) -> NDArray[np.bool_]:
    """Which rows have every column, each of its own width: only then do the fields lie where they are looked for."""
    plain: NDArray[np.bool_] = rows["event_id_len"] == id_length
    if id_length == 0:
        plain |= rows["event_id_len"] == -1
    for name, type in _COLUMNS:
        plain &= rows[f"{name}_len"] == np.dtype(type).itemsize
    return plain


def _odd_blocks(connection: Connection, digests: Digests, report: Report) -> Iterator[NDArray[Any]]:
    """Rows with wide numbers, encoded one at a time: they are rare."""
    with connection.cursor(name="odd_line_items") as cursor:
        cursor.execute(SQL.odd_line_items)
        while rows := cursor.fetchmany(_ODD_ROWS):
            made = []
            for row in rows:
                lane, batch, seq, id_, account, price, *_, namespace, _, _, _, _, amount, _, key, event, bad = row
                if bad or (key is None) != (event is None):
                    report.add((lane, batch), f"line item {id_} has a shape the engine never writes")
                else:
                    made.append((lane, batch, seq, account, price, namespace, int(amount), _wide(row, digests)))
            if made:
                yield np.array(made, dtype=_ODD)


def _wide(row: tuple[Any, ...], digests: Digests) -> bytes:
    lane, batch, seq, id_, account, price, tags, _, service, posting, kind, quantity, amount, time, key, event, _ = row
    text = None if event is None else event.encode()
    columns = {
        "kind": kind, "lane": lane, "batch": batch, "seq": np.array([seq]), "id": np.void(id_.bytes),
        "account": np.void(digests.account[account]), "price": np.void(digests.price[price]),
        "tags": np.void(digests.tags[tags]), "service_month": service, "posting_month": posting, "event_time_us": time,
        "event_key": np.void(NO_KEY if key is None else key.bytes),
        "quantity": leaf_numbers([int(quantity)], True), "amount_nano": leaf_numbers([int(amount)], True),
    }  # fmt: skip
    if text:
        columns["event_id"] = np.array([text])
    return bytes(row_array(None if text is None else len(text), True, columns)[0])
