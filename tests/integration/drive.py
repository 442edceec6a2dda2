"""Drives a ledger as the command line does, a namespace for each example, and reads back what it holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from hashlib import sha256
from io import BytesIO
from itertools import count
from typing import Any

from lineitem.app import App
from lineitem.catalog.load import parse_catalog
from lineitem.catalog.published import load_snapshot
from lineitem.core.clock import FixedClock
from lineitem.core.period import Month
from lineitem.core.reasons import Reason
from lineitem.files import Source, ingest
from lineitem.flow import Pipeline, Summary
from lineitem.ingest import acts, backfills
from lineitem.ingest.events import BatchLimits
from lineitem.ingest.letters import Filter, dead_letters, namespace_key
from lineitem.ingest.throttle import What
from lineitem.kit.db import Connection
from lineitem.ledger.flush import flush
from lineitem.ledger.rating import Rater
from lineitem.ledger.report import Report
from lineitem.ledger.throttling import Kept, Target, shown
from lineitem.release import Releaser
from lineitem.replay import Replayed, Replayer
from lineitem.reread import Asked, Reread, Segments, reread
from tests.integration.oracle import EPOCH, Tally, Totals, tally_of

_numbers = count(1)
Progress = Callable[[int, Summary], None]


def microseconds(time: datetime) -> int:
    """A datetime as the engine counts."""
    return (time - EPOCH) // timedelta(microseconds=1)


def nothing(*_: object) -> None:
    """A progress bar nobody looks at."""


@dataclass
class World:
    """One ledger; connections are shared by its namespaces, two for each thread that ingests at the same time."""

    app: App
    connections: list[tuple[Connection, Connection]] = field(default_factory=list)
    asked: int = 0

    def pair(self, number: int) -> tuple[Connection, Connection]:
        """Reader and writer of one of several concurrent pipelines."""
        while len(self.connections) <= number:
            self.connections.append((self.app.connection(), self.app.connection()))
        return self.connections[number]

    def space(self, catalog: dict[str, Any], now: datetime) -> Space:
        """A fresh namespace with ``catalog`` in force."""
        space = Space(self, f"n{next(_numbers)}", FixedClock(microseconds(now)))
        space.publish(catalog)
        return space

    def verify(self, *, deep: bool = False) -> Report:
        """Everything in the ledger, all namespaces."""
        return self.app.verify(deep=deep, progress=nothing)

    def findings_now_and_then(self) -> list[dict[str, Any]]:
        """``findings`` of every eighth call: what an example leaves stays there, and the law looks at all of it in the end."""
        self.asked += 1
        return [] if self.asked % 8 else self.findings()

    def findings(self, *, deep: bool = False) -> list[dict[str, Any]]:
        """What verifying finds; sign first, so that the newest rows are held against a checkpoint too."""
        self.app.checkpoint()
        found: list[dict[str, Any]] = self.verify(deep=deep).document()["findings"]
        return found


@dataclass
class Space:
    """One namespace of a ledger, with a clock of its own."""

    world: World
    name: str
    clock: FixedClock

    def publish(self, catalog: dict[str, Any]) -> None:
        """Put ``catalog`` in force."""
        self.act(lambda app: app.publish(self.name, parse_catalog(json.dumps(catalog), "catalog")))

    def act(self, action: Callable[[App], Any]) -> Any:
        """Do something with the App at this namespace's time."""
        self.world.app.clock = self.clock
        return action(self.world.app)

    def pipeline(self, number: int = 0) -> Pipeline:
        """A pipeline as a process of its own would have it: it knows nothing yet."""
        reader, writer = self.world.pair(number)
        return Pipeline(self.name, reader, writer, self.world.app.segments, self.clock)

    def send(
        self,
        file: bytes,
        stream: str,
        records_max: int = 1000,
        progress: Progress = nothing,
        *,
        pipeline: int = 0,
        backfill: str | None = None,
    ) -> Summary:
        """Read an NDJSON file to its end."""
        content, settings = sha256(file).hexdigest(), {}
        if backfill is not None:
            self.act(lambda app: app.begin_backfill(self.name, backfill))
            content, settings = backfills.content_of(backfill, content), {backfills.SETTING: backfill}
        source = Source(BytesIO(file), content, stream, "cloudevents", settings)
        return ingest(self.pipeline(pipeline), source, BatchLimits(records_max), progress)

    def flush(self, now: datetime) -> int:
        """Move the clock and itemize what has ended."""
        self.clock.advance(microseconds(now) - self.clock.now_us())
        connection = self.world.app.control
        snapshot = load_snapshot(connection, self.name)
        assert snapshot is not None
        return flush(connection, snapshot, self.clock.now_us(), Rater())

    def retract(self, source: str, event_id: str) -> int:
        """Say that an event did not happen."""
        made: int = self.act(lambda app: app.retract(self.name, source, event_id, "a test says so"))
        return made

    def letters(self, reason: str | None = None, state: str | None = "open") -> list[int]:
        """Keys of dead letters, oldest first."""
        wanted = Filter(state, None if reason is None else Reason[reason.upper()])
        found = dead_letters(self.world.app.control, self.name, 100_000, wanted)
        return sorted(one["key"] for one in found)

    def replay(self, keys: Sequence[int] | None = None, *, batch: int = 1000, pipeline: int = 0) -> Replayed:
        """Try dead letters again: those of ``keys`` in that order, or all open ones."""
        control = self.world.app.control
        found = acts.choose(control, namespace_key(control, self.name), keys=keys)
        if keys is not None:
            found.sort(key=lambda one: list(keys).index(one.key))
        return Replayer(self.pipeline(pipeline), "a test", batch_letters=batch).run(found, nothing)

    def reread(self, asked: Asked | None = None, progress: Callable[[int, int], None] = nothing) -> Reread:
        """Read the raw segments again."""
        return reread(self.pipeline(), Segments(), asked or Asked(), BatchLimits(), progress)

    def fix(self, key: int, **patch: Any) -> None:
        """Record a patch."""
        self.act(lambda app: app.fix_letter(self.name, key, patch, "ana", "a test says so"))

    def discard(self, *keys: int) -> None:
        """Settle dead letters as never to be billed."""
        self.act(lambda app: app.discard_letters(self.name, keys, "ben", "a test says so"))

    def throttle(self, what: What, name: str, per_second: int | None = None, until: datetime | None = None) -> int:
        """Set a switch: its number."""
        until_us = None if until is None else microseconds(until)
        made: Kept = self.act(
            lambda app: app.throttle_set(self.name, Target(what, name), per_second, until_us, "ana", "a test says so")
        )
        return made.number

    def unthrottle(self, *numbers: int) -> None:
        """Clear switches."""
        self.act(lambda app: app.throttle_clear(self.name, numbers, "ben", "a test says so"))

    def release(self, *, pipeline: int = 0, records: int = 100_000) -> Summary:
        """Let go on what may."""
        return Releaser(self.pipeline(pipeline), BatchLimits(records), clock_ns=lambda: 0).all()

    def waits(self) -> int:
        """How many records wait for a switch."""
        return sum(one["waiting"] for one in self.act(lambda app: shown(app.control, self.name, self.clock.now_us())))

    def close(self, month: str) -> None:
        """Close a posting period."""
        self.act(lambda app: app.close_period(self.name, Month.parse(month)))

    def bill(self, month: str) -> None:
        """Bill a posting period, settled first."""
        self.act(lambda app: app.bill(self.name, Month.parse(month), None))

    # --- what it holds

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        """Rows of a query that may say %(namespace)s."""
        return self.world.app.control.execute(query, {"namespace": self.name, **values}).fetchall()

    def totals(self) -> Totals:
        """Sums of line items per account, price and service month, as the oracle gives them."""
        found = self.rows(_TOTALS)
        totals: Totals = {}
        for (
            account,
            price,
            scale,
            month,
            quantity,
            nano,
        ) in found:  # a price may have other decimals in its next version
            key = (account, price, str(Month.from_index(month)))
            before = totals.get(key, (Fraction(0), 0))
            totals[key] = (before[0] + Fraction(int(quantity), 10**scale), before[1] + int(nano))
        return {key: total for key, total in totals.items() if any(total)}

    def posted(self, month: str) -> list[tuple[Any, ...]]:
        """Everything posted to a month, in order."""
        return self.rows(_POSTED, month=Month.parse(month).index)

    def kinds(self) -> dict[tuple[str, str, int], int]:
        """How many line items there are per service month, posting month and kind."""
        rows = self.rows(_KINDS)
        return {(str(Month.from_index(s)), str(Month.from_index(p)), kind): number for s, p, kind, number in rows}

    def keys(self) -> set[bytes]:
        """Identity keys of everything accepted."""
        return {row[0].bytes for row in self.rows(_KEYS)}

    def itemized_each(self) -> list[bytes]:
        """Identity keys of the line items that stand for one event, with repetitions, retractions left out."""
        return [row[0].bytes for row in self.rows(_ITEMIZED)]

    def batches(self) -> list[Tally]:
        """The counts of every batch that read records."""
        names = list(vars(Tally()))
        return [tally_of(dict(zip(names, row, strict=True))) for row in self.rows(_BATCHES)]

    def line_items(self) -> int:
        """How many line items there are."""
        return int(self.rows(_LINE_ITEMS)[0][0])

    def waiting(self) -> int:
        """How many events wait for a window."""
        return int(self.rows(_WAITING)[0][0])


