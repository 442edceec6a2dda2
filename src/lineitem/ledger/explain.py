"""Explain one line item, down to the raw events: price and rule, the target's arithmetic, the batch, the records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from lineitem.catalog import published
from lineitem.catalog.canary import counting
from lineitem.catalog.document import plain
from lineitem.catalog.model import Aggregation, Prorate
from lineitem.catalog.price_reader import DECIMALS_MAX
from lineitem.catalog.snapshot import PriceRow
from lineitem.core.errors import IntegrityError
from lineitem.core.money import NANO, nano_to_text, scaled_to_text
from lineitem.core.period import us_to_text
from lineitem.ingest import intake
from lineitem.kit.blobs import BlobStore
from lineitem.kit.db import Connection, explained
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.canary_rows import sums
from lineitem.ledger.carried import Key, of_months
from lineitem.ledger.chain import BatchKind
from lineitem.ledger.evidence import Evidence, event_behind, events_of_window
from lineitem.ledger.explain_credit import explain_credit
from lineitem.ledger.explain_levels import NOTE as LEVEL_NOTE
from lineitem.ledger.explain_levels import Level, level_working
from lineitem.ledger.read import FoundItem, find_line_item, one_snapshot
from lineitem.ledger.refold import Replay
from lineitem.ledger.rows import Kind
from lineitem.rate.dues import whole
from lineitem.rate.price import CompiledPrice, compile_price
from lineitem.rate.quote import price_steps, promoted_steps
from lineitem.rate.quote_events import EVENT_KEYS, one_event_step, reductions
from lineitem.rate.quote_promoted import Used, promotion_at
from lineitem.rate.targets import SETTLED, Base, base_of, total_nano
from lineitem.rate.working import Step, fraction_text

SQL = load_queries("lineitem.ledger", "read.sql")
BESIDE = load_queries("lineitem.ledger", "canary.sql")
EVENTS_SHOWN_MAX = 100
"""Raw events listed for a line item; the count is of all."""

_NOTES = {
    Kind.RECURRING: "A fixed due of the target, posted once, with its first event or at settling: it stands for no event.",
    Kind.TRUE_UP: "What a minimum or a commitment adds, posted when its period was settled, or how much the target owes more or"
    " less since the usage it goes on with has changed: it stands for no event.",
    Kind.REVERSAL: "Takes back another line item: it stands for no event.",
    Kind.RETRACTION: "An event was retracted, or its backfill reverted: what is left of the target was folded again and the"
    " difference posted.",
}


@explained()
def explain(
    connection: Connection,
    segments: BlobStore,
    namespace: str,
    line_item_id: str,
    *,
    events_max: int = EVENTS_SHOWN_MAX,
) -> dict[str, Any]:
    """Everything a line item's amount rests on, as a JSON document.

    ``line_item`` as `line-items` shows it · ``tag_origins``: whether a tag came from the event, the account or a policy of
    the registry; empty where no event is behind the line item · ``price``: its version and rule · ``target``: the
    running usage of account, price and service month, T worked out step by step, and where it can be told, what this
    line item moved; of a level its ``parts`` too, and how many readings no settled month counts yet ·
    ``canary``, where one runs on the account's pricebook: its arm, and what the other version would charge ·
    ``batch``: when and by what it was written · ``events``: the raw records, the first ``events_max`` of ``total``.
    Of prepaid credit there is another document: ``explain_credit``.

    Raises InputError for an unknown id, IntegrityError where ledger and segments do not say what was written.
    """
    with one_snapshot(connection):
        item = find_line_item(connection, namespace, line_item_id)
        record = _batch_row(connection, item)
        if item.kind == Kind.CREDIT:
            return explain_credit(connection, item, _batch(record), record["recorded_us"])
        replay = Replay(connection, segments, namespace)
        target = _target_row(connection, item)
        row = _price_row(replay, item, record["catalog_revision"])
        level = Level(replay, item, row, (target["start_us"], target["end_us"])) if row.is_level else None
        evidence = _evidence(replay, item, row, record, events_max) if level is None else level.evidence(events_max)
        return {
            "line_item": item.document,
            "tag_origins": {key: evidence.origins[key] for key in item.document["tags"] if key in evidence.origins},
            "price": _price(row),
            "target": _target(connection, item, row, target, _continued(connection, namespace, item, row, target))
            | ({} if level is None else {"parts": list(level.parts()), "readings_waiting": level.unseen()}),
            "batch": _batch(record),
            "events": _events(item, row, evidence),
        } | _canary(replay, item, record["catalog_revision"])


def _batch_row(connection: Connection, item: FoundItem) -> dict[str, Any]:
    where = {"lane": item.lane, "first": item.batch, "last": item.batch}
    with connection.execute(SQL.batch_records, where) as cursor:
        names = [column.name for column in cursor.description or ()]
        row = cursor.fetchone()
    if row is None:
        raise IntegrityError(f"batch {item.document['batch']} is missing", do="Run `lineitem verify`.")
    record = dict(zip(names, row, strict=True))
    keys = [] if record["partition_key"] is None else [record["partition_key"]]
    read = intake.partitions(connection, published.namespaces(connection), keys).values()
    return record | {"stream": next((partition.stream for partition in read), None)}


def _target_row(connection: Connection, item: FoundItem) -> dict[str, Any]:
    where = {
        "account_key": item.account_key,
        "price_key": item.price_key,
        "service_month": item.service_month,
    }
    row = connection.execute(SQL.target, where).fetchone()
    if row is None:
        raise IntegrityError("the line item's target has no running usage", do="Run `lineitem verify`.")
    names = ("events", "quantity", "posted_quantity", "posted_nano", "settled", "posted_charge", "start_us", "end_us")
    return dict(zip(names, [int(value) for value in row], strict=True))


def _canary(replay: Replay, item: FoundItem, revision: int) -> dict[str, Any]:
    """The arm that a canary put the account's service month in; {} where none was."""
    name, month = item.document["account"], item.service_month
    account = published.accounts(replay.connection, item.namespace_key, [name])[name]
    steps = replay.snapshot(revision).canaries_of.get(account.pricebook or "", [])
    step = counting(steps, name, month)
    if step is None or not step.change.running:
        return {}
    document: dict[str, Any] = {
        "name": step.change.canary,
        "arm": "canary" if step.has(name) else "stable",
        "pricebook": step.change.pricebook,
        "candidate_version": step.change.version,
        "chosen": step.change.chosen,
        "other": None,
    }
    if step.has(name):
        where = {"account_key": item.account_key, "service_month": month, "price": item.document["price"]}
        where["currency"] = item.document["currency"]
        row = replay.connection.execute(BESIDE.beside_of_target, where).fetchone()
        if row is not None:
            document["other"] = sums(int(row[2]), int(row[3])) | {"found_in_batch": f"{row[0]}-{row[1]}"}
    return {"canary": document}


