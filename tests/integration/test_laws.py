"""The laws of the ledger: order, repetition, splitting, interruption, lateness and retraction change no total.

Every example lives in a namespace of its own in one ledger, so each also shows that namespaces keep out of each other's
way. What a total must be is worked out by ``oracle``, which shares nothing with the engine.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from threading import Barrier
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from lineitem.app import App
from lineitem.core.errors import Refused
from lineitem.kit.db import Connection
from lineitem.ledger.post import ensure_months
from lineitem.ledger.rows import Kind
from tests.integration.drive import Space, World
from tests.integration.oracle import FOLDS, Oracle, Tally, summed, tally_of
from tests.strategies import (
    CHANGE,
    END,
    START,
    TIMES,
    Record,
    catalogs,
    conflicting,
    cut,
    file_of,
    repeated,
    usage,
)

NOW = datetime(2026, 12, 15, tzinfo=UTC)
MIDWAY = datetime(2026, 10, 31, 23, 20, 30, tzinfo=UTC)
MONTHS = ["2026-09", "2026-10", "2026-11"]
MONTH = st.sampled_from(MONTHS)
BATCHES = st.sampled_from([1, 2, 3, 7, 1000])
# Not shrunk: an example costs a second here, and every one leaves its namespace behind for the next to verify.
law = settings(suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.reuse, Phase.generate])


@pytest.fixture
def world(ledger: App) -> World:
    """A ledger to live in."""
    return World(ledger)


def agree(space: Space, oracle: Oracle, tallies: list[Tally]) -> None:
    """The ledger says what the oracle says: totals, identities, what was itemized, where every record went."""
    assert space.totals() == oracle.totals()
    assert space.keys() == oracle.keys()
    batches = space.batches()
    assert summed(batches) == summed(tallies)
    for counts in batches:
        assert counts.received == sum(vars(counts).values()) - counts.received


def each_once(space: Space, oracle: Oracle) -> None:
    """An event that is itemized one by one has one line item under each price that does so."""
    wanted = Counter(event.key for event in oracle.accepted.values() for one in event.usage if one.window_end is None)
    assert Counter(space.itemized_each()) == wanted


def both(world: World, catalog: dict[str, Any], now: datetime = NOW) -> tuple[Space, Oracle]:
    """A fresh namespace and its oracle."""
    space = world.space(catalog, now)
    return space, Oracle(space.name, catalog, now)


def test_order_repetition_splitting_and_batching_change_no_total(world: World) -> None:
    """Any permutation, repeated in part, cut into files and batches, with conflicts among it, comes to the oracle's sums.

    Without conflicts (of two contents under one id the first one counts) the oracle may read the events in any order.
    """

    everything = []

    @settings(law, max_examples=60)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        catalog, events = data.draw(catalogs()), data.draw(usage())
        lines = data.draw(repeated(events))
        conflicts = data.draw(st.just([]) | conflicting(events))
        files = data.draw(cut([*lines, *conflicts]))
        space, oracle = both(world, catalog)
        sent, expected = [], []
        for number, part in enumerate(files):
            summary = space.send(file_of(part), f"stream-{number}", data.draw(BATCHES))
            sent.append(tally_of(summary.document()))
            expected.append(oracle.send(file_of(part), f"stream-{number}"))
        assert sent == expected
        agree(space, oracle, expected)
        each_once(space, oracle)
        if not conflicts and not any(b'"id"' not in one.line for one in events):
            other = Oracle(space.name, catalog, NOW)
            other.send(file_of(events), "in one go")
            assert other.totals() == space.totals()
        assert world.findings_now_and_then() == []
        everything.extend(expected)

    holds()
    assert world.findings(deep=True) == []
    tried = summed(everything)
    assert min(tried.itemized, tried.duplicate, tried.dead_lettered, tried.not_billable) > 20, (
        "the examples are too tame"
    )
    wide = world.app.control.execute("select count(*) from ledger.line_item where quantity_wide is not null").fetchone()
    assert wide is not None
    assert wide[0] > 0


def test_two_sources_at_once(world: World) -> None:
    """Two processes that write the same accounts at the same time, in part the same events, come to the oracle's sums."""

    @settings(law, max_examples=15)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        catalog, events = data.draw(catalogs()), data.draw(usage(30))
        parts = [data.draw(repeated(events)) for _ in range(2)]
        same_file = data.draw(st.booleans())
        files = [file_of(parts[0]), file_of(parts[0 if same_file else 1])]
        space, oracle = both(world, catalog)
        records_max = data.draw(BATCHES)
        with ThreadPoolExecutor(2) as pool:
            done = [pool.submit(space.send, file, "stream", records_max, pipeline=n) for n, file in enumerate(files)]
            sent = [one.result() for one in done]
        expected = [oracle.send(file, "stream") for file in files]
        assert summed(tally_of(one.document()) for one in sent) == summed(expected)
        agree(space, oracle, expected)
        assert world.findings_now_and_then() == []

    holds()
    assert world.findings(deep=True) == []


