"""Keys and digests: what is the same gets the same, what differs differs, and numbers stay exact."""

from __future__ import annotations

import json
from decimal import Decimal
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineitem.core.ids import identity_key, length_prefixed
from lineitem.ingest.digest import NumberTooLarge, canonical_integer, exact_number, identity_keys, record_ids
from tests.ingest.samples import decode_all, event, line

texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
numbers = st.one_of(st.integers(-(10**50), 10**50), st.decimals(allow_nan=False, allow_infinity=False))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)
payloads = st.dictionaries(texts, values, max_size=4)


class Respelled(json.JSONEncoder):
    """JSON with other white space, other key order and other spellings of the same numbers."""

    def encode(self, o: Any) -> str:
        if isinstance(o, dict):
            items = [f"{json.dumps(k)} :\t{self.encode(v)}" for k, v in reversed(o.items())]
            return "{ " + " ,".join(items) + " }"
        if isinstance(o, list):
            return "[" + " , ".join(map(self.encode, o)) + " ]"
        if isinstance(o, int | Decimal) and not isinstance(o, bool):
            sign, digits, exponent = Decimal(o).as_tuple()
            return ("-" if sign else "") + "".join(map(str, digits)) + f"00E{int(exponent) - 2}"
        return super().encode(o)


class Plain(Respelled):
    """The usual spelling."""

    def encode(self, o: Any) -> str:
        if isinstance(o, dict):
            return "{" + ",".join(f"{json.dumps(k, ensure_ascii=False)}:{self.encode(v)}" for k, v in o.items()) + "}"
        if isinstance(o, list):
            return "[" + ",".join(map(self.encode, o)) + "]"
        if isinstance(o, int | Decimal) and not isinstance(o, bool):
            return str(o)
        return json.dumps(o, ensure_ascii=False)


def digest_of(record: bytes | str) -> bytes:
    events, rejects = decode_all("cloudevents", record if isinstance(record, bytes) else record.encode())
    assert not rejects
    return bytes(events.digest[0])


@given(payloads)
def test_digest_ignores_spelling(data: dict[str, Any]) -> None:
    """Key order, white space, escapes and the spelling of numbers are not content."""
    one, other = event(data=data), dict(reversed(event(data=data).items()))
    assert digest_of(Plain().encode(one)) == digest_of(Respelled().encode(other))


def test_digest_leaves_out_what_is_not_billed() -> None:
    """Trace parent, id, source and extensions are not content; an instant is, however its offset is written."""
    base = digest_of(line())
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert digest_of(line(traceparent=trace, id="other", source="/x", region="eu")) == base
    assert digest_of(line(time="2026-09-01T14:00:00.000+02:00")) == base


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "llm.other"},
        {"subject": "team-2"},
        {"time": "2026-09-01T12:00:00.000001Z"},
        {"data": {"tokens": 6}},
        {"data": {"tokens": "5"}},
        {"data": {"tokens": [5]}},
        {"data": {"token": 5}},
        {"data": {"tokens": 5, "x": False}},
        {"data": {}},
    ],
)
def test_digest_notices_a_change(changes: dict[str, Any]) -> None:
    """Whatever is billed changes the digest; a numeric string is not the number."""
    assert digest_of(line(**changes)) != digest_of(line())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.0", 1),
        ("1e0", 1),
        ("-0.0", 0),
        ("0E+999", 0),
        ("1.50", Decimal("1.5")),
        ("1e400", Decimal("1E+400")),
        ("12E+398", Decimal("1.2E+399")),
        ("1e999999999", Decimal("1E+999999999")),
        ("1e-999999999", Decimal("1E-999999999")),
        ("0.1234567890123456789012345678901234567890", Decimal("0.123456789012345678901234567890123456789")),
    ],
)
def test_exact_number_has_one_form_per_value(text: str, value: int | Decimal) -> None:
    """Integers are ints while they are small, everything else is a Decimal without zeros at its end; never rounded."""
    number = exact_number(text)
    assert number == value
    assert type(number) is type(value)
    assert str(number) == str(value)


@given(st.integers(-(10**60), 10**60))
def test_integers_have_the_form_of_their_decimals(value: int) -> None:
    """An integer literal and the same value with an exponent are one number."""
    assert repr(canonical_integer(value)) == repr(exact_number(f"{value}00e-2"))


def test_a_number_beyond_decimals_is_refused() -> None:
    """An exponent of twenty digits has no exact value to keep."""
    with pytest.raises(NumberTooLarge):
        exact_number("1e99999999999999999999")


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=20), texts)
def test_identity_keys_are_those_of_core(pairs: list[tuple[str, str]], namespace: str) -> None:
    """The fast path computes the same keys as ``core.ids``."""
    sources, ids = [a for a, _ in pairs], [b for _, b in pairs]
    keys = identity_keys(namespace, sources, ids)
    assert [bytes(key) for key in keys] == [identity_key(namespace, a, b) for a, b in pairs]
    one_source = identity_keys(namespace, sources[:1] * len(ids), ids)
    assert [bytes(key) for key in one_source] == [identity_key(namespace, sources[0], b) for b in ids]


def test_identity_keys_of_nothing() -> None:
    """No events, no keys, the same dtype."""
    assert identity_keys("n", [], []).dtype == np.dtype("V16")


def test_record_ids_depend_on_the_place() -> None:
    """Identical lines at two places, or in two streams, are two events."""
    ids = record_ids("s", [0, 1, 0], [b"x", b"x", b"y"]) + record_ids("t", [0], [b"x"])
    assert len(set(ids)) == 4
    assert ids[0] == sha256(length_prefixed(b"s", b"0", b"x")).hexdigest()[:32]
