"""Canaries through the ledger: start, ramp, stop, finish, and the check that stores the other amounts and stops one itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from lineitem.catalog import canaries, published
from lineitem.catalog.canary import (
    Bounds,
    CanaryAct,
    Change,
    Chosen,
    Step,
    canary_book,
    first_month,
    promoted,
    running,
    started,
)
from lineitem.catalog.draft import Draft
from lineitem.catalog.model import Catalog, Pricebook
from lineitem.catalog.publish import check_publish
from lineitem.core.errors import InputError, Refused
from lineitem.core.period import Month, month_start_us, us_to_text
from lineitem.kit.blobs import BlobStore
from lineitem.kit.db import Connection, explained
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.canary_rows import Beside, breaches, of_check, rows_digest, store, totals
from lineitem.ledger.drafting import put_or_draft
from lineitem.ledger.post import Fact, canonical
from lineitem.ledger.publishing import Desk, desk, usage_so_far
from lineitem.ledger.read import one_snapshot
from lineitem.ledger.shadow import Candidate, Wanted, shadow

SQL = load_queries("lineitem.ledger", "canary.sql")
_CHECKER = "lineitem canary check"
"""Who stops a canary that passes its bounds."""

Flag = Callable[[Sequence[str]], Sequence[str]]
"""Of accounts, those a feature flag chooses."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Whom a person wants in a canary: a percentage, accounts, a cohort (``tag=value``, or the value of the tag
    ``cohort``), or what a feature flag says; exactly one of them.
    """

    percent: Decimal | None = None
    salt: str = ""
    accounts: tuple[str, ...] = ()
    cohort: str = ""
    flag: str = ""
    evaluate: Flag | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """A step that was put in force at ``revision``, or made a draft of."""

    change: Change
    revision: int
    draft: Draft | None


def start(
    connection: Connection, namespace: str, file: Catalog, choice: Choice, bounds: Bounds, name: str | None,
    from_us: int | None, now_us: int, by: str,
) -> Done:  # fmt: skip
    """Bill chosen accounts by the new pricebook version of a catalog file. Raises Refused where it could not be published
    for them, InputError for accounts or cohorts that do not exist.
    """
    with desk(connection, namespace, by, now_us) as held:
        if held.current is None:
            raise Refused(f"namespace {namespace!r} has no catalog", do="Publish one: lineitem catalog publish FILE")
        books, ends_us = published.pricebooks(connection, held.key), published.retired(connection, held.key)
        # Service periods with usage keep their arm, so the candidate may start under rated usage where a publish may not.
        used = replace(usage_so_far(connection, held.key, [account.id for account in file.accounts]), last_event_us={})
        change = started(held.current, file, books, name, Chosen(""), bounds, from_us)
        check_publish(held.current, books, ends_us, file, used)
        chosen = _chosen(held, change.pricebook, choice)
        change = replace(
            change,
            chosen=chosen.how,
            percent=chosen.percent,
            accounts=chosen.accounts,
            salt=(chosen.salt or change.canary) if chosen.percent is not None else "",
        )
        return _done(held, change, f"canary {change.canary}: {chosen.how}")


def ramp(connection: Connection, namespace: str, name: str, choice: Choice, now_us: int, by: str) -> Done:
    """Change who is in a canary. Under a percentage its salt stays, so a higher one keeps the members it has."""
    with desk(connection, namespace, by, now_us) as held:
        before = running(canaries.steps(connection, held.key), name)
        chosen = _chosen(held, before.pricebook, choice)
        change = replace(
            before,
            act=CanaryAct.RAMP,
            chosen=chosen.how,
            percent=chosen.percent,
            accounts=chosen.accounts,
            salt=(before.salt or name) if chosen.percent is not None else "",
            book=None,
        )
        return _done(held, change, f"canary {name}: {chosen.how}")


def stop(connection: Connection, namespace: str, name: str, reason: str, now_us: int, by: str) -> Done:
    """Let nobody else in; members go back from their next service period. Needs no approval: it only undoes."""
    with desk(connection, namespace, by, now_us) as held:
        before = running(canaries.steps(connection, held.key), name)
        return _ended(held, _without_members(before, CanaryAct.STOP, reason))


def finish(connection: Connection, namespace: str, name: str, from_us: int | None, now_us: int, by: str) -> Done:
    """Publish a canary's prices as the next version of its pricebook for everybody, from the start of a month on, and
    end the canary then. Where the policy asks for approval, it is a draft of that version that is made; once it is
    published, finishing again ends the canary.
    """
    with desk(connection, namespace, by, now_us) as held:
        steps = canaries.steps(connection, held.key)
        before = running(steps, name)
        assert held.current is not None
        since = _since(held, before, from_us)
        books = published.pricebooks(connection, held.key)
        catalog = promoted(held.current, steps, books, name, since)
        new = next(book for book in catalog.pricebooks if book not in held.current.pricebooks)
        there = next((book for book in books if book.version >= before.version and _same_prices(book, new)), None)
        since = since if there is None else there.effective_from_us
        change = replace(_without_members(before, CanaryAct.FINISH, ""), from_month=first_month(since))
        if there is not None:
            return _ended(held, change)
        if held.policy.required:
            _, draft = put_or_draft(held, catalog, f"canary {name} for everybody")
            return Done(change, held.revision, draft)
        fact = held.put_in_force(catalog)
        done = held.put_step(change, held.revision + 2)
        held.record([fact, done], held.revision + 2)
        return Done(change, held.revision + 2, None)


def _same_prices(book: Pricebook, new: Pricebook) -> bool:
    return (book.id, book.prices) == (new.id, new.prices)


def _since(held: Desk, change: Change, from_us: int | None) -> int:
    """When everybody gets the prices: what was asked for, else the month after the last usage (in UTC)."""
    if from_us is None:
        where = {"namespace_key": held.key, "pricebook": change.pricebook}
        row = held.connection.execute(SQL.last_event, where).fetchone()
        last_us = None if row is None else row[0]
        month = change.from_month if last_us is None else max(change.from_month, first_month(last_us + 1))
        return month_start_us(month, "UTC")
    if month_start_us(first_month(from_us), "UTC") != from_us:
        raise Refused(
            f"a canary ends with a service period, and no month starts at {us_to_text(from_us)}",
            do="Give the first instant of a month in UTC, such as 2026-12-01T00:00:00Z.",
        )
    return from_us


def _without_members(before: Change, act: CanaryAct, reason: str) -> Change:
    return replace(before, act=act, chosen="nobody", percent=None, salt="", accounts=(), reason=reason, book=None)


def _done(held: Desk, change: Change, note: str) -> Done:
    revision, draft = put_or_draft(held, change, note)
    return Done(change, revision, draft)


def _ended(held: Desk, change: Change) -> Done:
    """In force at once, whatever the policy says."""
    held.record([held.put_in_force(change)], held.revision + 1)
    return Done(change, held.revision + 1, None)


def _chosen(held: Desk, pricebook: str, choice: Choice) -> Chosen:
    """Who that is now. Accounts, a cohort and what a flag says are settled here, once, and stored with the step."""
    where = {"namespace_key": held.key, "pricebook": pricebook}
    if choice.percent is not None:
        return Chosen(f"{choice.percent} % of accounts", choice.percent, choice.salt)
    if choice.cohort:
        tag, _, value = choice.cohort.rpartition("=")
        rows = held.connection.execute(SQL.accounts_with_tag, where | {"tag": tag or "cohort", "value": value})
        found = [row[0] for row in rows.fetchall()]
        if not found:
            raise InputError(
                f"there is no cohort {choice.cohort!r} in pricebook {pricebook}",
                do="A cohort is the accounts with the tag `cohort` of that value, or TAG=VALUE for any other tag.",
            )
        return Chosen(f"the cohort {choice.cohort}", accounts=tuple(sorted(found)))
    every = {row[0] for row in held.connection.execute(SQL.accounts, where).fetchall()}
    if choice.evaluate is not None:
        chosen = tuple(sorted(choice.evaluate(sorted(every))))
        if not chosen:
            raise InputError(
                f"the flag {choice.flag} is on for no account of pricebook {pricebook}",
                do="Turn it on for some, by their account id as targeting key, and start again.",
            )
        return Chosen(f"the flag {choice.flag}", accounts=chosen)
    unknown = [account for account in choice.accounts if account not in every]
    if unknown or not choice.accounts:
        named = ", ".join(repr(account) for account in unknown[:5])
        raise InputError(
            f"no account of pricebook {pricebook} is called {named}",
            do="An account exists once a catalog lists it or an event names it; ids are case-sensitive.",
        )
    return Chosen("named accounts", accounts=tuple(sorted(set(choice.accounts))))


# --- the other amounts


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found. ``breaches``: why it stopped the canary; ``fresh`` False where nothing had changed since."""

    canary: str
    rows: Sequence[Beside]
    breaches: Sequence[str]
    fresh: bool
    stopped: bool

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "canary": self.canary,
            "members_billed": len({row.account for row in self.rows}),
            "stopped": self.stopped,
            "breaches": list(self.breaches),
            "totals": totals(self.rows),
            "rows": [row.document() for row in self.rows],
        }


