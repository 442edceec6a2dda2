"""The catalog's tables: published versions in, snapshots and dictionary keys out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from hashlib import sha256

from lineitem.catalog import canaries
from lineitem.catalog.canary import Step
from lineitem.catalog.levels import measured
from lineitem.catalog.load import catalog_document, catalog_from_document, price_digest
from lineitem.catalog.model import Account, Catalog, Meter, Price, Pricebook
from lineitem.catalog.ranges import END_OF_TIME_US, Version, effective_ranges
from lineitem.catalog.snapshot import (
    AccountRow,
    PriceRow,
    Snapshot,
    account_digest,
    canonical_tags,
    price_row_digest,
    tags_digest,
)
from lineitem.core.errors import CatalogMoved
from lineitem.core.ids import length_prefixed
from lineitem.core.period import us_to_datetime
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries

SQL = load_queries("lineitem.catalog", "catalog.sql")
GRANT_BOOK = "@grant"
"""Pricebook of the prices that line items of prepaid grants name; no catalog can name it."""
GRANT_VERSION = 1


def namespace_key(connection: Connection, namespace: str) -> int:
    """The key of a namespace, which is created when it is named for the first time."""
    row = connection.execute(SQL.namespace, {"namespace": namespace}).fetchone()
    if row is None:
        connection.execute(SQL.add_namespace, {"namespace": namespace})
        row = connection.execute(SQL.namespace, {"namespace": namespace}).fetchone()
        assert row is not None
    return int(row[0])


def current(connection: Connection, key: int) -> Catalog | None:
    """What was published last."""
    row = connection.execute(SQL.publication, {"namespace_key": key}).fetchone()
    return None if row is None else catalog_from_document(row[2])


def lock_revision(connection: Connection, key: int) -> int:
    """The revision in force; until the transaction ends no batch commits under it and nobody else publishes."""
    row = connection.execute(SQL.lock_namespace, {"namespace_key": key}).fetchone()
    assert row is not None
    return int(row[0])


def load_snapshot(connection: Connection, namespace: str, revision: int | None = None) -> Snapshot | None:
    """The catalog in force, or as it was at ``revision``; None where nothing has been published."""
    key = namespace_key(connection, namespace)
    if revision is None:  # read first: what is added to the tables from now on has a higher one
        revision = current_revision(connection, namespace)
    where = {"namespace_key": key, "revision": revision}
    with connection.transaction():
        row = connection.execute(SQL.publication_at, where).fetchone()
        books = connection.execute(SQL.pricebook_versions, where).fetchall()
        keys = connection.execute(SQL.price_rows, where).fetchall()
        ends_us = retired(connection, key, revision)
        steps = canaries.steps(connection, key, revision)
    if row is None:
        return None
    catalog = catalog_from_document(row[0])
    pricebooks = tuple(catalog_from_document(book[0]).pricebooks[0] for book in books)
    rows = tuple(_price_rows(catalog, pricebooks, keys))
    return Snapshot(namespace, key, revision, catalog, pricebooks, rows, ends_us, steps)


def current_revision(connection: Connection, namespace: str) -> int:
    """The revision in force; 0 where nothing has been published."""
    row = connection.execute(SQL.namespace, {"namespace": namespace}).fetchone()
    return 0 if row is None else int(row[1])


def revision(connection: Connection, namespace: str) -> int | None:
    """The revision in force; None where the namespace is not known."""
    row = connection.execute(SQL.namespace, {"namespace": namespace}).fetchone()
    return None if row is None else int(row[1])


def check_revision(connection: Connection, namespace: str, key: int, wanted: int) -> None:
    """Hold the revision until the transaction ends, or raise CatalogMoved."""
    row = connection.execute(SQL.check_revision, {"namespace_key": key}).fetchone()
    if row is None or row[0] != wanted:
        raise CatalogMoved(f"the catalog of {namespace!r} is no longer at revision {wanted}")


def pricebooks(connection: Connection, key: int) -> list[Pricebook]:
    """Every published version of every pricebook of a namespace."""
    rows = connection.execute(SQL.pricebook_versions, {"namespace_key": key, "revision": None}).fetchall()
    return [catalog_from_document(document).pricebooks[0] for (document,) in rows]


def retired(connection: Connection, key: int, revision: int | None = None) -> dict[Version, int]:
    """Ends that were set after publishing, up to a revision or ever: microseconds since the epoch."""
    rows = connection.execute(SQL.retirements, {"namespace_key": key, "revision": revision}).fetchall()
    return {(pricebook, version): end_us for pricebook, version, end_us in rows}


def add_retirement(
    connection: Connection, key: int, revision: int, version: Version, end_us: int, by: str, now_us: int
) -> None:
    """Store an end for a published version and move the revision: batches rated without it are rated again."""
    values = {
        "namespace_key": key, "revision": revision, "pricebook": version[0], "version": version[1],
        "ends_at": us_to_datetime(end_us), "retired_by": by, "retired_at": us_to_datetime(now_us),
    }  # fmt: skip
    connection.execute(SQL.add_retirement, values)
    put_ranges(connection, key)
    connection.execute(SQL.move_revision, {"namespace_key": key, "revision": revision})


def add_canary_step(connection: Connection, key: int, step: Step, catalog: Catalog, by: str, now_us: int) -> None:
    """Store a step of a canary, at its start the candidate's prices, and move the revision.

    ``catalog``: the one in force, whose meters the prices read.
    """
    canaries.add(connection, key, step, by, now_us)
    if step.change.book is not None:
        _add_pricebook(connection, key, step.revision, step.change.book)
        _add_prices(connection, key, step.change.book, {meter.id: meter for meter in catalog.meters})
        put_ranges(connection, key)
    connection.execute(SQL.move_revision, {"namespace_key": key, "revision": step.revision})


def versions_stored(connection: Connection, key: int) -> list[tuple[str, int, str, int]]:
    """Every published version: pricebook, number, digest of its content, the revision that brought it."""
    return connection.execute(SQL.versions_stored, {"namespace_key": key}).fetchall()


def retirements_of(connection: Connection, key: int) -> dict[Version, tuple[int, str, int]]:
    """Every retired version: its end, who set it and when, microseconds since the epoch."""
    rows = connection.execute(SQL.retirements_of, {"namespace_key": key}).fetchall()
    return {(row[0], row[1]): (row[2], row[3], row[4]) for row in rows}


def put_ranges(connection: Connection, key: int) -> None:
    """Store when each version is in force, as it follows from what is published and retired.

    Raises psycopg's ExclusionViolation when two versions of a pricebook would share an instant.
    """
    found = effective_ranges(pricebooks(connection, key), retired(connection, key)).items()
    values = {
        "namespace_key": key,
        "pricebooks": [book for (book, _), _ in found],
        "versions": [version for (_, version), _ in found],
        "starts": [us_to_datetime(start) for _, (start, _) in found],
        "ends": [None if end == END_OF_TIME_US else us_to_datetime(end) for _, (_, end) in found],
    }
    connection.execute(SQL.put_ranges, values)


def revision_of_pricebook(connection: Connection, key: int, pricebook: str, version: int) -> int | None:
    """The revision that brought a version of a pricebook; None where there is no such version."""
    where = {"namespace_key": key, "pricebook": pricebook, "version": version}
    row = connection.execute(SQL.revision_of_pricebook, where).fetchone()
    return None if row is None else int(row[0])


def _price_rows(catalog: Catalog, books: Sequence[Pricebook], keys: Iterable[tuple[object, ...]]) -> list[PriceRow]:
    meters = {meter.id: meter for meter in catalog.meters}
    prices = {(book.id, book.version, price.id): price for book in books for price in book.prices}
    rows = []
    for price_key, version_key, book, version, price_id, digest in keys:
        price = prices[(str(book), int(str(version)), str(price_id))]
        meter = price.meter_of(meters)  # a meter without usage may leave the catalog; its prices then bill nothing
        content = bytes(digest)  # type: ignore[call-overload]
        if meter is not None and content == content_of(price, meter):
            row = (int(str(price_key)), int(str(version_key)), str(book), int(str(version)), price, meter)
            rows.append(PriceRow(*row, content.hex()))
    return rows


def content_of(price: Price, meter: Meter) -> bytes:
    """Digest over everything that determines what a price charges: its own content and its meter's."""
    meter_text = json.dumps({field.name: getattr(meter, field.name) for field in fields(meter)}, sort_keys=True)
    return sha256(length_prefixed(price_digest(price), meter_text.encode())).digest()


