"""What a ledger must come to, worked out from raw records and the catalog's document by slow, plain, obvious Python.

It shares nothing with the engine: no NumPy, no SQL, no batches; dictionaries, ``Fraction`` and ``hashlib`` only. What
DESIGN says in words stands here in the same words, one event after the other.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from math import ceil, floor
from typing import Any
from zoneinfo import ZoneInfo

from tests.integration import commitment_oracle, pool_oracle
from tests.integration.commitment_oracle import Committed

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WINDOWS = {"minute": 60, "hour": 3600, "day": 86_400}
"""Seconds of an itemization window; windows are aligned to UTC."""
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")

Document = Mapping[str, Any]
Identity = tuple[str, str]
"""(source, id) inside the oracle's namespace."""
Total = tuple[Fraction, int]
"""Quantity in the meter's unit, amount in nano-units."""
Target = tuple[str, str, str, str]
"""(account, price, service month, content of the price)."""
Totals = dict[tuple[str, str, str], Total]
"""(account, price, service month) -> total; what comes to nothing is left out."""


class Broken(Exception):
    """A record that must become a dead letter."""


@dataclass
class Tally:
    """Where records went."""

    received: int = 0
    itemized: int = 0
    pending: int = 0
    duplicate: int = 0
    dead_lettered: int = 0
    not_billable: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(**{name: value + getattr(other, name) for name, value in vars(self).items()})


@dataclass(frozen=True)
class Usage:
    """One reading of one event under one price."""

    account: str
    price: str
    content: str  # everything that determines money; versions that share it share the target
    month: str
    key: bytes
    time: datetime
    value: Fraction
    member: Any
    window_end: datetime | None  # None: its own line item
    charge: Fraction  # what a per-event price says of it, allowances left aside


@dataclass
class Event:
    """An accepted event: its content, and what it counts for."""

    identity: Identity
    key: bytes
    content: Any
    usage: list[Usage]
    retracted: bool = False


def parts_key(*parts: str) -> bytes:
    """SHA-256 over the parts, each behind its length in 4 bytes."""
    return sha256(b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)).digest()


