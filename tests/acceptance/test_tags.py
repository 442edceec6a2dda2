"""Tags through the command line: each policy's fate of an event, the reports, and what a wrong registry is told."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from lineitem.kit.embedded import EmbeddedServer
from tests.acceptance.command import CATALOG, Command, line, ndjson

REGISTRY = """\
  list: [{id: acme, tags: {team: home, region: eu}}]
tags:
  - {key: team, from: data.team, normalize: [trim, lower], values: [ads, home], required_for: [llm.completion],
     missing: account, unknown: dead_letter}
  - {key: env, from: data.env, pattern: "prod|test-[0-9]+", required_for: [llm.completion], missing: dead_letter,
     unknown: untagged}
  - {key: app, from: data.app, missing: untagged}
cost_centers:
  - {when: {team: ads}, cost_center: "42"}
"""
FATES = {
    "plain": ({"team": " ADS", "env": "prod", "app": "web"}, {"team": "ads", "env": "prod", "app": "web"}),
    "from-the-account": ({"env": "test-1", "app": "web"}, {"team": "home", "env": "test-1", "app": "web"}),
    "missing-untagged": ({"team": "ads", "env": "prod"}, {"team": "ads", "env": "prod", "app": "untagged"}),
    "unknown-untagged": ({"team": "ads", "env": "qa", "app": "x"}, {"team": "ads", "env": "untagged", "app": "x"}),
    "unknown-accepted": ({"team": "ads", "env": "prod", "app": "Any"}, {"team": "ads", "env": "prod", "app": "Any"}),
    "missing-refused": ({"team": "ads", "app": "web"}, "missing_tag: tag 'env' is missing: data.env is empty"),
    "unknown-refused": (
        {"team": "asd", "env": "prod"}, "unknown_tag: tag 'team' is 'asd', which is not registered; did you mean 'ads'?",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """A ledger with a registry and one event for each policy."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "catalog.yaml").write_text(CATALOG + REGISTRY)
    lines = [line(name, data={"tokens": 1000, **data}) for name, (data, _) in FATES.items()]
    run = Command(folder / "data")
    with EmbeddedServer(run.data_dir):
        assert run.json("catalog", "publish", folder / "catalog.yaml")["changed"]
        counts = run.json("ingest", ndjson(folder / "usage.ndjson", lines))
        assert (counts["received"], counts["itemized"], counts["dead_lettered"]) == (7, 5, 2)
        yield run


def test_each_policys_fate(desk: Command) -> None:
    """What is billed carries the tags that were meant; what is not says which key and value was wrong."""
    billed = {one["event_id"]: one["tags"] for one in desk.line_items()}
    assert billed == {name: tags | {"region": "eu"} for name, (_, tags) in FATES.items() if isinstance(tags, dict)}
    letters = desk.json("dlq", "list")["dead_letters"]
    told = sorted(f"{one['reason']}: {one['detail']}" for one in letters)
    assert told == sorted(text for _, text in FATES.values() if isinstance(text, str))
    assert desk.json("verify", "--deep")["ok"]


def test_the_reports(desk: Command) -> None:
    """Their parts add up to the line items; people get the same as tables."""
    whole = sum(Decimal(one["amount"]) for one in desk.line_items("--period", "2026-01"))
    keys = {one["key"]: one for one in desk.json("tags", "coverage", "--period", "2026-01")["keys"]}
    assert {key: (one["registered"], one["coverage"]) for key, one in keys.items()} == {
        "app": (True, "80"), "env": (True, "80"), "region": (False, "100"), "team": (True, "100"),
    }  # fmt: skip
    assert all(Decimal(one["tagged"]) + Decimal(one["untagged"]) == whole for one in keys.values())
    centers = desk.json("tags", "cost-centers", "--period", "2026-01")["cost_centers"]
    assert [one["cost_center"] for one in centers] == ["42", "unallocated"]
    assert sum(Decimal(one["amount"]) for one in centers) == whole
    moved = desk.json("tags", "drift", "--period", "2026-01", "--against", "2025-12", "--key", "team")["keys"]
    assert [one["new"] for one in moved] == [["ads", "home"]]
    for arguments in (
        ("coverage",),
        ("drift", "--period", "2026-01", "--against", "2025-12"),
        ("cost-centers", "--period", "2026-01"),
    ):
        shown = desk.run("tags", *arguments)
        assert shown.code == 0
        assert "USD" in shown.out
    assert "no line item has a tag" in desk.refused("tags", "coverage", "--key", "nope")


def test_a_change_of_the_registry_is_told(desk: Command, tmp_path: Path) -> None:
    """`catalog check` names file and line, `catalog diff` what would change."""
    wrong, better = tmp_path / "wrong.yaml", tmp_path / "better.yaml"
    wrong.write_text((CATALOG + REGISTRY).replace("from: data.app", "from: data."))
    number = 1 + wrong.read_text().split("\n").index("  - {key: app, from: data., missing: untagged}")
    answer = desk.run("catalog", "check", wrong)
    assert answer.code == 1
    assert f"wrong.yaml:{number}: the path" in answer.err
    better.write_text((CATALOG + REGISTRY).replace("[ads, home]", "[ads, home, shop]"))
    (change,) = desk.json("catalog", "diff", better)["changes"]
    assert (change["action"], change["what"], change["id"]) == ("changed", "tag", "team")
    assert change["fields"] == [{"field": "values", "old": "ads, home", "new": "ads, home, shop"}]


def test_where_a_tag_came_from(desk: Command) -> None:
    """`explain` says it of each tag."""
    (one,) = [one for one in desk.line_items() if one["event_id"] == "missing-untagged"]
    origins = desk.json("explain", one["id"])["tag_origins"]
    assert origins == {"app": "policy", "env": "event", "region": "account", "team": "event"}
    assert "app=untagged (from the policy)" in desk.run("explain", one["id"]).out
