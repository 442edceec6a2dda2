"""Whether backfills and the events that reverting took out of them are what the chain recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lineitem.catalog import published
from lineitem.ingest import backfills
from lineitem.ingest.intake import PLACE
from lineitem.kit.db import Connection
from lineitem.ledger.report import Place

Recorded = Mapping[Place, tuple[Mapping[str, Any], str]]
"""Place -> a fact and its text."""


def check_backfills(connection: Connection, recorded: Recorded) -> Iterator[tuple[Place | None, str]]:
    """``recorded``: the facts of reverts (``revert.FACT``)."""
    gone, none = backfills.reverted_by_batch(connection), np.zeros(0, dtype=PLACE)
    for place, (fact, _) in recorded.items():
        out = gone.pop(place[1], none) if place[0] == 0 else none
        if (len(out), backfills.digest(out)) != (fact["events"], fact["digest"]):
            yield place, "the events it reverted are not those it recorded"
    for other in gone:
        yield (0, other), "events count as reverted that it did not revert"
    names = published.namespaces(connection)
    first: dict[tuple[str, str], int] = {}
    for (_, number), (fact, _) in sorted(recorded.items()):
        first.setdefault((fact["namespace"], fact["backfill"]), number)
    stored = {
        (names.get(one.namespace_key, "?"), one.name): one.reverted_batch for one in backfills.backfills(connection)
    }
    begun = {(names.get(key, "?"), name) for key, name in backfills.passes(connection).values()}
    for namespace, name in sorted(begun | first.keys() | stored.keys()):
        known, batch = stored.get((namespace, name)), first.get((namespace, name))
        blamed = None if batch is None else (0, batch)
        if (namespace, name) not in stored:
            yield blamed, f"backfill {name} of {namespace} is missing"
        elif known != batch:
            yield blamed, f"backfill {name} of {namespace} counts as reverted otherwise than recorded"