def check(connection: Connection, segments: BlobStore, namespace: str, now_us: int) -> list[Checked]:
    """Rate the members of every running canary by the other version too, store that, stop those beyond their bounds.

    A canary whose ledger has not changed since its last check is not rated again. One that stopped itself is told of again.
    """
    key = published.namespaces(connection)
    known = next((number for number, name in key.items() if name == namespace), None)
    steps = () if known is None else canaries.steps(connection, known)
    if known is None or not steps:
        return []
    newest = {step.change.pricebook: step for step in steps}
    by = canaries.told(connection, known)
    found = []
    for step in newest.values():
        if step.change.running:
            found.append(_check(connection, segments, namespace, known, step.change, now_us))
        elif by[step.revision][0] == _CHECKER:
            found.append(_stopped(connection, known, step.change))
    return found


def _stopped(connection: Connection, key: int, change: Change) -> Checked:
    """A canary that stopped itself, told again until another one follows on its pricebook."""
    seen = connection.execute(SQL.last_check, {"namespace_key": key, "canary": change.canary}).fetchone()
    rows = [] if seen is None else of_check(connection, (seen[0], seen[1]))
    return Checked(change.canary, rows, [change.reason], fresh=False, stopped=True)


def _check(
    connection: Connection, segments: BlobStore, namespace: str, key: int, change: Change, now_us: int
) -> Checked:
    cut = _cut(connection, key)
    seen = connection.execute(SQL.last_check, {"namespace_key": key, "canary": change.canary}).fetchone()
    if seen is not None and json.loads(seen[2])["cut"] == cut:
        rows = of_check(connection, (seen[0], seen[1]))
        return Checked(change.canary, rows, [], fresh=False, stopped=False)
    rows = _rated(connection, segments, namespace, key, change, now_us)
    beyond = breaches(rows, change.bounds)
    with desk(connection, namespace, _CHECKER, now_us) as held:
        place = (held.head.lane, held.head.batch + 1)
        store(connection, key, place, rows)
        body = {
            "namespace": namespace, "canary": change.canary, "cut": cut, "digest": rows_digest(rows),
            "totals": totals(rows), "breaches": beyond,
        }  # fmt: skip
        facts, revision = [Fact("canary_check", canonical(body))], held.revision
        stopping = bool(beyond) and _runs(canaries.steps(connection, key), change.canary)
        if stopping:
            facts.append(held.put_in_force(_without_members(change, CanaryAct.STOP, "; ".join(beyond))))
            revision += 1
        held.record(facts, revision)
    return Checked(change.canary, rows, beyond, fresh=True, stopped=stopping)


