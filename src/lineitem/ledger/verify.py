"""Recompute the whole ledger from its rows and compare: names the first altered batch and what is wrong with it.

Everything is streamed; memory holds the rows of batches whose rows have not all come by yet.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from lineitem.catalog import canaries, published
from lineitem.catalog.audit import audit, publications, retirements
from lineitem.core.period import Month
from lineitem.ingest import held, intake, sequences
from lineitem.kit.db import Connection, asked_beside
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger import carried, gaps
from lineitem.ledger.chain import GENESIS, HASH_VERSION, Batch, batch_hash, set_aside_digest
from lineitem.ledger.checkpoint import Checkpoint, Notary
from lineitem.ledger.fx import check_rates
from lineitem.ledger.post import LANES, NO_DIGEST
from lineitem.ledger.report import Link, Place, Progress, Report
from lineitem.ledger.revert import FACT as REVERT
from lineitem.ledger.schemas import check_schemas
from lineitem.ledger.verify_accepted import check_accepted
from lineitem.ledger.verify_backfills import check_backfills
from lineitem.ledger.verify_credits import check_credits
from lineitem.ledger.verify_held import FACT_HELD, SWITCH_FACTS, check_held, check_switches
from lineitem.ledger.verify_letters import LETTER_FACTS, check_letter_acts
from lineitem.ledger.verify_lifecycle import check_beside, check_canaries, check_lifecycle
from lineitem.ledger.verify_rows import check_line_items
from lineitem.ledger.verify_sequences import check_sequences
from lineitem.ledger.verify_state import check_seen, check_settled, check_state

SQL = load_queries("lineitem.ledger", "ledger.sql")
Signed = Sequence[tuple[Path, Checkpoint | None, str]]
"""Checkpoints as ``Notary.check`` gives them."""


def verify(connection: Connection, beside: Connection, notary: Notary, progress: Progress) -> Report:
    """Check chain, rows, accepted events, dead letters, totals, catalog and checkpoints, all in one snapshot.

    ``beside``, a second connection, adds up line items in the server while their hashes are recomputed here.
    """
    report = Report()
    signed = list(notary.check())  # before the snapshot: what others sign while this runs names rows it does not see
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        with asked_beside(connection, beside, SQL.unbalanced_targets) as unbalanced:
            links = _read_chain(connection, report)
            check_line_items(connection, links, report, progress)
            check_accepted(connection, links, report, progress)
            _check_set_aside(connection, links, report)
            _check_positions(connection, links, report)
            _check_totals(connection, unbalanced.result(), report)
        _check_catalog(connection, links, report)
        _check_periods(connection, report)
        recorded = {kind: _recorded(connection, kind) for kind in LETTER_FACTS}
        for place, what in check_letter_acts(connection, recorded, links):
            report.add(place, what)
        switches = {kind: _recorded(connection, kind) for kind in SWITCH_FACTS}
        for place, what in check_switches(connection, switches, links):
            report.add(place, what)
        for place, what in check_held(connection, _recorded(connection, FACT_HELD), links):
            report.add(place, what)
        for place, what in check_state(connection, _recorded(connection, "retraction")):
            report.add(place, what)
        settled = _recorded(connection, "settle")
        for place, what in (*check_settled(connection, settled), *check_seen(connection, settled)):
            report.add(place, what)
        for place, what in carried.check_carried(connection, _recorded(connection, carried.FACT)):
            report.add(place, what)
        for place, what in check_sequences(connection, _recorded(connection, sequences.FACT), links):
            report.add(place, what)
        for place, what in check_backfills(connection, _recorded(connection, REVERT)):
            report.add(place, what)
        for place, what in check_credits(connection):
            report.add(place, what)
        _check_checkpoints(links, signed, report)
        if report.ok:  # of altered rows nothing follows
            report.gaps = gaps.everywhere(connection)
    report.findings.sort(key=lambda found: (found.place is None, found.place or (0, 0)))
    return report


def _read_chain(connection: Connection, report: Report) -> dict[Place, Link]:
    """Recompute every hash; the order within a lane must be gapless and each link name the one before."""
    namespaces = published.namespaces(connection)
    partitions = intake.partitions(connection, namespaces)
    heads = {lane: (batch, hashed) for lane, batch, hashed in connection.execute(SQL.lanes).fetchall()}
    links: dict[Place, Link] = {}
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
            links[place] = Link(batch, values["namespace_key"], key, values["hash"])
            report.batches += 1
    for lane in sorted((last.keys() | set(range(LANES + 1))) - heads.keys()):
        report.add((lane, last.get(lane, (0, GENESIS))[0]), "the lane has lost its head")
    for lane, head in heads.items():
        if last.get(lane) != head:
            report.add((lane, last[lane][0] + 1), f"the lane's head says {head[0]} batches, {last[lane][0]} are there")
    for name in ("received", "itemized", "pending", "duplicate", "dead_lettered", "not_billable"):
        report.counts[name] = sum(getattr(link.batch, name) for link in links.values())
    return links


def _check_set_aside(connection: Connection, links: dict[Place, Link], report: Report) -> None:
    """Dead letters against each batch's digest over them."""
    sightings: dict[Place, list[tuple[int, bytes]]] = {}
    for lane, batch, ordinal, mark in intake.sightings(connection):
        sightings.setdefault((lane, batch), []).append((ordinal, mark))
    waiting: dict[Place, int] = {}
    for row in held.stored(connection):
        waiting[row.place] = waiting.get(row.place, 0) + row.records
    for place, link in links.items():
        seen = sightings.pop(place, [])
        expected = set_aside_digest(seen) if link.partition_key is not None else NO_DIGEST
        if expected != link.batch.set_aside_digest or len(seen) + waiting.get(place, 0) != link.batch.dead_lettered:
            report.add(place, "the dead letters are not those it recorded")
    for place in sightings:
        report.add(place, "dead letters name it, which is no batch")


def _check_positions(connection: Connection, links: dict[Place, Link], report: Report) -> None:
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


def _check_totals(connection: Connection, unbalanced: list[Any], report: Report) -> None:
    """Running usage is the sum of its line items plus what waits; what waits is what the batches left pending."""
    for row in unbalanced:
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
    for lane, batch, _, _, body in connection.execute(SQL.facts, {"kind": kind}).fetchall():
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
    "letter_fix": {"namespace", "by", "reason", "letters", "patch"},
    "letter_replay": {"namespace", "by", "reason", "letters"},
    "letter_discard": {"namespace", "by", "reason", "letters"},
    "throttle_set": {"namespace", "by", "reason", "switches"},
    "throttle_clear": {"namespace", "by", "reason", "switches"},
    "held": {"namespace", "held"},
    "period": {"namespace", "month", "state"},
    "retraction": {"namespace", "source", "id"},
    "settle": {"namespace", "targets"},
    carried.FACT: {"namespace", "carried"},
    sequences.FACT: {"namespace", "producers", "digest"},
    REVERT: {"namespace", "backfill", "by", "reason", "events", "digest"},
}


def _check_catalog(connection: Connection, links: dict[Place, Link], report: Report) -> None:
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
    for place, what in (*check_rates(connection), *check_schemas(connection)):
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


def _check_checkpoints(links: dict[Place, Link], signed: Signed, report: Report) -> None:
    """The ledger must extend every checkpoint: a cut tail or a restored old copy does not."""
    for path, checkpoint, problem in signed:
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