def book_document(book: Pricebook) -> str:
    """One pricebook version as canonical JSON."""
    return catalog_document(Catalog(currency="XXX", meters=(), pricebooks=(book,))).decode()


def add_publication(connection: Connection, key: int, revision: int, catalog: Catalog, now_us: int) -> None:
    """Store a checked publication: the document, new pricebook versions, their prices, the listed accounts."""
    document = catalog_document(catalog)
    connection.execute(
        SQL.add_publication,
        {
            "namespace_key": key,
            "revision": revision,
            "digest": sha256(document).hexdigest(),
            "document": document.decode(),
            "published_at": us_to_datetime(now_us),
        },
    )
    books = {(book.id, book.version): book for book in pricebooks(connection, key)}
    for book in catalog.pricebooks:
        if (book.id, book.version) not in books:
            _add_pricebook(connection, key, revision, book)
            books[(book.id, book.version)] = book
    meters = {meter.id: meter for meter in catalog.meters}
    for book in books.values():
        _add_prices(connection, key, book, meters)
    put_ranges(connection, key)
    for account in catalog.accounts:
        connection.execute(SQL.put_account, _account_values(key, account))
    connection.execute(SQL.move_revision, {"namespace_key": key, "revision": revision})


def _add_pricebook(connection: Connection, key: int, revision: int, book: Pricebook) -> None:
    text = book_document(book)
    connection.execute(
        SQL.add_pricebook_version,
        {
            "namespace_key": key,
            "pricebook": book.id,
            "version": book.version,
            "effective_from": us_to_datetime(book.effective_from_us),
            "effective_until": None if book.effective_until_us is None else us_to_datetime(book.effective_until_us),
            "digest": sha256(text.encode()).hexdigest(),
            "document": text,
            "revision": revision,
        },
    )


