"""What must hold after every fault: I1 to I10, checked by one function against a pure oracle and the database itself."""

from __future__ import annotations

import json
import resource
from collections import Counter
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from hashlib import sha256
from itertools import pairwise
from typing import Any

import psycopg

from lineitem.kit.db import connect
from tests.acceptance.command import Command
from tests.faults.workload import Expected, Target

MEMORY_MAX_MB = 700
"""Resident memory the largest process of ``lineitem`` may ever have needed; batches here are small."""
_KINDS = ("received", "itemized", "pending", "duplicate", "dead_lettered", "not_billable")
_BATCHES = "select lane, batch, hash from ledger.batch"
_POSITIONS = """
select stream, next, array_agg(int8range(position_start, position_end)::text order by position_start)
from ingest.partition left join ledger.batch using (partition_key) group by partition_key, stream, next
"""
_LINEAGES = """
select l.root, l.head, count(s.line_item), count(*) filter (where s.line_item = l.head) from ledger.lineage l
left join ledger.supersession s on s.root = l.root group by l.root, l.head
"""
_INVOICES = "select series, serial, document from billing.invoice order by series, serial"


@dataclass(slots=True)
class Watched:
    """What was seen of a ledger before, which must still be there. ``closed``: month -> what ``period show`` said."""

    batches: dict[tuple[int, int], bytes] = field(default_factory=dict)
    checkpoints: int = 0
    closed: dict[str, Any] = field(default_factory=dict)
    invoices: dict[str, str] = field(default_factory=dict)


def check(command: Command, dsn: str, expected: Expected, watched: Watched) -> None:
    """Everything of ``expected`` has been read by now. Raises AssertionError that begins with the invariant's name."""
    report = command.json("verify", "--deep", code=0)
    assert report["findings"] == [], f"I5: {report['findings']}"
    assert report["checkpoints"] >= watched.checkpoints, "I5: a checkpoint has gone"
    watched.checkpoints = report["checkpoints"]
    _counts(report, expected)
    items = command.line_items()
    _sums(items, expected)
    with connect(dsn) as connection:
        _identities(connection, expected)
        _batches(connection, watched)
        _positions(connection)
        _lineages(connection)
        _invoices(connection, watched, items)
    for month, then in watched.closed.items():
        assert command.json("period", "show", month) == then, f"I8: {month} has changed"
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    assert peak_mb <= MEMORY_MAX_MB, f"I10: a process needed {peak_mb} MB"


def remember(dsn: str, watched: Watched) -> None:
    """Note what the ledger has committed so far, for instance while it is about to be struck."""
    with connect(dsn) as connection:
        watched.batches |= _known(connection)


def _counts(report: dict[str, Any], expected: Expected) -> None:
    counts = {name: report["counts"][name] for name in _KINDS}
    parts = sum(counts[name] for name in _KINDS if name != "received")
    assert counts["received"] == parts, f"I9: {counts}"
    wanted = {name: expected.counts[name] for name in _KINDS}
    assert counts == wanted, f"I9: the ledger has {counts}, the producer says {wanted}"
    assert report["accepted_events"] == expected.accepted, "I2: accepted events"


def _sums(items: list[dict[str, Any]], expected: Expected) -> None:
    sums: Counter[Target] = Counter()
    each: list[str] = []
    for item in items:
        assert item["currency"] == "USD", f"I4: {item}"
        sums[item["account"], item["price"], item["service_period"]] += int(Decimal(item["amount"]).scaleb(9))
        if item["price"] == "token" and item["event_id"]:
            each.append(item["event_id"])
    wanted = expected.sums_nano
    wrong = {
        target: (sums[target], wanted.get(target, 0))
        for target in sums | wanted
        if sums[target] != wanted.get(target, 0)
    }
    assert not wrong, f"I1: (ledger, oracle) of {wrong}"
    assert sum(sums.values()) == sum(expected.amounts_nano.values()), "I4: the total"
    assert len(each) == len(set(each)), "I1: billed twice"
    assert set(each) == expected.each, f"I1: {set(each) ^ expected.each}"


def _identities(connection: psycopg.Connection, expected: Expected) -> None:
    """Keys as docs/reference/chain.md defines them, hashed here a second time."""
    found = {row[0].bytes for row in connection.execute("select key from ingest.identity")}
    wanted = {_key("default", *identity) for identity in expected.contents}
    assert found == wanted, f"I2: {len(wanted - found)} identities lost, {len(found - wanted)} too many"


def _key(*parts: str) -> bytes:
    texts = [part.encode() for part in parts]
    return sha256(b"".join(len(text).to_bytes(4, "big") + text for text in texts)).digest()[:16]


def _known(connection: psycopg.Connection) -> dict[tuple[int, int], bytes]:
    return {(lane, batch): hashed for lane, batch, hashed in connection.execute(_BATCHES)}


def _batches(connection: psycopg.Connection, watched: Watched) -> None:
    found = _known(connection)
    changed = [place for place, hashed in watched.batches.items() if found.get(place) != hashed]
    assert not changed, f"I2, I5: batches {changed} were there and are gone or altered"
    watched.batches = found


def _positions(connection: psycopg.Connection) -> None:
    for stream, position, ranges in connection.execute(_POSITIONS):
        places = [tuple(int(end) for end in one.strip("[)").split(",")) for one in ranges if one]
        assert all(before[1] == after[0] for before, after in pairwise(places)), f"I3: {stream}: {places}"
        assert position == (places[-1][1] if places else 0), f"I3: {stream} stands at {position}, batches: {places}"


def _lineages(connection: psycopg.Connection) -> None:
    for root, head, versions, heads in connection.execute(_LINEAGES):
        assert heads == 1 or (versions == 0 and head == root), f"I6: lineage {root} has {heads} current versions"


def _invoices(connection: psycopg.Connection, watched: Watched, items: list[dict[str, Any]]) -> None:
    serials: dict[str, list[int]] = {}
    billed: Counter[str] = Counter()
    for series, serial, text in connection.execute(_INVOICES):
        serials.setdefault(series, []).append(serial)
        number = f"{series}-{serial}"
        assert watched.invoices.setdefault(number, text) == text, f"I7: invoice {number} has changed"
        invoice = json.loads(text)
        lines = invoice["lines"]
        assert Decimal(invoice["total"]) == sum(Decimal(one["amount"]) for one in lines), f"I7: {number}"
        for one in lines:
            exact = Decimal(one["amount_exact"])
            assert Decimal(one["amount"]) == exact.quantize(Decimal("0.01"), ROUND_HALF_UP), f"I7: {number}: {one}"
            billed[invoice["account"]] += int(exact.scaleb(9))
    for series, found in serials.items():
        assert found == list(range(1, len(found) + 1)), f"I7: series {series} has gaps: {found}"
    assert set(watched.invoices) <= {f"{series}-{one}" for series, found in serials.items() for one in found}, (
        "I7: gone"
    )
    owed: Counter[str] = Counter()
    for item in items:
        owed[item["account"]] += int(Decimal(item["amount"]).scaleb(9))
    over = {account: (amount, owed[account]) for account, amount in billed.items() if amount > owed[account]}
    assert not over, f"I7: more is invoiced than was itemized: {over}"
