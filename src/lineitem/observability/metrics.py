"""Every metric lineitem exposes, once: name, kind, unit, labels, what it means and what to do about it.

The source of ``docs/reference/metrics.md``. Names follow Prometheus: the unit last, ``_total`` behind a counter. A label takes
few values that are known beforehand: never an account, an event or anything else that grows with usage. What belongs to one
of the indicators M1-M10 (docs/reference/metrics.md lists them) says so in ``sli``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lineitem.core.reasons import Reason


class Kind(StrEnum):
    """How a metric behaves, in Prometheus' words."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Shown(StrEnum):
    """Who shows a metric: a worker what it did and sees, everybody what stands in the ledger."""

    WORKER = "worker"
    LEDGER = "ledger"
    BOTH = "both"


class Stage(StrEnum):
    """The stages of a batch, in order; see ``flow.py``."""

    DECODE = "decode"
    SEGMENT = "segment"
    ENRICH = "enrich"
    IDENTITY = "identity"
    CHECK = "check"
    LOCK = "lock"
    SETTLE = "settle"
    RATE = "rate"
    COPY = "copy"
    COMMIT = "commit"


class Outcome(StrEnum):
    """What became of a batch. ``moved``: another process had taken its records, nothing was written."""

    COMMITTED = "committed"
    MOVED = "moved"
    FAILED = "failed"


class Cause(StrEnum):
    """Why a batch was tried again."""

    CATALOG_MOVED = "catalog_moved"
    IDENTITY_COLLIDED = "identity_collided"
    AMOUNT_TOO_LARGE = "amount_too_large"
    DATABASE = "database"


@dataclass(frozen=True, slots=True)
class Label:
    """A label: its ``values``, or where they are not known beforehand, the ``bound`` on how many there can be."""

    name: str
    values: tuple[str, ...] = ()
    bound: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One definition, itself a key. ``edges``: upper ends of a histogram's buckets, inclusive, in ``unit``."""

    name: str
    kind: Kind
    unit: str
    meaning: str
    remedy: str
    labels: tuple[Label, ...] = ()
    edges: tuple[float, ...] = ()
    sli: str = ""
    shown: Shown = Shown.WORKER


RECORD_OUTCOMES = ("itemized", "pending", "duplicate", "dead_lettered", "not_billable")
ENRICHMENT = (
    Reason.UNKNOWN_ACCOUNT,
    Reason.NO_PRICE,
    Reason.CURRENCY_MISMATCH,
    Reason.MISSING_TAG,
    Reason.UNKNOWN_TAG,
)
"""Codes of records that were understood, but for which the catalog has no account, price or tag."""

REASON_CODES = tuple(reason.code for reason in Reason)

_REASON = Label("reason", REASON_CODES)
_OUTCOME = Label("outcome", RECORD_OUTCOMES)
_TOPIC = Label("topic", bound="those that are read: one for a worker")
_PARTITION = Label("partition", bound="those of the topic")
_SHORT_EDGES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_HOUR, _DAY = 3600.0, 86400.0

