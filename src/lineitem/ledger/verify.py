"""Recompute the whole ledger from its rows and compare: names the first altered batch and what is wrong with it.

Everything is streamed; memory holds the leaf hashes of batches whose rows have not all come by yet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog import canaries, published
from lineitem.catalog.audit import audit, publications, retirements
from lineitem.core.period import Month
from lineitem.ingest import intake
from lineitem.kit.copy import POSTGRES_EPOCH_US, SIGNATURE, TRAILER
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.chain import GENESIS, HASH_VERSION, Batch, accepted_digest, batch_hash, fact_leaf, set_aside_digest
from lineitem.ledger.checkpoint import Notary
from lineitem.ledger.merkle import EMPTY_ROOT, HASH, root
from lineitem.ledger.post import LANES, NO_DIGEST, canonical
from lineitem.ledger.rows import NO_KEY, Digests, encode_rows, gather, leaf_hashes, leaf_numbers
from lineitem.ledger.verify_lifecycle import check_beside, check_canaries, check_lifecycle
from lineitem.ledger.verify_state import check_state
from lineitem.rate.exact import total

SQL = load_queries("lineitem.ledger", "ledger.sql")
_BLOCK_ROWS = 65_536

Place = tuple[int, int]
"""(lane, batch)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was written; ``place`` None where no batch is to blame."""

    place: Place | None
    what: str


@dataclass(slots=True)
class Report:
    """What verifying found; ``ok`` when nothing is wrong."""

    batches: int = 0
    line_items: int = 0
    events: int = 0
    checkpoints: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the ledger says what was written."""
        return not self.findings

    def document(self) -> dict[str, Any]:
        """As ``lineitem verify --json`` prints it."""
        findings = [
            {"batch": None if found.place is None else f"{found.place[0]}-{found.place[1]}", "what": found.what}
            for found in self.findings
        ]
        return {
            "ok": self.ok,
            "batches": self.batches,
            "line_items": self.line_items,
            "accepted_events": self.events,
            "checkpoints": self.checkpoints,
            "counts": self.counts,
            "findings": findings,
        }

    def add(self, place: Place | None, what: str) -> None:
        """Note a finding."""
        self.findings.append(Finding(place, what))


@dataclass(slots=True)
class _Sum:
    """What has come by of one batch's rows, by ``seq``."""

    rows: list[bytes]
    account: NDArray[np.int32]
    seen: NDArray[np.bool_]
    sums: dict[str, int] = field(default_factory=dict)
    left: int = 0


Progress = Callable[[str, int], None]
"""Called with what is being read and how many rows of it have been."""


def verify(connection: Connection, notary: Notary, progress: Progress) -> Report:
    """Check chain, rows, accepted events, dead letters, totals, catalog and checkpoints, all in one snapshot."""
    report = Report()
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        links = _read_chain(connection, report)
        _check_rows(connection, links, report, progress)
        _check_accepted(connection, links, report, progress)
        _check_set_aside(connection, links, report)
        _check_positions(connection, links, report)
        _check_totals(connection, links, report)
        _check_catalog(connection, links, report)
        _check_periods(connection, report)
        for place, what in check_state(connection, _recorded(connection, "retraction")):
            report.add(place, what)
        _check_checkpoints(links, notary, report)
    report.findings.sort(key=lambda found: (found.place is None, found.place or (0, 0)))
    return report


@dataclass(slots=True)
class _Link:
    batch: Batch
    namespace_key: int
    partition_key: int | None
    hash: bytes


