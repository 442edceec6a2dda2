"""``verify --deep`` of levels: readings against the raw segments, and what settled targets count and owe worked out again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lineitem.catalog import published
from lineitem.catalog.snapshot import PriceRow, Snapshot
from lineitem.core.period import Month
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.level_months import holders
from lineitem.ledger.levels import Pair
from lineitem.ledger.refold import Replay
from lineitem.ledger.verify_state import fact_targets
from lineitem.rate.enrich import PriceUsage
from lineitem.rate.levels import Held, Holder, Reading, held_in, total, windows_of
from lineitem.rate.price import compile_price
from lineitem.rate.targets import NOT_SETTLED

SQL = load_queries("lineitem.ledger", "levels.sql")

Code = tuple[int, int]
"""Price key, and account key << 20 | service month."""


@dataclass(slots=True)
class RawLevels:
    """What raw events say of levels: readings of each pair by identity, and the events of each target."""

    readings: dict[Pair, dict[bytes, Reading]] = field(default_factory=dict)
    events: dict[Code, int] = field(default_factory=dict)
    last_event_us: dict[Code, int] = field(default_factory=dict)

    def add(self, usage: PriceUsage) -> None:
        """One batch's usage under one price of a level."""
        columns = (usage.account_key, usage.service_month, usage.time_us, usage.key, usage.value)
        for account, month, time_us, key, value in zip(*(column.tolist() for column in columns), strict=True):
            identity = bytes(key)
            found = self.readings.setdefault(Pair(account, usage.row.meter.id), {})
            found[identity] = Reading(time_us, identity, int(value))
            code = (usage.row.price_key, account << 20 | month)
            self.events[code] = self.events.get(code, 0) + 1
            self.last_event_us[code] = max(self.last_event_us.get(code, 0), time_us)


class LevelCheck:
    """Compares a namespace's levels with what its raw events say."""

    def __init__(self, connection: Connection, replay: Replay, raw: RawLevels, snapshot: Snapshot | None) -> None:
        self._connection, self._replay, self._raw = connection, replay, raw
        self.rows = {} if snapshot is None else {row.price_key: row for row in snapshot.rows if row.is_level}
        """The prices of levels by key: their running usage is checked here."""
        self._unseen: dict[Pair, int] = {}
        self._revisions = _revisions(connection, replay.namespace)
        self._accounts = published.accounts_by_key(connection, sorted({pair.account_key for pair in raw.readings}))
        self._holders: dict[int, dict[int, Holder]] = {}
        self._ordered = {pair: sorted(found.values()) for pair, found in raw.readings.items()}

    def readings(self) -> Iterator[str]:
        """What is wrong with the stored readings."""
        expected = {(pair, one) for pair, found in self._raw.readings.items() for one in found.values()}
        where = {"namespace": self._replay.namespace}
        for account, meter, time_us, key, value, seen in self._connection.execute(SQL.all_readings, where).fetchall():
            pair = Pair(account, meter)
            one = (pair, Reading(time_us, key.bytes, int(value)))
            if one not in expected:
                yield f"account #{account}, meter {meter}: a reading is kept that no raw event says"
            expected.discard(one)
            if not seen:
                self._unseen[pair] = min(time_us, self._unseen.get(pair, time_us))
        for pair, _ in sorted(expected):
            yield f"account #{pair.account_key}, meter {pair.meter}: raw events say a reading, the ledger has none"

    def target(self, row: tuple[Any, ...]) -> str:
        """What is wrong with one target's running usage, as ``accumulators`` reads it; "" when nothing is."""
        price_key, code, events, quantity, posted_quantity, posted_nano, last_us, time_us, key, *rest = row
        charge, posted_charge, settled, month, start_us, end_us = rest
        place = (price_key, code)
        if events != self._raw.events.pop(place, 0):
            return f"{events} readings counted, other than in the raw segments"
        if last_us < self._raw.last_event_us.get(place, 0):
            return "there is a later event than the latest it knows"
        if any(value is not None for value in (time_us, key, charge, posted_charge)):
            return "it keeps what no level needs"
        price, account_key = self.rows[price_key], code >> 20
        if settled == NOT_SETTLED:
            return "" if not (quantity or posted_quantity or posted_nano) else "it owes something, but is not settled"
        pair = Pair(account_key, price.meter.id)
        if self._unseen.get(pair, end_us) < end_us:
            return ""  # a reading has come since, which settling will count: what it is now, nobody can tell any more
        length_us, counted, nano = self._settled(price, pair, month, start_us, end_us)
        if (settled, quantity, posted_quantity, posted_nano) != (length_us, counted, counted, nano):
            return f"posted {posted_nano} nano-units for {quantity}, its readings say {nano} for {counted}"
        return ""

    def left(self) -> Iterator[Code]:
        """Targets of raw events that the ledger does not have."""
        yield from self._raw.events

    def _settled(self, price: PriceRow, pair: Pair, month: int, start_us: int, end_us: int) -> tuple[int, int, int]:
        """How long the price counts in the month, what it counts, and T, under the catalog it was settled with."""
        if pair.account_key not in self._accounts:  # none of its readings is left
            self._accounts |= published.accounts_by_key(self._connection, [pair.account_key])
            self._holders.clear()
        account = self._accounts.get(pair.account_key)
        name = "" if account is None else account.id
        revision = self._revisions.get((name, price.pricebook, price.price.id, price.content, month))
        if account is None or revision is None:
            return 0, 0, 0  # that nothing recorded it is told by `check_settled`
        snapshot = self._replay.snapshot(revision)
        if revision not in self._holders:
            self._holders[revision] = holders(snapshot, self._accounts)
        holder = self._holders[revision][pair.account_key]
        windows = windows_of(snapshot, holder, month, pair.meter).get(price.price.id, [])
        held: Held | None = held_in(windows, self._ordered.get(pair, []), holder, month).get(price.price_key)
        if held is None:
            return 0, 0, 0
        compiled = compile_price(price.price, price.quantity_scale)
        return held.length_us, held.quantity, total(compiled, held, month, start_us, end_us)


def _revisions(connection: Connection, namespace: str) -> dict[tuple[object, ...], int]:
    """Target by text -> the catalog's revision it was settled under last."""
    found: dict[tuple[object, ...], int] = {}
    for body, revision in connection.execute(SQL.settle_facts, {"namespace": namespace}).fetchall():
        try:
            document = json.loads(body)
        except ValueError:
            continue  # its batch's root gives it away
        for target, *_ in fact_targets(document.get("targets") if isinstance(document, dict) else None):
            found[tuple(target)] = revision
    return found


def named(code: Code, rows: dict[int, PriceRow]) -> str:
    """A target in words."""
    price = rows[code[0]].price.id if code[0] in rows else f"#{code[0]}"
    return f"account #{code[1] >> 20}, price {price}, {Month.from_index(code[1] & 0xFFFFF)}"
