"""Values of a batch's events by path, taken out once and as int64 where every one of them is a small integer."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog.expression_tree import Path
from lineitem.ingest.events import EventColumns


class Column:
    """n values as JSON has them (str, int, Decimal, bool, list, dict; None for null and for missing)."""

    __slots__ = ("ints", "kinds", "values")

    def __init__(self, values: list[Any]) -> None:
        self.values = values
        self.kinds = set(map(type, values))
        self.ints = int64_of(values) if self.kinds == {int} else None
        """(n,) int64 if all values are integers that fit, else None. (``True`` is not an integer here.)"""

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: NDArray[np.int64] | None) -> Column:
        """The values at ``rows``; None takes all."""
        if rows is None:
            return self
        return Column(list(map(self.values.__getitem__, rows.tolist())))


class Columns:
    """The events of one type in a batch, column by column; a path is walked once however many meters read it."""

    def __init__(self, events: EventColumns, rows: NDArray[np.int64] | None) -> None:
        """``rows``: (n,) which events; None for all of them."""
        self._events = events
        self._rows = rows
        self._count = len(events) if rows is None else len(rows)
        self._columns: dict[tuple[str, ...], Column] = {}
        self._data: list[dict[str, Any]] | None = None

    def __len__(self) -> int:
        return self._count

    def column(self, path: Path) -> Column:
        """The values at ``path``."""
        found = self._columns.get(path.steps)
        if found is None:
            found = self._columns[path.steps] = Column(self._walk(path.steps))
        return found

    def _walk(self, steps: tuple[str, ...]) -> list[Any]:
        if steps[0] != "data":
            return self._taken(getattr(self._events, steps[0]))
        if self._data is None:
            self._data = self._taken(self._events.data)
        first = steps[1]
        values: list[Any] = [payload.get(first) for payload in self._data]
        for step in steps[2:]:
            values = [value.get(step) if value.__class__ is dict else None for value in values]
        return values

    def _taken(self, values: list[Any]) -> list[Any]:
        return values if self._rows is None else list(map(values.__getitem__, self._rows.tolist()))


def is_number(value: object) -> TypeGuard[int | Decimal]:
    """Whether a JSON value is a finite number; ``True`` is none, nor is a numeric text."""
    return value.__class__ is int or (isinstance(value, Decimal) and value.is_finite())


def booleans(values: Iterable[bool], count: int) -> NDArray[np.bool_]:
    """(count,) bool from an iterable."""
    return np.fromiter(values, dtype=np.bool_, count=count)


def int64_of(values: list[int]) -> NDArray[np.int64] | None:
    """(n,) int64 from Python ints, None if one does not fit."""
    try:
        return np.fromiter(values, dtype=np.int64, count=len(values))
    except OverflowError:
        return None
