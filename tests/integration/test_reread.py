"""Reading raw segments again: what is known is a duplicate, what is missing is billed, what was settled is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from lineitem.app import App
from lineitem.core.clock import FixedClock
from lineitem.ingest.events import BatchLimits
from lineitem.kit.config import Config
from lineitem.reread import Asked, Segments, dry_run
from tests.integration.drive import Space, World, nothing
from tests.integration.tampering import event
from tests.integration.test_backfills import PRICED, revert_all
from tests.integration.test_laws import NOW

EVERY = BatchLimits()


@pytest.fixture
def space(ledger: App) -> Space:
    """A backfill was reverted after other files had brought its events, which the ledger misses now."""
    space = World(ledger).space(PRICED | {"horizon_days": None}, NOW)
    missing = [event(f"m-{n}", "ab"[n % 2], f"2026-1{n % 2}-05T00:00:00Z", "8") for n in range(4)]
    space.send(b"".join(missing), "s", backfill="wrong")
    for number in range(3):
        known = event(f"k-{number}", "a", "2026-11-01T00:00:00Z", "1")
        space.send(known + b"".join(missing[number:]) + b"broken\n", f"file-{number}")
    revert_all(space, "wrong")
    return space


def test_what_is_missing_is_billed_once(space: Space) -> None:
    """The dry run says exactly what the run then does; read again once more, everything is a duplicate."""
    app = space.world.app
    before = (space.totals(), space.line_items(), len(space.batches()))
    rest = (app.clock, space.name, Segments(), Asked(), EVERY, nothing)
    tried = dry_run(app.connection(), app.segments, *rest)
    assert (space.totals(), space.line_items(), len(space.batches())) == before
    done = space.reread()
    counts = done.summary.counts
    assert (counts.itemized, counts.duplicate, counts.dead_lettered, counts.received) == (4, 8, 3, 15)
    assert done.changes == tried.changes
    assert done.document() == tried.document() | {"dry_run": False}
    again = space.reread()
    assert (again.summary.counts.duplicate, again.changes, again.resumed) == (12, [], False)
    assert len(space.letters()) == 3, "the same bad record is the same dead letter"
    assert space.world.findings(deep=True) == []


def test_it_goes_on_where_it_stopped(space: Space) -> None:
    """Stopped after the first of three files: the next run reads the two that are left."""

    def stop(*_: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        space.reread(progress=stop)
    done = space.reread()
    assert (done.resumed, done.summary.batches) == (True, 2)
    assert space.reread().summary.batches == 3
    assert space.world.findings(deep=True) == []


def test_an_account_a_time_a_share(space: Space) -> None:
    """Only what was asked for is read; shares of the streams together are all of it."""
    october = Asked(until_us=1_793_491_200_000_000, account="a")  # 2026-11-01
    assert [(one.account, one.month % 12, one.line_items) for one in space.reread(october).changes] == [("a", 9, 2)]
    assert [(one.account, one.line_items) for one in space.reread(Asked(account="b")).changes] == [("b", 2)]
    shares = [space.reread(Asked(part=part, parts=2)).summary.counts.received for part in (1, 2)]
    assert sorted(shares) == [5, 10]
    assert space.world.findings(deep=True) == []


def test_what_somebody_discarded_stays_discarded(ledger: App) -> None:
    """A letter without a price then, discarded, and priced now: reading again bills its open neighbour only."""
    (book,) = PRICED["pricebooks"]
    late = book | {"version": 2, "effective_from": "2026-12-01T00:00:00Z"}
    space = World(ledger).space(PRICED | {"pricebooks": [late]}, NOW)
    space.send(b"".join(event(name, "a", "2026-11-01T00:00:00Z", "3") for name in ("never", "later")), "s")
    never, _ = space.letters("no_price")
    space.discard(never)
    space.publish(PRICED | {"pricebooks": [book, late]})
    done = space.reread()
    assert (done.summary.counts.received, done.summary.counts.itemized) == (1, 1)
    assert space.replay().summary.counts.duplicate == 1
    assert space.world.findings(deep=True) == []


def test_two_processes_do_the_same(space: Space, tmp_path: Path) -> None:
    """Batches prepared in another process, from segments it opens itself."""
    app = space.world.app
    config = Config(app.config.data_dir, app.config.database_url, tmp_path / "checkpoints")
    with App(config, FixedClock(space.clock.now_us())) as other:
        done = other.reread(space.name, Segments(), Asked(), EVERY, nothing, two_processes=True)
    assert (done.summary.counts.itemized, done.summary.counts.duplicate) == (4, 8)
