"""A price compiled for one quantity scale: from quantities to exact amounts, as columns and one at a time.

Order inside a price (DESIGN, Rating): clamp at zero, convert and round, included units, model, promotion, percentage
discount, maximum; and the minimum once the period is settled (``targets``). All prices are decimals, so the amount is a
rational function of the quantity with a denominator fixed here. Rounding to nano-units is half away from zero; it happens once,
on T, and since rounding keeps order the maximum and the minimum may follow it.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor

from lineitem.catalog.model import Price, Rounding
from lineitem.catalog.pools import pool_units
from lineitem.catalog.price_doc import MODEL_FIELDS
from lineitem.core.errors import InputError
from lineitem.core.money import NANO, round_half_away
from lineitem.rate.exact import IntArray, Line, PiecewiseRatio, cap, clamp_at_zero
from lineitem.rate.models import MODELS
from lineitem.rate.models.event import EventCharge, EventModel, promoted
from lineitem.rate.models.shape import Model, Piece, Shape
from lineitem.rate.promoted import PromotedTotal, counter

_ZERO = Fraction(0)
_CHARGES = Shape((Piece(None, Fraction(1), _ZERO),))


@dataclass(frozen=True, slots=True)
class CompiledPrice:
    """T of one price. Made by ``compile_price``; immutable, shared freely between threads."""

    price: Price
    quantity_scale: int
    model: Model | EventModel
    shape: Shape
    """From billable units to the amount before discount and maximum; of charges, which are money, those themselves."""
    stages: tuple[PiecewiseRatio, ...]
    """Integer functions one after the other: units after rounding, packages begun, nano-units. The last one is T."""
    maximum_nano: int | None
    charge: EventCharge | None = None
    """A per-event price: how each event is charged. The sums of charges then take the place of quantities.

    Under a promotion on tiers an event's charge is its value, placed in time (``promoted.place``).
    """
    minimum_nano: int = 0
    """What T is at least once the period is settled; 0 without one."""
    pool_units: int | None = None
    """Included units it shares or carries over, at ``quantity_scale``, before any conversion; None: they are plain."""
    promoted: PromotedTotal | None = None
    """T under a promotion on the month's quantity; None without one, and under a per-event price."""

    def amount_nano(self, quantity: IntArray) -> IntArray:
        """T of each quantity, or of each sum of charges where ``charge`` is not None.

        ``quantity``: (n,) integers of ``quantity_scale`` (``charge.scale``) decimals, int64 or Python ints; negative
        ones bill as zero.
        Returns (n,) nano-units, half away from zero: int64 if all fit, else an object column of Python ints. Nothing
        wraps; what the ledger cannot hold shows in ``exact.exceeds_ledger``.
        """
        if self.promoted is not None:
            values = self.promoted.nano(quantity)
        else:
            values = clamp_at_zero(quantity)
            for stage in self.stages:
                values = stage.apply(values)
        return values if self.maximum_nano is None else cap(values, self.maximum_nano)

    def counted(self, quantity: IntArray, charge: IntArray) -> IntArray:
        """What T is a function of, of these two."""
        return quantity if self.charge is None else charge

    def converted(self, quantity: Decimal | Fraction | int) -> Fraction:
        """The quantity in priced units: clamped at zero, divided and rounded as ``transform`` says."""
        units = max(Fraction(quantity), _ZERO)
        transform = self.price.transform
        return units if transform is None else _round(units / Fraction(transform.divide_by), transform.round)

    def billable(self, units: Fraction) -> Fraction:
        """What is left of the priced units beyond the included ones."""
        return max(units - Fraction(self.price.included or 0), _ZERO)

    def discounted(self, amount: Fraction) -> Fraction:
        """The amount after the percentage discount."""
        return amount * (1 - Fraction(self.price.discount_rate or 0))

    def capped(self, amount: Fraction) -> Fraction:
        """The amount after the maximum."""
        return amount if self.price.maximum is None else min(amount, Fraction(self.price.maximum))

    def raised(self, amount: Fraction) -> Fraction:
        """The amount after the minimum, which counts once the period is settled."""
        return max(amount, Fraction(self.price.minimum or 0))

    def exact(self, quantity: Decimal | Fraction) -> Fraction:
        """T of one quantity (or sum of charges) in a settled period, without any rounding of the amount."""
        return self.raised(self.running(quantity))

    def running(self, quantity: Decimal | Fraction | int) -> Fraction:
        """The same before the period is settled."""
        return self.capped(self.discounted(self.listed(quantity)))

    def listed(self, quantity: Decimal | Fraction | int) -> Fraction:
        """What the model charges for one quantity, before promotion, discount and maximum."""
        return self.shape.at(self.billable(self.converted(quantity)))


