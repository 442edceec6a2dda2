"""Switches set while usage comes in: what waits is billed once, in the end, whatever was switched when and let go by whom."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lineitem.app import App
from lineitem.chores import Chores
from lineitem.core.errors import InputError, IntegrityError, Refused
from lineitem.ingest.gate import SourceGate, SourceWatch
from lineitem.ingest.intake import open_stream
from lineitem.ingest.letters import Filter, namespace_key
from lineitem.ingest.throttle import What
from lineitem.kit.db import connect
from lineitem.ledger.explain import explain
from lineitem.ledger.letters import depth, groups, shown
from lineitem.ledger.throttling import Target
from lineitem.ledger.throttling import shown as switches
from tests.integration.drive import World
from tests.integration.oracle import Oracle
from tests.integration.test_letters import CATALOG, CLOSED, line
from tests.strategies import ACCOUNTS, TYPES, catalogs, cut, file_of, repeated, usage

NOW = datetime(2026, 12, 15, tzinfo=UTC)
law = settings(suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.reuse, Phase.generate])


@pytest.fixture
def world(ledger: App) -> World:
    """A ledger to live in."""
    return World(ledger)


def file(*lines: bytes) -> bytes:
    return b"".join(lines)


def test_switches_change_no_total(world: World) -> None:
    """Accounts and types paused and limited, cleared and set again between files, what waits let go by anybody in portions
    of any size: once all is lifted, everything is billed once, as the oracle says."""

    @settings(law, max_examples=8)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        catalog, events = data.draw(catalogs()), data.draw(usage())
        targets = [(What.ACCOUNT, one) for one in ACCOUNTS] + [(What.TYPE, one) for one in TYPES]
        targets.append((What.EACH_ACCOUNT, ""))
        space = world.space(catalog, NOW)
        oracle = Oracle(space.name, catalog, NOW)
        received = set_aside = 0
        for number, part in enumerate(data.draw(cut(data.draw(repeated(events))))):
            for what, name in data.draw(st.lists(st.sampled_from(targets), max_size=2)):
                limit = st.integers(1, 3) if what is What.EACH_ACCOUNT else st.none() | st.integers(1, 3)
                set_ = space.throttle(what, name, data.draw(limit))
                if data.draw(st.booleans()):
                    space.unthrottle(set_)
            received += space.send(
                file_of(part), f"stream-{number}", data.draw(st.sampled_from([1, 3, 1000]))
            ).counts.received
            set_aside += oracle.send(file_of(part), f"stream-{number}").dead_lettered
            if data.draw(st.booleans()):
                space.clock.advance(data.draw(st.integers(0, 5_000_000)))
                space.release(pipeline=data.draw(st.integers(0, 1)), records=data.draw(st.sampled_from([1, 2, 1000])))
        before = world.app.verify(deep=False, progress=lambda *_: None).counts
        assert before["received"] == sum(before.values()) - before["received"]
        standing = [one["number"] for one in switches(world.app.control, space.name, space.clock.now_us())
                    if one["state"] in ("paused", "limited")]  # fmt: skip
        if standing:
            space.unthrottle(*standing)
        space.release(records=data.draw(st.sampled_from([2, 1000])))
        assert space.waits() == 0
        assert space.totals() == oracle.totals()
        assert space.keys() == oracle.keys()
        assert sum(one.received - one.dead_lettered for one in space.batches()) == received - set_aside
        assert world.findings_now_and_then() == []

    holds()
    assert world.findings(deep=True) == []


def test_two_who_let_go_at_once_bill_once(world: World) -> None:
    """The second finds the position moved; what it wrote beside is an orphan at most."""
    space = world.space(CATALOG, NOW)
    number = space.throttle(What.ACCOUNT, "known")
    for at in range(6):
        space.send(file(*(line(f"{at}-{one}") for one in range(5))), f"s{at}")
    assert (space.waits(), space.line_items()) == (30, 0)
    space.unthrottle(number)
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda at: space.release(pipeline=at, records=3), (0, 1)))
    assert sum(one.counts.received for one in done) == 30
    assert (space.waits(), len(space.keys())) == (0, 30)
    assert world.findings(deep=True) == []


def test_what_waits_for_one_switch_after_another(world: World) -> None:
    """Let go by the first, held again by the second: still the record that came in, and billed once."""
    space = world.space(CATALOG, NOW)
    both = [space.throttle(What.ACCOUNT, "known"), space.throttle(What.TYPE, "a.used")]
    space.send(file(line("e-1"), line("e-2"), line("e-3")), "s")
    for number in both:
        assert space.line_items() == 0
        space.unthrottle(number)
        space.act(lambda app: app.release(space.name))
        assert world.findings(deep=True) == []
    assert space.line_items() == 3
    assert space.letters() == []


def test_a_missing_segment_keeps_no_other_waiting(world: World) -> None:
    """What can go on goes on; then it is said."""
    space = world.space(CATALOG, NOW)
    number = space.throttle(What.ACCOUNT, "known")
    space.send(line("e-1"), "one")
    space.send(line("e-2"), "two")
    space.unthrottle(number)
    store = world.app.segments
    first = space.rows("select segment from ledger.batch where segment <> '' order by recorded_us limit 1")[0][0]
    content = store.read(first)
    store.remove(first)
    with pytest.raises(IntegrityError, match="missing"):
        space.act(lambda app: app.release(space.name))
    assert space.line_items() == 1
    store.create(first, content)
    space.act(lambda app: app.release(space.name))
    assert space.line_items() == 2


def test_a_new_limit_owes_nothing_to_the_old_one(world: World) -> None:
    """A file read under a slow limit has used up hours of it; lifted and set again, nothing is owed."""
    space = world.space(CATALOG, NOW)
    space.throttle(What.SOURCE, "s", 1)
    source = open_stream(
        world.app.control, space.name, namespace_key(world.app.control, space.name), "s", 4, "cloudevents", {}
    )
    gate = SourceGate(world.app.control, space.clock, lambda text: None, lambda microseconds: pytest.fail("it waits"))
    gate(source, 20_000)
    space.unthrottle(1)
    space.throttle(What.SOURCE, "s", 1_000_000)
    gate(source, 3)


def test_a_limit_lets_go_as_fast_as_it_says(world: World) -> None:
    """Twice its worth at once, then second by second, whoever asks, until nothing waits."""
    space = world.space(CATALOG, NOW)
    space.throttle(What.ACCOUNT, "known", 3)
    assert space.send(file(*(line(str(one)) for one in range(20)), line("x", "other")), "s").counts.dead_lettered == 14
    gone: list[int] = []
    for _ in range(6):
        gone.append(space.release(pipeline=len(gone) % 2).counts.received)
        space.clock.advance(1_000_000)
    assert gone == [0, 3, 3, 3, 3, 2]
    assert space.waits() == 0
    assert world.findings(deep=True) == []


def test_a_switch_ends_by_itself(world: World) -> None:
    """At its time, without anybody; a later release finds what waited for it."""
    space = world.space(CATALOG, NOW)
    space.throttle(What.TYPE, "a.used", until=NOW + timedelta(seconds=10))
    space.send(line("a"), "s")
    assert space.release().batches == 0
    space.clock.advance(10_000_000)
    space.send(line("b"), "t")
    assert space.release().counts.itemized == 1
    assert len(space.keys()) == 2


def test_what_waits_is_seen(world: World) -> None:
    """Among the dead letters, by code and switch; as it goes on it is explained by the record that came in, in its place."""
    space = world.space(CATALOG, NOW)
    space.throttle(What.ACCOUNT, "known")
    space.throttle(What.ACCOUNT, "slow", 1)
    lines = [line("one", "other"), line("two"), line("three"), *(line(f"s{n}", "slow") for n in range(5))]
    space.send(file(*lines), "s")
    control = world.app.control
    space.clock.advance(60_000_000)
    found = groups(control, space.name, Filter("open"), space.clock.now_us())
    assert [(one["reason"], one["records"], one["oldest_seconds"], one["example"]["key"]) for one in found] == [
        ("paused", 2, 60, None),
        ("throttled", 3, 60, None),
    ]
    assert depth(control, space.clock.now_us())["paused"] == {"dead_letters": 2, "oldest_seconds": 60}
    space.unthrottle(1)
    space.release()
    (id_,) = space.rows(
        """select x.id::text from ledger.line_item x join catalog.namespace n using (namespace_key)
           where n.namespace = %(namespace)s and x.event_id = 'three'"""
    )[0]
    told = explain(control, world.app.segments, space.name, id_)["events"]["items"]
    event = next(one for one in told if one["id"] == "three")
    assert (event["stream"], event["position"], event["format"]) == ("s", len(lines[0] + lines[1]), "cloudevents")
    assert event["raw"] == lines[2].decode().strip()
    assert event["waited"]


def test_dead_letters_of_a_paused_account_stay_until_it_goes_on(world: World) -> None:
    """A replay sets them aside again with the switch's code; a minute after it is lifted they are tried by themselves."""
    space = world.space(CLOSED, NOW)
    space.send(line("late", "new"), "s")
    (key,) = space.letters("unknown_account")
    number = space.throttle(What.ACCOUNT, "new")
    space.publish(CATALOG)
    space.replay()
    assert space.letters("paused") == [key]
    found = shown(world.app.control, space.name, key)
    assert found["detail"] == f"switch {number} of `lineitem throttle list`"
    space.unthrottle(number)
    assert space.act(lambda app: app.retry_letters(space.name)) is None, "it rests"
    space.clock.advance(61_000_000)
    assert space.act(lambda app: app.retry_letters(space.name)).document()["replayed"] == 1
    assert len(space.keys()) == 1
    assert world.findings(deep=True) == []


