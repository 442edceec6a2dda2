"""Cells of a matrix: what is refused, and that what is accepted never leaves an event between two prices."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.catalog.price_doc import parse_price

NAMES = ("a", "b", "c")


def matrix(whens: list[dict[str, Any]], dimensions: list[str] | None = None) -> dict[str, Any]:
    """A price document with a cell for each ``when``, priced 1, 2, 3, ..."""
    cells = [{"when": when, "unit_price": str(number)} for number, when in enumerate(whens, 1)]
    return {
        "model": "matrix",
        "currency": "EUR",
        "dimensions": dimensions or ["data.a", "data.b", "data.c"],
        "cells": cells,
    }


def problems(document: dict[str, Any]) -> list[str]:
    """What is wrong with it."""
    return [str(problem) for problem in parse_price(document, standalone=True)[1]]


@pytest.mark.parametrize(
    ("whens", "pair"),
    [
        ([{"a": "1"}, {"b": "1"}], "cells[0] and cells[1] both match a=1, b=1"),
        ([{"a": "1"}, {"a": "1"}], "cells[0] and cells[1] are for the same events"),
        ([{}, {"a": "2", "b": "1"}, {"b": "1", "c": "3"}], "cells[1] and cells[2] both match a=2, b=1, c=3"),
        ([{"a": "1"}, {"b": "1"}, {"a": "1", "c": "1"}], "cells[0] and cells[1] both match a=1, b=1"),
        ([{}, {}], "cells[0] and cells[1] are for the same events"),
    ],
)
def test_undecided_cells_are_named(whens: list[dict[str, Any]], pair: str) -> None:
    """Two cells of equal specificity for one event: both are named, and an event that shows it."""
    [problem] = problems(matrix(whens))
    assert pair in problem


@pytest.mark.parametrize(
    "whens",
    [
        [{"a": "1"}, {"b": "1"}, {"a": "1", "b": "1"}],
        [{"a": "1"}, {"a": "2"}, {}],
        [{"a": "1", "b": "1"}, {"c": "1"}],
        [{"a": "1", "b": "1"}, {"b": "2", "c": "1"}],
    ],
)
def test_decided_cells_are_accepted(whens: list[dict[str, Any]]) -> None:
    """A third cell that decides, other values, or one that names more."""
    assert problems(matrix(whens)) == []


@given(st.lists(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["1", "2"])), min_size=1, max_size=7))
def test_accepted_exactly_if_every_event_is_decided(whens: list[dict[str, str]]) -> None:
    """Every possible event tried by hand: one most specific cell, or none at all."""
    undecided = False
    for texts in product(["1", "2", "3"], repeat=len(NAMES)):
        event = dict(zip(NAMES, texts, strict=True))
        sizes = [len(when) for when in whens if when.items() <= event.items()]
        undecided = undecided or sizes.count(max(sizes, default=0)) > 1
    assert bool(problems(matrix(whens))) == undecided


def test_cells_are_one_content_in_any_order() -> None:
    """Order decides nothing, so it is not content either; numbers and booleans are the texts events are read as."""
    one, _ = parse_price(matrix([{"a": 7}, {"a": True, "b": "x"}]), standalone=True)
    document = matrix([{"a": 7}, {"a": True, "b": "x"}])
    document["cells"].reverse()
    other, _ = parse_price(document, standalone=True)
    assert one == other
    assert one is not None
    assert [cell.when for cell in one.cells] == [(("a", "7"),), (("a", "true"), ("b", "x"))]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"cells": []}, "cells: cells are a list of 1 to 10000"),
        ({"cells": [5]}, "cells[0]: a cell is a mapping"),
        ({"cells": [{"when": {"d": "1"}, "unit_price": "1"}]}, "cells[0].when.d: is not one of the dimensions a, b, c"),
        ({"cells": [{"when": {"a": None}, "unit_price": "1"}]}, "cells[0].when.a: None is not a text"),
        ({"cells": [{"when": {"a": ""}, "unit_price": "1"}]}, "cells[0].when.a: '' is not a text"),
        ({"cells": [{"when": ["a"], "unit_price": "1"}]}, "cells[0].when: ['a'] is not a mapping"),
        ({"cells": [{"when": {}}]}, "cells[0].unit_price: is missing"),
        ({"cells": [{"unit_prize": "1", "unit_price": "1"}]}, "did you mean unit_price?"),
        ({"dimensions": []}, "dimensions: dimensions are a list of 1 to 8 paths"),
        ({"dimensions": ["data.a", 5]}, "dimensions[1]: 5 is not a path"),
        ({"dimensions": ["data.a", "data.a"]}, "dimensions[1]: the dimension 'a' is listed twice"),
        ({"dimensions": ["data."]}, "dimensions[0]: the path"),
        ({"included": "5"}, "included: unknown key of a matrix price"),
    ],
)
def test_what_is_no_matrix_is_told(change: dict[str, Any], text: str) -> None:
    """Each defect at its place."""
    found = problems({**matrix([{"a": "1"}]), **change})
    assert any(text in problem for problem in found), found