def _read_chain(connection: Connection, report: Report) -> dict[Place, _Link]:
    """Recompute every hash; the order within a lane must be gapless and each link name the one before."""
    namespaces = published.namespaces(connection)
    partitions = intake.partitions(connection, namespaces)
    heads = {lane: (batch, hashed) for lane, batch, hashed in connection.execute(SQL.lanes).fetchall()}
    links: dict[Place, _Link] = {}
    last: dict[int, tuple[int, bytes]] = dict.fromkeys(heads, (0, GENESIS))
    names = [column.name for column in fields(Batch)]
    with connection.cursor(name="batches") as cursor:
        cursor.itersize = 2000
        cursor.execute(SQL.batches)
        columns = [column.name for column in cursor.description or ()]
        for row in cursor:
            values = dict(zip(columns, row, strict=True))
            place = (values["lane"], values["batch"])
            key = values["partition_key"]
            values["partition"] = "" if key is None else partitions[key].description if key in partitions else "?"
            values["namespace"] = values["namespace"] or "?"
            batch = Batch(**{name: values[name] for name in names})
            number, previous = last.get(place[0], (0, GENESIS))
            if batch.batch != number + 1:
                report.add((place[0], number + 1), "batch is missing from its lane")
            if values["previous"] != previous:
                report.add(place, "does not continue the batch before it")
            if values["hash_version"] != HASH_VERSION:
                report.add(place, f"its hash is of version {values['hash_version']}, which this engine does not know")
            elif batch_hash(batch, values["previous"]) != values["hash"]:
                report.add(place, "its record was altered: the hash does not match")
            last[place[0]] = (batch.batch, values["hash"])
            links[place] = _Link(batch, values["namespace_key"], key, values["hash"])
            report.batches += 1
    for lane in sorted((last.keys() | set(range(LANES + 1))) - heads.keys()):
        report.add((lane, last.get(lane, (0, GENESIS))[0]), "the lane has lost its head")
    for lane, head in heads.items():
        if last.get(lane) != head:
            report.add((lane, last[lane][0] + 1), f"the lane's head says {head[0]} batches, {last[lane][0]} are there")
    for name in ("received", "itemized", "pending", "duplicate", "dead_lettered", "not_billable"):
        report.counts[name] = sum(getattr(link.batch, name) for link in links.values())
    return links


def _check_rows(connection: Connection, links: dict[Place, _Link], report: Report, progress: Progress) -> None:
    """Leaf hashes of all line items and facts, Merkle roots, and sums per currency."""
    open_batches: dict[Place, _Sum] = {}
    strangers: dict[Place, int] = {}
    digests, currency = _digests(connection)
    facts = _facts(connection)

    def batch_of(place: Place) -> _Sum | None:
        if place not in open_batches:
            link = links.get(place)
            if link is None or link.batch.line_items < 0:
                return None
            count = link.batch.line_items
            empty = np.zeros(count, dtype=np.int32)
            open_batches[place] = _Sum([b""] * count, empty, np.zeros(count, dtype=np.bool_), {}, count)
        return open_batches[place]

    done: set[Place] = set()
    for rows, encoded, amounts in _encoded(connection, digests, report):
        for place, at in _by_batch(rows):
            found = None if place in done else batch_of(place)
            seq = rows["seq"][at].astype(np.int64)
            if found is None or seq.min(initial=0) < 0 or seq.max(initial=0) >= len(found.rows):
                strangers[place] = strangers.get(place, 0) + len(at)
                continue
            if (rows["namespace"][at] != links[place].namespace_key).any():
                report.add(place, "a line item of it stands in another namespace")
            if found.seen[seq].any() or len(np.unique(seq)) < len(seq):
                report.add(place, "two line items claim the same place")
            for number, row in zip(seq.tolist(), at.tolist(), strict=True):
                found.rows[number] = encoded[row]
            found.account[seq], found.seen[seq] = rows["account"][at], True
            _add_sums(found.sums, amounts[at], rows["price"][at], currency)
            found.left -= len(at)
            if found.left == 0:
                _close(place, links[place].batch, open_batches.pop(place), facts.pop(place, []), report)
                done.add(place)
        report.line_items += len(rows)
        progress("line items", report.line_items)
    for place, link in links.items():
        if place not in done:
            rest = open_batches.pop(place, None) or batch_of(place)
            assert rest is not None
            _close(place, link.batch, rest, facts.pop(place, []), report)
    for place, count in strangers.items():
        report.add(place, f"{count} line items do not belong to it")
    for place in facts:
        report.add(place, "facts do not belong to it")


