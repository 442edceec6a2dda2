"""Normalising a tag's value, knowing it, and the rules in force."""

from __future__ import annotations

from bisect import bisect_right

import pytest

from lineitem.catalog.model import Normalize, TagRule
from lineitem.catalog.tag_rules import eras, known, normalised, pattern_defect


def test_steps_run_in_their_order() -> None:
    """Whitespace first or last, then case; what says `untagged` says nothing."""
    rule = TagRule("t", normalize=(Normalize.TRIM, Normalize.LOWER))
    assert [normalised(rule, text) for text in (" Ads\n", "  ", "UNTAGGED ", "ads")] == ["ads", "", "", "ads"]
    assert normalised(TagRule("t", normalize=(Normalize.UPPER,)), " a") == " A"


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("team-[a-z]+", "team-a", True),
        ("team-[a-z]+", "team-a1", False),
        ("team-[a-z]+", "a team-a", False),
        ("a|b", "ab", False),
        ("a", "a\n", False),
        ("(?i)a", "A", True),
        ("é+", "éé", True),
        ("(a+)+b", "a" * 256, False),  # a backtracking matcher would not come back
    ],
)
def test_a_pattern_matches_from_end_to_end(pattern: str, text: str, matches: bool) -> None:
    """Alternatives included, a last line break too."""
    assert pattern_defect(pattern) is None
    assert known(TagRule("t", pattern=pattern), [text]) == [matches]


def test_values_are_known_by_text_and_length() -> None:
    """Exactly those listed; without a list anything of up to 256 characters."""
    assert known(TagRule("t", values=("a", "b")), ["a", "A", "c"]) == [True, False, False]
    assert known(TagRule("t"), ["x" * 256, "x" * 257]) == [True, False]


def test_eras_begin_and_end_with_the_rules() -> None:
    """A start counts, an end does not."""
    rules = [
        TagRule("a", effective_until_us=10),
        TagRule("a", effective_from_us=10),
        TagRule("b", "", effective_from_us=5),
    ]
    changes, found = eras(rules)
    assert changes == [5, 10]
    names = [[(rule.key, rule.effective_from_us) for rule in found[bisect_right(changes, at)]] for at in (4, 5, 9, 10)]
    assert names == [[("a", None)], [("a", None), ("b", 5)], [("a", None), ("b", 5)], [("a", 10), ("b", 5)]]