def _add_prices(connection: Connection, key: int, book: Pricebook, meters: dict[str, Meter]) -> None:
    """Rows for the prices of one version: again for those whose meter has changed, which is another content."""
    for price in book.prices:
        meter = price.meter_of(meters)
        if meter is None:
            continue
        unit, scale = measured(price, meter)
        values = {
            "namespace_key": key,
            "pricebook": book.id,
            "price": price.id,
            "digest": content_of(price, meter),
            "meter": meter.id,
            "unit": unit,
            "scale": scale,
            "currency": price.currency,
            "version": book.version,
        }
        connection.execute(SQL.add_price, values)
        connection.execute(SQL.add_price_version, values)


def add_grant_price(connection: Connection, key: int, grant: str, currency: str, digest: bytes) -> int:
    """The price that line items of a prepaid grant name: of the pricebook ``GRANT_BOOK``, without a meter.

    ``digest``: 32 bytes over what was granted. Returns the key of its only version.
    """
    values = {
        "namespace_key": key, "pricebook": GRANT_BOOK, "price": grant, "version": GRANT_VERSION, "digest": digest,
        "meter": "", "unit": "", "scale": 0, "currency": currency,
    }  # fmt: skip
    connection.execute(SQL.add_price, values)
    connection.execute(SQL.add_price_version, values)
    row = connection.execute(SQL.version_key, values).fetchone()
    assert row is not None
    return int(row[0])


def price_ids(connection: Connection, key: int) -> set[tuple[str, str]]:
    """Id and currency of every price that was ever published in a namespace."""
    rows = connection.execute(SQL.price_ids, {"namespace_key": key, "but": GRANT_BOOK}).fetchall()
    return {(price, currency) for price, currency in rows}


def _account_values(key: int, account: Account) -> dict[str, object]:
    return {
        "namespace_key": key,
        "account": account.id,
        "name": account.name,
        "pricebook": account.pricebook,
        "timezone": account.timezone,
        "billing": account.billing,
        "tags": canonical_tags(dict(account.tags)),
    }


