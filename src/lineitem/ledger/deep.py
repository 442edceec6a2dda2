"""``verify --deep``: fold everything again from the raw segments and compare with running usage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np

from lineitem.catalog import published
from lineitem.catalog.model import Aggregation
from lineitem.catalog.snapshot import PriceRow, Snapshot
from lineitem.core.errors import IntegrityError
from lineitem.core.limits import DEAD_LETTER_RAW_BYTES_MAX
from lineitem.core.period import Month
from lineitem.kit.blobs import BlobStore
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.carried import of_namespace
from lineitem.ledger.deep_levels import LevelCheck, RawLevels, named
from lineitem.ledger.rating import Rater
from lineitem.ledger.refold import BatchDamaged, PriceFold, Replay, UsageBatch, bases
from lineitem.ledger.report import Report
from lineitem.ledger.verify_credits import check_cuts
from lineitem.ledger.verify_held import HeldRecords
from lineitem.ledger.verify_letters import Replays
from lineitem.ledger.verify_sequences import RawSequences
from lineitem.rate.dues import whole
from lineitem.rate.enrich import PriceUsage
from lineitem.rate.price import CompiledPrice
from lineitem.rate.targets import Base, totals

SQL = load_queries("lineitem.ledger", "ledger.sql")
STATE = load_queries("lineitem.ledger", "verify.sql")


def verify_deep(connection: Connection, store: BlobStore, report: Report, progress: Callable[[str, int], None]) -> None:
    """Refold every namespace in one snapshot and add what differs to ``report``."""
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        for namespace in published.namespaces(connection).values():
            _verify_namespace(connection, store, namespace, report, progress)


def _verify_namespace(
    connection: Connection, store: BlobStore, namespace: str, report: Report, progress: Callable[[str, int], None]
) -> None:
    where = {"namespace": namespace}
    replay = Replay(connection, store, namespace)
    folds: dict[int, PriceFold] = {}
    letters, replays = _letters(connection, namespace), Replays.read(connection, namespace)
    waiting = HeldRecords.read(connection, namespace)
    raw_levels, raw_sequences = RawLevels(), RawSequences.read(connection, namespace)
    windows = set(connection.execute(STATE.windows_waiting, where).fetchall())
    events = 0
    try:
        for batch in replay.batches():
            place = (batch.lane, batch.batch)
            if place in letters and not _letters_agree(batch, letters[place]):
                report.add(place, "a dead letter of it is not in its raw records")
            if not waiting.agree(batch):
                report.add(place, "the records of it that wait or have gone on are not those in its raw records")
            if batch.replayed is not None and not replays.agree(batch, batch.replayed):
                report.add(place, "the dead letters it tried again are not those in its raw records")
            if not raw_sequences.agree(batch, waiting.ordinals(place)):
                report.add(place, "the sequence numbers it saw are not those of its raw records")
            for usage in batch.usage:
                if usage.row.is_level:
                    raw_levels.add(usage)
                    continue
                folds.setdefault(usage.row.price_key, PriceFold.empty(usage.row)).add(usage)
                windows -= _windows(usage, batch.tag_sets) if windows else set()
            events += len(batch.events)
            progress("raw events", events)
    except BatchDamaged as error:
        report.add(error.place, f"{error.what} ({error.where})" if error.where else error.what)
        return
    except (IntegrityError, ValueError, LookupError) as error:  # what the catalog's tables say makes no sense any more
        report.add(None, f"namespace {namespace} cannot be folded again: {error}")
        return
    for price_key, code, *_ in sorted(windows):
        report.add(None, f"{_target(price_key, code, folds)}: no raw event belongs to a window that waits")
    snapshot = published.load_snapshot(connection, namespace)
    level_check = LevelCheck(connection, replay, raw_levels, snapshot)
    for problem in level_check.readings():
        report.add(None, problem)
    _compare_all(connection, namespace, folds, snapshot, level_check, report)
    for problem in check_cuts(connection, store, namespace):
        report.add(None, problem)


def _compare_all(
    connection: Connection,
    namespace: str,
    folds: dict[int, PriceFold],
    snapshot: Snapshot | None,
    level_check: LevelCheck,
    report: Report,
) -> None:
    """Running usage against the folds."""
    where = {"namespace": namespace}
    expected = {
        (price_key, code): (fold, i) for price_key, fold in folds.items() for i, code in enumerate(fold.code.tolist())
    }
    members: dict[int, set[tuple[int, bytes]]] = {}
    for price_key, code, member in connection.execute(STATE.members, where):
        members.setdefault(price_key, set()).add((code, member.bytes))
    rater = Rater()
    rows = {} if snapshot is None else {row.price_key: row for row in snapshot.rows}
    base_of = bases(folds, None if snapshot is None else snapshot.tier_chains, of_namespace(connection, namespace))
    for row in connection.execute(SQL.accumulators, where).fetchall():
        if row[0] in level_check.rows:
            problem = level_check.target(row)
            if problem:
                report.add(None, f"{named((row[0], row[1]), level_check.rows)}: {problem}")
            continue
        found = expected.pop((row[0], row[1]), None)
        problem = _compare(found, row, rater, rows.get(row[0]), base_of.get(row[0]))
        if problem:
            report.add(None, f"{_target(row[0], row[1], folds)}: {problem}")
    for code in level_check.left():
        report.add(None, f"{named(code, level_check.rows)}: raw events say there is usage, the ledger has none")
    for price_key, code in expected:
        report.add(None, f"{_target(price_key, code, folds)}: raw events say there is usage, the ledger has none")
    free: dict[int, set[tuple[int, bytes, int, int]]] = {}
    for price_key, code, member, time_us, value in connection.execute(STATE.free_events, where):
        free.setdefault(price_key, set()).add((code, member.bytes, time_us, int(value)))
    for price_key in sorted(members.keys() | free.keys() | folds.keys()):
        folded = folds[price_key].members if price_key in folds else set()
        for code in sorted({code for code, _ in folded ^ members.get(price_key, set())}):
            report.add(None, f"{_target(price_key, code, folds)}: other distinct members are kept than folded again")
        events = _free_events(folds[price_key]) if price_key in folds else set()
        for code in sorted({code for code, *_ in events ^ free.get(price_key, set())}):
            report.add(None, f"{_target(price_key, code, folds)}: other events count as free than folded again")


def _free_events(fold: PriceFold) -> set[tuple[int, bytes, int, int]]:
    """Code, identity, time and value of every event in an allowance."""
    some = fold.free
    codes = fold.code[some.target].tolist()
    return set(zip(codes, map(bytes, some.key), some.time_us.tolist(), map(int, some.value), strict=True))


class Letter(NamedTuple):
    """A dead letter as far as its raw record tells it."""

    position: int
    raw_bytes: int
    raw_digest: bytes
    key: bytes | None
    digest: bytes | None


def _letters(connection: Connection, namespace: str) -> dict[tuple[int, int], dict[int, Letter]]:
    """Dead letters by the batch that saw them first, and by ordinal."""
    letters: dict[tuple[int, int], dict[int, Letter]] = {}
    for lane, batch, ordinal, *rest in connection.execute(STATE.letters_by_batch, {"namespace": namespace}).fetchall():
        position, raw_bytes, raw_digest, key, digest = rest
        letter = Letter(position, raw_bytes, bytes(raw_digest), key and key.bytes, digest and digest.bytes)
        letters.setdefault((lane, batch), {})[ordinal] = letter
    return letters


def _letters_agree(batch: UsageBatch, letters: dict[int, Letter]) -> bool:
    identity: dict[int, tuple[bytes | None, bytes | None]] = {
        reject.ordinal: (reject.key, reject.digest) for reject in batch.undecoded if reject.ordinal in letters
    }
    for row in np.flatnonzero(np.isin(batch.events.ordinal, list(letters))).tolist():
        identity[int(batch.events.ordinal[row])] = (bytes(batch.events.key[row]), bytes(batch.events.digest[row]))
    for ordinal, letter in letters.items():
        if ordinal not in identity:
            return False
        record = batch.raw.records[ordinal].as_py()
        kept = sha256(record[:DEAD_LETTER_RAW_BYTES_MAX]).digest()
        if letter != (int(batch.raw.positions[ordinal]), len(record), kept, *identity[ordinal]):
            return False
    return True


def _windows(usage: PriceUsage, tag_sets: list[str]) -> set[tuple[int, int, int, int, str]]:
    """The windows of a batch's usage, as ``windows_waiting`` gives them."""
    window_us = usage.row.price.itemize.window_us
    if not window_us:
        return set()
    code = (usage.account_key.astype(np.int64) << 20) | usage.service_month
    start_us = usage.time_us - usage.time_us % window_us
    columns = (code.tolist(), usage.version_key.tolist(), start_us.tolist(), usage.tag_set.tolist())
    return {(usage.row.price_key, *row[:3], tag_sets[row[3]]) for row in zip(*columns, strict=True)}


