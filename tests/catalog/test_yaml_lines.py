"""YAML with lines: what is read, what is refused and where."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lineitem.catalog.yaml_lines import ALIAS_NODES_MAX, read_yaml


def test_values_are_what_was_written() -> None:
    """Times and codes stay text, `no` is a country, only plain whole numbers are numbers."""
    document = read_yaml(
        b'n: 42\nminus: -7\nquoted: "42"\nyes: no\nflag: true\nnone: ~\nempty:\n'
        b"time: 2020-01-01T00:00:00Z\noctal: 010\nsplit: 1_000\nhex: 0x1F\nlist: [1, a]\nblock: |\n  a\n  b\n"
    )
    assert document.problems == []
    assert document.value == {
        "n": 42, "minus": -7, "quoted": "42", "yes": "no", "flag": True, "none": None, "empty": None,
        "time": "2020-01-01T00:00:00Z", "octal": "010", "split": "1_000", "hex": "0x1F", "list": [1, "a"],
        "block": "a\nb\n",
    }  # fmt: skip


def test_every_value_knows_its_line() -> None:
    """A mapping's entry is where its key is, a list's where it starts; what is not written is where its parent is."""
    document = read_yaml(b"# comment\na:\n  - b: 1\n    c: 2\n  - {d: 3,\n     e: 4}\n")
    paths = [(), ("a",), ("a", 0), ("a", 0, "c"), ("a", 1, "d"), ("a", 1, "e"), ("a", 1, "missing", "too")]
    assert [document.line(path) for path in paths] == [2, 2, 3, 4, 5, 6, 5]


@pytest.mark.parametrize(
    ("raw", "line", "text"),
    [
        (b"a: 1\nb: 0.1\n", 2, "0.1 would be read as a binary float; write it in quotes: '0.1'"),
        (b"a: 1e3", 1, "1e3 would be read as a binary float"),
        (b"a: .5", 1, "write it in quotes: '.5'"),
        (b"a: -.inf", 1, "binary float"),
        (b"a: .NaN", 1, "binary float"),
        (b"a: 1\nb: 2\na: 3\n", 3, "the key 'a' is already on line 1"),
        (b"a: 1\n\tb: 2\n", 2, "indent with spaces"),
        (b"a: 1\nb: [1, 2\n", 3, "not well-formed YAML"),
        (b"a: b: c", 1, "not well-formed YAML"),
        (b"a: 'open\n", 2, "not well-formed YAML"),
        (b"a: 1\nb: \xff\n", 2, "byte 0xff is not UTF-8"),
        (b"\xef\xbb\xbfa: 1", 1, "UTF-8 byte order mark"),
        (b"\xff\xfea\x00", 1, "UTF-16 byte order mark"),
        (b"a: 1\nb: \x07\n", 2, "control character"),
        (b'a: 1\nb: "\\0"\n', 2, "NUL"),
        (b'"\\0": 1\n', 1, "NUL"),
        (b"a: 1\n---\nb: 2\n", 2, "one document per file"),
        (b"a: !!python/object/apply:os.system [ls]", 1, "the tag"),
        (b"a: !!str 1", 1, "the tag"),
        (b"a: !mine {b: 1}", 1, "the tag !mine"),
        (b"a: 1\nb: *missing\n", 2, "*missing names no anchor"),
        (b"a: &a [*a]", 1, "names no anchor"),
        (b"? [a]\n: b\n", 1, "a key must be plain text"),
        (b"# x\na: " + b"[" * 100_000, 2, "nests deeper than 32 levels"),
        (b"".join(b" " * i + b"-\n" for i in range(2000)), 34, "nests deeper than 32 levels"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(raw: bytes, line: int, text: str) -> None:
    """The first problem of each text, where it is and in words."""
    problems = read_yaml(raw).problems
    assert len(problems) == 1
    assert problems[0][0] == line
    assert text in problems[0][1]


def test_anchors_may_be_repeated_a_little() -> None:
    """Aliases are values again, and point to the line that uses them."""
    document = read_yaml(b"a: &tiers\n  - {up_to: 1}\nb: *tiers\n")
    assert document.value == {"a": [{"up_to": 1}], "b": [{"up_to": 1}]}
    assert document.line(("b", 0, "up_to")) == 3


def test_an_alias_bomb_is_refused_at_once() -> None:
    """Nine to the twelfth values in a few lines are refused while they are still small."""
    names = [f"a{i}" for i in range(13)]
    lines = [f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]" for before, name in pairwise(names)]
    started = time.monotonic()
    document = read_yaml("\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x]", *lines]).encode())
    assert document.problems == [(5, f"aliases repeat more than {ALIAS_NODES_MAX} values; write them out")]
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("raw", [b"", b"\n\n", b"# nothing\n", b"---\n...\n"])
def test_nothing_is_nothing(raw: bytes) -> None:
    """An empty file is no problem here and no value."""
    document = read_yaml(raw)
    assert document.value is None
    assert document.problems == []


def test_a_very_long_number_stays_text() -> None:
    """Python would refuse to convert it, and it is no quantity anyway."""
    assert read_yaml(b"a: " + b"9" * 5000).value == {"a": "9" * 5000}


@given(st.one_of(st.binary(max_size=60), st.text(alphabet=" \n\t-:?&*!|>'\"%@`[]{},#ab1.\\~<=", max_size=60)))
@example(b"%YAML 9.9\n---\na")
@example(b"- - -")
def test_no_bytes_make_it_raise(raw: bytes | str) -> None:
    """Whatever a file holds, reading it ends in a value or in problems that have a line."""
    document = read_yaml(raw if isinstance(raw, bytes) else raw.encode())
    assert all(line >= 1 and text for line, text in document.problems)
