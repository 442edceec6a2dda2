"""Machines that share a database and no disk: each reads the raw segments that the others wrote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from lineitem.adapters.objectstore.folder import FolderStore
from lineitem.app import App
from lineitem.catalog.load import parse_catalog
from lineitem.core.clock import FixedClock
from lineitem.core.errors import EnvironmentProblem, IntegrityError, UsageError
from lineitem.ingest.events import BatchLimits
from lineitem.ingest.segment_table import TableStore
from lineitem.kit.config import Config
from lineitem.kit.db import POST, connect
from lineitem.ledger.explain import explain
from lineitem.ledger.health import missing_segments, orphan_segments
from tests.acceptance.command import CATALOG, line, ndjson
from tests.integration.conftest import NOW_US

NAMESPACE = "default"


@contextmanager
def machine(folder: Path, database: str, *, in_table: bool = True) -> Iterator[App]:
    with App(Config(folder, database, folder / "checkpoints", in_table), FixedClock(NOW_US)) as app:
        yield app


def ingest(app: App, path: Path, *ids: str, two_processes: bool = False) -> None:
    ndjson(path, [line(one) for one in ids])
    with app.source(path, None, None, "files") as source:
        app.ingest(app.pipeline(NAMESPACE), source, BatchLimits(1), lambda at, summary: None, two_processes)


def findings(app: App) -> list[str]:
    """What ``verify --deep`` finds."""
    return [one.what for one in app.verify(deep=True, progress=lambda what, rows: None).findings]


@pytest.fixture
def first(database: str, tmp_path: Path) -> Iterator[App]:
    """A machine whose ledger has a catalog and three events."""
    with machine(tmp_path / "first", database) as app:
        app.publish(NAMESPACE, parse_catalog(CATALOG, "catalog.yaml"))
        ingest(app, tmp_path / "a", "a-1", "a-2", "a-3", two_processes=True)
        yield app


def test_two_machines_share_a_ledger_and_no_disk(first: App, database: str, tmp_path: Path) -> None:
    """Both ingest, one also from a second process; each explains and verifies to the raw events what the other wrote."""
    with machine(tmp_path / "second", database) as second:
        ingest(second, tmp_path / "b", "b-1")
        with connect(database) as superuser:
            items = superuser.execute("select id, event_id from ledger.line_item").fetchall()
        assert len(items) == 4
        for app in (first, second):
            assert findings(app) == []
            assert missing_segments(app.control, app.segments) == []
            for id_, event_id in items:
                told = explain(app.control, app.segments, NAMESPACE, str(id_))
                assert told["events"]["items"][0]["id"] == event_id
    assert not (tmp_path / "first" / "segments").exists()


def test_a_ledger_whose_segments_were_files_may_go_on_in_the_table(database: str, tmp_path: Path) -> None:
    """What was written before is found where it is; a machine that looks elsewhere says what is missing."""
    with machine(tmp_path / "data", database, in_table=False) as before:
        before.publish(NAMESPACE, parse_catalog(CATALOG, "catalog.yaml"))
        ingest(before, tmp_path / "a", "a-1")
    with machine(tmp_path / "data", database) as now:
        ingest(now, tmp_path / "b", "b-1")
        assert findings(now) == []
    with machine(tmp_path / "elsewhere", database, in_table=False) as elsewhere:
        assert "a raw segment is missing" in findings(elsewhere)[0]


def test_altered_rows_of_the_table_show(first: App, database: str) -> None:
    """The batch's digest covers the records, wherever they are."""
    with connect(database) as superuser:
        superuser.execute("alter table ingest.segment disable trigger user")
        superuser.execute("update ingest.segment set content = (select content from ingest.segment limit 1)")
        assert any("its raw records are not those it recorded" in what for what in findings(first))
        superuser.execute("delete from ingest.segment")
    assert "a raw segment is missing" in findings(first)[0]


def test_segments_are_written_once(first: App, database: str, tmp_path: Path) -> None:
    """The same again is nothing, another content is refused; only what no batch refers to can be removed."""
    store = TableStore(database, FolderStore(tmp_path / "none"))
    names = list(store.names())
    store.create(names[0], store.read(names[0]))
    with pytest.raises(IntegrityError, match="other content"):
        store.create(names[0], b"other")
    with pytest.raises(EnvironmentProblem, match="a batch refers to it"):
        store.remove(names[0])
    orphan = names[0].rpartition("/")[0] + "/" + "0" * 20 + "-left.parquet"
    store.create(orphan, b"left by a crash")
    assert orphan_segments(first.control, store) == [orphan]
    store.remove(orphan)
    assert list(store.names()) == names
    store.close()
    with connect(database, role=POST) as poster:
        for statement in ("update ingest.segment set content = ''", "truncate ingest.segment"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                poster.execute(statement)


def test_the_environment_says_where(tmp_path: Path) -> None:
    """A folder unless told otherwise; a word that means nothing is refused."""
    assert not Config.read(tmp_path, {}).segments_in_database
    assert Config.read(tmp_path, {"LINEITEM_SEGMENTS": "database"}).segments_in_database
    with pytest.raises(UsageError, match="LINEITEM_SEGMENTS"):
        Config.read(tmp_path, {"LINEITEM_SEGMENTS": "s3"})
