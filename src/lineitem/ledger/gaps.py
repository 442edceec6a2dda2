"""Gaps: numbers of a producer between others that arrived, which never did. Listed, shown, waived for good, opened again.

A gap is no row: it is what the ledger has not seen, so it closes by itself when its events come, by whatever door. Waiving and
opening again are facts in lane 0; what is waived follows from them in their order (ADR 0040).
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lineitem.catalog import published
from lineitem.core.errors import InputError, IntegrityError, Refused, UsageError
from lineitem.core.limits import GAP_REASON_CHARS_MAX, GAP_RUNS_MAX
from lineitem.core.period import us_to_datetime
from lineitem.ingest import letters, producers
from lineitem.ingest.letters import moment
from lineitem.ingest.producers import Run
from lineitem.ingest.sequences import Range, common, joined, multirange, without
from lineitem.kit.db import Connection, explained, retried
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.chain import BatchKind
from lineitem.ledger.letters import age_seconds
from lineitem.ledger.post import Fact, canonical, lock_lane, write_batch
from lineitem.ledger.why import say_why

SQL = load_queries("lineitem.ledger", "gaps.sql")
WAIVE, REOPEN = "gap_waive", "gap_reopen"
_SOURCES_LOOKED_AT = 10_000


@dataclass(frozen=True, slots=True)
class GapAct:
    """Somebody said of some numbers of a producer that they are lost for good, or took that back."""

    kind: str
    source: str
    runs: Sequence[Range]
    by: str
    reason: str
    at_us: int
    place: str

    def document(self) -> dict[str, Any]:
        """As ``gaps show --json`` prints it."""
        return {
            "act": self.kind.removeprefix("gap_"),
            "runs": [{"from": str(first), "to": str(last)} for first, last in self.runs],
            "by": self.by,
            "reason": self.reason,
            "at": moment(us_to_datetime(self.at_us)),
            "place": self.place,
        }


def acts(connection: Connection, namespace_key: int) -> list[GapAct]:
    """What was said of a namespace's gaps, in order."""
    found = []
    for kind, body, batch, recorded_us in connection.execute(SQL.acts, {"namespace_key": namespace_key}).fetchall():
        try:
            fact = json.loads(body)
            some = [(int(first), int(last)) for first, last in fact["runs"]]
            said = GapAct(kind, fact["source"], some, fact["by"], fact["reason"], recorded_us, f"batch 0-{batch}")
        except (ValueError, LookupError, TypeError) as error:
            raise IntegrityError(
                f"batch 0-{batch}: what it says of a gap was altered", do="Run `lineitem verify`."
            ) from error
        found.append(said)
    return found


def waived(said: Sequence[GapAct]) -> dict[str, list[Range]]:
    """Source -> the numbers that are waived after all of ``said``."""
    found: dict[str, list[Range]] = {}
    for act in said:
        before = found.get(act.source, [])
        found[act.source] = (joined if act.kind == WAIVE else without)(before, act.runs)
    return found


def _texts(numbers: Mapping[str, Sequence[Range]]) -> dict[str, str]:
    return {source: multirange(some) for source, some in numbers.items()}


# --- looking


