"""Switches set and cleared as facts of lane 0, with who and why; listed with what waits because of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import psycopg

from lineitem.catalog import published
from lineitem.core.errors import InputError, Refused
from lineitem.core.limits import FIELD_CHARS_MAX, LETTER_REASON_CHARS_MAX, SWITCH_RATE_MAX, SWITCHES_MAX
from lineitem.core.period import us_to_text
from lineitem.ingest import held
from lineitem.ingest.letters import namespace_key
from lineitem.ingest.throttle import SQL, What
from lineitem.kit.db import Connection, explained, retried
from lineitem.ledger.chain import BatchKind
from lineitem.ledger.post import Fact, canonical, lock_lane, write_batch
from lineitem.ledger.why import say_why

SET, CLEAR = "throttle_set", "throttle_clear"
"""Kinds of the facts that record changes of switches."""
_TRIES = 10


class Target(NamedTuple):
    """What a switch is about; ``name`` is "" for each account."""

    what: What
    name: str

    def __str__(self) -> str:
        return "each account" if self.what is What.EACH_ACCOUNT else f"{self.what} {self.name!r}"


class Kept(NamedTuple):
    """A switch as its newest change left it."""

    number: int
    change: int
    act: str
    what: str
    name: str
    per_second: int | None
    until_us: int | None
    note: str
    actor: str
    acted_us: int

    def state(self, now_us: int) -> str:
        """``paused``, ``limited``, ``cleared`` or ``ended``."""
        if self.act == "clear":
            return "cleared"
        if self.until_us is not None and self.until_us <= now_us:
            return "ended"
        return "paused" if self.per_second is None else "limited"


Change = Callable[[Sequence[Kept]], list[Kept]]
"""What an act makes of the switches there are; it may refuse."""


def set_switch(
    connection: Connection, namespace: str, target: Target, per_second: int | None, until_us: int | None, by: str,
    reason: str, now_us: int,
) -> Kept:  # fmt: skip
    """Pause ``target`` (``per_second`` None) or limit it, in place of what counted for it before.

    Raises Refused for an end that has passed, a name or reason that cannot be, a limit too high, and one switch too many.
    """
    say_why("a switch", reason, LETTER_REASON_CHARS_MAX)
    if target.what is not What.EACH_ACCOUNT and (
        not target.name or len(target.name) > FIELD_CHARS_MAX or not target.name.isprintable()
    ):
        raise Refused(f"the name of the {target.what} is empty, too long or not printable")
    if target.what is What.EACH_ACCOUNT and per_second is None:
        raise Refused("pausing each account would pause everything", do="Pause its sources, or limit each: --rate N/s")
    if per_second is not None and not 0 < per_second <= SWITCH_RATE_MAX:
        raise Refused(f"a limit is 1 to {SWITCH_RATE_MAX} a second")
    if until_us is not None and until_us <= now_us:
        raise Refused(f"{us_to_text(until_us)} has passed", do="Give --until an instant to come, or none.")

    def change(kept: Sequence[Kept]) -> list[Kept]:
        old = next((one for one in kept if (one.what, one.name) == target), None)
        if old is None or old.state(now_us) not in ("paused", "limited"):
            _check_room(kept, now_us)
        number = old.number if old else max((one.number for one in kept), default=0) + 1
        return [Kept(number, old.change + 1 if old else 1, "set", *target, per_second, until_us, reason, by, now_us)]

    return _act(connection, namespace, now_us, change)[0]


def clear(
    connection: Connection, namespace: str, numbers: Sequence[int], by: str, reason: str, now_us: int
) -> list[Kept]:
    """Lift the switches with these numbers. Raises InputError for an unknown one, Refused for one that is not in force."""
    say_why("clearing a switch", reason, LETTER_REASON_CHARS_MAX)

    def change(kept: Sequence[Kept]) -> list[Kept]:
        known = {one.number: one for one in kept}
        changes = []
        for number in dict.fromkeys(numbers):
            old = known.get(number)
            if old is None:
                raise InputError(f"there is no switch {number}", do="`lineitem throttle list` shows them.")
            if old.state(now_us) not in ("paused", "limited"):
                over = "is cleared already" if old.act == "clear" else "has ended"
                raise Refused(f"switch {number} {over}", do="`lineitem throttle list` shows those in force.")
            changes.append(Kept(number, old.change + 1, "clear", old.what, old.name, None, None, reason, by, now_us))
        return changes

    return _act(connection, namespace, now_us, change)


def _check_room(kept: Sequence[Kept], now_us: int) -> None:
    if sum(one.state(now_us) in ("paused", "limited") for one in kept) >= SWITCHES_MAX:
        raise Refused(f"there are {SWITCHES_MAX} switches in force", do="Clear some: lineitem throttle list")


def _act(connection: Connection, namespace: str, now_us: int, change: Change) -> list[Kept]:
    """One batch of lane 0; again where somebody changed a switch at the same moment."""
    key = namespace_key(connection, namespace)
    with explained():
        for _ in range(_TRIES - 1):
            with suppress(psycopg.errors.UniqueViolation):
                return retried(lambda: _act_once(connection, namespace, key, now_us, change))
        return retried(lambda: _act_once(connection, namespace, key, now_us, change))


def _act_once(connection: Connection, namespace: str, key: int, now_us: int, change: Change) -> list[Kept]:
    with connection.transaction():
        head = lock_lane(connection, 0)
        changes: list[Kept] = change(_kept(connection, key))
        for one in changes:
            place = {"namespace_key": key, "lane": head.lane, "batch": head.batch + 1}
            connection.execute(SQL.add_change, one._asdict() | place)
            connection.execute(
                SQL.set_pace, {"namespace_key": key, "number": one.number, "free_us": 0}
            )  # owed to the old one
        write_batch(
            connection, head, namespace, key, BatchKind.THROTTLE,
            facts=[_fact(namespace, changes)],
            catalog_revision=published.current_revision(connection, namespace), recorded_us=now_us,
        )  # fmt: skip
    return changes


def _fact(namespace: str, changes: Sequence[Kept]) -> Fact:
    """All changes of one act are of one kind, by one person, for one reason."""
    one = changes[0]
    switches = [[it.number, it.change, it.what, it.name, it.per_second, it.until_us] for it in changes]
    body = {"namespace": namespace, "by": one.actor, "reason": one.note, "switches": switches}
    return Fact(SET if one.act == "set" else CLEAR, canonical(body))


def _kept(connection: Connection, key: int) -> list[Kept]:
    return [Kept(*row) for row in connection.execute(SQL.newest, {"namespace_key": key}).fetchall()]


@explained()
def shown(connection: Connection, namespace: str, now_us: int, *, every: bool = False) -> list[dict[str, Any]]:
    """Switches in force and those for which records still wait, or all there ever were: ``number``, ``what``, ``name``,
    ``state``, ``per_second``, ``until``, ``by``, ``reason``, ``since``, ``waiting`` (records), ``waiting_since``."""
    key = namespace_key(connection, namespace)
    waits: dict[int, list[held.Sum]] = {}
    for some in held.sums(connection, key):
        waits.setdefault(some.number, []).append(some)
    found = []
    for one in _kept(connection, key):
        state = one.state(now_us)
        if every or state in ("paused", "limited") or one.number in waits:
            found.append(told(one, now_us) | _waiting(waits.get(one.number, [])))
    return found


def told(one: Kept, now_us: int) -> dict[str, Any]:
    """A switch as documents show it."""
    return {
        "number": one.number,
        "what": one.what,
        "name": one.name,
        "state": one.state(now_us),
        "per_second": one.per_second,
        "until": None if one.until_us is None else us_to_text(one.until_us),
        "by": one.actor,
        "reason": one.note,
        "since": us_to_text(one.acted_us),
    }


def _waiting(some: Sequence[held.Sum]) -> dict[str, Any]:
    since = min((one.since_us for one in some), default=None)
    return {
        "waiting": sum(one.records for one in some),
        "waiting_since": None if since is None else us_to_text(since),
    }
