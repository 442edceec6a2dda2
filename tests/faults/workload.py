"""A seeded file of usage and what it must come to, computed from its lines alone with Python integers and fractions."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import floor
from pathlib import Path

CATALOG = """
currency: USD
meters:
  - {id: tokens, event_type: llm.completion, aggregation: sum, value: data.tokens, unit: token, dimensions: [data.model]}
  - {id: requests, event_type: http.request, aggregation: count, filter: 'data.status < 500'}
pricebooks:
  - id: standard
    version: 1
    effective_from: 2020-01-01T00:00:00Z
    prices:
      - {id: token, meter: tokens, model: per_unit, unit_price: "0.00000253", itemize: each}
      - id: web
        meter: requests
        model: graduated
        itemize: hour
        tiers: [{up_to: "40", unit_price: "0"}, {up_to: "90", unit_price: "0.0021"}, {up_to: null, unit_price: "0.0013"}]
accounts:
  defaults: {pricebook: standard, timezone: UTC, billing: monthly}
"""
_TOKEN_PRICE = Fraction("0.00000253")
_TIERS = ((Fraction(40), Fraction(0)), (Fraction(90), Fraction("0.0021")), (None, Fraction("0.0013")))
_START = datetime(2026, 1, 20, tzinfo=UTC)
_BROKEN = (b'{"specversion":"1.0","id":', b"\xff\xfe\x00", b"[]", b'{"specversion":"1.0"}')

Event = dict[str, object]
Target = tuple[str, str, str]
"""Account, price, service period."""


@dataclass(slots=True)
class Expected:
    """What the ledger must say of the records so far, however often reading them was interrupted.

    The rules of DESIGN, walked record by record: the first of an identity counts.
    """

    counts: Counter[str] = field(default_factory=Counter)
    contents: dict[tuple[str, str], Event] = field(default_factory=dict)
    """(Source, id) -> content of every accepted event."""
    quantities: Counter[Target] = field(default_factory=Counter)
    each: set[str] = field(default_factory=set)
    """Ids of the events that have a line item of their own."""

    def take(self, lines: Iterable[bytes]) -> Counter[str]:
        """Walk on; what these lines came to."""
        found: Counter[str] = Counter()
        for line in lines:
            found["received"] += 1
            found[self._fate(line)] += 1
        self.counts += found
        return found

    def _fate(self, line: bytes) -> str:
        try:
            event = json.loads(line)
            identity = (event["source"], event["id"])
        except (ValueError, KeyError, TypeError):
            return "dead_lettered"
        if identity in self.contents:
            return "duplicate" if self.contents[identity] == event else "dead_lettered"
        self.contents[identity] = event
        account, month, data = event["subject"], event["time"][:7], event["data"]
        if event["type"] == "llm.completion":
            self.quantities[account, "token", month] += data["tokens"]
            self.each.add(event["id"])
        elif event["type"] == "http.request" and data["status"] < 500:
            self.quantities[account, "web", month] += 1
        else:
            return "not_billable"
        return "itemized"

    @property
    def accepted(self) -> int:
        """How many events were accepted."""
        return len(self.contents)

    @property
    def sums_nano(self) -> dict[Target, int]:
        """What each target owes."""
        prices = {"token": lambda count: count * _TOKEN_PRICE, "web": _graduated}
        return {target: _nano(prices[target[1]](count)) for target, count in self.quantities.items()}

    @property
    def amounts_nano(self) -> dict[str, int]:
        """Account -> sum of its line items."""
        amounts: Counter[str] = Counter()
        for (account, _, _), amount in self.sums_nano.items():
            amounts[account] += amount
        return dict(amounts)


class Producer:
    """Seeded usage without end: the same seed makes the same lines.

    A tenth repeats an earlier event, however long ago; some conflict with one, some are broken or not billable; all lie in
    any order over two months.
    """

    def __init__(self, seed: int, accounts: int = 40) -> None:
        self._chance, self._accounts = random.Random(seed), accounts
        self._made: list[Event] = []
        self._number = 0

    def lines(self, count: int) -> list[bytes]:
        """The next ``count`` records."""
        return [self._line() for _ in range(count)]

    def _line(self) -> bytes:
        chance, made, number = self._chance, self._made, self._number
        self._number += 1
        lot = chance.random()
        if made and lot < 0.10:
            return _text(chance.choice(made))
        if made and lot < 0.11:
            return _text(chance.choice(made) | {"data": {"tokens": -1, "status": 201, "model": "other"}})
        if lot < 0.12:
            return chance.choice(_BROKEN) + str(number).encode()
        made.append(_event(chance, number, self._accounts))
        return _text(made[-1])


def write(path: Path, seed: int, events: int, accounts: int = 40) -> Expected:
    """Write ``events`` lines of a ``Producer`` to ``path``, and say what they come to."""
    lines = Producer(seed, accounts).lines(events)
    path.write_bytes(b"\n".join(lines) + b"\n")
    found = Expected()
    found.take(lines)
    return found


def _event(chance: random.Random, number: int, accounts: int) -> Event:
    when = _START + timedelta(seconds=chance.randrange(40 * 86_400))
    kind = chance.choice(["llm.completion", "llm.completion", "http.request", "nobody.measures"])
    status = chance.choice([200, 200, 404, 503])
    data = {"tokens": chance.randrange(5_000), "status": status, "model": f"m{chance.randrange(3)}"}
    return {
        "specversion": "1.0",
        "id": f"e{number}",
        "source": f"/gateway/{number % 3}",
        "type": kind,
        "subject": f"account-{chance.randrange(accounts)}",
        "time": when.isoformat().replace("+00:00", "Z"),
        "data": data,
    }


def _text(event: Event) -> bytes:
    return json.dumps(event).encode()


def _graduated(count: int) -> Fraction:
    total, below = Fraction(0), Fraction(0)
    for up_to, price in _TIERS:
        upper = Fraction(count) if up_to is None else min(up_to, Fraction(count))
        total += max(upper - below, Fraction(0)) * price
        below = upper if up_to is None else up_to
    return total


def _nano(amount: Fraction) -> int:
    """Half away from zero at nine decimals; amounts here are not negative."""
    return floor(amount * 10**9 + Fraction(1, 2))