def test_a_months_first_rows_from_several_processes_at_once(world: World) -> None:
    """Whoever comes first makes the month's partition, the others find it made."""
    connections = [world.app.connection() for _ in range(3)]
    together = Barrier(len(connections))

    def make(connection: Connection, month: int) -> None:
        together.wait(30)
        ensure_months(connection, [month])

    with ThreadPoolExecutor(len(connections)) as pool:
        for month in range(24_300, 24_312):
            assert list(pool.map(make, connections, [month] * len(connections))) == [None] * len(connections)


class Pulled(Exception):
    """Somebody pulled the plug."""


def test_interruption_and_sending_again(world: World) -> None:
    """An ingest that stops after some batches goes on where it stopped; sending everything again adds nothing."""

    @settings(law, max_examples=20)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        catalog, events = data.draw(catalogs()), data.draw(usage())
        file = file_of([*data.draw(repeated(events)), *data.draw(conflicting(events))])
        space, oracle = both(world, catalog)
        records_max, stops = data.draw(st.sampled_from([1, 2, 3])), data.draw(st.lists(st.integers(1, 4), max_size=3))
        for stop in stops:

            def pull(_: int, summary: Any, stop: int = stop) -> None:
                if summary.batches == stop:
                    raise Pulled

            try:
                space.send(file, "stream", records_max, pull)
                break
            except Pulled:
                continue
        else:
            space.send(file, "stream", records_max)
        expected = oracle.send(file, "stream")
        agree(space, oracle, [expected])
        before = space.line_items()
        again = space.send(file, "stream", data.draw(BATCHES))
        assert again.line_items == 0
        assert space.line_items() == before
        assert again.counts.duplicate == expected.received - expected.dead_lettered
        assert again.counts.dead_lettered == expected.dead_lettered
        assert world.findings_now_and_then() == []

    holds()
    assert world.findings(deep=True) == []


def test_windows_wait_until_they_end(world: World) -> None:
    """Usage whose window has not ended counts as pending; once the clock is past it, the totals are the oracle's."""
    times = st.builds(lambda minutes: MIDWAY + timedelta(minutes=minutes), st.integers(-3000, 1439))

    @settings(law, max_examples=20)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        catalog, events = data.draw(catalogs()), data.draw(usage(times=times))
        files = data.draw(cut(data.draw(repeated(events))))
        space, oracle = both(world, catalog, MIDWAY)
        expected = []
        for number, part in enumerate(files):
            sent = tally_of(space.send(file_of(part), f"stream-{number}", data.draw(BATCHES)).document())
            expected.append(oracle.send(file_of(part), f"stream-{number}"))
            assert sent == expected[-1]
        assert space.waiting() == summed(expected).pending
        assert world.findings(deep=data.draw(st.integers(0, 5)) == 0) == []
        for hours in sorted(data.draw(st.lists(st.integers(0, 30), max_size=2))):
            space.flush(MIDWAY + timedelta(hours=hours))
            assert world.findings_now_and_then() == []
        space.flush(NOW)
        assert space.waiting() == 0
        agree(space, oracle, expected)
        assert world.findings_now_and_then() == []

    holds()
    assert world.findings(deep=True) == []


