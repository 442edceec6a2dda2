"""`tags` and `cost_centers` of a catalog file: what they come to, and every problem they can have with its line."""

from __future__ import annotations

import pytest

from lineitem.catalog.document import catalog_document, catalog_from_document, content_digest
from lineitem.catalog.load import parse_catalog
from lineitem.catalog.model import CostCenterRule, Missing, Normalize, TagRule, Unknown
from lineitem.core.errors import CatalogError

HEAD = """\
currency: USD
meters:
  - {id: calls, event_type: api.call, aggregation: count}
  - {id: tokens, event_type: llm.completion, aggregation: sum, value: data.tokens}
pricebooks: []
"""
NOVEMBER_US = 1_793_491_200_000_000


def read(text: str) -> tuple[TagRule, ...]:
    return parse_catalog(f"{HEAD}tags:\n{text}", "c.yaml").tags


def problems_of(text: str) -> list[str]:
    with pytest.raises(CatalogError) as caught:
        parse_catalog(HEAD + text, "c.yaml")
    return caught.value.problems


def test_an_entry_with_everything() -> None:
    """Each key of the reference page."""
    (rule,) = read("""\
  - key: team
    owner: finops
    description: who pays
    values: [search, ads]
    normalize: [trim, lower]
    required_for: [llm.completion, api.call]
    missing: account
    unknown: dead_letter
    from: {llm.completion: data.team, api.call: 'data["x-team"]'}
    effective_from: 2026-01-01T00:00:00Z
    effective_until: 2026-11-01T00:00:00Z
""")
    assert rule == TagRule(
        "team", "finops", "who pays", ("ads", "search"), None, (Normalize.TRIM, Normalize.LOWER),
        ("api.call", "llm.completion"), Missing.ACCOUNT, Unknown.DEAD_LETTER,
        (("api.call", 'data["x-team"]'), ("llm.completion", "data.team")), 1_767_225_600_000_000, NOVEMBER_US,
    )  # fmt: skip
    assert (rule.path_for("llm.completion"), rule.path_for("other")) == ("data.team", None)


@pytest.mark.parametrize(
    ("written", "required"),
    [
        ("{key: team}", (False, False)),
        ("{key: team, required_for: [api.call]}", (True, False)),
        ("{key: team, missing: untagged}", (True, True)),
        ("{key: team, missing: dead_letter, required_for: [llm.completion]}", (False, True)),
    ],
)
def test_of_whom_a_tag_is_asked(written: str, required: tuple[bool, bool]) -> None:
    """Of the types listed; of all where only the policy is written; of nobody where neither is."""
    (rule,) = read(f"  - {written}\n")
    assert (rule.is_required("api.call"), rule.is_required("llm.completion")) == required
    assert rule.missing in (None, Missing.UNTAGGED, Missing.DEAD_LETTER)


def test_a_path_for_every_type() -> None:
    """`from` as a text."""
    (rule,) = read("  - {key: team, from: data.team}\n")
    assert (rule.path_for("api.call"), rule.path_for("x")) == ("data.team", "data.team")


def test_a_catalog_without_them_keeps_its_digest() -> None:
    """Nothing of the registry stands in a document that has none: digests published before it are still right.

    The digest is what the version before the registry gave for this file.
    """
    catalog = parse_catalog(HEAD, "c.yaml")
    assert b"tags" not in catalog_document(catalog)
    assert content_digest(catalog) == "d85d7a0a55ea6c12ff8b9e06dd976b1287b3ec447d160efa440c7896a901b268"


def test_what_is_stored_is_what_was_read() -> None:
    """Through the canonical document and back; the order of entries is not content."""
    entries = ["{key: b, pattern: 'x[0-9]+'}", "{key: a, from: data.a, values: ['1']}"]
    centers = "cost_centers: [{when: {a: '1'}, cost_center: '42'}, {when: {}, cost_center: rest}]\n"
    one = parse_catalog(f"{HEAD}{centers}tags: [{', '.join(entries)}]", "c.yaml")
    other = parse_catalog(f"{HEAD}{centers}tags: [{', '.join(reversed(entries))}]", "c.yaml")
    assert one == other == catalog_from_document(catalog_document(one))
    assert one.cost_centers == (CostCenterRule("rest"), CostCenterRule("42", (("a", "1"),)))


