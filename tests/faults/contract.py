"""What every source of usage must keep, whatever it reads: a file, a stream in memory, NATS, Kafka."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any, Protocol

import pytest

from lineitem.adapters.streams import StreamOrder
from lineitem.app import App
from lineitem.catalog.load import parse_catalog
from lineitem.core.errors import Refused
from lineitem.flow import Pipeline
from lineitem.worker import StreamLimits
from tests.acceptance.command import CATALOG, line


class Source(Protocol):
    """Something that holds records and can be read into a ledger, a few records a batch."""

    def put(self, *records: bytes) -> None:
        """Add records at its end."""
        ...

    def read(self, app: App, namespace: str, **options: Any) -> dict[str, Any]:
        """Read what is there: the summary."""
        ...


class Stream(Source, Protocol):
    """A source that a broker keeps."""

    def make_anew(self) -> None:
        """Delete it and make one of the same name."""
        ...

    def lose_first(self, count: int) -> None:
        """What retention does."""
        ...


def work(app: App, namespace: str, url: str, **options: Any) -> dict[str, Any]:
    """Read a stream to its end, two records a batch."""
    order = StreamOrder(url, until_idle=True, limits=StreamLimits(2, 1 << 20, 50), **options)
    return app.work(namespace, order, Event(), lambda text: None).document()


class Reading:
    """A source and a namespace of its own to read it into."""

    def __init__(self, app: App, namespace: str, source: Source) -> None:
        self.app, self.namespace, self.source = app, namespace, source
        app.publish(namespace, parse_catalog(CATALOG, "catalog.yaml"))

    def read(self, **options: Any) -> tuple[int, int, int]:
        """How many records became line items, were known, were set aside."""
        with App(self.app.config, self.app.clock) as app:
            done = self.source.read(app, self.namespace, **options)
        assert done["received"] == done["itemized"] + done["duplicate"] + done["dead_lettered"]
        return done["itemized"], done["duplicate"], done["dead_lettered"]

    def billed(self) -> list[str]:
        """Ids of the events that line items stand for, sorted; the ledger must verify to the raw records."""
        report = self.app.verify(deep=True, progress=lambda what, rows: None)
        assert report.ok, [one.what for one in report.findings]
        rows = self.app.control.execute(
            "select event_id from ledger.line_item join catalog.namespace using (namespace_key) where namespace = %s",
            (self.namespace,),
        )
        return sorted(str(row[0]) for row in rows)


class SourceContract:
    """Tests of any source; a subclass has a fixture ``reading``."""

    def test_every_record_counts_once(self, reading: Reading) -> None:
        """However often it is read, and what comes later counts as well."""
        reading.source.put(*(line(f"e-{n}") for n in range(5)))
        assert reading.read()[0] == 5
        assert reading.read()[0] == 0
        reading.source.put(line("e-5"), line("e-6"))
        assert reading.read()[0] == 2
        assert reading.billed() == [f"e-{n}" for n in range(7)]

    def test_repeats_conflicts_and_rubbish(self, reading: Reading) -> None:
        """Are told apart, and their neighbours go on."""
        reading.source.put(line("a", 5), line("a", 5), line("a", 6), b"rubbish", line("b"))
        assert reading.read() == (2, 1, 2)
        assert reading.billed() == ["a", "b"]

    @pytest.mark.parametrize("committed", [False, True])
    def test_a_reader_that_fails(self, reading: Reading, monkeypatch: pytest.MonkeyPatch, committed: bool) -> None:
        """Before a commit or after one whose answer it never got: the next one goes on, nothing is lost or doubled."""
        reading.source.put(*(line(f"e-{n}") for n in range(6)))
        commit, calls = Pipeline.commit, []

        def fails(self: Pipeline, *arguments: Any) -> Any:
            calls.append(1)
            if len(calls) != 2:
                return commit(self, *arguments)
            if committed:
                commit(self, *arguments)
            raise ConnectionError("the answer is lost")

        with monkeypatch.context() as patched:
            patched.setattr(Pipeline, "commit", fails)
            with pytest.raises(ConnectionError):
                reading.read()
        assert reading.read()[0] == (2 if committed else 4)
        assert reading.billed() == [f"e-{n}" for n in range(6)]

    def test_two_readers_at_once(self, reading: Reading) -> None:
        """Do not count a record twice."""
        reading.source.put(*(line(f"e-{n:02d}") for n in range(20)))
        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(reading.read) for _ in range(2)]
            assert sum(one.result()[0] for one in both) == 20
        assert reading.billed() == [f"e-{n:02d}" for n in range(20)]

    def test_records_without_an_id(self, reading: Reading) -> None:
        """Their place stands for it: two equal ones are two, read again they are the same."""
        reading.source.put(line("", 5, id=...), line("", 5, id=...))
        assert reading.read()[0] == 2
        assert reading.read()[0] == 0
        assert len(reading.billed()) == 2


class StreamContract(SourceContract):
    """Tests of sources that a broker keeps: what is not what it was is refused, never passed over."""

    def test_made_anew(self, reading: Reading) -> None:
        """Its positions begin again: refused, until somebody says its id."""
        source: Any = reading.source
        source.put(line("a"), line("b"))
        assert reading.read()[0] == 2
        source.make_anew()
        source.put(line("c"))
        with pytest.raises(Refused, match="was made anew") as refusal:
            reading.read()
        assert reading.read(topic_id=str(refusal.value.do).rpartition(" ")[2])[0] == 1
        assert reading.billed() == ["a", "b", "c"]

    def test_records_that_are_gone(self, reading: Reading) -> None:
        """Before they were read: refused, until somebody says to go on without them."""
        source: Any = reading.source
        source.put(line("a"))
        assert reading.read()[0] == 1
        source.put(line("b"), line("c"), line("d"))
        source.lose_first(3)
        with pytest.raises(Refused, match="no longer"):
            reading.read()
        assert reading.read(skip_missing=True)[0] == 1
        assert reading.billed() == ["a", "d"]
