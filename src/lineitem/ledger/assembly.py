"""Rows come in the order they lie on disk, batches are checked whole: this keeps a batch until all of it is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineitem.ledger.report import Place
from lineitem.ledger.rows import run_starts

_RUNS_MAX = 1024
"""A block in more runs than this is sorted by place first: a run costs Python."""


class Assembly:
    """Rows by batch; memory holds those of batches begun and not complete.

    A batch writes its rows in one stretch, so few are open at a time, however large the ledger is.
    """

    def __init__(self, wanted: Mapping[Place, int]) -> None:
        """``wanted``: how many rows each batch says it has."""
        self._left = dict(wanted)
        self._parts: dict[Place, list[NDArray[Any]]] = {}
        self.strangers: dict[Place, int] = {}
        """Rows of no batch, or of one that was complete without them."""

    def add(self, rows: NDArray[Any]) -> Iterator[tuple[Place, list[NDArray[Any]]]]:
        """Take a block, (n,) with fields ``lane`` and ``batch``; gives the batches it completes, with all their rows."""
        begun: set[Place] = set()
        for place, part in _by_place(rows):
            if place not in self._left:
                self.strangers[place] = self.strangers.get(place, 0) + len(part)
                continue
            self._parts.setdefault(place, []).append(part)
            self._left[place] -= len(part)
            if self._left[place] > 0:
                begun.add(place)
                continue
            del self._left[place]
            yield place, self._parts.pop(place)
        for parts in (self._parts[place] for place in begun & self._parts.keys()):
            # A view would keep the whole block in memory for a few rows of it.
            parts[:] = [part if part.base is None else part.copy() for part in parts]

    def rest(self) -> Iterator[tuple[Place, list[NDArray[Any]]]]:
        """Batches that are not complete, with the rows they have."""
        for place in self._left:
            yield place, self._parts.get(place, [])


def _by_place(rows: NDArray[Any]) -> Iterator[tuple[Place, NDArray[Any]]]:
    """A block cut where lane or batch changes; where that is too often, in order of them."""
    starts = run_starts(rows["lane"], rows["batch"])
    if len(starts) > _RUNS_MAX:
        rows = rows[np.lexsort((rows["batch"], rows["lane"]))]
        starts = run_starts(rows["lane"], rows["batch"])
    lanes, batches = rows["lane"][starts].tolist(), rows["batch"][starts].tolist()
    ends = [*starts.tolist(), len(rows)][1:]
    for lane, batch, start, end in zip(lanes, batches, starts.tolist(), ends, strict=True):
        yield (lane, batch), rows[start:end]
