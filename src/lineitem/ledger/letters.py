"""Dead letters beside the chain: where their records lie, fixing and discarding them as facts, their groups and line items."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import psycopg

from lineitem.catalog import published
from lineitem.core.errors import IntegrityError, Refused
from lineitem.core.limits import LETTER_REASON_CHARS_MAX, REPLAY_LETTERS_MAX
from lineitem.core.period import us_to_datetime
from lineitem.core.reasons import Reason
from lineitem.ingest import acts, held, intake, letters, segments
from lineitem.ingest.acts import Act, Letter, Place
from lineitem.ingest.intake import Partition
from lineitem.ingest.letters import Filter, moment
from lineitem.kit.blobs import BlobStore
from lineitem.kit.db import Connection, explained, retried
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.chain import BatchKind, records_digest
from lineitem.ledger.post import Fact, canonical, lock_lane, write_batch
from lineitem.ledger.why import say_why

SQL = load_queries("lineitem.ledger", "letters.sql")
_TRIES = 10


class BatchAt(NamedTuple):
    """Where the raw records of a batch lie, and when it was recorded."""

    lane: int
    batch: int
    partition_key: int
    segment: str
    records_digest: bytes
    recorded_us: int


@dataclass(slots=True)
class Origins:
    """Whole raw records of letters, and how they were decoded when they came in. A segment is read once for all of them."""

    connection: Connection
    store: BlobStore
    _batches: dict[tuple[int, int], BatchAt] = field(default_factory=dict)
    _partitions: dict[int, Partition] = field(default_factory=dict)

    def load(self, wanted: Sequence[Letter]) -> None:
        """Look up the batches of some letters."""
        self._batches = batches_at(self.connection, {(one.lane, one.batch) for one in wanted})
        keys = sorted({batch.partition_key for batch in self._batches.values()})
        self._partitions = intake.partitions(self.connection, published.namespaces(self.connection), keys)

    def partition(self, letter: Letter) -> Partition:
        """What the letter was read from. Raises IntegrityError where that is gone."""
        batch = self._batches.get((letter.lane, letter.batch))
        found = None if batch is None else self._partitions.get(batch.partition_key)
        if found is None:
            raise IntegrityError(
                f"dead letter {letter.key} names batch {letter.lane}-{letter.batch}, which read nothing",
                do="Run `lineitem verify`.",
            )
        return found

    def records(self, wanted: Sequence[Letter]) -> dict[int, bytes]:
        """Letter key -> the whole record: as kept with the letter, or from the raw segment where that was cut."""
        found = {one.key: one.raw for one in wanted}
        cut: dict[tuple[int, int], list[Letter]] = {}
        for one in wanted:
            if one.raw_bytes > len(one.raw):
                cut.setdefault((one.lane, one.batch), []).append(one)
        for place, some in cut.items():
            batch = self._batches[place]
            raw = segments.read(self.store, batch.segment, batch.recorded_us).raw
            if records_digest(raw.records) != batch.records_digest:
                raise IntegrityError(
                    f"batch {place[0]}-{place[1]}: its raw records are not those it recorded", where=batch.segment,
                    do="Restore the segment from a backup.",
                )  # fmt: skip
            found |= {one.key: raw.records[one.ordinal].as_py() for one in some}
        return found


def batches_at(connection: Connection, places: Iterable[tuple[int, int]]) -> dict[tuple[int, int], BatchAt]:
    """The batches at some places (lane, number), by place."""
    listed = list(places)
    where = {"lanes": [lane for lane, _ in listed], "batches": [batch for _, batch in listed]}
    rows = [BatchAt(*row) for row in connection.execute(SQL.batches, where).fetchall()]
    return {(row.lane, row.batch): row for row in rows}


def line_items_of(connection: Connection, lane: int, batch: int, event_keys: Sequence[bytes]) -> dict[bytes, list[str]]:
    """Identity key -> ids of the line items a batch has for that event alone; a window's are not among them."""
    where = {"lane": lane, "batch": batch, "keys": [key.hex() for key in event_keys]}
    found: dict[bytes, list[str]] = {}
    for key, id_ in connection.execute(SQL.line_items, where).fetchall():
        found.setdefault(key.bytes, []).append(str(id_))
    return found


# --- looking


