"""Revert a named backfill: what it brought in did not happen, as one act that may stop half way and be gone on with.

The first part closes the backfill; each part takes the events of some accounts out in one transaction, folds their targets
again and posts T - posted. What is reverted is known again only by its place: its identity may come anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog import published
from lineitem.catalog.snapshot import PriceRow
from lineitem.core.limits import LETTER_REASON_CHARS_MAX
from lineitem.ingest import backfills, letters
from lineitem.ingest.intake import PLACE
from lineitem.kit.blobs import BlobStore
from lineitem.kit.db import Connection, explained, retried
from lineitem.ledger import periods, settle_levels
from lineitem.ledger.accumulators import Targets
from lineitem.ledger.backfills import no_backfill
from lineitem.ledger.chain import BatchKind
from lineitem.ledger.changes import Change, changes
from lineitem.ledger.difference import Touched, post_without
from lineitem.ledger.post import Fact, canonical, ensure_months, lock_lane, write_batch
from lineitem.ledger.rating import group_targets
from lineitem.ledger.refold import Replay, UsageBatch
from lineitem.ledger.why import say_why
from lineitem.rate.enrich import PriceUsage
from lineitem.rate.exact import compact, objects
from lineitem.rate.folds import running_sum

FACT = "backfill_revert"
EVENTS_PER_PART = 1_000_000
"""Events that one transaction takes out, those of a single account aside. Each part decodes the whole backfill."""
Progress = Callable[[int, int], None]
"""Called after every part with how many events are out, and how many there were."""


@dataclass(slots=True)
class Reverted:
    """What one invocation did, or would do where ``dry_run``; ``places``: the batches that did."""

    name: str
    dry_run: bool
    events: int = 0
    line_items: int = 0
    places: list[tuple[int, int]] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    def document(self) -> dict[str, object]:
        """As ``lineitem backfill revert --json`` prints it."""
        return {
            "backfill": self.name,
            "dry_run": self.dry_run,
            "events": self.events,
            "line_items": self.line_items,
            "batches": len(self.places),
            "changes": [one.document() for one in self.changes],
        }


@dataclass(frozen=True, slots=True)
class Why:
    """Who reverts a backfill, and what for."""

    name: str
    by: str
    reason: str


def revert(
    connection: Connection,
    store: BlobStore,
    namespace: str,
    why: Why,
    now_us: int,
    progress: Progress,
    *,
    events_max: int = EVENTS_PER_PART,
) -> Reverted:
    """Take every event of a backfill out that is not out yet; nothing where all are.

    Raises InputError for an unknown backfill, Refused where no reason is given or an account would owe what the ledger
    cannot hold.
    """
    done = Reverted(why.name, dry_run=False)
    say_why("reverting a backfill", why.reason, LETTER_REASON_CHARS_MAX)
    namespace_key = letters.namespace_key(connection, namespace)
    if not any((one.namespace_key, one.name) == (namespace_key, why.name) for one in backfills.backfills(connection)):
        raise no_backfill(namespace, why.name)
    with explained():
        retried(partial(_close, connection, namespace, namespace_key, why, now_us))
        known = backfills.passes(connection, namespace_key).items()  # only now: no other can come into it any more
        passes = [key for key, (_, name) in known if name == why.name]
        left = _left(connection, store, namespace, passes)
        total = sum(left.values())
        for subjects in _portions(left, events_max):
            act = partial(_part, connection, store, namespace, passes, set(subjects), why, now_us)
            place, events, line_items = retried(act)
            done.places.append(place)
            done.events += events
            done.line_items += line_items
            progress(done.events, total)
    done.changes = changes(connection, namespace_key, done.places)
    return done


def try_revert(
    connection: Connection, store: BlobStore, namespace: str, name: str, now_us: int, progress: Progress
) -> Reverted:
    """What reverting would change: really done, in one transaction that is taken back."""
    with connection.transaction(force_rollback=True):
        done = revert(connection, store, namespace, Why(name, "dry run", "dry run"), now_us, progress)
    done.dry_run = True
    return done


def _left(connection: Connection, store: BlobStore, namespace: str, passes: Sequence[int]) -> Counter[str]:
    """Account -> how many events of it are still in; the months that taking them out posts to get their partitions."""
    left: Counter[str] = Counter()
    months: set[int] = set()
    for batch in Replay(connection, store, namespace).batches(partitions=passes):
        left.update(batch.events.subject[row] for row in np.flatnonzero(batch.alive).tolist())
        months |= {month for usage in batch.usage for month in np.unique(usage.service_month).tolist()}
        months |= settle_levels.months_counting(connection, namespace, batch.usage)
    closed = periods.closed_months(connection, letters.namespace_key(connection, namespace))
    ensure_months(connection, sorted(set(periods.posting_months(np.array(sorted(months), np.int32), closed).tolist())))
    return left


def _portions(left: Counter[str], events_max: int) -> Iterator[list[str]]:
    """Accounts whose events make up a part each."""
    some: list[str] = []
    events = 0
    for subject in sorted(left):
        if some and events + left[subject] > events_max:
            yield some
            some, events = [], 0
        some.append(subject)
        events += left[subject]
    if some:
        yield some


def _close(connection: Connection, namespace: str, namespace_key: int, why: Why, now_us: int) -> None:
    """Let nothing more in; waits for batches that are about to. Once: a revert that is gone on with finds it done."""
    with connection.transaction():
        head = lock_lane(connection, 0)
        found = backfills.lock(connection, namespace_key, why.name)
        if found is None or found.reverted_batch is not None:
            return
        backfills.close(connection, namespace_key, why.name, head.batch + 1)
        write_batch(
            connection, head, namespace, namespace_key, BatchKind.RETRACT,
            facts=[_fact(namespace, why, np.zeros(0, dtype=PLACE))],
            catalog_revision=published.current_revision(connection, namespace), recorded_us=now_us,
        )  # fmt: skip


def _fact(namespace: str, why: Why, gone: NDArray[np.void]) -> Fact:
    """What vouches for the events that were reverted."""
    body = {"namespace": namespace, "backfill": why.name, "by": why.by, "reason": why.reason}
    return Fact(FACT, canonical(body | {"events": len(gone), "digest": backfills.digest(gone)}))


def _part(
    connection: Connection,
    store: BlobStore,
    namespace: str,
    passes: Sequence[int],
    subjects: Set[str],
    why: Why,
    now_us: int,
) -> tuple[tuple[int, int], int, int]:
    """Take the events of some accounts out: the batch that did, how many events, how many line items."""
    with connection.transaction():
        head = lock_lane(connection, 0)
        snapshot = published.load_snapshot(connection, namespace)
        assert snapshot is not None
        replay = Replay(connection, store, namespace)
        mine = _Usage()
        for batch in replay.batches(partitions=passes):
            mine.add(connection, batch, subjects)
        gone = backfills.revert(connection, mine.identities(), head.batch + 1)
        fact = _fact(namespace, why, gone)
        made = post_without(connection, head, snapshot, replay, mine.touched(), mine.readings, fact, now_us)
    return (0, head.batch + 1), len(gone), made


@dataclass(slots=True)
class _Target:
    """What goes out of one target, and of whose line item the difference takes tags and version."""

    account_key: int
    month: int
    start_us: int
    end_us: int
    quantity: int
    events: int
    tag_set_key: int
    version_key: int
    time_us: int


@dataclass(slots=True)
class _Usage:
    """The events of some accounts of a backfill that are still in: identities, targets by price, readings of levels."""

    keys: list[NDArray[np.void]] = field(default_factory=list)
    rows: dict[int, PriceRow] = field(default_factory=dict)
    targets: dict[int, dict[int, _Target]] = field(default_factory=dict)  # by price key and account key << 20 | month
    readings: list[PriceUsage] = field(default_factory=list)

    def add(self, connection: Connection, batch: UsageBatch, subjects: Set[str]) -> None:
        """What one batch of the backfill has of them."""
        wanted = np.fromiter((name in subjects for name in batch.events.subject), np.bool_, len(batch.events))
        self.keys.append(batch.events.key[wanted & batch.alive])
        tags = published.tag_set_keys(connection, batch.tag_sets)
        for usage in batch.usage:
            some = usage.select(wanted[usage.event])
            if len(some.event) and some.row.is_level:
                self.readings.append(some)
            elif len(some.event):
                self._add_targets(some, [tags[text] for text in batch.tag_sets])

    def _add_targets(self, usage: PriceUsage, tag_keys: Sequence[int]) -> None:
        usage, target, targets = group_targets(usage)
        zeros = np.zeros(len(targets), dtype=np.int64)
        _, quantity = running_sum(target, usage.value, zeros)  # only sums and counts share tiers, and need it
        head = np.searchsorted(target, np.arange(len(targets)))
        events = np.bincount(target, minlength=len(targets))
        known = self.targets.setdefault(usage.row.price_key, {})
        self.rows.setdefault(usage.row.price_key, usage.row)
        columns = (
            targets.account_key, targets.service_month, targets.start_us, targets.end_us, quantity, events,
            np.array(tag_keys, dtype=np.int32)[usage.tag_set[head]], usage.version_key[head], usage.time_us[head],
        )  # fmt: skip
        for values in zip(*(column.tolist() for column in columns), strict=True):
            one = _Target(*values)
            code = one.account_key << 20 | one.month
            first = min(known.get(code, one), one, key=lambda held: held.time_us)
            if code in known:
                quantity_before, events_before = known[code].quantity, known[code].events
                first = replace(first, quantity=quantity_before + one.quantity, events=events_before + one.events)
            known[code] = first

    def identities(self) -> NDArray[np.void]:
        """Identity keys, (n,) V16."""
        return np.concatenate([*self.keys, np.zeros(0, dtype="V16")])

    def touched(self) -> list[Touched]:
        """The targets, price by price in key order."""
        return [
            _touched(self.rows[key], [one for _, one in sorted(self.targets[key].items())]) for key in sorted(self.rows)
        ]


def _touched(row: PriceRow, some: Sequence[_Target]) -> Touched:
    def column(name: str, dtype: type[np.generic]) -> NDArray[Any]:
        return np.array([getattr(one, name) for one in some], dtype=dtype)

    return Touched(
        row,
        Targets.of(row.price_key, [(one.account_key, one.month, one.start_us, one.end_us) for one in some]),
        compact(objects([one.quantity for one in some])),
        column("events", np.int64),
        column("tag_set_key", np.int32),
        column("version_key", np.int32),
        column("time_us", np.int64),
    )