@dataclass
class Oracle:
    """One namespace. ``catalog`` is the document of the catalog file; publish again by replacing it."""

    namespace: str
    catalog: Document
    now: datetime
    accepted: dict[Identity, Event] = field(default_factory=dict)
    settled: dict[Target, Fraction] = field(default_factory=dict)
    """The share of the month in which the account was active: more than 0 owes without usage."""
    closed: set[str] = field(default_factory=set)
    committed: Committed = field(default_factory=dict)
    carried: dict[pool_oracle.Pool, Fraction] = field(default_factory=dict)

    # --- taking records in

    def send(self, file: bytes, stream: str) -> Tally:
        """A whole NDJSON file, line after line."""
        tally, offset = Tally(), 0
        for line in file.split(b"\n"):
            if line.strip():
                tally += self._take(line, stream, offset)
            offset += len(line) + 1
        return tally

    def _take(self, line: bytes, stream: str, offset: int) -> Tally:
        try:
            identity, content, event = self._read(line, stream, offset)
        except Broken:
            return Tally(received=1, dead_lettered=1)
        known = self.accepted.get(identity)
        if known is not None:
            same = known.content == content
            return Tally(received=1, duplicate=int(same), dead_lettered=int(not same))
        key = parts_key(self.namespace, *identity)[:16]
        try:
            usage = self._price(event, key)
        except Broken:
            return Tally(received=1, dead_lettered=1)
        self.accepted[identity] = Event(identity, key, content, usage or [])
        if usage is None:
            return Tally(received=1, not_billable=1)
        waits = any(one.window_end is not None and one.window_end > self.now for one in usage)
        return Tally(received=1, pending=int(waits), itemized=int(not waits))

    def _read(self, line: bytes, stream: str, offset: int) -> tuple[Identity, Any, dict[str, Any]]:
        try:
            event = json.loads(line, parse_float=Decimal, parse_constant=_refuse)
        except ValueError as error:
            raise Broken(str(error)) from None
        if not isinstance(event, dict) or event.get("specversion") != "1.0":
            raise Broken("shape")
        for name in ("type", "subject", "time"):
            if not isinstance(event.get(name), str) or not event[name]:
                raise Broken(name)
        data = event.get("data")
        if data is None:
            data = {}
        if not isinstance(data, dict):
            raise Broken("data")
        time = _time(event["time"])
        if time.year < 2000 or time > self.now + timedelta(days=1):
            raise Broken("time")
        source = event.get("source") or stream
        id_ = event.get("id") or sha256(_prefixed(stream.encode(), str(offset).encode(), line)).hexdigest()[:32]
        content = (event["type"], event["subject"], time, canonical(data))
        return (source, id_), content, {**event, "data": data, "time": time}

    def _price(self, event: dict[str, Any], key: bytes) -> list[Usage] | None:
        """What the event counts for; None where no meter matches. Whole or not at all."""
        meters = [meter for meter in self.catalog["meters"] if _matches(meter, event)]
        if not meters:
            return None
        readings = [(meter, *_reading(meter, event)) for meter in meters]
        account = self._account(event["subject"])
        usage = []
        for meter, value, member in readings:
            found = self._prices(account, event["time"]).values()
            prices = [(book, price) for book, price in found if price.get("meter") == meter["id"]]
            if not prices:
                raise Broken("no price")
            for book, price in prices:
                usage.append(self._usage(event, key, account, meter, (book, price), value, member))
        return usage

    def _usage(
        self,
        event: dict[str, Any],
        key: bytes,
        account: Document,
        meter: Document,
        priced: tuple[str, Document],
        value: Fraction,
        member: Any,
    ) -> Usage:
        (book, price), time = priced, event["time"]
        window = WINDOWS.get(price.get("itemize", "each"))
        end = None
        if window:
            since = (time - EPOCH) // timedelta(seconds=window)
            end = EPOCH + timedelta(seconds=window) * (since + 1)
        return Usage(
            account=event["subject"],
            price=price["id"],
            content=content_of(book, price, meter),
            month=time.astimezone(ZoneInfo(account["timezone"])).strftime("%Y-%m"),
            key=key,
            time=time,
            value=value,
            member=member,
            window_end=end,
            charge=_promoted(price, value, event) if by_event(price) else Fraction(0),
        )

    def _account(self, subject: str) -> dict[str, Any]:
        section = self.catalog.get("accounts", {})
        defaults = {"pricebook": None, "timezone": "UTC", "open": True} | dict(section.get("defaults", {}))
        for account in section.get("list", []):
            if account["id"] == subject:
                return defaults | account
        if not defaults["open"]:
            raise Broken("unknown account")
        return defaults

    def _prices(self, account: Document, time: datetime) -> dict[str, tuple[str, Document]]:
        """Price id -> pricebook and price in force; an account's own price takes the place of its pricebook's."""
        books = [book for book in self.catalog["pricebooks"] if book["id"] == account["pricebook"]]
        found = {price["id"]: (account["pricebook"], price) for price in _in_force(books, time)}
        return found | {price["id"]: ("own", price) for price in _in_force(account.get("overrides", []), time)}

    # --- what it comes to

    def retract(self, identity: Identity) -> None:
        """The usage did not happen; the event stays known."""
        self.accepted[identity].retracted = True

    def keys(self) -> set[bytes]:
        """Identity keys of everything accepted."""
        return {event.key for event in self.accepted.values()}

    def itemized_each(self) -> set[bytes]:
        """Identity keys of events that a price itemizes one by one."""
        every = (event for event in self.accepted.values())
        return {event.key for event in every if any(one.window_end is None for one in event.usage)}

    def settle(self, month: str) -> None:
        """Somebody bills ``month``: it is settled where it has ended, and so are closed months before it."""
        months = {month} | {one for one in self.closed if one < month}
        pool_oracle.carry_over(self, months)
        for target in self._targets():
            account = self._account(target[0])
            if (
                target[2] in months
                and _bounds(target[2], account)[1] <= self.now
                and "minimum" in json.loads(target[3])[1]
            ):
                self.settled.setdefault(target, Fraction(0))
        owed = dict(self._owed(months))
        active = {target: owed.pop(target) for target in list(owed) if '"model": "commitment"' in target[3]}
        self.settled |= owed
        kept = {target: held for target, held in self.committed.items() if target[2] not in months}
        self.committed = kept | commitment_oracle.settled(self, months, active)

    def close(self, month: str) -> None:
        """Somebody closes ``month``."""
        self.settle(month)
        self.closed.add(month)

    def _owed(self, months: set[str]) -> Iterable[tuple[Target, Fraction]]:
        """What active accounts owe without usage, under the prices in force where their time in a month begins."""
        meters = {meter["id"]: meter for meter in self.catalog["meters"]} | {None: {"aggregation": "count"}}
        for listed in self.catalog.get("accounts", {}).get("list", []):
            if "active_from" not in listed:
                continue
            account = self._account(listed["id"])
            for month in months | set(map(_following, months)):
                start, end = _bounds(month, account)
                since = max(start, _day_or_instant(account["active_from"], account))
                until = _day_or_instant(account["active_until"], account) if "active_until" in account else end
                until = min(until, end)
                if since >= until:
                    continue
                for book, price in self._prices(account, since).values():
                    due = (
                        start <= self.now if "charge" in price and price["charge"] == "in_advance" else end <= self.now
                    )
                    due = due and (month in months or price.get("charge") == "in_advance")
                    content = content_of(book, price, meters[price.get("meter")])
                    due = due and not self._shares_tiers(listed["id"], price["id"], month, content)
                    owes = price["model"] == "commitment" or "minimum" in price
                    if due and (owes or (not by_event(price) and amount(price, Fraction(0)))):
                        content = content_of(book, price, meters[price.get("meter")])
                        share = SHARES[price.get("prorate", "none")](
                            since, until, start, end, ZoneInfo(account["timezone"])
                        )
                        yield (listed["id"], price["id"], month, content), share

    def _targets(self) -> dict[Target, list[Usage]]:
        targets: dict[Target, list[Usage]] = defaultdict(list)
        for event in self.accepted.values():
            for one in event.usage if not event.retracted else ():
                targets[(one.account, one.price, one.month, one.content)].append(one)
        return targets

    def totals(self, currency: str | None = None) -> Totals:
        """T of every account, price and service month; ``currency`` narrows to the prices in one."""
        totals: Totals = {}
        amounts = {target: self.amount_of(target, usage) for target, usage in self.with_usage().items()}
        for target, (share, filled) in self.committed.items():
            short = commitment_oracle.missing(json.loads(target[3])[1], share, filled)
            amounts[target] = filled, round_half_up(short * 10**9)
        for (account, name, month, content), (quantity, nano) in amounts.items():
            if currency not in (None, json.loads(content)[1].get("currency", self.catalog["currency"])):
                continue
            before = totals.get((account, name, month), (Fraction(0), 0))
            totals[(account, name, month)] = (before[0] + quantity, before[1] + nano)
        return {key: total for key, total in totals.items() if any(total)}

    def with_usage(self) -> dict[Target, list[Usage]]:
        """Every target that has usage or owes something without."""
        return {target: [] for target, active in self.settled.items() if active} | self._targets()

    def amount_of(self, target: Target, usage: list[Usage]) -> Total:
        """What one target comes to."""
        account, name, month, content = target
        _, price, meter = json.loads(content)
        quantity = FOLDS[meter["aggregation"]](usage) if usage else Fraction(0)
        targets = self._targets() if price.get("on_change") else {}
        earlier = [
            one for part in self._gone_on_with(account, name, month, content)
            for one in targets.get((account, name, month, part), [])
        ]  # fmt: skip
        above = sum((one.value for one in earlier), Fraction(0))
        units = pool_oracle.counted(self, target, price, above + quantity)
        counts = quantity >= 0 or pool_oracle.name_of(price, name) is None
        off = _promotion(price, above + pool_oracle.behind(self, target, price), usage) if counts else Fraction(0)
        charged = charged_in_order(price, usage) if by_event(price) else amount(price, units, off)
        if price["model"] == "flat":
            charged *= self.settled[target]
        if target in self.settled:
            charged = max(charged, Fraction(price.get("minimum", "0")))
        nano = round_half_up(charged * 10**9)
        if earlier:
            nano -= round_half_up(amount(price, above) * 10**9)
        return quantity, nano

    def folded(self, usage: list[Usage], content: str) -> Fraction:
        """The quantity of some usage of a target."""
        return FOLDS[json.loads(content)[2]["aggregation"]](usage) if usage else Fraction(0)

    def content(self, book: str, price: Document) -> str:
        """Everything of a price that determines money."""
        meters = {meter["id"]: meter for meter in self.catalog["meters"]} | {None: {"aggregation": "count"}}
        return content_of(book, price, meters[price.get("meter")])

    def versions(self, book: str) -> list[tuple[datetime, datetime, Document]]:
        """The versions of a pricebook and when each counts."""
        return _ranges([one for one in self.catalog["pricebooks"] if one["id"] == book])

    def active_pools(self, month: str) -> Iterable[tuple[str, str, str]]:
        """Account, pricebook and name of the pools that carry over, of accounts that are active in a month."""
        for listed in self.catalog.get("accounts", {}).get("list", []):
            if "active_from" not in listed:
                continue
            account = self._account(listed["id"])
            start, end = _bounds(month, account)
            since = max(start, _day_or_instant(account["active_from"], account))
            until = _day_or_instant(account["active_until"], account) if "active_until" in account else end
            for book, price in self._prices(account, since).values() if since < min(until, end) else ():
                name = pool_oracle.name_of(price, price["id"])
                if name is not None:
                    yield listed["id"], book, name

    def bounds(self, month: str, account: str) -> tuple[datetime, datetime]:
        """A service month of an account."""
        return _bounds(month, self._account(account))

    def meterless(self, account: str, month: str) -> list[tuple[Target, Document]]:
        """The prices without a meter in force when a month begins, else the first that come into force in it."""
        held = self._account(account)
        start, end = _bounds(month, held)
        versions = [one for one in self.catalog["pricebooks"] if one["id"] == held["pricebook"]]
        times = [time for time, _, _ in _ranges([*versions]) if start < time < end]
        for time in (start, *sorted(times)):
            found = [
                ((account, price["id"], month, content_of(book, price, {"aggregation": "count"})), price)
                for book, price in self._prices(held, time).values()
                if "meter" not in price
            ]
            if found:
                return found
        return []

    def _shares_tiers(self, account: str, name: str, month: str, content: str) -> bool:
        """Whether ``content`` goes on with the tiers of another content of the price in a month, or another with its."""
        every = self._contents(account, json.loads(content)[0], name, month)
        others = [one for one in every if content in self._gone_on_with(account, name, month, one)]
        return bool(others or (content in every and self._gone_on_with(account, name, month, content)))

    def _gone_on_with(self, account: str, name: str, month: str, content: str) -> list[str]:
        """The contents of the price whose tiers ``content`` goes on with in a month: back to one that starts its own."""
        book, money, _ = json.loads(content)
        if money.get("on_change") != "continue":
            return []
        contents = self._contents(account, book, name, month)
        parts = []
        for part in reversed(contents[: contents.index(content)]):
            parts.append(part)
            if json.loads(part)[1].get("on_change") != "continue":
                break
        return parts

    def _contents(self, account: str, book: str, name: str, month: str) -> list[str]:
        """What a price says in a month, in order of time."""
        held = self._account(account)
        meters = {meter["id"]: meter for meter in self.catalog["meters"]} | {None: {"aggregation": "count"}}
        first = datetime.fromisoformat(f"{month}-01").replace(tzinfo=ZoneInfo(held["timezone"]))
        after = (first + timedelta(days=32)).replace(day=1)
        versions = [one for one in self.catalog["pricebooks"] if one["id"] == book]
        versions = held.get("overrides", []) if book == "own" else versions
        contents: list[str] = []
        for start, end, version in _ranges(versions):
            for price in version["prices"] if start < after and end > first else []:
                found = content_of(book, price, meters[price.get("meter")]) if price["id"] == name else None
                if found is not None and found not in contents:
                    contents.append(found)
        return contents


