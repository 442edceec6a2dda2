"""``matrix``: the price of one unit depends on the event's dimensions; the most specific cell that matches wins.

An event that no cell matches has no price: it is set aside as ``no_price``, never billed as zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog.expression import dimension_name, parse_path
from lineitem.catalog.expression_tree import Path
from lineitem.catalog.model import Price
from lineitem.core.errors import InputError
from lineitem.core.reasons import Reason
from lineitem.rate.columns import Column
from lineitem.rate.exact import IntArray, compact, multiply
from lineitem.rate.models.event import (
    EventCharge,
    EventModel,
    Inputs,
    Working,
    decimals_of,
    named,
    scaled,
    without_flawed,
)
from lineitem.rate.models.page import Page
from lineitem.rate.readings import Flaw, Flaws, read_dimension, shown

_DENSE_MAX = 1 << 20
"""Combinations of values up to which those present are found by marking instead of sorting."""


class Cells:
    """Which cell an event's values choose."""

    def __init__(self, price: Price) -> None:
        self.names = [dimension_name(path) for path in price.dimensions]
        groups: dict[tuple[str, ...], dict[tuple[str, ...], int]] = {}
        for row, cell in enumerate(price.cells):
            names = tuple(name for name, _ in cell.when)
            groups.setdefault(names, {})[tuple(value for _, value in cell.when)] = row
        # No two groups of one size match the same event undecided (catalog.matrix), so sizes alone give the order.
        self._groups = sorted(groups.items(), key=lambda item: -len(item[0]))

    def of(self, values: Mapping[str, str]) -> int | None:
        """The row of the cell for these values by dimension name; None if none matches."""
        for names, rows in self._groups:
            row = rows.get(tuple(values[name] for name in names))
            if row is not None:
                return row
        return None


def compile_charge(price: Price, quantity_scale: int) -> EventCharge:
    """Value times the price of the chosen cell; each combination of values is looked up once."""
    if not price.cells or not price.dimensions:
        raise InputError(
            "a matrix price needs dimensions and cells", where=f"price {price.id}", do="Add both, see the catalog page."
        )
    cells = Cells(price)
    paths = tuple(parse_path(path) for path in price.dimensions)
    price_scale = decimals_of(*(cell.unit_price for cell in price.cells))
    prices = compact(np.array([scaled(cell.unit_price, price_scale) for cell in price.cells] + [0], dtype=object))

    def charges(values: IntArray, _time_us: NDArray[np.int64], inputs: Inputs) -> tuple[IntArray, Flaws]:
        chosen, flaws = _chosen(cells, paths, [inputs[path] for path in paths])
        return without_flawed(multiply(values, prices[chosen]), flaws), flaws

    return EventCharge(paths, quantity_scale + price_scale, charges)


def _chosen(cells: Cells, paths: tuple[Path, ...], columns: list[Column]) -> tuple[NDArray[np.int64], Flaws]:
    """(n,) the row of each event's cell, -1 where there is none, and why."""
    flaws: Flaws = {}
    dimensions = []
    for path, column in zip(paths, columns, strict=True):
        dimension, unread = read_dimension(column)
        dimensions.append(dimension)
        flaws = {**named(path, unread), **flaws}
    code, first = _combinations([(dimension.index, len(dimension.texts)) for dimension in dimensions])
    found = np.full(len(first), -1, dtype=np.int64)
    for number, row in enumerate(first.tolist()):
        texts = [dimension.texts[dimension.index[row]] for dimension in dimensions]
        cell = cells.of(dict(zip(cells.names, texts, strict=True)))
        if cell is not None:
            found[number] = cell
    chosen: NDArray[np.int64] = found[code]
    for row in np.flatnonzero(chosen < 0).tolist():
        pairs = zip(cells.names, columns, strict=True)
        text = ", ".join(f"{name}={shown(column.values[row])}" for name, column in pairs)
        flaws.setdefault(row, Flaw(Reason.NO_PRICE, f"no cell of the price matches {text}"))
    return chosen, flaws


def _combinations(indexes: list[tuple[NDArray[np.int32], int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(n,) which combination of values each event has, numbered from 0, and (c,) an event of each combination."""
    count = len(indexes[0][0])
    code, codes = np.zeros(count, dtype=np.int64), 1
    first = np.zeros(min(count, 1), dtype=np.int64)
    for index, values in indexes:
        code = code * values + index
        codes *= values
        if codes <= _DENSE_MAX:
            seen = np.full(codes, -1, dtype=np.int64)
            seen[code] = np.arange(count)
            present = np.flatnonzero(seen >= 0)
            first = seen[present]
            number = np.zeros(codes, dtype=np.int64)
            number[present] = np.arange(len(present))
            code = number[code]
        else:
            _, first, code = np.unique(code, return_index=True, return_inverse=True)
        codes = len(first)
    return code, first


def working(price: Price, _value: Fraction, _time_us: int, _free: Fraction | None, row: Mapping[Path, Any]) -> Working:
    """The cell that was chosen, and its price."""
    paths = tuple(parse_path(path) for path in price.dimensions)
    chosen, _ = _chosen(Cells(price), paths, [Column([row[path]]) for path in paths])
    cell = price.cells[int(chosen[0])]
    text = ", ".join(f"{name}={value}" for name, value in cell.when)
    return Working(unit_price=Fraction(Decimal(cell.unit_price)), note=text or "any other")


PAGE = Page(
    summary=(
        "The price of one unit depends on the event's `dimensions`. Of the cells that match an event, the "
        "most specific one wins: the one that names most dimensions. Two cells that name equally many and can"
        " match one event are refused when the catalog is read, unless a third decides between them. An event"
        " that no cell matches is a dead letter `no_price`, never a zero."
    ),
    when=("One price list over models, regions, instance types: instead of a meter and a price for each combination."),
    example={
        "model": "matrix",
        "currency": "USD",
        "dimensions": ["data.model", "data.region"],
        "cells": [
            {"when": {"model": "gpt-4o", "region": "eu"}, "unit_price": "0.000003"},
            {"when": {"model": "gpt-4o"}, "unit_price": "0.0000025"},
            {"when": {}, "unit_price": "0.000001"},
        ],
    },
    usage=(
        {"value": "1000000", "data": {"model": "gpt-4o", "region": "eu"}},
        {"value": "1000000", "data": {"model": "gpt-4o", "region": "us"}},
        {"value": "1000000", "data": {"model": "other"}},
    ),
)
MODEL = EventModel(compile_charge, working, PAGE)