def _compare(
    found: tuple[PriceFold, int] | None,
    row: tuple[Any, ...],
    rater: Rater,
    price_row: PriceRow | None,
    base: Base | None,
) -> str:
    """What is wrong with one accumulator, whose price is ``price_row`` now; "" when nothing is."""
    _, _, events, quantity, posted_quantity, posted_nano, last_event_us, time_us, key, *rest = row
    charge, posted_charge, settled, *period = rest
    if found is None:
        filled = 0 if price_row is None or not price_row.price.is_commitment else posted_quantity
        if (
            events
            or quantity != filled
            or posted_quantity != filled
            or (time_us or 0, bytes(16) if key is None else key.bytes) != (0, bytes(16))
        ):
            return "the ledger has usage, the raw events say there is none"
        total = 0 if price_row is None else _total(rater.compile(price_row), filled, 0, settled, period)
        return "" if posted_nano == total else f"posted {posted_nano} nano-units, without usage it owes {total}"
    fold, i = found
    if events != int(fold.events[i]):
        return f"{events} events counted, {int(fold.events[i])} in the raw segments"
    if quantity != int(fold.state.quantity[i]):
        return f"quantity {quantity}, folded again {int(fold.state.quantity[i])} (at the meter's scale)"
    if last_event_us < int(fold.last_event_us[i]):  # later is right: it may have been retracted
        return "there is a later event than the latest it knows"
    latest = (int(fold.state.time_us[i]), bytes(fold.state.key[i]))
    reading = (time_us, None if key is None else key.bytes)
    if reading != (latest if fold.row.meter.aggregation is Aggregation.LATEST else (None, None)):
        return "another reading is the latest one"
    price = rater.compile(fold.row)
    if price.promoted is not None and charge != int(fold.charge[i]):
        return "its quantities before, in and after the promotion are others than folded again"
    if price.charge is not None and charge != int(fold.charge[i]):
        return f"charges of {charge}, folded again {int(fold.charge[i])} (at {price.charge.scale} decimals)"
    posted = posted_quantity if price.charge is None else posted_charge
    at = None if base is None else base.take(np.array([i]))
    total = _total(price, posted, events, settled, period, at)
    if posted_nano != total:
        return f"posted {posted_nano} nano-units, the price says {total}"
    return ""


def _total(
    price: CompiledPrice, posted: int, events: int, settled: int, period: Sequence[int], base: Base | None = None
) -> int:
    """T; ``period``: service month, start and end in microseconds since the epoch."""
    month, start_us, end_us = period
    of = np.array([whole(price.price, month, start_us, end_us)])
    quantity = np.array([int(posted)], dtype=object)
    return int(totals(price, quantity, np.array([events]), np.array([settled]), of, base)[0])


def _target(price_key: int, code: int, folds: dict[int, PriceFold]) -> str:
    price = folds[price_key].row.price.id if price_key in folds else f"#{price_key}"
    return f"account #{code >> 20}, price {price}, {Month.from_index(code & 0xFFFFF)}"
