"""Which cost centre a line item belongs to: the most specific rule for its tags at its event time. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from decimal import Decimal

from lineitem.catalog.matrix import ambiguous
from lineitem.catalog.model import Cell, CostCenterRule
from lineitem.catalog.tag_rules import eras

UNALLOCATED = "unallocated"
"""Where amounts go that no rule is for."""


class CostCenters:
    """The rules of a catalog, ready to be asked. ``changes``: the event times (microseconds) at which answers may change."""

    def __init__(self, rules: Sequence[CostCenterRule]) -> None:
        self.changes, found = eras(rules)
        self._eras = [_by_keys(in_force) for in_force in found]

    def at(self, tags: Mapping[str, str], time_us: int) -> str:
        """The cost centre of a tag set at an event time; ``UNALLOCATED`` where no rule is for it."""
        return self.of_era(tags, bisect_right(self.changes, time_us))

    def of_era(self, tags: Mapping[str, str], era: int) -> str:
        """The same, the time told as how many of ``changes`` lie at or before it."""
        for keys, found in self._eras[era]:
            center = found.get(tuple(tags.get(key) for key in keys))
            if center is not None:
                return center
        return UNALLOCATED


def _by_keys(rules: Sequence[CostCenterRule]) -> list[tuple[tuple[str, ...], dict[tuple[str | None, ...], str]]]:
    """Rules by the keys they look at, most keys first: one look-up for each set of keys, however many rules."""
    groups: dict[tuple[str, ...], dict[tuple[str | None, ...], str]] = {}
    for rule in rules:
        keys = tuple(key for key, _ in rule.when)
        groups.setdefault(keys, {})[tuple(value for _, value in rule.when)] = rule.cost_center
    return sorted(groups.items(), key=lambda group: (-len(group[0]), group[0]))


def undecided(rules: Sequence[CostCenterRule]) -> list[tuple[int, int, str]]:
    """Pairs of rules, by position, that are in force at once and for the same line items, and why no third decides."""
    position = {id(rule): number for number, rule in enumerate(rules)}
    found: dict[tuple[int, int], str] = {}
    for in_force in eras(rules)[1]:
        # Neither more specific, no third that decides: the very question a matrix asks of its cells.
        cells = {position[id(rule)]: Cell(Decimal(0), rule.when) for rule in in_force}
        for first, second, text in ambiguous(cells):
            found.setdefault((first, second), text)
    return [(first, second, text) for (first, second), text in found.items()]
