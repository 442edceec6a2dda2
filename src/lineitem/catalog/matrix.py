"""The cells of a ``matrix`` price: read from a document, and checked so that every event has one price at most.

The most specific cell that matches an event wins, that is the one that names most dimensions. Two cells that name equally
many, can match one event and are not decided between by a third are a defect of the catalog.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import combinations

from lineitem.catalog.expression import dimension_name
from lineitem.catalog.model import Cell
from lineitem.catalog.price_reader import Reader, shorten

DIMENSIONS_MAX = 8
CELLS_MAX = 10_000
_VALUE_CHARS_MAX = 256

When = tuple[tuple[str, str], ...]


def read_matrix(reader: Reader) -> tuple[tuple[str, ...], tuple[Cell, ...]]:
    """``dimensions`` and ``cells`` of a price; defects go to the reader. Cells come back in one order, however written."""
    dimensions = _read_dimensions(reader)
    documents = reader.doc.get("cells")
    if documents is None:
        return dimensions, ()
    if not isinstance(documents, list | tuple) or not 0 < len(documents) <= CELLS_MAX:
        reader.problem("cells", f"cells are a list of 1 to {CELLS_MAX} cells")
        return dimensions, ()
    names = [dimension_name(path) for path in dimensions]
    cells = {}
    for index, doc in enumerate(documents):
        if not isinstance(doc, Mapping):
            reader.problem(("cells", index), f"a cell is a mapping of keys, not {shorten(doc)}")
            continue
        cells[index] = _read_cell(Reader(doc, (*reader.where, "cells", index), reader.problems), names)
    for first, second, text in ambiguous(cells):
        reader.problem(("cells", second), f"cells[{first}] and cells[{second}] {text}")
    return dimensions, tuple(sorted(cells.values(), key=lambda cell: (len(cell.when), cell.when)))


def _read_dimensions(reader: Reader) -> tuple[str, ...]:
    written = reader.doc.get("dimensions")
    if written is None:
        return ()
    if not isinstance(written, list | tuple) or not 0 < len(written) <= DIMENSIONS_MAX:
        reader.problem("dimensions", f"dimensions are a list of 1 to {DIMENSIONS_MAX} paths")
        return ()
    paths: list[str] = []
    for index, text in enumerate(written):
        if not isinstance(text, str):
            reader.problem(("dimensions", index), f"{shorten(text)} is not a path such as data.model")
            continue
        path = reader.checked_path(("dimensions", index), text)
        if path is not None and dimension_name(path) in map(dimension_name, paths):
            reader.problem(("dimensions", index), f"the dimension {dimension_name(path)!r} is listed twice")
        elif path is not None:
            paths.append(path)
    return tuple(paths)


def _read_cell(reader: Reader, names: list[str]) -> Cell:
    reader.check_keys(("when", "unit_price"), "a cell")
    reader.require("unit_price")
    when = reader.doc.get("when", {})
    pairs: dict[str, str] = {}
    if not isinstance(when, Mapping):
        reader.problem(
            "when", f'{shorten(when)} is not a mapping such as {{model: "gpt-4o"}}; {{}} matches every event'
        )
        when = {}
    for name, value in when.items():
        text = _value_text(value)
        if name not in names:
            reader.problem(("when", str(name)[:40]), f"is not one of the dimensions {', '.join(names)}")
        elif text is None:
            reader.problem(("when", name), f"{shorten(value)} is not a text of 1 to {_VALUE_CHARS_MAX} characters")
        else:
            pairs[name] = text
    return Cell(reader.decimal("unit_price") or Decimal(0), tuple(sorted(pairs.items())))


def _value_text(value: object) -> str | None:
    """As an event's dimension is read: ``true``, ``7``; a fraction must be in quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        value = str(value) if abs(value) < 10**38 else None
    return value if isinstance(value, str) and 0 < len(value) <= _VALUE_CHARS_MAX else None


def ambiguous(cells: Mapping[int, Cell]) -> Iterator[tuple[int, int, str]]:
    """Pairs of cells, by index, between which no rule decides, and why; one pair for each two sets of dimensions."""
    groups: dict[tuple[str, ...], dict[When, int]] = {}
    for index, cell in cells.items():
        group = groups.setdefault(tuple(name for name, _ in cell.when), {})
        if cell.when in group:
            yield group[cell.when], index, "are for the same events; remove one"
        group.setdefault(cell.when, index)
    for left, right in combinations(groups, 2):
        if len(left) == len(right):
            yield from _undecided(groups, left, right)


def _undecided(
    groups: dict[tuple[str, ...], dict[When, int]], left: tuple[str, ...], right: tuple[str, ...]
) -> Iterator[tuple[int, int, str]]:
    shared = set(left) & set(right)
    both = sorted({*left, *right})
    deciding = [names for names in groups if len(names) > len(left) and set(names) <= set(both)]
    partners: dict[When, list[When]] = {}
    for when in groups[right]:
        partners.setdefault(_only(when, shared), []).append(when)
    for when in groups[left]:
        for other in partners.get(_only(when, shared), ()):
            event = dict((*when, *other))
            if not any(tuple((name, event[name]) for name in names) in groups[names] for names in deciding):
                first, second = sorted((groups[left][when], groups[right][other]))
                text = ", ".join(f"{name}={event[name]}" for name in both)
                yield first, second, f"both match {text} and neither is more specific; add one for that"
                return


def _only(when: When, names: set[str]) -> When:
    return tuple(pair for pair in when if pair[0] in names)
