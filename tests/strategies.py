"""Hypothesis strategies that several test files share: catalogs as documents, usage as raw NDJSON records."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from lineitem.catalog.model import Price
from lineitem.catalog.promotion import WHOLE
from tests.integration.oracle import EXPRESSIONS, FILTERS
from tests.rate import event_oracle, oracle, telecom_oracle

START = datetime(2026, 9, 20, tzinfo=UTC)
CHANGE = datetime(2026, 10, 17, 9, 30, tzinfo=UTC)
"""When the second version of the pricebook takes effect."""
CHANGES = (CHANGE.isoformat(), "2026-10-25T00:30:00+00:00")
"""When those after the first do."""
END = datetime(2026, 11, 14, tzinfo=UTC)
ACCOUNTS = ("paris", "tokyo", "chatham", "walk-in")
TYPES = ("a.used", "b.used")

# Instants where a mistake in a bound would show: starts of October and November in the accounts' zones, the pricebook's
# change, ends of windows, the two sides of the hour that Paris has twice.
_INSTANTS = (
    "2026-09-30T22:00:00", "2026-09-30T15:00:00", "2026-09-30T11:00:00", "2026-10-01T00:00:00", "2026-10-01T04:00:00",
    "2026-10-31T23:00:00", "2026-10-31T15:00:00", "2026-10-31T10:15:00", "2026-11-01T00:00:00", "2026-11-01T04:00:00",
    "2026-10-17T09:30:00", "2026-10-05T12:00:00", "2026-10-05T13:00:00", "2026-10-25T00:30:00", "2026-10-25T01:00:00",
)  # fmt: skip
EDGES = tuple(datetime.fromisoformat(text).replace(tzinfo=UTC) for text in _INSTANTS)


@dataclass(frozen=True)
class Record:
    """One line of a file. ``id`` names the event; records of one id and other content are conflicts."""

    id: str
    line: bytes


# --- catalogs


def _text(digits: int, places: int) -> str:
    return f"{digits // 10**places}.{digits % 10**places:0{places}}" if places else str(digits)


def decimals(largest: int, places: int = 12, *, least: int = 0) -> st.SearchStrategy[str]:
    """Decimal texts of up to ``places`` decimals."""
    return st.builds(_text, st.integers(least, largest), st.integers(0, places))


_UNIT_PRICES = st.sampled_from(["0", "1", "0.0000025", "0.333333333333", "0.0000000005", "12.34"]) | decimals(10**6)
_BOUNDS = st.lists(st.sampled_from(["0.5", "1", "2", "7", "10.25", "100", "5000"]), max_size=3, unique=True)
_SOME = st.sampled_from(["0.5", "1", "3", "1.25", "250"])


@st.composite
def prices(draw: st.DrawFn, id_: str, meter: str) -> dict[str, Any]:
    """Any price of the models over the period's quantity, with any of the options."""
    model = draw(st.sampled_from(["per_unit", "graduated", "volume", "package", "stairstep", "graduated_percentage"]))
    itemize = draw(st.sampled_from(["each", "each", "hour", "day", "minute"]))
    price: dict[str, Any] = {
        "id": id_,
        "meter": meter,
        "model": model,
        "currency": draw(CURRENCIES),
        "itemize": itemize,
    }
    if model == "per_unit":
        price["unit_price"] = draw(_UNIT_PRICES)
    elif model == "package":
        price |= {"package_size": draw(_SOME), "package_price": draw(_UNIT_PRICES)}
    else:
        bounds = [*sorted(draw(_BOUNDS), key=float), None]
        part = {"graduated": ("unit_price", _UNIT_PRICES), "volume": ("unit_price", _UNIT_PRICES)}
        name, amounts = part.get(model, ("rate", st.sampled_from(["0", "0.029", "0.333333333333", "1"])))
        price["tiers"] = [
            {"up_to": bound, "flat_price": draw(st.sampled_from(["0", "0", "1.5"]))}
            | ({} if model == "stairstep" else {name: draw(amounts)})
            for bound in bounds
        ]
    optional = {
        "included": _SOME,
        "maximum": st.sampled_from(["0", "3.5", "1000"]),
        "discount_rate": st.sampled_from(["0.1", "0.333", "1"]),
        "transform": st.builds(
            lambda divide_by, rounding: {"divide_by": divide_by, "round": rounding},
            st.sampled_from(["1000", "3", "0.5"]), st.sampled_from(["none", "up", "down", "half_up"]),
        ),
    }  # fmt: skip
    for name, values in optional.items():
        if draw(st.integers(0, 3)) == 0:
            price[name] = draw(values)
    return draw(with_minimum(price))