def content_of(book: str, price: Document, meter: Document) -> str:
    """Everything that determines money, as text."""
    plain = {name: held for name, held in price.items() if name not in ("id", "description")}
    return json.dumps([book, plain, meter], sort_keys=True)


def _ranges(versions: list[Document]) -> list[tuple[datetime, datetime, Document]]:
    """When each version counts, in order of time."""
    found, later = [], datetime.max.replace(tzinfo=UTC)
    for version in sorted(versions, key=lambda one: datetime.fromisoformat(one["effective_from"]), reverse=True):
        start = datetime.fromisoformat(version["effective_from"])
        end = min(later, datetime.fromisoformat(version.get("effective_until", later.isoformat())))
        found.append((start, end, version))
        later = start
    return found[::-1]


def _bounds(month: str, account: Document) -> tuple[datetime, datetime]:
    """Where a month begins and ends for an account."""
    year, number = map(int, month.split("-"))
    start = datetime(year, number, 1, tzinfo=ZoneInfo(account["timezone"]))
    end = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=ZoneInfo(account["timezone"]))
    return start.astimezone(UTC), end.astimezone(UTC)


def _following(month: str) -> str:
    year, number = map(int, month.split("-"))
    return f"{year + number // 12}-{number % 12 + 1:02}"


def _share_of_days(since: datetime, until: datetime, start: datetime, end: datetime, zone: ZoneInfo) -> Fraction:
    """Days that are begun, of all days of the month."""
    first, last = since.astimezone(zone).date(), (until - timedelta(microseconds=1)).astimezone(zone).date()
    whole = (end - timedelta(microseconds=1)).astimezone(zone).date() - start.astimezone(zone).date()
    return Fraction((last - first).days + 1, whole.days + 1)