@lru_cache(maxsize=4096)
def compile_price(price: Price, quantity_scale: int) -> CompiledPrice:
    """Compile ``price`` for quantities of ``quantity_scale`` decimals; the same one again is remembered.

    Raises InputError if the price cannot be one: an unknown model, no tier, a negative amount (a catalog that
    ``catalog.price_doc`` accepted holds none).
    """
    model: Model | EventModel | None = MODELS.get(price.model)
    if model is None:
        raise InputError(
            f"unknown price model {price.model!r}", where=f"price {price.id}", do=f"Use one of {', '.join(MODELS)}."
        )
    _check(price)
    charge, shape, scale, total = None, _CHARGES, quantity_scale, None
    if isinstance(model, EventModel):
        charge = model.compile(price, quantity_scale)
        if price.promotion is not None:
            charge = promoted(charge, price.promotion)
        scale = charge.scale
    else:
        shape = model.shape(price)
    stages, lines = _stages(price, shape, scale)
    if isinstance(model, Model) and price.promotion is not None:
        charge = counter(price.promotion, quantity_scale)
        total = PromotedTotal.of(price.promotion, stages[:-1], lines, whole=model.whole)
    maximum, minimum = _nano(price.maximum), _nano(price.minimum) or 0
    units = None if isinstance(model, EventModel) else pool_units(price, quantity_scale)
    return CompiledPrice(price, quantity_scale, model, shape, stages, maximum, charge, minimum, units, total)


def _check(price: Price) -> None:
    amounts = [price.unit_price, price.package_price, price.included, price.maximum, price.minimum, price.discount_rate]
    amounts += [price.rate, price.per_event, price.minimum_per_event, price.maximum_per_event, price.free_units]
    amounts += [price.multiplier, *(cell.unit_price for cell in price.cells)]
    amounts += [part for tier in price.tiers for part in (tier.unit_price, tier.flat_price, tier.rate)]
    amounts += [row.connect_fee for row in price.rates]
    amounts += [rate for row in price.rates for step in row.steps for rate in (step.rate, step.off_peak_rate)]
    steps = [price.package_size] + ([price.transform.divide_by] if price.transform else [])
    bounds = [tier.up_to for tier in price.tiers]
    if (
        any(amount is not None and amount < 0 for amount in amounts)
        or any(step is not None and step <= 0 for step in steps)
        or (price.discount_rate or 0) > 1
        or (price.maximum is not None and (price.minimum or 0) > price.maximum)
        or (MODEL_FIELDS[price.model].per_event and (price.transform or price.included is not None))
        or ("tiers" in MODEL_FIELDS[price.model].required and not bounds)
        or bounds[-1:] not in ([], [None])
        or None in bounds[:-1]
    ):
        raise InputError(
            f"the {price.model} price is not valid",
            where=f"price {price.id}",
            do="Amounts are not negative, sizes are more than 0, a discount is at most 1, a minimum at most "
            "the maximum, only the last tier is open.",
        )


def _stages(price: Price, shape: Shape, quantity_scale: int) -> tuple[tuple[PiecewiseRatio, ...], list[Line]]:
    """Compose the price into as few integer functions as it has roundings; ``unit`` is what one integer stands for.

    With the lines of the last one, which leads to nano-units.
    """
    stages: list[PiecewiseRatio] = []
    unit = Fraction(1, 10**quantity_scale)
    if price.transform is not None:
        unit /= Fraction(price.transform.divide_by)
        if price.transform.round is not Rounding.NONE:
            stages.append(PiecewiseRatio([Line(None, unit, _ZERO)], price.transform.round))
            unit = Fraction(1)
    included = Fraction(price.included or 0)
    if shape.step is not None:
        begun = Line(None, unit / shape.step, -included / shape.step)
        stages.append(PiecewiseRatio([*_free(included / unit, _ZERO), begun], Rounding.UP))
        unit, included = Fraction(1), _ZERO
    lines = _amount_lines(price, shape, unit, included)
    stages.append(PiecewiseRatio(lines, Rounding.HALF_UP))
    return tuple(stages), lines


def _amount_lines(price: Price, shape: Shape, unit: Fraction, included: Fraction) -> list[Line]:
    """The shape, discounted and in nano-units, as lines over integers n that stand for ``n * unit`` units."""
    to_nano = NANO * (1 - Fraction(price.discount_rate or 0))
    lines = _free(included / unit, shape.pieces[0].intercept * to_nano)
    for piece in shape.pieces:
        up_to = None if piece.up_to is None else floor((piece.up_to + included) / unit)
        lines.append(Line(up_to, piece.slope * unit * to_nano, (piece.intercept - piece.slope * included) * to_nano))
    return lines


def _free(up_to: Fraction, amount: Fraction) -> list[Line]:
    """The line of the included units, where there are any: up to them the result stands still."""
    return [Line(floor(up_to), _ZERO, amount)] if up_to else []


def _nano(amount: Decimal | None) -> int | None:
    if amount is None:
        return None
    nano = Fraction(amount) * NANO
    return round_half_away(nano.numerator, nano.denominator)


def _round(value: Fraction, rounding: Rounding) -> Fraction:
    if rounding is Rounding.NONE:
        return value
    if rounding is Rounding.UP:
        return Fraction(ceil(value))
    if rounding is Rounding.DOWN:
        return Fraction(floor(value))
    return Fraction(round_half_away(value.numerator, value.denominator))
