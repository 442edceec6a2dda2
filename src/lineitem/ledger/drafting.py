"""From a draft to what is in force: each step is checked against the policy, stored, and recorded in lane 0."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

from lineitem.catalog import drafts, published
from lineitem.catalog.draft import Act, Content, Draft, Retirement, Step, document_of
from lineitem.catalog.model import Catalog, Pricebook
from lineitem.catalog.publish import rolled_back
from lineitem.catalog.ranges import END_OF_TIME_US, effective_ranges
from lineitem.core.errors import Refused
from lineitem.core.period import us_to_text
from lineitem.kit.db import Connection, explained
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.post import Fact, canonical
from lineitem.ledger.publishing import Desk, check_ordinary, desk
from lineitem.ledger.read import one_snapshot

SQL = load_queries("lineitem.ledger", "ledger.sql")


def draft(connection: Connection, namespace: str, catalog: Catalog, now_us: int, by: str, note: str = "") -> Draft:
    """Store a catalog as a draft; nothing is put in force. Raises Refused for one that could not be published now."""
    with desk(connection, namespace, by, now_us) as held:
        made, fact = _drafted(held, catalog, note)
        held.record([fact], held.revision)
    return made


def step(
    connection: Connection, namespace: str, number: int, act: Act, now_us: int, by: str, note: str = ""
) -> tuple[Draft, int]:
    """Review, approve or publish a draft: the draft afterwards, and the revision in force.

    Raises Refused when the policy in force, or what is published or rated, does not allow it.
    """
    with desk(connection, namespace, by, now_us) as held:
        found = drafts.find(connection, held.key, number)
        found.check(act, by, held.policy, held.revision)
        facts: list[Fact] = []
        if act is Act.PUBLISH:
            facts.append(held.put_in_force(found.content()))
        done = Step(act, by, note, now_us)
        drafts.add_step(connection, held.key, number, len(found.steps), done)
        made = replace(found, steps=(*found.steps, done))
        revision = held.revision + len(facts)
        held.record([*facts, _fact(held, made)], revision)
    return made, revision


def retire(
    connection: Connection, namespace: str, retirement: Retirement, now_us: int, by: str
) -> tuple[int, Draft | None]:
    """End a published version, or make a draft of it where the policy asks for approval: revision and draft."""
    with desk(connection, namespace, by, now_us) as held:
        return put_or_draft(held, retirement, "")


def rollback(
    connection: Connection, namespace: str, pricebook: str, version: int, from_us: int, now_us: int, by: str
) -> tuple[Pricebook, int, Draft | None]:
    """Give an old version's prices the next number, from an instant on: the new version, the revision, and the draft.

    Where the policy asks for approval it is a draft that is made.
    """
    check_ordinary(pricebook)
    with desk(connection, namespace, by, now_us) as held:
        if held.current is None:
            raise Refused(f"namespace {namespace!r} has no catalog", do="Publish one: lineitem catalog publish FILE")
        books = published.pricebooks(connection, held.key)
        catalog, new = rolled_back(held.current, books, pricebook, version, from_us)
        revision, made = put_or_draft(held, catalog, f"rollback of {pricebook} to version {version}")
        return new, revision, made


def put_or_draft(held: Desk, content: Content, note: str) -> tuple[int, Draft | None]:
    """Put something in force, or make a draft of it where the policy asks for approval: revision and draft."""
    if not held.policy.required:
        held.record([held.put_in_force(content)], held.revision + 1)
        return held.revision + 1, None
    made, fact = _drafted(held, content, note)
    held.record([fact], held.revision)
    return held.revision, made


def _drafted(held: Desk, content: Content, note: str) -> tuple[Draft, Fact]:
    held.check(content)  # nobody shall look at what cannot be published
    what, document = document_of(content)
    number = len(drafts.drafts(held.connection, held.key)) + 1
    digest = sha256(document.encode()).hexdigest()
    made = Draft(number, what, held.revision, digest, document, (Step(Act.DRAFT, held.by, note, held.now_us),))
    drafts.add(held.connection, held.key, made)
    return made, _fact(held, made)


def _fact(held: Desk, made: Draft) -> Fact:
    """The last step of a draft, as the chain keeps it."""
    done = made.steps[-1]
    body = {
        "namespace": held.namespace, "draft": made.number, "step": len(made.steps) - 1, "act": done.act.value,
        "by": done.by, "note": done.note, "what": made.what, "base_revision": made.base_revision, "digest": made.digest,
    }  # fmt: skip
    return Fact("draft", canonical(body))


@explained()
def history(connection: Connection, namespace: str, now_us: int) -> dict[str, Any]:
    """Every draft and every published version of a namespace: state, who, when and digest, as a JSON document."""
    key = published.namespace_key(connection, namespace)
    with one_snapshot(connection):
        found = drafts.drafts(connection, key)
        ranges = effective_ranges(published.pricebooks(connection, key), published.retired(connection, key))
        ends = published.retirements_of(connection, key)
        facts = connection.execute(SQL.publish_facts, {"namespace_key": key}).fetchall()
        stored = published.versions_stored(connection, key)
        revision = published.current_revision(connection, namespace)
    when = {row[0]: (row[1], us_to_text(row[2])) for row in facts}
    versions = []
    for pricebook, version, digest, brought in stored:
        start, end = ranges[(pricebook, version)]
        by, at = when.get(brought, (None, None))
        retired = ends.get((pricebook, version))
        versions.append(
            {
                "pricebook": pricebook,
                "version": version,
                "state": "retired" if end <= max(start, now_us) else "published",
                "in_force": start <= now_us < end,
                "effective_from": us_to_text(start),
                "effective_until": None if end == END_OF_TIME_US else us_to_text(end),
                "digest": digest,
                "revision": brought,
                "published_by": by,
                "published_at": at,
                "retired_by": None if retired is None else retired[1],
                "retired_at": None if retired is None else us_to_text(retired[2]),
            }
        )
    return {"namespace": namespace, "revision": revision, "drafts": [told(one) for one in found], "versions": versions}


def told(one: Draft) -> dict[str, Any]:
    """A draft as JSON has it."""
    return {
        "draft": one.number,
        "what": one.what,
        "state": one.state,
        "author": one.author,
        "base_revision": one.base_revision,
        "digest": one.digest,
        "steps": [
            {"act": done.act.value, "by": done.by, "at": us_to_text(done.acted_us), "note": done.note}
            for done in one.steps
        ],
    }
