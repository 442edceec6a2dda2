"""Put a catalog in force, end a version: checked against what is in force, stored as immutable versions, recorded in lane 0."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

from lineitem.catalog import canaries, published
from lineitem.catalog.canary import Change, Step, canary_of, check_change, held, holds_digest
from lineitem.catalog.draft import Content, Retirement
from lineitem.catalog.load import content_digest
from lineitem.catalog.model import Approval, Catalog, Meter, own_pricebook
from lineitem.catalog.publish import UsageSoFar, check_publish, check_retire
from lineitem.core.errors import Refused
from lineitem.kit.db import Connection, explained
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.chain import BatchKind
from lineitem.ledger.post import Fact, Head, canonical, lock_lane, write_batch

SQL = load_queries("lineitem.ledger", "ledger.sql")


@dataclass(frozen=True, slots=True)
class Publication:
    """What a publish came to; ``changed`` False when the same content was in force already."""

    namespace: str
    revision: int
    digest: str
    changed: bool


@dataclass(frozen=True, slots=True)
class Desk:
    """The catalog of a namespace, held by the transaction of somebody who acts on it; nobody else does meanwhile."""

    connection: Connection
    namespace: str
    key: int
    head: Head
    revision: int
    current: Catalog | None
    by: str
    now_us: int

    @property
    def policy(self) -> Approval:
        """What the catalog in force asks of the next one: a draft cannot loosen it for itself."""
        publishing = None if self.current is None else self.current.publishing
        return Approval() if publishing is None else publishing.approval

    def record(self, facts: list[Fact], revision: int) -> None:
        """Write what was done into the chain."""
        write_batch(
            self.connection, self.head, self.namespace, self.key, BatchKind.PUBLISH,
            facts=facts, catalog_revision=revision, recorded_us=self.now_us,
        )  # fmt: skip

    def check(self, content: Content) -> None:
        """Raise Refused when putting ``content`` in force would change what has been published or rated, or nothing."""
        books, ends_us = published.pricebooks(self.connection, self.key), published.retired(self.connection, self.key)
        if isinstance(content, Retirement):
            check_ordinary(content.pricebook)
            used = usage_so_far(self.connection, self.key, [])
            check_retire(books, ends_us, content.pricebook, content.version, content.end_us, used)
            return
        if isinstance(content, Change):
            check_change(content, canaries.steps(self.connection, self.key))
            return
        if self.current is not None and content_digest(self.current) == content_digest(content):
            raise Refused(f"revision {self.revision} of {self.namespace} has this content already", do="Nothing to do.")
        used = usage_so_far(self.connection, self.key, [account.id for account in content.accounts])
        check_publish(self.current, books, ends_us, content, used)

    def put_in_force(self, content: Content) -> Fact:
        """Check and store a catalog, or the end of a version, under the next revision."""
        self.check(content)
        revision = self.revision + 1
        body: dict[str, object] = {"namespace": self.namespace, "revision": revision, "by": self.by}
        if isinstance(content, Change):
            return self.put_step(content, revision)
        if isinstance(content, Retirement):
            version, end_us = (content.pricebook, content.version), content.end_us
            published.add_retirement(self.connection, self.key, revision, version, end_us, self.by, self.now_us)
            body |= {"pricebook": content.pricebook, "version": content.version, "end_us": end_us}
            return Fact("retire", canonical(body))
        published.add_publication(self.connection, self.key, revision, content, self.now_us)
        return Fact("publish", canonical(body | {"digest": content_digest(content)}))

    def put_step(self, change: Change, revision: int) -> Fact:
        """Store a step of a canary under ``revision``, and whom it reaches only after usage that is rated already."""
        assert self.current is not None  # where there is no catalog there is no pricebook to try
        before = canaries.steps(self.connection, self.key)
        before = tuple(step for step in before if step.change.pricebook == change.pricebook)
        where = {"namespace_key": self.key, "pricebook": change.pricebook, "month": change.from_month}
        rows = self.connection.execute(SQL.months_used, where).fetchall()
        used: dict[str, list[int]] = dict(rows)
        step = Step(revision, change, held(before, Step(revision, change), used))
        published.add_canary_step(self.connection, self.key, step, self.current, self.by, self.now_us)
        body = {"namespace": self.namespace, "revision": revision, "by": self.by, "canary": change.canary}
        digest = sha256(change.document().encode()).hexdigest()
        return Fact("canary", canonical(body | {"digest": digest, "holds": holds_digest(step.holds)}))


def check_ordinary(pricebook: str) -> None:
    """Raise Refused for the prices of a canary, which end with it."""
    name = canary_of(pricebook)
    if name is not None:
        raise Refused(
            f"{pricebook} holds the prices of a canary", do=f"lineitem canary stop {name}, or canary finish {name}"
        )


@contextmanager
def desk(connection: Connection, namespace: str, by: str, now_us: int) -> Iterator[Desk]:
    """Hold the catalog of a namespace for one transaction."""
    with explained(), connection.transaction():
        head = lock_lane(connection, 0)
        key = published.namespace_key(connection, namespace)
        revision = published.lock_revision(connection, key)
        yield Desk(connection, namespace, key, head, revision, published.current(connection, key), by, now_us)


def publish(connection: Connection, namespace: str, catalog: Catalog, now_us: int, by: str) -> Publication:
    """Put ``catalog`` in force. The same content again does nothing.

    Raises Refused when it would change what has been published or rated, or when the catalog in force asks for approval.
    """
    digest = content_digest(catalog)
    with desk(connection, namespace, by, now_us) as held:
        if held.current is not None and content_digest(held.current) == digest:
            return Publication(namespace, held.revision, digest, changed=False)
        if held.policy.required:
            raise Refused(
                "publishing needs an approved draft (publishing.approval.required)",
                do="Make one: lineitem catalog draft FILE; then catalog approve and catalog publish --draft.",
            )
        held.record([held.put_in_force(catalog)], held.revision + 1)
    return Publication(namespace, held.revision + 1, digest, changed=True)


def refusals(connection: Connection, key: int, catalog: Catalog) -> list[str]:
    """Why publishing ``catalog`` in the namespace with ``key`` would be refused as things are; nothing is published."""
    books, ends_us = published.pricebooks(connection, key), published.retired(connection, key)
    used = usage_so_far(connection, key, [account.id for account in catalog.accounts])
    try:
        check_publish(published.current(connection, key), books, ends_us, catalog, used)
    except Refused as error:
        return error.what.splitlines()
    return []


def usage_so_far(connection: Connection, key: int, accounts: list[str]) -> UsageSoFar:
    """What has been rated in a namespace; of ``accounts`` also under which pricebook and zone."""
    rows = connection.execute(SQL.usage_so_far, {"namespace_key": key}).fetchall()
    settled = connection.execute(SQL.accounts_with_usage, {"namespace_key": key, "accounts": accounts}).fetchall()
    by_meter = {(book, meter): last_us for kind, book, last_us, meter in rows if kind == "pricebook"}
    last: dict[str, int] = {own_pricebook(account): last_us for kind, account, last_us, _ in rows if kind == "account"}
    for (book, _), last_us in by_meter.items():
        last[book] = max(last.get(book, last_us), last_us)
    return UsageSoFar(
        last,
        frozenset(meter for _, meter in by_meter if meter),
        {row[0]: (row[1], row[2]) for row in settled},
        by_meter,
        partial(_unmeasured_until_us, connection, key),
    )


def _unmeasured_until_us(connection: Connection, key: int, meter: Meter) -> int | None:
    """The latest event of a batch that was rated before a meter was what it is now; None where there is none."""
    since = None
    for revision, catalog in published.catalogs(connection, key):
        if meter not in catalog.meters:
            break
        since = revision
    row = connection.execute(SQL.last_event_before, {"namespace_key": key, "revision": since}).fetchone()
    return None if row is None or row[0] is None else int(row[0])
