"""Which months of a level are to be settled, and what they come to. Pure: readings and what is settled in, targets out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lineitem.catalog.model import Account
from lineitem.catalog.snapshot import PriceRow, Snapshot
from lineitem.ledger.levels import Counted, Pair, PairState, StoredReading
from lineitem.ledger.rating import Rater
from lineitem.rate.dues import in_advance
from lineitem.rate.levels import Holder, Window, held_in, total, windows_of


@dataclass(frozen=True, slots=True)
class Stored:
    """A target as it was settled last: its price's id, how long its content is in force in the month, up to when that
    counts as used."""

    price: str
    settled: int
    last_event_us: int


Settled = dict[int, dict[int, Stored]]
"""Service month -> price key -> target, of one pair."""


@dataclass(frozen=True, slots=True)
class Target:
    """A target, what it counts and owes now; instants in microseconds since the epoch."""

    row: PriceRow
    account_key: int
    month: int
    start_us: int
    end_us: int
    settled: int
    since_us: int
    quantity: int
    total_nano: int
    posted_month: int
    due_from_us: int


@dataclass(slots=True)
class Plan:
    """A pair and the months to work out again; ``counts``: those whose readings no longer wait then.

    ``changed_us``: its first reading that nobody has seen.
    """

    pair: Pair
    holder: Holder
    changed_us: int | None = None
    months: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def span(self) -> tuple[Pair, int, int]:
        """From which instant to which readings are needed: those of the months, and all that nobody has seen before."""
        bounds = [self.holder.bounds(month) for month in self.months]
        since, until = min(start for start, _ in bounds), max(end for _, end in bounds)
        return self.pair, since if self.changed_us is None else min(since, self.changed_us), until

    def counted(self, readings: Sequence[StoredReading]) -> Iterator[Counted]:
        """The readings that are seen now, or whose own month is settled now."""
        spans = [self.holder.bounds(month) for month in self.counts]
        for one in readings:
            settled = one.waiting and any(start <= one.reading.time_us < end for start, end in spans)
            if settled or not one.seen:
                yield Counted(self.pair, one.reading, settled, not one.seen)


@dataclass(frozen=True, slots=True)
class Asked:
    """The months somebody settles, and now."""

    months: frozenset[int]
    now_us: int

    def settles(self, row: PriceRow, month: int, bounds: tuple[int, int], *, again: bool) -> bool:
        """Whether a month is settled under a price: it has ended (in advance: begun), and is asked for (in advance: or the
        one before is), or has been settled before (``again``)."""
        start_us, end_us = bounds
        early = in_advance(row.price)
        asked = month in self.months or again or (early and month - 1 in self.months)
        return asked and (end_us <= self.now_us or (early and start_us <= self.now_us))

    def posted_month(self, row: PriceRow, month: int) -> int:
        """The posting month, where it is open: in advance the one before."""
        early = month not in self.months and month - 1 in self.months and in_advance(row.price)
        return month - 1 if early else month


def holders(snapshot: Snapshot, accounts: dict[int, Account]) -> dict[int, Holder]:
    """Accounts by key as levels need them."""
    until = {one.id: one.active_until_us for one in snapshot.catalog.accounts}
    return {key: Holder(one.id, one.pricebook, one.timezone, until.get(one.id)) for key, one in accounts.items()}


def plan_of(snapshot: Snapshot, pair: Pair, holder: Holder, state: PairState, settled: Settled, asked: Asked) -> Plan:
    """The months of a pair to work out again.

    Those asked for, the one after in advance, and from the first reading that nobody has seen on all that are settled; of
    them those that it reaches, in which a price counts for another time than was settled, or a target is not settled yet.
    """
    changed_us = state.unseen_us
    plan = Plan(pair, holder, changed_us)
    wanted = asked.months | {month + 1 for month in asked.months}
    if changed_us is not None:
        wanted |= {month for month in settled if holder.bounds(month)[1] > changed_us}
    for month in sorted(wanted):
        start, end = holder.bounds(month)
        before = settled.get(month, {})
        idle = end <= state.first_us or (state.last_us < start and not state.last_value)
        if start > asked.now_us or (idle and not before):
            continue
        contents = _contents(windows_of(snapshot, holder, month, pair.meter))
        due = _due(contents, before, month, (start, end), asked)
        moved = changed_us is not None and changed_us < end
        countable = len(due) == len(contents) and bool(end <= asked.now_us or due)
        if moved or not _as_settled(due, before, end, asked.now_us):
            plan.months += [month] if due or before or countable else []
            plan.counts += [month] if countable else []
    return plan


Contents = dict[int, list[Window]]
"""Price key -> when it counts in a month."""


def _contents(by_price: dict[str, list[Window]]) -> Contents:
    found: Contents = {}
    for window in (window for windows in by_price.values() for window in windows):
        found.setdefault(window.row.price_key, []).append(window)
    return found


def _due(contents: Contents, before: dict[int, Stored], month: int, bounds: tuple[int, int], asked: Asked) -> Contents:
    """The contents whose month is settled now, or is settled already."""
    names = {one.price for one in before.values()}
    return {
        key: windows
        for key, windows in contents.items()
        if asked.settles(windows[0].row, month, bounds, again=windows[0].row.price.id in names)
    }


def _as_settled(due: Contents, before: dict[int, Stored], end_us: int, now_us: int) -> bool:
    """Whether what is due is what was settled, and nothing else was."""
    gone = any(stored.settled for key, stored in before.items() if key not in due)
    return not gone and all(
        key in before
        and before[key].settled == sum(one.end_us - one.start_us for one in windows)
        and before[key].last_event_us >= _since(windows, end_us, now_us)
        for key, windows in due.items()
    )


def _since(windows: Sequence[Window], end_us: int, now_us: int) -> int:
    """The instant up to which no price may change any more: once the month has ended, the last one that it counts."""
    return windows[-1].end_us - 1 if end_us <= now_us else windows[0].start_us


def targets_of(
    snapshot: Snapshot,
    plan: Plan,
    month: int,
    stored: Sequence[StoredReading],
    before: dict[int, Stored],
    asked: Asked,
    rater: Rater,
) -> Iterator[Target]:
    """The targets of a pair in a month that are due or were settled."""
    start, end = plan.holder.bounds(month)
    account_key, readings = plan.pair.account_key, [one.reading for one in stored]
    by_price = windows_of(snapshot, plan.holder, month, plan.pair.meter)
    due = _due(_contents(by_price), before, month, (start, end), asked)
    for windows in by_price.values():
        for key, held in held_in(windows, readings, plan.holder, month).items():
            if key in due:
                yield Target(
                    row=held.windows[-1].row, account_key=account_key, month=month, start_us=start, end_us=end,
                    settled=held.length_us, since_us=_since(held.windows, end, asked.now_us), quantity=held.quantity,
                    total_nano=total(rater.compile(held.row), held, month, start, end),
                    posted_month=asked.posted_month(held.row, month), due_from_us=held.windows[0].start_us,
                )  # fmt: skip
    for key in before.keys() - due.keys():
        last = max((row for row in snapshot.rows if row.price_key == key), key=lambda row: row.version)
        yield Target(
            row=last, account_key=account_key, month=month, start_us=start, end_us=end, settled=0,
            since_us=before[key].last_event_us, quantity=0, total_nano=0, posted_month=asked.posted_month(last, month),
            due_from_us=start,
        )  # fmt: skip
