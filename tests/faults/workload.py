"""A seeded file of usage and what it must come to, computed from its lines alone with Python integers and fractions."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
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


@dataclass(slots=True)
class Expected:
    """What the ledger must say once the file has been read, however often that was interrupted."""

    counts: Counter[str] = field(default_factory=Counter)
    amounts_nano: dict[str, int] = field(default_factory=dict)
    """Account -> sum of its line items."""
    accepted: int = 0


def write(path: Path, seed: int, events: int, accounts: int = 40) -> Expected:
    """Write ``events`` lines to ``path``; the same seed writes the same lines.

    A tenth repeats an earlier event, some conflict with one, some are broken or not billable, all lie in any order over
    two months.
    """
    chance = random.Random(seed)
    lines: list[bytes] = []
    made: list[Event] = []
    for number in range(events):
        lot = chance.random()
        if made and lot < 0.10:
            lines.append(_text(chance.choice(made)))
        elif made and lot < 0.11:
            lines.append(_text(chance.choice(made) | {"data": {"tokens": -1, "status": 201, "model": "other"}}))
        elif lot < 0.12:
            lines.append(chance.choice(_BROKEN) + str(number).encode())
        else:
            made.append(_event(chance, number, accounts))
            lines.append(_text(made[-1]))
    path.write_bytes(b"\n".join(lines) + b"\n")
    return expected(lines)


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


def expected(lines: Sequence[bytes]) -> Expected:
    """Walk the lines in order as the rules of DESIGN say: the first of an identity counts."""
    found = Expected()
    contents: dict[tuple[object, object], Event] = {}
    tokens: dict[tuple[str, str], int] = defaultdict(int)
    requests: dict[tuple[str, str], int] = defaultdict(int)
    for line in lines:
        found.counts["received"] += 1
        try:
            event = json.loads(line)
            identity = (event["source"], event["id"])
        except (ValueError, KeyError, TypeError):
            found.counts["dead_lettered"] += 1
            continue
        if identity in contents:
            same = contents[identity] == event
            found.counts["duplicate" if same else "dead_lettered"] += 1
            continue
        contents[identity] = event
        target = (event["subject"], event["time"][:7])
        if event["type"] == "llm.completion":
            tokens[target] += event["data"]["tokens"]
        elif event["type"] == "http.request" and event["data"]["status"] < 500:
            requests[target] += 1
        else:
            found.counts["not_billable"] += 1
            continue
        found.counts["itemized"] += 1
    amounts: dict[str, int] = defaultdict(int)
    for (account, _), quantity in tokens.items():
        amounts[account] += _nano(quantity * _TOKEN_PRICE)
    for (account, _), count in requests.items():
        amounts[account] += _nano(_graduated(count))
    found.amounts_nano = dict(amounts)
    found.accepted = len(contents)
    return found


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
