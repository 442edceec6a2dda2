"""``verify --deep``: fold everything again from the raw segments and compare with running usage."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lineitem.catalog import published
from lineitem.core.errors import IntegrityError
from lineitem.core.period import Month
from lineitem.kit.blobs import BlobStore
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.rating import Rater
from lineitem.ledger.refold import PriceFold, Replay
from lineitem.ledger.verify import Report

SQL = load_queries("lineitem.ledger", "ledger.sql")


def verify_deep(connection: Connection, store: BlobStore, report: Report, progress: Callable[[str, int], None]) -> None:
    """Refold every namespace in one snapshot and add what differs to ``report``."""
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        for namespace in published.namespaces(connection).values():
            _verify_namespace(connection, store, namespace, report, progress)


def _verify_namespace(
    connection: Connection, store: BlobStore, namespace: str, report: Report, progress: Callable[[str, int], None]
) -> None:
    replay = Replay(connection, store, namespace)
    folds: dict[int, PriceFold] = {}
    events = 0
    try:
        for batch in replay.batches():
            for usage in batch.usage:
                folds.setdefault(usage.row.price_key, PriceFold.empty(usage.row)).add(usage)
            events += len(batch.events)
            progress("raw events", events)
    except IntegrityError as error:
        report.add(None, f"{error.what} ({error.where})" if error.where else error.what)
        return
    expected = {
        (price_key, code): (fold, i) for price_key, fold in folds.items() for i, code in enumerate(fold.code.tolist())
    }
    rater = Rater()
    for row in connection.execute(SQL.accumulators, {"namespace": namespace}).fetchall():
        found = expected.pop((row[0], row[1]), None)
        problem = _compare(found, row, rater)
        if problem:
            report.add(None, f"{_target(row[0], row[1], folds)}: {problem}")
    for price_key, code in expected:
        report.add(None, f"{_target(price_key, code, folds)}: raw events say there is usage, the ledger has none")


def _compare(found: tuple[PriceFold, int] | None, row: tuple[object, ...], rater: Rater) -> str:
    """What is wrong with one accumulator; "" when nothing is."""
    _, _, events, quantity, posted_quantity, posted_nano, time_us, key, members = row
    if found is None:
        nothing = not (events or quantity or posted_quantity or posted_nano or members)
        return "" if nothing else "the ledger has usage, the raw events say there is none"
    fold, i = found
    if events != int(fold.events[i]):
        return f"{events} events counted, {int(fold.events[i])} in the raw segments"
    if quantity != int(fold.state.quantity[i]):
        return f"quantity {quantity}, folded again {int(fold.state.quantity[i])} (at the meter's scale)"
    latest = key is not None and (time_us, key.bytes) != (int(fold.state.time_us[i]), bytes(fold.state.key[i]))  # type: ignore[attr-defined]
    if latest:
        return "another reading is the latest one"
    if members and members != int(fold.state.quantity[i]):
        return f"{members} distinct members kept, folded again {int(fold.state.quantity[i])}"
    total = int(rater.compile(fold.row).amount_nano(np.array([int(str(posted_quantity))], dtype=object))[0])
    if posted_nano != total:
        return f"posted {posted_nano} nano-units, the price says {total}"
    return ""


def _target(price_key: int, code: int, folds: dict[int, PriceFold]) -> str:
    price = folds[price_key].row.price.id if price_key in folds else f"#{price_key}"
    return f"account #{code >> 20}, price {price}, {Month.from_index(code & 0xFFFFF)}"