SHARES: dict[str, Callable[[datetime, datetime, datetime, datetime, ZoneInfo], Fraction]] = {
    "none": lambda *_: Fraction(1),
    "day": _share_of_days,
    "second": lambda since, until, start, end, _: Fraction(
        (until - since) // timedelta(microseconds=1), (end - start) // timedelta(microseconds=1)
    ),
}
"""Which share of a month is due, by how its price is prorated."""


def _day_or_instant(text: str, account: Document) -> datetime:
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=ZoneInfo(account["timezone"]))).astimezone(UTC)


def _in_force(versions: list[Document], time: datetime) -> list[Document]:
    """The prices of the version that started last."""
    started = [book for book in versions if datetime.fromisoformat(book["effective_from"]) <= time]
    if not started:
        return []
    book = max(started, key=lambda book: datetime.fromisoformat(book["effective_from"]))
    until = book.get("effective_until")
    return list(book["prices"]) if until is None or time < datetime.fromisoformat(until) else []


# --- reading one event


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _prefixed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise Broken("time") from None
    if time.tzinfo is None or "T" not in text:
        raise Broken("time")
    return time.astimezone(UTC)


def canonical(value: Any) -> Any:
    """A JSON value as something that is equal exactly where the content is: 1 is 1.0, but neither "1" nor true."""
    if isinstance(value, bool) or value is None:
        return ("constant", str(value))
    if isinstance(value, str):
        return ("text", value)
    if isinstance(value, dict):
        return ("object", tuple(sorted((name, canonical(item)) for name, item in value.items())))
    if isinstance(value, list):
        return ("list", tuple(map(canonical, value)))
    return ("number", Fraction(value))


