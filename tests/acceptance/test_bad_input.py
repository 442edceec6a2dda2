"""Bad records through the real command line: each gets its reason, its neighbours are billed, no amount is wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.command import Command, line, ndjson

_LONG = 10 << 20


SET_ASIDE: dict[str, tuple[bytes, str]] = {
    # what is not JSON, or not an event
    "garbage": (b"\x00\x01\xfe\x89PNG garbage", "bad_encoding"),
    "no-json": (b"tokens=5", "bad_json"),
    "truncated": (line("truncated")[:-20], "bad_json"),
    "nan": (line("nan", b"NaN"), "bad_json"),
    "infinity": (line("infinity", b"Infinity"), "bad_json"),
    "minus-infinity": (line("minus-infinity", b"-Infinity"), "bad_json"),
    "null-record": (b"null", "bad_record"),
    "list-record": (b"[]", "bad_record"),
    "empty-object": (b"{}", "missing_field"),
    "bad-utf8": (line("bad-utf8").replace(b"acme", b"ac\xffme"), "bad_encoding"),
    "utf16-mark": (b"\xff\xfe" + line("utf16-mark"), "bad_encoding"),
    "half-character": (line("half-character").replace(b"acme", b"\\ud800"), "bad_encoding"),
    "deep": (b'{"a":' * 5000 + b"1" + b"}" * 5000, "too_deep"),
    "deep-list": (b"[" * 100_000, "too_deep"),
    "ten-megabytes": (line("ten-megabytes", pad="x" * _LONG), "too_large"),
    "ten-megabytes-of-digits": (line("digits", b"9" * _LONG), "too_large"),
    # attributes
    "other-version": (line("other-version", specversion="0.3"), "bad_field"),
    "id-number": (line("id-number", id=5), "bad_field"),
    "no-subject": (line("no-subject", subject=...), "missing_field"),
    "empty-subject": (line("empty-subject", subject=""), "missing_field"),
    "null-type": (line("null-type", type=None), "missing_field"),
    "nul-in-subject": (line("nul-in-subject", subject="a\0b"), "bad_field"),
    "long-subject": (line("long-subject", subject="x" * 1025), "bad_field"),
    "data-list": (line("data-list", data=[1]), "bad_field"),
    # times
    "future": (line("future", time="2199-01-01T00:00:00Z"), "time_out_of_range"),
    "year-1": (line("year-1", time="0001-01-01T00:00:00Z"), "time_out_of_range"),
    "year-1-west": (line("year-1-west", time="0001-01-01T00:00:00+23:59"), "time_out_of_range"),
    "year-9999": (line("year-9999", time="9999-12-31T23:59:59-23:59"), "time_out_of_range"),
    "year-1999": (line("year-1999", time="1999-12-31T23:59:59.999999Z"), "time_out_of_range"),
    "no-offset": (line("no-offset", time="2026-01-01T00:00:00"), "bad_time"),
    "february-30": (line("february-30", time="2026-02-30T00:00:00Z"), "bad_time"),
    "time-number": (line("time-number", time=1767225600), "bad_field"),
    "no-time": (line("no-time", time=...), "missing_field"),
    # quantities
    "1e400": (line("1e400", b"1e400"), "value_out_of_range"),
    "1e999999999": (line("1e999999999", b"1e999999999"), "value_out_of_range"),
    "30-digits": (line("30-digits", 10**29), "value_out_of_range"),
    "1000-digits": (line("1000-digits", b"9" * 1000), "value_out_of_range"),
    "5000-digits": (line("5000-digits", b"9" * 5000), "value_out_of_range"),
    "1e-400": (line("1e-400", b"1e-400"), "too_precise"),
    "10-decimals": (line("10-decimals", b"0.0000000001"), "too_precise"),
    "nan-text": (line("nan-text", "NaN"), "bad_value"),
    "infinity-text": (line("infinity-text", "Infinity"), "bad_value"),
    "hexadecimal-text": (line("hexadecimal-text", "0x10"), "bad_value"),
    "underscore-text": (line("underscore-text", "1_000"), "bad_value"),
    "arabic-digits": (line("arabic-digits", "\u0663"), "bad_value"),
    "spaces": (line("spaces", " 7 "), "bad_value"),
    "empty-text": (line("empty-text", ""), "bad_value"),
    "true": (line("true", True), "bad_value"),
    "a-list": (line("a-list", [5]), "bad_value"),
    "null-value": (line("null-value", None), "missing_value"),
    "no-value": (line("no-value", data={}), "missing_value"),
}
"""Name -> the record and the reason it is set aside for."""

ACCEPTED: dict[str, tuple[bytes, str, str]] = {
    "19-digits": (line("19-digits", b"1234567890123456789"), "1234567890123456789", "3086419725308.6419725"),
    "int64-max": (line("int64-max", 2**63 - 1), "9223372036854775807", "23058430092136.9395175"),
    "int64-end": (line("int64-end", 2**63), "9223372036854775808", "23058430092136.93952"),
    "29-digits": (line("29-digits", 10**29 - 11), "99999999999999999999999999989", "249999999999999999999999.9999725"),
    "negative": (line("negative", -3), "-3", "-0.0000075"),
    "minus-zero": (line("minus-zero", b"-0.0"), "0", "0"),
    "text": (line("text", "7"), "7", "0.0000175"),
    "exponent": (line("exponent", b"1.5e3"), "1500", "0.00375"),
    "trailing-zeros": (line("trailing-zeros", b"1.00000000000000"), "1", "0.0000025"),
    "smallest": (line("smallest", b"0.000000001"), "0.000000001", "0"),
    "0.1": (line("0.1", b"0.1"), "0.1", "0.00000025"),
    "longest-subject": (line("longest-subject", subject="y" * 1024), "5", "0.0000125"),
    "no-id": (line("no-id", id=...), "5", "0.0000125"),
    "null-id": (line("null-id", id=None), "5", "0.0000125"),
    "no-source": (line("no-source", source=...), "5", "0.0000125"),
    "offset": (line("offset", time="2026-01-01T05:45:00+05:45"), "5", "0.0000125"),
    "unicode": (line("unicode", subject="\u00fcn\u00efc\U0001f600de"), "5", "0.0000125"),
}
"""Name -> the record, and quantity and amount of its line item: unusual, yet good."""


_RECORDS = {name: case[0] for name, case in SET_ASIDE.items()} | {name: case[0] for name, case in ACCEPTED.items()}


@dataclass(frozen=True, slots=True)
class Read:
    """What one file with every record above came to."""

    counts: dict[str, int]
    reasons: dict[int, str]
    positions: dict[str, int]
    line_items: dict[str, dict[str, Any]]


def _place(name: str, record: bytes) -> bytes:
    """The record, with the account of its case where it has a readable one."""
    return record.replace(b'"subject": "acme"', f'"subject": "case-{name}"'.encode())


@pytest.fixture(scope="module")
def read(lineitem: Command, tmp_path_factory: pytest.TempPathFactory) -> Read:
    """One file: each record between two good events of the same account."""
    lines: list[bytes] = []
    positions: dict[str, int] = {}
    at = 0
    for name, record in _RECORDS.items():
        account = f"case-{name}"
        before, after = (line(f"{name}-{place}", subject=account) for place in ("before", "after"))
        positions[name] = at + len(before) + 1
        lines += [before, _place(name, record), after]
        at += sum(map(len, lines[-3:])) + 3
    path = ndjson(tmp_path_factory.mktemp("bad") / "usage.ndjson", lines)
    counts = lineitem.json("ingest", path)
    letters = lineitem.json("dlq", "list", "--limit", "1000")["dead_letters"]
    items = lineitem.line_items()
    return Read(
        counts,
        {letter["position"]: letter["reason"] for letter in letters},
        positions,
        {f"{item['account']} {item['event_id']}": item for item in items},
    )


def test_every_record_is_accounted_for(read: Read) -> None:
    """Each good one makes a line item, each bad one a dead letter; nothing is lost, nothing is counted twice."""
    good, bad = 2 * (len(SET_ASIDE) + len(ACCEPTED)) + len(ACCEPTED), len(SET_ASIDE)
    assert read.counts == {
        "received": good + bad,
        "itemized": good,
        "line_items": good,
        "duplicate": 0,
        "pending": 0,
        "dead_lettered": bad,
        "not_billable": 0,
        "batches": 1,
    }


@pytest.mark.parametrize("name", SET_ASIDE)
def test_a_bad_record_is_set_aside_for_the_right_reason(read: Read, name: str) -> None:
    """At its own position, with its own code."""
    assert read.reasons[read.positions[name]] == SET_ASIDE[name][1]


@pytest.mark.parametrize("name", [*SET_ASIDE, *ACCEPTED])
def test_its_neighbours_are_billed(read: Read, name: str) -> None:
    """Before and after it, same account: five tokens at 0.0000025 each."""
    for place in ("before", "after"):
        item = read.line_items[f"case-{name} {name}-{place}"]
        assert (item["quantity"], Decimal(item["amount"])) == ("5", Decimal("0.0000125"))


@pytest.mark.parametrize("name", ACCEPTED)
def test_an_unusual_record_is_billed_exactly(read: Read, name: str) -> None:
    """Whatever its size, the amount is exact; an id that is missing is made from the place."""
    record, quantity, amount = ACCEPTED[name]
    written = json.loads(_place(name, record))
    items = [item for key, item in read.line_items.items() if key.split(" ", 1)[0] == written["subject"]]
    own = [item for item in items if item["event_id"] not in (f"{name}-before", f"{name}-after")]
    assert [item["quantity"] for item in own] == [quantity]
    assert Decimal(own[0]["amount"]) == Decimal(amount)
    assert own[0]["event_id"] == written.get("id") or not written.get("id")


def test_verify_agrees(lineitem: Command, read: Read) -> None:
    """Whatever came in, the ledger is intact and equals a refold from the raw records."""
    assert lineitem.json("verify", "--deep")["findings"] == []


def test_totals_beyond_38_digits_cost_only_the_event_that_leads_there(lineitem: Command, tmp_path: Path) -> None:
    """Three events of nearly 29 digits fit one by one and not together; the small ones around them are billed."""
    huge = 6 * 10**28
    lines = [line(f"sum-{n}", tokens, subject="sum") for n, tokens in enumerate([1, huge, 2, huge, 3])]
    lines += [line("other", subject="sum-neighbour")]
    counts = lineitem.json("ingest", ndjson(tmp_path / "sum.ndjson", lines))
    assert (counts["itemized"], counts["dead_lettered"]) == (5, 1)
    quantities = sorted(int(item["quantity"]) for item in lineitem.line_items("--account", "sum"))
    assert quantities == [1, 2, 3, huge]
    again = lineitem.json("ingest", ndjson(tmp_path / "more.ndjson", [line("sum-9", 4, subject="sum"), *lines]))
    assert (again["itemized"], again["duplicate"], again["dead_lettered"]) == (1, 5, 1)
    assert lineitem.json("verify", "--deep")["findings"] == []


def test_repeats_and_conflicts_do_not_depend_on_how_a_file_is_cut(lineitem: Command, tmp_path: Path) -> None:
    """An event that repeats what was accepted is a duplicate even behind a conflicting one in the same batch."""
    lineitem.json("ingest", ndjson(tmp_path / "first.ndjson", [line("cut", 5, subject="cut")]))
    both = [line("cut", 6, subject="cut"), line("cut", 5, subject="cut"), line("cut", 6, subject="cut")]
    answers = []
    for size in (1, 100):
        path = ndjson(tmp_path / f"{size}.ndjson", [*both, line(f"cut-{size}")])
        answers.append(lineitem.json("ingest", path, "--batch-size", str(size)))
    assert [(one["duplicate"], one["dead_lettered"], one["itemized"]) for one in answers] == [(1, 2, 1)] * 2
