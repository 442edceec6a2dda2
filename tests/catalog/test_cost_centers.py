"""Which cost centre a tag set has at a time, and when two rules cannot both stand."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from lineitem.catalog.cost_centers import UNALLOCATED, CostCenters, undecided
from lineitem.catalog.model import CostCenterRule


def rule(center: str, start: int | None = None, until: int | None = None, **when: str) -> CostCenterRule:
    return CostCenterRule(center, tuple(sorted(when.items())), start, until)


def test_the_most_specific_rule_in_force() -> None:
    """More keys win; the time is the line item's; what no rule is for is unallocated."""
    centers = CostCenters([rule("1", team="a"), rule("2", 100, 200, team="a", env="prod"), rule("3", 150, team="b")])
    prod = {"team": "a", "env": "prod", "else": "x"}
    assert [centers.at(prod, time) for time in (99, 100, 199, 200)] == ["1", "2", "2", "1"]
    assert [centers.at({"team": "b"}, time) for time in (149, 150)] == [UNALLOCATED, "3"]
    assert centers.at({}, 150) == UNALLOCATED
    assert CostCenters([]).at(prod, 0) == UNALLOCATED
    assert CostCenters([rule("rest")]).at({}, 0) == "rest"


def test_a_tie_is_none_where_a_third_rule_decides_all_the_time() -> None:
    """Two rules with one key each are well with a rule for both, as long as both are in force."""
    pair = [rule("1", team="a"), rule("2", env="b")]
    assert [found[:2] for found in undecided(pair)] == [(0, 1)]
    assert undecided([*pair, rule("3", team="a", env="b")]) == []
    assert [found[:2] for found in undecided([*pair, rule("3", 100, team="a", env="b")])] == [(0, 1)]
    assert undecided([rule("1", None, 100, team="a"), rule("2", 100, None, team="a")]) == []
    assert [found[:2] for found in undecided([rule("1", None, 101, team="a"), rule("2", 100, team="a")])] == [(0, 1)]


TIMES = st.none() | st.integers(0, 4)
RULES = st.lists(
    st.builds(
        lambda when, start, length: CostCenterRule(
            "", tuple(sorted(when.items())), start, None if length is None else (start or 0) + length
        ),
        st.dictionaries(st.sampled_from("xyz"), st.sampled_from("01"), max_size=3), TIMES, st.none() | st.integers(1, 3),
    ),
    max_size=5,
)  # fmt: skip


@given(RULES)
def test_what_is_accepted_is_decided(drawn: list[CostCenterRule]) -> None:
    """Against the definition: no tag set at any time has two rules with the most keys, and the one there is is found."""
    rules = [
        CostCenterRule(str(at), one.when, one.effective_from_us, one.effective_until_us) for at, one in enumerate(drawn)
    ]
    tied = False
    centers = CostCenters(rules)
    for values, time in product(product((None, "0", "1"), repeat=3), range(-1, 8)):
        tags = {key: value for key, value in zip("xyz", values, strict=True) if value is not None}
        matching = [
            one
            for one in rules
            if (one.effective_from_us is None or one.effective_from_us <= time)
            and (one.effective_until_us is None or time < one.effective_until_us)
            and one.when == tuple((key, tags[key]) for key, _ in one.when if key in tags)
        ]
        most = max((len(one.when) for one in matching), default=0)
        best = [one for one in matching if len(one.when) == most]
        if len(best) > 1:
            tied = True
        else:
            assert centers.at(tags, time) == (best[0].cost_center if best else UNALLOCATED)
    assert tied == bool(undecided(rules))
