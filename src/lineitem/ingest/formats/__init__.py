"""The formats a file of usage may have: a new one is a file here, a line in ``FORMATS`` and its test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from lineitem.core.errors import UsageError
from lineitem.ingest.events import BatchLimits, DecodeContext, EventColumns, RawRecords, Reject
from lineitem.ingest.formats._amend import Changes, Unfit
from lineitem.ingest.formats.access_log import AccessLog
from lineitem.ingest.formats.cloudevents import CloudEvents
from lineitem.ingest.formats.csv import Csv
from lineitem.ingest.formats.dead_letters import DeadLetters
from lineitem.ingest.formats.held import Held
from lineitem.ingest.formats.parquet import Parquet
from lineitem.ingest.mapping import FieldMapping

__all__ = ["FORMATS", "Changes", "Format", "Unfit", "detect", "get"]


class Format(Protocol):
    """A reader, which cuts a file into raw records, and a decoder, which is pure and can run again years later."""

    @property
    def name(self) -> str:
        """Its name on the command line."""
        ...

    @property
    def suffixes(self) -> tuple[str, ...]:
        """File name endings it is assumed for."""
        ...

    def settings(self, file: BinaryIO, mapping: FieldMapping | None) -> dict[str, Any]:
        """What reading and decoding this file needs to know; serialises to JSON. The file must be seekable.

        Raises MappingError if the mapping is missing, not wanted or does not fit; InputError if the file is damaged.
        """
        ...

    def read(
        self, file: BinaryIO, start: int, limits: BatchLimits, settings: Mapping[str, Any]
    ) -> Iterator[RawRecords]:
        """Batches of raw records from position ``start`` (0, or the ``end`` of a batch read before), in bounded memory.

        The batches join without gaps; behind the last one there is nothing but white space. Raises InputError if the
        file is damaged.
        """
        ...

    def decode(self, raw: RawRecords, context: DecodeContext) -> tuple[EventColumns, list[Reject]]:
        """Events, and one Reject per record that is none. Depends on its arguments only."""
        ...

    def amend(self, record: bytes, changes: Changes, settings: Mapping[str, Any]) -> bytes:
        """A record with ``changes``, as this format would hold it. Depends on its arguments only. Raises Unfit."""
        ...


FORMATS: dict[str, Format] = {format_.name: format_ for format_ in (CloudEvents(), Csv(), Parquet(), AccessLog())}
"""Every format a file may have, by name."""
_INNER: dict[str, Format] = {**FORMATS, Held.name: Held(FORMATS)}
_STORED: dict[str, Format] = {**_INNER, DeadLetters.name: DeadLetters(_INNER)}
"""Those a raw segment may have, too."""
_ALIASES = {"json": "cloudevents", "ndjson": "cloudevents"}


def get(name: str) -> Format:
    """The format called ``name``. Raises UsageError naming the known ones."""
    try:
        return _STORED[_ALIASES.get(name, name)]
    except KeyError:
        raise UsageError(f"unknown format {name!r}", do=f"Known are {', '.join(FORMATS)}.") from None


def detect(path: str, first_bytes: bytes) -> str:
    """The name of a file's format by its content's first bytes where they tell, else by its ending.

    Raises UsageError naming the known formats.
    """
    if first_bytes.startswith(b"PAR1"):
        return "parquet"
    if first_bytes.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
        return "cloudevents"
    suffix = Path(path).suffix.lower()
    for format_ in FORMATS.values():
        if suffix in format_.suffixes:
            return format_.name
    known = ", ".join(FORMATS)
    raise UsageError("cannot tell the file's format", where=path, do=f"Name it with --format: one of {known}.")
