"""What a watch keeps of a batch, with clocks set by hand: stages, tries, what became of it, and who is told."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from lineitem.core.errors import PositionMoved, Refused
from lineitem.core.reasons import Reason
from lineitem.observability import metrics
from lineitem.observability.health import Progress
from lineitem.observability.logs import Log, LogFormat
from lineitem.observability.metrics import Cause, Outcome, Stage
from lineitem.observability.watch import LINKS_MAX, BatchWatch, Clocks, Seen, Watch

NOW_US = 1_800_000_000_000_000
MS = 1_000_000


class Hands:
    """A steady clock that moves when told; the wall clock runs with it from ``NOW_US`` on."""

    def __init__(self) -> None:
        self.steady_ns = 50 * MS

    @property
    def clocks(self) -> Clocks:
        return Clocks(lambda: NOW_US * 1000 - 50 * MS + self.steady_ns, lambda: self.steady_ns)

    def pass_ms(self, ms: int) -> None:
        self.steady_ns += ms * MS


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def told() -> list[Seen]:
    return []


@pytest.fixture
def watch(hands: Hands, told: list[Seen]) -> BatchWatch:
    """One whose traces are named after the batch's start."""
    progress = Progress(clock=lambda: hands.steady_ns)
    return BatchWatch(progress=progress, tracer=lambda seen: f"{seen.start:032x}", log=told.append, clocks=hands.clocks)


def run(watch: BatchWatch, hands: Hands, *, received_us: int | None = None, start: int = 0) -> Seen:
    """A batch of three records, of which two are accepted."""
    received = None if received_us is None else np.full(3, received_us)
    with watch.batch("default", "kafka:c/t/i/0", start, start + 3, 3, 300, received) as seen:
        hands.pass_ms(10)
        watch.lap(Stage.DECODE)
        watch.decoded(["00-" + "1" * 32 + "-" + "2" * 16 + "-01", None])
        hands.pass_ms(5)
        watch.lap(Stage.CHECK)
        hands.pass_ms(20)
        watch.again(Cause.IDENTITY_COLLIDED)
        hands.pass_ms(1)
        watch.lap(Stage.RATE)
        times = np.array([NOW_US - 2_000_000, NOW_US - 40_000_000])
        watch.settled(times, np.array([0, 2], np.int32), 1, {Reason.NO_PRICE: 1})
        hands.pass_ms(4)
        watch.lap(Stage.RATE)
        seen.lane, seen.batch = 2, "2-17"
        seen.outcomes = {"itemized": 2, "duplicate": 0, "dead_lettered": 1}
        seen.line_items, seen.line_item_ids = 2, ("first", "last")
    return seen


def test_stages_add_up_and_a_lost_try_belongs_to_none(watch: BatchWatch, hands: Hands) -> None:
    """Times are wall times of one steady clock."""
    seen = run(watch, hands)
    assert seen.stages_ns() == {Stage.DECODE: 10 * MS, Stage.CHECK: 5 * MS, Stage.RATE: 5 * MS}
    assert seen.began_ns == NOW_US * 1000
    assert (seen.laps[0].start_ns, seen.took_ns) == (seen.began_ns, 40 * MS)
    assert [(again.cause, again.at_ns - seen.began_ns) for again in seen.again] == [(Cause.IDENTITY_COLLIDED, 35 * MS)]


def test_a_committed_batch_is_counted_once(watch: BatchWatch, hands: Hands, told: list[Seen]) -> None:
    """Whatever was told of tries that were rolled back."""
    seen = run(watch, hands)
    value = watch.recorder.value
    assert (seen.outcome, told) == (Outcome.COMMITTED, [seen])
    assert value(metrics.BATCHES, "committed") == value(metrics.RETRIES, "identity_collided") == 1
    assert (value(metrics.RECORDS, "itemized"), value(metrics.LINE_ITEMS)) == (2, 2)
    assert value(metrics.DEAD_LETTERS, "no_price") == value(metrics.ENRICHMENT_FAILURES, "no_price") == 1
    assert value(metrics.LAST_COMMIT) == pytest.approx(NOW_US / 1e6 + 0.04)
    held = {metric.name: dict(series) for metric, series in watch.recorder.snapshot()}
    commit = held["lineitem_commit_seconds"][()].buckets
    assert commit is not None
    assert commit.sum == pytest.approx(0.025), "from the check to the end"
    assert {one.trace_id for one in commit.exemplars.values()} == {seen.trace_id}


def test_duplicates_by_stage(watch: BatchWatch, hands: Hands) -> None:
    """Those inside the batch and those of the ledger are the batch's duplicates."""
    with watch.batch("default", "s", 0, 9, 9, 9) as seen:
        watch.settled(np.zeros(0, np.int64), np.zeros(0, np.int32), 2, {})
        seen.outcomes = {"duplicate": 9}
    value = watch.recorder.value
    assert (value(metrics.DUPLICATES, "batch"), value(metrics.DUPLICATES, "ledger")) == (2, 7)


def test_three_clocks(watch: BatchWatch, hands: Hands) -> None:
    """Time to ledger counts from the event and from its receipt; one that comes before it was made shows as skew."""
    run(watch, hands, received_us=NOW_US - 3_000_000)
    ms = watch.time_to_ledger_ms()
    assert ms == {"p50": pytest.approx(3040, rel=0.01), "p99": pytest.approx(3040, rel=0.01), "event": ms["event"]}
    assert ms["event"] == {"p50": pytest.approx(2040, rel=0.01), "p99": pytest.approx(40_040, rel=0.01)}
    skew = {one: watch.recorder.value(metrics.SKEW, one) for one in ("event_receive", "receive_commit")}
    assert skew == {"event_receive": 1, "receive_commit": 0}
    run(watch, hands, received_us=NOW_US + 5_000_000)
    assert watch.recorder.value(metrics.SKEW, "receive_commit") == 2