def _close(place: Place, batch: Batch, found: _Sum, facts: list[tuple[int, str, str]], report: Report) -> None:
    """All rows of a batch have come by, or no more will: compare."""
    missing = int((~found.seen).sum())
    if missing:
        report.add(place, f"{missing} of its {batch.line_items} line items are missing")
        return
    if [seq for seq, _, _ in facts] != list(range(batch.line_items, batch.line_items + batch.facts)):
        report.add(place, f"{batch.facts} facts were recorded, {len(facts)} are there")
        return
    fact_leaves = [fact_leaf(*place, seq, kind, body) for seq, kind, body in facts]
    leaves = np.concatenate([leaf_hashes(found.rows, found.account), np.frombuffer(b"".join(fact_leaves), dtype=HASH)])
    if (root(leaves) if len(leaves) else EMPTY_ROOT) != batch.root:
        report.add(place, "a line item or fact was altered: the Merkle root does not match")
    if canonical({name: str(value) for name, value in found.sums.items()}) != batch.sums:
        report.add(place, "its sums do not match its line items")


def _facts(connection: Connection) -> dict[Place, list[tuple[int, str, str]]]:
    facts: dict[Place, list[tuple[int, str, str]]] = {}
    for lane, batch, seq, kind, body in connection.execute(SQL.facts).fetchall():
        facts.setdefault((lane, batch), []).append((seq, kind, body))
    return facts


def _digests(connection: Connection) -> tuple[Digests, dict[int, str]]:
    """Digests of every dictionary row as it is now, and each price version's currency."""
    accounts, prices, tags, currency = published.digests(connection)
    return Digests(accounts, prices, tags), currency


_PLAIN: list[tuple[str, str]] = [("fields", ">i2")]
for _name, _type in (
    ("lane", ">i2"), ("batch", ">i8"), ("seq", ">i4"), ("id", "V16"), ("account", ">i4"), ("price", ">i4"),
    ("tags", ">i4"), ("namespace", ">i4"), ("service_month", ">i4"), ("posting_month", ">i4"), ("kind", ">i2"),
    ("quantity", ">i8"),
    ("amount_nano", ">i8"), ("event_time_us", ">i8"), ("event_key", "V16"),
):  # fmt: skip
    _PLAIN += [(f"{_name}_len", ">i4"), (_name, _type)]
_PLAIN.append(("event_id_len", ">i4"))
_PLAIN_BYTES = np.dtype(_PLAIN).itemsize
_PLACE = np.dtype(
    [("lane", ">i2"), ("batch", ">i8"), ("seq", ">i4"), ("price", ">i4"), ("account", ">i4"), ("namespace", ">i4")]
)


def _encoded(
    connection: Connection, digests: Digests, report: Report
) -> Iterator[tuple[NDArray[np.void], list[bytes], NDArray[Any]]]:
    """Blocks of (places, encoded rows, amounts in nano-units) of every line item."""
    for width, rows in _plain_blocks(connection):
        length = width - _PLAIN_BYTES
        layout = np.dtype([*_PLAIN, ("event_id", f"S{length}")]) if length else np.dtype(_PLAIN)
        data = np.frombuffer(b"".join(rows), dtype=layout)
        for null in (True, False):
            part = data[(data["event_id_len"] == -1) == null]
            if len(part):
                columns = _resolved(part, digests)
                columns["quantity"], columns["amount_nano"] = part["quantity"], part["amount_nano"]
                columns["event_time_us"] = part["event_time_us"] + POSTGRES_EPOCH_US
                if length:
                    columns["event_id"] = part["event_id"]
                made = encode_rows(None if null else length, False, columns)
                yield _places(part), made, part["amount_nano"].astype(np.int64)
    yield from _encoded_odd(connection, digests, report)


def _plain_blocks(connection: Connection) -> Iterator[tuple[int, list[bytes]]]:
    """Rows in wire format, grouped by width: one CopyData message is one row, so nothing has to be parsed to cut them."""
    groups: dict[int, list[bytes]] = {}
    with connection.cursor() as cursor, cursor.copy(SQL.copy_out_line_items) as copy:
        first = True
        while data := copy.read():
            row = bytes(data)
            if first:
                row, first = row[len(SIGNATURE) :], False
            if len(row) <= len(TRAILER):
                continue
            group = groups.setdefault(len(row), [])
            group.append(row)
            if len(group) >= _BLOCK_ROWS:
                yield len(row), groups.pop(len(row))
    yield from groups.items()