def test_retraction_is_as_if_it_had_never_been_sent(world: World) -> None:
    """After retractions the totals are those of the surviving events, whatever fold, model or window; and stay so."""
    times = st.one_of(
        st.builds(lambda minutes: MIDWAY + timedelta(minutes=minutes), st.integers(-3000, 1439)),
        st.builds(lambda minutes: START + timedelta(minutes=minutes), st.integers(0, 50_000)),
    )

    @settings(law, max_examples=28)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        catalog, events = data.draw(catalogs()), data.draw(usage(16, times))
        first, later = events[: len(events) // 2 + 1], events
        space, oracle = both(world, catalog, MIDWAY)
        expected = [oracle.send(file_of(first), "first")]
        space.send(file_of(first), "first", data.draw(BATCHES))
        candidates = sorted(identity for identity in oracle.accepted if identity[1].startswith("e-"))
        chosen = data.draw(st.lists(st.sampled_from(candidates), max_size=3, unique=True)) if candidates else []
        for identity in chosen:
            space.retract(*identity)
            oracle.retract(identity)
            with pytest.raises(Refused, match="already"):
                space.retract(*identity)
        assert world.findings_now_and_then() == []
        note(f"retracted {chosen}")
        expected.append(oracle.send(file_of(later), "later"))
        sent = tally_of(space.send(file_of(later), "later", data.draw(BATCHES)).document())
        assert (sent.duplicate, sent.dead_lettered) == (expected[1].duplicate, expected[1].dead_lettered)
        for identity in chosen[:1] if data.draw(st.booleans()) else ():
            late = [one for one in sorted(oracle.accepted) if one[1].startswith("e-") and one not in chosen]
            for identity in late[:1]:
                space.retract(*identity)
                oracle.retract(identity)
        space.flush(NOW)
        assert space.totals() == oracle.totals()
        assert space.keys() == oracle.keys()
        assert space.waiting() == 0
        assert world.findings_now_and_then() == []

    holds()
    assert world.findings(deep=True) == []


def test_settling_at_any_time_changes_no_total(world: World) -> None:
    """However often months are billed or closed between batches, late usage and retractions, they end at the same totals.

    Minimums and what active accounts owe without usage are part of them; settling again posts nothing.
    """
    seen: Counter[int] = Counter()
    times = st.builds(lambda minutes: MIDWAY + timedelta(minutes=minutes), st.integers(-3000, 1439)) | TIMES

    @settings(law, max_examples=30)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        catalog, events = data.draw(catalogs()), data.draw(usage(16, times))
        now = data.draw(st.sampled_from([MIDWAY, NOW, NOW]))
        space, oracle = both(world, catalog, now)
        for number, part in enumerate(data.draw(cut(data.draw(repeated(events)), 4))):
            space.send(file_of(part), f"stream-{number}", data.draw(BATCHES))
            oracle.send(file_of(part), f"stream-{number}")
            act, month = data.draw(st.sampled_from(["bill", "bill", "close", "retract", "none"])), data.draw(MONTH)
            note(f"{act} {month}")
            if act == "bill":
                space.bill(month)
                oracle.settle(month)
            elif act == "close" and now == NOW and month not in oracle.closed:
                space.close(month)
                oracle.close(month)
            elif act == "retract":
                alive = [one for one, event in sorted(oracle.accepted.items()) if not event.retracted]
                for identity in [one for one in alive if one[1].startswith("e-")][:1]:
                    space.retract(*identity)
                    oracle.retract(identity)
            space.flush(now)
            assert now == MIDWAY or space.totals() == oracle.totals()
        space.flush(NOW)
        oracle.now = NOW
        for month in MONTHS:
            space.bill(month)
            oracle.settle(month)
        assert space.totals() == oracle.totals()
        at_once = Oracle(space.name, catalog, NOW, accepted=oracle.accepted)
        for month in MONTHS:
            at_once.settle(month)
        assert at_once.totals() == space.totals()
        before = space.line_items()
        for month in MONTHS:
            space.bill(month)
        assert space.line_items() == before
        for (_, _, kind), number in space.kinds().items():
            seen[kind] += number
        assert world.findings_now_and_then() == []

    holds()
    assert world.findings(deep=True) == []
    assert min(seen[Kind.TRUE_UP], seen[Kind.RECURRING]) > 20, "the examples are too tame"


TIERS = [
    {"up_to": "2", "unit_price": "3", "flat_price": "1.5"},
    {"up_to": None, "unit_price": "0.7", "flat_price": "9"},
]
PRICES: dict[str, dict[str, Any]] = {
    "per_unit": {"unit_price": "0.25"},
    "package": {"package_size": "2", "package_price": "5"},
    "graduated": {"tiers": TIERS},
    "volume": {"tiers": TIERS},
}


EVERY_FOLD = [("graduated", fold, itemize) for fold in FOLDS for itemize in ("each", "day")]
EVERY_MODEL = [(model, "sum", itemize) for model in PRICES for itemize in ("each", "day")]


def one_price(model: str, aggregation: str, itemize: str) -> dict[str, Any]:
    """A catalog of one meter and one price."""
    meter = {"id": "m", "event_type": "a.used", "aggregation": aggregation}
    price = {"id": "p", "meter": "m", "model": model, "itemize": itemize} | PRICES[model]
    book = {"id": "b", "version": 1, "effective_from": "2020-01-01T00:00:00+00:00", "prices": [price]}
    return {
        "currency": "USD",
        "meters": [meter if aggregation == "count" else meter | {"value": "data.v"}],
        "pricebooks": [book],
        "accounts": {"defaults": {"pricebook": "b"}},
    }


def test_retracting_down_to_nothing_and_back(world: World) -> None:
    """Without any event nothing is owed, no flat price either; what comes later starts afresh, known members too."""
    for shape in dict.fromkeys([*EVERY_FOLD, *EVERY_MODEL]):
        for now in (NOW, MIDWAY):  # with windows that have ended, and with windows that wait
            space, oracle = both(world, one_price(*shape), now)
            for number, value in enumerate((5, 3, 5)):
                line = (
                    f'{{"specversion":"1.0","id":"e-{number}","source":"/s","type":"a.used","subject":"x",'
                    f'"time":"2026-10-31T23:{number:02}:00Z","data":{{"v":{value}}}}}\n'
                ).encode()
                oracle.send(line, "stream")
                space.send(line, "stream")
                if number < 2:
                    space.retract("/s", f"e-{number}")
                    oracle.retract(("/s", f"e-{number}"))
                    assert space.totals() == oracle.totals() == {}, (shape, now)
            space.flush(NOW)
            assert space.totals() == oracle.totals() != {}, (shape, now)
    assert world.findings(deep=True) == []


def test_usage_for_a_closed_month_posts_to_the_next_open_one(world: World) -> None:
    """A closed month takes nothing more; late usage keeps its service period and posts as a correction."""

    @settings(law, max_examples=15)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        catalog, events = data.draw(catalogs()), data.draw(usage())
        early, late = events[: len(events) // 2], events[len(events) // 2 :]
        months = data.draw(st.sampled_from([["2026-09"], ["2026-10"], ["2026-09", "2026-10"]]))
        space, oracle = both(world, catalog)
        expected = [oracle.send(file_of(early), "early")]
        space.send(file_of(early), "early", data.draw(BATCHES))
        for month in months:
            space.close(month)
            oracle.close(month)
            with pytest.raises(Refused):
                space.close(month)
        sealed, before = {month: space.posted(month) for month in months}, space.kinds()
        expected.append(oracle.send(file_of(late), "late"))
        space.send(file_of(late), "late", data.draw(BATCHES))
        if data.draw(st.booleans()):
            for identity in sorted(one for one in oracle.accepted if one[1].startswith("e-"))[:1]:
                space.retract(*identity)
                oracle.retract(identity)
        assert {month: space.posted(month) for month in months} == sealed
        agree(space, oracle, expected)
        for service, posting, kind in space.kinds().keys() - before.keys():
            assert posting not in months
            assert kind in (Kind.RECURRING, Kind.RETRACTION, Kind.TRUE_UP) or (kind == Kind.CORRECTION) == (
                service != posting
            )
        assert world.findings_now_and_then() == []

    holds()
    assert world.findings(deep=True) == []


def _reading(number: int, account: str, value: str, second: int = 0) -> bytes:
    about = f'"source":"/s","type":"a.used","subject":"{account}","time":"2026-10-31T23:19:{second:02}Z"'
    return f'{{"specversion":"1.0","id":"e-{number}",{about},"data":{{"v":{value}}}}}\n'.encode()


@pytest.mark.parametrize("itemize", ["each", "day"])
def test_what_the_ledger_cannot_hold_costs_no_neighbour(world: World, itemize: str) -> None:
    """An event whose amount passes 38 digits is set aside; those beside it, of its account too, are billed."""
    catalog = one_price("per_unit", "sum", itemize)
    catalog["meters"][0]["scale"] = 0
    catalog["pricebooks"][0]["prices"][0]["unit_price"] = "1000"
    space, _ = both(world, catalog, MIDWAY)
    values = [("x", "1"), ("x", "1e30"), ("y", "2"), ("x", "4"), ("y", "-1e36"), ("z", "1e37")]
    file = b"".join(_reading(number, account, value) for number, (account, value) in enumerate(values))
    sent = space.send(file, "stream")
    assert (sent.counts.received, sent.counts.dead_lettered) == (6, 2)
    space.flush(NOW)
    billed = {account: (quantity, nano) for (account, _, _), (quantity, nano) in space.totals().items()}
    assert billed == {"x": (Fraction(5), 5000 * 10**9), "y": (Fraction(2 - 10**36), 0)}
    assert world.findings(deep=True) == []


@pytest.mark.parametrize("aggregation", ["latest", "max", "sum"])
@pytest.mark.parametrize("itemize", ["each", "day"])
def test_readings_at_both_ends_of_38_digits(world: World, aggregation: str, itemize: str) -> None:
    """A reading may be as large as the ledger holds, and the next one as far below zero: none breaks the flow."""
    catalog = one_price("per_unit", aggregation, itemize)
    catalog["meters"][0]["scale"] = 0
    catalog["pricebooks"][0]["prices"][0]["unit_price"] = "0.000000001"
    space, _ = both(world, catalog, MIDWAY)
    most = "9" * 38
    for number, value in enumerate((most, "-" + most, most, "-" + most, "7")):
        space.send(_reading(number, "x", value, number), f"stream-{number}")
    file = b"".join(_reading(10 + n, "y", value, n) for n, value in enumerate((most, "-" + most, most, "7")))
    space.send(file, "stream")
    space.flush(NOW)
    done = summed(space.batches())
    assert done.received == done.itemized + done.pending + done.dead_lettered + done.not_billable + done.duplicate == 9
    assert space.waiting() == 0
    assert world.findings(deep=True) == []


def test_a_new_pricebook_version_between_two_files(world: World) -> None:
    """A version published later prices what happens from its start on; what does not change goes on with its tiers."""

    @settings(law, max_examples=15)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        catalog = data.draw(catalogs())
        first = catalog | {"pricebooks": catalog["pricebooks"][:1]}
        before = st.builds(
            lambda m: START + timedelta(minutes=m), st.integers(0, (CHANGE - START) // timedelta(minutes=1) - 1)
        )
        after = st.builds(lambda m: START + timedelta(minutes=m), st.integers(0, (END - START) // timedelta(minutes=1)))
        early, events = data.draw(usage(10, before)), data.draw(usage(14, after))
        late = [Record(f"l-{one.id}", one.line.replace(b'"id":"e', b'"id":"l-e')) for one in events]
        space, oracle = both(world, first)
        expected = [oracle.send(file_of(early), "early")]
        space.send(file_of(early), "early", data.draw(BATCHES))
        space.publish(catalog)
        oracle.catalog = catalog
        expected.append(oracle.send(file_of(late), "late"))
        space.send(file_of(late), "late", data.draw(BATCHES))
        agree(space, oracle, expected)
        assert world.findings_now_and_then() == []

    holds()
    assert world.findings(deep=True) == []
