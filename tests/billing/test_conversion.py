"""Lines are converted once, by the rate a rule allows, exactly; an oracle of fractions knows the same amounts."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.billing.conversion import (
    Applied,
    NoRate,
    Original,
    RateTable,
    conversion_day,
    convert,
    defects,
)
from lineitem.billing.history import Claimed, History
from lineitem.billing.invoice import canonical_bytes, invoice_from_json, invoice_to_json
from lineitem.billing.rounding import RoundingMode
from lineitem.catalog.model import Conversion, ConversionDate, OwnCurrency
from lineitem.catalog.rate_file import Rate
from lineitem.core.errors import IntegrityError
from tests.billing.samples import OCTOBER, final, priced

ON = date(2026, 10, 31)
RULE = Conversion("ecb", ConversionDate.PERIOD_END, 5)
PIVOT = Conversion("ecb", ConversionDate.PERIOD_END, 5, "EUR")
NANO = 10**9


def rate(base: str, quote: str, value: str, day: date = date(2026, 10, 30), source: str = "ecb") -> Rate:
    return Rate(source, base, quote, day, Decimal(value))


def table(*rates: Rate, rule: Conversion = RULE) -> RateTable:
    return RateTable(rule, ON, rates)


def test_the_day_of_a_rule() -> None:
    """The last of the posting month, whatever its length, or the day of the invoice."""
    issued = date(2026, 11, 3)
    assert conversion_day(RULE, OCTOBER, issued) == ON
    assert conversion_day(Conversion("ecb", ConversionDate.INVOICE_DATE, 5), OCTOBER, issued) == issued


def test_a_rate_multiplies_from_its_base_and_divides_from_its_quote() -> None:
    """Exactly: a third is a third."""
    assert convert(90, "USD", [rate("USD", "EUR", "0.9")]) == (Fraction(81), "EUR")
    assert convert(1, "USD", [rate("EUR", "USD", "3")]) == (Fraction(1, 3), "EUR")
    assert convert(7, "EUR", []) == (Fraction(7), "EUR")
    with pytest.raises(ValueError, match="EUR/USD"):
        convert(1, "JPY", [rate("EUR", "USD", "3")])


def test_what_is_in_the_invoices_currency_is_not_converted() -> None:
    """Even where somebody lists a rate that leads there."""
    assert table(rate("EUR", "USD", "1.1")).path("EUR", "EUR") == ()


def test_the_newest_rate_counts_whichever_way_round() -> None:
    """Of one day the one whose base is converted."""
    older, newer = rate("USD", "EUR", "0.9", ON - timedelta(2)), rate("EUR", "USD", "1.1", ON - timedelta(1))
    assert table(older, newer).path("USD", "EUR") == (newer,)
    same = rate("USD", "EUR", "0.9", newer.day)
    assert table(same, newer).path("USD", "EUR") == (same,)


def test_a_rate_may_be_as_old_as_the_rule_says() -> None:
    """Five days are allowed, six are not; the message says how old it is."""
    assert len(table(rate("EUR", "USD", "1.1", ON - timedelta(5))).path("USD", "EUR")) == 1
    with pytest.raises(NoRate, match="6 days older, and max_age_days is 5"):
        table(rate("EUR", "USD", "1.1", ON - timedelta(6))).path("USD", "EUR")


def test_without_a_rate_there_is_no_invoice() -> None:
    """Never 1:1, and never across another currency that the rule does not name."""
    cross = (rate("EUR", "USD", "1.1"), rate("EUR", "JPY", "160"))
    with pytest.raises(NoRate, match="between USD and JPY from ecb"):
        table(*cross).path("USD", "JPY")
    assert table(*cross, rule=PIVOT).path("USD", "JPY") == cross
    with pytest.raises(NoRate, match="between EUR and KWD"):
        table(*cross, rule=PIVOT).path("USD", "KWD")


def test_a_stale_direct_rate_gives_way_to_the_pivot() -> None:
    """A pair that is no longer quoted does not stop what the rule allows."""
    stale = rate("USD", "JPY", "150", ON - timedelta(30))
    legs = (rate("EUR", "USD", "1.1"), rate("EUR", "JPY", "160"))
    assert table(stale, *legs, rule=PIVOT).path("USD", "JPY") == legs


@pytest.mark.parametrize(
    ("original", "told"),
    [
        (Original("USD", 1, (rate("EUR", "USD", "1.1"),)), []),
        (Original("EUR", 1, ()), []),
        (Original("USD", 1, ()), ["its rates lead from USD to USD"]),
        (
            Original("USD", 1, (rate("EUR", "JPY", "2"),)),
            ["the rate EUR/JPY of 2026-10-30 from ecb does not convert USD"],
        ),
        (
            Original("USD", 1, (rate("EUR", "USD", "1.1", ON + timedelta(1)),)),
            ["the rate EUR/USD of 2026-11-01 from ecb is not one that the rule allows"],
        ),
        (
            Original("EUR", 1, (rate("EUR", "USD", "1.1"), rate("EUR", "USD", "1.1"))),
            ["it was converted more than once", "it was converted although it is in the invoice's currency"],
        ),
    ],
)
def test_what_a_rule_does_not_allow_is_told(original: Original, told: list[str]) -> None:
    """Another source, a later day, two conversions, none."""
    assert defects(original, "EUR", Applied(RULE, ON)) == told


# --- invoices

_RATES = st.decimals(min_value="0.000000000000000001", max_value="1000000", places=18, allow_nan=False)
_AMOUNTS = st.integers(-(10**24), 10**24)


@given(
    amounts=st.lists(st.tuples(st.sampled_from(["USD", "JPY", "KWD", "EUR"]), _AMOUNTS), min_size=1, max_size=6),
    values=st.tuples(_RATES, _RATES, _RATES),
    inverse=st.booleans(),
    exponent=st.integers(0, 9),
    mode=st.sampled_from(list(RoundingMode)),
)
def test_every_line_is_its_exact_amount_converted_and_rounded_once(
    amounts: list[tuple[str, int]], values: tuple[Decimal, ...], inverse: bool, exponent: int, mode: RoundingMode
) -> None:
    """At any exponent and rate: half a minor unit at most from the fraction, and residuals add up to what is missing."""
    codes = ("USD", "JPY", "KWD")
    rates = {code: rate(code, "XCR", str(value)) for code, value in zip(codes, values, strict=True)}
    if inverse:
        rates["USD"] = rate("XCR", "USD", str(values[0]))
    rates["EUR"] = rate("EUR", "XCR", "1")
    made = final(
        [priced(f"p{at}", nano, currency=code) for at, (code, nano) in enumerate(amounts)],
        "XCR", mode=mode, own=OwnCurrency("XCR", exponent, "credits"), rates=table(*rates.values()),
    )  # fmt: skip
    unit = Fraction(1, 10**exponent)
    for (code, nano), line in zip(amounts, made.lines, strict=True):
        value = Fraction(rates[code].rate)
        exact = Fraction(nano, NANO) * (1 / value if inverse and code == "USD" else value)
        rounded = line.amount_minor * unit
        assert abs(rounded - exact) <= unit / 2
        assert abs(Fraction(line.amount_nano, NANO) - exact) <= Fraction(1, 2 * NANO)
        if abs(rounded - exact) == unit / 2 and mode is RoundingMode.HALF_UP:
            assert abs(rounded) > abs(exact)
        assert line.original is not None
        assert (line.original.currency, line.original.amount_nano) == (code, nano)
        assert line.amount_minor * 10 ** (9 - exponent) + line.residual_nano == line.amount_nano
        assert 2 * abs(line.residual_nano) <= 10 ** (9 - exponent)
    assert made.total_minor == sum(line.amount_minor for line in made.lines)
    exact_sum = sum(line.amount_nano for line in made.lines)
    assert exact_sum == made.total_minor * 10 ** (9 - exponent) + made.residual_total_nano
    assert invoice_from_json(invoice_to_json(made)) == made


def test_rounding_looks_past_nine_decimals() -> None:
    """0.0049999999996 is less than half a cent, although nine decimals make it 0.005."""
    made = final([priced("p", 49_999_999_996, currency="USD")], "EUR", rates=table(rate("USD", "EUR", "0.0001")))
    (line,) = invoice_to_json(made)["lines"]
    assert (line["amount_exact"], line["amount"], line["residual"]) == ("0.005", "0.00", "0.005")


def test_a_converted_invoice_as_json() -> None:
    """Each line keeps what it was and by what it was converted; sums per currency tie it to the ledger."""
    sums = [
        priced("a", 10_800_000_001, currency="USD"),
        priced("b", 2_345_000_000, currency="EUR"),
        priced("c", 21_600_000_000, currency="USD"),
    ]
    found = invoice_to_json(final(sums, "EUR", rates=table(rate("EUR", "USD", "1.08"))))
    assert [line["amount"] for line in found["lines"]] == ["10.00", "2.35", "20.00"]
    used = {"base": "EUR", "quote": "USD", "rate": "1.08", "date": "2026-10-30", "source": "ecb"}
    assert found["lines"][0]["original"] == {"currency": "USD", "amount_exact": "10.800000001", "rates": [used]}
    assert found["lines"][1]["original"] == {"currency": "EUR", "amount_exact": "2.345", "rates": []}
    assert found["conversion"] == {
        "source": "ecb", "date_rule": "period_end", "date": "2026-10-31", "max_age_days": 5, "pivot": None,
        "totals": [
            {"currency": "EUR", "amount_exact": "2.345", "amount": "2.35"},
            {"currency": "USD", "amount_exact": "32.400000001", "amount": "30.00"},
        ],
    }  # fmt: skip


def test_the_same_price_in_two_currencies_is_two_lines() -> None:
    """A price that was moved from dollars to euros inside the month: amounts of two currencies are never added."""
    sums = [priced("a", NANO, currency="USD"), priced("a", NANO, currency="EUR", versions=(2,))]
    made = final(sums, "EUR", rates=table(rate("EUR", "USD", "2")))
    assert [(line.amount_minor, line.versions) for line in made.lines] == [(100, (2,)), (50, (1,))]


def test_an_altered_rate_is_noticed() -> None:
    """The digest covers every rate of every line."""
    found = invoice_to_json(final([priced("a", NANO, currency="USD")], "EUR", rates=table(rate("EUR", "USD", "1.08"))))
    found["lines"][0]["original"]["rates"][0]["rate"] = "1.09"
    with pytest.raises(IntegrityError):
        invoice_from_json(found)


def test_without_a_rule_nothing_is_different() -> None:
    """The document has no new key, so digests of invoices made before stay what they were."""
    made = final([priced("a", NANO)], "EUR")
    document = invoice_to_json(made)
    assert not {"conversion", "own_currency"} & document.keys()
    assert "original" not in document["lines"][0]
    assert made.digest == "01993b448c0dfcad15018fbd14f8535bb9dcec3d00e42c7fe03f9883cbd7f830"
    assert b"original" not in canonical_bytes(made)


# --- what has been claimed


def test_what_a_converted_invoice_claims_no_other_does() -> None:
    """It takes every currency: the next invoice in any of them starts above its cut."""
    history = History()
    history.add(Claimed("USD", False, {1: 3}, "A"))
    history.add(Claimed("EUR", True, {1: 7}, "B"))
    history.add(Claimed("EUR", False, {1: 9}, "C"))
    assert history.above({"USD", "EUR", "JPY"}) == {"USD": {1: 7}, "EUR": {1: 9}, "JPY": {1: 7}}
    assert [history.next_ordinal(code) for code in ("USD", "EUR", "JPY")] == [2, 3, 1]


def test_who_was_overtaken() -> None:
    """An invoice in dollars is no matter to one in euros, but to one that takes both."""
    history = History([Claimed("USD", False, {1: 3})])
    assert history.unmoved("EUR", False, 0)
    assert not history.unmoved("EUR", True, 0)
    assert not history.unmoved("USD", False, 0)
    assert history.unmoved("USD", True, 1)