def listed(
    connection: Connection,
    namespace: str,
    now_us: int,
    *,
    states: Collection[str] = ("missing",),
    source: str | None = None,
    older_than_us: int | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """Runs of numbers in ``states``, those noticed first at the top: ``source``, ``from``, ``to``, ``count``, ``state``,
    ``noticed`` with ``age_seconds`` (both None for ``sequence_reused``). Raises InputError for a source without a sequence."""
    with explained():
        key = letters.namespace_key(connection, namespace)
        if source is not None:
            _producer(connection, key, source)
        found = producers.runs(
            connection, key, _texts(waived(acts(connection, key))), states=states, source=source, limit=limit,
            until_us=now_us if older_than_us is None else now_us - older_than_us,
        )  # fmt: skip
    return [_document(one, now_us) for one in found]


def _document(run: Run, now_us: int) -> dict[str, Any]:
    reused = run.state == "sequence_reused"  # when the second event with it came is not kept
    return {
        "source": run.source,
        "from": str(run.first),
        "to": str(run.last),
        "count": run.last - run.first + 1,
        "state": run.state,
        "noticed": None if reused else moment(us_to_datetime(run.noticed_us)),
        "age_seconds": None if reused else age_seconds(us_to_datetime(run.noticed_us), now_us),
    }


def summary(connection: Connection, namespace: str, source: str | None = None) -> dict[str, Any]:
    """How many producers there are, and runs and numbers in each state; ``sequence_unreadable`` counts records."""
    with explained():
        return _summary(connection, letters.namespace_key(connection, namespace), source)


def _summary(connection: Connection, key: int, source: str | None = None) -> dict[str, Any]:
    count, unreadable = producers.tally(connection, key)
    if source is not None:
        count, unreadable = 1, _producer(connection, key, source).unreadable
    answer: dict[str, Any] = {"producers": count, "sequence_unreadable": unreadable}
    found = producers.totals(connection, key, _texts(waived(acts(connection, key))), source)
    for state in producers.STATES:
        runs, total = found.get(state, (0, 0))
        answer[state] = {"runs": runs, "count": total}
    return answer


def shown(connection: Connection, namespace: str, source: str, now_us: int, limit: int) -> dict[str, Any]:
    """One producer: how far it was seen, its runs in every state, and what was said of them. Raises InputError."""
    with explained():
        key = letters.namespace_key(connection, namespace)
        found = _producer(connection, key, source)
        said = [act.document() for act in acts(connection, key) if act.source == source]
    return {
        "source": source,
        "first": None if found.low is None else str(found.low),
        "last": None if found.high is None else str(found.high),
        "seen": found.numbers,
        "batches": found.batches,
        **{name: value for name, value in summary(connection, namespace, source).items() if name != "producers"},
        "runs": listed(connection, namespace, now_us, states=producers.STATES, source=source, limit=limit),
        "history": said,
    }


def everywhere(connection: Connection) -> dict[str, int]:
    """Of the whole ledger: ``gaps`` that are open, how many ``events`` they stand for, ``producers`` that sent a sequence."""
    found = {"gaps": 0, "events": 0, "producers": 0}
    for key in producers.namespaces(connection):
        one = _summary(connection, key)
        found["producers"] += one["producers"]
        found["gaps"] += one["missing"]["runs"]
        found["events"] += one["missing"]["count"]
    return found


def in_words(found: Mapping[str, int]) -> str:
    """``2 open, 13 events missing``."""
    if not found["gaps"]:
        return "none open"
    events = "1 event" if found["events"] == 1 else f"{found['events']} events"
    return f"{found['gaps']} open, {events} missing: `lineitem gaps list`"


def _producer(connection: Connection, namespace_key: int, source: str) -> producers.Producer:
    found = producers.producer(connection, namespace_key, source)
    if found is not None:
        return found
    known = producers.sources(connection, namespace_key, _SOURCES_LOOKED_AT)
    near = difflib.get_close_matches(source, known, 3) or known[:3]
    raise InputError(
        f"no event of source {source!r} had a sequence",
        do=f"Sources that do are {', '.join(map(repr, near))}." if near else "No producer has sent one so far.",
    )


# --- saying


def waive(
    connection: Connection, namespace: str, source: str, first: int, last: int, by: str, reason: str, now_us: int
) -> list[Range]:
    """Say that what is missing from ``first`` to ``last`` is lost for good: the runs that were open there.

    Raises InputError for an unknown source, Refused where nothing is missing there and where no reason is given.
    """
    return _say(connection, namespace, WAIVE, source, (first, last), by, reason, now_us)


def reopen(
    connection: Connection, namespace: str, source: str, first: int, last: int, by: str, reason: str, now_us: int
) -> list[Range]:
    """Take back what was waived from ``first`` to ``last``: the runs that were. Raises as ``waive`` does."""
    return _say(connection, namespace, REOPEN, source, (first, last), by, reason, now_us)


def _say(
    connection: Connection, namespace: str, kind: str, source: str, bounds: Range, by: str, reason: str, now_us: int
) -> list[Range]:
    first, last = bounds
    if first > last:
        raise UsageError(f"{first} to {last} is no range", do="Name the lower number first.")
    say_why("waiving a gap" if kind == WAIVE else "opening a gap again", reason, GAP_REASON_CHARS_MAX)

    def once() -> list[Range]:
        with connection.transaction():
            key = letters.namespace_key(connection, namespace)
            _producer(connection, key, source)
            head = lock_lane(connection, 0)
            before = _texts(waived(acts(connection, key)))
            state = "missing" if kind == WAIVE else "waived"
            found = producers.runs(
                connection, key, before, states=[state], source=source, first=first, last=last, limit=GAP_RUNS_MAX + 1
            )
            some = common([(one.first, one.last) for one in found], [bounds])
            _check(some, state, source, bounds)
            body = {"namespace": namespace, "source": source, "runs": some, "by": by, "reason": reason}
            write_batch(
                connection, head, namespace, key, BatchKind.GAP, facts=[Fact(kind, canonical(body))],
                catalog_revision=published.current_revision(connection, namespace), recorded_us=now_us,
            )  # fmt: skip
            return some

    with explained():
        return retried(once)


def _check(some: Sequence[Range], state: str, source: str, bounds: Range) -> None:
    if not some:
        raise Refused(
            f"nothing of {source!r} is {state} from {bounds[0]} to {bounds[1]}",
            do=f"`lineitem gaps show {source}` says what is.",
        )
    if len(some) > GAP_RUNS_MAX:
        raise Refused(f"more than {GAP_RUNS_MAX} gaps lie between", do="Name a smaller range, one after the other.")
