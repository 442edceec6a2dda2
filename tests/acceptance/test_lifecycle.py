"""A price's way through the command line: who may do what, what the answers look like, what calls are refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lineitem.kit.embedded import EmbeddedServer
from tests.acceptance.command import CATALOG, Command

POLICY = "publishing: {approval: {required: true, four_eyes: true}}\n"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Command, Path]]:
    """A ledger whose catalog asks for four eyes, and the file of the catalog that is to follow."""
    folder = tmp_path_factory.mktemp("desk")
    first, second = folder / "first.yaml", folder / "second.yaml"
    first.write_text(CATALOG + POLICY)
    second.write_text(
        CATALOG.replace("name: x", "name: y")
        + "  list: [{id: acme, overrides: [{version: 1, effective_from: 2000-01-01T00:00:00Z, prices: [\n"
        + '    {id: web, meter: requests, model: per_unit, unit_price: "0.001"}]}]}]\n'
        + POLICY
    )
    command = Command(folder / "data")
    with EmbeddedServer(command.data_dir):
        assert command.json("catalog", "publish", first, "--as", "ana")["changed"]
        yield command, second


def test_from_draft_to_published(desk: tuple[Command, Path]) -> None:
    """ana drafts, ben approves, ana publishes; the list tells it all, and the line item names the override."""
    run, file = desk
    assert "needs an approved draft" in run.run("catalog", "publish", file).err
    (change,) = [one for one in run.json("catalog", "diff", file)["changes"] if one["what"] == "price"]
    assert change["id"] == "@account/acme@1/web"
    assert (change["affects"]["accounts"], change["affects"]["first"]) == (1, ["acme"])
    made = run.json("catalog", "draft", file, "--as", "ana", "--note", "a discount")
    number = str(made["draft"])
    assert (made["state"], made["author"]) == ("draft", "ana")
    assert run.json("catalog", "review", number, "--note", "well", env={"LINEITEM_ACTOR": "cem"})["state"] == "reviewed"
    refused = run.run("catalog", "approve", number, "--as", "ana")
    assert refused.code == 1
    assert "its author cannot approve it" in refused.err
    assert run.run("catalog", "publish", "--draft", number).code == 1
    assert run.json("catalog", "approve", number, "--as", "ben")["state"] == "approved"
    done = run.json("catalog", "publish", "--draft", number, "--as", "ana")
    assert (done["state"], done["revision"], done["changed"], done["digest"]) == ("published", 2, True, made["digest"])
    listed: dict[str, Any] = run.json("catalog", "list")
    assert [(step["act"], step["by"]) for step in listed["drafts"][0]["steps"]] == [
        ("draft", "ana"), ("review", "cem"), ("approve", "ben"), ("publish", "ana"),
    ]  # fmt: skip
    assert [(one["pricebook"], one["state"], one["published_by"]) for one in listed["versions"]] == [
        ("@account/acme", "published", "ana"), ("standard", "published", "ana"),
    ]  # fmt: skip
    event = b'{"specversion":"1.0","id":"1","source":"/s","type":"http.request","subject":"acme",'
    usage = file.with_name("usage.ndjson")
    usage.write_bytes(event + b'"time":"2026-01-01T00:00:00Z","data":{"status":200}}\n')
    run.json("ingest", usage)
    (item,) = run.run("line-items", "--account", "acme", "--json").lines
    assert (item["pricebook"], item["version"], item["price"], item["amount"]) == ("@account/acme", 1, "web", "0.001")
    assert "@account/acme version 1" in run.run("explain", item["id"]).out
    assert "published" in run.run("catalog", "list").out


def test_retire_and_rollback_make_drafts_under_the_policy(desk: tuple[Command, Path]) -> None:
    """And take effect once somebody else has approved them."""
    run, _ = desk
    ended = run.json("catalog", "retire", "@account/acme", "1", "--until", "2027-01-01T00:00:00Z", "--as", "ana")
    number = str(ended["draft"])
    assert run.json("catalog", "approve", number, "--as", "ben")["what"] == "retirement"
    run.json("catalog", "publish", "--draft", number)
    (own, _) = run.json("catalog", "list")["versions"]
    assert own["effective_until"] == "2027-01-01T00:00:00Z"
    back = run.json("catalog", "rollback", "standard", "1", "--from", "2027-02-01T00:00:00Z", "--as", "ana")
    assert (back["version"], back["draft"]) == (2, int(number) + 1)
    text = run.run("catalog", "rollback", "standard", "1", "--from", "2027-02-01T00:00:00Z").out
    assert "It needs approval" in text
    assert run.json("verify")["ok"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("publish",), 2, "name what to publish"),
        (("publish", "x.yaml", "--draft", "1"), 2, "name what to publish"),
        (("publish", "--draft", "0"), 2, "--draft"),
        (("approve", "99"), 1, "there is no draft 99"),
        (("approve", "x"), 2, "DRAFT"),
        (("retire", "standard", "1", "--until", "tomorrow"), 2, "not an instant"),
        (("retire", "standard", "1", "--until", "2026-02-30T00:00:00Z"), 2, "does not exist"),
        (("retire", "standard", "1"), 2, "--until"),
        (("rollback", "standard", "9", "--from", "2030-01-01T00:00:00Z"), 1, "version 9 is not published"),
        (("rollback", "nothing", "1", "--from", "2030-01-01T00:00:00Z"), 1, "nothing version 1 is not published"),
        (("approve", "1", "--as", " "), 2, "not a name to act under"),
        (("approve", "1", "--as", "a\nb"), 2, "not a name to act under"),
    ],
)
def test_refused_calls(desk: tuple[Command, Path], arguments: tuple[str, ...], code: int, text: str) -> None:
    """Each says what is wrong; nothing is changed by any."""
    run, _ = desk
    answer = run.run("catalog", *arguments)
    assert answer.code == code, answer
    assert text in answer.err
