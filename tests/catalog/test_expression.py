"""The filter language: what it accepts, and what it says about everything else."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lineitem.catalog.expression import check_filter, dimension_name, parse_filter, parse_path, parse_value
from lineitem.catalog.expression_tree import (
    Absolute,
    AllOf,
    Among,
    AnyOf,
    Arithmetic,
    Compare,
    Condition,
    Conditional,
    Constant,
    Extreme,
    Literal,
    Not,
    Number,
    Path,
    Rounded,
    TextTest,
)
from lineitem.catalog.expression_words import ExpressionError
from lineitem.core.limits import EXPRESSION_DEPTH_MAX, EXPRESSION_DIGITS_MAX, EXPRESSION_NODES_MAX

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


X, Y = Path(("data", "x")), Path(("data", "y"))


def constant(text: str) -> Constant:
    return Constant(Fraction(text))


def has(path: Path) -> Compare:
    return Compare("!=", path, Literal(None))


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("data.x", X),
        ("(data.x)", X),
        ("subject", Path(("subject",))),
        ("data.x + data.y * 2", Arithmetic("+", X, Arithmetic("*", Y, constant("2")))),
        ("data.x - data.y - 1.50", Arithmetic("-", Arithmetic("-", X, Y), constant("1.5"))),
        ("data.x -1", Arithmetic("-", X, constant("1"))),
        ("-data.x", Arithmetic("*", constant("-1"), X)),
        ("data.x / 1024000", Arithmetic("*", X, constant("1/1024000"))),
        ("data.x / (1024 * 1000) ", Arithmetic("*", X, constant("1/1024000"))),
        ("data.x * -(1 - 0.25)", Arithmetic("*", X, constant("-0.75"))),
        ("ceil(data.x)", Rounded("ceil", X, Fraction(1))),
        ("floor(data.x, 0.001)", Rounded("floor", X, Fraction(1, 1000))),
        ("round(data.x, 1 / 3)", Rounded("round", X, Fraction(1, 3))),
        ("min(data.x, data.y, 3)", Extreme("min", (X, Y, constant("3")))),
        ("max(data.x, 0)", Extreme("max", (X, constant("0")))),
        ("abs(data.x)", Absolute(X)),
        ("default(data.x, data.y)", Conditional(has(X), X, Y)),
        ("has(data.x) ? 1 : 2", Conditional(has(X), constant("1"), constant("2"))),
        (
            "data.x == 1 ? 1 : data.y < 2 ? 2 : 3",
            Conditional(
                equal(X, 1),
                constant("1"),
                Conditional(Compare("<", Y, Literal(2)), constant("2"), constant("3")),
            ),
        ),
        ("(!has(data.x) || data.y == 'a') ? 1 : 0",
         Conditional(AnyOf((Not(has(X)), equal(Y, "a"))), constant("1"), constant("0"))),
        ("data.min + data.has", Arithmetic("+", Path(("data", "min")), Path(("data", "has")))),
    ],
)  # fmt: skip
def test_what_is_computed(text: str, tree: Number) -> None:
    """Text and tree of a value; constants are worked out while reading, and a plain path stays one."""
    assert parse_value(text) == tree


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("tokens", 1, "did you mean data.tokens?"),
        ("data.x-y", 8, 'A key with a dash is written data["x-y"]'),
        ("data.x +", 9, "found the end"),
        ("data.x data.y", 8, "expected && or || or the end, found data"),
        ("data.x % 60", 8, "floor(x, step) rounds down to a multiple"),
        ("(data.x", 8, "expected ), found the end"),
        ("data.x == 1 ? 1", 16, "expected :, found the end"),
        ("data.x == 1 ? 1 : ", 19, "found the end"),
        ("ceil(data.x,)", 13, "found )"),
        # no text, no truth, no nothing in arithmetic
        ("data.x + 'a'", 10, "is a text, and arithmetic takes numbers"),
        ("subject * 2", 1, "subject is a text, and arithmetic takes numbers"),
        ("max(0, source)", 8, "source is a text"),
        ("data.x == 1 ? type : 2", 15, "type is a text"),
        ("data.x == 1 ? 'a' : 2", 15, "is a text"),
        ("data.x + true", 10, "true and false are not numbers"),
        ("true", 1, "true and false are not numbers"),
        ("data.x * null", 10, "write default(data.x, 0)"),
        ("data.x == 1", 1, "is true or false, not a number; write (condition) ? 1 : 0"),
        ("(data.x > 1) * data.y", 1, "is true or false, not a number"),
        ("has(data.x)", 1, "is true or false, not a number"),
        ("data.x ? 1 : 0", 1, "is a value, not a condition"),
        ("data.x + 1 > 2 ? 1 : 0", 1, "nothing is computed beside a comparison"),
        ("(data.x > 1) == true ? 1 : 0", 1, "comparisons cannot be compared"),
        # what a comparison takes
        ("data.x < 'a' ? 1 : 2", 8, "< compares numbers only"),
        ("subject > 5 ? data.x : 2", 9, "subject is a text, and > compares numbers"),
        ("data.x < source ? data.x : 2", 8, "source is a text, and < compares numbers"),
        ("type == 5 ? data.x : 2", 6, "type is a text and never equals a number"),
        ("id in ['a', 5] ? data.x : 2", 13, "id is a text and never equals a number"),
        # functions
        ("sqrt(data.x)", 1, "sqrt is not a function; use one of abs, ceil"),
        ("ceil()", 1, "ceil takes 1 or 2 arguments, not 0"),
        ("ceil(data.x, 1, 2)", 1, "ceil takes 1 or 2 arguments, not 3"),
        ("abs(data.x, 1)", 1, "abs takes 1 argument, not 2"),
        ("max(data.x)", 1, "max takes at least 2 arguments, not 1"),
        ("default(data.x)", 1, "default takes 2 arguments, not 1"),
        ("default(data.x + 1, 0)", 9, "asks whether a path has a value"),
        ("default(subject, 0)", 9, "subject is a text"),
        ("has(5) ? data.x : 1", 5, "asks whether a path has a value"),
        ("1 + has(data.x, 2)", 5, "has takes 1 argument, not 2"),
        ("ceil(data.x, 0)", 14, "the step must be above zero"),
        ("round(data.x, -0.01)", 15, "the step must be above zero"),
        ("floor(data.x, data.y)", 15, "the step must be a constant"),
        ("data.x / 0", 10, "divides by zero"),
        ("data.x / (2 - 2)", 10, "divides by zero"),
        ("data.x / data.y", 10, "only a constant can divide"),
        ("1 / data.y", 5, "only a constant can divide"),
        # what it reads, and what it may cost
        ("30", 1, "reads nothing of the event"),
        ("1 + 2 * 3", 1, "reads nothing of the event"),
        ("data.x * " + "9" * (EXPRESSION_DIGITS_MAX + 1), 10, "has more than 38 digits"),
        ("data.x" + " + 1" * (EXPRESSION_NODES_MAX + 1), 808, "has more than 200 operations"),
        ("max(data.x" + ",1" * (EXPRESSION_NODES_MAX + 1) + ")", 1, "has more than 200 operations"),
        ("*".join(["data.x"] * 9), 56, "multiplies more than 8 readings"),
        ("max(data.x, abs(data.y) * 2 * ceil(data.x)) * " + "*".join(["data.x"] * 7), 88, "more than 8 readings"),
        ("(" * 33 + "data.x" + ")" * 33, 34, "nests deeper than 32 levels"),
        ("-" * 40 + "data.x", 34, "nests deeper than 32 levels"),
        ("abs(" * 33 + "data.x" + ")" * 33, 133, "nests deeper than 32 levels"),
        ("data.x == 1 ? 1 : " * 33 + "2", 591, "nests deeper than 32 levels"),
    ],
)
def test_what_cannot_be_computed(text: str, column: int, message: str) -> None:
    """Every value that is refused, with its column and what to write."""
    with pytest.raises(ExpressionError) as caught:
        parse_value(text)
    assert f"is wrong at column {column}: " in caught.value.what
    assert message in caught.value.what


def test_limits_are_reached_before_they_are_passed() -> None:
    """The deepest, the longest and the most digits are read."""
    deep = "abs(" * EXPRESSION_DEPTH_MAX + "data.x" + ")" * EXPRESSION_DEPTH_MAX
    digits = "9" * (EXPRESSION_DIGITS_MAX - 1) + ".9"
    for text in (deep, "*".join(["data.x"] * 8), "data.x" + " + 1" * EXPRESSION_NODES_MAX, f"data.x * {digits}"):
        assert not isinstance(parse_value(text), Path)
    with pytest.raises(ExpressionError, match="1001 characters long; at most 1000"):
        parse_value("data.x" + " " * 995)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subject < 5", "column 9: subject is a text, and < compares numbers; use == or !="),
        ("data.x >= source", "column 8: source is a text, and >= compares numbers"),
        ("type == 5", "column 6: type is a text and never equals a number; write it in quotes"),
        ("true != id", "column 6: id is a text and never equals a true or false"),
        ("data.x == 1 && source in ['a', 2]", "column 32: source is a text and never equals a number"),
        ("data.x == " + "1" * 39, "has more than 38 digits"),
    ],
)
def test_a_filter_that_cannot_mean_it_is_not_published(text: str, message: str) -> None:
    """A number beside a text is refused at publish; what is published already is still read, as it always was."""
    with pytest.raises(ExpressionError) as caught:
        check_filter(text)
    assert message in caught.value.what
    assert isinstance(parse_filter(text), Compare | AllOf)


@pytest.mark.parametrize(
    "text",
    [
        "data.a == 1 || data.a == 'x' || data.a in [true, null, 2]",
        "subject == 'a' && source != null && id in ['1', null]",
        "subject == data.owner",
        "has(data.a) && !has(data.b)",
        "id!=''||" * 120 + "data.a<1",
        "data.a==1||" * 89 + "data.a==1",
    ],
)
def test_a_filter_that_can_mean_it_is_published(text: str) -> None:
    """One path may be a number here and a text there; no filter that fits its length has too many tests."""
    check_filter(text)
    assert parse_filter(text) == parse_filter(f"({text})")


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
     "'x'", '"y"', "+", "*", "/", "?", ":", "ceil(", "max(", "default(", "has(",
     "in", "not", "and", "or", "true", "null", "type", ".startsWith", ".contains(", "é", "\\", "'"]
)  # fmt: skip


@given(st.lists(WORDS, max_size=14).map(" ".join) | st.text(max_size=30))
@example("data.a == 1 and")
def test_any_text_is_a_tree_or_a_refusal(text: str) -> None:
    """Nothing else can come out, whatever is typed."""
    with suppress(ExpressionError):
        assert isinstance(parse_filter(text), Condition)
    with suppress(ExpressionError):
        assert isinstance(parse_value(text), Number)
