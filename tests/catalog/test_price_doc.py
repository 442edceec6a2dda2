"""A price document is read strictly: each defect is named with its path, all of them at once."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.catalog.currencies import currency_problem
from lineitem.catalog.model import Itemize, Rounding, Tier, Transform
from lineitem.catalog.price_doc import parse_price
from lineitem.catalog.price_reader import Problem, decimal_of, path_text

FLAT: dict[str, Any] = {"id": "p", "meter": "m", "model": "per_unit", "currency": "EUR", "unit_price": "0.004"}
TIERED: dict[str, Any] = {
    "id": "p", "meter": "m", "model": "graduated", "currency": "EUR",
    "tiers": [{"up_to": "10", "unit_price": "2", "flat_price": "1"}, {"up_to": None, "unit_price": 1}],
}  # fmt: skip
PACKAGE: dict[str, Any] = {
    "id": "p", "meter": "m", "model": "package", "currency": "EUR", "package_size": 10, "package_price": "3",
}  # fmt: skip
SHARE: dict[str, Any] = {"id": "p", "meter": "m", "model": "percentage", "currency": "EUR", "rate": "0.029"}


def problems(doc: object, **options: Any) -> list[tuple[str, str]]:
    """(path, text) of every defect; a price comes exactly without any."""
    price, found = parse_price(doc, **options)
    assert (price is None) == bool(found)
    return [(path_text(problem.path), problem.text) for problem in found]


def tiers(*bounds: object) -> dict[str, Any]:
    return {**TIERED, "tiers": [{"up_to": bound, "unit_price": "1"} for bound in bounds]}


def test_a_whole_price_is_read() -> None:
    """Every key ends up typed; decimals are Decimal, the rest enums and values."""
    price, found = parse_price(
        {**TIERED, "itemize": "hour", "included": 5, "maximum": "100", "discount_rate": "0.15", "description": "Calls",
         "transform": {"divide_by": "1000", "round": "half_up"}}
    )  # fmt: skip
    assert found == []
    assert price is not None
    assert price.itemize is Itemize.HOUR
    assert price.tiers == (Tier(Decimal(10), Decimal(2), Decimal(1)), Tier(None, Decimal(1), Decimal(0)))
    assert price.transform == Transform(Decimal(1000), Rounding.HALF_UP)
    assert (price.included, price.maximum, price.discount_rate) == (Decimal(5), Decimal(100), Decimal("0.15"))


def test_the_currency_of_the_file_is_the_default() -> None:
    """A price without a currency takes the file's; without either it has none."""
    doc = {key: value for key, value in FLAT.items() if key != "currency"}
    price, _ = parse_price(doc, default_currency="JPY")
    assert price is not None
    assert price.currency == "JPY"
    assert problems(doc) == [("currency", "is missing")]


def test_restart_is_what_happens_anyway() -> None:
    """Writing it makes no other price."""
    assert parse_price({**FLAT, "on_change": "restart"}) == parse_price(FLAT)
    price, found = parse_price({**FLAT, "on_change": "continue"})
    assert (price is not None and price.continues, found) == (True, [])


def test_a_quote_needs_no_names() -> None:
    """``standalone`` leaves id and meter out; the catalog does not."""
    doc = {"model": "per_unit", "currency": "EUR", "unit_price": 1}
    assert problems(doc, standalone=True) == []
    assert problems(doc) == [("id", "is missing"), ("meter", "is missing")]


