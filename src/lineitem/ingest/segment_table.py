"""Raw segments in a table of the ledger's database: for workers on several machines that share no disk."""

from __future__ import annotations

from collections.abc import Iterator

from lineitem.core.errors import IntegrityError
from lineitem.kit import db
from lineitem.kit.blobs import BlobStore
from lineitem.kit.db import Connection, explained
from lineitem.kit.sqlfiles import load_queries

SQL = load_queries("lineitem.ingest", "segments.sql")


class TableStore:
    """A ``kit.blobs.BlobStore`` with a connection of its own, so that a segment is durable before its batch begins.

    ``earlier``: where a ledger kept its segments before; what is not in the table is looked for there.
    """

    def __init__(self, dsn: str, earlier: BlobStore) -> None:
        self._dsn, self._earlier = dsn, earlier
        self._own: Connection | None = None

    def __getstate__(self) -> dict[str, object]:
        """Another process opens its own connection."""
        return {"_dsn": self._dsn, "_earlier": self._earlier, "_own": None}

    @property
    def _connection(self) -> Connection:
        if self._own is None or self._own.closed:
            self._own = db.connect(self._dsn, role=db.POST)
        return self._own

    def close(self) -> None:
        """Close the connection; it opens again when needed."""
        if self._own is not None:
            self._own.close()

    def create(self, name: str, content: bytes | memoryview) -> None:
        """Insert and commit. The same content again does nothing; other content raises IntegrityError."""
        with explained():
            cursor = self._connection.execute(SQL.create, {"name": name, "content": content})
            if cursor.rowcount == 0 and self._find(name) != bytes(content):
                raise IntegrityError(
                    "a raw segment of this name exists with other content",
                    where=f"ingest.segment {name}",
                    do="Run `lineitem doctor`; it says whether it is an orphan and may go.",
                )

    def read(self, name: str) -> bytes:
        """The whole segment."""
        with explained():
            content = self._find(name)
        return self._earlier.read(name) if content is None else content

    def _find(self, name: str) -> bytes | None:
        row = self._connection.execute(SQL.read, {"name": name}, binary=True).fetchone()
        return None if row is None else bytes(row[0])

    def names(self, prefix: str = "") -> Iterator[str]:
        """Sorted names of all segments, those of before included."""
        with explained():
            rows = self._connection.execute(SQL.names, {"prefix": prefix}).fetchall()
        yield from sorted({*self._earlier.names(prefix), *(row[0] for row in rows)})

    def remove(self, name: str) -> None:
        """Delete one segment, from both places. One that a batch refers to is refused."""
        with explained():
            self._connection.execute(SQL.remove, {"name": name})
        self._earlier.remove(name)
