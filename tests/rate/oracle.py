"""An independent reading of the price rules in fractions, and prices to try it on."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import ceil, floor

from hypothesis import strategies as st

from lineitem.catalog.document import decimal_text
from lineitem.catalog.model import Price, Rounding, Tier, Transform

MODEL_NAMES = ("per_unit", "graduated", "volume", "package", "stairstep", "graduated_percentage", "per_seat")


def amount(price: Price, quantity: Fraction) -> Fraction:
    """What ``quantity`` costs, by the words of the rules, one after the other."""
    units = max(quantity, Fraction(0))
    if price.transform is not None:
        units = rounded(units / Fraction(price.transform.divide_by), price.transform.round)
    if price.included is not None:
        units = max(units - Fraction(price.included), Fraction(0))
    total = _charge(price, units)
    if price.discount_rate is not None:
        total -= total * Fraction(price.discount_rate)
    if price.maximum is not None and total > Fraction(price.maximum):
        total = Fraction(price.maximum)
    return total


def amount_nano(price: Price, quantity: int, scale: int) -> int:
    """The same for a scaled integer, rounded half away from zero at 9 decimals (amounts are never negative)."""
    return floor(amount(price, Fraction(quantity, 10**scale)) * 10**9 + Fraction(1, 2))


def rounded(units: Fraction, rounding: Rounding) -> Fraction:
    """``units >= 0`` rounded to whole ones."""
    if rounding is Rounding.UP:
        return Fraction(ceil(units))
    if rounding is Rounding.DOWN:
        return Fraction(floor(units))
    if rounding is Rounding.HALF_UP:
        return Fraction(floor(units + Fraction(1, 2)))
    return units


def _charge(price: Price, units: Fraction) -> Fraction:
    if price.model in ("per_unit", "per_seat"):
        return units * Fraction(price.unit_price or 0)
    if price.model == "flat":
        return Fraction(price.amount or 0)
    if price.model == "commitment":
        return max(Fraction(price.amount or 0) - units, Fraction(0))
    if price.model == "package":
        return ceil(units / Fraction(price.package_size or 1)) * Fraction(price.package_price or 0)
    if price.model == "volume":
        tier = next(tier for tier in price.tiers if tier.up_to is None or units <= Fraction(tier.up_to))
        return units * Fraction(tier.unit_price) + Fraction(tier.flat_price)
    if price.model == "stairstep":
        return next(Fraction(t.flat_price) for t in price.tiers if t.up_to is None or units <= Fraction(t.up_to))
    total, low = Fraction(0), None
    for tier in price.tiers:
        if low is None or units > low:
            high = units if tier.up_to is None else min(units, Fraction(tier.up_to))
            per_unit = tier.unit_price if tier.rate is None else tier.rate
            total += (high - (low or 0)) * Fraction(per_unit) + Fraction(tier.flat_price)
        low = Fraction(tier.up_to) if tier.up_to is not None else None
    return total


def decimals(digits: int = 12, places: int = 18, *, least: int = 0) -> st.SearchStrategy[Decimal]:
    """Decimals of up to ``places`` decimals whose digits are at most ``10**digits``."""
    return st.builds(_decimal, st.integers(least, 10**digits), st.integers(0, places))


def _decimal(digits: int, places: int) -> Decimal:
    return Decimal(f"{digits}e-{places}")


DECIMALS, POSITIVE = decimals(), decimals(least=1)
MAYBE = st.none() | DECIMALS
BOUNDS = st.lists(POSITIVE, max_size=4, unique=True).map(sorted)
TRANSFORMS = st.none() | st.builds(Transform, decimals(8, 6, least=1), st.sampled_from(Rounding))
SHARES = st.builds(Decimal, st.from_regex(r"0\.[0-9]{1,18}|1", fullmatch=True))
RATES = st.none() | decimals(3, 0).map(lambda rate: rate / 1000)


@st.composite
def prices(draw: st.DrawFn, models: tuple[str, ...] = MODEL_NAMES) -> Price:
    """Any price of the models over the period's quantity, with any of the options."""
    model = draw(st.sampled_from(models))
    tiers = (
        ()
        if model in ("per_unit", "per_seat", "package")
        else tuple(_tier(draw, model, b) for b in (*draw(BOUNDS), None))
    )
    package = model == "package"
    return Price(
        id="p",
        meter="m",
        model=model,
        currency="EUR",
        unit_price=draw(DECIMALS) if model in ("per_unit", "per_seat") else None,
        tiers=tiers,
        package_size=draw(POSITIVE) if package else None,
        package_price=draw(DECIMALS) if package else None,
        included=draw(MAYBE),
        maximum=draw(MAYBE),
        discount_rate=draw(RATES),
        transform=None if model == "per_seat" else draw(TRANSFORMS),
    )


@st.composite
def flats(draw: st.DrawFn) -> Price:
    """Any price without a meter."""
    amount = decimal_text(draw(DECIMALS))
    return Price(id="p", meter="", model="flat", currency="EUR", amount=amount, discount_rate=draw(RATES))


@st.composite
def commitments(draw: st.DrawFn) -> Price:
    """Any commitment."""
    return Price(id="p", meter="", model="commitment", currency="EUR", amount=decimal_text(draw(DECIMALS)))


def _tier(draw: st.DrawFn, model: str, up_to: Decimal | None) -> Tier:
    if model == "graduated_percentage":
        return Tier(up_to, flat_price=draw(DECIMALS), rate=draw(SHARES))
    return Tier(up_to, Decimal(0) if model == "stairstep" else draw(DECIMALS), draw(DECIMALS))


def turning_points(price: Price, scale: int) -> list[int]:
    """Scaled quantities beside every bound of the price, where a mistake would show."""
    divide_by = Fraction(price.transform.divide_by) if price.transform else Fraction(1)
    included = Fraction(price.included or 0)
    bounds = [Fraction(0), *(Fraction(tier.up_to) for tier in price.tiers if tier.up_to is not None)]
    bounds += [Fraction(price.package_size) * count for count in (1, 2, 1000) if price.package_size is not None]
    points = [floor((bound + included) * divide_by * 10**scale) for bound in bounds]
    return [point + step for point in points for step in (-1, 0, 1)]
