"""Line items as columns: ids, encoded rows and leaves, and the COPY payload read back field by field."""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.kit.copy import POSTGRES_EPOCH_US
from lineitem.ledger.rows import (
    LEAF_ROWS,
    NO_EVENT_ID,
    Digests,
    Kind,
    LineItems,
    copy_payloads,
    encoded_rows,
    gather,
    leaf_hashes,
    leaf_starts,
    make_ids,
    place_of_id,
)

ACCOUNTS = {key: sha256(b"account %d" % key).digest() for key in range(1, 4)}
PRICES = {key: sha256(b"price %d" % key).digest() for key in range(1, 3)}
TAGS = {key: sha256(b"tags %d" % key).digest() for key in range(1, 3)}
DIGESTS = Digests(ACCOUNTS, PRICES, TAGS)
RECORDED_US = 1_793_577_600_123_456

_NARROW = st.integers(-(2**63), 2**63 - 1)
_ANY = _NARROW | st.integers(-(10**38) + 1, 10**38 - 1)
_IDS = st.none() | st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
ROWS = st.lists(
    st.tuples(
        st.integers(1, 3), st.integers(1, 2), st.integers(1, 2), st.sampled_from(Kind), _ANY, _ANY,
        st.integers(0, 2**52), st.integers(24000, 25000), st.integers(24000, 25000), st.binary(min_size=16, max_size=16), _IDS,
    ),
    min_size=1, max_size=40,
)  # fmt: skip


def _numbers(values: list[int]) -> Any:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column if any(not -(2**63) <= value < 2**63 for value in values) else column.astype(np.int64)


def items_of(rows: list[tuple[Any, ...]]) -> LineItems:
    account, price, tags, kind, quantity, amount, time, service, posting, keys, ids = (
        list(column) for column in zip(*rows, strict=True)
    )
    return LineItems(
        np.array(account, np.int32), np.array(price, np.int32), np.array(tags, np.int32), np.array(kind, np.int16),
        _numbers(quantity), _numbers(amount), np.array(time, np.int64), np.array(service, np.int32),
        np.array(posting, np.int32), np.array(keys, "V16"), pa.array(ids, pa.string()),
    )  # fmt: skip


def encoded(rows: list[tuple[Any, ...]], lane: int, batch: int) -> list[bytes]:
    seq = np.arange(len(rows), dtype=np.int64)
    return encoded_rows(items_of(rows), DIGESTS, lane, batch, seq, make_ids(lane, batch, RECORDED_US, seq))


def by_definition(row: tuple[Any, ...], lane: int, batch: int, seq: int, id_: bytes) -> bytes:
    """The encoding as the module's docstring words it, field after field."""
    account, price, tags, kind, quantity, amount, time, service, posting, key, event_id = row
    wide = any(not -(2**63) <= value < 2**63 for value in (quantity, amount))
    text = None if event_id is None else event_id.encode()
    head = struct.pack(">BBBHQI", 1, 2 if wide else 1, kind, lane, batch, seq) + id_
    names = ACCOUNTS[account] + PRICES[price] + TAGS[tags] + struct.pack(">iiq", service, posting, time) + key
    numbers = b"".join(value.to_bytes(32 if wide else 8, "big", signed=True) for value in (quantity, amount))
    return head + names + numbers + struct.pack(">H", NO_EVENT_ID if text is None else len(text)) + (text or b"")


@given(st.integers(0, 4), st.integers(1, 2**38 - 1), st.lists(st.integers(0, 2**24 - 1), min_size=1, max_size=9))
def test_an_id_names_its_place(lane: int, batch: int, numbers: list[int]) -> None:
    """Ids are UUIDs of version 7 of the batch's millisecond, and lead back to lane, batch and row."""
    for id_, seq in zip(make_ids(lane, batch, RECORDED_US, np.array(numbers, np.int64)), numbers, strict=True):
        uuid = UUID(bytes=bytes(id_))
        assert (uuid.version, uuid.variant) == (7, "specified in RFC 4122")
        assert uuid.int >> 80 == RECORDED_US // 1000
        assert place_of_id(bytes(id_)) == (lane, batch, seq)


@given(ROWS, st.integers(0, 4), st.integers(1, 2**38 - 1))
def test_rows_are_encoded_as_documented(rows: list[tuple[Any, ...]], lane: int, batch: int) -> None:
    """Whatever widths stand side by side, each row's bytes are those of the definition, in its place."""
    ids = make_ids(lane, batch, RECORDED_US, np.arange(len(rows), dtype=np.int64))
    wanted = [by_definition(row, lane, batch, seq, bytes(ids[seq])) for seq, row in enumerate(rows)]
    assert encoded(rows, lane, batch) == wanted


