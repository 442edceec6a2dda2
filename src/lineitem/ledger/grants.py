"""Prepaid grants: added once, made void, listed. Each act is a fact of lane 0; drawing them is ``ledger.credits``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from lineitem.catalog import published
from lineitem.catalog.published import GRANT_BOOK
from lineitem.core.errors import InputError, Refused
from lineitem.core.limits import FIELD_CHARS_MAX
from lineitem.core.money import nano_to_text
from lineitem.core.period import us_to_text
from lineitem.kit.db import Connection, explained, retried
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.chain import BatchKind
from lineitem.ledger.grant_terms import Asked, GrantTerms, read_terms
from lineitem.ledger.post import Fact, canonical, lock_lane, write_batch
from lineitem.ledger.why import say_why

SQL = load_queries("lineitem.ledger", "credits.sql")
GRANT = "grant"
VOID = "grant_void"
"""Kinds of the facts that record grants."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A grant as the ledger has it; ``void`` None while it is good. ``drawn_nano``: by what has been billed or closed."""

    terms: GrantTerms
    by: str
    batch: int  # of lane 0
    zone: str  # of the account
    void: tuple[int, str, str, int] | None  # what may be drawn (nano-units), reason, by, batch of lane 0
    drawn_nano: int = 0

    @property
    def left_nano(self) -> int:
        """What can still be drawn, while it has not expired."""
        return (self.terms.amount_nano if self.void is None else self.void[0]) - self.drawn_nano

    def state(self, now_us: int) -> str:
        """``void``, ``used``, ``expired``, ``future`` or ``active``."""
        if self.void is not None:
            return "void"
        if self.left_nano == 0:
            return "used"
        if self.terms.expires_us is not None and self.terms.expires_us <= now_us:
            return "expired"
        return "future" if self.terms.effective_us > now_us else "active"

    def shown(self, now_us: int) -> dict[str, Any]:
        """As ``lineitem grant list --json`` prints it. ``left`` is what usage can still draw; what expired or was made
        void is ``lost``. Usage of its time that is billed after it has expired still draws on it: then less is lost.
        """
        state, terms = self.state(now_us), self.terms
        gone = state in ("void", "expired")
        rest = terms.amount_nano - self.drawn_nano
        return {
            "id": terms.id,
            "account": terms.account,
            "currency": terms.currency,
            "granted": nano_to_text(terms.amount_nano),
            "drawn": nano_to_text(self.drawn_nano),
            "left": nano_to_text(0 if gone else rest),
            "lost": nano_to_text(rest if gone else 0),
            "state": state,
            "priority": terms.priority,
            "effective": us_to_text(terms.effective_us),
            "expires": None if terms.expires_us is None else us_to_text(terms.expires_us),
            "timezone": self.zone,
            "prices": list(terms.prices),
            "reason": terms.reason,
            "by": self.by,
            "batch": f"0-{self.batch}",
            "void": None if self.void is None else {
                "reason": self.void[1], "by": self.void[2], "batch": f"0-{self.void[3]}",
            },
        }  # fmt: skip


@explained()
def add(connection: Connection, namespace: str, asked: Asked, by: str, now_us: int) -> tuple[Kept, bool]:
    """Record a grant; the grant and whether it is new. Without an id it gets the next free number.

    The same terms under the same id again do nothing. Raises InputError for what ``read_terms`` cannot make sense of,
    Refused where the id is taken by other terms.
    """
    return retried(lambda: _add(connection, namespace, asked, by, now_us))


def _add(connection: Connection, namespace: str, asked: Asked, by: str, now_us: int) -> tuple[Kept, bool]:
    with connection.transaction():
        head = lock_lane(connection, 0)
        key = published.namespace_key(connection, namespace)
        known = find(connection, key, asked.id) if asked.id else None
        since_us = None if known is None else known.terms.effective_us
        account, terms = read_terms(connection, namespace, key, asked, since_us, now_us)
        terms = terms if terms.id else replace(terms, id=_free_id(connection, key))
        if known is not None:
            _check_same(known.terms, terms)
            return known, False
        batch = head.batch + 1
        version = published.add_grant_price(connection, key, terms.id, terms.currency, terms.digest())
        values = {
            "namespace_key": key, "grant": terms.id, "account_key": account.account_key, "price_version_key": version,
            "currency": terms.currency, "amount_nano": terms.amount_nano, "priority": terms.priority,
            "effective_us": terms.effective_us, "expires_us": terms.expires_us,
            "prices": canonical(list(terms.prices)), "reason": terms.reason, "by": by, "batch": batch,
        }  # fmt: skip
        connection.execute(SQL.add_grant, values)
        fact = Fact(GRANT, canonical({"namespace": namespace, "by": by} | terms.document()))
        revision = published.current_revision(connection, namespace)
        write_batch(
            connection, head, namespace, key, BatchKind.CREDIT,
            facts=[fact], catalog_revision=revision, recorded_us=now_us,
        )  # fmt: skip
    return Kept(terms, by, batch, account.timezone, None), True


