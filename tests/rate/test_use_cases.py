"""Worked examples of real price lists: each test is one, its docstring says whose.

Sources: stripe.com (tiers), withorb.com and getlago.com (package, bulk, graduated), aws.amazon.com/lambda/pricing (example 1
and the two duration rules), OpenRTB 2.6 (CPM), docs.killbill.io (days). Amounts are exact; invoices round them, as
``cents`` does here.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from lineitem.rate.quote import quote, quote_level


def amounts(model: str, quantities: list[str], **fields: Any) -> list[str]:
    """What quantities cost under a price in dollars."""
    return quote({"model": model, "currency": "USD", **fields}, quantities)


def cents(*exact: str) -> str:
    """A total as the invoice shows it: summed exactly, rounded once."""
    return str(sum(map(Decimal, exact), Decimal(0)).quantize(Decimal("0.01"), ROUND_HALF_UP))


def tiers(*rows: tuple[str | None, str]) -> list[dict[str, str | None]]:
    """Tiers as the catalog writes them."""
    return [{"up_to": up_to, "unit_price": unit_price} for up_to, unit_price in rows]


FIVE_TIERS = tiers(("5", "5"), ("10", "4"), ("15", "3"), ("20", "2"), (None, "1"))


def test_api_metering_graduated() -> None:
    """Stripe: 6 units at 5, then 4: 5 x 5 + 1 x 4 = 29."""
    assert amounts("graduated", ["6"], tiers=FIVE_TIERS) == ["29"]


def test_api_metering_volume() -> None:
    """Stripe: the tier reached prices all: 6 x 4, 20 x 2, 25 x 1."""
    assert amounts("volume", ["6", "20", "25"], tiers=FIVE_TIERS) == ["24", "40", "25"]


def test_api_metering_package() -> None:
    """Orb: 10 a thousand, rounded up: 3,200 calls are 4 packages."""
    assert amounts("package", ["3200"], package_size="1000", package_price="10") == ["40"]


def test_api_metering_bulk() -> None:
    """Orb: below 10,000 at 0.02, from there on all at 0.01; bounds are inclusive, so the first tier ends at 9,999."""
    found = amounts("volume", ["9999", "10000"], tiers=tiers(("9999", "0.02"), (None, "0.01")))
    assert found == ["199.98", "100"]


def test_api_metering_three_tiers() -> None:
    """Lago: 100 at 1, 100 at 0.5, the rest at 0.1."""
    assert amounts("graduated", ["250"], tiers=tiers(("100", "1"), ("200", "0.5"), (None, "0.1"))) == ["155"]


def test_serverless_with_a_free_tier() -> None:
    """AWS Lambda, example 1: 3 million calls of 1 s at 512 MB; 400,000 GB-s and 1 million requests are free."""
    [compute] = amounts("per_unit", ["1500000"], unit_price="0.00001667", included="400000")
    millions = {"divide_by": "1000000"}
    [requests] = amounts("per_unit", ["3000000"], unit_price="0.20", transform=millions, included="1")
    assert (compute, requests) == ("18.337", "0.4")
    assert (cents(compute), cents(requests), cents(compute, requests)) == ("18.34", "0.40", "18.74")


def test_serverless_rounds_durations_not_money() -> None:
    """AWS Lambda: 1 million calls of 100.2 ms at 512 MB are 101 ms each, once 200 ms; the money is rounded once."""
    found = amounts("per_unit", ["50500", "100000"], unit_price="0.0000166667")
    assert found == ["0.84166835", "1.66667"]
    assert list(map(cents, found)) == ["0.84", "1.67"]


def test_premium_feature_by_use() -> None:
    """The first 1,000 uses are free, then 0.005 each: 1,250 uses cost 1.25, and free ones nothing."""
    found = amounts("graduated", ["1250", "1000", "0"], tiers=tiers(("1000", "0"), (None, "0.005")))
    assert found == ["1.25", "0", "0"]
    assert amounts("per_unit", ["1250", "400"], unit_price="0.005", included="1000") == ["1.25", "0"]


def test_ad_impressions_by_the_thousand() -> None:
    """OpenRTB: a CPM of 9.43 for a million billing notices is 9,430; the unit price keeps all its digits."""
    assert amounts("per_unit", ["1000000"], unit_price="0.00943") == ["9430"]
    assert amounts("per_unit", ["1000000"], unit_price="9.43", transform={"divide_by": "1000"}) == ["9430"]


def seats(prorate: str, unit_price: str, period: str, *readings: tuple[str, str]) -> str:
    """What a month of seats costs; each reading is a day and how many there are from then on."""
    price = {"model": "per_seat", "currency": "USD", "unit_price": unit_price, "prorate": prorate}
    events = [{"time": f"{day}T00:00:00Z", "value": value} for day, value in readings]
    return cents(quote_level(price, events, period)["amount"])


def test_a_seat_that_is_added_in_mid_month() -> None:
    """Stripe's 10 that becomes 20 on 16 April, by the second: 5 for what is unused of the old, 10 for the rest of the new."""
    assert seats("second", "10", "2026-04", ("2026-03-01", "1")) == "10.00"
    assert seats("second", "10", "2026-04", ("2026-03-01", "1"), ("2026-04-16", "2")) == "15.00"
    assert seats("second", "10", "2026-04", ("2026-03-01", "1"), ("2026-04-16", "0")) == "5.00"


def test_a_plan_that_begins_in_mid_month() -> None:
    """Kill Bill's 24.95 by the day: 9 of 31, 22 of 30, 8 of 31 and 25 of 30 days, then whole months."""
    first_days = {"2026-08": "23", "2026-09": "09", "2026-10": "24", "2026-11": "06"}
    found = [seats("day", "24.95", month, (f"{month}-{day}", "1")) for month, day in first_days.items()]
    assert found == ["7.24", "18.30", "6.44", "20.79"]
    assert seats("day", "24.95", "2026-12", ("2026-08-23", "1")) == "24.95"
