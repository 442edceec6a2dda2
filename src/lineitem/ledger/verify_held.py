"""Whether switches, and the records that they have made wait, are kept as the chain and the raw segments say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lineitem.catalog import published
from lineitem.ingest import held, intake, throttle
from lineitem.ingest.formats.held import Held, enveloped
from lineitem.ingest.intake import Partition
from lineitem.ingest.throttle import What
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.chain import records_digest
from lineitem.ledger.post import LANES
from lineitem.ledger.refold import UsageBatch
from lineitem.ledger.report import Link, Place
from lineitem.ledger.throttling import CLEAR, SET

SQL = load_queries("lineitem.ledger", "verify.sql")
SWITCH_FACTS = (SET, CLEAR)
FACT_HELD = "held"
"""Kind of the fact that records what waits of a batch."""
Recorded = Mapping[Place, tuple[Mapping[str, Any], str]]
Found = Iterator[tuple[Place | None, str]]


def check_switches(connection: Connection, recorded: Mapping[str, Recorded], links: Mapping[Place, Link]) -> Found:
    """Changes as they are kept against the facts that recorded them."""
    wanted = set()
    for kind, facts in recorded.items():
        for place, (fact, _) in facts.items():
            if place not in links or not isinstance(fact["switches"], list):
                continue  # a shape this engine did not write gives its batch's root away
            rest = (fact["reason"], fact["by"], links[place].batch.recorded_us)
            for number, change, what, *of in fact["switches"]:
                act = kind.removeprefix("throttle_")
                wanted.add((*place, fact["namespace"], number, change, act, what, *of, *rest))
    stored = set(connection.execute(throttle.SQL.changes).fetchall())
    for row in sorted(wanted - stored, key=lambda one: one[:2]):
        yield row[:2], "a change of a switch is not kept as it was recorded"
    for row in sorted(stored - wanted, key=lambda one: one[:2]):
        yield row[:2], "a switch counts as changed by it and was not"


def check_held(connection: Connection, recorded: Recorded, links: Mapping[Place, Link]) -> Found:
    """What waits against the facts of its batches, and the partition it is read from against where it came from."""
    rows: dict[Place, list[held.Row]] = {}
    for row in held.stored(connection):
        rows.setdefault(row.place, []).append(row)
    partitions = intake.partitions(connection, published.namespaces(connection))
    for place in sorted(recorded.keys() | rows.keys()):
        said, kept = recorded.get(place), rows.get(place, [])
        if said is None or said[0]["held"] != [row.told for row in kept]:
            yield place, "the records that wait are not those it recorded"
            continue
        for row in kept:
            problem = _problem(row, links.get(place), partitions)
            if problem:
                yield place, problem
    known = {row.partition_key for some in rows.values() for row in some}
    for key, partition in partitions.items():
        if partition.format == Held.name and key not in known:
            yield None, f"partition {key} reads records that wait, and no batch has such"


def _problem(row: held.Row, link: Link | None, partitions: Mapping[int, Partition]) -> str:
    """What is wrong with a part that is the one recorded; "" when nothing is."""
    origin = None if link is None or link.partition_key is None else partitions.get(link.partition_key)
    own = partitions.get(row.partition_key)
    if link is None or origin is None or own is None:
        return "records wait of a batch that read none, or in no partition"
    if (row.namespace_key, row.held_us) != (link.namespace_key, link.batch.recorded_us):
        return "records that wait stand in another namespace, or at another time"
    if row.records * 4 != len(row.ordinals) or row.records * 16 != len(row.keys):
        return "there are more or fewer places than records that wait"
    wanted = held.expected(origin, row.lane, row.batch, row.part, LANES, own.key, own.next)
    if (own.name, own.description, own.lane, own.pass_number) != (
        wanted.name, wanted.description, wanted.lane, wanted.pass_number,
    ):  # fmt: skip
        return "records that wait would be read otherwise than they came in"
    if not 0 <= own.next <= row.records or row.completed != (own.next == row.records):
        return "records that wait count as gone on, or the other way round"
    return ""


# --- verify --deep


@dataclass(slots=True)
class HeldRecords:
    """What waits of a namespace's batches, to be held against their raw segments."""

    rows: dict[Place, list[held.Row]] = field(default_factory=dict)
    released: dict[int, list[tuple[int, int, bytes]]] = field(default_factory=dict)
    """Partition -> start, end and digest of the records of each batch that read it."""
    switches: dict[int, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, connection: Connection, namespace: str) -> HeldRecords:
        """From the tables, which ``check_held`` and ``check_switches`` hold against the chain."""
        found = cls()
        names = published.namespaces(connection)
        for row in held.stored(connection):
            if names.get(row.namespace_key) == namespace:
                found.rows.setdefault(row.place, []).append(row)
        for key, *rest in connection.execute(SQL.released, {"namespace": namespace, "stream": held.STREAM}).fetchall():
            found.released.setdefault(key, []).append((rest[0], rest[1], bytes(rest[2])))
        for _, _, own, number, _, _, what, name, *_ in connection.execute(throttle.SQL.changes).fetchall():
            if own == namespace:
                found.switches[number] = (what, name)
        return found

    def ordinals(self, place: Place) -> list[int]:
        """The records of a batch that a switch made wait, gone on since or not."""
        return [at for row in self.rows.get(place, ()) for at in held.unpacked(row.ordinals).tolist()]

    def agree(self, batch: UsageBatch) -> bool:
        """Whether what waits of a batch are events of its raw records that the switch is about, and whether what has gone
        on of them is what came in."""
        return all(self._agrees(batch, row) for row in self.rows.get((batch.lane, batch.batch), ()))

    def _agrees(self, batch: UsageBatch, row: held.Row) -> bool:
        ordinals, events = held.unpacked(row.ordinals), batch.events
        if (np.diff(ordinals) <= 0).any():
            return False
        at = np.flatnonzero(np.isin(events.ordinal, ordinals))
        if events.key[at].tobytes() != row.keys or not self._is_about(row, [batch.events.subject[i] for i in at.tolist()],
                                                                      [batch.events.type[i] for i in at.tolist()]):  # fmt: skip
            return False
        released = self.released.get(row.partition_key, [])
        records = enveloped(batch.raw, ordinals, batch.format) if released else None
        return records is None or all(records_digest(records[start:end]) == digest for start, end, digest in released)

    def _is_about(self, row: held.Row, accounts: Sequence[str], types: Sequence[str]) -> bool:
        what, name = self.switches.get(row.number, ("", ""))
        if what == What.EACH_ACCOUNT:
            return {row.account} == set(accounts)
        return {name} == set(types if what == What.TYPE else accounts) and row.account is None
