"""Checks of prepaid credit: grants, what was made void, what was owed and drawn are as recorded, and drawn as the rule says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

from lineitem.catalog import published
from lineitem.catalog.published import GRANT_BOOK, GRANT_VERSION
from lineitem.core.errors import InputError
from lineitem.core.limits import AMOUNT_SCALE
from lineitem.core.money import nano_to_text, text_to_scaled
from lineitem.core.period import Month as Period
from lineitem.core.period import zone_exists
from lineitem.kit.blobs import BlobStore
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger import claims, credit_months
from lineitem.ledger.credit_cuts import owed_at
from lineitem.ledger.credit_months import MonthCredit
from lineitem.ledger.credits import FACT, Reader, shared_out, summed, what_is_owed
from lineitem.ledger.grant_terms import GrantTerms
from lineitem.ledger.grants import GRANT, VOID
from lineitem.ledger.post import canonical
from lineitem.ledger.rating import Rater
from lineitem.ledger.refold import Replay
from lineitem.rate.credits import Grant, draw

SQL = load_queries("lineitem.ledger", "credits.sql")
Found = Iterator[tuple[tuple[int, int] | None, str]]
"""(lane, batch) to blame, or None, and what is wrong."""
_GRANT_KEYS = {field.name.replace("amount_nano", "amount") for field in fields(GrantTerms)}
_VOID_KEYS = {"id", "kept"}
Name = tuple[str, str]
"""Namespace and grant id, or namespace and account."""


@dataclass(slots=True)
class _Recorded:
    """What the chain says of prepaid credit; batches are of lane 0."""

    grants: dict[Name, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    voids: dict[Name, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    months: dict[tuple[str, str, int], tuple[int, MonthCredit]] = field(default_factory=dict)
    draws: dict[tuple[str, str, int], dict[str, tuple[int, int]]] = field(default_factory=dict)
    """(namespace, account, service month) -> grant -> batch, nano-units; of every grant that was ever drawn for it."""


def check_credits(connection: Connection) -> Found:
    """Everything stored of prepaid credit against the facts, and each account's draws against the rule."""
    recorded = _recorded(connection)
    yield from _grants(connection, recorded)
    yield from _voids(connection, recorded)
    zones: dict[Name, str] = {}
    yield from _months(connection, recorded, zones)
    yield from _draws(connection, recorded)
    yield from _rule(recorded, zones)


def _recorded(connection: Connection) -> _Recorded:
    """A fact that cannot be read any more its batch's root gives away."""
    found = _Recorded()
    for kind, kept in ((GRANT, found.grants), (VOID, found.voids)):
        for namespace, _, batch, body in claims.facts(connection, kind):
            fact = _read(body)
            if fact.keys() >= (_GRANT_KEYS if kind == GRANT else _VOID_KEYS) and isinstance(
                fact.get("prices", []), list
            ):
                kept[(namespace, fact["id"])] = (batch, fact)
    for namespace, _, batch, body in claims.facts(connection, FACT):
        fact = _read(body)
        for document in fact["months"] if isinstance(fact.get("months"), list) else ():
            try:
                month, one = int(document["month"]), MonthCredit.of(document)
            except (ValueError, KeyError, TypeError):
                continue
            key = (namespace, fact.get("account", ""), month)
            found.months[key] = (batch, one)
            before = found.draws.setdefault(key, {})
            before |= {grant: (batch, one.drawn(grant)) for grant in {*before, *one.draws}}
    return found


def _at(batch: int | None) -> tuple[int, int] | None:
    return None if batch is None else (0, batch)


def _read(body: str) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


class _StoredGrant(NamedTuple):
    """A row of ``grants_stored``."""

    namespace: str
    account: str
    own_account: bool  # of the grant's namespace
    grant: str
    currency: str
    amount_nano: int
    priority: int
    effective_us: int
    expires_us: int | None
    prices: str
    reason: str
    by: str
    batch: int
    price: tuple[Any, ...]  # what its line items name


def _grants(connection: Connection, recorded: _Recorded) -> Found:
    missing = dict(recorded.grants)
    for row in connection.execute(SQL.grants_stored).fetchall():
        one = _StoredGrant._make([*row[:13], row[13:]])
        name = f"grant {one.grant} of {one.namespace}"
        place, fact = missing.pop((one.namespace, one.grant), (None, None))
        if place is None or fact is None:
            yield None, f"{name} was never recorded"
            continue
        terms = GrantTerms(
            one.grant, one.account, one.currency, int(one.amount_nano), one.priority, one.effective_us, one.expires_us,
            tuple(fact["prices"]), one.reason,
        )  # fmt: skip
        now = {"namespace": one.namespace, "by": one.by} | terms.document()
        if (one.batch, one.own_account, one.prices, now) != (place, True, canonical(fact["prices"]), fact):
            yield (0, place), f"{name} is not what was recorded"
        named = (GRANT_BOOK, GRANT_VERSION, one.grant, "", "", 0, one.currency, terms.digest().hex(), True)
        if one.price != named:
            yield (0, place), f"the price that line items of {name} name is not the grant's"
    for (namespace, grant), (place, _) in missing.items():
        yield (0, place), f"grant {grant} of {namespace} is missing"


def _voids(connection: Connection, recorded: _Recorded) -> Found:
    missing = dict(recorded.voids)
    for namespace, grant, kept, reason, by, batch in connection.execute(SQL.voids_stored).fetchall():
        place, fact = missing.pop((namespace, grant), (None, None))
        now = {"namespace": namespace, "id": grant, "kept": nano_to_text(int(kept)), "reason": reason, "by": by}
        if (batch, now) != (place, fact):
            yield _at(place), f"that grant {grant} of {namespace} is void was recorded otherwise"
    for (namespace, grant), (place, _) in missing.items():
        yield (0, place), f"grant {grant} of {namespace} no longer is void"


