"""Records that a switch makes wait: sifted out of a batch's events as columns, kept by their places, read again later.

What waits is one row for each switch of a batch, and a source partition over the records in the batch's raw segment: its
position moves as that of any source does, so a record goes on once, whoever reads it and whoever dies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineitem.core.limits import ACCOUNTS_HELD_MAX
from lineitem.core.reasons import Reason
from lineitem.ingest.events import EventColumns
from lineitem.ingest.formats.held import Held, origin_settings
from lineitem.ingest.intake import Partition, lane_of, settings_text
from lineitem.ingest.throttle import EachAccount, Switch, What
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries

SQL = load_queries("lineitem.ingest", "held.sql")
STREAM = "held"
"""Stream of the partitions that held records are read from; migration 0017 knows it."""
Allowed = Callable[[Switch, int], int]
"""A switch with a limit, how many events there are: how many of them may go on."""


class Part(NamedTuple):
    """Events of a batch that wait for one switch. ``account``: whose limit it was, under one that each account has."""

    number: int
    account: str | None
    reason: Reason
    ordinals: NDArray[np.int32]  # (k,) ascending
    keys: NDArray[np.void]  # (k,) V16


class Sifted(NamedTuple):
    """``rows``: (n,) int64, of the events that go on; ``parts``: the others."""

    rows: NDArray[np.int64]
    parts: list[Part]


def sift(
    events: EventColumns,
    switches: Sequence[Switch],
    allowed: Allowed,
    each: EachAccount,
    now_us: int,
    released: int | None = None,
) -> Sifted | None:
    """Which events have to wait; None where all go on. ``released``: a switch that has let these events through already.

    Pauses come before limits, a limit of the account's own takes the place of one that each account has. An event waits
    for one switch at a time.
    """
    wanted = sorted(
        (one for one in switches if one.what is not What.SOURCE and one.number != released),
        key=lambda one: (one.what is What.EACH_ACCOUNT, one.per_second is not None, one.number),
    )
    if not wanted or not len(events):
        return None
    columns = _Columns(events)
    going = np.ones(len(events), dtype=np.bool_)
    parts: list[Part] = []
    own = [one.name for one in switches if one.what is What.ACCOUNT]
    for switch in wanted:
        if switch.what is What.EACH_ACCOUNT:
            parts += _each_account(columns, switch, each, going, own, now_us)
            continue
        rows = np.flatnonzero(columns.of(switch) & going)
        if switch.per_second is not None and len(rows):
            rows = rows[allowed(switch, len(rows)) :]
        if len(rows):
            going[rows] = False
            parts.append(_part(events, switch, None, rows))
    return Sifted(np.flatnonzero(going), parts) if parts else None


class _Columns:
    """Accounts and types of events as codes, made when first asked for."""

    def __init__(self, events: EventColumns) -> None:
        self.events = events
        self._made: dict[What, tuple[list[str], NDArray[np.int32]]] = {}

    def codes(self, what: What) -> tuple[list[str], NDArray[np.int32]]:
        """Distinct names, and (n,) which of them each event has."""
        if what not in self._made:
            column = self.events.type if what is What.TYPE else self.events.subject
            encoded = pa.array(column, pa.string()).dictionary_encode()
            self._made[what] = (encoded.dictionary.to_pylist(), np.asarray(encoded.indices).astype(np.int32))
        return self._made[what]

    def of(self, switch: Switch) -> NDArray[np.bool_]:
        """(n,) bool: the events that a switch is about."""
        names, codes = self.codes(switch.what)
        if switch.name not in names:
            return np.zeros(len(codes), dtype=np.bool_)
        found: NDArray[np.bool_] = codes == names.index(switch.name)
        return found


def _each_account(
    columns: _Columns, switch: Switch, each: EachAccount, going: NDArray[np.bool_], own: Sequence[str], now_us: int
) -> list[Part]:
    """The excess of single accounts: the last events of each, of the accounts with the largest excess."""
    names, codes = columns.codes(What.ACCOUNT)
    counts = np.bincount(codes[going], minlength=len(names))
    some = [at for at in np.flatnonzero(counts).tolist() if names[at] not in own]
    wanted = counts[some].tolist()
    accounts = [names[at] for at in some]
    granted = (
        [0] * len(some) if switch.per_second is None else each.allowed(accounts, wanted, switch.per_second, now_us)
    )
    over = sorted(
        ((count - let, at, let) for at, count, let in zip(some, wanted, granted, strict=True) if count > let),
        reverse=True,
    )
    parts = []
    for _, at, let in over[:ACCOUNTS_HELD_MAX]:
        rows = np.flatnonzero((codes == at) & going)[let:]
        going[rows] = False
        parts.append(_part(columns.events, switch, names[at], rows))
    return parts


def _part(events: EventColumns, switch: Switch, account: str | None, rows: NDArray[np.int64]) -> Part:
    return Part(switch.number, account, switch.reason, events.ordinal[rows], events.key[rows])


def ordinals_of(parts: Sequence[Part]) -> NDArray[np.int32]:
    """The places of all records that wait."""
    return np.concatenate([np.zeros(0, np.int32), *(part.ordinals for part in parts)])


# --- kept


class Row(NamedTuple):
    """A part as it is kept. ``next`` and ``completed`` are its partition's: how many records have gone on, and whether all."""

    lane: int
    batch: int
    part: int
    namespace_key: int
    number: int
    account: str | None
    reason: int
    records: int
    ordinals: bytes
    keys: bytes
    held_us: int
    partition_key: int
    next: int | None
    completed: bool

    @property
    def place(self) -> tuple[int, int]:
        """Lane and number of the batch."""
        return self.lane, self.batch

    @property
    def told(self) -> list[Any]:
        """What a fact says of it, see ``fact``."""
        return _told(self.part, self.number, self.account, self.reason, self.ordinals, self.keys)


