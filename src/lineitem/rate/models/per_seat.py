"""``per_seat``: a month costs so much for each seat held in it, whole or by the part of the month.

How many seats a month has, ``levels`` says from their readings; the model prices that number.
"""

from __future__ import annotations

from fractions import Fraction

from lineitem.catalog.model import Price
from lineitem.rate.models import per_unit
from lineitem.rate.models.page import Page
from lineitem.rate.models.shape import Charge, Model, decimal_field


def charges(price: Price, units: Fraction) -> list[Charge]:
    """All seats at the one price."""
    return [Charge("seats for the month", units, decimal_field(price, "unit_price"))]


PAGE = Page(
    summary=(
        "Every unit of a level (a seat, a licence, a phone number) costs `unit_price` a month. The meter is"
        " `time_weighted`: an event says how many there are from its time on, and that stays so, over months, until the"
        " next event or the account's `active_until`. `prorate` says what of a month counts. Posted as a line item of"
        " kind `recurring` when the month is billed or closed, and as `true_up` what late readings or seats added to a"
        " month billed in advance change. The quantity of the example is the month's number of seats."
    ),
    when=(
        "Seats, licences, devices: what people count in units a month. For what they count in units an hour (GB-hours), use"
        " any other model on a `time_weighted` meter, with `transform: {divide_by: 3600}`. A fee that does not depend on"
        " a number is `flat`. [How to bill seats](../../how-to/bill-seats.md)."
    ),
    example={"model": "per_seat", "currency": "USD", "unit_price": "10", "prorate": "second"},
    usage=("10", "12.5"),
)
MODEL = Model(per_unit.shape, charges, PAGE, monotone=True)