def _walk(event: Document, path: str) -> Any:
    found: Any = event
    for step in path.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


FILTERS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "data.status < 500": lambda data: _is_number(data.get("status")) and data["status"] < 500,
    "data.model == 'm-1'": lambda data: data.get("model") == "m-1",
    "data.model != 'm-1' || data.status == 200": lambda data: data.get("model") != "m-1" or data.get("status") == 200,
}
"""The filters that test catalogs use, and what each of them says."""


def _matches(meter: Document, event: Document) -> bool:
    if meter["event_type"] != event["type"]:
        return False
    return "filter" not in meter or FILTERS[meter["filter"]](event["data"])


def _number(found: Any) -> Fraction:
    """A JSON number or a numeric text."""
    if isinstance(found, str) and _NUMBER.fullmatch(found):
        found = Decimal(found)
    if not _is_number(found):
        raise Broken("value")
    return Fraction(found)


def _operand(found: Any) -> Fraction:
    """A number inside an expression: at most 38 digits, decimals included."""
    number = _number(found)
    decimals = next((count for count in range(39) if (number * 10**count).denominator == 1), None)
    if decimals is None or abs(number * 10**decimals) >= 10**38:
        raise Broken("value")
    return number


def _deep(data: dict[str, Any]) -> Any:
    return data["deep"]["u"]


