"""The raw events behind a line item: found in the segments, decoded again, shown with their place and trace.

A line item of one event leads to it by its identity. A line item of a window stands for the events that were accepted for
the same account, price version, dimensions and window: those of its own batch, or, where it was flushed later, those of
every batch recorded before the window was over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lineitem.catalog.model import Aggregation
from lineitem.catalog.snapshot import PriceRow, canonical_tags
from lineitem.core.errors import IntegrityError
from lineitem.core.money import scaled_to_text
from lineitem.core.period import Month, us_to_text
from lineitem.ingest import backfills, formats, intake, segments
from lineitem.ingest.events import EventColumns, RawRecords
from lineitem.ingest.formats.dead_letters import DeadLetters, mended, opened
from lineitem.ingest.formats.held import Held
from lineitem.ingest.formats.held import opened as opened_held
from lineitem.ingest.segments import Segment
from lineitem.kit.blobs import BlobStore
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.chain import records_digest
from lineitem.ledger.read import FoundItem
from lineitem.ledger.refold import Replay
from lineitem.rate.match import MeterMatch, match
from lineitem.rate.tags import TagSets

SQL = load_queries("lineitem.ledger", "read.sql")
_NEVER_US = (1 << 63) - 1
_COUNTED = (Aggregation.COUNT, Aggregation.UNIQUE)


@dataclass(slots=True)
class Evidence:
    """The events behind a line item: how many, the first ones, and what they add up to.

    ``quantity`` (at the meter's scale) is their sum where the meter sums or counts; None where the line item's quantity
    is no sum of its events (``max, unique, latest``).
    """

    total: int = 0
    quantity: int | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)
    """Where each tag came from, as the first event tells: ``event``, ``account`` or ``policy``."""


@dataclass(slots=True)
class _Decoded:
    """Some records of one batch, decoded; ``ordinal[i]`` is the place in the batch of event ``i``'s record."""

    lane: int
    batch: int
    revision: int
    name: str
    segment: Segment
    events: EventColumns
    ordinal: NDArray[np.int64]


def event_behind(replay: Replay, item: FoundItem, row: PriceRow, event_key: bytes) -> Evidence:
    """The one event with this identity key that a line item stands for.

    Raises IntegrityError where it is not found as it was accepted.
    """
    places = _places(replay.connection, np.array([event_key], dtype="V16"))
    if not len(places):
        raise IntegrityError("the event of this line item is not among the accepted ones", do="Run `lineitem verify`.")
    mine = places[(places["lane"] == item.lane) & (places["batch"] == item.batch)]
    place = (mine if len(mine) else places)[0]  # a reverted event may have come again; a retraction names another batch
    where = {"lane": int(place["lane"]), "batch": int(place["batch"])}
    wanted = np.array([int(place["ordinal"])], dtype=np.int64)
    for found in replay.connection.execute(SQL.segment_of_batch, where).fetchall():
        decoded = _decode(replay.segments, found, wanted)
        if len(decoded.events) and bytes(decoded.events.key[0]) == event_key:
            matches, _ = match(decoded.events, [row.meter])
            value = _value_text(matches[0], 0) if matches else None
            evidence = Evidence(1, None, [_event(replay.connection, decoded, 0, value)])
            if matches:
                evidence.origins |= _tag_sets(replay, decoded).origins(matches[0], 0)
            return evidence
    raise IntegrityError(
        "the event of this line item is not where it was accepted",
        where=f"batch {where['lane']}-{where['batch']}, record {int(wanted[0])}",
        do="Run `lineitem verify --deep`.",
    )


def events_of_window(replay: Replay, item: FoundItem, row: PriceRow, *, flushed: bool, limit: int) -> Evidence:
    """The events of a line item that stands for a window, the first ``limit`` of them shown, in ledger order.

    ``flushed``: the line item was posted after its window had ended, in a batch that read no records itself. Events that
    were retracted later are among them, and marked: the line item was made with them.
    """
    since_us, until_us = _window(item, row)
    where = {
        "namespace_key": item.namespace_key,
        "since_us": since_us,
        "until_us": until_us,
        # A window waits in every batch whose clock lies before its end (rate.itemize).
        "recorded_before_us": item.event_time_us + row.price.itemize.window_us if flushed else _NEVER_US,
        "lane": None if flushed else item.lane,
        "batch": None if flushed else item.batch,
    }
    summed = row.meter.aggregation in (Aggregation.SUM, Aggregation.COUNT)
    evidence = Evidence(quantity=0 if summed else None)
    for found in replay.connection.execute(SQL.segments_of_time, where).fetchall():
        decoded = _decode(replay.segments, found, None, item.document["account"])
        tag_sets = _tag_sets(replay, decoded)
        for one, at in _in_window(replay, decoded, tag_sets, item, row, since_us, until_us):
            evidence.origins = evidence.origins or dict(tag_sets.origins(one, at))
            evidence.total += 1
            if evidence.quantity is not None:
                evidence.quantity += 1 if row.meter.aggregation in _COUNTED else int(one.value[at])
            if len(evidence.events) < limit:
                evidence.events.append(_event(replay.connection, decoded, int(one.rows[at]), _value_text(one, at)))
    return evidence


def _window(item: FoundItem, row: PriceRow) -> tuple[int, int]:
    """The item's window, cut at the ends of its service month: a window over the month's end makes two line items."""
    start_us, end_us = Month.from_index(item.service_month).bounds_us(item.timezone)
    return max(item.event_time_us, start_us), min(item.event_time_us + row.price.itemize.window_us, end_us)


def _in_window(
    replay: Replay,
    decoded: _Decoded,
    tag_sets: TagSets,
    item: FoundItem,
    row: PriceRow,
    since_us: int,
    until_us: int,
) -> Iterator[tuple[MeterMatch, int]]:
    """Rows of ``match`` that the line item stands for."""
    events, shown = decoded.events, item.document
    snapshot = replay.snapshot(decoded.revision)
    accepted = _accepted(replay.connection, decoded)
    matches, _ = match(events, [row.meter])
    wanted = canonical_tags(shown["tags"])
    for one in matches:
        for at, event in enumerate(one.rows.tolist()):
            time_us = int(events.time_us[event])
            if (
                accepted[event]
                and events.subject[event] == shown["account"]
                and since_us <= time_us < until_us
                and snapshot.bills(shown["pricebook"], shown["version"], row.price.id, shown["account"], time_us)
                and tag_sets.text_of(one, at) == wanted
            ):
                yield one, at


def _tag_sets(replay: Replay, decoded: _Decoded) -> TagSets:
    """The tag sets of a batch under the catalog it was rated with."""
    snapshot = replay.snapshot(decoded.revision)
    accounts = replay.accounts(decoded.events, snapshot)
    return TagSets(decoded.events, accounts.subject, accounts.rows, snapshot.catalog.tags)


def _accepted(connection: Connection, decoded: _Decoded) -> NDArray[np.bool_]:
    """(n,) bool: events that were first accepted exactly here."""
    events = decoded.events
    accepted = np.zeros(len(events), dtype=np.bool_)
    places = _places(connection, events.key)
    here = {
        int(place["ordinal"]): bytes(place["digest"])
        for place in places
        if (place["lane"], place["batch"]) == (decoded.lane, decoded.batch)
    }
    for event, ordinal in enumerate(decoded.ordinal[events.ordinal].tolist()):
        accepted[event] = here.get(ordinal) == bytes(events.digest[event])
    return accepted


def _places(connection: Connection, keys: NDArray[np.void]) -> NDArray[np.void]:
    """Where events were accepted, those included that went out with their backfill."""
    return np.concatenate([intake.places(connection, keys), backfills.reverted_places(connection, keys)])


def _retracted(connection: Connection, decoded: _Decoded, key: bytes, ordinal: int) -> str | None:
    """Why the event no longer counts, None where it does."""
    batch = backfills.reverted_in(connection, decoded.lane, decoded.batch, ordinal)
    if batch is not None:
        body = connection.execute(SQL.revert_fact, {"batch": batch}).fetchone()
        fact = {} if body is None else json.loads(body[0])
        return f"backfill {fact.get('backfill')} was reverted: {fact.get('reason')}"
    retraction = intake.retraction_reason(connection, key)
    return None if retraction is None else str(json.loads(retraction)["reason"])


def _decode(
    store: BlobStore, found: tuple[Any, ...], wanted: NDArray[np.int64] | None, account: str | None = None
) -> _Decoded:
    """Decode records of one batch: those at ``wanted``, or all that may name ``account``.

    Raises IntegrityError where the segment is missing or does not hold what the batch recorded.
    """
    lane, batch, name, digest, recorded_us, revision = found
    segment = segments.read(store, name, recorded_us)
    if records_digest(segment.raw.records) != digest:
        raise IntegrityError(
            f"batch {lane}-{batch}: its raw records are not those it recorded", where=name,
            do="Restore the segment from a backup.",
        )  # fmt: skip
    rows = _may_name(segment, account) if wanted is None else wanted
    raw = segment.raw
    some = RawRecords(raw.records.take(pa.array(rows)), raw.positions[rows], raw.start, raw.end)
    events, _ = formats.get(segment.format).decode(some, segment.context)
    return _Decoded(lane, batch, revision, name, segment, events, rows)


def _may_name(segment: Segment, account: str | None) -> NDArray[np.int64]:
    """Records that may name the account: decoding is what takes time, and few of a batch's records are one account's.

    A JSON text without a backslash spells a string literally; other formats may compose or imply the account.
    """
    records = segment.raw.records
    if account is None or segment.format != "cloudevents":
        return np.arange(len(records), dtype=np.int64)
    likely = pc.or_(pc.match_substring(records, account.encode()), pc.match_substring(records, b"\\"))
    return np.flatnonzero(np.asarray(likely))


def _value_text(one: MeterMatch, at: int) -> str | None:
    """What the meter reads from an event, in its unit; None where it counts distinct members."""
    if one.meter.aggregation is Aggregation.UNIQUE:
        return None
    if one.meter.aggregation is Aggregation.COUNT:
        return "1"
    return scaled_to_text(int(one.value[at]), one.meter.quantity_scale)


def _event(connection: Connection, decoded: _Decoded, row: int, value: str | None) -> dict[str, Any]:
    """One event as `explain` shows it. ``raw`` is the record as received, bytes that are not UTF-8 escaped."""
    events, raw = decoded.events, decoded.segment.raw
    ordinal = int(decoded.ordinal[int(events.ordinal[row])])
    traceparent = events.traceparent[row]
    return {
        "id": events.id[row],
        "source": events.source[row],
        "type": events.type[row],
        "subject": events.subject[row],
        "time": us_to_text(int(events.time_us[row])),
        "data": _plain(events.data[row]),
        "dataschema": _named(events, row),
        "value": value,
        "traceparent": traceparent,
        "trace_id": None if traceparent is None else traceparent.split("-")[1],
        "retracted": _retracted(connection, decoded, bytes(events.key[row]), ordinal),
        "stream": decoded.segment.context.stream,
        "format": decoded.segment.format,
        "position": int(raw.positions[ordinal]),
        "batch": f"{decoded.lane}-{decoded.batch}",
        "record": ordinal,
        "segment": decoded.name,
        "raw": raw.records[ordinal].as_py().decode("utf-8", "backslashreplace"),
    } | _replayed(decoded.segment, ordinal)


def _named(events: EventColumns, row: int) -> str | None:
    """The schema that an event names, or that its data was decoded by."""
    named = None if events.dataschema is None else events.dataschema[row]
    return f"/schemas/ids/{named}" if isinstance(named, int) else named


def _replayed(segment: Segment, ordinal: int) -> dict[str, Any]:
    """Of an event that was a dead letter: where it came in first, its original record, and what was changed of it."""
    if segment.format == Held.name:
        return _waited(segment, ordinal)
    if segment.format != DeadLetters.name:
        return {}
    envelope = opened(segment.raw.records[ordinal].as_py())
    source = segment.context.settings["sources"][envelope.source]
    record = mended(formats.get(source["format"]), envelope.raw, envelope.fixes, source["settings"])
    fixes = [
        {"by": fix.by, "reason": fix.reason, "at": us_to_text(fix.at_us), "patch": dict(fix.patch)}
        for fix in envelope.fixes
    ]
    return {
        "stream": source["stream"],
        "format": source["format"],
        "position": envelope.position,
        "raw": envelope.raw.decode("utf-8", "backslashreplace"),
        "dead_letter": envelope.letter,
        "fixes": fixes,
        "mended": record.decode("utf-8", "backslashreplace") if fixes else None,
    }


def _waited(segment: Segment, ordinal: int) -> dict[str, Any]:
    """Of an event that had to wait for a switch: where it came in, and its record without the envelope."""
    came_in, about = opened_held(segment.raw), segment.context.settings
    return {
        "stream": about["stream"],
        "format": about["format"],
        "position": int(came_in.positions[ordinal]),
        "raw": came_in.records[ordinal].as_py().decode("utf-8", "backslashreplace"),
        "waited": True,
    }


_PLAIN_DIGITS_MAX = 100
"""Zeros that a number may take to be written out; beyond, its exponent is shown."""


def _plain(value: Any) -> Any:
    """A payload as JSON can carry it exactly: fractions as text, for a JSON reader would make them binary floats."""
    if isinstance(value, dict):
        return {key: _plain(held) for key, held in value.items()}
    if isinstance(value, list):
        return [_plain(held) for held in value]
    if not isinstance(value, Decimal):
        return value
    return f"{value:f}" if abs(value.adjusted()) <= _PLAIN_DIGITS_MAX else str(value)