def test_without_receipts_only_the_events_clock_counts(watch: BatchWatch, hands: Hands) -> None:
    """A broker that stamps nothing."""
    run(watch, hands)
    ms = watch.time_to_ledger_ms()
    assert (ms["p50"], ms["p99"]) == (None, None)


@pytest.mark.parametrize(
    ("error", "outcome", "problem"),
    [
        (PositionMoved("another was here"), Outcome.MOVED, "another was here"),
        (Refused("the topic is another one"), Outcome.FAILED, "the topic is another one"),
        (ValueError("acme's secret"), Outcome.FAILED, "ValueError"),
    ],
)
def test_what_goes_wrong_is_told_and_goes_on_its_way(
    watch: BatchWatch, told: list[Seen], error: Exception, outcome: Outcome, problem: str
) -> None:
    """Of an error that is not ours only the kind: its text may hold what an event held."""
    with pytest.raises(type(error)), watch.batch("default", "s", 0, 1, 1, 1):
        raise error
    assert [(seen.outcome, seen.problem) for seen in told] == [(outcome, problem)]
    assert watch.recorder.value(metrics.BATCHES, outcome) == 1
    assert watch.recorder.value(metrics.LINE_ITEMS) == 0


def test_traces_of_events_are_kept_up_to_the_limit(watch: BatchWatch) -> None:
    """Each once, in order; none where nobody traces."""
    parents = [f"00-{number // 2:032x}-{1:016x}-01" for number in range(1000)]
    with watch.batch("default", "s", 0, 1, 1, 1) as seen:
        watch.decoded([None, *parents])
    assert list(seen.traceparents) == list(dict.fromkeys(parents))[:LINKS_MAX]
    with BatchWatch().batch("default", "s", 0, 1, 1, 1) as untraced:
        watch.decoded(parents)
    assert untraced.traceparents == ()


def test_outside_a_batch_nothing_is_kept() -> None:
    """The pipeline of a file, or of a replay, tells a watch that no batch has been opened for."""
    for watch in (Watch(), BatchWatch()):
        watch.lap(Stage.RATE)
        watch.decoded(["x"])
        watch.settled(np.zeros(1, np.int64), np.zeros(1, np.int32), 0, {})
        watch.again(Cause.DATABASE)


def log(watch: BatchWatch, hands: Hands, format_: LogFormat, slow_ms: int = 1000) -> list[str]:
    """Lines of a message and a batch."""
    out = io.StringIO()
    made = Log(format_, lambda text: print(text, file=out), lambda: NOW_US * 1000, slow_ms)
    made.message("reading partitions 0")
    made.batch(run(watch, hands))
    return out.getvalue().splitlines()


def test_a_line_of_json_per_batch(watch: BatchWatch, hands: Hands) -> None:
    """Batch, trace, first and last line item, counts, milliseconds per stage; nothing of what an event held."""
    message, batch = map(json.loads, log(watch, hands, LogFormat.JSON))
    assert message == {"time": "2027-01-15T08:00:00.000Z", "level": "info", "message": "reading partitions 0"}
    assert batch == {
        "time": "2027-01-15T08:00:00.040Z",
        "level": "info",
        "message": "batch committed",
        "namespace": "default",
        "batch": "2-17",
        "stream": "kafka:c/t/i/0",
        "start": 0,
        "end": 3,
        "records": 3,
        "bytes": 300,
        "itemized": 2,
        "duplicate": 0,
        "dead_lettered": 1,
        "line_items": 2,
        "first_line_item": "first",
        "last_line_item": "last",
        "dead_letters": {"no_price": 1},
        "retries": ["identity_collided"],
        "duration_ms": 40,
        "stages_ms": {"decode": 10, "check": 5, "rate": 5},
        "trace_id": "0" * 32,
    }


def test_a_line_for_people(watch: BatchWatch, hands: Hands) -> None:
    """One sentence; a slow batch is a warning."""
    message, batch = log(watch, hands, LogFormat.CONSOLE, slow_ms=40)
    assert message == "2027-01-15T08:00:00.000Z info    reading partitions 0"
    assert batch == (
        "2027-01-15T08:00:00.040Z warning batch 2-17; 3 records of kafka:c/t/i/0 from 0; 2 line items; 1 dead lettered; "
        f"40 ms (decode 10, check 5, rate 5); trace {'0' * 32}"
    )


def test_ready_means_progress(hands: Hands) -> None:
    """Nothing to do is ready; work that does not move is not, nor is a reader that has gone silent."""
    progress = Progress(60, clock=lambda: hands.steady_ns)
    assert not progress.verdict().ready
    progress.look(False)
    assert progress.verdict() == (True, "nothing to do")
    for _ in range(6):
        hands.pass_ms(10_000)
        progress.look(True)
    assert progress.verdict() == (True, "working"), "50 s since the work was seen first"
    hands.pass_ms(10_000)
    progress.look(True)
    assert progress.verdict() == (False, "there is work, and no position has moved for 60 s")
    progress.moved()
    assert progress.verdict().ready
    progress.look(False)
    hands.pass_ms(60_000)
    assert progress.verdict() == (False, "the reader has not come round for 60 s: is the broker away?")
