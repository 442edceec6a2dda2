"""Whether the catalog's tables still say what was published; the publications themselves the ledger vouches for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple

from lineitem.catalog.canaries import StoredStep
from lineitem.catalog.levels import measured as measured_by
from lineitem.catalog.load import catalog_from_document
from lineitem.catalog.model import NO_METER, Catalog, Pricebook
from lineitem.catalog.published import book_document, content_of
from lineitem.catalog.ranges import END_OF_TIME_US, effective_ranges
from lineitem.catalog.snapshot import canonical_tags
from lineitem.core.errors import IntegrityError
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries

SQL = load_queries("lineitem.catalog", "audit.sql")


class Publication(NamedTuple):
    """One published catalog file, as it is stored now."""

    namespace: str
    revision: int
    digest: str
    document: str
    published_us: int


class Defect(NamedTuple):
    """What is wrong, and the revision of which namespace it belongs to (0: none in particular)."""

    namespace: str
    revision: int
    what: str


class Retirement(NamedTuple):
    """An end set for a published version, as it is stored now."""

    namespace: str
    revision: int
    pricebook: str
    version: int
    end_us: int
    by: str
    retired_us: int


def retirements(connection: Connection) -> list[Retirement]:
    """Everything retired, by namespace and revision."""
    return [Retirement(*row) for row in connection.execute(SQL.retirements).fetchall()]


def publications(connection: Connection) -> list[Publication]:
    """Everything published, by namespace and revision."""
    return [Publication(*row) for row in connection.execute(SQL.publications).fetchall()]


def audit(
    connection: Connection, published: Sequence[Publication], retired: Sequence[Retirement], steps: Sequence[StoredStep]
) -> Iterator[Defect]:
    """Compare every row that publishing writes with the documents in ``published``, the ends in ``retired`` and the
    canaries' ``steps``.
    """
    catalogs: dict[str, list[tuple[int, Catalog]]] = {}
    for one in published:
        catalogs.setdefault(one.namespace, [])
        if sha256(one.document.encode()).hexdigest() != one.digest:
            yield Defect(one.namespace, one.revision, "its digest is not that of its document")
        try:
            catalogs[one.namespace].append((one.revision, catalog_from_document(one.document)))
        except IntegrityError as error:
            yield Defect(one.namespace, one.revision, error.what)
    books: Catalogs = {}
    for step in steps:
        try:
            book = step.change.book
        except IntegrityError as error:
            yield Defect(step.namespace, step.revision, error.what)
            continue
        history = catalogs.get(step.namespace, ())
        in_force = next((catalog for at, catalog in reversed(history) if at < step.revision), None)
        if book is not None and in_force is not None:
            books.setdefault(step.namespace, []).append((step.revision, replace(in_force, pricebooks=(book,))))
    for namespace, revision in connection.execute(SQL.revisions).fetchall():
        known: list[tuple[str, int]] = [(one.namespace, one.revision) for one in published]
        known += [(one.namespace, one.revision) for one in retired]
        known += [(one.namespace, one.revision) for one in steps]
        newest = max((number for name, number in known if name == namespace), default=0)
        if revision != newest:
            yield Defect(namespace, newest, f"the namespace stands at revision {revision}, {newest} were published")
    brought = {namespace: [*history, *books.get(namespace, ())] for namespace, history in catalogs.items()}
    yield from _pricebooks(connection, brought)
    yield from _ranges(connection, brought, retired)
    yield from _accounts(connection, catalogs)


Catalogs = dict[str, list[tuple[int, Catalog]]]
"""Namespace -> its publications, oldest first."""


def _pricebooks(connection: Connection, catalogs: Catalogs) -> Iterator[Defect]:
    """Each version is stored as the publication had it that brought it, and so are the contents of its prices."""
    brought: dict[tuple[str, str, int], tuple[int, Pricebook, Catalog]] = {}
    for namespace, history in catalogs.items():
        for revision, catalog in history:
            for book in catalog.pricebooks:
                brought.setdefault((namespace, book.id, book.version), (revision, book, catalog))
    contents: dict[tuple[str, str, int], set[Content]] = {}
    for namespace, name, version, price, digest, *measured in connection.execute(SQL.prices).fetchall():
        contents.setdefault((namespace, name, version), set()).add((price, bytes(digest), *measured))
    for namespace, name, version, *stored in connection.execute(SQL.pricebook_versions).fetchall():
        key = (namespace, name, version)
        found = brought.pop(key, None)
        if found is None:
            yield Defect(str(namespace), 0, f"pricebook {name} version {version} was never published")
            continue
        revision, book, catalog = found
        if not _same_version(revision, book, stored):
            yield Defect(str(namespace), revision, f"pricebook {name} version {version} is not what was published")
        elif not contents.get(key, set()) >= _contents(book, catalog):
            yield Defect(
                namespace, revision, f"prices of pricebook {name} version {version} are not what was published"
            )
    for (namespace, name, version), (revision, _, _) in brought.items():
        yield Defect(namespace, revision, f"pricebook {name} version {version} is missing")


def _ranges(connection: Connection, catalogs: Catalogs, retired: Sequence[Retirement]) -> Iterator[Defect]:
    """Each version is in force when the publications and retirements say."""
    expected: dict[tuple[str, str, int], tuple[int, int]] = {}
    for namespace, history in catalogs.items():
        books = {(book.id, book.version): book for _, catalog in reversed(history) for book in catalog.pricebooks}
        ends = {(one.pricebook, one.version): one.end_us for one in retired if one.namespace == namespace}
        expected |= {(namespace, *key): found for key, found in effective_ranges(books.values(), ends).items()}
    for namespace, name, version, empty, start, end, plain in connection.execute(SQL.ranges).fetchall():
        wanted = expected.pop((namespace, name, version), None)
        stored = (wanted[0], wanted[0]) if empty and wanted else (start, END_OF_TIME_US if end is None else end)
        if stored != wanted or not plain:
            yield Defect(str(namespace), 0, f"pricebook {name} version {version} is not in force when it was published")
    for namespace, name, version in expected:
        yield Defect(namespace, 0, f"pricebook {name} version {version} is in force at no time")


def _same_version(revision: int, book: Pricebook, stored: Sequence[object]) -> bool:
    document = book_document(book)
    digest = sha256(document.encode()).hexdigest()
    return list(stored) == [revision, document, digest, book.effective_from_us, book.effective_until_us]


Content = tuple[str, bytes, str, str, int, str]
"""Price, digest of its content, meter, unit, scale, currency."""


def _contents(book: Pricebook, catalog: Catalog) -> set[Content]:
    meters = {meter.id: meter for meter in catalog.meters}
    priced = [(price, price.meter_of(meters) or NO_METER) for price in book.prices]
    return {
        (price.id, content_of(price, meter), meter.id, *measured_by(price, meter), price.currency)
        for price, meter in priced
    }


def _accounts(connection: Connection, catalogs: Catalogs) -> Iterator[Defect]:
    """An account is what the newest publication says that lists it; one that none lists has some publication's defaults."""
    listed: dict[tuple[str, str], tuple[int, tuple[object, ...]]] = {}
    defaults: dict[str, set[tuple[object, ...]]] = {}
    for namespace, history in catalogs.items():
        for revision, catalog in history:
            standard = catalog.defaults
            defaults.setdefault(namespace, set()).add((standard.pricebook, standard.timezone, standard.billing, "{}"))
            for one in catalog.accounts:
                tags = canonical_tags(dict(one.tags))
                content = (one.name, one.pricebook, one.timezone, one.billing, tags)
                listed[(namespace, one.id)] = (revision, content)
    for namespace, account, name, *rest in connection.execute(SQL.accounts).fetchall():
        found = listed.pop((namespace, account), None)
        if found is None:
            same, revision = name == account and tuple(rest) in defaults.get(namespace, ()), 0
        else:
            same, revision = found[1] == (name, *rest), found[0]
        if not same:
            yield Defect(namespace, revision, f"account {account} is not what was published")
    for (namespace, account), (revision, _) in listed.items():
        yield Defect(namespace, revision, f"account {account} is missing")