def _free_id(connection: Connection, key: int) -> str:
    row = connection.execute(SQL.count_grants, {"namespace_key": key}).fetchone()
    assert row is not None
    number = int(row[0]) + 1
    while find(connection, key, f"grant-{number}") is not None:
        number += 1
    return f"grant-{number}"


def _check_same(known: GrantTerms, wanted: GrantTerms) -> None:
    """Raise Refused, with both values, where the terms differ."""
    before, now = known.document(), wanted.document()
    differ = [name for name in before if before[name] != now[name]]
    if differ:
        told = "; ".join(f"{_label(name)} is {_value(name, before)}, not {_value(name, now)}" for name in differ)
        raise Refused(
            f"there is a grant {known.id!r} already, with other terms: {told}",
            do="A grant never changes. Grant under another --id; `lineitem grant void` takes back what is left of this one.",
        )


def _label(name: str) -> str:
    return name.removesuffix("_us")


def _value(name: str, document: dict[str, Any]) -> str:
    value = document[name]
    if name.endswith("_us"):
        return "never" if value is None else us_to_text(value)
    return (
        repr(value) if name in ("account", "reason") else ", ".join(value) or "all" if name == "prices" else f"{value}"
    )


@explained()
def void(connection: Connection, namespace: str, grant: str, reason: str, by: str, now_us: int) -> tuple[Kept, bool]:
    """Take back what is not drawn of a grant; the grant and whether that did anything.

    What was drawn stays: a void grant is one of that amount. Raises InputError for an unknown grant, Refused where it was
    made void for another reason, or where none is given.
    """
    say_why("making a grant void", reason, FIELD_CHARS_MAX)
    return retried(lambda: _void(connection, namespace, grant, reason, by, now_us))


def _void(connection: Connection, namespace: str, grant: str, reason: str, by: str, now_us: int) -> tuple[Kept, bool]:
    with connection.transaction():
        head = lock_lane(connection, 0)
        key = published.namespace_key(connection, namespace)
        known = find(connection, key, grant)
        if known is None:
            raise InputError(
                f"there is no grant {grant!r} in namespace {namespace!r}", do="`lineitem grant list` lists them."
            )
        if known.void is not None:
            if known.void[1] != reason:
                raise Refused(f"grant {grant!r} is void already: {known.void[1]}")
            return known, False
        batch, kept = head.batch + 1, known.drawn_nano
        values = {"namespace_key": key, "grant": grant, "kept_nano": kept, "reason": reason, "by": by, "batch": batch}
        connection.execute(SQL.add_void, values)
        body = {"namespace": namespace, "id": grant, "kept": nano_to_text(kept), "reason": reason, "by": by}
        revision = published.current_revision(connection, namespace)
        write_batch(
            connection, head, namespace, key, BatchKind.CREDIT,
            facts=[Fact(VOID, canonical(body))], catalog_revision=revision, recorded_us=now_us,
        )  # fmt: skip
    return replace(known, void=(kept, reason, by, batch)), True


def find(connection: Connection, key: int, grant: str) -> Kept | None:
    """One grant of a namespace, with what has been drawn of it."""
    row = connection.execute(SQL.grant, {"namespace_key": key, "grant": grant}).fetchone()
    return None if row is None else next(_with_draws(connection, key, [_kept(row)]))


def kept(connection: Connection, key: int, account: str | None = None) -> list[Kept]:
    """The grants of a namespace, or of one account, in the order they were made, with what has been drawn of them."""
    rows = connection.execute(SQL.grants, {"namespace_key": key, "account": account}).fetchall()
    return list(_with_draws(connection, key, [_kept(row) for row in rows]))


def _with_draws(connection: Connection, key: int, some: list[Kept]) -> Iterator[Kept]:
    where = {"namespace_key": key, "pricebook": GRANT_BOOK, "grants": [one.terms.id for one in some]}
    drawn: dict[str, Any] = dict(connection.execute(SQL.drawn, where).fetchall())
    yield from (replace(one, drawn_nano=int(drawn.get(one.terms.id, 0))) for one in some)


def _kept(row: tuple[Any, ...]) -> Kept:
    grant, account, currency, amount, priority, effective_us, expires_us, prices, reason, by, batch, *void = row
    terms = GrantTerms(
        grant, account, currency, int(amount), priority, effective_us, expires_us, tuple(json.loads(prices)), reason
    )
    kept_nano, void_reason, voided_by, void_batch, zone = void
    gone = None if kept_nano is None else (int(kept_nano), void_reason, voided_by, void_batch)
    return Kept(terms, by, batch, zone, gone)