def test_a_worker_tries_again_and_lets_go_on_by_itself(world: World) -> None:
    """As it ends at the latest: dead letters that waited for the catalog, what waited for a switch; then it signs."""
    space = world.space(CLOSED, NOW)
    number = space.throttle(What.ACCOUNT, "known")
    space.send(file(line("late", "new"), line("waits")), "s")
    space.publish(CATALOG)
    space.unthrottle(number)
    said: list[str] = []
    space.act(lambda app: Chores(app, space.pipeline(), said.append, retry=False).finish(told_to_stop=False))
    assert (said, len(space.keys())) == ([], 0)
    space.act(lambda app: Chores(app, space.pipeline(), said.append, retry=True).finish(told_to_stop=False))
    assert len(space.keys()) == 2
    assert said == [
        "Records that waited for a switch: 1 went on.",
        "Dead letters tried again: 1 replayed, 0 still open.",
    ]
    assert world.verify().findings == []


def test_a_letter_of_what_went_on_is_mended_like_any(world: World) -> None:
    """What cannot be billed when it goes on is a dead letter with its record as it came in; fixes of it fit."""
    space = world.space(CATALOG, NOW)
    number = space.throttle(What.ACCOUNT, "known")
    space.send(file(line("good"), line("bad", value=None), line("worse", value="x")), "s")
    assert space.letters() == [], "nobody has looked at what waits"
    space.unthrottle(number)
    space.release()
    (bad,), (worse,) = space.letters("missing_value"), space.letters("bad_value")
    assert shown(world.app.control, space.name, bad)["raw"] == line("bad", value=None).decode().strip()
    space.fix(bad, set={"data.v": "5"})
    space.fix(worse, record=line("worse", value=6).decode().strip())
    assert space.replay().document()["replayed"] == 2
    assert len(space.keys()) == 3
    assert world.findings(deep=True) == []


