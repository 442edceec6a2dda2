"""Reading: batches of any size join to the same records, and any batch's end is a place to start again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.core.limits import RECORD_BYTES_MAX
from lineitem.ingest import formats
from lineitem.ingest.events import BatchLimits
from lineitem.ingest.formats import _batches, _elements, _lines, _rows
from tests.ingest.samples import event, flat, read_all

MODULES: tuple[Any, ...] = (_batches, _lines, _rows, _elements)
KEPT_BYTES = 30
HEADER = b"type,subject,time,note\n"
pieces = st.sampled_from(
    [b"a", b"{}", b'{"a":1}', b" ", b"\t", b"\r", b"\0", b'"', b'""', b",", b'\\"', b"[", b"]", b"}", b"\xff", b"abc"]
)
lines = st.lists(st.lists(pieces, max_size=6).map(b"".join), max_size=14)
ends = st.sampled_from([b"\n", b"\r\n"])
limits = st.builds(BatchLimits, st.integers(1, 6), st.sampled_from([1, 7, 20, 1 << 20]))


@contextmanager
def small_blocks(block_bytes: int) -> Iterator[None]:
    """Read a few bytes at a time and call a record long early, so that small files meet every boundary."""
    before = [(module, module.RECORD_BYTES_KEPT, getattr(module, "BLOCK_BYTES", None)) for module in MODULES]
    for module in MODULES:
        module.BLOCK_BYTES, module.RECORD_BYTES_KEPT = block_bytes, KEPT_BYTES
    try:
        yield
    finally:
        for module, kept, block in before:
            module.BLOCK_BYTES, module.RECORD_BYTES_KEPT = block, kept


def check_reading(name: str, data: bytes, batch_limits: BatchLimits, block_bytes: int) -> list[tuple[int, bytes]]:
    """The law of readers; returns the records of one unlimited batch."""
    with small_blocks(1 << 20):
        whole = read_all(name, data)
    with small_blocks(block_bytes):
        batches = read_all(name, data, batch_limits)
        assert flat(batches) == flat(whole)
        start = 0
        for number, batch in enumerate(batches):
            assert batch.start == start
            assert batch.start <= batch.positions[0] <= batch.positions[-1] < batch.end
            assert len(batch.records) <= batch_limits.records
            start = batch.end
            assert flat(read_all(name, data, batch_limits, start=start)) == flat(batches[number + 1 :])
    return flat(whole)


@given(lines, ends, st.booleans(), st.booleans(), limits, st.integers(1, 40))
def test_lines(
    texts: list[bytes], end: bytes, last_end: bool, mark: bool, batch_limits: BatchLimits, block: int
) -> None:
    """Lines with LF or CR LF, a byte order mark, blank lines, no end of the last line, in blocks of any size."""
    body = end.join(texts) + (end if last_end else b"")
    data = (b"\xef\xbb\xbf" if mark else b"") + body
    records = check_reading("access-log", data, batch_limits, block)
    expected = [one.removesuffix(b"\r") for one in body.split(b"\n")]
    assert [record for _, record in records] == [one[:KEPT_BYTES] for one in expected if one and not one.isspace()]
    assert all(data[at : at + len(record)] == record for at, record in records)


@given(lines, ends, limits, st.integers(1, 40))
def test_rows(texts: list[bytes], end: bytes, batch_limits: BatchLimits, block: int) -> None:
    """CSV rows, however quotes and line ends fall; every byte that is not blank belongs to one row (or is cut)."""
    data = HEADER + end.join(texts)
    records = check_reading("csv", data, batch_limits, block)
    covered = bytearray(data)
    for at, record in records:
        assert data[at : at + len(record)] == record
        covered[at : at + len(record)] = b" " * len(record)
    if all(len(record) < KEPT_BYTES for _, record in records):
        assert not covered[len(HEADER) :].strip()


@given(lines, limits, st.integers(1, 40))
def test_elements(texts: list[bytes], batch_limits: BatchLimits, block: int) -> None:
    """An array with anything in it: the same elements in blocks of any size, nothing left out but separators."""
    data = b"[" + b"\n,".join(texts) + b"]"
    records = check_reading("cloudevents", data, batch_limits, block)
    covered = bytearray(data)
    for at, record in records:
        assert data[at : at + len(record)] == record
        covered[at : at + len(record)] = b" " * len(record)
    if all(len(record) < KEPT_BYTES for _, record in records):
        assert not covered[1:].translate(None, b" \t\r\n,]")


@given(st.integers(1, 30), st.integers(1, 10), st.integers(1, 12), st.integers(0, 30))
def test_parquet_rows(count: int, group: int, batch: int, start: int) -> None:
    """Rows by number, over row groups of any size, from any row."""
    columns = {"type": ["t"] * count, "subject": ["s"] * count, "time": ["x"] * count, "n": list(range(count))}
    sink = BytesIO()
    pq.write_table(pa.table(columns), sink, row_group_size=group)
    records = flat(read_all("parquet", sink.getvalue(), BatchLimits(batch, 1 << 20), start=start))
    assert [at for at, _ in records] == list(range(start, count))
    assert [json.loads(record)["n"] for _, record in records] == list(range(start, count))


def test_batches_respect_both_limits() -> None:
    """A batch ends at its number of records or its bytes, whichever comes first, but holds one record at least."""
    data = b"\n".join([b"x" * 10] * 9)
    assert [len(b.records) for b in read_all("access-log", data, BatchLimits(4, 1000))] == [4, 4, 1]
    assert [len(b.records) for b in read_all("access-log", data, BatchLimits(100, 35))] == [3, 3, 3]
    assert [len(b.records) for b in read_all("access-log", data, BatchLimits(100, 1))] == [1] * 9


@pytest.mark.parametrize("name", ["access-log", "cloudevents", "csv"])
def test_a_long_record_is_cut_and_the_next_one_is_right(name: str) -> None:
    """Of 10 MB without a line end one byte more than allowed is kept, and the next record has its true position."""
    head = HEADER if name == "csv" else b""
    long = b"x" * 10_000_000
    data = head + b"before\n" + long + b"\nafter\n"
    records = flat(read_all(name, data))
    assert [(at - len(head), len(record)) for at, record in records] == [
        (0, 6),
        (7, RECORD_BYTES_MAX + 1),
        (len(long) + 8, 5),
    ]


@pytest.mark.parametrize("name", ["access-log", "cloudevents", "csv"])
def test_short_records_between_two_long_ones_are_kept(name: str) -> None:
    """What lies behind one long record in the same block does not become a part of the next long one."""
    head = HEADER if name == "csv" else b""
    long = b"x" * 3_000_000
    records = flat(read_all(name, head + long + b"\none\ntwo\n" + long + b"\nthree\n"))
    assert [len(record) for _, record in records] == [RECORD_BYTES_MAX + 1, 3, 3, RECORD_BYTES_MAX + 1, 5]


def test_a_long_element_is_cut_and_the_next_one_is_right() -> None:
    """The same in an array, whose scanner goes on through strings, escapes and brackets."""
    long = json.dumps(event(data={"x": '\\"}]' * 2_000_000}))
    first, last = json.dumps(event(id="a")), json.dumps(event(id="b"))
    records = flat(read_all("cloudevents", f"[{first},\n{long}, {last}]".encode()))
    assert [at for at, _ in records] == [1, len(first) + 3, len(first) + len(long) + 5]
    assert [len(record) for _, record in records] == [len(first), RECORD_BYTES_MAX + 1, len(last)]


@pytest.mark.parametrize(
    ("broken", "elements"),
    [
        ('{"a": [1}', ['{"a": [1}']),
        ('{"a": 1]', ['{"a": 1]']),
        ('{"a": "x}', ['{"a": "x}, ']),
        ("12", ["12"]),
        ("}", ["}"]),
    ],
)
def test_an_array_recovers_behind_a_broken_element(broken: str, elements: list[str]) -> None:
    """A bracket of the wrong kind, a string without end or stray characters cost their own element only."""
    good = json.dumps(event(id="a"))
    text = f"[{good}, {broken}, \n{good}]"
    records = [record.decode() for _, record in flat(read_all("cloudevents", text.encode()))]
    assert records[0] == records[-1] == good
    assert [record.strip() for record in records[1:-1]] == [element.strip() for element in elements]


def test_a_truncated_array_keeps_what_is_whole() -> None:
    """The element that breaks off is a record of its own."""
    good = json.dumps(event(id="a"))
    text = f"[{good}, {good[:-9]}"
    assert [record.decode() for _, record in flat(read_all("cloudevents", text.encode()))] == [good, good[:-9]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"[1]", True),
        (b"\n [1]", True),
        (b'{\n  "a": 1\n}', True),
        (b'{"a": {\n "b": 1}}', True),
        (b'{"a": 1,\n"b": 2}', True),
        (b'{"a":1}', False),
        (b'{"a":1}\n{"a":2}', False),
        (b'{"a":1\n{"a":2}', False),
        (b'{"a":1,\n{"a":2}', False),
        (b'{"a":1,', False),
        (b"garbage\n{}", False),
        (b"", False),
    ],
)
def test_what_holds_elements(text: bytes, expected: bool) -> None:
    """Arrays and pretty-printed objects are told from NDJSON, even NDJSON whose first line is broken."""
    assert _elements.holds_elements(BytesIO(text), 0) is expected


def test_a_large_file_is_read_in_bounded_memory(tmp_path: Path) -> None:
    """A reader asks for one block after the other and never for the whole file."""

    class Counting(BytesIO):
        largest = 0

        def read(self, size: int | None = -1, /) -> bytes:
            block = super().read(size)
            Counting.largest = max(Counting.largest, len(block))
            return block

    data = b'{"a": "' + b"x" * 300 + b'"}\n'
    file = Counting(data * 20_000)
    batches = formats.get("cloudevents").read(file, 0, BatchLimits(1000, 1 << 20), {})
    assert sum(len(batch.records) for batch in batches) == 20_000
    assert Counting.largest <= RECORD_BYTES_MAX + 1
