"""Verify finds whatever a superuser alters, and says which batch; ordinary roles cannot alter anything in the first place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import psycopg
import pytest
from psycopg import sql

from lineitem.app import App
from lineitem.core.clock import FixedClock
from lineitem.core.errors import IntegrityError
from lineitem.ingest import segments
from lineitem.kit.config import Config
from lineitem.kit.db import READ, connect
from lineitem.kit.embedded import EmbeddedServer
from lineitem.ledger.checkpoint import Notary
from tests.integration.drive import Space, World, nothing
from tests.integration.tampering import Row, Tamperer, fill

NOT_COVERED = {
    (
        "ingest.dead_letter",
        "detail",
    ): "a sentence for people; the code, the place and the bytes are what is vouched for",
    (
        "ingest.partition",
        "content",
    ): "its first 96 bits name the partition and are hashed; the rest only finds the file",
    ("ingest.partition", "completed_at"): "whether to start a new pass, which finds nothing but duplicates",
}
ONLY_DEEP = {
    ("ingest.dead_letter", "event_key"),  # of a letter that has no identity
    ("ingest.dead_letter", "digest"),
    ("ingest.dead_letter", "position"),  # of a letter whose identity is known; it need not lie where it was first
    ("ingest.dead_letter", "raw"),
    ("ledger.accumulator", "events"),
    ("ledger.accumulator", "last_event_us"),
    ("ledger.accumulator", "fold_time_us"),
    ("ledger.accumulator", "fold_key"),
    ("ledger.fold_member", "member"),
    ("ledger.allowance_member", "member"),
    ("ledger.allowance_member", "time_us"),
    ("ledger.allowance_member", "value"),
    ("ledger.pending", "tag_set_key"),
    ("ledger.level", "account_key"),
    ("ledger.level", "meter"),
    ("ledger.level", "time_us"),
    ("ledger.level", "key"),
    ("ledger.level", "value"),
}
"""What the raw events have to be folded again for."""
EVERY_CELL = os.environ.get("LINEITEM_TAMPER") == "all"
UNUSED = ["ingest.segment", "ledger.lineage", "ledger.supersession"]
"""Raw segments are files here; those in the table are altered in test_segment_table."""
PLACED = (
    "ledger.line_item", "ledger.batch", "ledger.fact", "ingest.identity", "ingest.dead_letter_sighting", "ingest.letter_act",
    "ingest.sequence_step", "ingest.throttle", "ingest.held",
)  # fmt: skip
"""Tables whose rows name the batch they belong to."""


class Crime:
    """A ledger, the namespace with something of everything, and the superuser; shared, because all is put back."""

    def __init__(self, world: World, space: Space, tamperer: Tamperer) -> None:
        self.world, self.space, self.tamperer = world, space, tamperer

    def found(self, *, deep: bool = False) -> dict[tuple[int, int] | None, list[str]]:
        """Findings by the batch they blame. Nothing is signed: an attacker would not ask for it."""
        found: dict[tuple[int, int] | None, list[str]] = {}
        for finding in self.world.verify(deep=deep).findings:
            found.setdefault(finding.place, []).append(finding.what)
        return found

    def blames(
        self, place: tuple[int, int] | None, tables: list[str] | None = None, *, deep: bool = False
    ) -> list[str]:
        """What verify says of ``place``, which it must; then everything is put back and must be well again."""
        found = self.found(deep=deep)
        self.tamperer.restore(*(tables or self.tamperer.tables))
        assert place in found, found
        assert self.found(deep=deep) == {}
        return found[place]


@pytest.fixture(scope="module")
def crime(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crime]:
    """A filled ledger, signed, and a superuser beside it."""
    address = server.dsn.removesuffix("lineitem")
    with connect(address + "postgres") as connection:
        connection.execute("create database tampered template lineitem")
    folder = tmp_path_factory.mktemp("tampered")
    with App(Config(folder, address + "tampered", folder / "checkpoints"), FixedClock(0)) as app:
        world = World(app)
        space = fill(world)
        assert world.findings(deep=True) == []
        with connect(address + "tampered") as superuser:
            yield Crime(world, space, Tamperer(superuser))
    with connect(address + "postgres") as connection:
        connection.execute("drop database tampered with (force)")


def _place(crime: Crime, table: str, row: Row) -> tuple[int, int]:
    return tuple(crime.tamperer.one(f"select lane, batch from {table} where tableoid = {row[0]} and ctid = '{row[1]}'"))


def test_the_ledger_holds_something_of_everything(crime: Crime) -> None:
    """Otherwise the tests below would prove little: every table has rows, and line items are wide, late, windowed."""
    one = crime.tamperer.one
    empty = [table for table in crime.tamperer.tables if not one(f"select count(*) from {table}")[0]]
    assert empty == UNUSED
    assert {kind for (kind,) in crime.tamperer.connection.execute("select distinct kind from ledger.line_item")} == {
        1,
        2,
        3,
        4,
        6,
        7,
    }
    assert {kind for (kind,) in crime.tamperer.connection.execute("select distinct kind from ledger.batch")} == {
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        10,
        17,
        18,
    }
    assert one("select count(*) from ledger.line_item where quantity_wide is not null")[0] > 0


def _tables() -> list[str]:
    return [
        "billing.invoice", "billing.series", "catalog.account", "catalog.canary_hold", "catalog.canary_step",
        "catalog.draft", "catalog.draft_step",
        "catalog.effective_range", "catalog.fx_rate", "catalog.namespace", "catalog.price", "catalog.price_version",
        "catalog.pricebook_version", "ingest.held", "ingest.letter_act", "ingest.throttle",
        "catalog.publication", "catalog.retirement", "catalog.tag_set", "ingest.dead_letter", "ingest.dead_letter_sighting",
        "ingest.backfill", "ingest.identity", "ingest.partition", "ingest.producer", "ingest.retraction",
        "ingest.reverted_event", "ingest.sequence_block", "ingest.sequence_step",
        "ledger.accumulator", "ledger.allowance_member",
        "ledger.batch", "ledger.canary_beside", "ledger.carried_units", "ledger.credit_draw", "ledger.credit_grant",
        "ledger.credit_month", "ledger.credit_void", "ledger.fact", "ledger.fold_member", "ledger.lane", "ledger.level",
        "ledger.line_item",
        "ledger.pending", "ledger.period", "schemas.schema", "schemas.setting", "schemas.version",
    ]  # fmt: skip


def test_every_table_is_looked_at(crime: Crime) -> None:
    """A new table joins the list below, or says here why it needs no check."""
    pace = {"ingest.throttle_pace"}  # says when records go on, never which, nor what they come to
    assert sorted(_tables()) == sorted(set(crime.tamperer.tables) - set(UNUSED) - pace)


@pytest.mark.parametrize("table", _tables())
def test_any_altered_cell_is_found(crime: Crime, table: str) -> None:
    """Each column of each kind of row, one after the other, altered by as little as possible.

    Where rows name their batch, one of each lane at once: each must be blamed by its own. A row that would be found in
    another's batch only (it moved) is altered alone. `make test` alters each column in one of these groups, `make tamper` in
    all of them.
    """
    tamperer = crime.tamperer
    missed, wrong_place = [], []
    for column in tamperer.columns(table):
        alone = table not in PLACED or column in ("lane", "batch") or (table, column) in ONLY_DEEP
        for numbers in _selected(_apart(crime, table, alone=alone), column):
            rows = [tamperer.samples(table)[number] for number in numbers]
            places = [_place(crime, table, row) for row in rows] if table in PLACED else []
            for row in rows:
                tamperer.alter(table, column, row)
            found = crime.found() or ((table, column) in ONLY_DEEP and crime.found(deep=True))
            if bool(found) == ((table, column) in NOT_COVERED):
                missed.append((column, numbers))
            if found and column not in ("lane", "batch"):
                wrong_place += [(column, place, found) for place in places if place not in found]
            tamperer.restore(table)
    assert not missed
    assert not wrong_place
    assert crime.found(deep=True) == {}


def _selected(groups: list[list[int]], column: str) -> list[list[int]]:
    return groups if EVERY_CELL or not groups else [groups[crc32(column.encode()) % len(groups)]]


def _apart(crime: Crime, table: str, *, alone: bool) -> list[list[int]]:
    """The numbers of a table's samples in groups, no two of a group in one lane."""
    numbers = range(len(crime.tamperer.samples(table)))
    if alone:
        return [[number] for number in numbers]
    groups: list[dict[int, int]] = []
    for number in numbers:
        lane = _place(crime, table, crime.tamperer.samples(table)[number])[0]
        group = next((one for one in groups if lane not in one), None)
        if group is None:
            groups.append(group := {})
        group[lane] = number
    return [list(group.values()) for group in groups]