def _resolved(part: NDArray[np.void], digests: Digests) -> dict[str, Any]:
    """Leaf columns that need a dictionary; a key nobody knows resolves to zeros, so its leaf cannot match."""
    names = ("kind", "lane", "batch", "seq", "id", "service_month", "posting_month", "event_key")
    columns: dict[str, Any] = {name: part[name] for name in names}
    for name, table in (("account", digests.account), ("price", digests.price), ("tags", digests.tags)):
        known = {key: table.get(key, bytes(32)) for key in np.unique(part[name]).tolist()}
        columns[name] = gather(known, part[name])
    return columns


def _places(part: NDArray[np.void]) -> NDArray[np.void]:
    places = np.empty(len(part), dtype=_PLACE)
    for name in ("lane", "batch", "seq", "price", "account", "namespace"):
        places[name] = part[name]
    return places


def _encoded_odd(
    connection: Connection, digests: Digests, report: Report
) -> Iterator[tuple[NDArray[np.void], list[bytes], NDArray[Any]]]:
    """Rows with wide numbers, one at a time: they are rare."""
    for row in connection.execute(SQL.odd_line_items).fetchall():
        lane, batch, seq, id_, account, price, tags, namespace, service, posting, kind, quantity, amount, *rest = row
        time, key, event, bad = rest
        if bad or (key is None) != (event is None):
            report.add((lane, batch), f"line item {id_} has a shape the engine never writes")
            continue
        text = None if event is None else event.encode()
        columns = {
            "kind": np.array([kind]), "lane": lane, "batch": batch, "seq": np.array([seq]),
            "id": np.void(id_.bytes), "account": np.void(digests.account.get(account, bytes(32))),
            "price": np.void(digests.price.get(price, bytes(32))), "tags": np.void(digests.tags.get(tags, bytes(32))),
            "service_month": service, "posting_month": posting, "event_time_us": time,
            "event_key": np.void(NO_KEY if key is None else key.bytes),
            "quantity": leaf_numbers([int(quantity)], True), "amount_nano": leaf_numbers([int(amount)], True),
        }  # fmt: skip
        if text:
            columns["event_id"] = np.array([text])
        made = encode_rows(None if text is None else len(text), True, columns)
        place = np.array([(lane, batch, seq, price, account, namespace)], dtype=_PLACE)
        yield place, made, np.array([int(amount)], dtype=object)


