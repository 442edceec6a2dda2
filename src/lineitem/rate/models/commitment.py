"""``commitment``: what is missing of an amount that other prices were to come to."""

from __future__ import annotations

from fractions import Fraction

from lineitem.catalog.model import Price
from lineitem.rate.models.page import Page
from lineitem.rate.models.shape import Charge, Model, Piece, Shape, decimal_field


def shape(price: Price) -> Shape:
    """The amount less the units, which are money, and nothing from there on."""
    amount = decimal_field(price, "amount")
    return Shape((Piece(amount, Fraction(-1), amount), Piece(None, Fraction(0), Fraction(0))))


def charges(price: Price, units: Fraction) -> list[Charge]:
    """The commitment, and what counts towards it."""
    amount = decimal_field(price, "amount")
    return [
        Charge("commitment", Fraction(1), amount),
        Charge("less what its prices come to", min(units, amount), Fraction(-1)),
    ]


PAGE = Page(
    summary=(
        "The account commits itself to `amount` a month over several `prices` together; what they do not come to is a line"
        " item of kind `true_up` when the month is billed or closed. Its quantity is money: what the prices came to, as"
        " far as it counts. Late usage moves it with the next billing."
    ),
    when=(
        "A spend commitment over a whole pricebook or some of its prices. For the least that one price costs give that"
        " price a `minimum`. Without `active_from` an account owes it in the months in which one of the prices has usage."
    ),
    example={"model": "commitment", "currency": "USD", "amount": "500", "prorate": "day"},
    usage=("0", "320", "500", "620"),
)
MODEL = Model(shape, charges, PAGE)
