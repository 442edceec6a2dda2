"""What has to wait is sifted out as columns, and comes out of its envelopes as it went in. No I/O."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.core.limits import ACCOUNTS_HELD_MAX
from lineitem.ingest import formats
from lineitem.ingest.events import DecodeContext, EventColumns, RawRecords
from lineitem.ingest.formats.held import enveloped, opened, origin_settings
from lineitem.ingest.held import Part, sift, unpacked
from lineitem.ingest.intake import STREAM, Partition
from lineitem.ingest.throttle import BURST_US, EachAccount, Switch, What, let_through, of_source

NOW_US = 1_800_000_000_000_000


def raw_of(accounts: list[str], types: str = "ab") -> RawRecords:
    lines = [
        json.dumps({"specversion": "1.0", "source": "/s", "type": types[n % len(types)], "subject": account,
                    "time": "2026-01-01T00:00:00Z", "data": {"n": n}} | ({"id": str(n)} if n % 3 else {})).encode()
        for n, account in enumerate(accounts)
    ]  # fmt: skip
    positions = np.cumsum([0, *(len(one) + 1 for one in lines)])
    return RawRecords(pa.array(lines, pa.binary()), positions[:-1].astype(np.int64), 0, int(positions[-1]))


def decoded(raw: RawRecords, format_: str = "cloudevents", **settings: object) -> EventColumns:
    events, rejects = formats.get(format_).decode(raw, DecodeContext("n", "files", NOW_US, settings))
    assert rejects == []
    return events


def none_of(_: Switch, wanted: int) -> int:
    raise AssertionError(f"nobody asked for {wanted}")


def waits(parts: list[Part]) -> dict[int, list[int]]:
    return {part.number: part.ordinals.tolist() for part in parts}


def test_pauses_by_account_and_type() -> None:
    """An event waits for one switch; the others go on, in order; a name nobody has costs nothing."""
    events = decoded(raw_of(["x", "y", "x", "z", "y", "x"]))
    switches = [
        Switch(1, What.ACCOUNT, "x", None),
        Switch(2, What.TYPE, "b", None),
        Switch(3, What.ACCOUNT, "nobody", None),
        Switch(4, What.SOURCE, "files", None),
    ]
    found = sift(events, switches, none_of, EachAccount(), NOW_US)
    assert found is not None
    assert waits(found.parts) == {1: [0, 2, 5], 2: [1, 3]}
    assert found.rows.tolist() == [4]
    assert [bytes(key) for part in found.parts for key in part.keys] == [
        bytes(events.key[at]) for at in (0, 2, 5, 1, 3)
    ]
    assert sift(events, switches[2:], none_of, EachAccount(), NOW_US) is None


def test_a_limit_lets_the_first_ones_through() -> None:
    """As many as it allows; those a pause has taken are not counted; what a switch has let through it does not ask again."""
    events = decoded(raw_of(["x"] * 5 + ["y"]))
    switches = [Switch(1, What.ACCOUNT, "x", 7), Switch(2, What.TYPE, "a", None)]
    asked = []

    def allowed(switch: Switch, wanted: int) -> int:
        asked.append((switch.number, wanted))
        return 1

    found = sift(events, switches, allowed, EachAccount(), NOW_US)
    assert found is not None
    assert asked == [(1, 2)]
    assert waits(found.parts) == {2: [0, 2, 4], 1: [3]}
    again = sift(events, switches, none_of, EachAccount(), NOW_US, released=1)
    assert again is not None
    assert waits(again.parts) == {2: [0, 2, 4]}


def test_each_account_has_its_own_allowance() -> None:
    """The excess of each waits apart; an account with a limit of its own goes by that; over time nobody gets more."""
    accounts = ["flood"] * 50 + ["calm", "own"] * 3
    events = decoded(raw_of(accounts))
    switches = [Switch(1, What.EACH_ACCOUNT, "", 5), Switch(2, What.ACCOUNT, "own", 1000)]
    each = EachAccount()
    found = sift(events, switches, lambda _, wanted: wanted, each, NOW_US)
    assert found is not None
    assert [(part.account, len(part.ordinals)) for part in found.parts] == [("flood", 40)]
    assert found.parts[0].ordinals.tolist() == list(range(10, 50))
    later = sift(events, switches, lambda _, wanted: wanted, each, NOW_US + 1_000_000)
    assert later is not None
    assert [(part.account, len(part.ordinals)) for part in later.parts] == [("flood", 45)]


def test_the_accounts_that_wait_are_bounded() -> None:
    """Those with the largest excess."""
    accounts = [f"a{n}" for n in range(ACCOUNTS_HELD_MAX + 20) for _ in range(3 + n % 2)]
    found = sift(decoded(raw_of(accounts)), [Switch(1, What.EACH_ACCOUNT, "", 1)], none_of, EachAccount(), NOW_US)
    assert found is not None
    assert len(found.parts) == ACCOUNTS_HELD_MAX
    assert Counter(len(part.ordinals) for part in found.parts) == {2: 60, 1: 40}


@given(st.integers(1, 50_000), st.lists(st.tuples(st.integers(0, 3_000_000), st.integers(0, 100_000)), max_size=30))
def test_a_limit_is_kept_over_any_time(per_second: int, asked: list[tuple[int, int]]) -> None:
    """Whoever asks when: never more than the limit times the time, plus what it lets through at once."""
    free_us, now_us, total = 0, NOW_US, 0
    for step_us, wanted in asked:
        now_us += step_us
        granted, free_us = let_through(free_us, now_us, per_second, wanted)
        assert 0 <= granted <= wanted
        total += granted
    burst = max(BURST_US * per_second // 1_000_000, 1)
    assert total <= (now_us - NOW_US) * per_second // 1_000_000 + burst + 1


def test_what_is_asked_for_in_time_is_granted() -> None:
    """One that takes its limit's worth every second gets all of it."""
    free_us = 0
    for second in range(100):
        granted, free_us = let_through(free_us, NOW_US + second * 1_000_000, 3, 3)
        assert granted == 3