def _price_row(replay: Replay, item: FoundItem, revision: int) -> PriceRow:
    """The price as the batch saw it; where its meter had left the catalog by then, as it was published."""
    pricebook, version = item.document["pricebook"], item.document["version"]
    brought = published.revision_of_pricebook(replay.connection, item.namespace_key, pricebook, version)
    for wanted in (revision, revision if brought is None else brought):
        for row in replay.snapshot(wanted).rows:
            if row.price_key == item.price_key and row.version == version:
                return row
    raise IntegrityError("the line item's price is not in the catalog it was rated with", do="Run `lineitem verify`.")


def _price(row: PriceRow) -> dict[str, Any]:
    """The rule: the price and its meter as they were published."""
    return {
        "id": row.price.id,
        "pricebook": row.pricebook,
        "version": row.version,
        "model": row.price.model,
        "currency": row.price.currency,
        "itemize": row.price.itemize.value,
        "rule": plain(row.price),
        "meter": plain(row.meter),
        "content": row.content,
    }


class _Continued(NamedTuple):
    """Whose tiers or pool a target goes on with: their versions, their usage, and what a pool got from the month before."""

    versions: list[int]
    base: Base
    carried: int


def _continued(
    connection: Connection, namespace: str, item: FoundItem, row: PriceRow, target: dict[str, Any]
) -> _Continued | None:
    """What the target goes on with; None where it starts its own tiers and shares no pool."""
    shares = row.price.continues or row.price.pool_name
    snapshot = published.load_snapshot(connection, namespace) if shares else None
    if snapshot is None or snapshot.tier_chains is None:
        return None
    parts = snapshot.tier_chains.before(item.price_key, target["start_us"], target["end_us"])
    where = {
        "account_key": item.account_key,
        "service_month": item.service_month,
        "price_keys": [part.price_key for part in parts],
    }
    found = [(int(quantity), events) for quantity, events in connection.execute(SQL.continued, where).fetchall()]
    if not parts and row.price.rollover_max is None:
        return None
    name = snapshot.tier_chains.pool_of(item.price_key)
    key = None if name is None else Key(item.account_key, *name, item.service_month)
    had = {} if key is None else of_months(connection, item.namespace_key, [item.service_month])
    carried = 0 if key is None else had.get(key, 0)
    return _Continued(sorted({part.version for part in parts}), base_of(row.price, [found], [carried]), carried)


