"""The port for raw segments: named, write-once byte strings. Adapters implement it (a folder, an object store)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class BlobStore(Protocol):
    """Write-once storage. Names are relative paths of letters, digits, dots, dashes and slashes."""

    def create(self, name: str, content: bytes | memoryview) -> None:
        """Store ``content`` durably under ``name``. The same name with the same content is a no-op; with other content
        it raises IntegrityError: a blob is never replaced."""
        ...

    def read(self, name: str) -> bytes:
        """The content. Raises IntegrityError when there is none."""
        ...

    def names(self, prefix: str = "") -> Iterator[str]:
        """All names that start with ``prefix``, sorted."""
        ...

    def remove(self, name: str) -> None:
        """Delete an orphan (see ``ingest.segments``)."""
        ...


class Scratch:
    """A store over another one that keeps what is created in memory: for trying something that must leave no trace."""

    def __init__(self, below: BlobStore) -> None:
        self._below = below
        self._own: dict[str, bytes] = {}

    def create(self, name: str, content: bytes | memoryview) -> None:
        """Keep it here."""
        self._own[name] = bytes(content)

    def read(self, name: str) -> bytes:
        """From here, else from below."""
        return self._own[name] if name in self._own else self._below.read(name)

    def names(self, prefix: str = "") -> Iterator[str]:
        """All names of both."""
        return iter(sorted({*self._below.names(prefix), *(name for name in self._own if name.startswith(prefix))}))

    def remove(self, name: str) -> None:
        """Forget what was kept here; what lies below stays."""
        self._own.pop(name, None)