def _months(connection: Connection, recorded: _Recorded, zones: dict[Name, str]) -> Found:
    missing = dict(recorded.months)
    for namespace, account, month, document, batch, own, zone in connection.execute(SQL.months_stored).fetchall():
        place, one = missing.pop((namespace, account, month), (None, None))
        zones[(namespace, account)] = zone
        if place is None or one is None or (batch, document, own) != (place, one.text(), True):
            named = f"account {account} of {namespace} in {Period.from_index(month)}"
            yield _at(place), f"what credit was drawn against for {named} is not what was recorded"
    for (namespace, account, month), (place, _) in missing.items():
        named = f"account {account} of {namespace} in {Period.from_index(month)}"
        yield (0, place), f"what credit was drawn against for {named} is missing"


def _draws(connection: Connection, recorded: _Recorded) -> Found:
    missing = {(*key, grant): drawn for key, some in recorded.draws.items() for grant, drawn in some.items()}
    for namespace, account, book, grant, month, nano, own in connection.execute(SQL.draws_stored).fetchall():
        place, drawn = missing.pop((namespace, account, month, grant), (None, None))
        if (book, drawn, own) != (GRANT_BOOK, int(nano), True):
            yield _at(place), f"{nano} nano-units drawn of grant {grant} of {namespace} are not what was recorded"
    for (namespace, _, _, grant), (place, _) in missing.items():
        yield (0, place), f"what was drawn of grant {grant} of {namespace} is missing"


def _rule(recorded: _Recorded, zones: dict[Name, str]) -> Found:
    """Each account's draws are what its grants pay of what it owed, by the grants there were when it was drawn last."""
    accounts: dict[Name, dict[int, MonthCredit]] = {}
    last: dict[Name, int] = {}
    for (namespace, account, month), (batch, one) in recorded.months.items():
        accounts.setdefault((namespace, account), {})[month] = one
        last[(namespace, account)] = max(batch, last.get((namespace, account), 0))
    for name, months in accounts.items():
        if not zone_exists(zones.get(name, "")):
            continue  # told by others
        try:
            right = _by_the_rule(recorded, name, last[name], months, zones[name])
        except (InputError, ValueError, TypeError, LookupError):  # an altered fact: its batch's root gives it away
            right = False
        if not right:
            yield (0, last[name]), f"credit of account {name[1]} of {name[0]} is drawn otherwise than its grants say"


def _by_the_rule(recorded: _Recorded, name: Name, until: int, months: dict[int, MonthCredit], zone: str) -> bool:
    """Whether an account's draws are right; ``until``: the batch in which the last of them was drawn."""
    grants = [
        _as_drawn(recorded, key, fact, until)
        for key, (batch, fact) in recorded.grants.items()
        if (key[0], fact["account"]) == name and batch <= until
    ]
    slices = [part for month, one in months.items() for part in one.slices(month, zone)]
    stored = {(grant, month): prices for month, one in months.items() for grant, prices in one.draws.items()}
    return stored == draw(grants, slices)


def _as_drawn(recorded: _Recorded, key: Name, fact: dict[str, Any], until: int) -> Grant:
    """A grant as it was when credit was drawn in batch ``until``."""
    prices = tuple(fact["prices"])
    amount = text_to_scaled(fact["amount"], AMOUNT_SCALE)
    terms = GrantTerms(
        fact["id"], fact["account"], fact["currency"], amount, fact["priority"], fact["effective_us"], fact["expires_us"],
        prices, fact["reason"],
    )  # fmt: skip
    void = recorded.voids.get(key)
    if void is None or void[0] > until:
        return terms.grant()
    return replace(terms.grant(), amount_nano=text_to_scaled(void[1]["kept"], AMOUNT_SCALE))


def check_cuts(connection: Connection, store: BlobStore, namespace: str) -> Iterator[str]:
    """Months shared out between cuts, folded again from the raw segments; those that have moved since are left out."""
    snapshot = published.load_snapshot(connection, namespace)
    if snapshot is None:
        return
    where = {"namespace_key": snapshot.namespace_key, "account": None}
    accounts = [row[0] for row in connection.execute(SQL.accounts_with_grants, where).fetchall()]
    try:
        months = credit_months.months(connection, accounts)
    except (ValueError, TypeError, LookupError):  # altered, as ``check_credits`` says
        return
    split = {at: one for at, one in months.items() if one.cuts and one.whole}
    if not split:
        return
    owed = what_is_owed(connection, snapshot, accounts, sorted({month for _, month in split}))
    reader = Reader.of(connection, snapshot, sorted({month for _, month in split}))
    unmoved = {
        at: one
        for at, one in split.items()
        if one.read == reader.read(at, owed.get(at, ())) and one.totals() == summed(owed.get(at, ()))
    }
    at_cut = owed_at(
        Replay(connection, store, namespace),
        snapshot.tier_chains,
        Rater(),
        {at: one.cuts for at, one in unmoved.items()},
    )
    for (account, month), one in unmoved.items():
        fixed = summed(ask for ask in owed.get((account, month), ()) if ask.fee)
        owed_by = [at_cut.get((account, month, cut), {}) for cut in one.cuts]
        if shared_out(one.totals(), owed_by, fixed) != one.owed:
            yield f"account #{account}, {Period.from_index(month)}: credit was drawn against other parts than folded again"
