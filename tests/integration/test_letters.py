"""Dead letters worked off: whatever was mended or waited for, in any order and split, comes to what the oracle says."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from lineitem.app import App
from lineitem.core.errors import InputError, Refused
from lineitem.ingest import acts, letters
from lineitem.kit.db import READ, connect
from lineitem.ledger.letters import groups, line_items_of, shown, summary
from lineitem.replay import dry_run
from tests.integration.drive import Space, World, nothing
from tests.integration.oracle import Oracle
from tests.strategies import Record, catalogs, cut, file_of, repeated, usage

NOW = datetime(2026, 12, 15, tzinfo=UTC)
law = settings(suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.reuse, Phase.generate])
CATALOG: dict[str, Any] = {
    "currency": "USD",
    "meters": [{"id": "tokens", "event_type": "a.used", "aggregation": "sum", "value": "data.v", "scale": 0}],
    "pricebooks": [
        {
            "id": "book", "version": 1, "effective_from": "2020-01-01T00:00:00Z",
            "prices": [{"id": "tokens", "meter": "tokens", "model": "graduated", "tiers": [
                {"up_to": "10", "unit_price": "1"}, {"up_to": None, "unit_price": "0.5"}]}],
        }
    ],
    "accounts": {"defaults": {"pricebook": "book"}},
}  # fmt: skip
CLOSED = CATALOG | {"accounts": {"defaults": {"pricebook": "book", "open": False}, "list": [{"id": "known"}]}}


@pytest.fixture
def world(ledger: App) -> World:
    """A ledger to live in."""
    return World(ledger)


def line(id_: str, account: str = "known", value: object = 4, time: str = "2026-10-12T10:00:00Z") -> bytes:
    """One line of usage."""
    event = {"specversion": "1.0", "id": id_, "source": "/s", "type": "a.used", "subject": account, "time": time}
    return json.dumps(event | {"data": {"v": value}}).encode() + b"\n"


# --- laws


def _shut(catalog: dict[str, Any]) -> dict[str, Any]:
    """The catalog as it was before anybody could walk in."""
    accounts = catalog["accounts"]
    return catalog | {"accounts": accounts | {"defaults": accounts["defaults"] | {"open": False}}}


def _spoiled(record: Record, how: str) -> Record:
    """The same record as a producer with a defect would send it; it takes as many bytes."""
    if b'"id"' not in record.line or how == "as it is":
        return record
    if how == "cut":
        return Record(record.id, b"!" + record.line[1:])
    return Record(record.id, record.line.replace(b'"subject"', b'"subjekt"', 1))


def _mend(space: Space, key: int, raw: bytes, fields: bool) -> None:
    """Say what the producer meant: by its fields where that can be, else by a whole record."""
    subject = re.search(rb'"subjekt": ?"([^"]*)"', raw)
    if raw.startswith(b"!"):
        space.fix(key, record=(b"{" + raw[1:]).decode())
    elif subject is not None and fields and _is_json(raw):
        space.fix(key, set={"subject": subject[1].decode()}, remove=["subjekt"])
    elif b'"subjekt"' in raw:
        space.fix(key, record=raw.replace(b'"subjekt"', b'"subject"').decode())


def _is_json(raw: bytes) -> bool:
    try:
        json.loads(raw, parse_constant=int)  # NaN is none, and no int either
    except ValueError:
        return False
    return True


def test_letters_worked_off_in_any_order_come_to_the_oracles_sums(world: World) -> None:
    """As if all had been good, and the catalog ready, from the start: fixed, waited for, repeated, split, replayed twice."""
    outcomes: set[str] = set()

    @settings(law, max_examples=20)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        catalog, events = data.draw(catalogs()), data.draw(usage())
        files = data.draw(cut(data.draw(repeated(events))))
        space, oracle = world.space(_shut(catalog), NOW), None
        oracle = Oracle(space.name, catalog, NOW)
        how = st.sampled_from(["as it is", "as it is", "cut", "misspelt"])
        for number, part in enumerate(files):
            sent = [_spoiled(record, data.draw(how)) for record in part]
            space.send(file_of(sent), f"stream-{number}", data.draw(st.sampled_from([1, 3, 1000])))
            oracle.send(file_of(part), f"stream-{number}")
        if data.draw(st.booleans()):
            space.replay()  # too early for nearly all of them
        space.publish(catalog)
        for key in data.draw(st.permutations(space.letters())):
            raw = letters.dead_letter(world.app.control, space.name, key)["raw"].encode()
            _mend(space, key, raw, data.draw(st.booleans()))
        if data.draw(st.booleans()):
            space.send(file_of(files[0]), "again by another file")
            oracle.send(file_of(files[0]), "again by another file")
        order = data.draw(st.permutations(space.letters()))
        at = data.draw(st.integers(0, len(order)))
        for some in (order[:at], order[at:], order):
            if some:
                done = space.replay(some, batch=data.draw(st.sampled_from([1, 2, 1000])))
                outcomes.update(one["outcome"] for one in done.results)
        note(f"replayed {order[:at]}, {order[at:]}")
        assert space.totals() == oracle.totals()
        assert space.keys() == oracle.keys()
        for counts in space.batches():
            assert counts.received == sum(vars(counts).values()) - counts.received
        before = space.line_items()
        assert space.replay().summary.line_items == 0
        assert space.line_items() == before
        assert world.findings_now_and_then() == []

    holds()
    assert world.findings(deep=True) == []
    assert outcomes == {"accepted", "duplicate", "dead_letter"}, "the examples are too tame"


def test_replays_at_once_bill_once(world: World) -> None:
    """Several processes replay the same letters, whole or in parts, while the same events come in again by a file."""
    for batch in (1, 3, 1000):
        space = world.space(CLOSED, NOW)
        file = b"".join(line(f"e-{n}", "late", n) for n in range(12))
        space.send(file, "stream")
        space.publish(CATALOG)
        keys = space.letters("unknown_account")
        assert len(keys) == 12
        with ThreadPoolExecutor(4) as pool:
            running: list[Any] = [
                pool.submit(space.replay, keys, batch=batch, pipeline=0),
                pool.submit(space.replay, keys, batch=batch, pipeline=1),
                pool.submit(space.replay, keys[::-1], batch=2, pipeline=2),
                pool.submit(space.send, file, "again", 5, pipeline=3),
            ]
            done = [one.result() for one in running]
        assert sum(one.tried for one in done[:3]) == 12
        assert space.rows("select count(*) from ingest.letter_act x join catalog.namespace n using (namespace_key)"
                          " where n.namespace = %(namespace)s")[0][0] == 12  # fmt: skip
        oracle = Oracle(space.name, CATALOG, NOW)
        oracle.send(file, "stream")
        assert space.totals() == oracle.totals()
        assert space.letters() == []
        assert world.findings(deep=True) == []


# --- one letter


def test_a_letter_keeps_its_attempts_and_takes_its_newest_code(world: World) -> None:
    """Set aside for one reason, fixed, set aside for another, fixed again: fixes add up, and `show` tells the story."""
    space = world.space(CLOSED, NOW)
    space.send(b"not json\n" + line("other"), "stream")
    (key,) = space.letters()
    space.fix(key, record=line("e-1", "stranger", "many").decode().strip())
    assert space.replay().summary.counts.dead_lettered == 1
    space.fix(key, set={"data.v": "12"})
    space.fix(key, set={"subject": "known"})
    done = space.replay([key])
    assert [one["outcome"] for one in done.results] == ["accepted"]
    told = shown(world.app.control, space.name, key)
    assert (told["state"], told["attempts"], told["fixes"], told["first_reason"]) == ("replayed", 2, 3, "bad_json")
    assert [act["act"] for act in told["history"]] == ["fix", "replay", "fix", "fix", "replay"]
    assert told["resolution"]["accepted_as"] == done.results[0]["place"]
    assert told["resolution"]["line_items"] == done.results[0]["line_items"]
    assert told["raw"] == "not json"
    found = world.app.control.execute("select id::text from ledger.line_item where event_id = 'e-1'").fetchall()
    assert [row[0] for row in found] == told["resolution"]["line_items"]
    with pytest.raises(Refused, match="replayed"):
        space.fix(key, set={"data.v": "13"})
    with pytest.raises(Refused, match="replayed"):
        space.discard(key)
    assert space.replay([key]).skipped == 1
    assert world.findings(deep=True) == []


def test_the_trace_is_found_in_a_record_that_cannot_be_read(world: World) -> None:
    """So that whoever looks at a letter finds the request it came from."""
    space = world.space(CATALOG, NOW)
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    space.send(b'{"traceparent": "00-' + trace.encode() + b'-00f067aa0ba902b7-01", "cut\nbroken\n', "stream")
    found = letters.dead_letters(world.app.control, space.name, 10)
    assert sorted(one["trace_id"] or "" for one in found) == ["", trace]


def test_starting_over_forgets_earlier_fixes(world: World) -> None:
    """`afresh` goes back to the record as it came in."""
    space = world.space(CLOSED, NOW)
    space.send(line("e-1", "known", "many"), "stream")
    (key,) = space.letters()
    space.fix(key, set={"id": "another", "data.v": "1"})
    space.fix(key, set={"data.v": "7"}, afresh=True)
    space.replay()
    assert space.rows("select event_id from ledger.line_item where quantity = 7") == [("e-1",)]


def test_a_conflict_stays_one_unless_it_is_given_another_id(world: World) -> None:
    """Both contents are billed once somebody says that they are two events."""
    space = world.space(CATALOG, NOW)
    space.send(line("e-1", value=4) + line("e-1", value=5), "stream")
    (key,) = space.letters("conflict")
    assert [one["code"] for one in space.replay().results] == ["conflict"]
    space.fix(key, set={"id": "e-1-b"})
    assert [one["outcome"] for one in space.replay().results] == ["accepted"]
    assert space.totals()[("known", "tokens", "2026-10")][0] == 9
    assert world.findings(deep=True) == []


def test_discarding_is_for_good_until_it_is_taken_back(world: World) -> None:
    """Bulk replays leave a discarded letter alone; named by its key it is tried again. Seen again it stays discarded."""
    space = world.space(CLOSED, NOW)
    file = line("e-1", "late") + line("e-2", "late")
    space.send(file, "stream")
    first, second = space.letters()
    with pytest.raises(Refused, match="reason"):
        world.app.discard_letters(space.name, [first], "ben", "  ")
    space.discard(first)
    with pytest.raises(Refused, match="discarded already"):
        space.discard(second, first)
    assert space.letters() == [second]
    space.publish(CATALOG)
    space.replay()
    assert space.letters(state="discarded") == [first]
    told = letters.dead_letter(world.app.control, space.name, first)
    assert (told["resolution"]["by"], told["resolution"]["reason"]) == ("ben", "a test says so")
    space.replay([first])
    assert space.letters(state="replayed") == [first, second]
    with pytest.raises(InputError, match="no dead letter"):
        space.discard(second + 1000)
    assert world.findings(deep=True) == []


def test_a_letter_whose_event_came_in_meanwhile_is_a_duplicate(world: World) -> None:
    """It counts as replayed, names the first acceptance, and bills nothing."""
    space = world.space(CLOSED, NOW)
    space.send(line("e-1", "late"), "stream")
    space.publish(CATALOG)
    space.send(line("e-1", "late"), "another")
    (key,) = space.letters()
    done = space.replay()
    assert done.summary.document() | {"batches": 1} == {
        "received": 1, "itemized": 0, "line_items": 0, "duplicate": 1, "pending": 0, "dead_lettered": 0,
        "not_billable": 0, "batches": 1,
    }  # fmt: skip
    told = shown(world.app.control, space.name, key)
    assert (told["state"], told["resolution"]["outcome"]) == ("replayed", "duplicate")
    assert told["accepted_as"] == told["resolution"]["accepted_as"]
    assert len(told["resolution"]["line_items"]) == 1
    assert world.findings(deep=True) == []


def test_a_record_that_was_cut_comes_whole_out_of_its_segment(world: World) -> None:
    """A letter keeps 64 KiB of a record; what is replayed is all of it."""
    space = world.space(CLOSED, NOW)
    long = line("e-1", "late").replace(b'"v": 4', b'"v": 4, "pad": "' + b"x" * 200_000 + b'"')
    space.send(line("e-0") + long, "stream")
    (key,) = space.letters()
    assert letters.dead_letter(world.app.control, space.name, key)["raw_is_cut"]
    space.publish(CATALOG)
    assert [one["outcome"] for one in space.replay().results] == ["accepted"]
    assert world.findings(deep=True) == []


def test_a_replayed_event_of_a_closed_month_is_a_correction(world: World) -> None:
    """It keeps its own service period and posts to the earliest open month."""
    space = world.space(CLOSED, NOW)
    space.send(line("e-1", "late"), "stream")
    space.close("2026-10")
    space.publish(CATALOG)
    space.replay()
    assert space.kinds() == {("2026-10", "2026-11", 4): 1}
    assert world.findings(deep=True) == []


def test_a_replayed_event_can_be_retracted(world: World) -> None:
    """It is an event as any other, under the identity it was mended to."""
    space = world.space(CATALOG, NOW)
    space.send(line("e-1", value="many"), "stream")
    space.fix(space.letters()[0], set={"data.v": "20", "id": "mended"})
    space.replay()
    assert space.totals()[("known", "tokens", "2026-10")][1] == 15 * 10**9
    assert space.retract("/s", "mended") == 1
    assert space.totals() == {}
    assert world.findings(deep=True) == []


# --- dry run, automatic retry, depth


def test_a_dry_run_says_what_a_replay_then_does_and_leaves_no_trace(world: World) -> None:
    """Amounts are exact, tiers and all; not a row, not a file is left."""
    space, app = world.space(CLOSED, NOW), world.app
    space.send(b"".join(line(f"e-{n}", "late", 4) for n in range(5)) + b"broken\n" + line("x"), "stream")
    space.publish(CATALOG)
    chosen = acts.choose(app.control, letters.namespace_key(app.control, space.name))
    before, files = _everything(space), sorted(app.segments.names())
    told = dry_run(app.connection(), app.segments, space.clock, space.name, chosen, nothing).document()
    assert (_everything(space), sorted(app.segments.names())) == (before, files)
    assert told["by_reason"]["unknown_account"]["amounts"] == {"USD": "15"}
    done = space.replay().document()
    assert {key: done[key] for key in ("tried", "replayed", "failed", "by_reason", "counts")} == {
        key: told[key] for key in ("tried", "replayed", "failed", "by_reason", "counts")
    }
    assert done["by_reason"]["bad_json"]["failed"] == {"bad_json": 1}


def _everything(space: Space) -> list[Any]:
    """Rows of every table, as text."""
    tables = space.rows(
        "select schemaname || '.' || tablename from pg_tables where schemaname in ('catalog', 'ingest', 'ledger') order by 1"
    )
    return [
        (
            table,
            space.world.app.control.execute(
                f"select count(*), sum(hashtextextended(x::text, 0)) from {table} x"
            ).fetchone(),
        )
        for (table,) in tables
    ]


def test_letters_that_wait_for_the_catalog_are_tried_again_once_it_has_moved(world: World) -> None:
    """Only those, only under another revision, and after a rest that doubles."""
    space, app = world.space(CLOSED, NOW), world.app
    space.send(line("e-1", "late") + line("e-2", "known", "many"), "stream")

    def retry() -> list[tuple[int, int]]:
        done = space.act(lambda app: app.retry_letters(space.name))
        return [] if done is None else [(done.tried, done.summary.counts.dead_lettered)]

    assert retry() == []
    for number in range(1, 4):
        space.publish(CLOSED | {"issuer": {"name": f"Somebody {number}"}})
        if number > 1:
            assert retry() == [], "it has not rested"
            space.clock.advance(60_000_000 * 2 ** (number - 2) - 1)
            assert retry() == []
            space.clock.advance(1)
        assert retry() == [(1, 1)]
        assert retry() == [], "the catalog has not moved"
    space.publish(CATALOG)
    space.clock.advance(86_400_000_000)
    assert retry() == [(1, 0)]
    (bad,) = space.letters()
    told = letters.dead_letter(app.control, space.name, bad)
    assert (told["reason"], told["attempts"]) == ("bad_value", 0)
    assert world.findings(deep=True) == []


def test_depth_and_age_by_code(world: World) -> None:
    """How many wait, since when, and who is settled."""
    space, app = world.space(CLOSED, NOW), world.app
    space.send(line("e-1", "late") + line("e-2", "late") + b"broken\n", "stream")
    space.clock.advance(7200 * 1_000_000)
    space.send(line("e-1", "late") + line("e-3", "late"), "another")
    space.discard(space.letters("bad_json")[0])
    now_us = space.clock.now_us()
    found = groups(app.control, space.name, letters.Filter("open"), now_us)
    assert [(one["reason"], one["dead_letters"], one["records"], one["oldest_seconds"]) for one in found] == [
        ("unknown_account", 3, 4, 7200)
    ]
    assert (found[0]["first_seen"], found[0]["last_seen"]) == ("2026-12-15T00:00:00Z", "2026-12-15T02:00:00Z")
    assert summary(app.control, space.name, now_us) == {
        "open": 3, "replayed": 0, "discarded": 1, "oldest_seconds": 7200,
        "open_by_reason": {"unknown_account": {"dead_letters": 3, "oldest_seconds": 7200}},
    }  # fmt: skip
    space.replay()
    assert groups(app.control, space.name, letters.Filter("open"), now_us)[0]["records"] == 4, (
        "a failed replay is no record"
    )
    assert groups(app.control, space.name, letters.Filter(), now_us)[0]["attempts"] == 3


def test_a_reader_sees_the_letters_of_one_namespace(world: World) -> None:
    """Through the view, too, and may do nothing with them."""
    spaces = [world.space(CLOSED, NOW) for _ in range(2)]
    for number, space in enumerate(spaces, 1):
        space.send(b"".join(line(f"e-{n}", "late") for n in range(number)), "stream")
        space.replay()
    with connect(world.app.dsn, role=READ) as reader:
        assert reader.execute("select count(*) from ingest.letter").fetchone() == (0,)
        for number, space in enumerate(spaces, 1):
            key = str(letters.namespace_key(world.app.control, space.name))
            reader.execute("select set_config('lineitem.namespace_key', %s, false)", [key])
            assert reader.execute("select count(*), sum(attempts) from ingest.letter").fetchone() == (number, number)
        for statement in ("update ingest.letter_act set note = 'x'", "delete from ingest.letter_act"):
            for connection in (reader, world.app.control):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement)


def test_line_items_are_those_of_single_events(world: World) -> None:
    """A window's line item belongs to no one letter."""
    hourly = json.loads(json.dumps(CATALOG))
    hourly["pricebooks"][0]["prices"][0]["itemize"] = "hour"
    space = world.space(hourly, NOW)
    space.send(line("e-1", value="many"), "stream")
    space.fix(space.letters()[0], set={"data.v": "3"})
    done = space.replay()
    assert done.results[0]["line_items"] == []
    assert done.summary.line_items == 1
    assert line_items_of(world.app.control, 1, 1, []) == {}
    assert world.findings(deep=True) == []
