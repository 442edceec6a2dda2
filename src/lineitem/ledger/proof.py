"""Prove that one line item stands in the signed ledger, with a document that can be checked without the ledger.

line item -> its leaf's rows -> Merkle root of its batch -> hash of the batch -> the batches after it in its lane -> the
first checkpoint signed after it. ``docs/reference/chain.md`` says how each step is hashed and checks one with hashlib.
"""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lineitem.catalog import published
from lineitem.catalog.snapshot import account_digest, price_row_digest, tags_digest
from lineitem.core.errors import IntegrityError
from lineitem.core.money import nano_to_text, scaled_to_text
from lineitem.core.period import Month, us_to_text
from lineitem.ingest import intake
from lineitem.ingest.intake import Partition
from lineitem.kit.db import Connection, explained
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger import merkle
from lineitem.ledger.chain import Batch, batch_hash, fact_leaf
from lineitem.ledger.checkpoint import Checkpoint, Notary
from lineitem.ledger.read import FoundItem, find_line_item, one_snapshot
from lineitem.ledger.rows import NO_KEY, Digests, Kind, LineItems, encoded_rows, leaf_hashes, leaf_starts
from lineitem.rate.exact import compact

SQL = load_queries("lineitem.ledger", "read.sql")
PROOF_VERSION = 1
_BYTES = frozenset({"records_digest", "accepted_digest", "set_aside_digest", "root"})
"""Fields of a batch that are bytes: hexadecimal in the document."""
_SIDES = {"left": "left", "right": "right"}
_FIELDS = tuple(field.name for field in fields(Batch))


@explained()
def proof(connection: Connection, notary: Notary, namespace: str, line_item_id: str) -> dict[str, Any]:
    """The proof of one line item, as a JSON document for ``check_proof``.

    ``line_item`` as it is shown · ``rows``: the rows of its leaf, itself at ``row``, with every text resolved · ``leaf``:
    their hash · ``path``: sibling hashes up to the root · ``batches``: the batch's record and those behind it in the lane,
    up to the first checkpoint that covers it (the lane's head where none does yet), each with its ``hash`` ·
    ``previous``: the hash in front of them · ``checkpoint``: as signed, or null.

    Raises InputError for an unknown id, IntegrityError where the rows are not there.
    """
    with one_snapshot(connection):
        item = find_line_item(connection, namespace, line_item_id)
        rows, texts = _leaf_rows(connection, item)
        items, digests = _columns(rows), _digests(texts)
        seq = np.array([row[0] for row in rows], dtype=np.int64)
        ids = np.array([row[1].bytes for row in rows], dtype="V16")
        encoded = encoded_rows(items, digests, item.lane, item.batch, seq, ids)
        leaves = np.concatenate([leaf_hashes(encoded, items.account_key), _facts(connection, item)])
        at = next((at for at, row in enumerate(rows) if str(row[1]) == item.document["id"]), -1)
        starts = leaf_starts(items.account_key)
        leaf = int(np.searchsorted(starts, at, side="right")) - 1
        first = int(starts[leaf])
        last = int(starts[leaf + 1]) if leaf + 1 < len(starts) else len(rows)
        checkpoint, signed = _covering(notary, item)
        batches = _batches(connection, item, _last_batch(connection, item, checkpoint))
    return {
        "version": PROOF_VERSION,
        "line_item": item.document,
        "rows": [_row_document(item, rows[number], texts) for number in range(first, last)],
        "row": at - first,
        "leaf": bytes(leaves[leaf]).hex(),
        "path": [[side, sibling.hex()] for side, sibling in merkle.proof(leaves, leaf)],
        "previous": batches[0].pop("previous"),
        "batches": [{name: value for name, value in batch.items() if name != "previous"} for batch in batches],
        "checkpoint": signed,
    }


def check_proof(document: Any) -> bool:
    """Whether a proof holds, by nothing but the document itself.

    True: the line item, as shown, is in a batch from which the chain leads to ``checkpoint``, and that is signed with the
    ``public_key`` it names (compare it with the key you know); without a checkpoint, to the last batch listed.
    """
    try:
        return _holds(document)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, InvalidSignature):
        return False