RECORDS = Metric(
    "lineitem_records_total",
    Kind.COUNTER,
    "records",
    "Records read, by what became of them; the outcomes add up to what was received.",
    "Nothing by itself: the rate is the load. A rising share of `dead_lettered` or `duplicate` is what M8 and M4 are "
    "about.",
    (_OUTCOME,),
    sli="M3",
)
EMITTED = Metric(
    "lineitem_events_emitted_total",
    Kind.COUNTER,
    "events",
    "Events that producers say they have sent: the denominator of the ingestion success rate. Fed where producers "
    "count; without such a count there is no sample, rather than a wrong one.",
    "Compare with `lineitem_records_total`: what was sent and never read is lost between the producer and the topic.",
    sli="M3",
)
LINE_ITEMS = Metric(
    "lineitem_line_items_total",
    Kind.COUNTER,
    "line items",
    "Line items written. Its rate is the throughput of the pipeline.",
    "Falls while `lineitem_lag_records` grows: see `lineitem_stage_seconds` for the stage that takes longer; add "
    "workers up to the number of partitions.",
    sli="M1",
)
TIME_TO_LEDGER = Metric(
    "lineitem_time_to_ledger_seconds",
    Kind.HISTOGRAM,
    "seconds",
    "From an accepted event to the commit that holds it. Three clocks, two differences: `event` counts from the "
    "event's own time (the producer's clock), `receive` from the broker's timestamp of its message. The commit is "
    "timed by the worker.",
    "`receive` high: the worker is behind, see `lineitem_lag_records`. Only `event` high: producers send late, or "
    "history is being read; the worker is fine.",
    (Label("clock", ("event", "receive")),),
    (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, _HOUR, 6 * _HOUR, _DAY, 7 * _DAY),
    sli="M2",
)
SKEW = Metric(
    "lineitem_clock_skew_events_total",
    Kind.COUNTER,
    "events",
    "Accepted events whose clocks contradict each other: `event_receive`, the event's time lies after its receipt; "
    "`receive_commit`, the receipt after the commit. They count as 0 s in `lineitem_time_to_ledger_seconds`.",
    "Set the clock right (NTP): of the producers for `event_receive`, of broker or worker for `receive_commit`.",
    (Label("between", ("event_receive", "receive_commit")),),
    sli="M2",
)
DUPLICATES = Metric(
    "lineitem_duplicates_total",
    Kind.COUNTER,
    "records",
    "Repeats that were found, by stage: `delivery`, the broker delivered again what a batch already held; `batch`, a "
    "repeat within one batch; `ledger`, an event accepted before. `batch` and `ledger` add up to the outcome "
    "`duplicate`.",
    "Harmless for what is billed. A jump in `ledger` is a producer that sends again (a retry loop, a restored outbox): "
    "find its source and tell its owners. `delivery` rises with every rebalance.",
    (Label("stage", ("delivery", "batch", "ledger")),),
    sli="M4",
)
ENRICHMENT_FAILURES = Metric(
    "lineitem_enrichment_failures_total",
    Kind.COUNTER,
    "records",
    "Records that were understood, but for which the catalog has no account, price or tag.",
    "`lineitem dlq list --group` says what is missing. Publish it: `lineitem catalog publish` tries `no_price` and "
    "`unknown_account` again by itself; `lineitem dlq replay` takes the others.",
    (Label("reason", tuple(reason.code for reason in ENRICHMENT)),),
    sli="M5",
)
DEAD_LETTERS = Metric(
    "lineitem_dead_letters_total",
    Kind.COUNTER,
    "records",
    "Records set aside, by reason code.",
    "See the runbook: docs/runbooks/dead-letters.md.",
    (_REASON,),
    sli="M8",
)
DEAD_LETTERS_OPEN = Metric(
    "lineitem_dead_letters_open",
    Kind.GAUGE,
    "dead letters",
    "Dead letters that wait to be worked off, of the whole ledger, by the reason code they have now.",
    "`lineitem dlq list --group`, then mend, replay or discard. It should go back to 0.",
    (_REASON,),
    sli="M8",
    shown=Shown.BOTH,
)
DEAD_LETTERS_OLDEST = Metric(
    "lineitem_dead_letters_oldest_age_seconds",
    Kind.GAUGE,
    "seconds",
    "How long the oldest open dead letter of a reason code has waited; 0 where none is open.",
    "Usage that waits is not billed yet: work it off before the month is closed.",
    (_REASON,),
    sli="M8",
    shown=Shown.BOTH,
)
LEDGER_UP = Metric(
    "lineitem_ledger_up",
    Kind.GAUGE,
    "",
    "1 while what stands in the ledger can be asked for, 0 while it cannot: figures from the ledger are the last known "
    "then.",
    "See why PostgreSQL does not answer; docs/runbooks/ledger-does-not-start.md.",
    shown=Shown.BOTH,
)
LAG = Metric(
    "lineitem_lag_records",
    Kind.GAUGE,
    "records",
    "Offsets between the ledger's position and the end of a partition, of those partitions that this worker holds. "
    "Transaction markers and compacted records count until they have been passed.",
    "Grows without end: add workers (up to the number of partitions), then lanes or a second ledger. Stands still: see "
    "`/readyz`.",
    (_TOPIC, _PARTITION),
    shown=Shown.BOTH,
)
POSITION = Metric(
    "lineitem_position_offset",
    Kind.GAUGE,
    "offset",
    "The offset up to which a partition is in the ledger.",
    "Does not move while there is lag: nobody reads the partition, or a batch cannot be written.",
    (_TOPIC, _PARTITION),
    shown=Shown.BOTH,
)
GATHERED = Metric(
    "lineitem_gathered_records",
    Kind.GAUGE,
    "records",
    "Records in the worker's memory that no batch holds yet.",
    "At its bound (`--batch-size`) all the time: the ledger is slower than the topic.",
)
PAUSED = Metric(
    "lineitem_reading_paused",
    Kind.GAUGE,
    "",
    "1 while the worker has paused its partitions because the ledger does not keep up.",
    "Look for what holds the lane or slows PostgreSQL down; the worker goes on by itself.",
)
BATCHES = Metric(
    "lineitem_batches_total",
    Kind.COUNTER,
    "batches",
    "Batches by what became of them: `committed`; `moved`, another worker had taken the records, nothing was written; "
    "`failed`.",
    "`failed`: the worker ended and said why. `moved` more than now and then: two groups read one topic, or workers "
    "lose their partitions (raise `session.timeout.ms`).",
    (Label("outcome", tuple(Outcome)),),
)
RETRIES = Metric(
    "lineitem_batch_retries_total",
    Kind.COUNTER,
    "tries",
    "How often a batch was rolled back and written again, by cause.",
    "`identity_collided` at a high rate: the same events arrive over two partitions at once; key the topic by account.",
    (Label("cause", tuple(Cause)),),
)
BATCH_RECORDS = Metric(
    "lineitem_batch_records",
    Kind.HISTOGRAM,
    "records",
    "Records a batch held.",
    "Small ones at high load: raise `--batch-ms`. 200,000 records a batch ran a quarter faster than 50,000, 10,000 a "
    "third slower.",
    edges=(1.0, 10.0, 100.0, 1_000.0, 5_000.0, 10_000.0, 25_000.0, 50_000.0, 100_000.0, 200_000.0, 500_000.0, 1e6),
)
BATCH_BYTES = Metric(
    "lineitem_batch_bytes",
    Kind.HISTOGRAM,
    "bytes",
    "Raw bytes a batch held.",
    "At `--batch-mb` all the time: records are large; keep payloads small, or raise it and the memory.",
    edges=tuple(float(1 << at) for at in range(10, 31, 2)),
)
STAGE_SECONDS = Metric(
    "lineitem_stage_seconds",
    Kind.HISTOGRAM,
    "seconds",
    "How long a committed batch spent in each stage, tries included: decode, segment (raw records to disk), enrich "
    "(accounts, prices, tags), identity (repeats), check (is the source still the one it was), lock (wait for the "
    "lane), settle (set aside), rate, copy (rows to PostgreSQL), commit.",
    "The stage that grew tells where to look: `lock`, another worker on the lane or a long transaction; `segment`, the "
    "disk; `check`, the broker; `copy` and `commit`, PostgreSQL.",
    (Label("stage", tuple(Stage)),),
    _SHORT_EDGES,
)
COMMIT_SECONDS = Metric(
    "lineitem_commit_seconds",
    Kind.HISTOGRAM,
    "seconds",
    "From a prepared batch to its durable commit, waiting for the lane and all tries included.",
    "See which of the stages identity, lock, rate, copy, commit it is (`lineitem_stage_seconds`).",
    edges=_SHORT_EDGES,
)
LAST_COMMIT = Metric(
    "lineitem_last_commit_timestamp_seconds",
    Kind.GAUGE,
    "seconds",
    "When this worker last committed a batch, seconds since 1970; 0 before the first.",
    "Old while there is lag: see `/readyz` and `lineitem_stage_seconds`.",
)
WORKER_INFO = Metric(
    "lineitem_worker_info",
    Kind.GAUGE,
    "",
    "Always 1; says by its labels which worker this is.",
    "Join it to other series to choose by namespace, topic or version.",
    (
        Label("version", bound="one"),
        Label("namespace", bound="one"),
        Label("source", bound="one"),
        Label("group", bound="one"),
    ),
)
LEDGER_RECORDS = Metric(
    "lineitem_ledger_records_total",
    Kind.COUNTER,
    "records",
    "Records in the ledger's batches, of all doors and namespaces, by what became of them.",
    "For jobs that are gone before they could be scraped, such as `lineitem ingest`; workers show their own share.",
    (_OUTCOME,),
    sli="M3",
    shown=Shown.LEDGER,
)
LEDGER_LINE_ITEMS = Metric(
    "lineitem_ledger_line_items_total",
    Kind.COUNTER,
    "line items",
    "Line items in the ledger, of all doors and namespaces.",
    "As `lineitem_line_items_total`.",
    sli="M1",
    shown=Shown.LEDGER,
)
LEDGER_BATCHES = Metric(
    "lineitem_ledger_batches_total",
    Kind.COUNTER,
    "batches",
    "Batches in the ledger, those of people and billing included.",
    "It must never fall: if it does, the database was set back. Run `lineitem verify`.",
    shown=Shown.LEDGER,
)
LEDGER_LAST_BATCH = Metric(
    "lineitem_ledger_last_usage_timestamp_seconds",
    Kind.GAUGE,
    "seconds",
    "When the last batch of usage was recorded, by whichever door, seconds since 1970; 0 in an empty ledger.",
    "Older than a nightly `lineitem ingest` should allow: the job did not run, or had nothing to read.",
    shown=Shown.LEDGER,
)

METRICS = (
    LINE_ITEMS, TIME_TO_LEDGER, SKEW, RECORDS, EMITTED, DUPLICATES, ENRICHMENT_FAILURES, DEAD_LETTERS, DEAD_LETTERS_OPEN,
    DEAD_LETTERS_OLDEST, LAG, POSITION, GATHERED, PAUSED, BATCHES, RETRIES, BATCH_RECORDS, BATCH_BYTES, COMMIT_SECONDS,
    STAGE_SECONDS, LAST_COMMIT, WORKER_INFO, LEDGER_UP, LEDGER_RECORDS, LEDGER_LINE_ITEMS, LEDGER_BATCHES, LEDGER_LAST_BATCH,
)  # fmt: skip
"""All of them, in the order of the reference page."""
OF_WORKER = tuple(metric for metric in METRICS if metric.shown is not Shown.LEDGER)
OF_LEDGER = tuple(metric for metric in METRICS if metric.shown is not Shown.WORKER)
