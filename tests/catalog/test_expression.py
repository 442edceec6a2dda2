"""The filter language: what it accepts, and what it says about everything else."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lineitem.catalog.expression import dimension_name, parse_filter, parse_path
from lineitem.catalog.expression_tree import (
    AllOf,
    Among,
    AnyOf,
    Compare,
    Condition,
    Literal,
    Not,
    Path,
    TextTest,
)
from lineitem.catalog.expression_words import ExpressionError
from lineitem.core.limits import EXPRESSION_DEPTH_MAX

STATUS, MODEL = Path(("data", "status")), Path(("data", "model"))


def equal(path: Path, value: str | int | Decimal | bool | None) -> Compare:
    return Compare("==", path, Literal(value))


A, B, C = equal(STATUS, 1), equal(STATUS, 2), equal(STATUS, 3)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("data.status < 500", Compare("<", STATUS, Literal(500))),
        ("500 > data.status", Compare("<", STATUS, Literal(500))),
        ("500 >= data.status", Compare("<=", STATUS, Literal(500))),
        ("1 == data.status", A),
        ("data.status!=-1.50", Compare("!=", STATUS, Literal(Decimal("-1.50")))),
        ('data.model == "g\\"p\\\\t"', equal(MODEL, 'g"p\\t')),
        ("data.model == 'say \"x\"'", equal(MODEL, 'say "x"')),
        ("data.model == null", equal(MODEL, None)),
        ("data.model == true", equal(MODEL, True)),
        ("data.model == data.status", Compare("==", MODEL, STATUS)),
        ("type == 'a'", equal(Path(("type",)), "a")),
        ('data["a.b"].c == 1', equal(Path(("data", "a.b", "c")), 1)),
        ("data.and.in.type == 1", equal(Path(("data", "and", "in", "type")), 1)),
        ("data.contains == 1", equal(Path(("data", "contains")), 1)),
        ("data.model.startsWith('g')", TextTest(MODEL, "startsWith", "g")),
        ("data.model.endsWith('g')", TextTest(MODEL, "endsWith", "g")),
        ("data.model.contains('g')", TextTest(MODEL, "contains", "g")),
        ("data.model in ['a', 1, null, true, -0.5]", Among(MODEL, ("a", 1, None, True, Decimal("-0.5")))),
        ("data.model not in ['a']", Not(Among(MODEL, ("a",)))),
        ("!(data.status == 1)", Not(A)),
        ("not data.status == 1", Not(A)),
        ("!!data.status == 1", Not(Not(A))),
        ("data.status == 1 && data.status == 2 || data.status == 3", AnyOf((AllOf((A, B)), C))),
        ("data.status == 1 and (data.status == 2 or data.status == 3)", AllOf((A, AnyOf((B, C))))),
        ("data.status == 1 || data.status == 2 || data.status == 3", AnyOf((A, B, C))),
        (" (\n( data.status\t== 1 ) ) ", A),
        ("(" * EXPRESSION_DEPTH_MAX + "data.status == 1" + ")" * EXPRESSION_DEPTH_MAX, A),
    ],
)
def test_what_is_read(text: str, tree: Condition) -> None:
    """Text and tree; a literal moves to the right, words and signs mean the same."""
    assert parse_filter(text) == tree


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", 1, "expected a path, a number or a text in quotes, found the end"),
        ("data.status", 1, "is a value, not a condition"),
        ("true", 1, "is a value, not a condition"),
        ("data.a == 1 && data.b", 16, "is a value, not a condition"),
        ("status < 500", 1, "status is not known; a path starts with data"),
        ("data < 5", 1, "data needs a field"),
        ("type.x == 1", 1, "type is a text and has no fields"),
        ("data. == 1", 7, "expected a name after the dot"),
        ("data.a-b == 1", 8, 'A key with a dash is written data["x-y"]'),
        ("data.a = 1", 8, "'=' is not understood; write =="),
        ("data.a == 1 & data.b == 1", 13, "'&' is not understood; write &&"),
        ("data.a == 'x", 11, "close the text"),
        ("data.a == $x", 11, "'$' is not understood"),
        ("data.a == '\\n'", 11, "is not an escape"),
        ("1 < 2", 1, "compares two constants"),
        ("data.a < 'x'", 8, "< compares numbers only"),
        ("data.a >= null", 8, ">= compares numbers only"),
        ("true > data.a", 6, "> compares numbers only"),
        ("1 < data.a < 5", 12, "comparisons cannot be chained"),
        ("data.a == 1 data.b == 2", 13, "expected && or || or the end, found data"),
        ("data.a == 1 &&", 15, "found the end"),
        ("(data.a == 1", 13, "expected ), found the end"),
        ("data.a == 1)", 12, "found )"),
        ("data.a in []", 12, "found ]"),
        ("data.a in [1", 13, "expected ], found the end"),
        ("data.a in [data.b]", 12, "found data"),
        ("data.a in 5", 11, "expected [, found 5"),
        ("5 in [5]", 1, "only a path can be in a list"),
        ("data.a not 5", 12, "expected in after not"),
        ("data.a.startsWith(5)", 19, "expected a text in quotes"),
        ("data.a startsWith('x')", 1, "is a value, not a condition"),
        ("data.a.matches('x+')", 1, "is a value, not a condition"),
        ("data.a + 1 > 2", 1, "nothing is computed beside a comparison"),
        ("data.a == - 'x'", 13, "is a text, and arithmetic takes numbers"),
        ("data.a == 1e3", 12, "found e3"),
        ("data[0] == 1", 6, "expected a text in quotes"),
        ("(" * 33 + "data.a == 1" + ")" * 33, 34, "nests deeper than 32 levels"),
        ("!" * 40 + "data.a == 1", 34, "nests deeper than 32 levels"),
    ],
)
def test_what_is_refused(text: str, column: int, message: str) -> None:
    """Every refusal names the column and says what to write."""
    with pytest.raises(ExpressionError) as caught:
        parse_filter(text)
    assert f"is wrong at column {column}: " in caught.value.what
    assert message in caught.value.what


def test_a_filter_has_a_length() -> None:
    """A thousand characters are read, one more is not."""
    text = "data.a == 1" + " " * 989
    assert parse_filter(text) == equal(Path(("data", "a")), 1)
    with pytest.raises(ExpressionError, match="1001 characters long"):
        parse_filter(text + " ")


def test_paths_and_their_names() -> None:
    """A dimension's tag key is its path without `data.`."""
    assert parse_path("data.usage.tokens") == Path(("data", "usage", "tokens"))
    assert [dimension_name(path) for path in ("data.model", "data.a.b", 'data["x-y"]', "source")] == [
        "model", "a.b", "x-y", "source",
    ]  # fmt: skip
    for bad in ("", "data", "tokens", "data.a == 1", "data.a.startsWith('x')", "'x'"):
        with pytest.raises(ExpressionError):
            parse_path(bad)


WORDS = st.sampled_from(
    ["data.a", "data", ".", "b", "<", "<=", "==", "!=", "&&", "||", "!", "(", ")", "[", "]", ",", "1", "-", "0.5",
     "'x'", '"y"', "in", "not", "and", "or", "true", "null", "type", ".startsWith", ".contains(", "é", "\\", "'"]
)  # fmt: skip


@given(st.lists(WORDS, max_size=14).map(" ".join) | st.text(max_size=30))
@example("data.a == 1 and")
def test_any_text_is_a_tree_or_a_refusal(text: str) -> None:
    """Nothing else can come out, whatever is typed."""
    with suppress(ExpressionError):
        assert isinstance(parse_filter(text), Compare | Among | TextTest | Not | AllOf | AnyOf)
