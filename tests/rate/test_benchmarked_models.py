"""What ``make bench`` compares does the same job: kernel and Decimal loop agree, for every registered model."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from benchmarks.rating_models import CASES, Case, decimal_loop, inputs, kernel, rows_of
from lineitem.catalog.price_doc import MODEL_FIELDS
from lineitem.rate.models import MODELS

ROWS, TARGETS = 300, 7


def test_every_model_is_measured() -> None:
    """A registered model without a baseline would be a promise without a figure; one without a meter rates no usage, and
    one of a level none event by event."""
    rating = [name for name in MODELS if MODEL_FIELDS[name].metered and not MODEL_FIELDS[name].level]
    assert [case.price.model for case in CASES] == rating


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.price.model)
def test_kernel_and_loop_agree(case: Case) -> None:
    """To the nano-unit, event by event."""
    random = np.random.default_rng(1)
    target = np.sort(random.integers(0, TARGETS, ROWS))
    value = random.integers(1, 2000, ROWS)
    carried = inputs(ROWS)
    amounts = decimal_loop(case, TARGETS, target.tolist(), list(map(Decimal, value.tolist())), rows_of(carried, ROWS))
    assert kernel(case.price, TARGETS, target, value, carried).tolist() == [int(amount.scaleb(9)) for amount in amounts]
