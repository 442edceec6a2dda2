"""How fast past usage is rated with a draft, against the rate at which the same events were ingested."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import workload
from benchmarks.ledger import ACCOUNTS, Result, fresh_ledger, ingest_rate, result
from lineitem.app import App
from lineitem.catalog.model import Catalog
from lineitem.ledger.shadow import Candidate, Wanted


def shadow_rate(events: int = 1_000_000, rounds: int = 3, batch: int = 100_000) -> Iterator[Result]:
    """Events per second of ``catalog shadow`` over a ledger of ``events``, against ingesting them; medians."""
    rates: dict[str, list[float]] = {"ingest": [], "shadow": []}
    with TemporaryDirectory(prefix="lineitem-bench-") as folder:
        path = Path(folder) / "events.ndjson"
        workload.write_events(path, events, ACCOUNTS)
        for _ in range(rounds):
            with fresh_ledger("each") as app:
                rates["ingest"].append(ingest_rate(app, path, events, batch))
                rates["shadow"].append(_rate(app, events))
    yield result("shadow", median(rates["shadow"]), "ingest of the same events", median(rates["ingest"]))


def _rate(app: App, events: int) -> float:
    draft = Candidate("twice the price", _doubled(workload.catalog("each")))
    start = time.perf_counter()
    found = app.shadow("default", [draft], Wanted(), lambda done, total: None)
    elapsed = time.perf_counter() - start
    (total,) = found.trials[0].totals()
    if found.events != events or total.draft_nano != 2 * total.live_nano:
        raise SystemExit(f"{found.events} of {events} events rated: the measurement is void")
    return events / elapsed


def _doubled(catalog: Catalog) -> Catalog:
    (book,) = catalog.pricebooks
    prices = tuple(replace(price, unit_price=2 * (price.unit_price or Decimal(0))) for price in book.prices)
    return replace(catalog, pricebooks=(replace(book, version=book.version + 1, prices=prices),))
