"""Raw segments: written once, read back as they were, damage found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.core.errors import IntegrityError
from lineitem.ingest import segments
from lineitem.ingest.events import DecodeContext, RawRecords
from lineitem.ingest.segments import Segment


class Shelf(dict[str, bytes]):
    """A blob store in memory."""

    def create(self, name: str, content: bytes | memoryview) -> None:
        if self.setdefault(name, bytes(content)) != bytes(content):
            raise IntegrityError("exists with other content", where=name)

    def read(self, name: str) -> bytes:
        if name not in self:
            raise IntegrityError("missing", where=name)
        return self[name]

    def names(self, prefix: str = "") -> Iterator[str]:
        return iter(sorted(name for name in self if name.startswith(prefix)))

    def remove(self, name: str) -> None:
        self.pop(name, None)


def segment_of(records: list[bytes], stream: str = "s", settings: dict[str, str] | None = None) -> Segment:
    lengths = np.array([len(record) + 1 for record in records], dtype=np.int64)
    positions = 100 + np.concatenate([[0], np.cumsum(lengths)])[: len(records)].astype(np.int64)
    raw = RawRecords(pa.array(records, pa.binary()), positions, 100, 100 + int(lengths.sum()))
    return Segment(raw, "cloudevents", DecodeContext("default", stream, 5, settings or {}))


@given(
    st.lists(st.binary(max_size=30), max_size=20),
    st.text(max_size=8),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3)),
)
def test_read_back_as_written(records: list[bytes], stream: str, settings: dict[str, str]) -> None:
    """Records, positions, bounds, and everything the decoder needs."""
    shelf, written = Shelf(), segment_of(records, stream, settings)
    segments.write(shelf, "a", written)
    found = segments.read(shelf, "a", 5)
    assert found.raw.records.to_pylist() == records
    assert found.raw.positions.tolist() == written.raw.positions.tolist()
    assert (found.raw.start, found.raw.end) == (written.raw.start, written.raw.end)
    assert (found.format, found.context) == (written.format, written.context)


def test_writing_again_is_nothing_new() -> None:
    """An interrupted batch is prepared again: the same records under the same name are no error."""
    shelf = Shelf()
    segments.write(shelf, "a", segment_of([b"x", b"y"]))
    segments.write(shelf, "a", segment_of([b"x", b"y"]))
    assert list(shelf) == ["a"]


@pytest.mark.parametrize(
    "other", [segment_of([b"x", b"z"]), segment_of([b"x", b"y"], "t"), segment_of([b"x", b"y"], "s", {"k": "v"})]
)
def test_a_segment_is_never_replaced(other: Segment) -> None:
    """Other records, or the same to be decoded otherwise, under a name that is taken."""
    shelf = Shelf()
    segments.write(shelf, "a", segment_of([b"x", b"y"]))
    with pytest.raises(IntegrityError):
        segments.write(shelf, "a", other)


def test_another_layout_of_the_same_records() -> None:
    """A file that another version wrote is as good, if it says the same."""
    shelf, segment = Shelf(), segment_of([b"x", b"y"])
    segments.write(shelf, "a", segment)
    repacked = replace(segment, raw=replace(segment.raw, records=pa.concat_arrays([segment.raw.records])))
    segments.write(shelf, "b", repacked)
    shelf["c"] = shelf["a"] + b""
    assert segments.same(segments.read(shelf, "b", 5), segments.read(shelf, "c", 5))


def test_damage_has_a_name() -> None:
    """Whatever bit flips, the answer is IntegrityError with the segment's name, or what was written."""
    shelf, segment = Shelf(), segment_of([b"one", b"two", b"three"])
    segments.write(shelf, "a", segment)
    content, found = shelf["a"], 0
    for at in range(0, len(content), 3):
        shelf["a"] = content[:at] + bytes([content[at] ^ 0x20]) + content[at + 1 :]
        problem, read = None, segment
        try:
            read = segments.read(shelf, "a", 5)
        except IntegrityError as error:
            problem = error.where
            found += 1
        assert problem in (None, "a")
        assert read.raw.records.equals(segment.raw.records), "the pages have checksums"
    assert found > 30


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all"])
def test_no_parquet_file(content: bytes) -> None:
    """Nothing, too little, something else."""
    with pytest.raises(IntegrityError, match="damaged"):
        segments.read(Shelf(a=content), "a", 5)


def test_names_sort_by_position() -> None:
    """Positions are padded, so that names in order are records in order."""
    names = [segments.segment_name("p/f-1", start, start + 5, b"\xab" * 32, {}) for start in (0, 5, 100, 2**40)]
    assert names == sorted(names)
    assert names[0] == f"p/f-1/{0:020d}-{5:020d}-abababababababab.parquet"


def test_orphans_are_what_no_batch_can_claim_any_more() -> None:
    """Below the committed position and unclaimed; what an ingest is still about to commit is none."""
    shelf = Shelf()
    names = [segments.segment_name("p/f-1", start, start + 10, b"\0" * 32, {}) for start in (0, 10, 20)]
    shelf |= dict.fromkeys([*names, "p/.temporary.123", "q/unknown"], b"")
    assert segments.orphans(shelf, {names[0]}, {"p/f-1": 20}) == ["p/.temporary.123", names[1], "q/unknown"]


def test_other_schemas_are_another_segment() -> None:
    """A batch that a crash left before its commit may be decoded by others when it is tried again."""
    some: list[dict[str, Any]] = [{}, {"1": {"text": "a"}}, {"1": {"text": "b"}}]
    assert len({segments.segment_name("p", 0, 10, b"\0" * 32, schemas) for schemas in some}) == 3