def _holds(document: dict[str, Any]) -> bool:
    rows, batches = document["rows"], document["batches"]
    row = rows[document["row"]]
    if document["version"] != PROOF_VERSION or document["row"] < 0 or _shown(row) != document["line_item"]:
        return False
    lane, number = batches[0]["lane"], batches[0]["batch"]
    if any((one["lane"], one["batch"]) != (lane, number) or not _is_canonical(one) for one in rows):
        return False
    if {(one["namespace"], one["account"]) for one in rows} != {(batches[0]["namespace"], row["account"])}:
        return False
    texts = {
        "account": {0: (row["namespace"], row["account"])},
        "price": {at: tuple(one[name] for name in _PRICE_TEXT) for at, one in enumerate(rows)},
        "tags": {at: (one["tags"],) for at, one in enumerate(rows)},
    }
    items = _columns([_row_tuple(at, one) for at, one in enumerate(rows)])
    seq = np.array([one["seq"] for one in rows], dtype=np.int64)
    ids = np.array([UUID(one["id"]).bytes for one in rows], dtype="V16")
    leaves = leaf_hashes(encoded_rows(items, _digests(texts), lane, number, seq, ids), items.account_key)
    path = [(_SIDES[side], bytes.fromhex(sibling)) for side, sibling in document["path"]]
    root = merkle.root_from_proof(bytes(leaves[0]), path)
    if len(leaves) != 1 or bytes(leaves[0]).hex() != document["leaf"] or root.hex() != batches[0]["root"]:
        return False
    return _chain_holds(document, lane, number)


def _chain_holds(document: dict[str, Any], lane: int, number: int) -> bool:
    previous = bytes.fromhex(document["previous"])
    for expected, record in enumerate(document["batches"], start=number):
        values: dict[str, Any] = {
            name: bytes.fromhex(record[name]) if name in _BYTES else record[name] for name in _FIELDS
        }
        previous = batch_hash(Batch(**values), previous, record["hash_version"])
        if (record["lane"], record["batch"], record["hash"]) != (lane, expected, previous.hex()):
            return False
    signed = document["checkpoint"]
    if signed is None:
        return True
    heads = {int(at): (int(batch), bytes.fromhex(hashed)) for at, (batch, hashed) in signed["heads"].items()}
    checkpoint = Checkpoint(heads, signed["signed_us"])
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(signed["public_key"])).verify(
        bytes.fromhex(signed["signature"]), checkpoint.root
    )
    last = document["batches"][-1]["batch"]
    told = (signed["version"], signed["root"], signed["signed_at"])
    return told == (1, checkpoint.root.hex(), us_to_text(checkpoint.signed_us)) and heads[lane] == (last, previous)


_PRICE_TEXT = ("pricebook", "price_version", "price", "meter", "unit", "scale", "currency", "content")
Texts = dict[str, dict[int, tuple[Any, ...]]]
"""What dictionary keys stand for: ``account``, ``price`` and ``tags``, each key -> the text that is hashed."""


def _leaf_rows(connection: Connection, item: FoundItem) -> tuple[list[tuple[Any, ...]], Texts]:
    """Every row of the item's batch in the order of the tree, and the text behind their keys."""
    where = {"lane": item.lane, "batch": item.batch}
    rows = connection.execute(SQL.leaf_rows, where, binary=True).fetchall()
    texts: Texts = {}
    for name, query, column in (
        ("account", SQL.leaf_accounts, 2),
        ("price", SQL.leaf_prices, 3),
        ("tags", SQL.leaf_tags, 4),
    ):
        keys = sorted({row[column] for row in rows})
        texts[name] = {found[0]: tuple(found[1:]) for found in connection.execute(query, {"keys": keys}).fetchall()}
        if len(texts[name]) != len(keys):
            raise IntegrityError(f"a row of batch {item.document['batch']} names an unknown {name}", do=_VERIFY)
    return rows, texts


_VERIFY = "Run `lineitem verify`."


def _columns(rows: list[tuple[Any, ...]]) -> LineItems:
    """Rows of ``leaf_rows`` as the columns that are hashed."""
    columns = list(zip(*rows, strict=True))
    return LineItems(
        account_key=np.array(columns[2], dtype=np.int32),
        price_version_key=np.array(columns[3], dtype=np.int32),
        tag_set_key=np.array(columns[4], dtype=np.int32),
        service_month=np.array(columns[5], dtype=np.int32),
        posting_month=np.array(columns[6], dtype=np.int32),
        kind=np.array(columns[7], dtype=np.int16),
        quantity=compact(np.array([int(value) for value in columns[8]], dtype=object)),
        amount_nano=compact(np.array([int(value) for value in columns[9]], dtype=object)),
        event_time_us=np.array(columns[10], dtype=np.int64),
        event_key=np.array([NO_KEY if key is None else key.bytes for key in columns[11]], dtype="V16"),
        event_id=pa.array(columns[12], pa.string()),
    )


def _row_tuple(at: int, row: dict[str, Any]) -> tuple[Any, ...]:
    """A row of the document as ``_columns`` wants it; its own position stands for its keys."""
    key = row["event_key"]
    return (
        row["seq"], row["id"], 0, at, at, row["service_month"], row["posting_month"], row["kind"], row["quantity"],
        row["amount_nano"], row["event_time_us"], None if key is None else UUID(hex=key), row["event_id"],
    )  # fmt: skip