@pytest.mark.parametrize("table", _tables())
def test_any_deleted_row_is_found(crime: Crime, table: str) -> None:
    """One of each kind of row is gone; verify says so, and of which batch where the row names one."""
    tamperer = crime.tamperer
    for number in range(len(tamperer.samples(table))):
        row = tamperer.samples(table)[number]
        place = _place(crime, table, row) if table in PLACED else None
        tamperer.do(f"delete from {{}} where tableoid = {row[0]} and ctid = '{row[1]}'", table)
        found = crime.found() or crime.found(deep=True)
        assert found, (table, number)
        assert place is None or place in found
        tamperer.restore(table)
    assert crime.found(deep=True) == {}


def test_any_repeated_line_item_is_found(crime: Crime) -> None:
    """A row that stands there twice, in the one table that no key keeps it from."""
    tamperer, table = crime.tamperer, "ledger.line_item"
    for number in range(len(tamperer.samples(table))):
        row = tamperer.samples(table)[number]
        place = _place(crime, table, row)
        tamperer.do(f"insert into {{}} select * from {table} where tableoid = {row[0]} and ctid = '{row[1]}'", table)
        assert place in crime.found()
        tamperer.restore(table)
    assert crime.found(deep=True) == {}


def test_two_rows_that_swap_amounts(crime: Crime) -> None:
    """Sums stay as they are, the rows do not."""
    first, second = crime.tamperer.connection.execute(
        """select distinct on (amount_nano) id, lane, batch, amount_nano from ledger.line_item where kind = 1
           and amount_nano > 0 order by amount_nano limit 2"""
    ).fetchall()
    for (id_, *_), (*_, amount) in ((first, second), (second, first)):
        crime.tamperer.connection.execute("update ledger.line_item set amount_nano = %s where id = %s", (amount, id_))
    found = crime.found()
    assert {first[1:3], second[1:3]} <= found.keys()
    crime.blames(first[1:3], ["ledger.line_item"])