@explained()
def groups(connection: Connection, namespace: str, wanted: Filter, now_us: int) -> list[dict[str, Any]]:
    """Dead letters by code: ``reason``, ``dead_letters``, ``records``, ``first_seen``, ``last_seen``, ``oldest_seconds``,
    ``attempts``, and an ``example``: the oldest one's ``key`` and ``detail``."""
    places = letters.last_batches(connection, namespace, wanted)
    recorded = batches_at(connection, {(lane, batch) for _, lane, batch in places})
    last: dict[Any, int] = {}
    for reason, lane, batch in places:
        if (lane, batch) in recorded:
            last[reason] = max(last.get(reason, 0), recorded[(lane, batch)].recorded_us)
    found = [
        {
            "reason": one.reason.code,
            "dead_letters": one.letters,
            "records": one.records,
            "first_seen": moment(one.first_seen),
            "last_seen": moment(us_to_datetime(last[one.reason]) if one.reason in last else one.first_seen),
            "oldest_seconds": age_seconds(one.first_seen, now_us),
            "attempts": one.attempts,
            "example": {"key": one.example, "detail": one.detail},
        }
        for one in letters.groups(connection, namespace, wanted)
    ]
    waiting = _waiting(connection, namespace) if wanted.state in (None, "open") and wanted.since is None else {}
    for reason, some in waiting.items():
        if wanted.reason in (None, reason):
            found.append(_waiting_group(reason, some, now_us))
    return found


def _waiting(connection: Connection, namespace: str) -> dict[Reason, list[held.Sum]]:
    """What switches make wait, by code."""
    found: dict[Reason, list[held.Sum]] = {}
    for one in held.sums(connection, letters.namespace_key(connection, namespace)):
        found.setdefault(one.reason, []).append(one)
    return found


def _waiting_group(reason: Reason, some: Sequence[held.Sum], now_us: int) -> dict[str, Any]:
    """Records that a switch makes wait, as a group of dead letters: they have no keys, for nobody has to act on them."""
    first = us_to_datetime(min(one.since_us for one in some))
    last = us_to_datetime(max(one.until_us for one in some))
    records = sum(one.records for one in some)
    numbers = ", ".join(str(one.number) for one in some)
    return {
        "reason": reason.code,
        "dead_letters": records,
        "records": records,
        "first_seen": moment(first),
        "last_seen": moment(last),
        "oldest_seconds": age_seconds(first, now_us),
        "attempts": 0,
        "example": {"key": None, "detail": f"wait for switch {numbers} of `lineitem throttle list`"},
    }


@explained()
def summary(connection: Connection, namespace: str, now_us: int) -> dict[str, Any]:
    """How deep the queue is: letters by state, and the open ones by code with the age of the oldest in seconds."""
    open_ones = groups(connection, namespace, Filter("open"), now_us)
    states = letters.states(connection, namespace)
    states["open"] += sum(one["dead_letters"] for one in open_ones if one["example"]["key"] is None)
    return {
        **states,
        "open_by_reason": _by_reason((one["reason"], one["dead_letters"], one["oldest_seconds"]) for one in open_ones),
        "oldest_seconds": max((one["oldest_seconds"] for one in open_ones), default=None),
    }


def _by_reason(some: Iterable[tuple[str, int, int]]) -> dict[str, dict[str, int]]:
    """Code, how many and age of the oldest as a document; letters and what waits may share a code."""
    found: dict[str, dict[str, int]] = {}
    for code, count, oldest in some:
        one = found.setdefault(code, {"dead_letters": 0, "oldest_seconds": 0})
        one["dead_letters"] += count
        one["oldest_seconds"] = max(one["oldest_seconds"], oldest)
    return found


def depth(connection: Connection, now_us: int) -> dict[str, dict[str, int]]:
    """Open dead letters of the whole ledger, with what switches make wait: code -> ``dead_letters`` and ``oldest_seconds``."""
    kept = [(reason.code, number, age_seconds(since, now_us)) for reason, number, since in letters.depth(connection)]
    waiting = [(one.reason.code, one.records, age_seconds(us_to_datetime(one.since_us), now_us))
               for one in held.sums(connection)]  # fmt: skip
    return _by_reason([*kept, *waiting])


def age_seconds(since: datetime, now_us: int) -> int:
    """Whole seconds from ``since`` until now."""
    return max((us_to_datetime(now_us) - since).days * 86_400 + (us_to_datetime(now_us) - since).seconds, 0)


