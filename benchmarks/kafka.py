"""How fast a topic becomes a ledger, with broker, database and workers on this one machine; and how soon an event is in it.

``kafka_to_ledger`` against the same events from a file, in the same run; a flood of repeats against that; workers of one
group against one worker; and the time from an event's production to its line item being there for others to read.
"""

from __future__ import annotations

import itertools
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from confluent_kafka import Message, Producer

from benchmarks import workload
from benchmarks.ledger import ACCOUNTS, Result, fresh_ledger, ingest_rate, result
from lineitem.adapters.streams import StreamOrder
from lineitem.app import App
from lineitem.kit import db
from lineitem.kit.process import tune_for_batches
from tests.faults.broker import Broker, NoBroker, install, running, until

EVENTS = 1_000_000
ROUNDS = 3
PARTITIONS = 4
LIVE_S = 30
"""How long events are produced at an even pace to see how soon they are in the ledger."""
LOOK_S = 0.005
"""How often the ledger is looked at: what a time to ledger may be too long by."""


@contextmanager
def _broker() -> Iterator[Broker]:
    try:
        install()
    except NoBroker as reason:
        raise SystemExit(f"no benchmark against Kafka: {reason}") from reason
    with tempfile.TemporaryDirectory(prefix="lineitem-bench-") as folder, running(Path(folder)) as broker:
        yield broker


def _account(line: bytes) -> bytes:
    """The key of a line of the workload: its account."""
    start = line.index(b'"subject":"') + 11
    return line[start : line.index(b'"', start)]


def _fill(broker: Broker, topic: str, lines: Sequence[bytes]) -> None:
    """Produce the events, keyed by account."""
    producer = Producer({**broker.client, "linger.ms": 50, "queue.buffering.max.messages": 2_000_000})
    for line in lines:
        producer.produce(topic, value=line, key=_account(line))
    if producer.flush(120):
        raise SystemExit("the broker did not take all events: the measurement is void")


def _work_rate(app: App, broker: Broker, topic: str, events: int, itemized: int) -> float:
    """Events per second of one worker that reads a topic to its end, joining the group included."""
    tune_for_batches()
    order = StreamOrder(broker.url(topic), f"group-{topic}", until_idle=True)
    start = time.perf_counter()
    done = app.work("default", order, threading.Event(), lambda line: None)
    elapsed = time.perf_counter() - start
    if (done.summary.counts.received, done.summary.counts.itemized) != (events, itemized):
        raise SystemExit(f"{done.summary.document()}, not {itemized} of {events} itemized: the measurement is void")
    return events / elapsed


def kafka_to_ledger(events: int = EVENTS, rounds: int = ROUNDS, batch: int = 100_000) -> Iterator[Result]:
    """One worker on a topic, the same with nine of ten events repeated, and the file, interleaved; medians of the rounds."""
    rates: dict[str, list[float]] = {"file": [], "kafka": [], "flood": []}
    with tempfile.TemporaryDirectory(prefix="lineitem-bench-") as folder, _broker() as broker:
        path = Path(folder) / "events.ndjson"
        workload.write_events(path, events, ACCOUNTS)
        lines = path.read_bytes().splitlines()
        distinct = events // 10
        broker.create("usage", PARTITIONS)
        broker.create("flood", PARTITIONS)
        _fill(broker, "usage", lines)
        _fill(broker, "flood", list(itertools.islice(itertools.cycle(lines[:distinct]), events)))
        for _ in range(rounds):
            with fresh_ledger("each") as app:
                rates["file"].append(ingest_rate(app, path, events, batch))
            for name, topic, itemized in (("kafka", "usage", events), ("flood", "flood", distinct)):
                with fresh_ledger("each") as app:
                    rates[name].append(_work_rate(app, broker, topic, events, itemized))
    yield result("kafka_to_ledger", median(rates["kafka"]), "file_to_ledger_each", median(rates["file"]))
    yield result("kafka_duplicate_flood", median(rates["flood"]), "kafka_to_ledger", median(rates["kafka"]))


# --- several workers --------------------------------------------------------------------------------------------------------


def kafka_scale(events: int = EVENTS) -> Iterator[Result]:
    """1, 2 and 4 workers of one group, each a process of its own, on as many partitions, against one."""
    rates: dict[int, float] = {}
    with tempfile.TemporaryDirectory(prefix="lineitem-bench-") as folder, _broker() as broker:
        path = Path(folder) / "events.ndjson"
        workload.write_events(path, events, ACCOUNTS)
        lines = path.read_bytes().splitlines()
        for workers in (1, 2, 4):
            topic = f"usage-{workers}"
            with fresh_ledger("each") as app:
                rates[workers], about = _group(app, broker, topic, lines, workers)
            yield result(f"kafka_workers_{workers}", rates[workers], "kafka_workers_1", rates[1]) | about