@st.composite
def flats(draw: st.DrawFn) -> dict[str, Any]:
    """A price without a meter."""
    price = {"id": "base", "model": "flat", "amount": draw(st.sampled_from(["49", "0.10", "7.777777777"]))}
    price |= {"currency": draw(CURRENCIES), "prorate": draw(st.sampled_from(["none", "day", "second"]))}
    return price | draw(
        st.sampled_from([{}, {"charge": "in_advance"}, {"charge": "in_arrears", "discount_rate": "0.333"}])
    )


@st.composite
def commitments(draw: st.DrawFn) -> dict[str, Any]:
    """A commitment over all prices of its currency."""
    price = {"id": "floor", "model": "commitment", "amount": draw(st.sampled_from(["5", "250.5", "0.000000001"]))}
    return price | {"currency": draw(CURRENCIES), "prorate": draw(st.sampled_from(["none", "day", "second"]))}


@st.composite
def with_minimum(draw: st.DrawFn, price: dict[str, Any]) -> dict[str, Any]:
    """Sometimes with a minimum, which no maximum may contradict."""
    if draw(st.integers(0, 2)) == 0:
        price["minimum"] = draw(
            st.sampled_from(["2", "3.25", "40"] if "maximum" not in price else ["0", price["maximum"]])
        )
    return price


EVENT_MODELS = ("percentage", "dynamic", "matrix", "telecom")
CURRENCIES = st.sampled_from(["USD", "USD", "EUR"])
_PROMOTIONS = st.sampled_from(
    [
        {"discount_rate": "0.125", "from": "2026-10-10T00:00:00+00:00", "until": "2026-11-05T00:00:00+00:00"},
        {"discount_rate": "1", "until": CHANGE.isoformat()},
        {"discount_rate": "0.333333333333", "from": "2026-10-07T10:00:00+00:00", "until": "2026-10-21T16:30:00+02:00"},
    ]
)
_RATES = st.sampled_from(["0", "0.013", "0.0299", "0.333333333333", "1"])


@st.composite
def event_prices(draw: st.DrawFn, id_: str, meter: str) -> dict[str, Any]:
    """Any per-event price, with any of the options; the meter must be a sum or a count."""
    model = draw(st.sampled_from(["percentage", "percentage", "dynamic", "matrix", "telecom"]))
    price: dict[str, Any] = {
        "id": id_,
        "meter": meter,
        "model": model,
        "currency": draw(CURRENCIES),
        "itemize": draw(st.sampled_from(["each", "each", "hour", "day"])),
    }
    optional: dict[str, st.SearchStrategy[Any]] = {
        "maximum": st.sampled_from(["0", "3.5", "1000"]),
        "discount_rate": st.sampled_from(["0.1", "0.333", "1"]),
    }
    if model == "percentage" and draw(st.booleans()):
        price |= {"rate": draw(_RATES), "promotion": draw(_PROMOTIONS), "per_event": "0.25"}
    elif model == "percentage":
        price["rate"] = draw(_RATES)
        optional |= {
            "per_event": st.sampled_from(["0.25", "2"]),
            "minimum_per_event": st.sampled_from(["0", "1.75"]),
            "maximum_per_event": st.sampled_from(["3", "12"]),
            "free_events": st.integers(1, 4),
            "free_units": st.sampled_from(["0.5", "3", "250"]),
        }
    elif model == "telecom":
        price |= {"rate": draw(_UNIT_PRICES), "per": "7"}
        optional |= {
            "increments": st.sampled_from([{"first": "30", "next": "6"}, {"first": "0.25", "next": "1"}]),
            "connect_fee": st.sampled_from(["0.05", "1"]),
            "round": st.sampled_from([{"decimals": 4, "mode": "up"}, {"decimals": 0, "mode": "down"}]),
        }
    elif model == "dynamic":
        price["amount"] = "data.deep.u"
        optional["promotion"] = _PROMOTIONS
        optional["multiplier"] = st.sampled_from(["1.15", "0.333333"])
    else:
        cells = [{"when": {"model": "m-1"}, "unit_price": "0.5"}, {"when": {"model": "3"}, "unit_price": "0.0000001"}]
        default = [{"when": {}, "unit_price": draw(_UNIT_PRICES)}] if draw(st.booleans()) else []
        price |= {"dimensions": ["data.model"], "cells": [*cells, *default]}
    for name, values in optional.items():
        if draw(st.booleans()):
            price[name] = draw(values)
    return draw(with_minimum(price))


