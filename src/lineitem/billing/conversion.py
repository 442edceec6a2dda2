"""Converts what an invoice line comes to, once, by dated rates that stay with the line. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction

from lineitem.catalog.model import Conversion, ConversionDate
from lineitem.catalog.rate_file import Rate
from lineitem.core.errors import Refused
from lineitem.core.period import Month

Path = tuple[Rate, ...]
"""Rates to apply one after the other: none where nothing has to be converted, two by way of a pivot."""


class NoRate(Refused):
    """There is no rate, or none young enough, so the invoice is not made. It never is 1:1."""


@dataclass(frozen=True, slots=True)
class Applied:
    """The rule an invoice was converted by, and the day (``on``) it looked rates up for."""

    rule: Conversion
    on: date


@dataclass(frozen=True, slots=True)
class Original:
    """What an invoice line was before: the exact sum of its line items in their own currency, and the rates applied."""

    currency: str
    amount_nano: int
    rates: Path


def conversion_day(rule: Conversion, period: Month, issued_on: date) -> date:
    """The day a rule looks rates up for: the last of the posting month, or ``issued_on``."""
    if rule.date is ConversionDate.INVOICE_DATE:
        return issued_on
    after = period.next()
    return date(after.year, after.month, 1) - timedelta(days=1)


class RateTable:
    """The rates one invoice run may use: of one rule and one day, each pair's newest up to that day.

    ``rates`` are those of the rule's source up to ``on``, at most one a pair.
    """

    def __init__(self, rule: Conversion, on: date, rates: Iterable[Rate]) -> None:
        self.applied = Applied(rule, on)
        self._rates: dict[tuple[str, str], Rate] = {(one.base, one.quote): one for one in rates}

    def path(self, currency: str, target: str) -> Path:
        """How to come from ``currency`` to ``target``: directly, else by the rule's pivot. Raises NoRate."""
        if currency == target:
            return ()
        direct = self._between(currency, target)
        if direct is not None and self._young(direct):
            return (direct,)
        pivot = self.applied.rule.pivot
        if pivot is None or pivot in (currency, target):
            raise self._missing(currency, target, direct)
        found: list[Rate] = []
        for one, other in ((currency, pivot), (pivot, target)):
            leg = self._between(one, other)
            if leg is None or not self._young(leg):
                raise self._missing(one, other, leg) if direct is None else self._missing(currency, target, direct)
            found.append(leg)
        return tuple(found)

    def _between(self, one: str, other: str) -> Rate | None:
        """The newest rate between two currencies, whichever is its base; of one day the one that multiplies."""
        both = [self._rates.get((one, other)), self._rates.get((other, one))]
        return max((rate for rate in both if rate is not None), key=lambda rate: rate.day, default=None)

    def _young(self, rate: Rate) -> bool:
        return (self.applied.on - rate.day).days <= self.applied.rule.max_age_days

    def _missing(self, one: str, other: str, stale: Rate | None) -> NoRate:
        rule, on = self.applied.rule, self.applied.on
        what = f"no rate between {one} and {other} from {rule.source} for {on}"
        if stale is not None:
            days = (on - stale.day).days
            what += f": the newest is of {stale.day}, {days} days older, and max_age_days is {rule.max_age_days}"
        return NoRate(what, do=f"Load the rates of {on} (lineitem fx load FILE), then bill again.")


def convert(amount: int | Fraction, currency: str, rates: Sequence[Rate]) -> tuple[Fraction, str]:
    """An exact amount by one rate after the other: the exact result and the currency it is in.

    A rate multiplies where the amount is in its base and divides where it is in its quote; nothing is rounded. Raises
    ValueError for a rate that has to do with neither.
    """
    value = Fraction(amount)
    for rate in rates:
        if currency == rate.base:
            value, currency = value * Fraction(rate.rate), rate.quote
        elif currency == rate.quote:
            value, currency = value / Fraction(rate.rate), rate.base
        else:
            raise ValueError(f"the rate {rate.what} does not convert {currency}")
    return value, currency


def defects(original: Original, target: str, applied: Applied) -> list[str]:
    """Why a line's rates are not what its invoice's rule allows; empty when they are."""
    rule, found = applied.rule, []
    try:
        _, reached = convert(0, original.currency, original.rates)
    except ValueError as error:
        return [str(error)]
    if reached != target:
        found.append(f"its rates lead from {original.currency} to {reached}")
    if len(original.rates) > (1 if rule.pivot is None else 2):
        found.append("it was converted more than once")
    if original.currency == target and original.rates:
        found.append("it was converted although it is in the invoice's currency")
    for rate in original.rates:
        if rate.source != rule.source or not 0 <= (applied.on - rate.day).days <= rule.max_age_days:
            found.append(f"the rate {rate.what} is not one that the rule allows")
    return found


def totals(lines: Iterable[tuple[Original, int]]) -> Mapping[str, tuple[int, int]]:
    """Of each original currency: the sum of the exact amounts in it, and of the rounded ones (``int``) they became."""
    found: dict[str, tuple[int, int]] = {}
    for original, amount_minor in lines:
        nano, minor = found.get(original.currency, (0, 0))
        found[original.currency] = (nano + original.amount_nano, minor + amount_minor)
    return dict(sorted(found.items()))