def _group(app: App, broker: Broker, topic: str, lines: Sequence[bytes], workers: int) -> tuple[float, dict[str, Any]]:
    """Events per second from the first commit to the last; what part of the events each worker took, and its CPU time.

    All have joined before the first event is there. The batches in the ledger when the clock starts do not count.
    """
    broker.create(topic, workers)
    watch = _Watch(app)
    processes = [_worker(app, broker, topic, "--batch-size", "25000") for _ in range(workers)]
    if not until(lambda: broker.members(f"group-{topic}") == workers):
        raise SystemExit("the workers did not join: the measurement is void")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _fill(broker, topic, lines)
    began = watch.until(lambda total: total > 0)
    ended = watch.until(lambda total: total >= len(lines))
    for process in processes:
        process.terminate()
    shares = sorted((_finished(process)["received"] / len(lines) for process in processes), reverse=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_us = (used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime) / len(lines) * 1e6
    about = {"shares": [round(share, 3) for share in shares], "worker_cpu_us_per_event": round(cpu_us, 1)}
    return (len(lines) - began.total) / (ended.at - began.at), about


def _worker(app: App, broker: Broker, topic: str, *options: str) -> subprocess.Popen[bytes]:
    data = str(app.config.data_dir)
    source = ["--source", broker.url(topic), "--group", f"group-{topic}", "--json", *options]
    command = [str(Path(sys.executable).with_name("lineitem")), "--data-dir", data, "worker", *source]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def _finished(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    output, _ = process.communicate(timeout=120)
    if process.returncode:
        raise SystemExit(f"a worker ended with {process.returncode}: the measurement is void")
    document: dict[str, Any] = json.loads(output)
    return document


class _Seen:
    """What the ledger held at a moment. ``total``: records read of all partitions; ``next``: by partition of the topic."""

    def __init__(self, at: float, positions: dict[int, int]) -> None:
        self.at, self.next, self.total = at, positions, sum(positions.values())


class _Watch:
    """Looks at the positions that are committed, as anybody with a connection of their own can."""

    def __init__(self, app: App) -> None:
        self._connection = db.connect(app.dsn)

    def look(self) -> _Seen:
        """The positions now."""
        rows = self._connection.execute(
            "select stream, next from ingest.partition where stream like 'kafka:%%'"
        ).fetchall()
        return _Seen(time.time(), {int(stream.rpartition("/")[2]): int(at) for stream, at in rows})

    def until(
        self,
        condition: Callable[[int], bool],
        patience_s: float = 300,
        each: Callable[[_Seen], None] = lambda seen: None,
    ) -> _Seen:
        """Look until a condition on the total holds; ``each`` gets all that was seen."""
        end = time.monotonic() + patience_s
        while True:
            seen = self.look()
            each(seen)
            if condition(seen.total):
                return seen
            if time.monotonic() > end:
                raise SystemExit(f"after {patience_s} s the ledger has {seen.total} records: the measurement is void")
            time.sleep(LOOK_S)


# --- how soon -----------------------------------------------------------------------------------------------------------------


def kafka_latency(events: int = 500_000, seconds: int = LIVE_S) -> Iterator[Result]:
    """Milliseconds from an event's production to its line item, at an even pace: half of what one worker can do."""
    with tempfile.TemporaryDirectory(prefix="lineitem-bench-") as folder, _broker() as broker:
        path = Path(folder) / "events.ndjson"
        workload.write_events(path, events, ACCOUNTS)
        broker.create("rate", PARTITIONS)
        broker.create("live", PARTITIONS)
        _fill(broker, "rate", path.read_bytes().splitlines())
        with fresh_ledger("each") as app:
            per_second = int(_work_rate(app, broker, "rate", events, events) / 2)
        first = 10_000
        workload.write_events(path, first + per_second * seconds, ACCOUNTS, seed=2)
        lines = path.read_bytes().splitlines()
        _fill(broker, "live", lines[:first])
        with fresh_ledger("each") as app, ProcessPoolExecutor(1) as pool:
            worker = _worker(app, broker, "live")
            watch = _Watch(app)
            watch.until(lambda total: total >= first)  # it has joined its group
            producing = pool.submit(_produce_live, broker.client, "live", lines[first:], per_second)
            seen: list[_Seen] = []
            watch.until(lambda total: total >= len(lines), each=seen.append)
            took_ms = _took_ms(seen, producing.result())
            worker.terminate()
            batches = _finished(worker)["batches"]
    p50, p99 = np.percentile(took_ms, [50, 99])
    yield {
        "bench": "kafka_time_to_ledger", "rate_per_s": per_second, "p50_ms": round(p50), "p99_ms": round(p99),
        "max_ms": round(max(took_ms)), "batches": batches,
    }  # fmt: skip


def _produce_live(client: dict[str, Any], topic: str, lines: list[bytes], per_second: int) -> dict[int, np.ndarray]:
    """Produce at an even pace; partition -> int64[n, 2] of offsets and the times (ms) their events were made at."""
    made: dict[int, list[tuple[int, int]]] = {}

    def delivered(error: object, message: Message) -> None:
        if error is not None:
            raise SystemExit(f"{error}: the measurement is void")
        made.setdefault(message.partition() or 0, []).append((message.offset() or 0, message.timestamp()[1]))

    producer = Producer({**client, "linger.ms": 5, "queue.buffering.max.messages": 1_000_000})
    start = time.monotonic()
    for number, line in enumerate(lines):
        while (early := number / per_second - (time.monotonic() - start)) > 0:
            producer.poll(early)
        producer.produce(topic, value=line, key=_account(line), on_delivery=delivered)
    producer.flush(60)
    return {partition: np.array(pairs, np.int64) for partition, pairs in made.items()}


def _took_ms(seen: Sequence[_Seen], made: dict[int, np.ndarray]) -> np.ndarray:
    """int64[n]: per event, from when it was made to when the ledger was first seen to hold it."""
    at_ms = np.array([int(one.at * 1000) for one in seen], np.int64)
    took = []
    for partition, pairs in made.items():
        positions = np.array([one.next.get(partition, 0) for one in seen], np.int64)
        took.append(at_ms[np.searchsorted(positions, pairs[:, 0], side="right")] - pairs[:, 1])
    return np.concatenate(took)
