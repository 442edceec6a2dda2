"""Ingest's tables: passes and positions, identities, dead letters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lineitem.core.errors import PositionMoved
from lineitem.core.ids import length_prefixed, text_digest
from lineitem.core.limits import DEAD_LETTER_RAW_BYTES_MAX
from lineitem.core.period import us_to_datetime
from lineitem.core.reasons import Reason
from lineitem.ingest.events import RawRecords, Reject
from lineitem.kit.arrays import uuids
from lineitem.kit.copy import Column, copy_rows, encode
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries

SQL = load_queries("lineitem.ingest", "ingest.sql")
COPY_OUT_IDENTITIES = SQL.copy_out_identities
"""Binary COPY of every accepted event, many packed in one value: lane, batch, ordinal, key, digest, namespace."""


STREAM = "stream"
"""Stands where a file's digest does for a partition of a stream, which is read once and never ends: pass 0."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One pass over one file, or one partition of a stream such as a Kafka topic's: what positions count in."""

    key: int
    namespace: str
    namespace_key: int
    stream: str
    content: str
    pass_number: int
    lane: int
    format: str
    settings: Mapping[str, Any]
    next: int

    @property
    def name(self) -> str:
        """Unique, readable, and safe in a segment's name."""
        return partition_name(self.namespace, self.stream, self.content, self.pass_number)

    @property
    def description(self) -> str:
        """What a batch's hash covers of its partition: the name, and how its records are decoded."""
        return f"{self.name} {self.format} {sha256(settings_text(self.settings).encode()).hexdigest()}"


def settings_text(settings: Mapping[str, Any]) -> str:
    """A format's settings as canonical JSON."""
    return json.dumps(settings, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def partition_name(namespace: str, stream: str, content: str, pass_number: int) -> str:
    """``<digest of namespace and stream>/<file digest>-<pass>``; ``.../stream-0`` for a stream's partition."""
    return f"{text_digest(namespace, stream).hex()[:12]}/{content[:24]}-{pass_number}"


def open_pass(
    connection: Connection,
    namespace: str,
    namespace_key: int,
    stream: str,
    content: str,
    lanes: int,
    format: str,
    settings: Mapping[str, Any],
) -> Partition:
    """The pass to read: an interrupted one goes on where it stopped, after a finished one a new one starts.

    The pass hashes to one of ``lanes`` lanes. The caller holds ``exclusive``.
    """
    where = {"namespace_key": namespace_key, "stream": stream, "content": content}
    row = connection.execute(SQL.latest_pass, where).fetchone()
    if row is not None and not row[4]:
        return Partition(
            row[0], namespace, namespace_key, stream, content, row[1], row[2], row[5], json.loads(row[6]), row[3]
        )
    number = 1 if row is None else row[1] + 1
    lane = lane_of(namespace, stream, content, number, lanes)
    values = where | {
        "pass": number,
        "lane": lane,
        "format": format,
        "settings": settings_text(settings),
    }
    added = connection.execute(SQL.add_pass, values).fetchone()
    assert added is not None
    return Partition(added[0], namespace, namespace_key, stream, content, number, lane, format, settings, 0)


def lane_of(namespace: str, stream: str, content: str, number: int, lanes: int) -> int:
    """The lane of ``lanes`` that a partition hashes to."""
    return int(text_digest(partition_name(namespace, stream, content, number)).hex()[:8], 16) % lanes + 1


def open_stream(
    connection: Connection,
    namespace: str,
    namespace_key: int,
    stream: str,
    lanes: int,
    format: str,
    settings: Mapping[str, Any],
) -> Partition:
    """A stream's partition where the ledger left it; made on first use, with ``format`` and ``settings`` for good.

    Any number of processes may open it: which of them reads it is for the broker to say, and who commits for ``advance``.
    """
    where = {"namespace_key": namespace_key, "stream": stream, "content": STREAM}
    made = {
        "pass": 0,
        "lane": lane_of(namespace, stream, STREAM, 0, lanes),
        "format": format,
        "settings": settings_text(settings),
    }
    connection.execute(SQL.add_stream, where | made)
    found = known_stream(connection, namespace, namespace_key, stream)
    assert found is not None
    return found


def known_stream(connection: Connection, namespace: str, namespace_key: int, stream: str) -> Partition | None:
    """A stream's partition where the ledger left it; None where it was never read."""
    where = {"namespace_key": namespace_key, "stream": stream, "content": STREAM}
    row = connection.execute(SQL.latest_pass, where).fetchone()
    if row is None:
        return None
    key, number, lane, next_, _, format_, stored = row
    return Partition(key, namespace, namespace_key, stream, STREAM, number, lane, format_, json.loads(stored), next_)


def streams(connection: Connection, namespace_key: int, prefix: str) -> list[str]:
    """Names of the streams read so far that begin with ``prefix``."""
    values = {"namespace_key": namespace_key, "content": STREAM, "prefix": prefix}
    return [str(row[0]) for row in connection.execute(SQL.streams, values).fetchall()]


def stream_positions(connection: Connection, namespace_key: int) -> list[tuple[str, int]]:
    """Every stream of a namespace and how far it is in the ledger, in the order in which they were first read."""
    values = {"namespace_key": namespace_key, "content": STREAM}
    return [(str(stream), int(at)) for stream, at in connection.execute(SQL.stream_positions, values).fetchall()]


@contextmanager
def exclusive(connection: Connection, namespace: str, stream: str, content: str) -> Iterator[None]:
    """Read a file alone: a second process waits for the first. The lock falls with the session that holds it.

    Only a courtesy: what keeps two readers from counting a record twice is ``advance``.
    """
    name = {"name": partition_name(namespace, stream, content, 0)}
    connection.execute(SQL.wait_partition, name)
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute(SQL.unlock_partition, name)


def complete(connection: Connection, partition_key: int, now_us: int) -> None:
    """The pass has been read to the file's end; reading the file again starts another one."""
    connection.execute(SQL.complete_pass, {"partition_key": partition_key, "now": us_to_datetime(now_us)})


def partitions(
    connection: Connection, namespaces: Mapping[int, str], keys: Sequence[int] | None = None
) -> dict[int, Partition]:
    """Every pass over every file, or those of ``keys``, by key."""
    found = {}
    rows = connection.execute(SQL.partitions, {"keys": None if keys is None else list(keys)})
    for key, namespace, stream, content, number, lane, format, settings, next_ in rows:
        found[key] = Partition(
            key,
            namespaces.get(namespace, ""),
            namespace,
            stream,
            content,
            number,
            lane,
            format,
            stored_settings(settings),
            next_,
        )
    return found


def interrupted(connection: Connection) -> int:
    """How many files there are whose reading stopped half way."""
    row = connection.execute(SQL.interrupted).fetchone()
    return 0 if row is None else int(row[0])


def stored_settings(settings: str) -> dict[str, Any]:
    """Stored settings; what cannot be read describes nothing, so that ``verify`` names the batches instead of failing."""
    try:
        found = json.loads(settings)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"unreadable": settings}


