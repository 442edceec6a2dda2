"""Line items as columns: how they are numbered, laid out for COPY, and encoded as leaves of their batch's Merkle tree.

A leaf (RFC 6962) is up to ``LEAF_ROWS`` consecutive rows of one account: hashing few long leaves is six times faster than
hashing every row and its tree node, and a proof still shows nobody else's rows. Rows are sorted by account, so an account
has few leaves. Encoding of a row, version 1, big-endian (docs/reference/chain.md; never changed, only added to):

    version 1 | layout | kind | lane | batch | seq | id | account | price | tags | service month | posting month |
    event time | event key | quantity | amount | length of event id, event id

``account``, ``price`` and ``tags`` are SHA-256 digests of the resolved text (length-prefixed), not dictionary keys, so
altering a dictionary row is as visible as altering the line item. Layout 1 holds quantity and amount in 8 bytes, layout 2
(values beyond int64) in 32. ``person`` is unknown to version 1 and must be null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineitem.kit.copy import Column, encode
from lineitem.ledger.merkle import HASH

Integers = NDArray[np.int64] | NDArray[np.object_]

LEAF_VERSION = 1
LEAF_ROWS = 16
NO_EVENT_ID = 0xFFFF
NO_KEY = bytes(16)


class Kind(IntEnum):
    """Why a line item exists. The number is stored and hashed; never reused."""

    USAGE = 1
    RECURRING = 2
    TRUE_UP = 3
    CORRECTION = 4
    REVERSAL = 5
    RETRACTION = 6
    CREDIT = 7

    @property
    def word(self) -> str:
        """As users see it."""
        return self.name.lower()


@dataclass(slots=True)
class LineItems:
    """Line items of one batch in the order of their ``seq``; every column has shape (n,).

    ``account``, ``price`` and ``tags`` index the digest tables given beside them; the ``*_key`` columns are the
    dictionary keys that are stored. ``quantity`` (at the meter's scale) and ``amount_nano`` are int64, or object arrays
    of Python ints where a value passes int64.
    """

    account_key: NDArray[np.int32]
    price_version_key: NDArray[np.int32]
    tag_set_key: NDArray[np.int32]
    kind: NDArray[np.int16]
    quantity: Integers
    amount_nano: Integers
    event_time_us: NDArray[np.int64]
    service_month: NDArray[np.int32]
    posting_month: NDArray[np.int32]
    event_key: NDArray[np.void]  # V16, zero where the line item stands for a window
    event_id: pa.StringArray  # null where the line item stands for a window

    @classmethod
    def without_events(cls, account_key: NDArray[np.int32], **columns: Any) -> LineItems:
        """Line items that stand for no event; ``columns`` are all the others."""
        count = len(account_key)
        return cls(
            account_key, **columns, event_key=np.zeros(count, dtype="V16"), event_id=pa.nulls(count, pa.string())
        )

    def __len__(self) -> int:
        return len(self.account_key)


@dataclass(frozen=True, slots=True)
class Digests:
    """SHA-256 digests (V32) of the resolved text behind dictionary keys: ``digest_of[key]`` by position."""

    account: dict[int, bytes]
    price: dict[int, bytes]
    tags: dict[int, bytes]

    def add(self, other: Digests) -> None:
        """Know what ``other`` knows."""
        self.account.update(other.account)
        self.price.update(other.price)
        self.tags.update(other.tags)


def make_ids(lane: int, batch: int, recorded_us: int, seq: NDArray[np.int64]) -> NDArray[np.void]:
    """Line item ids, shape of ``seq``, dtype V16: UUID version 7 (RFC 9562), so ordered by time.

    48 bits milliseconds, 12 bits lane, 38 bits batch number, 24 bits ``seq``: unique because a lane's batch numbers are,
    and the id alone names the batch to look in.
    """
    out = np.empty((len(seq), 2), dtype=">u8")
    out[:, 0] = ((recorded_us // 1000) << 16) | 0x7000 | lane
    out[:, 1] = np.uint64((0b10 << 62) | (batch << 24)) | seq.astype(np.uint64)
    return out.view("V16").reshape(len(seq))


def first_and_last_id(lane: int, batch: int, recorded_us: int, count: int) -> tuple[str, str] | None:
    """The first and the last id of a batch of ``count`` line items, as people see them; None where there is none."""
    if not count:
        return None
    ids = make_ids(lane, batch, recorded_us, np.array([0, count - 1]))
    first, last = (str(UUID(bytes=bytes(one))) for one in ids)
    return first, last


def place_of_id(line_item_id: bytes) -> tuple[int, int, int]:
    """``(lane, batch, seq)`` an id was made from. Inverse of ``make_ids``."""
    high, low = int.from_bytes(line_item_id[:8], "big"), int.from_bytes(line_item_id[8:], "big")
    return high & 0xFFF, (low >> 24) & ((1 << 38) - 1), low & 0xFFFFFF


def split_by_layout(items: LineItems) -> list[tuple[int | None, bool, NDArray[np.int64]]]:
    """Groups of rows that share one width: ``(bytes of event id or None, wide, row numbers)``."""
    wide = _wide_rows(items.quantity) | _wide_rows(items.amount_nano)
    lengths = np.full(len(items), -1, dtype=np.int64)
    valid = np.asarray(items.event_id.is_valid())
    offsets = np.frombuffer(items.event_id.buffers()[1], dtype=np.int32)[
        items.event_id.offset : items.event_id.offset + len(items) + 1
    ].astype(np.int64)
    lengths[valid] = np.diff(offsets)[valid]
    groups: list[tuple[int | None, bool, NDArray[np.int64]]] = []
    code = lengths * 2 + wide
    for value in np.unique(code):
        rows = np.flatnonzero(code == value)
        length = int(value) // 2
        groups.append((None if length < 0 else length, bool(value % 2), rows))
    return groups


def _wide_rows(values: Integers) -> NDArray[np.bool_]:
    if values.dtype != object:
        return np.zeros(len(values), dtype=np.bool_)
    return np.array([not -(1 << 63) <= value < 1 << 63 for value in values], dtype=np.bool_)


def event_id_bytes(items: LineItems, length: int, rows: NDArray[np.int64]) -> NDArray[np.bytes_]:
    """The event ids of ``rows``, which all have ``length`` bytes, as one array of dtype S."""
    array = items.event_id
    data = np.frombuffer(array.buffers()[2] or b"", dtype=np.uint8)
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int32)[array.offset : array.offset + len(items)]
    starts = offsets[rows].astype(np.int64)
    if length == 0:
        return np.zeros(len(rows), dtype="S1")
    windows = np.lib.stride_tricks.sliding_window_view(data, length)
    return np.ascontiguousarray(windows[starts]).view(f"S{length}").reshape(len(rows))


def row_dtype(id_length: int | None, wide: bool) -> np.dtype[np.void]:
    """The layout of one encoded row."""
    number = "V32" if wide else ">i8"
    fields: list[tuple[str, str]] = [
        ("version", "u1"),
        ("layout", "u1"),
        ("kind", "u1"),
        ("lane", ">u2"),
        ("batch", ">u8"),
        ("seq", ">u4"),
        ("id", "V16"),
        ("account", "V32"),
        ("price", "V32"),
        ("tags", "V32"),
        ("service_month", ">i4"),
        ("posting_month", ">i4"),
        ("event_time_us", ">i8"),
        ("event_key", "V16"),
        ("quantity", number),
        ("amount_nano", number),
        ("event_id_length", ">u2"),
    ]
    if id_length:
        fields.append(("event_id", f"S{id_length}"))
    return np.dtype(fields)


def row_array(id_length: int | None, wide: bool, columns: Mapping[str, Any]) -> NDArray[np.void]:
    """Rows of one width, encoded: (n,) void. ``columns``: the varying fields of ``row_dtype``, each (n,) or one value."""
    row = np.zeros(len(columns["seq"]), dtype=row_dtype(id_length, wide))
    row["version"] = LEAF_VERSION
    row["layout"] = 2 if wide else 1
    row["event_id_length"] = NO_EVENT_ID if id_length is None else id_length
    for name, values in columns.items():
        row[name] = values
    return row.view(f"V{row.dtype.itemsize}")


def encoded_rows(
    items: LineItems, digests: Digests, lane: int, batch: int, seq: NDArray[np.int64], ids: NDArray[np.void]
) -> list[bytes]:
    """All rows of a batch in ``seq`` order, encoded. ``seq`` and ``ids`` have shape (n,)."""
    encoded: list[bytes] = [b""] * len(items)
    accounts = gather(digests.account, items.account_key)
    prices = gather(digests.price, items.price_version_key)
    tags = gather(digests.tags, items.tag_set_key)
    groups = split_by_layout(items)
    for id_length, wide, rows in groups:
        columns = {
            "kind": items.kind[rows],
            "lane": lane,
            "batch": batch,
            "seq": seq[rows],
            "id": ids[rows],
            "account": accounts[rows],
            "price": prices[rows],
            "tags": tags[rows],
            "service_month": items.service_month[rows],
            "posting_month": items.posting_month[rows],
            "event_time_us": items.event_time_us[rows],
            "event_key": items.event_key[rows],
            "quantity": leaf_numbers(items.quantity[rows], wide),
            "amount_nano": leaf_numbers(items.amount_nano[rows], wide),
        }
        if id_length:
            columns["event_id"] = event_id_bytes(items, id_length, rows)
        made: list[bytes] = row_array(id_length, wide, columns).tolist()
        if len(groups) == 1:
            return made
        for at, row in zip(rows.tolist(), made, strict=True):
            encoded[at] = row
    return encoded


def run_starts(*columns: NDArray[Any]) -> NDArray[np.int64]:
    """The first of every run of equal rows, ``columns`` of shape (n,) side by side."""
    first = np.zeros(len(columns[0]), dtype=np.bool_)
    first[:1] = True
    for column in columns:
        first[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(first)


def leaf_starts(account_key: NDArray[np.int32]) -> NDArray[np.int64]:
    """The first row of every leaf, for rows in ``seq`` order: a leaf ends with its account or after ``LEAF_ROWS`` rows."""
    rows = np.arange(len(account_key))
    changed = run_starts(account_key)
    in_run = rows - np.repeat(changed, np.diff(np.concatenate([changed, [len(rows)]])))
    return np.flatnonzero(in_run % LEAF_ROWS == 0)


def leaf_hashes(encoded: Sequence[bytes] | NDArray[np.void], account_key: NDArray[np.int32]) -> NDArray[np.void]:
    """Leaf hashes (RFC 6962) of a batch's rows in ``seq`` order: (leaves,) dtype V32.

    Rows of one width may come as one void array (``row_array``), so that a leaf is a slice of it.
    """
    starts = leaf_starts(account_key).tolist()
    ends = [*starts, len(encoded)][1:]
    if isinstance(encoded, np.ndarray) and encoded.dtype != object:
        width, data = encoded.dtype.itemsize, encoded.tobytes()
        leaves = [data[start * width : end * width] for start, end in zip(starts, ends, strict=True)]
    else:
        leaves = [b"".join(encoded[start:end]) for start, end in zip(starts, ends, strict=True)]
    return np.frombuffer(b"".join([sha256(b"\0" + leaf).digest() for leaf in leaves]), dtype=HASH)


def gather(table: dict[int, bytes], keys: NDArray[np.int32]) -> NDArray[np.void]:
    """``table[key]`` for every key, as V32. Raises KeyError for a key that is not in ``table``.

    Rows lie sorted by account and mostly share price and tags, so runs of a key are looked up, not rows.
    """
    starts = run_starts(keys)
    distinct, inverse = np.unique(keys[starts], return_inverse=True)
    packed = np.frombuffer(b"".join([table[key] for key in distinct.tolist()]), dtype=HASH)
    return np.repeat(packed[inverse], np.diff(np.concatenate([starts, [len(keys)]])))


def leaf_numbers(values: Any, wide: bool) -> Any:
    """Quantities or amounts as a leaf holds them: int64, or 32 bytes two's complement."""
    if not wide:
        return values.astype(np.int64)
    packed = b"".join([int(value).to_bytes(32, "big", signed=True) for value in values])
    return np.frombuffer(packed, dtype="V32")


def copy_payloads(
    items: LineItems, namespace_key: int, lane: int, batch: int, seq: NDArray[np.int64], ids: NDArray[np.void]
) -> tuple[list[NDArray[np.void]], list[tuple[Any, ...]]]:
    """What to send: binary payloads for ``copy_line_items`` and, for wide rows, plain tuples for ``insert_wide``.

    The payload's columns are those of ``COPY_COLUMNS``; a wide row carries its numbers as Python ints.
    """
    payloads: list[NDArray[np.void]] = []
    wide_rows: list[tuple[Any, ...]] = []
    for id_length, wide, rows in split_by_layout(items):
        if wide:
            wide_rows.extend(_wide_tuples(items, namespace_key, lane, batch, seq, ids, rows))
            continue
        event_id = Column("event_id", "null")
        event_key = Column("event_key", "null")
        if id_length is not None:
            text = event_id_bytes(items, id_length, rows)
            event_id = Column("event_id", f"text:{id_length}", text)
            event_key = Column("event_key", "uuid", items.event_key[rows])
        columns = [
            Column("id", "uuid", ids[rows]),
            event_key,
            Column("batch", "int8", batch),
            Column("quantity", "int8", items.quantity[rows].astype(np.int64)),
            Column("amount_nano", "int8", items.amount_nano[rows].astype(np.int64)),
            Column("event_time", "timestamptz", items.event_time_us[rows]),
            Column("seq", "int4", seq[rows]),
            Column("account_key", "int4", items.account_key[rows]),
            Column("price_version_key", "int4", items.price_version_key[rows]),
            Column("tag_set_key", "int4", items.tag_set_key[rows]),
            Column("namespace_key", "int4", namespace_key),
            Column("service_month", "int4", items.service_month[rows]),
            Column("posting_month", "int4", items.posting_month[rows]),
            Column("lane", "int2", lane),
            Column("kind", "int2", items.kind[rows]),
            event_id,
        ]
        payloads.append(encode(columns, len(rows)))
    return payloads, wide_rows


def _wide_tuples(
    items: LineItems,
    namespace_key: int,
    lane: int,
    batch: int,
    seq: NDArray[np.int64],
    ids: NDArray[np.void],
    rows: NDArray[np.int64],
) -> list[tuple[Any, ...]]:
    out: list[tuple[Any, ...]] = []
    for row in rows.tolist():
        event_id = items.event_id[row].as_py()
        out.append(
            (
                bytes(ids[row]).hex(),
                bytes(items.event_key[row]).hex() if event_id is not None else None,
                batch,
                int(items.event_time_us[row]),
                int(seq[row]),
                int(items.account_key[row]),
                int(items.price_version_key[row]),
                int(items.tag_set_key[row]),
                namespace_key,
                int(items.service_month[row]),
                int(items.posting_month[row]),
                lane,
                int(items.kind[row]),
                event_id,
                str(int(items.quantity[row])),
                str(int(items.amount_nano[row])),
            )
        )
    return out