def test_entries_of_one_key_beside_each_other() -> None:
    """The end is excluded, so one may start where another ends."""
    bounds = ("effective_until: 2026-11-01T00:00:00Z", "effective_from: 2026-11-01T00:00:00Z")
    rules = read("".join(f"  - {{key: team, {bound}}}\n" for bound in reversed(bounds)))
    assert [rule.effective_from_us for rule in rules] == [None, NOVEMBER_US]


@pytest.mark.parametrize(
    ("written", "line", "problem"),
    [
        ("{key: team, colour: red}", 7, "no key 'colour'"),
        ("{owner: x}", 7, "needs 'key'"),
        ("{key: team, values: [1]}", 7, "must be a text; write it in quotes"),
        ("{key: team, values: []}", 7, "'values' is empty"),
        ("{key: team, values: [a, a]}", 7, "'a' in 'values' is already defined on line 7"),
        ("{key: team, values: [untagged]}", 7, "stands for no value"),
        ("{key: team, values: [Ads], normalize: [lower]}", 7, "'Ads' never occurs, because `normalize` makes it 'ads'"),
        ("{key: team, values: [a], pattern: a}", 7, "exclude each other"),
        ("{key: team, pattern: '(a'}", 7, "the pattern cannot be read"),
        ("{key: team, pattern: 'a)|(b'}", 7, "the pattern cannot be read"),
        ("{key: team, pattern: '(?=a)'}", 7, "the pattern cannot be read"),
        (f"{{key: team, pattern: '{'a' * 257}'}}", 7, "257 characters long; at most 256"),
        ("{key: team, normalize: [lower, upper]}", 7, "undo each other"),
        ("{key: team, normalize: [lover]}", 7, "did you mean 'lower'?"),
        ("{key: team, missing: default}", 7, "not a known missing"),
        ("{key: team, unknown: untagged}", 7, "without values or a pattern no value is unknown"),
        ("{key: team, required_for: [api.cal]}", 7, "did you mean 'api.call'?"),
        ("{key: team, from: data.}", 7, "the path"),
        ("{key: team, from: {api.cal: data.team}}", 7, "did you mean 'api.call'?"),
        (
            "{key: team, effective_from: 2026-01-01T00:00:00Z, effective_until: 2026-01-01T00:00:00Z}",
            7,
            "must lie after",
        ),
        ("{key: team}\n  - {key: team, effective_from: 2026-01-01T00:00:00Z}", 8, "another entry on line 7"),
    ],
)
def test_problems_of_the_registry(written: str, line: int, problem: str) -> None:
    """Each is told with its line."""
    found = problems_of(f"tags:\n  - {written}\n")
    assert [text for text in found if text.startswith(f"c.yaml:{line}: ") and problem in text], found


def test_an_accounts_tag_that_no_entry_takes() -> None:
    """It would set aside every event of the account: told when the catalog is checked, at the account's line."""
    accounts = "accounts:\n  list:\n    - id: acme\n      tags: {team: serch, other: x}\n"
    strict = "tags: [{key: team, values: [search], normalize: [lower], unknown: dead_letter}]\n"
    (problem,) = problems_of(accounts + strict)
    assert problem.startswith("c.yaml:9: the tag 'team' of account 'acme' is")
    assert "did you mean 'search'?" in problem
    for good in ("tags: [{key: team, values: [search]}]\n", strict.replace("[search]", "[serch]")):
        assert parse_catalog(HEAD + accounts + good, "c.yaml").tags


@pytest.mark.parametrize(
    ("written", "line", "problem"),
    [
        ("  - {cost_center: '42'}\n", 7, "needs 'when'"),
        ("  - {when: {team: a}}\n", 7, "needs 'cost_center'"),
        ("  - {when: {team: a}, cost_center: 42}\n", 7, "must be text"),
        ("  - {when: {team: a}, cost_center: unallocated}\n", 7, "use another name"),
        ("  - {when: {team: a}, cost_center: '1'}\n  - {when: {team: a}, cost_center: '2'}\n", 8, "on line 7 are for the same"),
        (
            "  - {when: {team: a}, cost_center: '1'}\n  - {when: {env: b}, cost_center: '2'}\n", 8,
            "on line 7 both match env=b, team=a and neither is more specific",
        ),
    ],
)  # fmt: skip
def test_problems_of_cost_centres(written: str, line: int, problem: str) -> None:
    """Each is told with its line."""
    found = problems_of(f"cost_centers:\n{written}")
    assert [text for text in found if text.startswith(f"c.yaml:{line}: ") and problem in text], found