def sightings(connection: Connection) -> list[tuple[int, int, int, bytes]]:
    """(lane, batch, ordinal, fingerprint) of every record set aside."""
    return [(row[0], row[1], row[2], row[3].bytes) for row in connection.execute(SQL.sightings).fetchall()]


def advance(connection: Connection, partition_key: int, start: int, end: int) -> None:
    """Move the position from ``start`` to ``end``, or raise PositionMoved: another process was here."""
    done = connection.execute(SQL.advance_position, {"partition_key": partition_key, "start": start, "end": end})
    if done.rowcount != 1:
        raise PositionMoved(
            f"another process has read on from position {start} of this source meanwhile",
            do="Nothing is counted twice; run the same command again to see the file to its end.",
        )


def known_identities(connection: Connection, keys: NDArray[np.void]) -> dict[bytes, bytes]:
    """Key -> digest of those ``keys`` (n,) V16 that were accepted before."""
    row = connection.execute(SQL.known_identities, {"keys": uuids(keys)}, binary=True).fetchone()
    packed = b"" if row is None else bytes(row[0])
    return {packed[at : at + 16]: packed[at + 16 : at + 32] for at in range(0, len(packed), 32)}


PLACE = np.dtype([("key", "V16"), ("digest", "V16"), ("lane", ">i2"), ("batch", ">i8"), ("ordinal", ">i4")])
"""Where an event was accepted."""


def places(connection: Connection, keys: NDArray[np.void]) -> NDArray[np.void]:
    """Where those ``keys`` (n,) V16 that were accepted stand, dtype ``PLACE``, in no particular order."""
    row = connection.execute(SQL.places, {"keys": uuids(keys)}, binary=True).fetchone()
    return np.frombuffer(b"" if row is None else bytes(row[0]), dtype=PLACE)


def retracted(connection: Connection, keys: NDArray[np.void]) -> set[bytes]:
    """Those ``keys`` (n,) V16 whose events were retracted."""
    row = connection.execute(SQL.retracted, {"keys": uuids(keys)}, binary=True).fetchone()
    packed = b"" if row is None else bytes(row[0])
    return {packed[at : at + 16] for at in range(0, len(packed), 16)}


def has_retractions(connection: Connection, namespace_key: int) -> bool:
    """Whether any event of a namespace was retracted."""
    row = connection.execute(SQL.has_retractions, {"namespace_key": namespace_key}).fetchone()
    return row is not None and bool(row[0])