def test_swapped_inside_one_batch(crime: Crime) -> None:
    """Two rows of one batch that trade everything but their ids give its root away, although its sums are right."""
    lane, batch, low, high = crime.tamperer.one(
        """select lane, batch, min(amount_nano), max(amount_nano) from ledger.line_item where kind = 1
           group by lane, batch having min(amount_nano) <> max(amount_nano) order by lane, batch limit 1"""
    )
    crime.tamperer.connection.execute(
        """update ledger.line_item set amount_nano = case amount_nano when %s then %s::bigint else %s end
           where lane = %s and batch = %s and amount_nano in (%s, %s)""",
        (low, high, low, lane, batch, low, high),
    )
    assert any("Merkle" in what for what in crime.blames((lane, batch), ["ledger.line_item"]))


def test_a_row_moved_to_another_batch(crime: Crime) -> None:
    """Both batches are named: one misses it, the other has one too many."""
    id_, lane, batch = crime.tamperer.one(
        "select id, lane, batch from ledger.line_item where kind = 1 order by id limit 1"
    )
    other = crime.tamperer.one(
        "select lane, batch from ledger.batch where kind = 1 and (lane, batch) <> (%s, %s) and line_items > 0 limit 1",
        lane, batch,
    )  # fmt: skip
    crime.tamperer.connection.execute("update ledger.line_item set lane = %s, batch = %s where id = %s", (*other, id_))
    assert {(lane, batch), tuple(other)} <= crime.found().keys()
    crime.blames((lane, batch), ["ledger.line_item"])


def test_a_truncated_month(crime: Crime) -> None:
    """A month's rows are gone: every batch that posted to it is named."""
    (month,) = crime.tamperer.one("select posting_month from ledger.line_item order by posting_month limit 1")
    places = crime.tamperer.connection.execute(
        "select distinct lane, batch from ledger.line_item where posting_month = %s", [month]
    ).fetchall()
    (partition,) = crime.tamperer.one(
        "select min(tableoid::regclass::text) from ledger.line_item where posting_month = %s", month
    )
    crime.tamperer.do("truncate {}", partition)
    assert {tuple(place) for place in places} <= crime.found().keys()
    crime.blames(tuple(places[0]), ["ledger.line_item"])