_NAMESPACE = "join catalog.namespace n on n.namespace_key = x.namespace_key and n.namespace = %(namespace)s"
_TOTALS = f"""select a.account, p.price, p.scale, x.service_month, sum(coalesce(x.quantity_wide, x.quantity)),
    sum(coalesce(x.amount_wide, x.amount_nano))
  from ledger.line_item x {_NAMESPACE} join catalog.account a using (account_key)
  join catalog.price_version v using (price_version_key) join catalog.price p using (price_key) group by 1, 2, 3, 4"""
_POSTED = f"select x.* from ledger.line_item x {_NAMESPACE} where x.posting_month = %(month)s order by x.id"
_KINDS = (
    f"""select service_month, posting_month, kind, count(*) from ledger.line_item x {_NAMESPACE} group by 1, 2, 3"""
)
_KEYS = f"select x.key from ingest.identity x {_NAMESPACE}"
_ITEMIZED = f"select event_key from ledger.line_item x {_NAMESPACE} where event_key is not null and kind <> 6"
_BATCHES = f"""select received, itemized, pending, duplicate, dead_lettered, not_billable from ledger.batch x {_NAMESPACE}
  where partition_key is not null order by lane, batch"""
_LINE_ITEMS = f"select count(*) from ledger.line_item x {_NAMESPACE}"
_WAITING = f"select coalesce(sum(events), 0) from ledger.pending x {_NAMESPACE}"
