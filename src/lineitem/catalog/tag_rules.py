"""What a tag may say and when: values normalised, checked against the registry, and the rules in force at a time. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from lineitem.catalog.model import Normalize, TagRule
from lineitem.catalog.ranges import END_OF_TIME_US

UNTAGGED = "untagged"
"""The value that stands for no value; as a tag that is missing, wherever it comes from."""
TAG_CHARS_MAX = 256
"""Characters of a tag's value."""
PATTERN_CHARS_MAX = 256
"""Characters of a pattern."""

_STEPS: dict[Normalize, Callable[[str], str]] = {
    Normalize.TRIM: str.strip,
    Normalize.LOWER: str.lower,
    Normalize.UPPER: str.upper,
}


class Dated(Protocol):
    """Something that counts for event times in ``[effective_from, effective_until)``, microseconds since the epoch."""

    @property
    def effective_from_us(self) -> int | None:
        """The start; None for no bound."""

    @property
    def effective_until_us(self) -> int | None:
        """The end, excluded; None for no bound."""


D = TypeVar("D", bound=Dated)


def bounds_us(one: Dated) -> tuple[int, int]:
    """Start and end, an open one as far away as the ledger reaches."""
    start = -END_OF_TIME_US if one.effective_from_us is None else one.effective_from_us
    return start, END_OF_TIME_US if one.effective_until_us is None else one.effective_until_us


def eras(rules: Iterable[D]) -> tuple[list[int], list[tuple[D, ...]]]:
    """When the rules in force change, and which are in force: ``found[bisect_right(changes, time_us)]``."""
    dated = [(bounds_us(rule), rule) for rule in rules]
    changes = sorted({bound for bounds, _ in dated for bound in bounds if abs(bound) < END_OF_TIME_US})
    starts = [-END_OF_TIME_US, *changes]
    return changes, [tuple(rule for (start, end), rule in dated if start <= at < end) for at in starts]


def normalised(rule: TagRule, text: str) -> str:
    """A value as the registry looks at it; what says `untagged` says nothing."""
    for step in rule.normalize:
        text = _STEPS[step](text)
    return "" if text == UNTAGGED else text


def known(rule: TagRule, texts: Sequence[str]) -> list[bool]:
    """Whether each normalised text is a value the rule knows."""
    if rule.values:
        values = frozenset(rule.values)
        return [text in values and len(text) <= TAG_CHARS_MAX for text in texts]
    if rule.pattern is None:
        return [len(text) <= TAG_CHARS_MAX for text in texts]
    return [
        len(text) <= TAG_CHARS_MAX and matches
        for text, matches in zip(texts, _matches(rf"\A(?:{rule.pattern})\z", texts), strict=True)
    ]


def pattern_defect(pattern: str) -> str | None:
    """What is wrong with a pattern, None for nothing."""
    try:
        _matches(pattern, [""])  # by itself first: `a)|(b` would be well-formed inside a group
        _matches(rf"\A(?:{pattern})\z", [""])
    except ValueError as error:
        return str(error).partition("\n")[0]
    return None


def _matches(pattern: str, texts: Sequence[str]) -> list[bool]:
    """RE2 (which Arrow carries) needs time linear in the text for any pattern, so a catalog cannot stall ingest."""
    import pyarrow as pa  # a catalog without patterns is checked without loading it
    import pyarrow.compute as pc

    found: list[bool] = pc.match_substring_regex(pa.array(texts, pa.string()), pattern).to_pylist()
    return found