def test_switches_that_cannot_be(world: World) -> None:
    """Refused with what to do; a target keeps its number; clearing twice is refused."""
    space = world.space(CATALOG, NOW)
    for what, name, limit, until in [
        (What.ACCOUNT, "", None, None), (What.ACCOUNT, "a\nb", None, None), (What.TYPE, "x" * 1025, None, None),
        (What.EACH_ACCOUNT, "", None, None), (What.TYPE, "t", 0, None), (What.TYPE, "t", None, NOW),
    ]:  # fmt: skip
        with pytest.raises(Refused):
            space.throttle(what, name, limit, until)
    with pytest.raises(Refused, match="reason"):
        space.act(lambda app: app.throttle_set(space.name, Target(What.TYPE, "t"), None, None, "ana", " "))
    assert [space.throttle(What.ACCOUNT, "a"), space.throttle(What.ACCOUNT, "b", 5), space.throttle(What.ACCOUNT, "a", 3)] == [
        1, 2, 1,
    ]  # fmt: skip
    space.unthrottle(1)
    with pytest.raises(Refused, match="cleared already"):
        space.unthrottle(1)
    with pytest.raises(InputError, match="no switch 9"):
        space.unthrottle(9)
    assert space.throttle(What.ACCOUNT, "a") == 1
    assert world.findings() == []


