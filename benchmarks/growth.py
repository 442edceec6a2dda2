"""What size costs: ingest into a ledger that already holds millions of line items, and how fast it is verified."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import workload
from benchmarks.ledger import ACCOUNTS, Result, copy_rate, fresh_ledger, ingest_rate, result
from lineitem.app import App
from lineitem.kit import db
from lineitem.ledger.post import ensure_months

PREFILL = 20_000_000
OCTOBER_2026 = 2026 * 12 + 9


def growth(prefill: int = PREFILL, events: int = 1_000_000, batch: int = 100_000, rounds: int = 3) -> Iterator[Result]:
    """Events per second into a ledger of ``prefill`` line items against an empty one, same events, same run.

    The line items and identities that are there already are written by SQL, in the tables and with the indexes that
    ingest writes to; running usage is that of the accounts the events belong to.
    """
    with TemporaryDirectory(prefix="lineitem-bench-") as folder:
        paths = [Path(folder) / f"events-{n}.ndjson" for n in range(rounds)]
        for seed, path in enumerate(paths):
            workload.write_events(path, events, ACCOUNTS, seed=seed + 100)
        empty = []
        for path in paths:
            with fresh_ledger("each") as app:
                empty.append(ingest_rate(app, path, events, batch))
        with fresh_ledger("each") as app:
            _prefill(app, prefill)
            full = [ingest_rate(app, path, events, batch) for path in paths]
    yield result(f"growth_{prefill // 1_000_000}M", median(full), "empty ledger", median(empty))


def _prefill(app: App, rows: int) -> None:
    """``rows`` line items and identities in chunks, as the ledger's own ingest would leave them."""
    ensure_months(app.control, [OCTOBER_2026])
    with db.connect(app.dsn) as connection:
        for start in range(0, rows, 1_000_000):
            count = min(1_000_000, rows - start)
            connection.execute(
                "insert into ledger.line_item (id, event_key, batch, quantity, amount_nano, event_time, seq, account_key,"
                " price_version_key, tag_set_key, namespace_key, service_month, posting_month, lane, kind, event_id)"
                " select gen_random_uuid(), gen_random_uuid(), 1000000000 + i / 100000, 1000, 2500000,"
                " timestamptz '2026-10-01' + i * interval '1 millisecond', i %% 100000, (i %% 100000) / 10, 1, 1, 1, %s, %s,"
                " 4, 1, md5(i::text) from generate_series(%s, %s) as i",
                (OCTOBER_2026, OCTOBER_2026, start, start + count - 1),
            )
            connection.execute(
                "insert into ingest.identity (key, digest, batch, ordinal, namespace_key, lane)"
                " select key, gen_random_uuid(), 1000000000, 1, 1, 4 from"
                " (select gen_random_uuid() as key from generate_series(1, %s)) as made order by key",
                (count,),
            )
        connection.execute("vacuum analyze ingest.identity")
        connection.execute("checkpoint")


def verify_rate(events: int = 1_000_000, rounds: int = 3, batch: int = 100_000) -> Iterator[Result]:
    """Line items verified per second, everything included, against the bare text COPY that could have written them."""
    with TemporaryDirectory(prefix="lineitem-bench-") as folder:
        path = Path(folder) / "events.ndjson"
        workload.write_events(path, events, ACCOUNTS)
        with fresh_ledger("each") as app:
            baseline = copy_rate(app, events)
            ingest_rate(app, path, events, batch)
            rates = []
            for _ in range(rounds):
                start = time.perf_counter()
                report = app.verify(deep=False, progress=lambda what, rows: None)
                rates.append(report.line_items / (time.perf_counter() - start))
                if not report.ok:
                    raise SystemExit(f"the ledger does not verify: {report.findings[0].what}")
    yield result("verify", median(rates), "bare text COPY", baseline)