def _target(
    connection: Connection,
    item: FoundItem,
    row: PriceRow,
    target: dict[str, Any],
    continued: _Continued | None,
) -> dict[str, Any]:
    """What the target comes to: T of the quantity its line items stand for, worked out."""
    where = {
        "namespace_key": item.namespace_key,
        "account_key": item.account_key,
        "price_key": item.price_key,
        "service_month": item.service_month,
        "batch": item.batch,
        "seq": item.seq,
    }
    sums = connection.execute(SQL.posted_before, where).fetchone()
    assert sums is not None
    count, lanes, quantity_before, nano_before = (int(value) for value in sums)
    quantity = scaled_to_text(target["posted_quantity"], item.scale)
    base = None if continued is None else continued.base
    document: dict[str, Any] = {}
    less: list[dict[str, Any]] = []
    if continued is not None and row.price.continues:
        document, less = _going_on(item, row, continued.versions, continued.base, target["posted_nano"])
    elif continued is not None:
        document = _pool(item, row, continued)
    worked_out = target["posted_quantity"] + (0 if base is None or row.price.pool_name else int(base.quantity[0]))
    settled = target["settled"] >= SETTLED
    return {
        "account": item.document["account"],
        "service_period": item.document["service_period"],
        "line_items": count,
        "events": target["events"],
        "settled": settled,
        "quantity": quantity,
        "pending_quantity": scaled_to_text(target["quantity"] - target["posted_quantity"], item.scale),
        "amount": nano_to_text(target["posted_nano"]),
        "rule": "amount of a line item = T(quantity so far) - what was posted; T is worked out below for all of it",
        "working": [
            *(_step(step) for step in _working(item, row, target, scaled_to_text(worked_out, item.scale), continued)),
            *less,
        ],
        "this_line_item": _moved(item, row, lanes, quantity_before, nano_before, base),
    } | document