@st.composite
def meters(draw: st.DrawFn, id_: str) -> dict[str, Any]:
    """Any meter over one of two event types."""
    aggregation = draw(st.sampled_from(["sum", "count", "max", "unique", "latest"]))
    meter: dict[str, Any] = {"id": id_, "event_type": draw(st.sampled_from(TYPES)), "aggregation": aggregation}
    if aggregation != "count":
        computed = [] if aggregation == "unique" else sorted(EXPRESSIONS)
        meter["value"] = draw(st.sampled_from(["data.v", "data.v", "data.deep.u", *computed]))
    if aggregation in ("sum", "max", "latest"):
        meter["scale"] = draw(st.sampled_from([0, 2, 9, 9]))
    if draw(st.integers(0, 2)) == 0:
        meter["filter"] = draw(st.sampled_from(sorted(FILTERS)))
    if draw(st.booleans()):
        meter["dimensions"] = ["data.model"]
    return meter


def _by_event(price: dict[str, Any]) -> bool:
    return price["model"] in EVENT_MODELS


def continuing(
    draw: st.DrawFn, price: dict[str, Any], before: list[dict[str, Any]], summable: set[str]
) -> dict[str, Any]:
    """The price, which may go on with the tiers of the one with its id in the version before."""
    found = next((one for one in before if one["id"] == price["id"]), None)
    if found is None or price.get("meter") not in summable or _by_event(price) or draw(st.booleans()):
        return price
    kept = {name: value for name, value in price.items() if name != "minimum"}
    return kept | {"on_change": "continue", "currency": found["currency"]}


def pooled(draw: st.DrawFn, versions: list[list[dict[str, Any]]], found: list[dict[str, Any]]) -> None:
    """Sometimes lets prices share included units, or carry them over, in one version or all."""
    if draw(st.integers(0, 2)):
        return
    scales = {meter["id"]: 0 if meter["aggregation"] == "count" else meter.get("scale", 9) for meter in found}
    scale = draw(st.sampled_from(sorted(set(scales.values()))))
    pool = {"included": draw(st.sampled_from(["3", "100"]))} | draw(st.sampled_from([{}, {"rollover_max": "40"}]))
    pool |= {"pool": "shared"} if draw(st.booleans()) or "rollover_max" not in pool else {}
    shares = {price["id"] for price in versions[0] if draw(st.booleans())}
    shared: set[str] = set()
    for version in versions:
        before, shared = shared, set()
        for at, price in enumerate(version):
            counts = scales.get(price.get("meter", "")) == scale and price["id"] in shares
            summable = any(m["id"] == price.get("meter") and m["aggregation"] in ("sum", "count") for m in found)
            left_out = ("transform", "on_change", "included", *(["promotion"] if price["model"] in WHOLE else []))
            kept = {name: value for name, value in price.items() if name not in left_out}
            if counts and summable and not _by_event(price) and draw(st.integers(0, 3)):
                version[at] = kept | pool
                shared.add(price["id"])
            elif price["id"] in before:
                version[at] = {name: value for name, value in price.items() if name != "on_change"}


@st.composite
def overrides(draw: st.DrawFn, replaced: list[dict[str, Any]], summable: set[str]) -> list[dict[str, Any]]:
    """Up to two versions of an account's own prices, with or without a gap between them."""
    starts = draw(st.lists(st.sampled_from(EDGES), max_size=2, unique=True).map(sorted))
    ends = [{"effective_until": start.isoformat()} for start in starts[1:] if draw(st.booleans())]
    chosen = [draw(st.lists(st.sampled_from(replaced), max_size=2, unique_by=lambda p: p["id"])) for _ in starts]
    found: list[dict[str, Any]] = []
    for number, start in enumerate(starts, 1):
        before = found[-1]["prices"] if found else []
        own = [draw(prices(price["id"], price["meter"])) for price in chosen[number - 1]]
        found.append(
            {
                "version": number,
                "effective_from": start.isoformat(),
                **(ends[0] if ends and number == 1 else {}),
                "prices": [continuing(draw, price, before, summable) for price in own],
            }
        )
    return found