@given(ROWS, st.data())
def test_any_other_value_is_another_leaf(rows: list[tuple[Any, ...]], data: st.DataObject) -> None:
    """Two batches that differ in one value of one row differ in their leaves."""
    at = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.integers(0, len(rows[0]) - 1))
    other = data.draw(ROWS)[0][column]
    changed = list(rows)
    changed[at] = (*rows[at][:column], other, *rows[at][column + 1 :])
    same = other == rows[at][column]
    accounts = [np.array([row[0] for row in batch], np.int32) for batch in (rows, changed)]
    before = leaf_hashes(encoded(rows, 1, 1), accounts[0]).tobytes()
    after = leaf_hashes(encoded(changed, 1, 1), accounts[1]).tobytes()
    assert (before == after) == same


@given(st.lists(st.tuples(st.integers(1, 3), st.binary(min_size=5, max_size=5)), max_size=70))
def test_rows_of_one_width_may_be_an_array(rows: list[tuple[int, bytes]]) -> None:
    """Leaves of one void array are those of its rows one by one."""
    accounts = np.array([account for account, _ in rows], np.int32)
    each = [row for _, row in rows]
    assert leaf_hashes(np.array(each, "V5"), accounts).tobytes() == leaf_hashes(each, accounts).tobytes()


@given(st.lists(st.integers(1, 3), max_size=40))
def test_digests_are_gathered_by_run(keys: list[int]) -> None:
    """Sorted or not, each row has its own key's digest."""
    assert gather(ACCOUNTS, np.array(keys, np.int32)).tobytes() == b"".join(ACCOUNTS[key] for key in keys)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 40)), max_size=6))
def test_a_leaf_holds_rows_of_one_account(runs: list[tuple[int, int]]) -> None:
    """Leaves cover all rows in order, at most ``LEAF_ROWS`` each, never two accounts, and none is shorter than need be."""
    accounts = [account for account, count in runs for _ in range(count)]
    starts = leaf_starts(np.array(accounts, np.int32)).tolist()
    leaves = [accounts[a:b] for a, b in zip(starts, [*starts, len(accounts)][1:], strict=True)]
    assert [account for leaf in leaves for account in leaf] == accounts
    for number, leaf in enumerate(leaves):
        assert 1 <= len(leaf) <= LEAF_ROWS
        assert len(set(leaf)) == 1
        full = len(leaf) == LEAF_ROWS
        assert full or number + 1 == len(leaves) or leaves[number + 1][0] != leaf[0]


def _fields(payload: bytes) -> list[list[bytes | None]]:
    """Binary COPY rows as PostgreSQL reads them: a field count, then length and value of each field."""
    rows, at = [], 0
    while at < len(payload):
        (count,) = struct.unpack_from(">h", payload, at)
        at += 2
        row: list[bytes | None] = []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", payload, at)
            at += 4
            row.append(None if length < 0 else payload[at : at + length])
            at += max(length, 0)
        rows.append(row)
    return rows


@given(ROWS)
def test_what_is_copied_is_what_was_rated(rows: list[tuple[Any, ...]]) -> None:
    """Every row goes out once, by COPY or, with a number beyond int64, as a tuple; and reads back as it was."""
    seq = np.arange(len(rows), dtype=np.int64)
    ids = make_ids(2, 7, RECORDED_US, seq)
    payloads, wide = copy_payloads(items_of(rows), 9, 2, 7, seq, ids)
    found: dict[int, tuple[Any, ...]] = {}
    for payload in payloads:
        for field in _fields(payload.tobytes()):
            assert len(field) == 16
            id_, key, batch, quantity, amount, time, number, *small, lane, kind, event_id = field
            ints = [
                int.from_bytes(value or b"", "big", signed=True) for value in (batch, quantity, amount, time, number)
            ]
            account, price, tags, namespace, service, posting = (int.from_bytes(value or b"", "big") for value in small)
            assert (ints[0], namespace, lane, id_) == (7, 9, b"\0\2", bytes(ids[ints[4]]))
            found[ints[4]] = (
                account, price, tags, int.from_bytes(kind or b"", "big"), ints[1], ints[2], ints[3] + POSTGRES_EPOCH_US,
                service, posting, key, None if event_id is None else event_id.decode(),
            )  # fmt: skip
    for (
        id_,
        key,
        batch,
        time,
        number,
        account,
        price,
        tags,
        namespace,
        service,
        posting,
        lane,
        kind,
        event_id,
        q,
        a,
    ) in wide:
        assert (batch, namespace, lane, id_) == (7, 9, 2, bytes(ids[number]).hex())
        key_bytes = None if key is None else bytes.fromhex(key)
        found[number] = (account, price, tags, kind, int(q), int(a), time, service, posting, key_bytes, event_id)
        assert not all(-(2**63) <= int(value) < 2**63 for value in (q, a))
    wanted = {n: (*row[:9], row[9] if row[10] is not None else None, row[10]) for n, row in enumerate(rows)}
    assert found == wanted


def test_an_unknown_key_is_an_error() -> None:
    """A line item that names an account nobody resolved is never written."""
    row = (77, 1, 1, Kind.USAGE, 1, 1, 0, 24000, 24000, bytes(16), None)
    with pytest.raises(KeyError):
        encoded([row], 1, 1)
