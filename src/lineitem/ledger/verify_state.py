"""Checks of what stands beside the chain and must agree with it: namespaces, dead letters, retractions, periods, windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lineitem.core.ids import identity_key
from lineitem.core.limits import DEAD_LETTER_RAW_BYTES_MAX
from lineitem.core.period import Month, month_start_us, zone_exists
from lineitem.core.reasons import Reason
from lineitem.ingest import intake
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries

SQL = load_queries("lineitem.ledger", "verify.sql")
SETTLE = load_queries("lineitem.ledger", "settle.sql")
LEVELS = load_queries("lineitem.ledger", "levels.sql")

Found = Iterator[tuple[tuple[int, int] | None, str]]
"""(lane, batch) to blame, or None, and what is wrong."""


def check_state(connection: Connection, retractions: Mapping[tuple[int, int], tuple[dict[str, str], str]]) -> Found:
    """All of them. ``retractions``: place -> fact (its document, and its text) of every retraction the chain recorded."""
    for what, lane, batch in connection.execute(SQL.foreign_rows).fetchall():
        yield None if lane is None else (lane, batch), f"{what} of it stands in another namespace"
    yield from _letters(connection)
    yield from _retractions(connection, retractions)
    yield from _service_periods(connection)
    for account, price in connection.execute(SQL.odd_windows).fetchall():
        yield None, f"usage of account {account}, price {price} waits for a window that cannot be"
    strays = connection.execute(SQL.stray_members).fetchone()
    if strays is not None and strays[0]:
        yield None, f"{strays[0]} distinct members belong to no running usage"


def _letters(connection: Connection) -> Found:
    """A dead letter stands where a batch set it aside, and its fingerprint, which the batch vouches for, is its own."""
    for place in connection.execute(SQL.misplaced_letters, {"kept": DEAD_LETTER_RAW_BYTES_MAX}).fetchall():
        yield (place[0], place[1]), "a dead letter of it is not as it was set aside"
    codes = {reason.value: reason for reason in Reason}
    with connection.cursor(name="letters") as cursor:
        cursor.execute(SQL.letters)
        for namespace, stream, position, code, key, digest, raw, raw_bytes, mark, lane, batch in cursor:
            if (key is None or digest is None) and raw_bytes > len(raw):
                continue  # the fingerprint covers more bytes than are kept here; verify --deep has them
            known = code in codes and namespace is not None
            known_as = None if key is None or digest is None else (key.bytes, digest.bytes)
            event_key, content = known_as or (None, None)
            if not known or mark.hex != intake.fingerprint(
                namespace, stream, position, codes[code], event_key, content, raw
            ):
                yield (lane, batch), "a dead letter of it was altered"


def _retractions(connection: Connection, recorded: Mapping[tuple[int, int], tuple[dict[str, str], str]]) -> Found:
    expected = {
        (identity_key(fact["namespace"], fact["source"], fact["id"]), fact["namespace"], text, *place)
        for place, (fact, text) in recorded.items()
    }
    rows = connection.execute(SQL.retractions).fetchall()
    stored = {(key.bytes, namespace, reason, lane, batch) for key, namespace, reason, lane, batch in rows}
    for *_, lane, batch in sorted(expected - stored, key=lambda row: row[-2:]):
        yield (lane, batch), "the event it retracted no longer counts as retracted"
    for *_, lane, batch in sorted(stored - expected, key=lambda row: row[-2:]):
        yield (lane, batch), "an event counts as retracted that it did not retract"


def _service_periods(connection: Connection) -> Found:
    for zone, month, start_us, end_us in connection.execute(SQL.service_periods).fetchall():
        if not zone_exists(zone) or (start_us, end_us) != (
            month_start_us(month, zone),
            month_start_us(month + 1, zone),
        ):
            yield None, f"a service period of running usage is not {Month.from_index(month)} in {zone}"


def check_settled(connection: Connection, recorded: Mapping[tuple[int, int], tuple[dict[str, Any], str]]) -> Found:
    """The targets that are settled are those that settling batches recorded; a later one counts."""
    expected: dict[tuple[Any, ...], tuple[tuple[int, int], int, int]] = {}
    for place, (fact, _) in sorted(recorded.items()):
        for target, settled, since_us in fact_targets(fact["targets"]):
            key = (fact["namespace"], *target)
            expected[key] = (place, settled, max(since_us, expected[key][2] if key in expected else 0))
    for *stored, settled, last_event_us in connection.execute(SETTLE.settled_targets).fetchall():
        known = expected.pop(tuple(stored), None)
        if known is None or settled != known[1]:
            yield known and known[0], f"{_named(stored)} counts as settled otherwise than recorded"
        elif last_event_us < known[2]:
            yield known[0], f"{_named(stored)} was due from a later instant than it knows"
    for key, (place, _, _) in expected.items():
        yield place, f"{_named(key)} no longer counts as settled"


def check_seen(connection: Connection, recorded: Mapping[tuple[int, int], tuple[dict[str, Any], str]]) -> Found:
    """As many readings of levels count as seen by settled months as settling recorded."""
    expected: dict[str, int] = {}
    for fact, _ in recorded.values():
        seen = fact.get("seen", 0)
        expected[fact["namespace"]] = expected.get(fact["namespace"], 0) + (seen if isinstance(seen, int) else 0)
    stored: dict[str, int] = dict(connection.execute(LEVELS.seen).fetchall())
    for namespace in sorted(expected.keys() | stored.keys()):
        if expected.get(namespace, 0) != stored.get(namespace, 0):
            yield None, f"settled months of {namespace} have seen other readings than recorded"


def fact_targets(listed: Any) -> Iterator[tuple[list[Any], int, int]]:
    """Targets of a fact; what has another shape its batch's root gives away."""
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, list) and [type(part) for part in one] == [str] * 4 + [int] * 3:
            yield one[:5], one[5], one[6]


def _named(target: Sequence[Any]) -> str:
    """A target in words: namespace, account, pricebook, price, content, month."""
    return f"account {target[1]}, price {target[3]}, {Month.from_index(target[5])}"
