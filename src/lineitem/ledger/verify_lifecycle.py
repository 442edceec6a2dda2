"""Whether drafts, what was done to them, retirements and canaries are what the chain recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any

from lineitem.catalog import drafts
from lineitem.catalog.audit import retirements
from lineitem.catalog.canaries import StoredStep
from lineitem.kit.db import Connection
from lineitem.ledger.canary_rows import besides, rows_digest

Place = tuple[int, int]
Recorded = Mapping[Place, tuple[Mapping[str, Any], str]]
"""Place -> a fact and its text."""


def check_lifecycle(
    connection: Connection, steps: Recorded, ends: Recorded, recorded_us: Mapping[Place, int]
) -> Iterator[tuple[Place | None, str]]:
    """Compare the tables with the facts ``draft`` and ``retire``; ``recorded_us`` says when each batch was written."""
    kept, done = drafts.stored(connection)
    wanted: dict[tuple[Any, ...], Place] = {}
    made: dict[tuple[Any, ...], Place] = {}
    for place, (fact, _) in steps.items():
        who = (fact["namespace"], fact["draft"])
        wanted[(*who, fact["step"], fact["act"], fact["by"], fact["note"], recorded_us.get(place))] = place
        if fact["step"] == 0:
            made[(*who, fact["what"], fact["base_revision"], fact["digest"])] = place
    yield from _differences("draft", made, kept)
    yield from _differences("step of draft", wanted, done)
    ended = {}
    for place, (fact, _) in ends.items():
        fields = (fact["namespace"], fact["revision"], fact["pricebook"], fact["version"], fact["end_us"], fact["by"])
        ended[(*fields, recorded_us.get(place))] = place
    yield from _differences("retirement at revision", ended, {tuple(one) for one in retirements(connection)})


def check_canaries(
    stored: Iterable[StoredStep], recorded: Recorded, recorded_us: Mapping[Place, int]
) -> Iterator[tuple[Place | None, str]]:
    """Compare the steps of canaries, held accounts included, with the facts ``canary``."""
    wanted: dict[tuple[Any, ...], Place] = {}
    for place, (fact, _) in recorded.items():
        fields = tuple(fact[name] for name in ("namespace", "revision", "canary", "digest", "holds", "by"))
        wanted[(*fields, recorded_us.get(place))] = place
    kept = {
        (one.namespace, one.revision, one.canary, sha256(one.document.encode()).hexdigest(), *one[4:]) for one in stored
    }
    yield from _differences("canary step at revision", wanted, kept)


def check_beside(connection: Connection, recorded: Recorded) -> Iterator[tuple[Place | None, str]]:
    """Compare what the other version would have charged with the digests in the facts ``canary_check``."""
    stored = besides(connection)
    for place, (fact, _) in recorded.items():
        if rows_digest(stored.pop(place, [])) != fact["digest"]:
            yield place, f"what canary {fact['canary']} would have charged otherwise is not what was recorded"
    for place in stored:
        yield None, f"amounts beside a canary name batch {place[0]}-{place[1]}, which recorded none"


def _differences(
    what: str, recorded: Mapping[tuple[Any, ...], Place], stored: set[Any]
) -> Iterator[tuple[Place | None, str]]:
    for row, place in recorded.items():
        if row not in stored:
            yield place, f"{what} {row[1]} of {row[0]} is not what was recorded"
    for row in stored - recorded.keys():
        yield None, f"{what} {row[1]} of {row[0]} was never recorded"