ACTIVE = st.sampled_from(
    [
        {},
        {"active_from": "2020-01-01"},
        {"active_from": "2026-10-10", "active_until": "2026-11-20T12:00:00+00:00"},
        {"active_from": "2026-09-30T22:30:00+00:00", "active_until": "2026-10-02"},
    ]
)
"""When an account is active, if it says so."""


@st.composite
def catalogs(draw: st.DrawFn) -> dict[str, Any]:
    """A catalog document: one to three meters, one or two prices each, two or three versions in which some prices change,
    with tiers that start anew or go on, and prices of an account's own."""
    found = [draw(meters(f"meter-{number}")) for number in range(draw(st.integers(1, 3)))]
    of_events = {meter["id"] for meter in found if meter["aggregation"] in ("sum", "count")}

    def any_price(id_: str, meter: str) -> dict[str, Any]:
        per_event = meter in of_events and draw(st.integers(0, 2)) == 0
        price = draw(event_prices(id_, meter) if per_event else prices(id_, meter))
        if not _by_event(price) and meter in of_events and draw(st.booleans()):
            price["promotion"] = draw(_PROMOTIONS)
        return price

    first = [
        any_price(f"{meter['id']}-price-{number}", meter["id"])
        for meter in found
        for number in range(draw(st.integers(1, 2)))
    ]
    if draw(st.booleans()):
        first.append(draw(flats()))
    if draw(st.integers(0, 2)) == 0:
        first.append(draw(commitments()))
    versions = [first]
    for _ in range(draw(st.integers(1, 2))):
        before = versions[-1]
        changed = [
            price if "meter" not in price or draw(st.booleans()) else any_price(price["id"], price["meter"])
            for price in before
        ]
        versions.append([continuing(draw, price, before, of_events) for price in changed])
    pooled(draw, versions, found)
    starts = [draw(st.sampled_from(["2020-01-01T00:00:00+00:00", "2026-10-01T00:00:00+00:00"])), *CHANGES]
    return {
        "currency": "USD",
        "meters": found,
        "pricebooks": [
            {"id": "standard", "version": number, "effective_from": start, "prices": found}
            for number, (start, found) in enumerate(zip(starts, versions, strict=False), 1)
        ],
        "accounts": {
            "defaults": {"pricebook": "standard", "timezone": "America/New_York", "open": draw(st.integers(0, 5)) > 0},
            "list": [
                {"id": "paris", "timezone": "Europe/Paris", "tags": {"cost_center": "42"}, **draw(ACTIVE)},
                {
                    "id": "tokyo",
                    "timezone": "Asia/Tokyo",
                    "overrides": draw(overrides([price for price in first if "meter" in price], of_events)),
                },
                {"id": "chatham", "timezone": "Pacific/Chatham", **draw(ACTIVE)},
            ],
        },
    }


MODEL_PRICES: dict[str, st.SearchStrategy[Price]] = {
    **{name: oracle.prices((name,)) for name in oracle.MODEL_NAMES},
    "percentage": event_oracle.percentages(),
    "dynamic": event_oracle.carried("dynamic"),
    "cost_plus": event_oracle.carried("cost_plus"),
    "matrix": event_oracle.matrices(),
    "telecom": telecom_oracle.telecoms(),
    "flat": oracle.flats(),
    "commitment": oracle.commitments(),
}
"""Any price of each registered model (``tests.rate.test_model_laws``). A new model adds a line, and its oracle."""

# --- usage

