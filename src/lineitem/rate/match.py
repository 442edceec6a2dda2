"""Which meters count which events of a batch, and what they read from them. Pure: columns in, columns out.

A meter counts an event of its type that passes its filter. An event is accepted whole or not at all: where one of its
meters cannot read what it needs, none of them counts it and it is one reject, with the first such meter's reason in
the order of ``meters``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lineitem.catalog.expression import dimension_name, parse_filter, parse_path, parse_value
from lineitem.catalog.expression_tree import Path
from lineitem.catalog.model import Aggregation, Meter
from lineitem.ingest.events import EventColumns, Reject
from lineitem.rate.columns import Columns
from lineitem.rate.exact import IntArray
from lineitem.rate.filter import passes
from lineitem.rate.readings import Dimension, Flaw, Flaws, read_dimension, read_members, read_quantities
from lineitem.rate.value import compute_values

Rows = NDArray[np.int64]


@dataclass(slots=True)
class MeterMatch:
    """The events one meter counts, in the order of the batch; every column has shape (k,).

    ``rows``: int64, positions in EventColumns. ``value``: integers at the meter's scale, int64 if all fit, else Python
    ints; one unit per event for ``count`` and ``unique``. ``member``: V16, for ``unique`` only: a digest of the value
    counted (equal for 1 and 1.0, different for 1 and "1"). ``dimensions[dimension_index[i]]`` are the values of the
    meter's dimensions, named by ``dimension_names``; the tuples are distinct, and some may have no row; both are None
    for a meter without dimensions.
    """

    meter: Meter
    rows: Rows
    value: IntArray
    member: NDArray[np.void] | None = None
    dimensions: list[tuple[str, ...]] | None = None
    dimension_index: NDArray[np.int32] | None = None

    def select(self, keep: NDArray[np.bool_]) -> MeterMatch:
        """The rows of the (k,) mask ``keep``."""
        if keep.all():
            return self
        return replace(
            self,
            rows=self.rows[keep],
            value=self.value[keep],
            member=None if self.member is None else self.member[keep],
            dimension_index=None if self.dimension_index is None else self.dimension_index[keep],
        )


@lru_cache(maxsize=4096)
def dimension_names(meter: Meter) -> tuple[str, ...]:
    """Tag keys of the meter's dimensions, in the order of ``MeterMatch.dimensions``: ``data.model -> model``."""
    return tuple(dimension_name(path) for path in meter.dimensions)


def match(events: EventColumns, meters: Sequence[Meter]) -> tuple[list[MeterMatch], list[Reject]]:
    """Match a batch's events to meters.

    Returns one MeterMatch per meter that counts at least one event, in the order of ``meters``, and the rejects in the
    order of the batch (``missing_value``, ``bad_value``, ``too_precise``, ``value_out_of_range``). An event that is in
    neither is billed by no meter.
    """
    of_type: dict[str, list[Meter]] = {}
    for meter in meters:
        of_type.setdefault(meter.event_type, []).append(meter)
    matches: list[MeterMatch] = []
    rejects: list[Reject] = []
    for event_type, rows in _rows_by_type(events.type):
        if event_type in of_type:
            found, refused = _match_type(Columns(events, rows), of_type[event_type])
            matches += found if rows is None else [replace(one, rows=rows[one.rows]) for one in found]
            rejects += [_reject(events, _absolute(rows, local), flaw) for local, flaw in refused.items()]
    place = {meter.id: number for number, meter in enumerate(meters)}
    matches.sort(key=lambda one: place[one.meter.id])
    rejects.sort(key=lambda reject: reject.ordinal)
    return matches, rejects


def _rows_by_type(types: list[str]) -> Iterator[tuple[str, Rows | None]]:
    """Each type that occurs with the positions of its events; None for all of them."""
    if not types:
        return
    if types.count(types[0]) == len(types):
        yield types[0], None
        return
    codes = {type_: code for code, type_ in enumerate(dict.fromkeys(types))}
    coded = np.fromiter(map(codes.__getitem__, types), dtype=np.int32, count=len(types))
    order = np.argsort(coded, kind="stable")
    ends = np.cumsum(np.bincount(coded))
    yield from zip(codes, np.split(order, ends[:-1]), strict=True)


def _absolute(rows: Rows | None, local: int) -> int:
    return local if rows is None else int(rows[local])


