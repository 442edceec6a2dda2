"""Terms of calls: gaps and contradictions are refused with file, line and reason; layout is no content."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from lineitem.catalog.document import plain
from lineitem.catalog.load import parse_catalog
from lineitem.catalog.model import CallRate, CallStep, Peak, PeakMode, Price
from lineitem.catalog.price_doc import parse_price
from lineitem.core.errors import CatalogError
from tests.rate import telecom_oracle

PEAK: dict[str, Any] = {"hours": [["08:00", "18:00"]], "days": ["mon", "fri"]}
ROW: dict[str, Any] = {"prefix": "33", "rate": "0.10"}
CATALOG = """\
currency: EUR
meters: [{id: calls, event_type: call, aggregation: sum, value: data.seconds, unit: second, scale: 0}]
pricebooks:
  - id: standard
    version: 1
    effective_from: 2026-01-01T00:00:00Z
    prices:
      - id: voice
        meter: calls
        model: telecom
        destination: data.to
        per: 60
        peak: {hours: [["08:00", "18:00"]], days: [mon, tue, wed, thu, fri]}
        rates:
          - {prefix: "33", rate: "0.10", off_peak_rate: "0.04"}
          - {prefix: "44", rate: "0.10"}
          - prefix: "49"
            steps:
              - {up_to: 60, rate: "0.20", increment: 60, off_peak_rate: "0.1"}
              - {up_to: 600, rate: "0.10", increment: 1, off_peak_rate: "0.1"}
          - {prefix: "33", rate: "0.12", off_peak_rate: "0.05"}
