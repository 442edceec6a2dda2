"""Gaps are what sets of numbers say they are, whatever the order, repetition, splitting and lateness of events."""

from __future__ import annotations

import json
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lineitem.app import App
from lineitem.core.errors import InputError, Refused, UsageError
from lineitem.core.limits import SEQUENCE_MAX
from lineitem.ingest.producers import STATES
from lineitem.ingest.throttle import What
from lineitem.ledger import gaps
from lineitem.ledger.letters import fix
from lineitem.ledger.refold import Replay
from lineitem.ledger.verify_sequences import RawSequences
from tests.integration.drive import Space, World, nothing

NOW = datetime(2026, 11, 2, tzinfo=UTC)
CATALOG: dict[str, Any] = {
    "currency": "USD",
    "meters": [{"id": "calls", "event_type": "a.call", "aggregation": "sum", "value": "data.n"}],
    "pricebooks": [
        {
            "id": "book", "version": 1, "effective_from": "2026-01-01T00:00:00Z",
            "prices": [{"id": "calls", "meter": "calls", "model": "per_unit", "unit_price": "0.5"}],
        }
    ],
    "accounts": {"defaults": {"pricebook": "book"}},
}  # fmt: skip
EDGE = 1 << 16
NUMBERS = st.one_of(st.integers(0, 12), st.integers(EDGE - 3, EDGE + 3), st.just(SEQUENCE_MAX))
law = settings(suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.reuse, Phase.generate])


@dataclass(frozen=True)
class Sent:
    """An event as its producer sends it; ``good``: it can be billed as it is."""

    id: str
    source: str
    sequence: int | str | None
    good: bool = True

    def line(self) -> bytes:
        """As a record."""
        event: dict[str, Any] = {
            "specversion": "1.0", "id": self.id, "source": self.source, "type": "a.call", "subject": "acme",
            "time": "2026-10-03T09:00:00Z", "data": {"n": 1 if self.good else None},
        }  # fmt: skip
        if self.sequence is not None:
            event["sequence"] = self.sequence
        return json.dumps(event).encode() + b"\n"