def _runs(steps: Sequence[Step], name: str) -> bool:
    return next(step.change.running for step in reversed(steps) if step.change.canary == name)


def _cut(connection: Connection, key: int) -> dict[str, int]:
    where = {"namespace_key": key}
    cut = {str(lane): batch for lane, batch in connection.execute(SQL.usage_cut, where).fetchall()}
    row = connection.execute(SQL.last_retraction, where).fetchone()
    return cut | ({} if row is None or row[0] is None else {"0": row[0]})


def _rated(
    connection: Connection, segments: BlobStore, namespace: str, key: int, change: Change, now_us: int
) -> list[Beside]:
    """Both amounts of every member with usage, a month at a time: without the canary, its own pricebook would have billed."""
    current = published.current(connection, key)
    assert current is not None
    where = {"namespace_key": key, "pricebook": canary_book(change.canary)}
    rows: list[Beside] = []
    for index, accounts in connection.execute(SQL.members_with_usage, where).fetchall():
        month = Month.from_index(index)
        wanted = Wanted(month, month, tuple(accounts), as_dated=True, without_canaries=True, usage_only=True)
        found = shadow(connection, segments, namespace, [Candidate("without", current)], wanted, now_us, _silent)
        rows += [
            Beside(row.account, index, row.price, row.currency, row.live_nano, row.draft_nano)
            for row in found.trials[0].rows
        ]
    return sorted(rows)


