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
