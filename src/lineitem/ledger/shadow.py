"""Shadow rating: what drafts of a catalog would have charged for past usage. Raw segments in, differences out.

Each batch is decoded once and then matched, enriched and folded under the catalog it was rated with and under every
draft. T is a function of a target's final fold, so nothing is priced before the end, and memory grows with accounts,
prices and months, never with events. Nothing is written: the database is read in one read-only snapshot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog import published
from lineitem.catalog.model import Catalog, Meter
from lineitem.catalog.snapshot import AccountRow, PriceRow, Snapshot, canonical_tags
from lineitem.catalog.trial import draft_snapshot
from lineitem.core.errors import InputError, Refused, UsageError
from lineitem.core.period import Month
from lineitem.core.reasons import Reason
from lineitem.ingest.events import EventColumns, Reject
from lineitem.kit.blobs import BlobStore
from lineitem.kit.db import Connection, explained
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.publishing import refusals
from lineitem.ledger.refold import DecodedBatch, PriceFold, Replay, bases, rows_by_ordinal
from lineitem.ledger.shadow_rows import LOSSES, Comparison, Difference, Trial, largest_first
from lineitem.ledger.shadow_settled import Ledger, Scope, Side, uncompared, unended, usage_of
from lineitem.rate.enrich import Accounts, PriceUsage, enrich
from lineitem.rate.match import MeterMatch, match

SQL = load_queries("lineitem.ledger", "shadow.sql")

_DAY_US = 86_400_000_000
_BILLED, _UNPRICED, _NOT_BILLABLE, _DEAD_LETTERED = range(4)
"""What a draft makes of an event; from the second on, one more than its place in ``LOSSES``."""

Progress = Callable[[int, int], None]
"""Called after every batch with the records decoded so far and all there are to decode."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A catalog to try, and what it is called."""

    name: str
    catalog: Catalog


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which usage to rate: service months, both included (None: the last full month with usage, and what came after),
    and accounts (none: all of them). ``as_dated``: a draft's prices count from when it says, not all the time.
    ``without_canaries``: as if no account were in one. ``usage_only``: without what months owe beside their usage.
    """

    since: Month | None = None
    until: Month | None = None
    accounts: tuple[str, ...] = ()
    as_dated: bool = False
    without_canaries: bool = False
    usage_only: bool = False


def shadow(
    connection: Connection,
    store: BlobStore,
    namespace: str,
    drafts: Sequence[Candidate],
    wanted: Wanted,
    now_us: int,
    progress: Progress,
) -> Comparison:
    """Rate past usage with every draft and compare with what the ledger charges.

    Raises UsageError where ``since`` lies after ``until``, InputError for an unknown account and for months without
    usage, Refused where nothing is in force, BatchDamaged where raw records cannot be read again.
    """
    if wanted.since and wanted.until and wanted.since > wanted.until:
        raise UsageError(f"--since {wanted.since} lies after --until {wanted.until}", do="Swap them.")
    with explained(), connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        in_force = _in_force(connection, namespace)
        since, until = _months(connection, in_force, wanted, now_us)
        return _Shadow(connection, store, in_force, drafts, wanted, since, until, now_us).run(progress)


def _in_force(connection: Connection, namespace: str) -> Snapshot:
    # Looked for first: loading a snapshot would name the namespace, and nothing is written here.
    known = namespace in published.namespaces(connection).values()
    snapshot = published.load_snapshot(connection, namespace) if known else None
    if snapshot is None:
        raise Refused(f"namespace {namespace!r} has no catalog", do="Publish one: lineitem catalog publish FILE")
    return snapshot


def _months(connection: Connection, in_force: Snapshot, wanted: Wanted, now_us: int) -> tuple[Month, Month]:
    """The range to rate: what was asked for, else from the last full month with usage (in UTC) up to the latest usage."""
    namespace = in_force.namespace
    used = [Month.from_index(row[0]) for row in connection.execute(SQL.usage_months, {"namespace": namespace})]
    if not used:
        raise InputError(f"namespace {namespace!r} has no usage to rate", do="Ingest some first: lineitem ingest FILE")
    until = wanted.until or max(used[-1], wanted.since or used[-1])
    full = [month for month in used if month < Month.of_us(now_us) and month <= until]
    since = wanted.since or (full[-1] if full else used[0])
    owes_without = any(row.is_level or not row.price.meter for row in in_force.rows)
    if not owes_without and not any(since <= month <= until for month in used):
        raise InputError(
            f"there is no usage from {since} to {until}", do=f"There is some from {used[0]} to {used[-1]}."
        )
    return since, until


@dataclass(slots=True)
class _Run:
    """One draft under way. ``lost``: (account key, price key of the ledger, fate) -> events."""

    draft: Candidate
    snapshot: Snapshot
    listed: dict[str, tuple[str | None, str]]  # account -> its pricebook and its tags (canonical JSON) in the draft
    folds: dict[int, PriceFold] = field(default_factory=dict)
    lost: Counter[tuple[int, int, int]] = field(default_factory=Counter)
    fates: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1 + len(LOSSES), dtype=np.int64))
    reasons: Counter[Reason] = field(default_factory=Counter)
    events: int = 0

    def accounts(self, known: Accounts) -> Accounts:
        """The accounts of a batch, with the pricebooks and tags that the draft lists for them."""
        if not self.listed:
            return known
        return Accounts(known.subject, [self._moved(row) for row in known.rows])

    def _moved(self, row: AccountRow | None) -> AccountRow | None:
        if row is None or self.listed.get(row.account, (row.pricebook, row.tags)) == (row.pricebook, row.tags):
            return row
        pricebook, tags = self.listed[row.account]
        return replace(row, pricebook=pricebook, tags=tags)


class _Shadow:
    """All drafts over all batches of the range."""

    def __init__(
        self,
        connection: Connection,
        store: BlobStore,
        in_force: Snapshot,
        drafts: Sequence[Candidate],
        wanted: Wanted,
        since: Month,
        until: Month,
        now_us: int,
    ) -> None:
        self._connection, self._in_force, self._wanted = connection, in_force, wanted
        self._since, self._until, self._now_us = since, until, now_us
        self._replay = Replay(connection, store, in_force.namespace)
        self._only = _account_keys(connection, in_force, wanted.accounts)
        self._names: dict[int, str] = {}
        self._live: dict[int, PriceFold] = {}
        self._rows: dict[int, PriceRow] = {}  # the prices that bill usage in the ledger, levels too
        self._events = 0
        self._runs = [self._start(draft) for draft in drafts]

    def _start(self, draft: Candidate) -> _Run:
        snapshot = draft_snapshot(
            self._in_force,
            draft.catalog,
            as_dated=self._wanted.as_dated,
            without_canaries=self._wanted.without_canaries,
        )
        accounts = draft.catalog.accounts
        listed = {account.id: (account.pricebook, canonical_tags(dict(account.tags))) for account in accounts}
        return _Run(draft, snapshot, listed)

    def run(self, progress: Progress) -> Comparison:
        """Decode every batch once, rate it everywhere, compare in the end."""
        # A month begins up to 14 hours before and after it does in UTC.
        since_us = self._since.bounds_us("UTC")[0] - _DAY_US
        until_us = self._until.bounds_us("UTC")[1] + _DAY_US
        between = {"namespace": self._in_force.namespace, "since_us": since_us, "until_us": until_us}
        row = self._connection.execute(SQL.records_between, between).fetchone()
        total, done = (0 if row is None else int(row[0])), 0
        for batch in self._replay.decoded(since_us, until_us):
            self._add(batch)
            done += len(batch.raw.records)
            progress(done, total)
        return self._compared()

    def _compared(self) -> Comparison:
        drafts = [run.snapshot for run in self._runs]
        months = range(self._since.index, self._until.index + 1)
        left_out = {} if self._wanted.usage_only else uncompared(self._in_force, drafts)
        in_part = {} if self._wanted.usage_only else unended([self._in_force, *drafts], months, self._now_us)
        only = None if self._only is None else set(self._only.tolist())
        scope = Scope(months, self._now_us, only, left_out)
        ledger = Ledger()
        if not self._wanted.usage_only:
            folds = [fold for one in (self._live, *(run.folds for run in self._runs)) for fold in one.values()]
            used = {code >> 20 for fold in folds for code in fold.code.tolist()}
            listed = {one.id for snapshot in (self._in_force, *drafts) for one in snapshot.catalog.accounts}
            ledger = Ledger.read(self._connection, self._in_force, scope, used, listed)
            self._names |= {key: name for name, key in ledger.keys.items()}
            self._names |= {key: one.id for key, one in ledger.accounts.items()}
        live = self._differences(Side(self._in_force, self._live), ledger, scope)
        trials = [self._finish(run, live, ledger, scope) for run in self._runs]
        return Comparison(
            self._in_force.namespace, self._since, self._until, self._wanted.since is None, self._wanted.as_dated,
            self._events, trials, {name: why for name, why in sorted(in_part.items()) if name not in left_out},
            dict(sorted(left_out.items())),
        )  # fmt: skip

    def _differences(self, side: Side, ledger: Ledger, scope: Scope) -> dict[_Key, Difference]:
        """What each price comes to, summed over months and contents, as the live side of differences."""
        if self._wanted.usage_only:
            owed = list(usage_of(side.folds, bases(side.folds, side.snapshot.tier_chains)))
        else:
            owed = side.owed(ledger, scope)
        found: dict[_Key, Difference] = {}
        for one in owed:
            key = (one.account_key, one.price, one.currency)
            row = found.setdefault(key, Difference(self._names[one.account_key], one.price, one.currency))
            row.live_nano += one.nano
            row.events += one.events
            row.zero_priced += one.free
        return found

    def _add(self, batch: DecodedBatch) -> None:
        """Fold one batch under the catalog it was rated with and under every draft."""
        snapshot, events = self._replay.snapshot(batch.revision), batch.events
        accounts = self._replay.accounts(events, snapshot)
        self._names |= {row.account_key: row.account for row in accounts.rows if row is not None}
        matched: dict[tuple[Meter, ...], tuple[list[MeterMatch], list[Reject]]] = {}
        matches, _ = matched[snapshot.catalog.meters] = match(events, snapshot.catalog.meters)
        enriched = enrich(events, matches, accounts, snapshot)
        wanted = batch.alive & (enriched.service_month >= self._since.index)
        wanted &= enriched.service_month <= self._until.index
        if self._only is not None:
            keys = np.array([-1 if row is None else row.account_key for row in accounts.rows], dtype=np.int64)
            wanted &= np.isin(keys, self._only)[accounts.subject]
        if not wanted.any():
            return
        live = _selected(enriched.usage, wanted)
        self._rows |= {one.row.price_key: one.row for one in live}
        billed = _fold(live, self._live, len(events))
        self._events += int(billed.sum())
        for run in self._runs:
            meters = run.snapshot.catalog.meters
            if meters not in matched:
                matched[meters] = match(events, meters)
            matches, flawed = matched[meters]
            tried = enrich(events, matches, run.accounts(accounts), run.snapshot)
            draft_billed = _fold(_selected(tried.usage, wanted), run.folds, len(events))
            run.events += int(draft_billed.sum())
            fate = np.where(draft_billed, _BILLED, _NOT_BILLABLE).astype(np.int8)
            _set_aside(fate, wanted, events, [*flawed, *tried.rejects], run.reasons)
            run.fates += np.bincount(fate[billed], minlength=len(run.fates))
            _count_lost(live, fate, run.lost)

    def _finish(self, run: _Run, live: dict[_Key, Difference], ledger: Ledger, scope: Scope) -> Trial:
        rows = {key: replace(row, zero_priced=0) for key, row in live.items()}
        side = Side(run.snapshot, run.folds, {account: book for account, (book, _) in run.listed.items()})
        for key, found in self._differences(side, ledger, scope).items():
            row = rows.setdefault(key, Difference(found.account, found.price, found.currency))
            row.draft_nano, row.draft_events, row.zero_priced = found.live_nano, found.events, found.zero_priced
        for (account_key, price_key, fate), events in run.lost.items():
            price = self._rows[price_key].price
            billed = rows.get((account_key, price.id, price.currency))
            if billed is not None:  # else a level whose month is not compared
                setattr(billed, LOSSES[fate - 1], getattr(billed, LOSSES[fate - 1]) + events)
        losses = dict(zip(LOSSES, run.fates[1:].tolist(), strict=True))
        refused = refusals(self._connection, self._in_force.namespace_key, run.draft.catalog)
        return Trial(run.draft.name, refused, largest_first(rows.values()), run.events, losses, run.reasons)


def _account_keys(connection: Connection, in_force: Snapshot, names: Sequence[str]) -> NDArray[np.int64] | None:
    """The keys of the accounts asked for; None for all. Raises InputError for one that does not exist."""
    if not names:
        return None
    found = published.accounts(connection, in_force.namespace_key, names)
    for name in names:
        if name not in found:
            raise InputError(
                f"there is no account {name!r} in namespace {in_force.namespace!r}",
                do="An account exists once a catalog lists it or an event names it; ids are case-sensitive.",
            )
    return np.array([row.account_key for row in found.values()], dtype=np.int64)


def _selected(usage: Iterable[PriceUsage], wanted: NDArray[np.bool_]) -> list[PriceUsage]:
    """Usage of the events wanted."""
    if wanted.all():
        return list(usage)
    kept = [one.select(wanted[one.event]) for one in usage]
    return [one for one in kept if len(one.event)]


def _fold(usage: Iterable[PriceUsage], folds: dict[int, PriceFold], events: int) -> NDArray[np.bool_]:
    """Fold usage in. Returns (events,) bool: the events it stands for.

    Not that of levels, whose months depend on readings before them: the ledger keeps all of those.
    """
    billed = np.zeros(events, dtype=np.bool_)
    for one in usage:
        billed[one.event] = True
        if not one.row.is_level:
            folds.setdefault(one.row.price_key, PriceFold.empty(one.row)).add(one)
    return billed


def _set_aside(
    fate: NDArray[np.int8],
    wanted: NDArray[np.bool_],
    events: EventColumns,
    rejects: Sequence[Reject],
    reasons: Counter[Reason],
) -> None:
    """Note the fate of events that the draft would set aside, and count why."""
    if not rejects:
        return
    row_of = rows_by_ordinal(events)
    for reject in rejects:
        row = int(row_of[reject.ordinal])
        if wanted[row] and fate[row] not in (_UNPRICED, _DEAD_LETTERED):
            fate[row] = _UNPRICED if reject.reason is Reason.NO_PRICE else _DEAD_LETTERED
            reasons[reject.reason] += 1


def _count_lost(live: Iterable[PriceUsage], fate: NDArray[np.int8], lost: Counter[tuple[int, int, int]]) -> None:
    """Count, for every account and price of the ledger, events the draft would not bill."""
    for one in live:
        fates = fate[one.event]
        gone = np.flatnonzero(fates)
        if len(gone):
            code = one.account_key[gone].astype(np.int64) * (1 + len(LOSSES)) + fates[gone]
            distinct, counts = np.unique(code, return_counts=True)
            for value, number in zip(distinct.tolist(), counts.tolist(), strict=True):
                account_key, why = divmod(value, 1 + len(LOSSES))
                lost[(account_key, one.row.price_key, why)] += number


_Key = tuple[int, str, str]
"""Account key, price id, currency: what is compared with what."""