def test_a_detached_month(crime: Crime) -> None:
    """The same where the month was taken off the ledger, and nothing once it is back."""
    (partition,) = crime.tamperer.one("select min(tableoid::regclass::text) from ledger.line_item")
    month, lane, batch = crime.tamperer.one(f"select posting_month, lane, batch from {partition} limit 1")
    crime.tamperer.do(f"alter table {{}} detach partition {partition}", "ledger.line_item")
    found = crime.found()
    crime.tamperer.do(f"alter table {{}} attach partition {partition} for values in ({month})", "ledger.line_item")
    assert (lane, batch) in found
    assert crime.found() == {}


def _newest(crime: Crime) -> tuple[int, int]:
    """The head of the lane that took usage last."""
    newest = "select lane from ledger.batch where kind = 1 order by recorded_us desc, lane desc limit 1"
    return crime.tamperer.one(f"select lane, batch from ledger.lane where lane = ({newest})")


def _cut(crime: Crime, lane: int, above: int) -> None:
    """Everything of a lane above a batch vanishes, and all that counts on it is set back."""
    for table in PLACED:
        crime.tamperer.do(f"delete from {{}} where lane = {lane} and batch > {above}", table)
    crime.tamperer.connection.execute(
        """update ledger.lane set batch = %(above)s, hash = coalesce(
             (select hash from ledger.batch where lane = %(lane)s and batch = %(above)s), decode(repeat('00', 32), 'hex'))
           where lane = %(lane)s""",
        {"lane": lane, "above": above},
    )


def test_a_tail_that_was_cut_off(crime: Crime) -> None:
    """What is left of the lane is a good chain; the checkpoint remembers that there was more."""
    lane, head = _newest(crime)
    _cut(crime, lane, head - 1)
    assert any("checkpoint" in what for what in crime.blames((lane, head)))


def test_a_restored_old_copy(crime: Crime, tmp_path: Path) -> None:
    """All of yesterday's database in place of today's verifies in itself; the checkpoints, kept elsewhere, give it away."""
    for lane in range(5):
        _cut(crime, lane, 0)
    for table in ("ledger.accumulator", "ledger.pending", "ledger.fold_member", "ledger.allowance_member", "ledger.period",
                  "ledger.level",
                  "billing.invoice", "billing.series", "ingest.retraction", "ingest.backfill", "ingest.reverted_event",
                  "ingest.dead_letter", "ingest.partition",
                  "catalog.publication", "catalog.pricebook_version", "catalog.account", "catalog.namespace", "catalog.price",
                  "catalog.price_version", "catalog.effective_range", "catalog.retirement", "catalog.draft",
                  "catalog.draft_step", "catalog.fx_rate",
                  "catalog.canary_step", "catalog.canary_hold", "ledger.canary_beside", "ledger.carried_units",
                  "ledger.credit_grant", "ledger.credit_void", "ledger.credit_month", "ledger.credit_draw",
                  "ingest.producer", "ingest.sequence_block", "schemas.version", "schemas.schema",
                  "schemas.setting"):  # fmt: skip
        crime.tamperer.do("delete from {}", table)
    app = crime.world.app
    kept, app.notary = app.notary, Notary(tmp_path / "none", tmp_path / "keys")
    assert crime.found(deep=True) == {}
    app.notary = kept
    assert any("checkpoint" in what for what in crime.blames((0, 1)))


def test_a_rewritten_chain(crime: Crime) -> None:
    """A batch altered with its hash, and every later one of the lane with it, still is not what was signed."""
    crime.tamperer.connection.execute("update ledger.batch set engine_version = engine_version || '!' where lane = 0")
    from lineitem.ledger.chain import GENESIS, Batch, batch_hash

    previous = GENESIS
    names = list(Batch.__dataclass_fields__)
    with crime.tamperer.connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        rows = cursor.execute(
            "select b.*, n.namespace, '' as partition from ledger.batch b join catalog.namespace n using (namespace_key) "
            "where lane = 0 order by batch"
        ).fetchall()
    for row in rows:
        hashed = batch_hash(Batch(**{name: row[name] for name in names}), previous)
        crime.tamperer.connection.execute(
            "update ledger.batch set previous = %s, hash = %s where lane = 0 and batch = %s",
            (previous, hashed, row["batch"]),
        )
        previous = hashed
    crime.tamperer.connection.execute("update ledger.lane set hash = %s where lane = 0", [previous])
    found = crime.found()
    assert all("signed" in what for whats in found.values() for what in whats)
    crime.blames(min(place for place in found if place is not None))