@dataclass
class Numbers:
    """The oracle: sets of numbers by producer, and which events have each. An event comes with one number for good."""

    taken: dict[str, dict[int, set[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))
    set_aside: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    waived: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    unreadable: int = 0

    def send(self, events: list[Sent]) -> None:
        """Events arrive, in whatever order."""
        for one in events:
            if isinstance(one.sequence, str):
                self.unreadable += 1
            elif one.sequence is not None and one.good:
                self.taken[one.source][one.sequence].add(one.id)
            elif one.sequence is not None:
                self.set_aside[one.source].add(one.sequence)

    def missing(self, source: str) -> list[tuple[int, int]]:
        """What lies between the numbers that came, as runs: too much of it to be told one by one."""
        came = sorted(set(self.taken[source]) | self.set_aside[source])
        return [(one + 1, other - 1) for one, other in pairwise(came) if other > one + 1]

    def runs(self) -> set[tuple[str, str, int, int]]:
        """State, source, first and last number of every run."""
        found = set()
        for source in self.taken.keys() | self.set_aside.keys():
            taken, waived = self.taken[source], self.waived[source]
            for first, last in self.missing(source):
                bounds = {first, last + 1, *waived, *(number + 1 for number in waived)}
                edges = sorted(edge for edge in bounds if first <= edge <= last + 1)
                pieces = [(a, b - 1, a in waived) for a, b in pairwise(edges)]
                for was in (True, False):
                    some = [(a, b) for a, b, is_waived in pieces if is_waived is was]
                    found |= {("waived" if was else "missing", source, *run) for run in together(some)}
            twice = [(number, number) for number, ids in taken.items() if len(ids) > 1]
            aside = [(number, number) for number in self.set_aside[source] - taken.keys()]
            found |= {("sequence_reused", source, *run) for run in together(twice)}
            found |= {("set_aside", source, *run) for run in together(aside)}
        return found


def together(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Neighbours joined."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(runs):
        if found and found[-1][1] + 1 == first:
            found[-1] = (found[-1][0], last)
        else:
            found.append((first, last))
    return found


def runs_of(space: Space) -> set[tuple[str, str, int, int]]:
    """What the ledger lists."""
    control, now_us = space.world.app.control, space.clock.now_us()
    found = gaps.listed(control, space.name, now_us, states=STATES, limit=10_000)
    assert all(one["count"] == int(one["to"]) - int(one["from"]) + 1 for one in found)
    return {(one["state"], one["source"], int(one["from"]), int(one["to"])) for one in found}


def agree(space: Space, oracle: Numbers) -> None:
    """The ledger lists what the oracle says, and counts it so."""
    wanted = oracle.runs()
    assert runs_of(space) == wanted
    counts = gaps.summary(space.world.app.control, space.name)
    assert counts["sequence_unreadable"] == oracle.unreadable
    for state in STATES:
        some = [(first, last) for is_, _, first, last in wanted if is_ == state]
        assert counts[state] == {"runs": len(some), "count": sum(last - first + 1 for first, last in some)}


@pytest.fixture
def world(ledger: App) -> World:
    """A ledger to live in."""
    return World(ledger)


@st.composite
def traffic(draw: st.DrawFn) -> list[Sent]:
    """Events of two producers, in the order they arrive, some again: numbered, numbered twice, in words, not at all."""
    sequences = st.one_of(NUMBERS, NUMBERS, NUMBERS, st.none(), st.sampled_from(["-1", "later", str(SEQUENCE_MAX + 1)]))
    drawn = draw(
        st.lists(st.tuples(st.sampled_from(["/a", "/b"]), sequences, st.booleans() | st.just(True)), max_size=16)
    )
    events = [Sent(f"e-{n}", source, sequence, good) for n, (source, sequence, good) in enumerate(drawn)]
    again = draw(st.lists(st.sampled_from(events), max_size=6)) if events else []
    return draw(st.permutations([*events, *again]))


def test_gaps_are_what_sets_say(world: World) -> None:
    """In any order, repeated, cut into files and batches, by one writer or two at once, mended and replayed afterwards."""

    @settings(law, max_examples=12)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        events = data.draw(traffic())
        at = data.draw(st.integers(0, len(events)))
        records_max = data.draw(st.sampled_from([1, 3, 1000]))
        space, oracle = world.space(CATALOG, NOW), Numbers()
        parts = [events[:at], events[at:]]
        files = [b"".join(one.line() for one in part) for part in parts]
        if data.draw(st.booleans()):
            with ThreadPoolExecutor(2) as pool:
                done = [
                    pool.submit(space.send, file, f"s-{n}", records_max, pipeline=n) for n, file in enumerate(files)
                ]
                assert sum(one.result().counts.received for one in done) == len(events)
        else:
            for number, file in enumerate(files):
                space.send(file, f"s-{number}", records_max)
        for part in parts:
            oracle.send(part)
        agree(space, oracle)
        for key in space.letters("missing_value"):
            fix(
                world.app.control,
                space.name,
                key,
                {"set": {"data.n": "1"}},
                "ana",
                "a test says so",
                space.clock.now_us(),
            )
        space.replay(batch=2)
        bad = {one for one in events if not one.good}
        oracle.send([Sent(one.id, one.source, one.sequence) for one in bad])
        agree(space, oracle)
        assert world.findings_now_and_then() == []

    holds()
    assert world.findings(deep=True) == []


def test_what_is_waived_and_comes_after_all(world: World) -> None:
    """Waived numbers are no gaps, until somebody takes that back; one that arrives is simply there, and billed."""
    space, oracle = world.space(CATALOG, NOW), Numbers()

    def send(*numbers: int) -> int:
        some = [Sent(f"e-{number}", "/a", number) for number in numbers]
        oracle.send(some)
        return space.send(b"".join(one.line() for one in some), "stream").counts.itemized

    def waive(first: int, last: int) -> list[tuple[int, int]]:
        done: list[tuple[int, int]] = space.act(
            lambda app: app.waive_gap(space.name, "/a", first, last, "ana", "the disk died")
        )
        return done

    def reopen(first: int, last: int) -> list[tuple[int, int]]:
        done: list[tuple[int, int]] = space.act(
            lambda app: app.reopen_gap(space.name, "/a", first, last, "ben", "found it")
        )
        return done

    send(1, 5, 9)
    with pytest.raises(Refused, match="nothing of '/a' is waived from 1 to 9"):
        reopen(1, 9)
    assert waive(3, 100) == [(3, 4), (6, 8)]
    oracle.waived["/a"] = {3, 4, 6, 7, 8}
    agree(space, oracle)
    assert send(12) == 1  # 10 and 11 were not missing when 3 to 100 was waived
    agree(space, oracle)
    assert reopen(4, 7) == [(4, 4), (6, 7)]
    oracle.waived["/a"] = {3, 8}
    agree(space, oracle)
    assert send(8, 6) == 2
    agree(space, oracle)
    with pytest.raises(Refused, match="nothing of '/a' is missing from 8 to 9"):
        waive(8, 9)
    with pytest.raises(InputError, match="no event of source '/A' had a sequence") as error:
        space.act(lambda app: app.waive_gap(space.name, "/A", 1, 2, "ana", "why not"))
    assert "'/a'" in str(error.value)
    with pytest.raises(UsageError, match="no range"):
        waive(2, 1)
    with pytest.raises(Refused, match="needs a reason"):
        space.act(lambda app: app.waive_gap(space.name, "/a", 1, 12, "ana", " "))
    shown = gaps.shown(world.app.control, space.name, "/a", space.clock.now_us(), 10)
    assert [(one["act"], one["by"], one["reason"]) for one in shown["history"]] == [
        ("waive", "ana", "the disk died"), ("reopen", "ben", "found it"),
    ]  # fmt: skip
    assert (shown["first"], shown["last"], shown["seen"]) == ("1", "12", 6)
    assert world.findings(deep=True) == []


def test_since_when_a_gap_is_known(world: World) -> None:
    """Since both its ends were reached or passed; what fills it in part makes the rest no younger."""
    space = world.space(CATALOG, NOW)
    start_us = space.clock.now_us()

    def send(minute: int, *numbers: int) -> None:
        space.clock.advance(start_us + minute * 60_000_000 - space.clock.now_us())
        space.send(b"".join(Sent(f"e-{number}", "/a", number).line() for number in numbers), "stream")

    def known(**narrowed: Any) -> list[tuple[int, int, int]]:
        found = gaps.listed(world.app.control, space.name, space.clock.now_us(), **narrowed)
        return [(int(one["from"]), int(one["to"]), one["age_seconds"] // 60) for one in found]

    send(0, 5, 6)
    assert known() == []
    send(1, 10)
    send(2, 8)
    assert known() == [(7, 7, 1), (9, 9, 1)]
    send(3, 2)
    assert known() == [(7, 7, 2), (9, 9, 2), (3, 4, 0)]
    send(4, 20)
    assert known(older_than_us=60_000_000) == [(7, 7, 3), (9, 9, 3), (3, 4, 1)]
    assert known(older_than_us=61_000_000) == [(7, 7, 3), (9, 9, 3)]
    assert known(limit=1) == [(7, 7, 3)]


def test_what_waits_for_a_switch_was_seen(world: World) -> None:
    """It is no gap, but set aside until it goes on; what is taken back with its backfill was seen as well."""
    space = world.space(CATALOG, NOW)
    number = space.throttle(What.ACCOUNT, "acme")

    def listed() -> list[tuple[str, int, int]]:
        found = gaps.listed(world.app.control, space.name, space.clock.now_us(), states=STATES, limit=10)
        return [(one["state"], int(one["from"]), int(one["to"])) for one in found]

    space.send(b"".join(Sent(f"e-{at}", "/a", at).line() for at in (1, 2, 5)), "stream")
    assert sorted(listed()) == [("missing", 3, 4), ("set_aside", 1, 2), ("set_aside", 5, 5)]
    assert world.findings(deep=True) == []
    space.unthrottle(number)
    space.act(lambda app: app.release(space.name))
    assert listed() == [("missing", 3, 4)]
    space.send(Sent("e-3", "/a", 3).line(), "stream", backfill="late")
    space.act(lambda app: app.backfill_revert(space.name, "late", "ana", "a test says so", nothing))
    assert listed() == [("missing", 4, 4)]
    assert world.findings(deep=True) == []


def test_a_conflict_and_a_retraction_were_seen(world: World) -> None:
    """The same event with other content is set aside under its number; a retracted event is no gap."""
    space = world.space(CATALOG, NOW)
    other = Sent("e-1", "/a", 3).line().replace(b'"n": 1', b'"n": 2')
    space.send(b"".join([Sent("e-1", "/a", 1).line(), Sent("e-5", "/a", 5).line(), other]), "stream")
    space.retract("/a", "e-5")
    assert runs_of(space) == {
        ("missing", "/a", 2, 2), ("set_aside", "/a", 3, 3), ("missing", "/a", 4, 4),
    }  # fmt: skip
    assert gaps.everywhere(world.app.control) == {"gaps": 2, "events": 2, "producers": 1}
    assert world.findings(deep=True) == []


def test_raw_records_say_what_was_seen(world: World) -> None:
    """What a batch recorded is held against its raw records: another fact, none, one too many, another fate of a record."""
    space, app = world.space(CATALOG, NOW), world.app
    numbered = [Sent("e-1", "/a", 1), Sent("e-2", "/b", "later"), Sent("e-3", "/a", 3, good=False)]
    space.send(b"".join(one.line() for one in numbered), "numbered")
    space.send(Sent("e-4", "/a", None).line(), "plain")
    batches = {
        one.raw.start + len(one.raw.records): one for one in Replay(app.control, app.segments, space.name).batches()
    }
    first, plain = batches[3], batches[1]
    told = RawSequences.read(app.control, space.name)
    assert told.agree(first, ())
    assert told.agree(plain, ())
    place = (first.lane, first.batch)
    (fact,) = told.facts.values()
    for facts, aside in (
        ({place: fact.replace('"producers":2', '"producers":3')}, told.set_aside),
        ({}, told.set_aside),
        (told.facts, {}),
        (told.facts, {place: [0, 2]}),
    ):
        assert not RawSequences(space.name, facts, aside).agree(first, ())
    assert not RawSequences(space.name, {(plain.lane, plain.batch): fact}, {}).agree(plain, ())