def _silent(done: int, total: int) -> None:
    """Nobody watches a check that follows an ingest."""


# --- what there is


@explained()
def status(connection: Connection, namespace: str, name: str | None) -> list[dict[str, Any]]:
    """Every canary, or one: its steps, how many accounts it has, and what its last check found."""
    key = published.namespace_key(connection, namespace)
    with one_snapshot(connection):
        steps = canaries.steps(connection, key)
        names = list(dict.fromkeys(step.change.canary for step in steps))
        if name is not None and name not in names:
            raise InputError(f"there is no canary {name!r}", do="`lineitem canary status` lists them.")
        who = canaries.told(connection, key)
        return [_status(connection, key, steps, who, one) for one in names if name in (None, one)]


def _status(
    connection: Connection, key: int, steps: Sequence[Step], who: dict[int, tuple[str, int]], name: str
) -> dict[str, Any]:
    mine = [step for step in steps if step.change.canary == name]
    change = mine[-1].change
    where = {"namespace_key": key, "pricebook": change.pricebook}
    accounts = [row[0] for row in connection.execute(SQL.accounts, where).fetchall()]
    members = Counter("canary" if mine[-1].has(account) else "stable" for account in accounts)
    later = sum(1 for account in accounts if mine[-1].has(account) and mine[-1].holds.get(account))
    billed = connection.execute(SQL.members_with_usage, where | {"pricebook": canary_book(name)}).fetchall()
    seen = connection.execute(SQL.last_check, {"namespace_key": key, "canary": name}).fetchone()
    rows = [] if seen is None else of_check(connection, (seen[0], seen[1]))
    return {
        "canary": name,
        "state": {"start": "running", "ramp": "running", "stop": "stopped", "finish": "finished"}[change.act],
        "pricebook": change.pricebook,
        "candidate_version": change.version,
        "from": str(Month.from_index(mine[0].change.from_month)),
        "chosen": change.chosen,
        "reason": change.reason or None,
        "bound_percent": _text(change.bounds.total_percent),
        "account_bound_percent": _text(change.bounds.account_percent),
        "accounts": {"canary": members["canary"], "stable": members["stable"], "joining_later": later},
        "billed": {str(Month.from_index(month)): len(some) for month, some in billed},
        "totals": totals(rows),
        "rows": [row.document() for row in rows],
        "steps": [
            {
                "act": step.change.act.value,
                "chosen": step.change.chosen,
                "revision": step.revision,
                "by": who[step.revision][0],
                "at": us_to_text(who[step.revision][1]),
                "held_back": len(step.holds),
                "reason": step.change.reason or None,
            }
            for step in mine
        ],
    }


def _text(percent: Decimal | None) -> str | None:
    return None if percent is None else str(percent)
