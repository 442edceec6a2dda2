"""``flat``: a month costs the same, used or not."""

from __future__ import annotations

from fractions import Fraction

from lineitem.catalog.model import Price
from lineitem.rate.models.page import Page
from lineitem.rate.models.shape import Charge, Model, Piece, Shape, decimal_field


def shape(price: Price) -> Shape:
    """The amount, whatever the units."""
    return Shape((Piece(None, Fraction(0), decimal_field(price, "amount")),))


def charges(price: Price, _units: Fraction) -> list[Charge]:
    """One month."""
    return [Charge("month", Fraction(1), decimal_field(price, "amount"))]


PAGE = Page(
    summary=(
        "Every month costs `amount`, with or without usage: there is no `meter`. It is due for the months in which the"
        " account is active by its [`active_from`](../catalog.md#accounts), and posted as a line item of kind `recurring`"
        " when the month is billed or closed; with `charge: in_advance` together with the month before."
    ),
    when=(
        "A base fee, a licence, a support plan. For a fee that is due only with usage give the first tier of `graduated`"
        " a `flat_price`; for the least a month costs, any price a `minimum`."
    ),
    example={"model": "flat", "currency": "USD", "amount": "49", "prorate": "day"},
    usage=("0",),
)
MODEL = Model(shape, charges, PAGE, monotone=True)
