"""What levels must come to, span by span: between any two instants at which something changes nothing does.

Shares nothing with the engine; what is in force when, it asks of ``Oracle``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from tests.integration.oracle import Document, Oracle, Totals, amount, round_half_up


class Read(NamedTuple):
    """A reading of one account and meter; they order by time, then identity."""

    time: datetime
    key: bytes
    value: Fraction


class Span(NamedTuple):
    """A time in which level and price stand still. ``price`` is None where none is in force."""

    start: datetime
    end: datetime
    level: Fraction
    price: str | None  # its whole document as text: what another document is another content


def level_totals(oracle: Oracle, readings: dict[tuple[str, str], list[Read]], months: Collection[str]) -> Totals:
    """Quantity and nano-units of every account, price and month; ``readings`` by account and meter.

    ``months`` are settled; the month after them too where it is charged in advance.
    """
    totals: Totals = {}
    for (account, meter), found in readings.items():
        held, ordered = oracle._account(account), sorted(found)
        for month in sorted({*months, *map(_following, months)}):
            start, end = _bounds(month, held)
            for name in _price_ids(oracle.catalog, meter):
                spans = list(_spans(oracle, held, ordered, name, meter, start, end))
                quantity, nano = Fraction(0), 0
                for content in dict.fromkeys(span.price for span in spans if span.price is not None):
                    price = _PRICES[content]
                    if month in months or price.get("charge") == "in_advance":
                        more, owed = _owed(price, content, spans, ordered, held, start, end)
                        quantity, nano = quantity + more, nano + owed
                if quantity or nano:
                    totals[(account, name, month)] = (quantity, nano)
    return totals


_PRICES: dict[str, Document] = {}
"""Documents by their text."""


def _following(month: str) -> str:
    year, number = int(month[:4]), int(month[5:])
    return f"{year + number // 12:04}-{number % 12 + 1:02}"


def _bounds(month: str, held: Document) -> tuple[datetime, datetime]:
    zone = ZoneInfo(held["timezone"])
    return _instant(month + "-01", zone), _instant(_following(month) + "-01", zone)


def _instant(text: str, zone: ZoneInfo) -> datetime:
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=zone)).astimezone(ZoneInfo("UTC"))


def _price_ids(catalog: Document, meter: str) -> set[str]:
    return {price["id"] for book in catalog["pricebooks"] for price in book["prices"] if price.get("meter") == meter}


def _days(held: Document, start: datetime, end: datetime) -> list[datetime]:
    zone = ZoneInfo(held["timezone"])
    first = start.astimezone(zone)
    count = (end.astimezone(zone).date() - first.date()).days
    return [_instant(str(first.date() + timedelta(days=day)), zone) for day in range(count)]


def _spans(
    oracle: Oracle, held: Document, readings: list[Read], name: str, meter: str, start: datetime, end: datetime
) -> Iterator[Span]:
    zone = ZoneInfo(held["timezone"])
    books = [*oracle.catalog["pricebooks"], *held.get("overrides", [])]
    edges = [book[key] for book in books for key in ("effective_from", "effective_until") if book.get(key)]
    until = _instant(held["active_until"], zone) if "active_until" in held else end
    cuts = {start, end, until, *_days(held, start, end), *(one.time for one in readings)}
    cuts |= {datetime.fromisoformat(edge).astimezone(ZoneInfo("UTC")) for edge in edges}
    inside = sorted(cut for cut in cuts if start <= cut <= end)
    for since, till in pairwise(inside):
        level = next((one.value for one in reversed(readings) if one.time <= since), Fraction(0))
        yield Span(since, till, level, _price_at(oracle, held, name, meter, since) if since < until else None)


def _price_at(oracle: Oracle, held: Document, name: str, meter: str, time: datetime) -> str | None:
    book, price = oracle._prices(held, time).get(name, ("", {}))
    if price.get("meter") != meter:
        return None
    text = str((book, sorted(price.items(), key=str)))
    _PRICES[text] = price
    return text


def _owed(
    price: Document,
    content: str,
    spans: list[Span],
    readings: list[Read],
    held: Document,
    start: datetime,
    end: datetime,
) -> tuple[Fraction, int]:
    mine = [span for span in spans if span.price == content]
    whole, months = price.get("prorate", "none"), price["model"] == "per_seat"
    if months and whole != "second":
        starts = _days(held, start, end) if whole == "day" else [start]
        quantity = Fraction(0)
        for since, till in zip(starts, [*starts[1:], end], strict=True):
            inside = [span for span in spans if since <= span.start < till and span.price and span.level > 0]
            if inside and inside[0].price == content:
                quantity += max(span.level for span in inside)
        used, units = quantity > 0, quantity / len(starts)
    else:
        quantity = sum((span.level * _seconds(span.end - span.start) for span in mine), Fraction(0))
        read = any(span.start <= one.time < span.end for one in readings for span in mine)
        used, units = read or any(span.level for span in mine), quantity
        units = quantity / _seconds(end - start) if months else quantity
    if not used:
        return quantity, 0
    return quantity, round_half_up(max(amount(price, units), Fraction(price.get("minimum", "0"))) * 10**9)


def _seconds(span: timedelta) -> Fraction:
    return Fraction(span // timedelta(microseconds=1), 10**6)


def readings_of(events: list[dict[str, Any]]) -> dict[tuple[str, str], list[Read]]:
    """Events as ``{account, meter, time, key, value}`` by account and meter."""
    found: dict[tuple[str, str], list[Read]] = defaultdict(list)
    for event in events:
        found[(event["account"], event["meter"])].append(Read(event["time"], event["key"], event["value"]))
    return found