def fact(parts: Sequence[Part]) -> list[list[Any]]:
    """Parts as the chain records them: which one, switch, account, code, how many, SHA-256 over ordinals and keys."""
    return [
        _told(at, part.number, part.account, int(part.reason), _packed(part), part.keys.tobytes())
        for at, part in enumerate(parts)
    ]


def _told(at: int, number: int, account: str | None, reason: int, ordinals: bytes, keys: bytes) -> list[Any]:
    codes = {one.value: one.code for one in Reason}
    return [at, number, account, codes.get(reason, reason), len(ordinals) // 4, sha256(ordinals + keys).hexdigest()]


def _packed(part: Part) -> bytes:
    return part.ordinals.astype(">i4").tobytes()


def unpacked(ordinals: bytes) -> NDArray[np.int32]:
    """Kept ordinals as a column."""
    return np.frombuffer(ordinals[: len(ordinals) // 4 * 4], dtype=">i4").astype(np.int32)


def content_of(lane: int, batch: int, part: int) -> str:
    """What stands for a file's digest in the partition of a part."""
    return sha256(f"held {lane}-{batch}-{part}".encode()).hexdigest()


def add(
    connection: Connection, partition: Partition, parts: Sequence[Part], lane: int, batch: int, now_us: int, lanes: int
) -> None:
    """Keep the parts of a batch of ``partition``, each with a partition of its own in one of ``lanes`` lanes."""
    for at, part in enumerate(parts):
        own = expected(partition, lane, batch, at, lanes)
        values = {
            "lane": lane,
            "batch": batch,
            "part": at,
            "number": part.number,
            "account": part.account,
            "reason": int(part.reason),
            "records": len(part.ordinals),
            "ordinals": _packed(part),
            "keys": part.keys.tobytes(),
            "held_us": now_us,
            "namespace_key": own.namespace_key,
            "stream": own.stream,
            "content": own.content,
            "own_lane": own.lane,
            "format": own.format,
            "settings": settings_text(own.settings),
        }
        connection.execute(SQL.add, values)


def expected(
    origin: Partition, lane: int, batch: int, part: int, lanes: int, key: int = 0, next_: int = 0
) -> Partition:
    """The partition of a part of a batch that read ``origin``."""
    content = content_of(lane, batch, part)
    settings = origin_settings(origin.stream, origin.format, origin.settings)
    own_lane = lane_of(origin.namespace, STREAM, content, 1, lanes)
    return Partition(
        key, origin.namespace, origin.namespace_key, STREAM, content, 1, own_lane, Held.name, settings, next_
    )


class Waiting(NamedTuple):
    """A part that has not wholly gone on: the batch whose segment has its records, and how many of them have."""

    partition_key: int
    lane: int
    batch: int
    number: int
    account: str | None
    records: int
    ordinals: bytes
    next: int


def waiting(
    connection: Connection,
    namespace_key: int,
    numbers: Sequence[int],
    accounts: Sequence[str],
    partitions: Sequence[int],
    limit: int,
) -> list[Waiting]:
    """Parts that wait, oldest first, but those of switches and accounts that may not go on now, and of ``partitions``."""
    where = {
        "namespace_key": namespace_key,
        "numbers": list(numbers),
        "accounts": list(accounts),
        "partitions": list(partitions),
        "limit": limit,
    }
    return [Waiting(*row) for row in connection.execute(SQL.waiting, where).fetchall()]


class Sum(NamedTuple):
    """What waits for a switch with one code; ``since_us`` of the oldest, ``until_us`` of the newest."""

    namespace_key: int
    number: int
    reason: Reason
    records: int
    since_us: int
    until_us: int


def sums(connection: Connection, namespace_key: int | None = None) -> list[Sum]:
    """How much waits, by switch and code; of all namespaces where none is named."""
    rows = connection.execute(SQL.sums, {"namespace_key": namespace_key}).fetchall()
    return [Sum(key, number, Reason(reason), *rest) for key, number, reason, *rest in rows]


def stored(connection: Connection) -> list[Row]:
    """Everything that was ever held, in the order of batches."""
    return [
        Row._make((*row[:8], bytes(row[8]), bytes(row[9]), *row[10:]))
        for row in connection.execute(SQL.stored).fetchall()
    ]
