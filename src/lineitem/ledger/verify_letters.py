"""Whether what is kept of acts on dead letters, from which their state follows, is what the chain and the raw segments say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple

from lineitem.core.limits import DEAD_LETTER_RAW_BYTES_MAX
from lineitem.core.reasons import Reason
from lineitem.ingest.formats.dead_letters import Envelope, Fix, opened
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.chain import set_aside_digest
from lineitem.ledger.letters import parsed_patch
from lineitem.ledger.post import canonical
from lineitem.ledger.refold import UsageBatch
from lineitem.ledger.report import Link, Place

SQL = load_queries("lineitem.ledger", "verify.sql")
LETTER_FACTS = ("letter_fix", "letter_replay", "letter_discard")
Recorded = Mapping[Place, tuple[Mapping[str, Any], str]]
"""Place -> a fact and its text."""
Found = Iterator[tuple[Place | None, str]]
_NUMBERS = {reason.code: reason.value for reason in Reason}


class Act(NamedTuple):
    """One letter's part of a fact, or the row that mirrors it."""

    lane: int
    batch: int
    ordinal: int
    mark: str
    number: int
    act: str
    outcome: str | None
    event_key: str | None
    reason: int | str | None
    detail: str | None
    patch: str | None
    note: str
    actor: str
    acted_us: int
    revision: int
    namespace: str


def check_letter_acts(connection: Connection, recorded: Mapping[str, Recorded], links: Mapping[Place, Link]) -> Found:
    """Rows against facts, numbers without gaps, and what replays say of their batches against those batches' counts."""
    wanted = dict.fromkeys(recorded_acts(recorded, links))
    stored = set()
    for *row, own in connection.execute(SQL.letter_acts).fetchall():
        act = Act._make(row)
        stored.add(act)
        if not own:
            yield (act.lane, act.batch), "what was done with a dead letter stands in another namespace"
    for act in sorted(wanted.keys() - stored, key=lambda one: one[:3]):
        yield (act.lane, act.batch), "what it did with a dead letter is not kept as it was recorded"
    for act in sorted(stored - wanted.keys(), key=lambda one: one[:3]):
        yield (act.lane, act.batch), "something counts as done with a dead letter that it did not do"
    numbers: dict[tuple[str, str], list[int]] = {}
    for act in wanted:
        numbers.setdefault((act.namespace, act.mark), []).append(act.number)
    for (namespace, mark), some in numbers.items():
        if sorted(some) != list(range(1, len(some) + 1)):
            yield None, f"what was done with dead letter {mark} of {namespace} is not whole"
    yield from _counts(recorded["letter_replay"], links)


def recorded_acts(recorded: Mapping[str, Recorded], links: Mapping[Place, Link]) -> Iterator[Act]:
    """What the facts say, letter by letter; a shape this engine did not write gives its batch's root away."""
    for kind, facts in recorded.items():
        for place, (fact, _) in facts.items():
            link = links.get(place)
            if link is None or not isinstance(fact["letters"], list):
                continue
            act = kind.removeprefix("letter_")
            patch = canonical(fact["patch"]) if "patch" in fact else None
            rest = (fact["reason"], fact["by"], link.batch.recorded_us, link.batch.catalog_revision, fact["namespace"])
            for ordinal, letter in enumerate(fact["letters"]):
                told = [*letter[2:4], _NUMBERS.get(letter[4], letter[4]), letter[5]] if act == "replay" else [None] * 4
                yield Act._make((*place, ordinal, *letter[:2], act, *told, patch, *rest))


def _counts(replays: Recorded, links: Mapping[Place, Link]) -> Found:
    for place, (fact, _) in replays.items():
        if place not in links:
            continue
        batch, letters = links[place].batch, fact["letters"]
        outcomes = [letter[2] for letter in letters]
        again = [(at, bytes.fromhex(one[0])) for at, one in enumerate(letters) if one[2] == "dead_letter"]
        found = (len(letters), outcomes.count("accepted"), outcomes.count("duplicate"), set_aside_digest(again))
        accepted = batch.itemized + batch.pending + batch.not_billable
        if found != (batch.received, accepted, batch.duplicate, batch.set_aside_digest):
            yield place, "what it says of the dead letters it tried again is not what it did"


# --- verify --deep


class Origin(NamedTuple):
    """A letter as it came in."""

    stream: str
    position: int
    raw_bytes: int
    raw_digest: bytes


@dataclass(slots=True)
class Replays:
    """The replays of a namespace, to be held against the raw segments of their batches."""

    acts: dict[Place, dict[int, Act]] = field(default_factory=dict)
    fixes: dict[str, list[tuple[int, Fix]]] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)

    @classmethod
    def read(cls, connection: Connection, namespace: str) -> Replays:
        """From the tables, which ``check_letter_acts`` holds against the chain."""
        found = cls()
        for *row, _ in connection.execute(SQL.letter_acts).fetchall():
            act = Act._make(row)
            if act.namespace != namespace:
                continue
            if act.act == "replay":
                found.acts.setdefault((act.lane, act.batch), {})[act.ordinal] = act
            elif act.patch is not None:
                fix = Fix(act.actor, act.note, act.acted_us, parsed_patch(act.patch))
                found.fixes.setdefault(act.mark, []).append((act.number, fix))
        for mark, *rest in connection.execute(SQL.letter_origins, {"namespace": namespace}).fetchall():
            found.origins[mark] = Origin(*rest)
        return found

    def agree(self, batch: UsageBatch, sources: Sequence[Mapping[str, Any]]) -> bool:
        """Whether a batch of replayed letters holds what was received and recorded, and made of it what is kept.

        ``sources``: the partition's, which its envelopes point into.
        """
        wanted = self.acts.get((batch.lane, batch.batch), {})
        records = batch.raw.records.to_pylist()
        keys = {int(at): bytes(key).hex() for at, key in zip(batch.events.ordinal, batch.events.key, strict=True)}
        keys |= {one.ordinal: one.key.hex() for one in batch.undecoded if one.key is not None}
        if wanted.keys() != set(range(len(records))):
            return False
        return all(self._agrees(opened(record), wanted[at], keys.get(at), sources) for at, record in enumerate(records))

    def _agrees(self, found: Envelope, act: Act, key: str | None, sources: Sequence[Mapping[str, Any]]) -> bool:
        origin = self.origins.get(found.letter)
        fixes = [fix for number, fix in sorted(self.fixes.get(found.letter, []), key=lambda one: one[0])
                 if number < found.number]  # fmt: skip
        kept = sha256(found.raw[:DEAD_LETTER_RAW_BYTES_MAX]).digest()
        came = Origin(str(sources[found.source]["stream"]), found.position, len(found.raw), kept)
        return (found.letter, found.number, key, list(found.fixes), came) == (
            act.mark,
            act.number,
            act.event_key,
            fixes,
            origin,
        )
