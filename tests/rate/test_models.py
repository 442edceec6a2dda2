"""The registry of price models, and how each model's working adds up to its price."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from lineitem.catalog.model import Price
from lineitem.catalog.price_doc import MODEL_FIELDS
from lineitem.rate.models import MODELS
from lineitem.rate.models.shape import Model
from tests.rate import oracle


def test_every_model_has_its_fields_and_its_formula() -> None:
    """What the catalog accepts is what rating knows, no more, no less; and the tests know all of them."""
    assert list(MODELS) == list(MODEL_FIELDS)
    meterless = ["flat", "commitment"]
    assert {name for name, model in MODELS.items() if isinstance(model, Model)} == {*oracle.MODEL_NAMES, *meterless}
    assert {name for name, fields in MODEL_FIELDS.items() if fields.per_event} == set(MODELS) - {
        *oracle.MODEL_NAMES,
        *meterless,
    }
    assert [name for name, fields in MODEL_FIELDS.items() if not fields.metered] == meterless
    assert [name for name, fields in MODEL_FIELDS.items() if fields.level] == ["per_seat"]


@given(oracle.prices() | oracle.flats() | oracle.commitments(), st.fractions(0, 10**15))
def test_the_working_adds_up(price: Price, units: Fraction) -> None:
    """The lines that explain a charge sum to the charge, at any number of units and at every bound."""
    model = MODELS[price.model]
    assert isinstance(model, Model)
    shape = model.shape(price)
    bounds = [Fraction(tier.up_to) for tier in price.tiers if tier.up_to is not None]
    for value in (units, Fraction(0), *bounds):
        assert sum(charge.amount for charge in model.charges(price, value)) == shape.at(value)