def test_a_source_waits_at_the_gate(world: World) -> None:
    """Paused until it is cleared, then limited: a batch goes when those before have had their time. Nothing is set aside."""
    space = world.space(CATALOG, NOW)
    number = space.throttle(What.SOURCE, "s")
    said: list[str] = []
    waited: list[int] = []

    def pause(microseconds: int) -> None:
        waited.append(microseconds)
        space.clock.advance(microseconds)
        if len(waited) == 3:
            space.throttle(What.SOURCE, "s", 2)

    gate = SourceGate(space.pipeline().reader, space.clock, said.append, pause)
    key = space.pipeline().snapshot().namespace_key
    partition = open_stream(world.app.control, space.name, key, "s", 4, "cloudevents", {})
    gate(partition, 5)
    assert waited == [1_000_000] * 3
    gate(partition, 1)
    assert sum(waited[3:]) == 2_500_000
    space.unthrottle(number)
    gate(partition, 1)
    assert len(said) == 3
    assert "paused by switch 1" in said[0]
    watch = SourceWatch(world.app.control, key, space.clock)
    assert watch.look()
    assert watch.allowed(partition, 7) == 7
    space.throttle(What.SOURCE, "s", 2)
    watch.again()
    watch.look()
    space.clock.advance(60_000_000)
    assert watch.allowed(partition, 7) == 4


def test_verify_sees_waiting_records_that_count_as_gone(world: World) -> None:
    """And those that would be read as what they are not; the rest of what a superuser may alter the tamper sweep tries."""
    space = world.space(CATALOG, NOW)
    space.throttle(What.ACCOUNT, "known")
    space.send(file(line("a"), line("b")), "s")
    assert world.findings(deep=True) == []
    with connect(world.app.config.database_url or "") as superuser:
        (kept,) = superuser.execute(f"select {_OF_PARTITION} from ingest.partition where stream = 'held'").fetchall()
        for column, wrong in [("completed_at", "now()"), ("lane", "5 - lane"), ("settings", "'{}'"), ("next", "1"),
                              ("format", "'cloudevents'"), ("pass", "7"), ("content", "repeat('ab', 32)")]:  # fmt: skip
            superuser.execute(f"update ingest.partition set {column} = {wrong} where partition_key = %s", kept[:1])
            assert world.findings() != [], column
            superuser.execute(_RESTORE, (*kept[1:], kept[0]))
            assert world.findings() == []


_OF_PARTITION = "partition_key, completed_at, lane, settings, next, format, pass, content"
_RESTORE = """update ingest.partition set completed_at = %s, lane = %s, settings = %s, next = %s, format = %s, pass = %s,
  content = %s where partition_key = %s"""