EXPRESSIONS: dict[str, Callable[[dict[str, Any]], Fraction]] = {
    "ceil(data.v) * 2": lambda data: Fraction(ceil(_operand(data.get("v"))) * 2),
    "max(data.v, 0) + default(data.deep.u, 1)": lambda data: (
        max(_operand(data.get("v")), Fraction(0)) + (Fraction(1) if _deep(data) is None else _operand(_deep(data)))
    ),
    "data.status == 200 ? data.v / 4 : floor(data.deep.u, 0.25)": lambda data: (
        _operand(data["v"]) / 4 if data["status"] == 200 else Fraction(floor(_operand(_deep(data)) * 4), 4)
    ),
}
"""The value expressions that test catalogs use, and what each of them comes to."""


def _reading(meter: Document, event: Document) -> tuple[Fraction, Any]:
    """(value, member) of an event under a meter."""
    for path in meter.get("dimensions", []):
        if isinstance(_walk(event, path), list | dict):
            raise Broken("dimension")
    if meter["aggregation"] == "count":
        return Fraction(1), None
    if meter["aggregation"] == "unique":
        found = _walk(event, meter["value"])
        if found is None or isinstance(found, list | dict):
            raise Broken("value")
        return Fraction(1), canonical(found)
    expression = EXPRESSIONS.get(meter["value"])
    value = _number(_walk(event, meter["value"])) if expression is None else expression(event["data"])
    scaled = value * 10 ** meter.get("scale", 9)
    if scaled.denominator != 1 or abs(scaled) >= 10**38:
        raise Broken("value")
    return value, None


# --- folds and prices

FOLDS: dict[str, Callable[[list[Usage]], Fraction]] = {
    "sum": lambda usage: sum((one.value for one in usage), Fraction(0)),
    "count": lambda usage: Fraction(len(usage)),
    "max": lambda usage: max(one.value for one in usage),
    "unique": lambda usage: Fraction(len({one.member for one in usage})),
    "latest": lambda usage: max(usage, key=lambda one: (one.time, one.key)).value,
}