# --- checkpoints and raw segments


def _checkpoints(crime: Crime) -> list[Path]:
    return sorted(crime.world.app.config.checkpoint_dir.glob("*.json"))


def test_any_altered_byte_of_a_checkpoint(crime: Crime) -> None:
    """No byte of a checkpoint's file can be altered."""
    path = _checkpoints(crime)[0]
    content = path.read_bytes()
    for at in range(len(content)):
        altered = bytearray(content)
        altered[at] ^= 1
        path.write_bytes(altered)
        assert [problem for file, _, problem in crime.world.app.notary.check() if file == path] != [""]
    path.write_bytes(content)
    assert crime.found() == {}


def test_a_checkpoint_of_another_key(crime: Crime, tmp_path: Path) -> None:
    """A checkpoint that is good in itself, but signed by somebody else."""
    app = crime.world.app
    signed = Notary(tmp_path / "checkpoints", tmp_path / "keys").sign(app.control, app.clock.now_us() + 1)
    assert signed is not None
    planted = app.config.checkpoint_dir / signed.name
    shutil.copy(signed, planted)
    found = crime.found()
    planted.unlink()
    assert any("another key" in what for what in found[None])
    assert crime.found() == {}


def test_any_altered_byte_of_a_raw_segment(crime: Crime) -> None:
    """Whatever byte is altered, what is read from the segment is the same, or verify --deep names the batch."""
    app = crime.world.app
    lane, batch, name, recorded_us = crime.tamperer.one(
        "select lane, batch, segment, recorded_us from ledger.batch where dead_lettered > 0 order by received desc limit 1"
    )
    path = app.config.data_dir / "segments" / name
    content = path.read_bytes()
    whole = segments.read(app.segments, name, recorded_us)
    damaged = 0
    for at in range(0, len(content), 17):
        altered = bytearray(content)
        altered[at] ^= 0x10
        path.write_bytes(altered)
        try:
            found = segments.read(app.segments, name, recorded_us)
            same = segments.same(found, whole) and (found.raw.start, found.raw.end) == (whole.raw.start, whole.raw.end)
        except IntegrityError:
            same = False
        if not same:
            damaged += 1
            assert (lane, batch) in crime.found(deep=True), at
    path.write_bytes(content)
    assert damaged > 10
    assert crime.found(deep=True) == {}


def test_a_missing_or_exchanged_raw_segment(crime: Crime) -> None:
    """A segment that is gone, or holds the records of another batch."""
    folder = crime.world.app.config.data_dir / "segments"
    first, second = crime.tamperer.connection.execute(
        "select lane, batch, segment from ledger.batch where received > 1 order by recorded_us, lane, batch limit 2"
    ).fetchall()
    path = folder / first[2]
    content = path.read_bytes()
    path.unlink()
    missing = crime.found(deep=True)
    path.write_bytes((folder / second[2]).read_bytes())
    exchanged = crime.found(deep=True)
    path.write_bytes(content)
    assert any("missing" in what for what in missing[tuple(first[:2])])
    assert any("not those it recorded" in what for what in exchanged[tuple(first[:2])])
    assert crime.found(deep=True) == {}


# --- what ordinary roles can do


FOREVER = (
    "ledger.line_item", "ledger.batch", "ledger.fact", "ledger.supersession", "ingest.identity", "ingest.retraction",
    "ingest.dead_letter", "ingest.dead_letter_sighting", "ingest.letter_act", "ingest.sequence_step",
    "billing.invoice", "catalog.publication",
    "catalog.pricebook_version", "catalog.price", "catalog.price_version", "catalog.tag_set", "catalog.retirement",
    "catalog.draft", "catalog.draft_step", "ledger.credit_grant", "ledger.credit_void", "ingest.reverted_event",
)  # fmt: skip