def accounts(connection: Connection, key: int, names: Sequence[str]) -> dict[str, AccountRow]:
    """The accounts of ``names`` that exist."""
    rows = connection.execute(SQL.accounts, {"namespace_key": key, "accounts": list(names)}).fetchall()
    return {row[1]: AccountRow(*row) for row in rows}


def account_books(connection: Connection, key: int) -> dict[str, str | None]:
    """Every account of a namespace and its pricebook."""
    return dict(connection.execute(SQL.account_books, {"namespace_key": key}).fetchall())


def catalogs(connection: Connection, key: int) -> Iterator[tuple[int, Catalog]]:
    """Every published catalog of a namespace with its revision, the latest first, read one by one."""
    for revision, document in connection.execute(SQL.documents, {"namespace_key": key}).fetchall():
        yield revision, catalog_from_document(document)


def accounts_by_key(connection: Connection, keys: Sequence[int]) -> dict[int, Account]:
    """The accounts of ``keys`` as they are now."""
    rows = connection.execute(SQL.accounts_by_key, {"keys": list(keys)}).fetchall()
    return {
        key: Account(account, name, pricebook, timezone, billing, tuple(sorted(json.loads(tags).items())))
        for key, account, name, pricebook, timezone, billing, tags in rows
    }


def account_tags_at(connection: Connection, key: int, revision: int) -> dict[str, str]:
    """The tags (canonical JSON) of the accounts listed up to a revision, as they were then; all others had none."""
    rows = connection.execute(SQL.account_tags_at, {"namespace_key": key, "revision": revision}).fetchall()
    return {account: canonical_tags(dict(tags or ())) for account, tags in rows}


def open_accounts(connection: Connection, snapshot: Snapshot, names: Sequence[str]) -> dict[str, AccountRow]:
    """The accounts of ``names``; those seen for the first time are opened with the catalog's defaults, if it allows."""
    found = accounts(connection, snapshot.namespace_key, names)
    missing = [name for name in names if name not in found]
    defaults = snapshot.catalog.defaults
    if missing and defaults.open:
        values = {
            "namespace_key": snapshot.namespace_key,
            "accounts": missing,
            "pricebook": defaults.pricebook,
            "timezone": defaults.timezone,
            "billing": defaults.billing,
        }
        connection.execute(SQL.add_accounts, values)
        found |= accounts(connection, snapshot.namespace_key, missing)
    return found


def tag_set_keys(connection: Connection, texts: Sequence[str]) -> dict[str, int]:
    """The keys of tag sets (canonical JSON); new ones are added."""
    found = {tags: int(key) for key, tags in connection.execute(SQL.tag_sets, {"tags": list(texts)}).fetchall()}
    missing = [text for text in texts if text not in found]
    if missing:
        connection.execute(SQL.add_tag_sets, {"tags": missing})
        found |= {tags: int(key) for key, tags in connection.execute(SQL.tag_sets, {"tags": missing}).fetchall()}
    return found


def account_tag_sets(connection: Connection, accounts: Mapping[int, Account]) -> dict[int, int]:
    """Account key -> the key of the tag set it has now; new ones are added."""
    texts = {key: canonical_tags(dict(one.tags)) for key, one in accounts.items()}
    keys = tag_set_keys(connection, sorted(set(texts.values())))
    return {key: keys[text] for key, text in texts.items()}


def namespaces(connection: Connection) -> dict[int, str]:
    """Every namespace by key."""
    return dict(connection.execute(SQL.namespaces).fetchall())


def digests(
    connection: Connection,
) -> tuple[dict[int, bytes], dict[int, bytes], dict[int, bytes], dict[int, str]]:
    """Digests of all accounts, price versions and tag sets by key, as their text is now; and each price's currency."""
    accounts = {row[0]: account_digest(row[1], row[2]) for row in connection.execute(SQL.all_accounts).fetchall()}
    rows = connection.execute(SQL.all_prices).fetchall()
    prices = {row[0]: price_row_digest(*row[1:]) for row in rows}
    tags = {row[0]: tags_digest(row[1]) for row in connection.execute(SQL.all_tag_sets).fetchall()}
    return accounts, prices, tags, {row[0]: row[7] for row in rows}
