"""Load exchange rates: what is new is kept and recorded in lane 0, what is known is passed over, what differs is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from lineitem.catalog import rates
from lineitem.catalog.rate_file import KeptRate, Rate
from lineitem.core.errors import Refused
from lineitem.kit.db import Connection
from lineitem.ledger import claims
from lineitem.ledger.post import Fact, canonical
from lineitem.ledger.publishing import desk

FACT = "rates"
"""Kind of the facts that record rates."""
RATES_PER_FACT = 500
_SHOWN_MAX = 20


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load came to: rates ``added``, some of them ``corrected``, ``known`` ones; ``batch`` None without a new one."""

    namespace: str
    added: int
    corrected: int
    known: int
    batch: str | None


def load(connection: Connection, namespace: str, found: Sequence[Rate], correct: bool, by: str, now_us: int) -> Loaded:
    """Keep the rates that are new. ``correct``: also those that differ from what is known, which stays beside them.

    Raises Refused, with both values, for a rate that differs from what is known, and keeps none of the load then.
    """
    with desk(connection, namespace, by, now_us) as held:
        before = rates.known(connection, held.key, found)
        new = [one for one in found if one[:4] not in before or before[one[:4]].rate != one.rate]
        changed = [one for one in new if one[:4] in before]
        if changed and not correct:
            told = [f"{one.what} is {one.text} here and {before[one[:4]].text} in the ledger" for one in changed]
            more = [f"and {len(told) - _SHOWN_MAX} more"] if len(told) > _SHOWN_MAX else []
            raise Refused(
                "\n".join([*told[:_SHOWN_MAX], *more]),
                do="Nothing was loaded. To correct them, load the file with --correct: both are kept, the newer counts.",
            )
        if not new:
            return Loaded(namespace, 0, 0, len(found), None)
        batch = held.head.batch + 1
        rates.add(connection, held.key, new, batch)
        held.record(list(_facts(namespace, new, by)), held.revision)
    return Loaded(namespace, len(new), len(changed), len(found) - len(new), f"{held.head.lane}-{batch}")


def _facts(namespace: str, new: Sequence[Rate], by: str) -> Iterator[Fact]:
    for start in range(0, len(new), RATES_PER_FACT):
        listed = [_row(one) for one in new[start : start + RATES_PER_FACT]]
        yield Fact(FACT, canonical({"namespace": namespace, "by": by, "rates": listed}))


def _row(one: Rate) -> list[str]:
    return [one.source, one.base, one.quote, one.day.isoformat(), one.text]


_Key = tuple[str, int, str, str, str, str]
"""Namespace, batch, source, base, quote, day."""


def check_rates(connection: Connection) -> Iterator[tuple[tuple[int, int] | None, str]]:
    """Every rate kept is as a batch recorded it: (batch to blame, what is wrong)."""
    recorded: dict[_Key, str] = {}
    for namespace, lane, batch, body in claims.facts(connection, FACT):
        for source, base, quote, day, rate in _read(body):
            if lane == 0:
                recorded[(namespace, batch, source, base, quote, day)] = rate
    for namespace, (kept, batch) in rates.stored(connection):
        key = (namespace, batch, kept.source, kept.base, kept.quote, kept.day.isoformat())
        was = recorded.pop(key, None)
        if was is None:
            yield None, f"rate {kept.what} of {namespace} was never recorded"
        elif was != kept.text:
            yield (0, batch), f"rate {kept.what} of {namespace} is {kept.text}, it was recorded as {was}"
    for namespace, batch, source, base, quote, day in recorded:
        yield (0, batch), f"rate {base}/{quote} of {day} from {source} of {namespace} is missing"


def _read(body: str) -> list[list[str]]:
    """The rates of a fact; none where it cannot be read any more, which its batch's root gives away."""
    try:
        listed: list[list[str]] = [row for row in json.loads(body)["rates"] if len(row) == 5]
    except (ValueError, KeyError, TypeError):
        return []
    return listed


def shown(
    connection: Connection, namespace_key: int, day: date | None, source: str | None, every: bool
) -> list[dict[str, str]]:
    """Rates as ``lineitem fx show`` prints them."""
    found = (rates.rates_all if every else rates.rates_at)(connection, namespace_key, day, source)
    return [_document(one) for one in found]


def _document(one: KeptRate) -> dict[str, str]:
    source, base, quote, day, _ = one.rate
    return {
        "date": day.isoformat(),
        "base": base,
        "quote": quote,
        "rate": one.rate.text,
        "source": source,
        "batch": f"0-{one.batch}",
    }