def test_records_come_out_as_they_went_in() -> None:
    """Same identities and digests as when they came in, ids made of their places included; any part of them too."""
    raw = raw_of(["x", "y", "z", "x", "y"])
    first = decoded(raw)
    ordinals = unpacked(np.array([1, 2, 3], ">i4").tobytes())
    records = enveloped(raw, ordinals, "cloudevents")
    settings = origin_settings("files", "cloudevents", {})
    for start, end in ((0, 3), (1, 3), (2, 2)):
        part = RawRecords(records[start:end], np.arange(start, end), start, end)
        assert opened(part).positions.tolist() == raw.positions[ordinals[start:end]].tolist()
        again = decoded(part, "held", **settings)
        assert again.key.tobytes() == first.key[1 + start : 1 + end].tobytes()
        assert again.digest.tobytes() == first.digest[1 + start : 1 + end].tobytes()
    assert origin_settings("held", "held", settings) == settings


@pytest.mark.parametrize(
    ("name", "covered"),
    [("kafka:usage", True), ("kafka:usage/3", True), ("kafka:usage/4", False), ("kafka:c/usage/i/3", True),
     ("kafka:us", False), ("usage", False)],
)  # fmt: skip
def test_sources_of_a_topic(name: str, covered: bool) -> None:
    """By topic, by partition, by the ledger's own name; a pause comes before a limit."""
    settings = {"source": "kafka:usage"}
    partition = Partition(1, "n", 1, "kafka:c/usage/i/3", STREAM, 0, 1, "cloudevents", settings, 0)
    switch = Switch(1, What.SOURCE, name, 10)
    assert (of_source([switch], partition) == switch) is covered
    pause = Switch(2, What.SOURCE, "kafka:usage/3", None)
    assert of_source([switch, pause], partition) == pause
    file = Partition(1, "n", 1, "files", "ab" * 32, 1, 1, "cloudevents", {}, 0)
    assert of_source([Switch(1, What.SOURCE, "files", None), switch], file) == Switch(1, What.SOURCE, "files", None)