def _reject(events: EventColumns, row: int, flaw: Flaw) -> Reject:
    key, digest = events.key[row].tobytes(), events.digest[row].tobytes()
    return Reject(int(events.ordinal[row]), flaw.reason, flaw.text, key, digest)


def _match_type(columns: Columns, meters: Sequence[Meter]) -> tuple[list[MeterMatch], Flaws]:
    """Match events of one type; rows and flaws count from the first event of the type."""
    reader = _Reader(columns)
    matches = [reader.read(meter, _selected(meter, columns)) for meter in meters]
    if reader.refused:
        kept = np.ones(len(columns), dtype=np.bool_)
        kept[list(reader.refused)] = False
        matches = [one.select(kept[one.rows]) for one in matches]
    return [one for one in matches if len(one.rows)], reader.refused


def _selected(meter: Meter, columns: Columns) -> Rows | None:
    """Positions of the events that pass the meter's filter; None for all of them."""
    if meter.filter is None:
        return None
    passing = passes(parse_filter(meter.filter), columns)
    return None if passing.all() else np.flatnonzero(passing)


class _Reader:
    """Reads values, members and dimensions of the events of one type; what cannot be read is in ``refused``."""

    def __init__(self, columns: Columns) -> None:
        self.refused: Flaws = {}
        self._columns = columns
        self._dimensions: dict[str, tuple[Dimension, Flaws]] = {}

    def read(self, meter: Meter, rows: Rows | None) -> MeterMatch:
        """What ``meter`` reads from the events at ``rows``, None for all of them."""
        positions = np.arange(len(self._columns), dtype=np.int64) if rows is None else rows
        match = MeterMatch(meter, positions, np.full(len(positions), 10**meter.quantity_scale, dtype=np.int64))
        if meter.aggregation is not Aggregation.COUNT:
            flaws = self._read_value(match, meter, rows)
            self._refuse(meter, {int(positions[at]): flaw for at, flaw in flaws.items()})
        if meter.dimensions:
            parts = [self._dimension(meter, path, positions) for path in meter.dimensions]
            match.dimensions, match.dimension_index = combined(parts)
        return match

    def _read_value(self, match: MeterMatch, meter: Meter, rows: Rows | None) -> Flaws:
        """Sets the match's values or members; the flaws found count from the first of ``rows`` and name their path."""
        text = meter.value or ""
        value = parse_value(text)
        if not isinstance(value, Path):
            match.value, flaws = compute_values(value, self._columns, rows, meter.scale)
            return flaws
        column = self._columns.column(value).take(rows)
        if meter.aggregation is Aggregation.UNIQUE:
            match.member, flaws = read_members(column)
        else:
            match.value, flaws = read_quantities(column, meter.scale)
        return _about(text, flaws)

    def _dimension(self, meter: Meter, path: str, positions: Rows) -> Dimension:
        """One dimension at ``positions``; it is read once for all events, because meters of one type share them."""
        if path not in self._dimensions:
            self._dimensions[path] = read_dimension(self._columns.column(parse_path(path)))
        whole, flaws = self._dimensions[path]
        if flaws:
            wanted = set(positions.tolist())
            self._refuse(meter, _about(path, {at: flaw for at, flaw in flaws.items() if at in wanted}))
        return Dimension(whole.texts, whole.index[positions])

    def _refuse(self, meter: Meter, flaws: Flaws) -> None:
        for at, flaw in flaws.items():
            self.refused.setdefault(at, Flaw(flaw.reason, f"meter {meter.id}: {flaw.text}"))


def _about(path: str, flaws: Flaws) -> Flaws:
    """The flaws with the path that is read in front of their texts."""
    return {at: Flaw(flaw.reason, f"{path} {flaw.text}") for at, flaw in flaws.items()}


def combined(parts: Sequence[Dimension]) -> tuple[list[tuple[str, ...]], NDArray[np.int32]]:
    """Dimensions side by side: the distinct tuples that occur, and which one each of the n events has, (n,) int32."""
    tuples: list[tuple[str, ...]] = [(text,) for text in parts[0].texts]
    index = parts[0].index
    for part in parts[1:]:
        # At most n tuples times at most n texts: far below int64 for any batch.
        codes = index.astype(np.int64) * len(part.texts) + part.index
        distinct, inverse = np.unique(codes, return_inverse=True)
        pairs = [divmod(code, len(part.texts)) for code in distinct.tolist()]
        tuples = [(*tuples[left], part.texts[right]) for left, right in pairs]
        index = inverse.astype(np.int32)
    return tuples, index