@pytest.mark.parametrize(
    ("doc", "path", "words"),
    [
        ({**FLAT, "unit_price": 0.1}, "unit_price", "write it in quotes"),
        ({**FLAT, "unit_price": "-1"}, "unit_price", "negative"),
        ({**FLAT, "unit_price": True}, "unit_price", "not a number"),
        ({**FLAT, "unit_price": "1_000"}, "unit_price", "not a decimal"),
        ({**FLAT, "unit_price": "٣"}, "unit_price", "not a decimal"),
        ({**FLAT, "unit_price": "Infinity"}, "unit_price", "not a decimal"),
        ({**FLAT, "unit_price": Decimal("NaN")}, "unit_price", "not a finite"),
        ({**FLAT, "unit_price": "0." + "0" * 18 + "1"}, "unit_price", "18 decimals"),
        ({**FLAT, "unit_price": 10**38}, "unit_price", "38 digits"),
        ({**FLAT, "unit_price": "1e38"}, "unit_price", "38 digits"),
        ({**FLAT, "unit_price": 10**5000}, "unit_price", "38 digits"),
        ({**FLAT, "unit_price": "9" * 10_000}, "unit_price", "not a decimal"),
        ({**FLAT, "unit_price": []}, "unit_price", "not a number"),
        ({**FLAT, "unit_price": None}, "unit_price", "missing"),
        ({**FLAT, "unit_pirce": "1"}, "unit_pirce", "did you mean unit_price"),
        ({**FLAT, "tiers": []}, "tiers", "unknown key of a per_unit price"),
        ({**FLAT, "model": "per_units"}, "model", "known are per_unit, graduated, volume, package"),
        ({**FLAT, "model": 7}, "model", "not a text"),
        ({**FLAT, "id": ""}, "id", "not a text"),
        ({**FLAT, "id": 7}, "id", "not a text"),
        ({**FLAT, "currency": "EUX"}, "currency", "ISO 4217"),
        ({**FLAT, "currency": "eur"}, "currency", "ISO 4217"),
        ({**FLAT, "currency": "XAU"}, "currency", "no minor unit"),
        ({**FLAT, "itemize": "week"}, "itemize", "each, minute, hour, day"),
        ({**FLAT, "itemize": ["hour"]}, "itemize", "not one of"),
        ({**SHARE, "on_change": "continue"}, "on_change", "no tiers to continue"),
        ({**FLAT, "on_change": True}, "on_change", "restart, continue"),
        ({**FLAT, "discount_rate": "10"}, "discount_rate", "share"),
        ({**FLAT, "included": "-1"}, "included", "negative"),
        ({**FLAT, "transform": "1000"}, "transform", "mapping"),
        ({**FLAT, "transform": {"round": "up"}}, "transform.divide_by", "missing"),
        ({**FLAT, "transform": {"divide_by": "0"}}, "transform.divide_by", "more than 0"),
        ({**FLAT, "transform": {"divide_by": "1", "round": "even"}}, "transform.round", "none, up, down, half_up"),
        ({**FLAT, "transform": {"divide_by": "1", "by": 2}}, "transform.by", "unknown key"),
        ({**PACKAGE, "package_size": 0}, "package_size", "more than 0"),
        ({**TIERED, "tiers": []}, "tiers", "at least one"),
        ({**TIERED, "tiers": {}}, "tiers", "list"),
        ({**TIERED, "tiers": ["10", {"unit_price": 1}]}, "tiers[0]", "mapping"),
        ({**TIERED, "tiers": [{"up_to": None}]}, "tiers[0]", "unit_price or flat_price"),
        ({**TIERED, "tiers": [{"up_to": None, "rate": "1", "flat_price": 0}]}, "tiers[0].rate", "unknown key"),
        (tiers("10", "10", None), "tiers[1].up_to", "must ascend"),
        (tiers("10", "9.99", None), "tiers[1].up_to", "must ascend"),
        (tiers("10", None, None), "tiers[1].up_to", "only the last"),
        (tiers("10", "20"), "tiers[1].up_to", "no upper bound"),
        (tiers("x", None), "tiers[0].up_to", "not a decimal"),
        ("per_unit", "", "mapping"),
    ],
)  # fmt: skip
def test_each_defect_is_named(doc: object, path: str, words: str) -> None:
    """One defect, one problem, at its place."""
    found = problems(doc)
    assert [where for where, _ in found] == [path]
    assert words in found[0][1]
    assert len(found[0][1]) < 200


def test_all_defects_are_told_at_once() -> None:
    """A person fixes a file in one go."""
    doc = {**tiers("10", "5", "20"), "included": 0.5, "colour": "red", "currency": "EUX"}
    assert [path for path, _ in problems(doc)] == ["colour", "currency", "tiers[1].up_to", "tiers[2].up_to", "included"]


def test_where_leads_every_path() -> None:
    """A loader passes where the price stands, and can find the line."""
    _, found = parse_price(tiers("10", "5", None), where=("pricebooks", 0, "prices", 3))
    assert [problem.path for problem in found] == [("pricebooks", 0, "prices", 3, "tiers", 1, "up_to")]
    assert str(found[0]).startswith("pricebooks[0].prices[3].tiers[1].up_to: tiers must ascend")
    assert str(Problem((), "text")) == "text"


@given(st.integers(-(10**20), 10**20), st.integers(0, 18))
def test_decimals_are_read_exactly(number: int, places: int) -> None:
    """A decimal text is the number it says; an int and a Decimal are what they are."""
    text = f"{number}e-{places}"
    assert decimal_of(text, negative=True) == (Decimal(text), None)
    assert decimal_of(Decimal(text), negative=True) == (Decimal(text), None)
    assert decimal_of(number, negative=True) == (Decimal(number), None)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.decimals(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from(
        ["id", "meter", "model", "currency", "itemize", "description", "included", "maximum", "discount_rate",
         "transform", "unit_price", "tiers", "package_size", "package_price"]
    ),
    st.sampled_from([FLAT, TIERED, PACKAGE]),
)  # fmt: skip
def test_nothing_a_file_can_hold_breaks_the_reader(value: object, key: str, doc: dict[str, Any]) -> None:
    """Any value at any key gives a price or problems, never an exception."""
    price, found = parse_price({**doc, key: value})
    assert (price is None) == bool(found)


