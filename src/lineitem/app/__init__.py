"""Reads the configuration, chooses the adapters and builds everything the command line stands on."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

from lineitem.adapters.measures import measure
from lineitem.adapters.streams import Around, StreamOrder, Worked, work_of
from lineitem.adapters.watched import Watching, watched
from lineitem.app.files import file_digest, flag_of, mapping_text, naming, readable
from lineitem.app.terms import Terms
from lineitem.billing.check import check_invoices
from lineitem.billing.run import BillingResult, bill
from lineitem.catalog import published
from lineitem.catalog.snapshot import Snapshot
from lineitem.chores import Chores
from lineitem.core.errors import InputError, Refused
from lineitem.core.limits import REPLAY_LETTERS_MAX, RETRY_LETTERS_MAX
from lineitem.core.period import Month
from lineitem.core.reasons import Reason
from lineitem.files import Progress, Source, ingest
from lineitem.flow import Pipeline, Summary
from lineitem.ingest import acts, backfills, formats, letters
from lineitem.ingest.acts import Chosen
from lineitem.ingest.events import BatchLimits
from lineitem.ingest.gate import SourceGate
from lineitem.ingest.mapping import parse_mapping
from lineitem.kit import db
from lineitem.kit.config import actor
from lineitem.kit.db import Connection
from lineitem.kit.pace import Pace
from lineitem.ledger import gaps, throttling
from lineitem.ledger import letters as ledger_letters
from lineitem.ledger.closing import close_period, show_period
from lineitem.ledger.credits import draw_credit
from lineitem.ledger.deep import verify_deep
from lineitem.ledger.flush import flush
from lineitem.ledger.post import summarize_ranges
from lineitem.ledger.rating import Rater
from lineitem.ledger.report import Report
from lineitem.ledger.retract import retract
from lineitem.ledger.revert import Reverted, Why, revert, try_revert
from lineitem.ledger.settle import settle
from lineitem.ledger.settle_levels import settle_levels
from lineitem.ledger.verify import verify
from lineitem.observability import metrics
from lineitem.observability.recorder import Recorder
from lineitem.release import Releaser
from lineitem.replay import Mended, Replayed, Replayer, dry_run, try_patch
from lineitem.reread import Asked as RereadAsked
from lineitem.reread import Reread, reread
from lineitem.reread import Source as Rereadable
from lineitem.reread import dry_run as try_reread

__all__ = ["App", "flag_of", "mapping_text", "readable"]

_LARGE_BYTES = 32 << 20
"""Files from this size on are worth a second process, which takes as long to start as 10 MB take to read."""


class App(Terms):
    """One ledger, opened: ``with App(config) as app``."""

    @contextmanager
    def source(
        self, path: Path, format: str | None, mapping: Path | None, stream: str, backfill: str | None = None
    ) -> Iterator[Source]:
        """A file people name, ready to ingest. Raises InputError for what cannot be read or understood.

        ``backfill``: what it belongs to; the passes of a backfill are its own.
        """
        wanted = None if mapping is None else parse_mapping(mapping_text(mapping), str(mapping))
        with readable(path) as file, naming(path):
            if not file.seekable():
                raise InputError("is a pipe or a device, which cannot be read twice", do="Save it first.")
            content = file_digest(file)
            name = format or formats.detect(str(path), file.read(4096))
            file.seek(0)
            found = formats.get(name)
            settings = found.settings(file, wanted)
            if backfill is not None:
                settings |= {backfills.SETTING: backfill}
                content = backfills.content_of(backfill, content)
            yield Source(file, content, stream, found.name, settings)

    def begin_backfill(self, namespace: str, name: str) -> None:
        """Make a backfill known. Raises Refused where it was reverted."""
        backfills.begin(self.control, self._in_force(namespace).namespace_key, name)

    def backfill_revert(
        self, namespace: str, name: str, by: str | None, reason: str, progress: Callable[[int, int], None],
        *, dry_run: bool = False,
    ) -> Reverted:  # fmt: skip
        """Take everything that a backfill brought in out again and sign the ledger, or say what that would change."""
        why, now_us = Why(name, actor(by), reason), self.clock.now_us()
        if dry_run:
            return try_revert(self.connection(), self.segments, namespace, name, now_us, progress)
        done = revert(self.control, self.segments, namespace, why, now_us, progress)
        summarize_ranges(self.control)
        self.checkpoint()
        return done

    def ingest(
        self,
        pipeline: Pipeline,
        source: Source,
        limits: BatchLimits,
        progress: Progress,
        two_processes: bool | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> Summary:
        """Flush what is due, read a source to its end, sign the ledger. ``two_processes`` None: for a large file.

        While a switch holds the source back it waits, and says so.
        """
        if two_processes is None:
            two_processes = os.fstat(source.file.fileno()).st_size >= _LARGE_BYTES
        flush(pipeline.writer, pipeline.snapshot(), self.clock.now_us(), pipeline.rater)
        gate = SourceGate(pipeline.reader, self.clock, say)
        summary = ingest(pipeline, source, limits, progress, two_processes=two_processes, gate=gate)
        summarize_ranges(pipeline.writer)
        self.checkpoint()
        return summary

    def measure(self, namespace: str, url: str | None, config: Path | None) -> Recorder:
        """What stands in the ledger as metrics. ``url``: a stream whose ends are asked for with the settings of ``config``."""
        recorder = Recorder(metrics.OF_LEDGER)
        measure(recorder, self.control, namespace, self.clock.now_us(), url, config)
        return recorder

    def work(
        self,
        namespace: str,
        order: StreamOrder,
        stop: Event,
        say: Callable[[str], None],
        watching: Watching | None = None,
        *,
        retry: bool = True,
    ) -> Worked:
        """Read a stream until ``stop`` is set, or to its end where asked, and do what is due beside it (see ``chores``).

        ``retry``: whether dead letters are tried again and records go on that a switch no longer makes wait.
        """
        read = work_of(order.url)
        if self.registry is not None:
            self.registry.check()
            if retry:
                self.retry_letters(namespace)
        pipeline = self.pipeline(namespace)
        flush(pipeline.writer, pipeline.snapshot(), self.clock.now_us(), pipeline.rater)
        chores = Chores(self, pipeline, say, retry=retry)

        def connect() -> Connection:
            return db.connect(self.dsn, role=db.POST)

        with watched(watching or Watching(), namespace, order, connect, self.clock, say) as watch:
            done = read(order, Around(pipeline, self.connection(), chores, say, stop, watch))
        chores.finish(told_to_stop=stop.is_set())
        return done

    def reread(
        self, namespace: str, source: Rereadable, asked: RereadAsked, limits: BatchLimits,
        progress: Callable[[int, int], None], *, dry_run: bool = False, two_processes: bool = False,
    ) -> Reread:  # fmt: skip
        """Read usage again and sign the ledger, or say what that would change."""
        if dry_run:
            rest = (self.clock, namespace, source, asked, limits, progress, self.registry)
            return try_reread(self.connection(), self.segments, *rest)
        pipeline = self.pipeline(namespace)
        done = reread(pipeline, source, asked, limits, progress, two_processes=two_processes)
        if done.summary.batches:
            summarize_ranges(pipeline.writer)
            self.checkpoint()
        return done

    def choose_letters(
        self, namespace: str, keys: Sequence[int] | None, reason: Reason | None, limit: int | None = None
    ) -> list[Chosen]:
        """Dead letters to act on: those of ``keys`` (each must be one of the namespace), else open ones."""
        namespace_key = letters.namespace_key(self.control, namespace)
        found = acts.choose(self.control, namespace_key, keys=keys, reason=reason, limit=limit)
        for key in set(keys or ()) - {one.key for one in found}:
            raise letters.no_letter(namespace, key)
        return found

    def replay_letters(
        self, namespace: str, chosen: Sequence[Chosen], by: str | None, note: str, per_second: int | None,
        progress: Callable[[int], None], pipeline: Pipeline | None = None,
    ) -> Replayed:  # fmt: skip
        """Try dead letters again and sign the ledger. ``per_second``: at most so many, None as many as there are.
        ``pipeline``: one that nobody uses meanwhile, if there is one."""
        batch = REPLAY_LETTERS_MAX if per_second is None else max(1, min(per_second, REPLAY_LETTERS_MAX))
        replayer = Replayer(pipeline or self.pipeline(namespace), actor(by), note, Pace(per_second), batch)
        done = replayer.run(chosen, progress)
        if done.tried:
            summarize_ranges(self.control)
            self.checkpoint()
        return done

    def try_letters(self, namespace: str, chosen: Sequence[Chosen], progress: Callable[[int], None]) -> Replayed:
        """What replaying dead letters would do; nothing is written."""
        return dry_run(self.connection(), self.segments, self.clock, namespace, chosen, progress, self.registry)

    def retry_letters(
        self, namespace: str, whenever: Collection[Reason] = (), pipeline: Pipeline | None = None
    ) -> Replayed | None:
        """Try those again that the catalog in force may help and that have rested; None where there are none.

        ``whenever``: codes that wait for something else which may have come, beside a registry elsewhere that was away.
        """
        snapshot, now_us = self._in_force(namespace), self.clock.now_us()
        waiting = {*whenever, Reason.REGISTRY_AWAY} if self.registry is not None else set(whenever)
        chosen = acts.due(self.control, snapshot.namespace_key, snapshot.revision, now_us, RETRY_LETTERS_MAX, waiting)
        if not chosen:
            return None
        note = f"automatic, catalog revision {snapshot.revision}"
        return self.replay_letters(namespace, chosen, None, note, None, lambda _: None, pipeline)

    def fix_letter(self, namespace: str, key: int, patch: Mapping[str, Any], by: str | None, reason: str) -> Mended:
        """Record a patch for a dead letter, sign the ledger; how it reads with all its fixes."""
        now_us = self.clock.now_us()
        mended = try_patch(self.control, self.segments, namespace, key, patch, now_us, self.registry)
        ledger_letters.fix(self.control, namespace, key, patch, actor(by), reason, now_us)
        self.checkpoint()
        return mended

    def discard_letters(self, namespace: str, keys: Sequence[int], by: str | None, reason: str) -> int:
        """Settle dead letters as never to be billed, sign the ledger."""
        done = ledger_letters.discard(self.control, namespace, keys, actor(by), reason, self.clock.now_us())
        self.checkpoint()
        return done

    def waive_gap(
        self, namespace: str, source: str, first: int, last: int, by: str | None, reason: str
    ) -> list[tuple[int, int]]:
        """Say that missing numbers of a producer are lost for good, sign the ledger: the runs that were open."""
        now_us = self.clock.now_us()
        done = gaps.waive(self.control, namespace, source, first, last, actor(by), reason, now_us)
        self.checkpoint()
        return done

    def reopen_gap(
        self, namespace: str, source: str, first: int, last: int, by: str | None, reason: str
    ) -> list[tuple[int, int]]:
        """Take back what was waived, sign the ledger: the runs that were."""
        now_us = self.clock.now_us()
        done = gaps.reopen(self.control, namespace, source, first, last, actor(by), reason, now_us)
        self.checkpoint()
        return done

    def throttle_set(
        self, namespace: str, target: throttling.Target, per_second: int | None, until_us: int | None, by: str | None,
        reason: str,
    ) -> throttling.Kept:  # fmt: skip
        """Pause or limit an account, a type or a source, sign the ledger."""
        now_us = self.clock.now_us()
        done = throttling.set_switch(self.control, namespace, target, per_second, until_us, actor(by), reason, now_us)
        self.checkpoint()
        return done

    def throttle_clear(
        self, namespace: str, numbers: Sequence[int], by: str | None, reason: str
    ) -> list[throttling.Kept]:
        """Lift switches, sign the ledger."""
        done = throttling.clear(self.control, namespace, numbers, actor(by), reason, self.clock.now_us())
        self.checkpoint()
        return done

    def release(self, namespace: str, progress: Callable[[int], None] = lambda _: None) -> Summary:
        """Let go on what switches have made wait and no longer do, sign the ledger."""
        done = Releaser(self.pipeline(namespace)).all(progress)
        if done.batches:
            summarize_ranges(self.control)
            self.checkpoint()
        return done

    def _in_force(self, namespace: str) -> Snapshot:
        snapshot = published.load_snapshot(self.control, namespace)
        if snapshot is None:
            raise Refused(f"namespace {namespace!r} has no catalog", do="Publish one: lineitem catalog publish FILE")
        return snapshot

    def _settle(self, namespace: str, month: Month, account: str | None = None) -> Snapshot:
        """Flush what is due, post what the month owes beyond usage where it has ended, draw credit for what it owes."""
        snapshot, rater = self._in_force(namespace), Rater()
        flush(self.control, snapshot, self.clock.now_us(), rater)
        settle_levels(self.control, namespace, month, self.clock.now_us(), rater, account)
        settle(self.control, namespace, month, self.clock.now_us(), rater, account)
        draw_credit(self.control, self.segments, namespace, month, self.clock.now_us(), account)
        return snapshot

    def bill(self, namespace: str, month: Month, account: str | None) -> BillingResult:
        """Settle a month and make its invoices, sign the ledger."""
        self._settle(namespace, month, account)
        done = bill(self.control, namespace, month, account=account, now_us=self.clock.now_us())
        self.checkpoint()
        return done

    def close_period(self, namespace: str, month: Month) -> dict[str, object]:
        """Settle and close a month, sign the ledger."""
        snapshot = self._settle(namespace, month)
        close_period(self.control, snapshot, month, self.clock.now_us())
        self.checkpoint()
        return show_period(self.control, namespace, month)

    def retract(self, namespace: str, source: str, event_id: str, reason: str) -> int:
        """Retract an event, sign the ledger."""
        made = retract(self.control, self.segments, namespace, source, event_id, reason, self.clock.now_us())
        self.checkpoint()
        return made

    def verify(self, *, deep: bool, progress: Callable[[str, int], None]) -> Report:
        """Recompute everything, over all namespaces."""
        with db.connect(self.dsn, role=db.POST) as beside:
            report = verify(self.control, beside, self.notary, progress)
        for problem in check_invoices(self.control):
            report.add(None, problem)
        if deep:
            verify_deep(self.control, self.segments, report, progress)
        return report
