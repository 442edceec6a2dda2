"""Levels: meters whose events are readings of something that stays as it is until the next reading. Pure.

What such a meter measures of a period is a level over time, so unit and decimals of a quantity depend on the price too.
"""

from __future__ import annotations

from collections.abc import Iterator

from lineitem.catalog.model import Aggregation, Itemize, Meter, Price, Prorate

TIME_DECIMALS = 6
"""Decimals that time adds to a level: the ledger counts microseconds."""
PER_SEAT = "per_seat"
"""The model that prices a level by the month."""


def measured(price: Price, meter: Meter) -> tuple[str, int]:
    """Unit and decimals of what a price's line items count.

    A level over time is counted in unit-seconds, exact to the microsecond. ``per_seat`` counts what it charges for: the
    greatest level of the month in units, those of its days in unit-days.
    """
    if meter.aggregation is not Aggregation.TIME_WEIGHTED:
        return meter.unit, meter.quantity_scale
    if price.model == PER_SEAT and price.prorate is not Prorate.SECOND:
        return (f"{meter.unit}-day" if price.prorate is Prorate.DAY else meter.unit), meter.scale
    return f"{meter.unit}-second", meter.scale + TIME_DECIMALS


def level_problems(price: Price, aggregation: Aggregation | None) -> Iterator[tuple[str, str]]:
    """What is wrong between a price and its meter where one of the two is about levels: ``(key, text)``.

    ``aggregation`` None: the meter does not exist, which is told elsewhere.
    """
    if aggregation is None:
        return
    if aggregation is not Aggregation.TIME_WEIGHTED:
        if price.model == PER_SEAT:
            yield (
                "meter",
                (
                    f"price {price.id!r} is per_seat, but the meter {price.meter!r} is a {aggregation}; use a meter that is"
                    " time_weighted, whose events say how many seats there are from then on"
                ),
            )
    elif price.itemize is not Itemize.EACH:
        yield (
            "itemize",
            (
                f"price {price.id!r} is itemized by the {price.itemize}, but the meter {price.meter!r} is time_weighted: a"
                " level is billed by the month; leave itemize out"
            ),
        )