def test_known_currencies_pass() -> None:
    """Currencies with none, two and three minor digits are all fine."""
    assert [currency_problem(code) for code in ("JPY", "EUR", "KWD")] == [None, None, None]


EVENTFUL: dict[str, Any] = {"id": "p", "meter": "m", "model": "percentage", "currency": "EUR", "rate": "0.1"}
WINDOW: dict[str, Any] = {"discount_rate": "0.2", "from": "2026-11-01T00:00:00Z", "until": "2026-12-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("doc", "path", "text"),
    [
        (FLAT | {"minimum": "5", "maximum": "4"}, "minimum", "5 is more than maximum, 4"),
        (FLAT | {"minimum": "1" + "0" * 29}, "minimum", "more than a ledger holds"),
        (
            TIERED | {"model": "volume", "promotion": WINDOW, "included": "5", "pool": "a"},
            "promotion",
            "keep one of promotion and shared or carried units",
        ),
        (
            {"id": "p", "model": "flat", "currency": "EUR", "amount": "1", "promotion": WINDOW},
            "promotion",
            "a flat price charges the month, and no usage at a time",
        ),
        (
            FLAT | {"model": "per_seat", "promotion": WINDOW},
            "promotion",
            "a per_seat price charges the month, and no usage at a time",
        ),
        (FLAT | {"promotion": [WINDOW, WINDOW]}, "promotion", "a mapping"),
        (FLAT | {"promotion": WINDOW | {"zone": "Mars"}}, "promotion.zone", "does not exist"),
        (FLAT | {"promotion": WINDOW | {"from": "2026-02-30", "zone": "UTC"}}, "promotion.from", "is no day"),
        (FLAT | {"promotion": {"discount_rate": "0.1", "from": None}}, "promotion", "has a window"),
        (EVENTFUL | {"promotion": WINDOW, "free_events": 3}, "promotion", "does not go with free_events"),
        (EVENTFUL | {"promotion": WINDOW | {"discount_rate": "1.5"}}, "promotion.discount_rate", "more than 1"),
        (EVENTFUL | {"promotion": {"discount_rate": "0.1"}}, "promotion", "has a window"),
        (
            EVENTFUL | {"promotion": WINDOW | {"until": "2026-11-01T00:00:00Z"}},
            "promotion.until",
            "must lie after from",
        ),
        (EVENTFUL | {"promotion": WINDOW | {"from": "2026-11-01"}}, "promotion.from", "asks for the promotion's zone"),
        ({"id": "p", "model": "flat", "currency": "EUR"}, "amount", "is missing"),
        ({"id": "p", "model": "flat", "currency": "EUR", "amount": "data.x"}, "amount", "is not a decimal number"),
        (
            {"id": "p", "model": "flat", "currency": "EUR", "amount": "1", "meter": "m"},
            "meter",
            "unknown key of a flat",
        ),
        ({"id": "p", "model": "flat", "currency": "EUR", "amount": "1", "prorate": "hour"}, "prorate", "not one of"),
    ],
)
def test_dues_and_promotions_are_checked(doc: dict[str, Any], path: str, text: str) -> None:
    """What cannot be posted as it is written is told where it stands."""
    (found,) = problems(doc)
    assert found[0] == path
    assert text in found[1]


def test_saying_what_holds_anyway_is_no_other_content() -> None:
    """``in_arrears`` and ``none`` are the defaults and are not kept."""
    short = {"id": "p", "model": "flat", "currency": "EUR", "amount": "49.0"}
    price, _ = parse_price(short)
    assert price == parse_price(short | {"charge": "in_arrears", "prorate": "none"})[0]
    assert price is not None
    assert (price.meter, price.amount) == ("", "49")


def test_a_promotion_may_name_days_of_a_zone() -> None:
    """They begin at midnight there: in Paris an hour before it does in UTC, in summer two."""
    days = {"discount_rate": "0.2", "from": "2026-10-24", "until": "2026-10-26", "zone": "Europe/Paris"}
    instants = {"discount_rate": "0.2", "from": "2026-10-23T22:00:00Z", "until": "2026-10-25T23:00:00Z"}
    found = [parse_price(TIERED | {"promotion": promotion}) for promotion in (days, instants)]
    assert found[0] == found[1]
    assert found[0][1] == []