@pytest.fixture
def filled(ledger: App) -> Space:
    """A ledger with something of everything, as it came."""
    return fill(World(ledger))


def test_nobody_changes_what_was_written(filled: Space) -> None:
    """The posting role may not, and even the owner, a superuser, or a replica session runs into the triggers."""
    app = filled.world.app
    with connect(app.config.database_url or "") as superuser:
        superuser.execute("set session_replication_role = replica")
        for table in FOREVER:
            name = sql.Identifier(*table.split("."))
            for statement in (
                sql.SQL(
                    "update {} set namespace_key = 1" if table != "catalog.tag_set" else "update {} set tags = ''"
                ).format(name),
                sql.SQL("delete from {}").format(name),
                sql.SQL("truncate {} cascade").format(name),
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"denied|permission|owner"):
                    app.control.execute(statement)
                rows = superuser.execute(sql.SQL("select count(*) from {}").format(name)).fetchone()
                if rows == (0,) and not statement.as_string().startswith("truncate"):
                    continue  # a row trigger has nothing to fire for
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
                    superuser.execute(statement)
    assert filled.world.findings(deep=True) == []


def test_no_partition_is_changed_on_its_own(filled: Space) -> None:
    """A month's rows cannot be reached behind the parent's back."""
    app = filled.world.app
    with connect(app.config.database_url or "") as superuser:
        parts = superuser.execute(
            "select inhrelid::regclass::text from pg_inherits where inhparent = 'ledger.line_item'::regclass"
        )
        for (part,) in parts.fetchall():
            for statement in ("update {} set seq = seq", "delete from {}", "truncate {}"):
                for connection, message in ((app.control, "permission|owner"), (superuser, "append-only")):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=message):
                        connection.execute(statement.format(part))


def test_nothing_of_the_ledger_is_dropped_or_detached(filled: Space) -> None:
    """Not by mistake, not even by a superuser: the event triggers refuse."""
    app = filled.world.app
    with connect(app.config.database_url or "") as superuser:
        (part,) = superuser.execute("select min(tableoid::regclass::text) from ledger.line_item").fetchone() or ("",)
        for statement in (
            "drop table ledger.fact", "drop table billing.invoice", f"drop table {part}", "drop schema ledger cascade",
            "drop trigger append_only on ledger.batch", f"alter table ledger.line_item detach partition {part}",
        ):  # fmt: skip
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="refused"):
                superuser.execute(statement)
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="owner"):
                app.control.execute(statement)
    assert filled.world.findings() == []


def test_a_reader_sees_one_namespace(filled: Space) -> None:
    """Under the reading role rows of the session's namespace show, others do not, and none without one."""
    app = filled.world.app
    names: dict[str, int] = dict(
        app.control.execute("select namespace, namespace_key from catalog.namespace").fetchall()
    )
    other = next(name for name in names if name != filled.name)
    with connect(app.dsn, role=READ) as reader:
        secured = app.control.execute(
            "select polrelid::regclass::text from pg_policy where polname = 'namespace_only' order by 1"
        ).fetchall()
        assert len(secured) > 10
        for (table,) in secured:
            counts = {}
            for key in ("", str(names[other]), str(names[filled.name])):
                reader.execute("select set_config('lineitem.namespace_key', %s, false)", [key])
                counts[key] = (reader.execute(f"select count(*) from {table}").fetchone() or (0,))[0]
                seen = reader.execute(f"select count(distinct namespace_key) from {table}").fetchone()
                assert seen in ((0,), (1,)), table
            total = (app.control.execute(f"select count(*) from {table}").fetchone() or (0,))[0]
            assert counts[""] == 0
            assert sum(counts.values()) == total, table
        for statement in ("insert into ledger.period values (1, 1, 'open')", "update ledger.lane set batch = 0"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(statement)
        (part,) = app.control.execute("select min(tableoid::regclass::text) from ledger.line_item").fetchone() or ("",)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(f"select count(*) from {part}")


def test_a_checkpoint_signs_what_was_verified(filled: Space) -> None:
    """Signing again adds no checkpoint while nothing was written."""
    notary = filled.world.app.notary
    before = [path for path, _, _ in notary.check()]
    filled.world.app.checkpoint()
    assert [path for path, _, _ in notary.check()] == before
    assert filled.world.app.verify(deep=False, progress=nothing).checkpoints == len(before)
