"""Reads the configuration, chooses the adapters and builds everything the command line stands on."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any, BinaryIO

import psycopg

from lineitem.adapters.flags.flagd import FlagFile
from lineitem.adapters.measures import measure
from lineitem.adapters.objectstore.folder import FolderStore
from lineitem.adapters.schemaregistry.remote import RemoteRegistry
from lineitem.adapters.schemaregistry.settings import read_address
from lineitem.adapters.streams import Around, StreamOrder, Worked, work_of
from lineitem.adapters.watched import Watching, watched
from lineitem.billing.check import check_invoices
from lineitem.billing.run import BillingResult, bill
from lineitem.catalog import published
from lineitem.catalog.canary import Bounds
from lineitem.catalog.diff import Change
from lineitem.catalog.draft import Act, Draft, Retirement
from lineitem.catalog.model import Catalog, Pricebook
from lineitem.catalog.rate_file import RATES_BYTES_MAX, parse_rates
from lineitem.catalog.snapshot import Snapshot
from lineitem.chores import Chores
from lineitem.core.clock import Clock, SystemClock
from lineitem.core.errors import DatabaseUnavailable, EnvironmentProblem, InputError, Refused
from lineitem.core.limits import CATALOG_BYTES_MAX, REPLAY_LETTERS_MAX, RETRY_LETTERS_MAX
from lineitem.core.period import Month
from lineitem.core.reasons import Reason
from lineitem.flow import Pipeline, Progress, Source, Summary, ingest
from lineitem.ingest import acts, backfills, formats, letters
from lineitem.ingest.acts import Chosen
from lineitem.ingest.events import BatchLimits
from lineitem.ingest.gate import SourceGate
from lineitem.ingest.mapping import parse_mapping
from lineitem.ingest.segment_table import TableStore
from lineitem.kit import db
from lineitem.kit.blobs import BlobStore
from lineitem.kit.config import Config, actor
from lineitem.kit.db import Connection
from lineitem.kit.embedded import EmbeddedServer
from lineitem.kit.migrate import migrate
from lineitem.kit.pace import Pace
from lineitem.ledger import canary, drafting, fx, gaps, grants, throttling
from lineitem.ledger import letters as ledger_letters
from lineitem.ledger.canary import Checked, Choice, Flag
from lineitem.ledger.canary import Done as CanaryDone
from lineitem.ledger.checkpoint import Notary
from lineitem.ledger.closing import close_period, show_period
from lineitem.ledger.credits import draw_credit
from lineitem.ledger.deep import verify_deep
from lineitem.ledger.flush import flush
from lineitem.ledger.fx import Loaded
from lineitem.ledger.grant_terms import Asked
from lineitem.ledger.post import summarize_ranges
from lineitem.ledger.preview import preview
from lineitem.ledger.publishing import Publication, publish
from lineitem.ledger.rating import Rater
from lineitem.ledger.report import Report
from lineitem.ledger.retract import retract
from lineitem.ledger.revert import Reverted, Why, revert, try_revert
from lineitem.ledger.schema_desk import SchemaDesk
from lineitem.ledger.settle import settle
from lineitem.ledger.settle_levels import settle_levels
from lineitem.ledger.shadow import Candidate, Wanted, shadow
from lineitem.ledger.shadow import Progress as ShadowProgress
from lineitem.ledger.shadow_rows import Comparison
from lineitem.ledger.verify import verify
from lineitem.observability import metrics
from lineitem.observability.recorder import Recorder
from lineitem.release import Releaser
from lineitem.replay import Mended, Replayed, Replayer, dry_run, try_patch
from lineitem.reread import Asked as RereadAsked
from lineitem.reread import Reread, reread
from lineitem.reread import Source as Rereadable
from lineitem.reread import dry_run as try_reread

_LARGE_BYTES = 32 << 20
"""Files from this size on are worth a second process, which takes as long to start as 10 MB take to read."""


class App:
    """One ledger, opened: ``with App(config) as app``."""

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        self.config = config
        self.clock: Clock = clock or SystemClock()
        self._server: EmbeddedServer | None = None
        self._connections: list[Connection] = []
        self.dsn = ""

    def __enter__(self) -> App:
        try:
            self.config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise EnvironmentProblem(
                f"the data folder cannot be used: {error.strerror}",
                where=str(self.config.data_dir),
                do="Name another one with --data-dir.",
            ) from error
        if self.config.database_url is None:
            self._server = EmbeddedServer(self.config.data_dir)
            self._server.start()
            self.dsn = self._server.dsn
        else:
            self.dsn = self.config.database_url
        try:
            with db.connect(self.dsn) as connection:
                migrate(connection)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._connections:
            connection.close()
        if "segments" in self.__dict__ and isinstance(self.segments, TableStore):
            self.segments.close()
        self._connections.clear()
        if self._server is not None:
            server, self._server = self._server, None
            server.stop()
            if isinstance(error, psycopg.OperationalError | DatabaseUnavailable):
                server.check_room()

    def connection(self) -> Connection:
        """A connection of the posting role, closed with the app."""
        connection = db.connect(self.dsn, role=db.POST)
        self._connections.append(connection)
        return connection

    def pipeline(self, namespace: str) -> Pipeline:
        """The pipeline of one namespace."""
        connections = (self.connection(), self.connection())
        return Pipeline(namespace, *connections, self.segments, self.clock, self.dsn, registry=self.registry)

    @cached_property
    def registry(self) -> RemoteRegistry | None:
        """Where schemas come from, if not from the namespace's own registry."""
        if self.config.schema_registry is None:
            return None
        return RemoteRegistry(read_address(self.config.schema_registry, self.config.schema_registry_config))

    @cached_property
    def segments(self) -> BlobStore:
        """Where raw segments are kept."""
        folder = FolderStore(self.config.data_dir / "segments")
        return TableStore(self.dsn, folder) if self.config.segments_in_database else folder

    @cached_property
    def notary(self) -> Notary:
        """Signs and checks checkpoints, outside the database."""
        return Notary(self.config.checkpoint_dir, self.config.data_dir / "keys")

    @cached_property
    def control(self) -> Connection:
        """The connection of what people and billing do."""
        return self.connection()

    def checkpoint(self) -> None:
        """Sign the ledger as it stands."""
        self.notary.sign(self.control, self.clock.now_us())

    def catalog(self, namespace: str) -> Catalog | None:
        """The catalog published last."""
        return published.current(self.control, published.namespace_key(self.control, namespace))

    def publish(self, namespace: str, catalog: Catalog, by: str | None = None) -> Publication:
        """Put a catalog in force and sign the ledger. ``by``: who acts, here and below (``kit.config.actor``)."""
        done = publish(self.control, namespace, catalog, self.clock.now_us(), actor(by))
        self.checkpoint()
        return done

    def schema_desk(self, namespace: str) -> SchemaDesk:
        """The schema registry of a namespace; what is done there signs the ledger."""
        return SchemaDesk(
            namespace, self.dsn, self.clock, lambda connection: self.notary.sign(connection, self.clock.now_us())
        )

    def shadow(
        self, namespace: str, drafts: Sequence[Candidate], wanted: Wanted, progress: ShadowProgress
    ) -> Comparison:
        """Rate past usage with drafts of a catalog; nothing is written."""
        return shadow(self.control, self.segments, namespace, drafts, wanted, self.clock.now_us(), progress)

    def draft(self, namespace: str, catalog: Catalog, by: str | None, note: str) -> Draft:
        """Store a draft and sign the ledger."""
        made = drafting.draft(self.control, namespace, catalog, self.clock.now_us(), actor(by), note)
        self.checkpoint()
        return made

    def step(self, namespace: str, draft: int, act: Act, by: str | None, note: str = "") -> tuple[Draft, int]:
        """Review, approve or publish a draft, sign the ledger: the draft and the revision in force."""
        done = drafting.step(self.control, namespace, draft, act, self.clock.now_us(), actor(by), note)
        self.checkpoint()
        return done

    def retire(self, namespace: str, retirement: Retirement, by: str | None) -> tuple[int, Draft | None]:
        """End a version, or draft that, and sign the ledger: the revision in force, and the draft."""
        done = drafting.retire(self.control, namespace, retirement, self.clock.now_us(), actor(by))
        self.checkpoint()
        return done

    def rollback(
        self, namespace: str, pricebook: str, version: int, from_us: int, by: str | None
    ) -> tuple[Pricebook, int, Draft | None]:
        """Publish an old version's prices again, or draft that, and sign the ledger."""
        now_us = self.clock.now_us()
        done = drafting.rollback(self.control, namespace, pricebook, version, from_us, now_us, actor(by))
        self.checkpoint()
        return done

    def canary_start(
        self, namespace: str, file: Catalog, choice: Choice, bounds: Bounds, name: str | None, from_us: int | None,
        by: str | None,
    ) -> CanaryDone:  # fmt: skip
        """Start a canary, or draft that, and sign the ledger."""
        now_us = self.clock.now_us()
        done = canary.start(self.control, namespace, file, choice, bounds, name, from_us, now_us, actor(by))
        self.checkpoint()
        return done

    def canary_ramp(self, namespace: str, name: str, choice: Choice, by: str | None) -> CanaryDone:
        """Change who is in a canary, or draft that, and sign the ledger."""
        done = canary.ramp(self.control, namespace, name, choice, self.clock.now_us(), actor(by))
        self.checkpoint()
        return done

    def canary_stop(self, namespace: str, name: str, reason: str, by: str | None) -> CanaryDone:
        """Stop a canary and sign the ledger."""
        done = canary.stop(self.control, namespace, name, reason, self.clock.now_us(), actor(by))
        self.checkpoint()
        return done

    def canary_finish(self, namespace: str, name: str, from_us: int | None, by: str | None) -> CanaryDone:
        """Publish a canary's prices for everybody, or draft that, and sign the ledger."""
        done = canary.finish(self.control, namespace, name, from_us, self.clock.now_us(), actor(by))
        self.checkpoint()
        return done

    def canary_check(self, namespace: str) -> list[Checked]:
        """Work out what running canaries' members would have paid, stop those beyond their bounds, sign the ledger."""
        found = canary.check(self.control, self.segments, namespace, self.clock.now_us())
        if any(one.fresh for one in found):
            self.checkpoint()
        return found

    def canary_status(self, namespace: str, name: str | None) -> list[dict[str, object]]:
        """Canaries of a namespace."""
        return canary.status(self.control, namespace, name)

    def catalog_diff(self, namespace: str, new: Catalog) -> list[Change]:
        """What publishing ``new`` would change, and for whom."""
        return preview(self.control, namespace, new, self.clock.now_us())

    def catalog_history(self, namespace: str) -> dict[str, object]:
        """Drafts and versions of a namespace."""
        return drafting.history(self.control, namespace, self.clock.now_us())

    def load_rates(self, namespace: str, path: Path, correct: bool, by: str | None) -> Loaded:
        """Load a CSV file of exchange rates, sign the ledger."""
        with readable(path) as file:
            raw = file.read(RATES_BYTES_MAX + 1)
        if len(raw) > RATES_BYTES_MAX:
            raise InputError(f"is larger than {RATES_BYTES_MAX >> 20} MiB", where=str(path), do="Split it.")
        in_force = self.catalog(namespace)
        own = [one.code for one in in_force.currencies] if in_force else []
        found = parse_rates(raw, str(path), own)
        done = fx.load(self.control, namespace, found, correct, actor(by), self.clock.now_us())
        if done.added:
            self.checkpoint()
        return done

    def rates(self, namespace: str, day: date | None, source: str | None, every: bool) -> list[dict[str, str]]:
        """Exchange rates: what counts on a day, or everything kept."""
        key = published.namespace_key(self.control, namespace)
        return fx.shown(self.control, key, day, source, every)

    def grant_add(self, namespace: str, asked: Asked, by: str | None) -> tuple[grants.Kept, bool]:
        """Record a prepaid grant, sign the ledger: the grant and whether it is new."""
        done = grants.add(self.control, namespace, asked, actor(by), self.clock.now_us())
        if done[1]:
            self.checkpoint()
        return done

    def grant_void(self, namespace: str, grant: str, reason: str, by: str | None) -> tuple[grants.Kept, bool]:
        """Take back what is not drawn of a grant, sign the ledger: the grant and whether that did anything."""
        done = grants.void(self.control, namespace, grant, reason, actor(by), self.clock.now_us())
        if done[1]:
            self.checkpoint()
        return done

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
            self.retry_letters(namespace)
        pipeline = self.pipeline(namespace)
        flush(pipeline.writer, pipeline.snapshot(), self.clock.now_us(), pipeline.rater)
        chores = Chores(self, pipeline, say, retry=retry)

        def connect() -> Connection:
            return db.connect(self.dsn, role=db.POST)

        with watched(watching or Watching(), namespace, order, connect, self.clock, say) as watch:
            done = read(order, Around(pipeline, self.connection(), chores, say, stop, watch))
        chores.finish(done.summary.batches)
        return done

    def reread(
        self, namespace: str, source: Rereadable, asked: RereadAsked, limits: BatchLimits,
        progress: Callable[[int, int], None], *, dry_run: bool = False, two_processes: bool = False,
    ) -> Reread:  # fmt: skip
        """Read usage again and sign the ledger, or say what that would change."""
        if dry_run:
            rest = (self.clock, namespace, source, asked, limits, progress)
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


def flag_of(path: Path, flag: str) -> Flag:
    """A boolean flag of a flagd file, to choose accounts with."""
    return FlagFile(path, flag)


def mapping_text(path: Path) -> str:
    """A mapping file's text. Raises InputError when it is no text."""
    with readable(path) as file:
        try:
            return file.read(CATALOG_BYTES_MAX).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise InputError("the mapping file is not UTF-8 text", where=str(path)) from None


def file_digest(file: BinaryIO) -> str:
    """SHA-256 of a file's bytes, hex; leaves the file at its start. Raises InputError where the disk refuses."""
    digest = sha256()
    try:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", do="Name a readable file.") from error
    file.seek(0)
    return digest.hexdigest()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Make every complaint about the inside of a file begin with the file's name."""
    try:
        yield
    except InputError as error:
        if not error.where.startswith(str(path)):
            error.where = f"{path}, {error.where}" if error.where else str(path)
        raise


def readable(path: Path) -> BinaryIO:
    """Open a file people name. Raises InputError that says what is wrong with it."""
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path), do="Name a readable file.") from error
