"""The chain's hashes: every field counts, order counts, and nothing two different batches could share."""

from __future__ import annotations

from dataclasses import fields, replace
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.ledger.chain import (
    GENESIS,
    Batch,
    accepted_digest,
    batch_hash,
    fact_leaf,
    records_digest,
    set_aside_digest,
)

BATCH = Batch(
    lane=1, batch=2, namespace="default", kind=1, partition="p", position_start=0, position_end=10, received=3, itemized=1,
    pending=1, duplicate=1, dead_lettered=0, not_billable=0, line_items=1, facts=0, sums='{"USD":"1"}', event_time_min=5,
    event_time_max=6, catalog_revision=1, segment="s", records_digest=b"r", accepted_digest=b"a", set_aside_digest=b"d",
    root=b"t", engine_version="1", recorded_us=7,
)  # fmt: skip


def test_a_hash_that_never_changes() -> None:
    """Version 1 as it was first written; ledgers out there depend on it."""
    parts = [(1).to_bytes(2, "big"), GENESIS]
    for field in fields(BATCH):
        value: Any = getattr(BATCH, field.name)
        parts.append(
            value.to_bytes(8, "big", signed=True)
            if isinstance(value, int)
            else value.encode()
            if isinstance(value, str)
            else value
        )
    assert batch_hash(BATCH, GENESIS) == sha256(b"".join(len(p).to_bytes(4, "big") + p for p in parts)).digest()
    assert batch_hash(BATCH, GENESIS).hex() == "15689aa7c3aa97696f6af24514d7bddb5b99e01ad4c7cb06b4edf73d219d8c15"


@pytest.mark.parametrize("name", [field.name for field in fields(Batch)])
def test_every_field_counts(name: str) -> None:
    """Another value in any one field is another hash."""
    value: Any = getattr(BATCH, name)
    other = value + 1 if isinstance(value, int) else value + type(value)(b"!" if isinstance(value, bytes) else "!")
    assert batch_hash(replace(BATCH, **dict[str, Any]({name: other})), GENESIS) != batch_hash(BATCH, GENESIS)


def test_the_batch_before_counts() -> None:
    """The same batch behind another one has another hash."""
    assert batch_hash(BATCH, GENESIS) != batch_hash(BATCH, b"\1" * 32)


def test_no_field_runs_into_the_next() -> None:
    """What moves from the end of one text to the start of the next is another batch."""
    one, other = replace(BATCH, segment="ab", records_digest=b"c"), replace(BATCH, segment="a", records_digest=b"bc")
    assert batch_hash(one, GENESIS) != batch_hash(other, GENESIS)


def test_a_version_nobody_knows() -> None:
    """A hash of the future is refused, not guessed."""
    with pytest.raises(ValueError, match="version 2"):
        batch_hash(BATCH, GENESIS, 2)


RECORDS = st.lists(st.binary(max_size=12), max_size=12)


@given(RECORDS, RECORDS)
def test_records_have_one_digest(left: list[bytes], right: list[bytes]) -> None:
    """Two lists of records share a digest exactly if they are the same list."""
    digests = [records_digest(pa.array(records, pa.binary())) for records in (left, right)]
    assert (digests[0] == digests[1]) == (left == right)


@given(RECORDS, RECORDS)
def test_a_digest_covers_records_not_buffers(before: list[bytes], records: list[bytes]) -> None:
    """A slice of a longer array has the digest of its records alone."""
    whole = pa.array([*before, *records], pa.binary())
    assert records_digest(whole.slice(len(before))) == records_digest(pa.array(records, pa.binary()))


EVENTS = st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16)), max_size=8)


@given(EVENTS, st.randoms())
def test_accepted_events_in_any_order(events: list[tuple[bytes, bytes]], random: Any) -> None:
    """The digest over accepted events goes by their place among the records, in whatever order they are given."""
    rows = list(enumerate(events))
    random.shuffle(rows)

    def digest(rows: list[tuple[int, tuple[bytes, bytes]]]) -> bytes:
        keys = np.array([event[0] for _, event in rows], dtype="V16")
        digests = np.array([event[1] for _, event in rows], dtype="V16")
        return accepted_digest(keys, digests, np.array([number for number, _ in rows], dtype=np.int32))

    assert (
        digest(rows)
        == digest(sorted(rows))
        == sha256(
            b"".join(key + content + number.to_bytes(4, "big") for number, (key, content) in enumerate(events))
        ).digest()
    )


def test_dead_letters_in_record_order() -> None:
    """Sorted by their ordinal before they are hashed."""
    marks = [(7, b"b" * 16), (2, b"a" * 16)]
    assert set_aside_digest(marks) == set_aside_digest(reversed(marks))
    assert set_aside_digest(marks) != set_aside_digest([(7, b"a" * 16), (2, b"b" * 16)])


def test_a_fact_is_bound_to_its_place_and_kind() -> None:
    """The same words elsewhere, or as another kind, are another leaf."""
    leaves = {
        fact_leaf(0, 1, 0, "publish", "{}"), fact_leaf(1, 1, 0, "publish", "{}"), fact_leaf(0, 2, 0, "publish", "{}"),
        fact_leaf(0, 1, 1, "publish", "{}"), fact_leaf(0, 1, 0, "publis", "h{}"), fact_leaf(0, 1, 0, "period", "{}"),
    }  # fmt: skip
    assert len(leaves) == 6