def _row_document(item: FoundItem, row: tuple[Any, ...], texts: Texts) -> dict[str, Any]:
    """One row of a leaf with its texts: all that is hashed of it, numbers beyond 2^53 as text."""
    numbers = {"quantity": str(int(row[8])), "amount_nano": str(int(row[9]))}
    namespace, account = texts["account"][row[2]]
    return {
        "layout": _layout(numbers),
        "kind": row[7],
        "lane": item.lane,
        "batch": item.batch,
        "seq": row[0],
        "id": str(row[1]),
        "namespace": namespace,
        "account": account,
        **dict(zip(_PRICE_TEXT, texts["price"][row[3]], strict=True)),
        "tags": texts["tags"][row[4]][0],
        "service_month": row[5],
        "posting_month": row[6],
        "event_time_us": row[10],
        "event_key": None if row[11] is None else row[11].hex,
        **numbers,
        "event_id": row[12],
    }


def _is_canonical(row: dict[str, Any]) -> bool:
    """Whether a row is written in the one way a proof writes it: no second spelling of the same value passes."""
    key = row["event_key"]
    return (
        row["layout"] == _layout(row)
        and row["id"] == str(UUID(row["id"]))
        and (key is None or key == UUID(hex=key).hex)
        and all(row[name] == str(int(row[name])) for name in ("quantity", "amount_nano"))
    )


def _layout(row: dict[str, Any]) -> int:
    """1 where quantity and amount take 8 bytes, 2 where one of them passes int64."""
    return 1 if all(-(1 << 63) <= int(row[name]) < 1 << 63 for name in ("quantity", "amount_nano")) else 2


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a leaf as `line-items` shows it."""
    return {
        "id": row["id"],
        "account": row["account"],
        "price": row["price"],
        "meter": row["meter"],
        "kind": Kind(row["kind"]).word,
        "quantity": scaled_to_text(int(row["quantity"]), row["scale"]),
        "unit": row["unit"],
        "amount": nano_to_text(int(row["amount_nano"])),
        "currency": row["currency"],
        "event_time": us_to_text(row["event_time_us"]),
        "service_period": str(Month.from_index(row["service_month"])),
        "posting_period": str(Month.from_index(row["posting_month"])),
        "pricebook": row["pricebook"],
        "version": row["price_version"],
        "event_id": row["event_id"],
        "tags": json.loads(row["tags"]),
        "batch": f"{row['lane']}-{row['batch']}",
    }


def _digests(texts: Texts) -> Digests:
    return Digests(
        {key: account_digest(*text) for key, text in texts["account"].items()},
        {key: price_row_digest(*text) for key, text in texts["price"].items()},
        {key: tags_digest(*text) for key, text in texts["tags"].items()},
    )


def _facts(connection: Connection, item: FoundItem) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    where = {"lane": item.lane, "batch": item.batch}
    rows = connection.execute(SQL.leaf_facts, where).fetchall()
    return np.frombuffer(b"".join(fact_leaf(item.lane, item.batch, *row) for row in rows), dtype=merkle.HASH)


def _covering(notary: Notary, item: FoundItem) -> tuple[Checkpoint | None, dict[str, Any] | None]:
    """The first checkpoint signed after the line item's batch, and its file as it stands."""
    for path, checkpoint, problem in notary.check():
        if checkpoint is not None and not problem and checkpoint.heads.get(item.lane, (0, b""))[0] >= item.batch:
            return checkpoint, json.loads(path.read_bytes())
    return None, None


def _last_batch(connection: Connection, item: FoundItem, checkpoint: Checkpoint | None) -> int:
    if checkpoint is not None:
        return checkpoint.heads[item.lane][0]
    row = connection.execute(SQL.head, {"lane": item.lane}).fetchone()
    return item.batch if row is None else int(row[0])


def _batches(connection: Connection, item: FoundItem, last: int) -> list[dict[str, Any]]:
    """The records of a lane's batches from the item's on, fields in the order of hashing."""
    where = {"lane": item.lane, "first": item.batch, "last": last}
    cursor = connection.execute(SQL.batch_records, where)
    names = [column.name for column in cursor.description or ()]
    found = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    if not found or found[0]["batch"] != item.batch:
        raise IntegrityError(f"batch {item.document['batch']} is missing", do=_VERIFY)
    keys = {values["partition_key"] for values in found} - {None}
    partitions = intake.partitions(connection, published.namespaces(connection), sorted(keys))
    return [_record(values, partitions.get(values["partition_key"])) for values in found]


def _record(values: dict[str, Any], partition: Partition | None) -> dict[str, Any]:
    """One batch; ``partition`` is the text the hash covers."""
    values["partition"] = "" if partition is None else partition.description
    record = {name: values[name].hex() if name in _BYTES else values[name] for name in _FIELDS}
    return record | {
        "hash_version": values["hash_version"],
        "previous": values["previous"].hex(),
        "hash": values["hash"].hex(),
    }