def amount(price: Document, quantity: Fraction, promotion: Fraction = Fraction(0)) -> Fraction:
    """What ``quantity`` costs: convert and round, included, model, less what a promotion takes off, discount, maximum."""
    charge = (listed(price, quantity) - promotion) * (1 - Fraction(price.get("discount_rate", "0")))
    return min(charge, Fraction(price["maximum"])) if "maximum" in price else charge


def listed(price: Document, quantity: Fraction) -> Fraction:
    """What the model says: convert and round, included, model."""
    units = max(quantity, Fraction(0))
    if "transform" in price:
        units /= Fraction(str(price["transform"]["divide_by"]))
        units = ROUNDINGS[price["transform"].get("round", "none")](units)
    units = max(units - Fraction(price.get("included", "0")), Fraction(0))
    return MODELS[price["model"]](price, units)


def _share(price: Document, value: Fraction, _event: Document) -> Fraction:
    charge = value * Fraction(price["rate"]) + Fraction(price.get("per_event", "0"))
    charge = max(charge, Fraction(price["minimum_per_event"])) if "minimum_per_event" in price else charge
    return min(charge, Fraction(price["maximum_per_event"])) if "maximum_per_event" in price else charge


def _carried(price: Document, _value: Fraction, event: Document) -> Fraction:
    found, _ = _reading({"aggregation": "sum", "value": price["amount"], "scale": 12}, event)
    return found * Fraction(price.get("multiplier", "1"))


def _cell(price: Document, value: Fraction, event: Document) -> Fraction:
    (path,) = price["dimensions"]
    found = _walk(event, path)
    if isinstance(found, list | dict):
        raise Broken("dimension")
    text = "" if found is None else str(found)
    for wanted in ({"model": text}, {}):
        for cell in price["cells"]:
            if cell["when"] == wanted:
                return value * Fraction(cell["unit_price"])
    raise Broken("no price")


def _call(price: Document, value: Fraction, _event: Document) -> Fraction:
    increments = price.get("increments", {"first": "1", "next": "1"})
    first, following, duration = Fraction(increments["first"]), Fraction(increments["next"]), abs(value)
    if not duration:
        return Fraction(0)
    billed = first + max(ceil((duration - first) / following), 0) * following
    charge = billed * Fraction(price["rate"]) / Fraction(price["per"]) + Fraction(price.get("connect_fee", "0"))
    rule = price.get("round", {"decimals": 9, "mode": "half_up"})
    charge = ROUNDINGS[rule["mode"]](charge * 10 ** rule["decimals"]) / 10 ** rule["decimals"]
    return charge if value > 0 else -charge


CHARGES: dict[str, Callable[[Document, Fraction, Document], Fraction]] = {
    "percentage": _share,
    "dynamic": _carried,
    "matrix": _cell,
    "telecom": _call,
}
"""Per-event prices: what one event is charged."""


def by_event(price: Document) -> bool:
    """Whether a price charges each event by itself."""
    return price["model"] in CHARGES


def _promoted(price: Document, value: Fraction, event: Document) -> Fraction:
    """What one event is charged, less the promotion of its time."""
    charge = CHARGES[price["model"]](price, value, event)
    return (
        charge * (1 - Fraction(price["promotion"]["discount_rate"])) if _segment(price, event["time"]) == 1 else charge
    )


def _segment(price: Document, time: datetime) -> int:
    """Where a time lies: 0 before the promotion's window (or without one), 1 inside, 2 after."""
    promotion = price.get("promotion", {})
    if "from" in promotion and time < datetime.fromisoformat(promotion["from"]):
        return 0
    if "until" in promotion and time >= datetime.fromisoformat(promotion["until"]):
        return 2
    return 1 if promotion else 0


