"""Whether what is kept of producers' sequence numbers is what the chain and the raw segments say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

from lineitem.ingest import sequences
from lineitem.ingest.sequences import Seen, rows_digest
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.post import canonical
from lineitem.ledger.refold import UsageBatch
from lineitem.ledger.report import Link, Place

SQL = load_queries("lineitem.ledger", "verify.sql")
Facts = Mapping[Place, tuple[Mapping[str, Any], str]]
"""Place -> a fact and its text."""
_ROWS_AT_ONCE = 2000


def check_sequences(
    connection: Connection, recorded: Facts, links: Mapping[Place, Link]
) -> Iterator[tuple[Place | None, str]]:
    """Steps against the facts of their batches, and everything that follows from the steps against them."""
    missing = set(recorded)
    with connection.cursor(name="sequence_steps") as cursor:
        cursor.itersize = _ROWS_AT_ONCE
        cursor.execute(SQL.sequence_steps)
        for place, group in groupby(cursor, key=lambda row: (row[0], row[1])):
            missing.discard(place)
            rows, link = list(group), links.get(place)
            found = [Seen._make((row[4] or "?", *row[5:])) for row in rows]
            told = recorded.get(place, ({},))[0]
            if (told.get("producers"), told.get("digest")) != (len(found), rows_digest(found)):
                yield place, "the sequence numbers it saw are not those it recorded"
            if link is None or any(row[2:4] != (link.namespace_key, link.batch.recorded_us) for row in rows):
                yield place, "sequence numbers it saw stand in another namespace or time"
    for place in sorted(missing):
        yield place, "the sequence numbers it saw are missing"
    for lane, batch in connection.execute(SQL.odd_steps).fetchall():
        yield (lane, batch), "the sequence numbers it saw do not continue those before"
    for source, what in connection.execute(SQL.odd_producers).fetchall():
        yield None, f"{what} of producer {source or '?'} is not what its batches saw"


@dataclass(frozen=True, slots=True)
class RawSequences:
    """What batches of a namespace recorded of sequence numbers, to be held against their raw records."""

    namespace: str
    facts: dict[Place, str] = field(default_factory=dict)
    set_aside: dict[Place, list[int]] = field(default_factory=dict)

    @classmethod
    def read(cls, connection: Connection, namespace: str) -> RawSequences:
        """From the chain's facts and the dead letters, which verify holds against the chain."""
        where = {"namespace": namespace}
        facts = connection.execute(SQL.sequence_facts, where).fetchall()
        rows = connection.execute(SQL.set_aside_ordinals, where).fetchall()
        return cls(
            namespace,
            {(lane, batch): body for lane, batch, body in facts},
            {(lane, batch): ordinals for lane, batch, ordinals in rows},
        )

    def agree(self, batch: UsageBatch, waiting: Sequence[int]) -> bool:
        """Whether a batch recorded what its raw records say. ``waiting``: ordinals of records that a switch made wait."""
        place = (batch.lane, batch.batch)
        found = sequences.sightings(batch.events, batch.undecoded)
        if found is None:
            return place not in self.facts
        accepted = batch.events.ordinal[np.flatnonzero(batch.accepted)]
        seen = sequences.seen(found, accepted, [*self.set_aside.get(place, ()), *waiting])
        return self.facts.get(place) == canonical({"namespace": self.namespace} | seen.fact())
