"""How fast a file becomes a ledger, against a bare text COPY of as many rows."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import workload
from lineitem.app import App
from lineitem.core.clock import FixedClock
from lineitem.ingest.events import BatchLimits
from lineitem.kit import db
from lineitem.kit.config import Config
from lineitem.kit.process import tune_for_batches

EVENTS = 1_000_000
ACCOUNTS = 10_000
ROUNDS = 3
NOW_US = 1_796_083_200_000_000
"""2026-12-01: every window of the workload has ended."""

Result = dict[str, Any]


@contextmanager
def fresh_ledger(itemize: str) -> Iterator[App]:
    """An empty ledger with the workload's catalog, in a folder of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="lineitem-bench-") as folder,
        App(Config.read(Path(folder), {}), FixedClock(NOW_US)) as app,
    ):
        app.publish("default", workload.catalog(itemize))
        yield app


def ingest_rate(app: App, path: Path, events: int, batch: int) -> float:
    """Events per second from the file to the last commit, raw segments and checkpoint included."""
    pipeline = app.pipeline("default")
    tune_for_batches()
    start = time.perf_counter()
    with app.source(path, None, None, "bench") as source:
        summary = app.ingest(pipeline, source, BatchLimits(batch), lambda position, summary: None)
    elapsed = time.perf_counter() - start
    if summary.counts.itemized != events:
        raise SystemExit(f"{summary.counts.itemized} of {events} events itemized: the measurement is void")
    return events / elapsed


def copy_rate(app: App, rows: int) -> float:
    """Rows per second of a bare text COPY of the same nine columns into a table without indexes, one transaction."""
    lines = _copy_lines(rows)
    with db.connect(app.dsn) as connection:
        connection.execute("create schema if not exists bench")
        connection.execute("drop table if exists bench.bare")
        connection.execute(
            "create table bench.bare (id uuid, event_key uuid, batch bigint, quantity bigint, amount_nano bigint,"
            " event_time timestamptz, account_key int, price_version_key int, event_id text)"
        )
        start = time.perf_counter()
        with connection.cursor() as cursor, cursor.copy("copy bench.bare from stdin") as copy:
            for chunk in lines:
                copy.write(chunk)
        elapsed = time.perf_counter() - start
        connection.execute("drop table bench.bare")
    return rows / elapsed


def _copy_lines(rows: int) -> list[bytes]:
    """The rows as text in chunks of 50,000, made before the clock starts."""
    chunks, lines = [], []
    for i in range(rows):
        key = f"{i * 0x9E3779B97F4A7C15 % (1 << 128):032x}"
        lines.append(
            f"{i:032x}\t{key}\t{i // 100_000}\t{i % 5000}\t{i % 5000 * 2500}\t"
            f"2026-10-{i % 28 + 1:02d} 12:{i % 60:02d}:00.123+00\t{i % 10_000}\t1\t{key}\n"
        )
        if len(lines) == 50_000:
            chunks.append("".join(lines).encode())
            lines = []
    return [*chunks, "".join(lines).encode()]


def file_to_ledger(events: int = EVENTS, rounds: int = ROUNDS, batch: int = 100_000) -> Iterator[Result]:
    """``each`` and ``hour`` against the bare COPY, interleaved; medians of the rounds."""
    rates: dict[str, list[float]] = {"each": [], "hour": [], "copy": []}
    with tempfile.TemporaryDirectory(prefix="lineitem-bench-") as folder:
        path = Path(folder) / "events.ndjson"
        workload.write_events(path, events, ACCOUNTS)
        for _ in range(rounds):
            for itemize in ("each", "hour"):
                with fresh_ledger(itemize) as app:
                    if itemize == "each":
                        rates["copy"].append(copy_rate(app, events))
                    rates[itemize].append(ingest_rate(app, path, events, batch))
    yield result("file_to_ledger_each", median(rates["each"]), "bare text COPY", median(rates["copy"]))
    yield result("file_to_ledger_hour", median(rates["hour"]), "file_to_ledger_each", median(rates["each"]))


def result(bench: str, rate: float, baseline: str, baseline_rate: float) -> Result:
    """One line of output."""
    return {
        "bench": bench,
        "rate_per_s": round(rate),
        "baseline": baseline,
        "baseline_per_s": round(baseline_rate),
        "ratio": round(rate / baseline_rate, 3),
    }


Bench = Callable[[], Iterator[Result]]