def _by_batch(rows: NDArray[np.void]) -> Iterator[tuple[Place, NDArray[np.int64]]]:
    """Each batch of a block with the positions of its rows."""
    code = rows["batch"].astype(np.int64) * 65536 + rows["lane"]
    distinct, inverse = np.unique(code, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    cuts = np.cumsum(np.bincount(inverse))[:-1]
    for value, at in zip(distinct.tolist(), np.split(order, cuts), strict=True):
        yield (value % 65536, value // 65536), at


def _add_sums(sums: dict[str, int], amounts: NDArray[Any], prices: NDArray[np.int32], currency: dict[int, str]) -> None:
    for price in np.unique(prices).tolist():
        name = currency.get(price, "?")
        sums[name] = sums.get(name, 0) + total(amounts[prices == price])


_IDENTITY = np.dtype(
    [("fields", ">i2"), ("l1", ">i4"), ("lane", ">i2"), ("l2", ">i4"), ("batch", ">i8"), ("l3", ">i4"), ("ordinal", ">i4"),
     ("l4", ">i4"), ("key", "V16"), ("l5", ">i4"), ("digest", "V16"), ("l6", ">i4"), ("namespace", ">i4")]
)  # fmt: skip


def _check_accepted(connection: Connection, links: dict[Place, _Link], report: Report, progress: Progress) -> None:
    """Accepted events against each batch's digest over them."""
    parts: dict[Place, list[NDArray[np.void]]] = {}
    wanted = {place: link.batch for place, link in links.items() if link.partition_key is not None}
    foreign: set[Place] = set()
    with connection.cursor() as cursor, cursor.copy(intake.COPY_OUT_IDENTITIES) as copy:
        for rows in _fixed_blocks(copy, _IDENTITY):
            for place, at in _by_batch(rows):
                parts.setdefault(place, []).append(rows[at][["ordinal", "key", "digest"]])
                if place in links and (rows["namespace"][at] != links[place].namespace_key).any():
                    foreign.add(place)
            report.events += len(rows)
            progress("events", report.events)
    for place in sorted(foreign):
        report.add(place, "an accepted event of it stands in another namespace")
    for place in sorted(set(parts) | set(wanted)):
        batch = wanted.get(place)
        if batch is None:
            report.add(place, "accepted events name it, which is no batch of usage")
            continue
        rows = np.concatenate(parts.pop(place, [np.zeros(0, dtype=_IDENTITY)[["ordinal", "key", "digest"]]]))
        digest = accepted_digest(rows["key"], rows["digest"], rows["ordinal"].astype(np.int32))
        if digest != batch.accepted_digest:
            report.add(place, "the accepted events are not those it recorded")
        elif len(rows) != batch.itemized + batch.pending + batch.not_billable:
            report.add(place, "its counts do not match its accepted events")


def _fixed_blocks(copy: Any, layout: np.dtype[np.void]) -> Iterator[NDArray[np.void]]:
    rows: list[bytes] = []
    first = True
    while data := copy.read():
        row = bytes(data)
        if first:
            row, first = row[len(SIGNATURE) :], False
        if len(row) == layout.itemsize:
            rows.append(row)
        if len(rows) >= _BLOCK_ROWS:
            yield np.frombuffer(b"".join(rows), dtype=layout)
            rows = []
    if rows:
        yield np.frombuffer(b"".join(rows), dtype=layout)


def _check_set_aside(connection: Connection, links: dict[Place, _Link], report: Report) -> None:
    """Dead letters against each batch's digest over them."""
    sightings: dict[Place, list[tuple[int, bytes]]] = {}
    for lane, batch, ordinal, mark in intake.sightings(connection):
        sightings.setdefault((lane, batch), []).append((ordinal, mark))
    for place, link in links.items():
        seen = sightings.pop(place, [])
        expected = set_aside_digest(seen) if link.partition_key is not None else NO_DIGEST
        if expected != link.batch.set_aside_digest or len(seen) != link.batch.dead_lettered:
            report.add(place, "the dead letters are not those it recorded")
    for place in sightings:
        report.add(place, "dead letters name it, which is no batch")


def _check_positions(connection: Connection, links: dict[Place, _Link], report: Report) -> None:
    """Each partition's batches join without hole or overlap, up to its position."""
    reached: dict[int, int] = {}
    partitions = intake.partitions(connection, published.namespaces(connection))
    for place, link in sorted(links.items()):
        if link.partition_key is None:
            continue
        if link.batch.position_start != reached.get(link.partition_key, 0):
            report.add(place, "records before it were skipped or read twice")
        reached[link.partition_key] = link.batch.position_end
        if link.partition_key in partitions and partitions[link.partition_key].lane != place[0]:
            report.add(place, "it stands in another lane than the records it read")
    for key, partition in partitions.items():
        if partition.next != reached.get(key, 0):
            report.add(
                None, f"stream {partition.stream} stands at {partition.next}, its batches end at {reached.get(key, 0)}"
            )


def _check_totals(connection: Connection, links: dict[Place, _Link], report: Report) -> None:
    """Running usage is the sum of its line items plus what waits; what waits is what the batches left pending."""
    for row in connection.execute(SQL.unbalanced_targets).fetchall():
        month = Month.from_index(row[2])
        report.add(None, f"running usage of account {row[0]}, price {row[1]}, {month} is not the sum of its line items")
    waiting = connection.execute(SQL.pending_events).fetchone()
    if waiting is not None and waiting[0] != report.counts["pending"]:
        report.add(None, f"{waiting[0]} events wait, the batches left {report.counts['pending']}")
    counts = report.counts
    parts = sum(counts[name] for name in ("itemized", "pending", "duplicate", "dead_lettered", "not_billable"))
    if counts["received"] != parts:
        report.add(None, f"received {counts['received']} records, accounted for {parts}")


def _recorded(connection: Connection, kind: str) -> dict[Place, tuple[dict[str, Any], str]]:
    """Facts of one kind by place: document and text. One that cannot be read any more its batch's root gives away."""
    found = {}
    for lane, batch, _, stored, body in connection.execute(SQL.facts).fetchall():
        if stored == kind:
            try:
                fact = json.loads(body)
            except ValueError:
                continue
            if isinstance(fact, dict) and fact.keys() >= _FACT_KEYS[kind]:
                found[(lane, batch)] = (fact, body)
    return found


_FACT_KEYS = {
    "publish": {"namespace", "revision", "digest"},
    "draft": {"namespace", "draft", "step", "act", "by", "note", "what", "base_revision", "digest"},
    "retire": {"namespace", "revision", "pricebook", "version", "end_us", "by"},
    "canary": {"namespace", "revision", "by", "canary", "digest", "holds"},
    "canary_check": {"namespace", "canary", "digest"},
    "period": {"namespace", "month", "state"},
    "retraction": {"namespace", "source", "id"},
}


def _check_catalog(connection: Connection, links: dict[Place, _Link], report: Report) -> None:
    """Published documents are those the chain recorded, and everything else of the catalog is what they say."""
    recorded = {
        (fact["namespace"], fact["revision"]): (place, fact["digest"])
        for place, (fact, _) in _recorded(connection, "publish").items()
    }
    published_now = publications(connection)
    for one in published_now:
        place, digest = recorded.get((one.namespace, one.revision), (None, ""))
        when = links[place].batch.recorded_us if place in links else None
        if sha256(one.document.encode()).hexdigest() != digest or one.published_us != when:
            report.add(place, f"catalog revision {one.revision} of {one.namespace} is not what was published")
    for namespace, revision in sorted(recorded.keys() - {(one.namespace, one.revision) for one in published_now}):
        report.add(recorded[(namespace, revision)][0], f"catalog revision {revision} of {namespace} is missing")
    tried = canaries.stored(connection)
    for defect in audit(connection, published_now, retirements(connection), tried):
        place, _ = recorded.get((defect.namespace, defect.revision), (None, ""))
        report.add(place, f"catalog of {defect.namespace}: {defect.what}")
    recorded_us = {at: link.batch.recorded_us for at, link in links.items()}
    steps, ends = _recorded(connection, "draft"), _recorded(connection, "retire")
    for place, what in check_lifecycle(connection, steps, ends, recorded_us):
        report.add(place, what)
    for place, what in check_canaries(tried, _recorded(connection, "canary"), recorded_us):
        report.add(place, what)
    for place, what in check_beside(connection, _recorded(connection, "canary_check")):
        report.add(place, what)


def _check_periods(connection: Connection, report: Report) -> None:
    """Each month's state is the one recorded last."""
    recorded: dict[tuple[str, int], str] = {}
    for _, (fact, _) in sorted(_recorded(connection, "period").items()):
        recorded[(fact["namespace"], fact["month"])] = fact["state"]
    stored = {(row[0], row[1]): row[2] for row in connection.execute(SQL.periods).fetchall()}
    for key in sorted(recorded.keys() | stored.keys()):
        if recorded.get(key, "open") != stored.get(key, "open"):
            report.add(
                None,
                f"period {Month.from_index(key[1])} of {key[0]} is {stored.get(key)}, recorded {recorded.get(key)}",
            )


def _check_checkpoints(links: dict[Place, _Link], notary: Notary, report: Report) -> None:
    """The ledger must extend every checkpoint: a cut tail or a restored old copy does not."""
    for path, checkpoint, problem in notary.check():
        report.checkpoints += 1
        if checkpoint is None:
            report.add(None, f"checkpoint {path.name} {problem}")
            continue
        for lane, (batch, hashed) in checkpoint.heads.items():
            link = links.get((lane, batch))
            if batch and (link is None or link.hash != hashed):
                state = "is missing" if link is None else "is not the one that was signed"
                report.add((lane, batch), f"{state} (checkpoint {path.name})")
                break