@explained()
def shown(connection: Connection, namespace: str, key: int) -> dict[str, Any]:
    """One dead letter as ``ingest.letters.dead_letter`` shows it, with the ids of the line items its event made."""
    found = letters.dead_letter(connection, namespace, key)
    settled = found["resolution"]
    if settled is not None and settled["act"] == "replay":
        ids: list[str] = []
        if settled["accepted_as"]:
            lane, _, batch = settled["accepted_as"].removeprefix("batch ").partition(",")[0].partition("-")
            event_key = bytes.fromhex(settled["event_key"])
            ids = line_items_of(connection, int(lane), int(batch), [event_key]).get(event_key, [])
        settled["line_items"] = ids
    return found


# --- acting


def fix(
    connection: Connection, namespace: str, key: int, patch: Mapping[str, Any], by: str, reason: str, now_us: int
) -> None:
    """Record a patch for a letter; its raw record stays as it is. Raises InputError for an unknown letter, Refused for one
    whose event is in the ledger already, and where no reason is given."""
    say_why("a fix", reason, LETTER_REASON_CHARS_MAX)
    text = canonical(patch)

    def check(letter: Letter) -> None:
        if letter.state == "replayed":
            raise Refused(
                f"dead letter {key} was replayed: its event is in the ledger",
                do="Take the event back with `lineitem retract` and send the right one under a new id.",
            )

    _act(connection, namespace, [key], Act.FIX, check, by, reason, now_us, text)


def discard(connection: Connection, namespace: str, keys: Sequence[int], by: str, reason: str, now_us: int) -> int:
    """Settle letters as never to be billed: how many. Raises InputError for an unknown one, Refused for one that is not
    open, and where no reason is given; then nothing of its transaction of ``REPLAY_LETTERS_MAX`` letters is written."""
    say_why("discarding", reason, LETTER_REASON_CHARS_MAX)

    def check(letter: Letter) -> None:
        if letter.state != "open":
            raise Refused(
                f"dead letter {letter.key} is {letter.state} already",
                do="`lineitem dlq list --state all` shows what is.",
            )

    for start in range(0, len(keys), REPLAY_LETTERS_MAX):
        _act(connection, namespace, keys[start : start + REPLAY_LETTERS_MAX], Act.DISCARD, check, by, reason, now_us)
    return len(keys)


def _act(
    connection: Connection,
    namespace: str,
    keys: Sequence[int],
    act: Act,
    check: Callable[[Letter], None],
    by: str,
    reason: str,
    now_us: int,
    patch: str | None = None,
) -> None:
    """One batch of lane 0 with one fact about some letters; again where somebody acted on one at the same moment."""
    namespace_key = letters.namespace_key(connection, namespace)
    rest = (act, check, by, reason, now_us, patch)
    with explained():
        for _ in range(_TRIES - 1):
            with suppress(psycopg.errors.UniqueViolation):
                return retried(lambda: _act_once(connection, namespace, namespace_key, keys, *rest))
        return retried(lambda: _act_once(connection, namespace, namespace_key, keys, *rest))


def parsed_patch(text: str) -> Mapping[str, Any]:
    """A stored patch; what cannot be read is no patch, so that ``verify`` names its batch instead of failing."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"unreadable": text}


def _act_once(
    connection: Connection,
    namespace: str,
    namespace_key: int,
    keys: Sequence[int],
    act: Act,
    check: Callable[[Letter], None],
    by: str,
    reason: str,
    now_us: int,
    patch: str | None,
) -> None:
    with connection.transaction():
        head = lock_lane(connection, 0)
        found = acts.load(connection, namespace_key, keys)
        missing = set(keys) - {one.key for one in found}
        if missing:
            raise letters.no_letter(namespace, min(missing))
        for one in found:
            check(one)
        revision = published.current_revision(connection, namespace)
        place = Place(namespace_key, head.lane, head.batch + 1, now_us, revision)
        acts.record(connection, found, act, place, by, reason, patch)
        body: dict[str, Any] = {"namespace": namespace, "by": by, "reason": reason}
        body["letters"] = [[one.mark, one.acts + 1] for one in found]
        if patch is not None:
            body["patch"] = json.loads(patch)
        write_batch(
            connection, head, namespace, namespace_key, BatchKind.LETTER,
            facts=[Fact(f"letter_{act}", canonical(body))], catalog_revision=revision, recorded_us=now_us,
        )  # fmt: skip
