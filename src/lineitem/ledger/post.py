"""Write one batch: its rows, its place in the lane's chain, its counts. Everything happens in the caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineitem import __version__
from lineitem.core.errors import IntegrityError
from lineitem.kit.copy import copy_rows
from lineitem.kit.db import Connection
from lineitem.kit.failpoint import failpoint
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.chain import HASH_VERSION, Batch, BatchKind, batch_hash, fact_leaf
from lineitem.ledger.merkle import EMPTY_ROOT, HASH, root
from lineitem.ledger.rows import Digests, LineItems, copy_payloads, encoded_rows, leaf_hashes, make_ids
from lineitem.rate.exact import total

SQL = load_queries("lineitem.ledger", "ledger.sql")
LANES = 4
"""Lanes for usage, 1..LANES; lane 0 is for what people and billing do."""
NO_DIGEST = b""


@dataclass(frozen=True, slots=True)
class Head:
    """A lane's newest batch, held locked by the transaction that read it."""

    lane: int
    batch: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Counts:
    """Where the records of a batch went; they always add up to ``received``."""

    received: int = 0
    itemized: int = 0
    pending: int = 0
    duplicate: int = 0
    dead_lettered: int = 0
    not_billable: int = 0

    def __add__(self, other: Counts) -> Counts:
        mine, theirs = asdict(self), asdict(other)
        return Counts(**{name: mine[name] + theirs[name] for name in mine})


def outcomes(counts: Counts) -> dict[str, int]:
    """Records by what became of them; together they are ``received``."""
    found: dict[str, int] = asdict(counts)
    del found["received"]
    return found


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the records of a batch came from; all empty for what people and billing do."""

    partition_key: int | None = None
    partition: str = ""
    position_start: int = 0
    position_end: int = 0
    segment: str = ""
    records_digest: bytes = NO_DIGEST
    accepted_digest: bytes = NO_DIGEST
    set_aside_digest: bytes = NO_DIGEST
    event_time_min: int = 0
    event_time_max: int = 0


@dataclass(frozen=True, slots=True)
class Fact:
    """What people and billing did, as canonical JSON."""

    kind: str
    body: str


def canonical(document: object) -> str:
    """Canonical JSON text of a fact, a cut, sums: sorted keys, no spaces, no floats in it."""
    return json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def lock_lane(connection: Connection, lane: int) -> Head:
    """Take the lane; other batches of it wait until this transaction ends."""
    row = connection.execute(SQL.lock_lane, {"lane": lane}).fetchone()
    if row is None:
        raise IntegrityError(f"lane {lane} is missing", do="Restore the database from a backup.")
    return Head(lane, row[0], row[1])


def write_batch(
    connection: Connection,
    head: Head,
    namespace: str,
    namespace_key: int,
    kind: BatchKind,
    *,
    items: LineItems | None = None,
    currencies: Sequence[str] | NDArray[np.str_] = (),
    digests: Digests | None = None,
    facts: Sequence[Fact] = (),
    counts: Counts | None = None,
    origin: Origin | None = None,
    catalog_revision: int,
    recorded_us: int,
    busy: Future[None] | None = None,
) -> Batch:
    """Append one batch behind ``head`` and move the lane.

    ``currencies``: (n,) currency of each line item. ``digests`` resolves the keys in ``items``. Months must have their
    partition (``ensure_months``). ``busy``: what another thread still does on ``connection``; rows are encoded meanwhile,
    and what it raises is raised here.
    """
    counts, origin = counts or Counts(), origin or Origin()
    number = head.batch + 1
    leaves = np.zeros(0, dtype=HASH)
    payloads: list[NDArray[np.void]] = []
    wide: list[tuple[Any, ...]] = []
    try:
        if items is not None and len(items):
            assert digests is not None
            seq = np.arange(len(items), dtype=np.int64)
            ids = make_ids(head.lane, number, recorded_us, seq)
            payloads, wide = copy_payloads(items, namespace_key, head.lane, number, seq, ids)
            leaves = leaf_hashes(encoded_rows(items, digests, head.lane, number, seq, ids), items.account_key)
    finally:
        if busy is not None:
            busy.result()  # the transaction may not end before, whatever happened here
    if payloads:
        copy_rows(connection, SQL.copy_line_items, payloads)
    with connection.cursor() as cursor:
        cursor.executemany(SQL.add_wide_line_item, wide)
    line_items = 0 if items is None else len(items)
    leaves = np.concatenate([leaves, _add_facts(connection, head.lane, number, line_items, namespace_key, facts)])
    batch = Batch(
        lane=head.lane,
        batch=number,
        namespace=namespace,
        kind=int(kind),
        partition=origin.partition,
        position_start=origin.position_start,
        position_end=origin.position_end,
        **asdict(counts),
        line_items=line_items,
        facts=len(facts),
        sums=sums_by_currency(items, currencies),
        event_time_min=origin.event_time_min,
        event_time_max=origin.event_time_max,
        catalog_revision=catalog_revision,
        segment=origin.segment,
        records_digest=origin.records_digest,
        accepted_digest=origin.accepted_digest,
        set_aside_digest=origin.set_aside_digest,
        root=root(leaves) if len(leaves) else EMPTY_ROOT,
        engine_version=__version__,
        recorded_us=recorded_us,
    )
    hashed = batch_hash(batch, head.hash)
    values = asdict(batch) | {
        "namespace_key": namespace_key,
        "partition_key": origin.partition_key,
        "previous": head.hash,
        "hash": hashed,
        "hash_version": HASH_VERSION,
    }
    connection.execute(SQL.add_batch, values)
    connection.execute(SQL.move_lane, {"lane": head.lane, "batch": number, "hash": hashed})
    failpoint("before_commit")
    return batch


def _add_facts(
    connection: Connection, lane: int, batch: int, first_seq: int, namespace_key: int, facts: Sequence[Fact]
) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    leaves = []
    for seq, fact in enumerate(facts, start=first_seq):
        leaves.append(fact_leaf(lane, batch, seq, fact.kind, fact.body))
        values = {"lane": lane, "batch": batch, "seq": seq, "namespace_key": namespace_key}
        connection.execute(SQL.add_fact, values | {"kind": fact.kind, "body": fact.body})
    return np.frombuffer(b"".join(leaves), dtype=HASH)


def sums_by_currency(items: LineItems | None, currencies: Sequence[str] | NDArray[np.str_]) -> str:
    """Exact sums of amounts per currency, nano-units as text, canonical JSON."""
    if items is None or not len(items):
        return "{}"
    names = np.asarray(currencies)
    return canonical({name: str(total(items.amount_nano[names == name])) for name in np.unique(names).tolist()})


def ensure_months(connection: Connection, months: Sequence[int]) -> None:
    """Make the partitions of posting months; run outside the batch's transaction, it takes locks on the parent."""
    for month in months:
        connection.execute(SQL.ensure_month, {"month": month})


def summarize_ranges(connection: Connection) -> None:
    """Let look-ups find the newest rows by index at once instead of after the next autovacuum."""
    connection.execute(SQL.summarize_ranges)
