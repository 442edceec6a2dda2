"""Publish a catalog: checked against what is in force, stored as immutable versions, recorded in lane 0."""

from __future__ import annotations

from dataclasses import dataclass

from lineitem.catalog import published
from lineitem.catalog.load import content_digest
from lineitem.catalog.model import Catalog, own_pricebook
from lineitem.catalog.publish import UsageSoFar, check_publish
from lineitem.kit.db import Connection, explained
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger.chain import BatchKind
from lineitem.ledger.post import Fact, canonical, lock_lane, write_batch

SQL = load_queries("lineitem.ledger", "ledger.sql")


@dataclass(frozen=True, slots=True)
class Publication:
    """What a publish came to; ``changed`` False when the same content was in force already."""

    namespace: str
    revision: int
    digest: str
    changed: bool


def publish(connection: Connection, namespace: str, catalog: Catalog, now_us: int) -> Publication:
    """Put ``catalog`` in force. The same content again does nothing.

    Raises Refused when it would change what has been published or rated.
    """
    digest = content_digest(catalog)
    with explained(), connection.transaction():
        head = lock_lane(connection, 0)
        key = published.namespace_key(connection, namespace)
        revision = published.lock_revision(connection, key)
        current = published.current(connection, key)
        if current is not None and content_digest(current) == digest:
            return Publication(namespace, revision, digest, changed=False)
        books, ends_us = published.pricebooks(connection, key), published.retired(connection, key)
        check_publish(current, books, ends_us, catalog, _usage(connection, key, catalog))
        revision += 1
        published.add_publication(connection, key, revision, catalog, now_us)
        fact = Fact("publish", canonical({"namespace": namespace, "revision": revision, "digest": digest}))
        write_batch(
            connection, head, namespace, key, BatchKind.PUBLISH,
            facts=[fact], catalog_revision=revision, recorded_us=now_us,
        )  # fmt: skip
    return Publication(namespace, revision, digest, changed=True)


def _usage(connection: Connection, key: int, catalog: Catalog) -> UsageSoFar:
    rows = connection.execute(SQL.usage_so_far, {"namespace_key": key}).fetchall()
    listed = [account.id for account in catalog.accounts]
    accounts = connection.execute(SQL.accounts_with_usage, {"namespace_key": key, "accounts": listed}).fetchall()
    last = {kind: {row[1]: row[2] for row in rows if row[0] == kind} for kind in ("pricebook", "account")}
    return UsageSoFar(
        last["pricebook"] | {own_pricebook(account): last_us for account, last_us in last["account"].items()},
        frozenset(meter for row in rows for meter in row[3]),
        {row[0]: (row[1], row[2]) for row in accounts},
    )