def retractions(connection: Connection, namespace_key: int) -> int:
    """How many events of a namespace were retracted, by themselves or with their backfill: with events counted, this tells
    whether any has come or gone."""
    row = connection.execute(SQL.count_retractions, {"namespace_key": namespace_key}).fetchone()
    assert row is not None
    return int(row[0])


def retraction_reason(connection: Connection, key: bytes) -> str | None:
    """What was recorded when the event with this key was retracted; None where it was not."""
    row = connection.execute(SQL.retraction_reason, {"key": key.hex()}).fetchone()
    return None if row is None else str(row[0])


def retract(connection: Connection, key: bytes, namespace_key: int, reason: str, lane: int, batch: int) -> None:
    """Record that an accepted event did not happen."""
    values = {"key": key.hex(), "namespace_key": namespace_key, "reason": reason, "lane": lane, "batch": batch}
    connection.execute(SQL.add_retraction, values)


def add_identities(
    connection: Connection,
    namespace_key: int,
    lane: int,
    batch: int,
    keys: NDArray[np.void],
    digests: NDArray[np.void],
    ordinals: NDArray[np.int32],
) -> None:
    """Record accepted events. Raises psycopg.errors.UniqueViolation where one was accepted before.

    Sorted by key: neighbours share index pages, and two lanes with common keys cannot deadlock.
    """
    order = np.argsort(keys.view(np.dtype(">u8")).reshape(-1, 2)[:, 0], kind="stable")
    columns = [
        Column("key", "uuid", keys[order]),
        Column("digest", "uuid", digests[order]),
        Column("batch", "int8", batch),
        Column("ordinal", "int4", ordinals[order]),
        Column("namespace_key", "int4", namespace_key),
        Column("lane", "int2", lane),
    ]
    copy_rows(connection, SQL.copy_identities, [encode(columns, len(keys))])


class Record(NamedTuple):
    """One raw record: its position in the partition and its bytes."""

    position: int
    content: bytes


def records_at(raw: RawRecords, ordinals: Sequence[int]) -> dict[int, Record]:
    """The records of a batch at ``ordinals``, by ordinal."""
    return {at: Record(int(raw.positions[at]), raw.records[at].as_py()) for at in ordinals}


def add_dead_letters(
    connection: Connection,
    partition: Partition,
    records: Mapping[int, Record],
    rejects: Sequence[Reject],
    lane: int,
    batch: int,
    now_us: int,
    revision: int,
) -> list[tuple[int, bytes]]:
    """Set records aside with code, place and raw bytes; the same one seen again is collapsed into its first sighting.

    ``records`` has each reject's record by its ordinal; ``revision`` is the catalog's that the batch knew. Returns
    ``(ordinal, fingerprint)`` of each.
    """
    letters = [
        _letter(partition, records[reject.ordinal], reject, lane, batch, now_us) | {"revision": revision}
        for reject in rejects
    ]
    letters.sort(key=lambda letter: letter["fingerprint"])  # one order for all lanes: no deadlock
    with connection.cursor() as cursor:
        cursor.executemany(SQL.add_dead_letter, letters)
        cursor.executemany(SQL.add_sighting, letters)
    return [(letter["ordinal"], bytes.fromhex(letter["fingerprint"])) for letter in letters]


def _letter(partition: Partition, record: Record, reject: Reject, lane: int, batch: int, now_us: int) -> dict[str, Any]:
    position, content = record
    return {
        "namespace_key": partition.namespace_key,
        "fingerprint": fingerprint(
            partition.namespace, partition.stream, position, reject.reason, reject.key, reject.digest, content
        ),
        "reason": int(reject.reason),
        "detail": reject.detail[:2000].replace("\x00", "\\0"),
        "stream": partition.stream,
        "position": position,
        "event_key": _hex(reject.key),
        "digest": _hex(reject.digest),
        "raw": content[:DEAD_LETTER_RAW_BYTES_MAX],
        "raw_bytes": len(content),
        "lane": lane,
        "batch": batch,
        "ordinal": reject.ordinal,
        "first_seen_at": us_to_datetime(now_us),
    }


def _hex(key: bytes | None) -> str | None:
    return None if key is None else key.hex()


def fingerprint(
    namespace: str, stream: str, position: int, reason: Reason, key: bytes | None, digest: bytes | None, record: bytes
) -> str:
    """What makes two dead letters one, 32 hex digits. With an identity: identity, digest and code. Without one: the place,
    the bytes and the code.
    """
    parts = [stream.encode(), position.to_bytes(8, "big", signed=True), record]
    if key is not None and digest is not None:
        parts = [key, digest]
    return sha256(length_prefixed(namespace.encode(), reason.code.encode(), *parts)).hexdigest()[:32]
