"""Switches that people set while usage comes in: which are in force, what they cover, and how much a limit lets through."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from lineitem.core.reasons import Reason
from lineitem.ingest.intake import STREAM, Partition
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries

SQL = load_queries("lineitem.ingest", "throttle.sql")
BURST_US = 2_000_000
"""A limit lets through at once what it allows in so many microseconds; over a longer time it is kept exactly."""
_FORGET_ABOVE = 100_000


class What(StrEnum):
    """What a switch is about."""

    ACCOUNT = "account"
    TYPE = "type"
    SOURCE = "source"
    EACH_ACCOUNT = "each_account"


class Switch(NamedTuple):
    """A switch in force. ``name`` of the account, type or source, "" for each account; ``per_second`` None: nothing goes on."""

    number: int
    what: What
    name: str
    per_second: int | None

    @property
    def reason(self) -> Reason:
        """The code of what waits because of it."""
        return Reason.PAUSED if self.per_second is None else Reason.THROTTLED


def in_force(connection: Connection, namespace_key: int, now_us: int) -> list[Switch]:
    """The switches of a namespace that count at ``now_us``, in the order of their numbers."""
    rows = connection.execute(SQL.in_force, {"namespace_key": namespace_key, "now_us": now_us}).fetchall()
    return [Switch(number, What(what), *rest) for number, what, *rest in rows]


def of_source(switches: Iterable[Switch], partition: Partition) -> Switch | None:
    """The switch that covers a partition as a source: a pause before a limit, the lower limit before the higher.

    A source is named by its stream, or, of a stream such as a Kafka topic, by the topic's source name (``kafka:TOPIC``),
    with ``/N`` for one partition.
    """
    names = {partition.stream}
    source = partition.settings.get("source")
    if partition.content == STREAM and source is not None:
        names |= {str(source), f"{source}/{partition.stream.rpartition('/')[2]}"}
    found = [one for one in switches if one.what is What.SOURCE and one.name in names]
    return min(found, key=lambda one: one.per_second or 0, default=None)


# --- how much a limit lets through


def let_through(free_us: int, now_us: int, per_second: int, wanted: int) -> tuple[int, int]:
    """How many of ``wanted`` may go on now, and when these have had their time. ``free_us``: when those before have.

    At most ``per_second`` a second over any long time; up to ``BURST_US`` worth of them at once, at least one.
    """
    begin_us = max(free_us, now_us)
    burst_us = max(BURST_US, -(-1_000_000 // per_second))
    room = (now_us + burst_us - begin_us) * per_second // 1_000_000
    granted = max(min(wanted, room), 0)
    return granted, begin_us + -(-granted * 1_000_000 // per_second)


def allowed(connection: Connection, namespace_key: int, switch: Switch, wanted: int, now_us: int) -> int:
    """Take up to ``wanted`` from a switch's allowance, which all processes share: how many may go on now."""
    if switch.per_second is None or wanted == 0:
        return 0
    where = {"namespace_key": namespace_key, "number": switch.number}
    with connection.transaction():
        row = connection.execute(SQL.lock_pace, where).fetchone()
        assert row is not None
        granted, free_us = let_through(row[0], now_us, switch.per_second, wanted)
        if granted:
            connection.execute(SQL.set_pace, where | {"free_us": free_us})
    return granted


def begin(connection: Connection, namespace_key: int, switch: Switch, count: int, now_us: int) -> int:
    """Take ``count`` at once where nothing is owed: 0, or how many microseconds to wait before asking again."""
    if switch.per_second is None:
        return BURST_US
    where = {"namespace_key": namespace_key, "number": switch.number}
    with connection.transaction():
        row = connection.execute(SQL.lock_pace, where).fetchone()
        assert row is not None
        if row[0] > now_us:
            return int(row[0] - now_us)
        connection.execute(SQL.set_pace, where | {"free_us": now_us + count * 1_000_000 // switch.per_second})
    return 0


@dataclass(slots=True)
class EachAccount:
    """The allowances of single accounts under a limit that each has; every process counts for itself."""

    _free_us: dict[str, int] = field(default_factory=dict)

    def allowed(self, accounts: Sequence[str], wanted: Sequence[int], per_second: int, now_us: int) -> list[int]:
        """How many of ``wanted`` each of ``accounts`` may bring now."""
        if len(self._free_us) > _FORGET_ABOVE:
            self._free_us = {name: free for name, free in self._free_us.items() if free > now_us}
        found = []
        for account, count in zip(accounts, wanted, strict=True):
            granted, self._free_us[account] = let_through(self._free_us.get(account, 0), now_us, per_second, count)
            found.append(granted)
        return found
