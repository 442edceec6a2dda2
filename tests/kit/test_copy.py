"""Binary COPY payloads against PostgreSQL's wire format, field by field."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from lineitem.kit.copy import POSTGRES_EPOCH_US, Column, encode

UUID = bytes(range(16))


def test_every_type_as_postgresql_reads_it() -> None:
    """A field count, then for each field its length and its value, big-endian; null has length -1 and no value."""
    rows = encode(
        [
            Column("small", "int2", np.array([-2, 3], dtype=np.int64)),
            Column("plain", "int4", 7),
            Column("big", "int8", np.array([2**62, -(2**62)])),
            Column("key", "uuid", np.array([UUID, UUID[::-1]], dtype="V16")),
            Column("time", "timestamptz", np.array([POSTGRES_EPOCH_US, 0])),
            Column("nothing", "null"),
            Column("text", "text:3", np.array([b"abc", b"xyz"])),
            Column("raw", "bytea:2", np.array([b"\x01\x02", b"\xff\xfe"])),
        ],
        2,
    )
    values = [
        (-2, 2**62, UUID, 0, b"abc", b"\x01\x02"),
        (3, -(2**62), UUID[::-1], -POSTGRES_EPOCH_US, b"xyz", b"\xff\xfe"),
    ]
    wanted = b"".join(
        struct.pack(">hihiiiqi16siqii3si2s", 8, 2, small, 4, 7, 8, big, 16, key, 8, time, -1, 3, text, 2, raw)
        for small, big, key, time, text, raw in values
    )
    assert rows.tobytes() == wanted


def test_no_rows() -> None:
    """A payload of nothing is empty."""
    assert encode([Column("plain", "int4", 7)], 0).tobytes() == b""


def test_a_type_nobody_knows() -> None:
    """A typing error in a column's type does not become a row."""
    with pytest.raises(KeyError):
        encode([Column("plain", "int3", 7)], 1)