def _promotion(price: Document, behind: Fraction, usage: list[Usage]) -> Fraction:
    """What a promotion takes off the model's charge for ``usage``, where ``behind`` units come first."""
    if by_event(price) or "promotion" not in price:
        return Fraction(0)
    share = Fraction(price["promotion"]["discount_rate"])
    before, inside, after = (
        sum((one.value for one in usage if _segment(price, one.time) == number), Fraction(0)) for number in range(3)
    )
    total = behind + before + inside + after
    if price["model"] in ("volume", "stairstep"):
        return share * listed(price, total) * min(max(inside, Fraction(0)), total) / total if total > 0 else Fraction(0)
    added = listed(price, behind + before + inside) - listed(price, behind + before)
    return min(share * max(added, Fraction(0)), max(listed(price, total) - listed(price, Fraction(0)), Fraction(0)))


def charged_in_order(price: Document, usage: list[Usage]) -> Fraction:
    """The first events free as far as the allowance goes, then the sum, discount, maximum."""
    total, left = Fraction(0), None if "free_units" not in price else Fraction(price["free_units"])
    for number, one in enumerate(sorted(usage, key=lambda one: (one.time, one.key))):
        inside = "free_events" in price or left is not None
        inside = inside and number < price.get("free_events", len(usage)) and (left is None or left > 0)
        used = max(one.value, Fraction(0))
        free = min(used, left) if inside and left is not None else Fraction(0)
        if not (inside and (left is None or used <= left)):
            total += _share(price, one.value - free, {}) if inside and free else one.charge
        left = None if left is None else left - used
    total = max(total, Fraction(0)) * (1 - Fraction(price.get("discount_rate", "0")))
    return min(total, Fraction(price["maximum"])) if "maximum" in price else total


def round_half_up(value: Fraction) -> int:
    """To an integer, halves up; nothing here is negative."""
    return floor(value + Fraction(1, 2))


ROUNDINGS: dict[str, Callable[[Fraction], Fraction]] = {
    "none": lambda units: units,
    "up": lambda units: Fraction(ceil(units)),
    "down": lambda units: Fraction(floor(units)),
    "half_up": lambda units: Fraction(round_half_up(units)),
}


def _graduated(price: Document, units: Fraction) -> Fraction:
    total, below = Fraction(0), Fraction(0)
    for number, tier in enumerate(price["tiers"]):
        if number and units <= below:
            break
        above = units if tier["up_to"] is None else min(units, Fraction(tier["up_to"]))
        slope = Fraction(tier.get("unit_price", "0")) + Fraction(tier.get("rate", "0"))
        total += (above - below) * slope + Fraction(tier.get("flat_price", "0"))
        below = above if tier["up_to"] is None else Fraction(tier["up_to"])
    return total


def _volume(price: Document, units: Fraction) -> Fraction:
    for tier in price["tiers"]:
        if tier["up_to"] is None or units <= Fraction(tier["up_to"]):
            return units * Fraction(tier.get("unit_price", "0")) + Fraction(tier.get("flat_price", "0"))
    raise AssertionError("the last tier is open")


MODELS: dict[str, Callable[[Document, Fraction], Fraction]] = {
    "per_unit": lambda price, units: units * Fraction(price["unit_price"]),
    "per_seat": lambda price, units: units * Fraction(price["unit_price"]),
    "flat": lambda price, _: Fraction(price["amount"]),
    "package": lambda price, units: ceil(units / Fraction(price["package_size"])) * Fraction(price["package_price"]),
    "graduated": _graduated,
    "volume": _volume,
    "stairstep": _volume,
    "graduated_percentage": _graduated,
}


def tally_of(counts: Mapping[str, int]) -> Tally:
    """The counts an invocation printed, as a tally."""
    return Tally(**{name: counts[name] for name in vars(Tally())})


def summed(tallies: Iterable[Tally]) -> Tally:
    """All of them together."""
    total = Tally()
    for tally in tallies:
        total += tally
    return total