GOOD = (
    "0", "1", "2", "5", "7.5", "-3", "-0.25", "1.0", "1e2", '"2.50"', '"-4"', '"1e1"', "0.333333333", "1000000007",
    "9223372036854775807", "-9223372036854775808", "9223372036854775808", "123456789012345678901", "99999999999.999999999",
)  # fmt: skip
BAD = ("null", "true", '"x"', '" 7"', "[1]", '{"n":1}', "0.0000000001", "1e400", "1e39", "NaN", "1e-400", '""', "-")
VALUES = st.sampled_from(GOOD) | st.sampled_from(GOOD) | st.sampled_from(GOOD) | st.sampled_from(BAD)
TIMES = st.one_of(
    st.builds(
        lambda edge, us: edge + timedelta(microseconds=us), st.sampled_from(EDGES), st.sampled_from([-1, 0, 0, 1])
    ),
    st.builds(
        lambda minutes: START + timedelta(minutes=minutes), st.integers(0, (END - START) // timedelta(minutes=1))
    ),
)
_OFFSETS = st.sampled_from([0, 0, 0, 120, -330])


def _instant(time: datetime, offset_minutes: int) -> str:
    if not offset_minutes:
        return time.isoformat().replace("+00:00", "Z")
    sign = "-" if offset_minutes < 0 else "+"
    hours, minutes = divmod(abs(offset_minutes), 60)
    local = (time + timedelta(minutes=offset_minutes)).replace(tzinfo=None).isoformat()
    return f"{local}{sign}{hours:02}:{minutes:02}"


@st.composite
def records(draw: st.DrawFn, id_: str, times: st.SearchStrategy[datetime] = TIMES) -> Record:
    """One record; one in twenty is no event at all."""
    if draw(st.integers(0, 19)) == 0:
        return Record(id_, draw(st.sampled_from(BROKEN)))
    type_ = draw(st.sampled_from([*TYPES, *TYPES, "c.ignored"]))
    time = _instant(draw(times), draw(_OFFSETS))
    data = f'"v":{draw(VALUES)},"deep":{{"u":{draw(VALUES)}}},"model":{draw(_MODELS)},"status":{draw(_STATUSES)}'
    name = "" if draw(st.integers(0, 15)) == 0 else f'"id":"{id_}",'
    account = draw(st.sampled_from(ACCOUNTS))
    about = f'"source":"/s","type":"{type_}","subject":"{account}","time":"{time}"'
    text = f'{{"specversion":"1.0",{name}{about},"data":{{{data}}}}}'
    return Record(id_, text.encode())


_MODELS = st.sampled_from(['"m-1"', '"m-2"', "null", "3", '["m-1"]'])
_STATUSES = st.sampled_from(["200", "499", "500", "null", '"200"'])
BROKEN = (
    b'{"a":', b'"text"', b"]", b'{"specversion":"1.0"}', b"\xff\xfe", b"nonsense",
    b'{"specversion":"1.0","id":"b","source":"/s","type":"a.used","subject":"paris","time":"yesterday","data":{"v":1}}',
    b'{"specversion":"1.0","id":"b","source":"/s","type":"a.used","subject":"paris","time":"1999-12-31T23:59:59Z"}',
    b'{"specversion":"1.0","id":"b","source":"/s","type":"a.used","subject":"","time":"2026-10-01T00:00:00Z"}',
)  # fmt: skip


def usage(size: int = 20, times: st.SearchStrategy[datetime] = TIMES) -> st.SearchStrategy[list[Record]]:
    """Records of distinct events."""
    return st.integers(1, size).flatmap(
        lambda count: st.tuples(*(records(f"e-{n}", times) for n in range(count))).map(list)
    )


@st.composite
def repeated(draw: st.DrawFn, events: list[Record]) -> list[Record]:
    """The same events in any order, some of them more than once."""
    again = draw(st.lists(st.sampled_from(events), max_size=6))
    return draw(st.permutations([*events, *again]))


@st.composite
def conflicting(draw: st.DrawFn, events: list[Record]) -> list[Record]:
    """Records that take the ids of ``events`` for other content."""
    return [draw(records(event.id)) for event in draw(st.lists(st.sampled_from(events), max_size=4))]


@st.composite
def cut(draw: st.DrawFn, lines: list[Record], parts: int = 3) -> list[list[Record]]:
    """The records in order, split over one to ``parts`` files."""
    bounds = sorted(draw(st.lists(st.integers(0, len(lines)), max_size=parts - 1)))
    return [lines[a:b] for a, b in zip([0, *bounds], [*bounds, len(lines)], strict=True) if b > a]


def file_of(lines: list[Record]) -> bytes:
    """An NDJSON file."""
    return b"".join(record.line + b"\n" for record in lines)