def _going_on(
    item: FoundItem, row: PriceRow, versions: list[int], base: Base, posted_nano: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Whose tiers the target goes on with, and the last steps of the working: what that takes off."""
    before_nano = int(base.nano(compile_price(row.price, row.quantity_scale))[0])
    before = scaled_to_text(int(base.quantity[0]), item.scale)
    document = {
        "rule": "amount of a line item = T(quantity so far) - what was posted; T(q) = F(quantity before + q) - F(quantity"
        " before) goes on with the tiers of what came before, and is worked out below for all of it",
        "continues": {"versions": versions, "quantity_before": before, "amount_before": nano_to_text(before_nano)},
    }
    named = " and ".join(map(str, versions))
    less = {"label": f"less the same for {before} under version {named}", "amount": nano_to_text(-before_nano)}
    return document, [less, {"label": "what is left", "amount": nano_to_text(posted_nano)}]


def _pool(item: FoundItem, row: PriceRow, continued: _Continued) -> dict[str, Any]:
    """The pool of included units, in the meter's unit, and what others have taken of it."""
    included = compile_price(row.price, row.meter.quantity_scale).pool_units or 0
    net = int(continued.base.quantity[0])
    units = {
        "included": included,
        "carried_over": continued.carried,
        "taken_before": net + continued.carried,
        "left": max(included - net, 0),
    }
    return {
        "pool": {"name": row.price.pool_name} | {name: scaled_to_text(held, item.scale) for name, held in units.items()}
    }


def _pooled(
    item: FoundItem,
    price: CompiledPrice,
    steps: list[Step],
    continued: _Continued,
    steps_of: Callable[[Fraction], list[Step]],
) -> list[Step]:
    """The steps of a price that shares included units: its quantity is counted behind what others took of them."""
    assert price.pool_units is not None
    quantity = max(steps[0].quantity or Fraction(0), Fraction(0))
    carried = Fraction(continued.carried, 10**item.scale)
    taken = Fraction(min(int(continued.base.quantity[0]), price.pool_units), 10**item.scale) + carried
    behind = [Step(f"with {fraction_text(taken)} taken before of {price.price.pool_name}", quantity + taken)]
    counted = max(quantity + taken - carried, Fraction(0))
    if carried:
        behind.append(Step(f"less {fraction_text(carried)} carried over from the month before", counted))
    return [*steps[:1], *behind, *steps_of(counted)[1:]]


def _working(
    item: FoundItem, row: PriceRow, target: dict[str, Any], quantity: str, continued: _Continued | None
) -> list[Step]:
    """How T comes about, with the share of the month in which the account is active."""
    if row.is_level:
        return level_working(row, item, target)
    price, settled = compile_price(row.price, row.quantity_scale), target["settled"] >= SETTLED
    if price.charge is not None and price.promoted is None:
        gross = Fraction(target["posted_charge"], 10**price.charge.scale)
        return [
            Step("charges of the events", Fraction(quantity), amount=gross),
            *reductions(price, gross, settled=settled),
        ]
    used = None if price.promoted is None else Used.of(target["posted_charge"], item.scale)

    def steps_of(counted: Fraction) -> list[Step]:
        if used is None:
            return price_steps(price, counted, settled=settled)
        return promoted_steps(price, used.behind(counted - used.total), settled=settled)

    steps = steps_of(Fraction(quantity))
    if continued is not None and price.pool_units is not None:
        steps = _pooled(item, price, steps, continued, steps_of)
    of = whole(row.price, item.service_month, target["start_us"], target["end_us"])
    if row.price.prorate is not None and target["settled"] != of:
        full = sum((step.amount for step in steps if step.amount is not None), Fraction(0))
        unit = "days" if row.price.prorate is Prorate.DAY else "microseconds"
        label = f"active for {target['settled']} of {of} {unit}"
        steps.append(Step(label, amount=Fraction(target["posted_nano"], NANO) - full))
    return steps


def _charged(row: PriceRow, event: dict[str, Any]) -> dict[str, Any]:
    """``event`` with the ``working`` of its charge, where the price charges each event as a function of it alone.

    Under a promotion on the month's quantity: with the ``promotion``, where the event lies in its window.
    """
    compiled = compile_price(row.price, DECIMALS_MAX)
    promotion = row.price.promotion
    if compiled.promoted is not None and promotion is not None:
        off = promotion_at(promotion, event["time"])
        return event if off is None else event | {"promotion": off}
    if compiled.charge is None or compiled.charge.allowance is not None:
        return event
    return event | {"working": _step(one_event_step(compiled, {key: event[key] for key in EVENT_KEYS}))}


def _moved(
    item: FoundItem, row: PriceRow, lanes: int, quantity_before: int, nano_before: int, base: Base | None
) -> dict[str, Any] | None:
    """T before and after the line item; None where the target's line items lie in several lanes, or T moved without it.

    Batches of different lanes commit side by side, and nothing stored says which of two came first: the sum over the
    target is exact all the same.
    """
    quantity_after, nano_after = quantity_before + item.quantity, nano_before + item.amount_nano
    price = compile_price(row.price, row.quantity_scale)
    if lanes != 1:
        return None
    if price.promoted is not None and base is not None:
        return None
    if price.charge is None and not row.is_level:
        total = int(total_nano(price, np.array([quantity_after], dtype=object), base)[0])
        if total != nano_after:
            return None
    return {
        "quantity_before": scaled_to_text(quantity_before, item.scale),
        "quantity_after": scaled_to_text(quantity_after, item.scale),
        "posted_before": nano_to_text(nano_before),
        "total_after": nano_to_text(nano_after),
        "amount": nano_to_text(item.amount_nano),
    }


def _step(step: Step) -> dict[str, Any]:
    """One step of the working with exact decimal text; what a step does not have is left out."""
    values = {name: value for name, value in asdict(step).items() if name != "label" and value is not None}
    return {"label": step.label} | {name: fraction_text(value) for name, value in values.items()}


def _batch(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "batch": f"{record['lane']}-{record['batch']}",
        "lane": record["lane"],
        "number": record["batch"],
        "kind": BatchKind(record["kind"]).name.lower(),
        "recorded_at": us_to_text(record["recorded_us"]),
        "engine_version": record["engine_version"],
        "catalog_revision": record["catalog_revision"],
        "stream": record["stream"],
        "segment": record["segment"] or None,
        "line_items": record["line_items"],
        "root": record["root"].hex(),
        "hash": record["hash"].hex(),
    }


def _evidence(replay: Replay, item: FoundItem, row: PriceRow, record: dict[str, Any], events_max: int) -> Evidence:
    if item.event_key is not None:
        return event_behind(replay, item, row, item.event_key)
    if item.kind in _NOTES:
        return Evidence()
    flushed = record["kind"] == BatchKind.FLUSH
    return events_of_window(replay, item, row, flushed=flushed, limit=events_max)


def _events(item: FoundItem, row: PriceRow, evidence: Evidence) -> dict[str, Any]:
    document: dict[str, Any] = {"total": evidence.total, "shown": len(evidence.events)}
    if evidence.quantity is not None and item.event_key is None:
        document["quantity"] = scaled_to_text(evidence.quantity, item.scale)
    note = LEVEL_NOTE if row.is_level else _NOTES.get(item.kind) or _fold_note(row)
    if item.kind == Kind.RECURRING and item.document["posting_period"] < item.document["service_period"]:
        note = f"{note} It is charged in advance: posted with the month before its service period."
    if note:
        document["note"] = note
    return document | {"items": [_charged(row, event) for event in evidence.events]}


def _fold_note(row: PriceRow) -> str:
    """Why the events' values need not add up to the line item's quantity."""
    aggregation = row.meter.aggregation
    if aggregation in (Aggregation.SUM, Aggregation.COUNT):
        return ""
    return (
        f"The meter keeps the {aggregation.value} of a period: a line item's quantity is how far its events moved it."
    )