"""


def problems(**keys: Any) -> list[str]:
    """What is wrong with a price."""
    _, found = parse_price({"model": "telecom", "currency": "EUR", **keys}, standalone=True)
    return list(map(str, found))


def test_a_gap_is_told_with_file_line_and_reason() -> None:
    """Every gap of a file at once, each where it is."""
    with pytest.raises(CatalogError) as caught:
        parse_catalog(CATALOG, "rates.yaml")
    label = "price 'voice', rates"
    assert caught.value.problems == [
        f"rates.yaml:16: {label}[1].off_peak_rate: a gap: outside the peak hours nothing has a rate here; give one",
        f"rates.yaml:20: {label}[2].steps[1].up_to: a gap: beyond 600 no step has a rate; up_to of the last step is null",
        f"rates.yaml:21: {label}[3].prefix: the prefix '33' has a rate already, in rates[0]; remove one",
    ]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"per": 60}, "a gap: no rate; give rate, or steps, or rates by destination"),
        ({"rate": "1"}, "per: is missing: how many units the rate is for"),
        ({"rate": "1", "per": 0}, "per: must be more than 0"),
        ({"rate": "1", "per": 1, "steps": []}, "rate and steps are both there"),
        ({"per": 1, "steps": []}, "steps: steps are a list of 1 to 100"),
        ({"per": 1, "steps": [5]}, "steps[0]: a step is a mapping"),
        ({"per": 1, "steps": [{"rate": "1", "increment": 1, "up_to": 5}]}, "a gap: beyond 5 no step has a rate"),
        ({"per": 1, "steps": [{"rate": "1", "increment": 1}] * 2}, "steps[0].up_to: only the last step"),
        ({"per": 1, "steps": [{"rate": "1"}]}, "steps[0].increment: is missing"),
        (
            {"per": 1, "steps": [{"rate": "1", "increment": 1}], "increments": {"first": 1, "next": 1}},
            "increments: stands in",
        ),
        (
            {"per": 1, "steps": [{"up_to": 60, "rate": "1", "increment": 25}, {"rate": "1", "increment": 1}]},
            "steps[0].increment: the step from 0 to 60 is no whole number of its increments of 25",
        ),
        (
            {"per": 1, "steps": [{"up_to": up_to, "rate": "1", "increment": 1} for up_to in (60, 60, None)]},
            "steps[1].up_to: steps must ascend: 60 does not lie above 60",
        ),
        ({"rate": "1", "per": 1, "increments": {"first": 30}}, "increments.next: is missing"),
        ({"rate": "1", "per": 1, "increments": {"first": 30, "next": 0}}, "increments.next: must be more than 0"),
        ({"rate": "1", "per": 1, "off_peak_rate": "1"}, "off_peak_rate: never applies: the price has no peak hours"),
        ({"rate": "1", "per": 1, "peak": PEAK}, "off_peak_rate: a gap: outside the peak hours nothing has a rate"),
        ({"rate": "1", "per": 1, "zone": "UTC"}, "zone: is the clock of the peak hours, and there are none"),
        ({"rate": "1", "per": 1, "destination": "data.to"}, "destination: is read to find a row of rates"),
        ({"rate": "1", "per": 1, "round": {"mode": "none"}}, "round.mode: none would leave charges without an end"),
        ({"rate": "1", "per": 1, "round": {"decimals": 19}}, "round.decimals: 19 is not a whole number from 0 to 18"),
        (
            {"rate": "1", "per": 1, "connect_fee_unanswered": "yes"},
            "connect_fee_unanswered: 'yes' is not true or false",
        ),
        ({"rate": "1", "per": 1, "transform": {"divide_by": 60}}, "transform: unknown key"),
    ],
)
def test_defects_of_terms_are_told(keys: dict[str, Any], text: str) -> None:
    """Each at its key."""
    assert any(text in problem for problem in problems(**keys)), problems(**keys)


@pytest.mark.parametrize(
    ("rates", "text"),
    [
        ([], "rates: rates are a list of 1 to 50000 rows"),
        ([5], "rates[0]: a row is a mapping"),
        ([{"rate": "1"}], 'rates[0].prefix: is missing; "" is for calls that no other row matches'),
        ([ROW | {"prefix": 33}], "rates[0].prefix: 33 is not a text"),
        ([ROW | {"prefix": "+33"}], "rates[0].prefix: '+33' is not 1 to 15 digits"),
        ([ROW | {"prefix": "0033"}], "rates[0].prefix: 0033 never matches"),
        ([{"prefix": "33"}], "rates[0]: a gap: no rate in this row; give rate, or steps"),
        ([ROW | {"rates": 1}], "rates[0].rates: unknown key of a row of rates; did you mean rate?"),
        ([ROW, ROW], "rates[1].prefix: the prefix '33' has a rate already, in rates[0]"),
    ],
)
def test_defects_of_rows_are_told(rates: list[Any], text: str) -> None:
    """Each at its row."""
    found = problems(destination="data.to", per=60, rates=rates)
    assert any(text in problem for problem in found), found


def test_a_table_says_its_rates_in_rows() -> None:
    """A rate beside the table would be for nobody; a table without a destination could not be read."""
    found = problems(rate="1", per=60, rates=[ROW])
    assert found == [
        'rate: stands in each row where there are rates; a row with prefix "" is for all other calls',
        "destination: is missing: the path to the number called, such as data.to",
    ]


@pytest.mark.parametrize(
    ("peak", "text"),
    [
        ({}, "peak.hours: is missing"),
        ({"hours": []}, "peak.hours: hours are a list of pairs"),
        ({"hours": ["08:00-18:00"]}, "peak.hours[0]: '08:00-18:00' is not a pair"),
        ({"hours": [["8:00", "18:00"]]}, "peak.hours[0]: ['8:00', '18:00'] is not a pair"),
        ({"hours": [["08:00", "24:01"]]}, "peak.hours[0]: ['08:00', '24:01'] is not a pair"),
        ({"hours": [["08:00", "08:00"]]}, "peak.hours[0]: 08:00 to 08:00 is no time"),
        ({"hours": [["08:00", "18:00"], ["17:00", "20:00"]]}, "from mon 08:00 to mon 18:00 and those from mon 17:00"),
        ({"hours": [["22:00", "06:00"], ["05:00", "08:00"]], "days": ["sun", "mon"]}, "overlap: those from mon 00:00"),
        ({"hours": [["08:00", "18:00"]], "days": ["monday"]}, "peak.days: ['monday'] is not a list of days"),
        ({"hours": [["08:00", "18:00"]], "days": []}, "peak.days: [] is not a list of days"),
        ({"hours": [["08:00", "18:00"]], "mode": "both"}, "peak.mode: 'both' is not one of split, answer"),
    ],
)  # fmt: skip
def test_defects_of_peak_hours_are_told(peak: dict[str, Any], text: str) -> None:
    """Each at its key; hours that overlap are named with the day."""
    found = problems(rate="1", off_peak_rate="1", per=1, peak=peak)
    assert any(text in problem for problem in found), found


def test_a_zone_must_exist() -> None:
    """By its IANA name."""
    found = problems(rate="1", off_peak_rate="1", per=1, peak=PEAK, zone="Europe/Pari")
    assert found == ["zone: the time zone 'Europe/Pari' does not exist; use an IANA name such as Europe/Paris"]


def test_rows_inherit_and_layout_is_no_content() -> None:
    """A row takes what it does not say from the price; the order of rows, days and hours makes no difference."""
    document: dict[str, Any] = {
        "model": "telecom", "currency": "EUR", "destination": "data.to", "per": 60, "connect_fee": "0.05",
        "increments": {"first": 30, "next": 6}, "peak": PEAK | {"days": ["fri", "mon"]},
        "rates": [ROW | {"off_peak_rate": "0.04"}, {"prefix": "", "rate": "2", "off_peak_rate": "1", "per": 1,
                  "connect_fee": 0, "increments": {"first": 60, "next": 60}}],
    }  # fmt: skip
    price, found = parse_price(document, standalone=True)
    assert price is not None, found
    assert price.peak == Peak((("08:00", "18:00"),), ("mon", "fri"), PeakMode.SPLIT)
    assert price.zone is None
    default, france = price.rates
    assert default == CallRate("", (CallStep(None, 2, 1, 60, 1),), 0)  # type: ignore[arg-type]
    assert (france.prefix, str(france.connect_fee), [str(step.increment) for step in france.steps]) == (
        "33",
        "0.05",
        ["30", "6"],
    )
    document["rates"].reverse()
    document["peak"]["days"].reverse()
    assert parse_price(document, standalone=True)[0] == price


@given(telecom_oracle.telecoms())
def test_a_stored_price_reads_as_a_document(price: Price) -> None:
    """What `catalog show --json` prints of a price can be written into a catalog: it is the same price again."""
    assert parse_price(plain(price)) == (price, [])
