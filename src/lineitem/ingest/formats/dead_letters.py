"""Dead letters tried again: each record is a letter's raw record in an envelope, with where it came from and its fixes.

Never the format of a file: batches of replayed letters are written in it, so that `explain` and `verify --deep` find in
the raw segment what was received and what was changed. Decoding takes a record out of its envelope, applies the fixes,
and decodes it as the format it came in, at its own place of its own stream.

An envelope is JSON: ``letter`` (fingerprint, hex), ``number`` (which act on the letter this is), ``source`` (index into the
partition's settings: stream, format and its settings), ``position``, ``raw`` (base64), ``fixes`` (see ``Fix``), oldest first.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from lineitem.core.errors import UsageError
from lineitem.core.reasons import Reason
from lineitem.ingest.decode import concatenate
from lineitem.ingest.events import BatchLimits, DecodeContext, EventColumns, RawRecords, Reject
from lineitem.ingest.formats._amend import Changes, Inner, Unfit
from lineitem.ingest.formats.held import PLACE_BYTES, Held
from lineitem.ingest.mapping import FieldMapping


@dataclass(frozen=True, slots=True)
class Fix:
    """A recorded patch. ``patch`` has ``record`` (a whole one, text) or ``set`` and ``remove``; and ``afresh`` where it makes
    those before it count no more."""

    by: str
    reason: str
    at_us: int
    patch: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Envelope:
    """A letter's record as it is tried again."""

    letter: str
    number: int
    source: int
    position: int
    raw: bytes
    fixes: Sequence[Fix]

    def encoded(self) -> bytes:
        """As a record of a raw segment."""
        document = asdict(self) | {"raw": b64encode(self.raw).decode()}
        return json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def opened(record: bytes) -> Envelope:
    """The envelope in a record of a raw segment. Raises ValueError, KeyError or TypeError for what is none."""
    document = json.loads(record)
    fixes = [Fix(**fix) for fix in document.pop("fixes")]
    return Envelope(**document | {"raw": b64decode(document["raw"]), "fixes": fixes})


def mended(inner: Inner, record: bytes, fixes: Sequence[Fix], settings: Mapping[str, Any]) -> bytes:
    """The record with its fixes, one after the other. Raises Unfit where one does not fit."""
    original = record
    place = record[:PLACE_BYTES] if isinstance(inner, Held) else b""  # of the stream, not of the record
    for fix in fixes:
        patch = fix.patch
        if patch.get("afresh"):
            record = original
        if "record" in patch:
            record = place + str(patch["record"]).encode()
        if patch.get("set") or patch.get("remove"):
            record = inner.amend(record, Changes(patch.get("set", {}), patch.get("remove", ())), settings)
    return record


class DeadLetters:
    """The ``dead-letters`` format. ``inner``: the formats that files have, by name."""

    name = "dead-letters"
    suffixes: tuple[str, ...] = ()

    def __init__(self, inner: Mapping[str, Inner]) -> None:
        self.inner = inner

    def settings(self, file: BinaryIO, mapping: FieldMapping | None) -> dict[str, Any]:
        """Raises UsageError: no file is in this format."""
        raise UsageError("dead letters are no format of files", do="Try them again with `lineitem dlq replay`.")

    def read(
        self, file: BinaryIO, start: int, limits: BatchLimits, settings: Mapping[str, Any]
    ) -> Iterator[RawRecords]:
        """Raises UsageError: no file is in this format."""
        raise UsageError("dead letters are no format of files", do="Try them again with `lineitem dlq replay`.")

    def amend(self, record: bytes, changes: Changes, settings: Mapping[str, Any]) -> bytes:
        """Raises Unfit: what is changed is the record in the envelope."""
        raise Unfit("an envelope is not changed")

    def decode(self, raw: RawRecords, context: DecodeContext) -> tuple[EventColumns, list[Reject]]:
        """Events and rejects of a batch; pure."""
        rejects: list[Reject] = []
        groups: dict[int, list[tuple[int, int, bytes]]] = {}
        sources = context.settings["sources"]
        for ordinal, record in enumerate(raw.records.to_pylist()):
            envelope = opened(record)
            source = sources[envelope.source]
            try:
                changed = mended(self.inner[source["format"]], envelope.raw, envelope.fixes, source["settings"])
            except Unfit as error:
                rejects.append(Reject(ordinal, Reason.BAD_RECORD, f"the recorded fix does not fit: {error}"))
                continue
            groups.setdefault(envelope.source, []).append((ordinal, envelope.position, changed))
        parts: list[EventColumns] = []
        for number, group in sorted(groups.items()):
            events, found = self._decode_source(sources[number], group, context)
            parts.append(events)
            rejects += found
        return _in_order(concatenate(parts)), sorted(rejects, key=lambda reject: reject.ordinal)

    def _decode_source(
        self, source: Mapping[str, Any], group: list[tuple[int, int, bytes]], context: DecodeContext
    ) -> tuple[EventColumns, list[Reject]]:
        """Records of one stream and format, decoded as they were when they came in."""
        ordinals = np.array([ordinal for ordinal, *_ in group], np.int32)
        positions = np.array([position for _, position, _ in group], np.int64)
        records = RawRecords(pa.array([record for *_, record in group], pa.binary()), positions, 0, 0)
        own = replace(context, stream=source["stream"], settings=source["settings"])
        events, rejects = self.inner[source["format"]].decode(records, own)
        events.ordinal = ordinals[events.ordinal]
        return events, [replace(one, ordinal=int(ordinals[one.ordinal])) for one in rejects]


def _in_order(events: EventColumns) -> EventColumns:
    """The events in the order of their records."""
    order = np.argsort(events.ordinal, kind="stable")
    return events if (np.diff(order) > 0).all() else events.take(order)
