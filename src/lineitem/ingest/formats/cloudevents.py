"""CloudEvents 1.0 as JSON: NDJSON, one (pretty-printed) object, or an array of events.

Beyond CloudEvents, ``subject`` and ``time`` are required: an event without an account or an instant cannot be billed.
``id`` and ``source`` may be missing; the place in the stream and the stream's name stand in for them. ``data`` must be
an object (missing is an empty one), or stand in ``data_base64`` in the wire format of Kafka clients, behind the id of its
schema. Extension attributes are allowed and ignored, except ``traceparent`` and ``sequence``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Literal

import msgspec
import numpy as np

from lineitem.core.errors import MappingError
from lineitem.core.exact_json import refuse_constant
from lineitem.core.limits import NESTING_MAX
from lineitem.core.reasons import Reason
from lineitem.ingest.decode import Candidates, Slice, decode_records
from lineitem.ingest.digest import INTEGER_DIGITS_MAX, NumberTooLarge, canonical_tree, number_hook
from lineitem.ingest.events import BatchLimits, DecodeContext, EventColumns, RawRecords, Reject
from lineitem.ingest.formats._amend import Changes, drop, encoded, parsed, put, value_of
from lineitem.ingest.formats._batches import gather
from lineitem.ingest.formats._elements import element_pieces, holds_elements
from lineitem.ingest.formats._lines import line_pieces, text_start
from lineitem.ingest.formats._wire import unpacked
from lineitem.ingest.mapping import FieldMapping
from lineitem.ingest.sequences import NONE, numbers
from lineitem.ingest.times import parse_rfc3339
from lineitem.ingest.validate import Problem, Problems, bad_time, shown

_HIGH_NIBBLES, _DIGIT_NIBBLES = np.uint64(0xF0F0F0F0F0F0F0F0), np.uint64(0x3030303030303030)
_LONG_DIGITS = re.compile(rb"[0-9]{%d}" % (INTEGER_DIGITS_MAX + 1))
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class _Event(msgspec.Struct, gc=False, kw_only=True):
    """What is read of an event in one pass; whatever does not fit is looked at again by ``_diagnose``.

    The fields stand in the order most producers write them, which is the order they are found fastest in.
    """

    specversion: Literal["1.0"]
    id: str | None = None
    source: str | None = None
    type: str
    subject: str
    time: str
    data: dict[str, Any] | None = None
    data_base64: str | None = None
    traceparent: Any = None
    dataschema: Any = None
    sequence: Any = None
    sequencetype: Any = None


class _Unnumbered(_Event, gc=False, kw_only=True):
    """The same with its sequence left as bytes: one that cannot be decoded is no reason to set the event aside."""

    sequence: msgspec.Raw = None  # type: ignore[assignment]
    sequencetype: msgspec.Raw = None  # type: ignore[assignment]


class CloudEvents:
    """The ``cloudevents`` format."""

    name = "cloudevents"
    suffixes = (".json", ".ndjson", ".jsonl")

    def settings(self, file: BinaryIO, mapping: FieldMapping | None) -> dict[str, Any]:
        """No settings; a mapping is refused, for attributes have their own names already."""
        if mapping is not None:
            raise MappingError("CloudEvents files need no mapping", do="Leave the mapping away, or name the format.")
        return {}

    def read(
        self, file: BinaryIO, start: int, limits: BatchLimits, settings: Mapping[str, Any]
    ) -> Iterator[RawRecords]:
        """Raw events and their byte offsets, from byte ``start`` on."""
        begin = text_start(file)
        pieces = element_pieces if holds_elements(file, begin) else line_pieces
        return gather(pieces(file, max(start, begin)), start, limits)

    def decode(self, raw: RawRecords, context: DecodeContext) -> tuple[EventColumns, list[Reject]]:
        """Events and rejects of a batch; pure."""
        return decode_records(raw, context, _parse)

    def amend(self, record: bytes, changes: Changes, settings: Mapping[str, Any]) -> bytes:
        """Attributes are set to texts; what lies in ``data`` to JSON, or to a text where it is none."""
        document = parsed(record)
        for path, text in changes.set.items():
            put(document, path, value_of(text) if path.partition(".")[0] == "data" else text)
        for path in changes.remove:
            drop(document, path)
        return encoded(document)


def _parse(piece: Slice, context: DecodeContext) -> Candidates:
    decode = msgspec.json.Decoder(_Event, float_hook=number_hook()).decode
    lost = _too_deep(piece)
    try:
        events = [] if lost else [decode(record) for record in piece.records]
    except (ValueError, ArithmeticError, RecursionError):
        events = []
    rows = list(range(len(events)))
    if not events:
        events, rows = _one_by_one(piece, decode, lost)
    time_us, valid = parse_rfc3339([event.time for event in events])
    problems: Problems = {row: _bad_time(events[row].time) for row in np.flatnonzero(~valid).tolist()}
    data: list[dict[str, Any]] = [event.data or {} for event in events]
    sequences = [event.sequence for event in events]
    counted = sequences.count(None) < len(sequences)
    named: list[str | int | None] = [event.dataschema for event in events]
    if any(named):
        named = [one if isinstance(one, str) else None for one in named]
    for row in _with_long_integers(piece, rows):
        data[row] = canonical_tree(data[row])
    packed = [event.data_base64 for event in events]
    if any(text is not None for text in packed):
        _unpack(events, data, named, problems, context)
    return Candidates(
        rows=rows,
        id=[event.id for event in events],
        source=[event.source for event in events],
        type=[event.type for event in events],
        subject=[event.subject for event in events],
        time_us=time_us,
        data=data,
        traceparent=[event.traceparent for event in events],
        lost=lost,
        problems=problems,
        plain=piece.plain,
        sequence=numbers(sequences, [event.sequencetype for event in events]) if counted else None,
        lost_sequence=_lost_sequences(piece, lost),
        dataschema=named if any(one is not None for one in named) else None,
    )


def _lost_sequences(piece: Slice, lost: Problems) -> dict[int, tuple[str | None, int]]:
    """Source and sequence of records that are JSON objects and no events: they came, whatever becomes of them."""
    found = {}
    for row in lost:
        try:
            event = json.loads(piece.records[row], parse_int=str, parse_float=str, parse_constant=str)
            if isinstance(event, dict) and isinstance(event.get("source"), str | None):
                (event.get("source") or "").encode()
                sequence = numbers([event.get("sequence")], [event.get("sequencetype")])
                if sequence is not None and sequence[0] != NONE:
                    found[row] = (event.get("source"), int(sequence[0]))
        except (ValueError, RecursionError):
            continue  # what cannot be parsed tells nothing; that it is set aside is said already
    return found


def _unpack(
    events: Sequence[_Event],
    data: list[dict[str, Any]],
    named: list[str | int | None],
    problems: Problems,
    context: DecodeContext,
) -> None:
    """Take the data out of every `data_base64`, by the schema that its first bytes name."""
    for row, event in enumerate(events):
        if event.data_base64 is None:
            continue
        found = unpacked(event.data_base64, context)
        if isinstance(found, Problem):
            problems.setdefault(row, found)
        elif event.data is not None:
            problems.setdefault(row, Problem(Reason.BAD_FIELD, "there is both data and data_base64"))
        else:
            data[row], named[row] = found


def _bad_time(text: str) -> Problem:
    return bad_time(text) if text else Problem(Reason.MISSING_FIELD, "time is missing, null or empty")


def _too_deep(piece: Slice) -> Problems:
    """Records that nest deeper than allowed; only those with about that many opening brackets are looked at closely.

    Brackets are counted in words of 8 bytes, so up to 7 at a record's end count for the next one.
    """
    brackets = np.zeros(-(-len(piece.data) // 8) * 8, np.bool_)
    np.equal(piece.data | 0x20, ord("{"), out=brackets[: len(piece.data)])
    words = np.bitwise_count(brackets.view(np.uint64))
    counts = np.add.reduceat(words, piece.offsets[:-1] // 8, dtype=np.int64)
    return {
        row: Problem(Reason.TOO_DEEP, f"the record nests deeper than {NESTING_MAX} levels")
        for row in np.flatnonzero(counts > NESTING_MAX - 7).tolist()
        if _depth(piece.records[row]) > NESTING_MAX
    }


def _depth(record: bytes) -> int:
    """The deepest nesting of brackets outside strings."""
    text = re.sub(rb'"(?:[^"\\]|\\.)*+"?|[^\[\]{}"]+', b"", record, flags=re.DOTALL)
    signs = np.where((np.frombuffer(text, np.uint8) & 0x06) == 0x02, 1, -1)
    return int(np.cumsum(signs).max(initial=0))


def _with_long_integers(piece: Slice, rows: list[int]) -> list[int]:
    """Rows whose record holds a run of more than 40 digits.

    Such a run fills three words of 8 bytes in a row at least, wherever it begins and even where the last word of the
    slice is incomplete; ``0x30..0x3f`` are the digits and a few signs.
    """
    words = piece.data[: len(piece.data) // 8 * 8].view(np.uint64)
    digits = (words & _HIGH_NIBBLES) == _DIGIT_NIBBLES
    runs = np.flatnonzero(digits[:-2] & digits[1:-1] & digits[2:])
    hits = np.searchsorted(piece.offsets, runs * 8, "right") - 1
    records = {record for record in set(hits.tolist()) if _LONG_DIGITS.search(piece.records[record])}
    return [row for row, record in enumerate(rows) if record in records] if records else []


def _one_by_one(piece: Slice, decode: Callable[[bytes], _Event], lost: Problems) -> tuple[list[_Event], list[int]]:
    """The slice again, record by record, each failure becoming an entry of ``lost``."""
    events, rows = [], []
    unnumbered = msgspec.json.Decoder(_Unnumbered, float_hook=number_hook()).decode
    for row, record in enumerate(piece.records):
        if row in lost:
            continue
        try:
            events.append(decode(record))
        except (ValueError, ArithmeticError, RecursionError):
            try:
                events.append(unnumbered(record))
            except (ValueError, ArithmeticError, RecursionError) as error:
                lost[row] = _diagnose(record, error)
                continue
        rows.append(row)
    return events, rows


def _diagnose(record: bytes, error: Exception) -> Problem:
    """Why a record could not be decoded, with the reason code of the first thing that is wrong."""
    if isinstance(error, RecursionError):
        return Problem(Reason.TOO_DEEP, f"the record nests deeper than {NESTING_MAX} levels")
    if isinstance(error, NumberTooLarge):
        return Problem(Reason.VALUE_OUT_OF_RANGE, str(error))
    if isinstance(error, UnicodeDecodeError):
        return Problem(Reason.BAD_ENCODING, "a string of the record is not UTF-8")
    if not isinstance(error, msgspec.ValidationError):
        return _malformed(record, error)
    if "out of range" in str(error):
        return Problem(Reason.VALUE_OUT_OF_RANGE, "an integer of the record has more digits than can be read")
    try:
        event = json.loads(record, parse_int=_some_number, parse_float=_some_number, parse_constant=refuse_constant)
    except ValueError as malformed:
        return _malformed(record, malformed)
    if not isinstance(event, dict):
        return Problem(Reason.BAD_RECORD, "the record is JSON, but not an object")
    return _wrong_attribute(event) or Problem(Reason.BAD_RECORD, str(error))


def _malformed(record: bytes, error: Exception) -> Problem:
    """Not JSON, or JSON whose escapes name half a character."""
    if _SURROGATE.search(record):
        try:
            event = json.loads(record, parse_int=_some_number, parse_float=_some_number, parse_constant=refuse_constant)
            json.dumps(event, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return Problem(Reason.BAD_ENCODING, "an escape such as \\ud800 names half a character")
        except ValueError:
            pass  # plain bad JSON, reported below
    return Problem(Reason.BAD_JSON, str(error))


def _some_number(text: str) -> int:
    """Stands for any number where only its being one counts: its digits may be more than can be read."""
    return 0


def _wrong_attribute(event: dict[str, Any]) -> Problem | None:
    """The first required attribute that is missing, or attribute that has the wrong type."""
    for name in ("specversion", "type", "subject", "time"):
        if event.get(name) in (None, ""):
            return Problem(Reason.MISSING_FIELD, f"{name} is missing, null or empty")
    if event["specversion"] != "1.0":
        return Problem(Reason.BAD_FIELD, f'specversion is {shown(event["specversion"])}, not "1.0"')
    for name in ("type", "subject", "time", "id", "source"):
        if not isinstance(event.get(name), str | None):
            return Problem(Reason.BAD_FIELD, f"{name} is not a string")
    if not isinstance(event.get("data_base64"), str | None):
        return Problem(Reason.BAD_FIELD, "data_base64 is not a string")
    if not isinstance(event.get("data"), dict | None):
        return Problem(Reason.BAD_FIELD, "data is not a JSON object")
    return None
