"""Every amount leads back to raw records, and every line item to a signed checkpoint."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from lineitem.app import App
from lineitem.billing.explain import explain as explain_any
from lineitem.catalog.load import parse_catalog
from lineitem.core.clock import FixedClock
from lineitem.core.errors import InputError, IntegrityError, Refused
from lineitem.core.period import Month
from lineitem.kit.db import connect
from lineitem.ledger.explain import explain
from lineitem.ledger.flush import flush
from lineitem.ledger.proof import check_proof, proof
from lineitem.ledger.rating import Rater
from lineitem.ledger.read import line_items
from tests.integration.test_read import CATALOG, SECOND_VERSION, event, ingest

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
Document = dict[str, Any]


@pytest.fixture
def published(ledger: App) -> App:
    """A ledger with the catalog of ``test_read``."""
    ledger.publish("default", parse_catalog(CATALOG, "catalog"))
    return ledger


def items_of(ledger: App, account: str, **wanted: Any) -> list[Document]:
    """Line items of an account whose fields are as ``wanted``."""
    found = line_items(ledger.control, "default", account=account)
    return [one for one in found if all(one[name] == value for name, value in wanted.items())]


def why(ledger: App, item: Document, **options: Any) -> Document:
    document = explain(ledger.control, ledger.segments, "default", item["id"], **options)
    assert json.loads(json.dumps(document)) == document
    return document


def call(account: str, at: str, **changes: Any) -> Document:
    """One event that counts."""
    return event(account, 0, type="call", data={}, at=at, **changes)


def events_of(document: Document) -> list[str]:
    return [one["id"] for one in document["events"]["items"]]


def test_a_line_item_of_one_event_leads_to_its_record(published: App) -> None:
    """Price and rule, what the target came to, the batch, and the record with its trace, byte for byte."""
    wanted = event("team-1", "1.5", id="the-one", traceparent=TRACE, note="é")
    ingest(published, ["not json", event("team-1", 1000), event("other", 7), wanted])
    (item,) = items_of(published, "team-1", event_id="the-one")
    found = why(published, item)
    assert found["line_item"] == item
    price = found["price"]
    assert (price["pricebook"], price["version"], price["model"]) == ("standard", 1, "per_unit")
    assert price["rule"]["unit_price"] == "0.0000025"
    assert price["meter"]["value"] == "data.tokens"
    target = found["target"]
    assert (target["line_items"], target["quantity"], target["amount"]) == (2, "1001.5", "0.00250375")
    assert sum(Fraction(step["amount"]) for step in target["working"] if "amount" in step) == Fraction(target["amount"])
    assert target["this_line_item"] == {
        "quantity_before": "1000", "quantity_after": "1001.5",
        "posted_before": "0.0025", "total_after": "0.00250375", "amount": "0.00000375",
    }  # fmt: skip
    batch = found["batch"]
    assert (batch["batch"], batch["kind"], batch["line_items"]) == (item["batch"], "usage", 3)
    assert batch["recorded_at"] == "2026-11-02T00:00:00Z"
    (shown,) = found["events"]["items"]
    assert (shown["id"], shown["source"], shown["subject"]) == ("the-one", "/test", "team-1")
    assert (shown["traceparent"], shown["trace_id"]) == (TRACE, TRACE.split("-")[1])
    assert (shown["value"], shown["data"], shown["retracted"]) == ("1.5", {"model": "m-1", "tokens": "1.5"}, None)
    assert shown["raw"] == json.dumps(wanted)
    assert shown["record"] == 3
    assert shown["position"] == len("not json\n") + sum(
        len(line) + 1 for line in (published.config.data_dir / shown["stream"]).read_text().splitlines()[1:3]
    )
    assert published.segments.read(shown["segment"])


def test_a_line_item_of_a_window_leads_to_all_its_events(published: App) -> None:
    """Those of its account, hour and batch; neither a neighbour's nor a repeat nor one that was set aside."""
    hour = [call("a", f"2026-10-05T12:{n:02d}:00Z", id=f"in-{n}") for n in range(0, 60, 7)]
    others = [
        call("a", "2026-10-05T11:59:59Z"),
        call("a", "2026-10-05T13:00:00Z"),
        call("b", "2026-10-05T12:10:00Z"),
        call("a\\", "2026-10-05T12:10:00Z"),
        event("a", 5, at="2026-10-05T12:10:00Z"),
        hour[0],
    ]
    ingest(published, [*others, *hour])
    ingest(published, [call("a", "2026-10-05T12:30:00Z", id="in-another-batch")])
    first, second = items_of(published, "a", price="web", kind="usage", event_time="2026-10-05T12:00:00Z")
    if first["quantity"] == "1":
        first, second = second, first
    found = why(published, first)
    assert sorted(events_of(found)) == sorted(one["id"] for one in hour)
    assert found["events"]["total"] == len(hour) == int(first["quantity"]) == int(found["events"]["quantity"])
    assert events_of(why(published, second)) == ["in-another-batch"]
    few = why(published, first, events_max=2)["events"]
    assert (few["total"], few["shown"], len(few["items"])) == (len(hour), 2, 2)


def test_a_flushed_window_leads_to_events_of_every_batch_it_waited_in(published: App) -> None:
    """The line item stands in lane 0; its events in the batches recorded before the window's end."""
    assert isinstance(published.clock, FixedClock)
    for n in range(3):
        ingest(published, [call("a", f"2026-11-02T00:2{n}:00Z", id=f"waits-{n}"), call("b", "2026-11-02T00:21:00Z")])
    published.clock.advance(3_600_000_000)
    snapshot = published.pipeline("default").snapshot()
    assert flush(published.control, snapshot, published.clock.now_us(), Rater()) == 2
    ingest(published, [call("a", "2026-11-02T00:25:00Z", id="late")])
    flushed, late = sorted(items_of(published, "a", kind="usage"), key=lambda one: one["batch"].split("-")[0])
    found = why(published, flushed)
    assert (found["batch"]["kind"], found["batch"]["segment"]) == ("flush", None)
    assert sorted(events_of(found)) == ["waits-0", "waits-1", "waits-2"]
    assert found["events"]["quantity"] == flushed["quantity"] == "3"
    assert found["target"]["this_line_item"] is None  # two lanes: which came first is not stored
    assert events_of(why(published, late)) == ["late"]


def test_a_window_over_the_end_of_a_month_is_two_line_items(ledger: App) -> None:
    """A day in UTC is cut where the account's month ends, and so are the events behind it."""
    ledger.publish("default", parse_catalog(CATALOG.replace("itemize: hour", "itemize: day"), "catalog"))
    ingest(
        ledger, [call("team-1", "2026-10-31T22:30:00Z", id="october"), call("team-1", "2026-10-31T23:30:00Z", id="nov")]
    )
    by_month = {one["service_period"]: events_of(why(ledger, one)) for one in items_of(ledger, "team-1", kind="usage")}
    assert by_month == {"2026-10": ["october"], "2026-11": ["nov"]}


def test_dimensions_and_versions_tell_windows_apart(ledger: App) -> None:
    """One hour, two models and two pricebook versions: four line items, each with its own events."""
    hourly = SECOND_VERSION.replace("itemize: each", "itemize: day").replace("2026-10-20T00", "2026-10-20T12")
    ledger.publish("default", parse_catalog(hourly, "catalog"))
    made = [
        event("a", 1, id=f"{model}-{hour}", at=f"2026-10-20T{hour}:00:00Z", data={"model": model, "tokens": 1})
        for model in ("x", "y")
        for hour in (11, 13)
    ]
    ingest(ledger, made)
    found = {
        (one["tags"]["model"], one["version"]): events_of(why(ledger, one))
        for one in items_of(ledger, "a", kind="usage")
    }
    assert found == {("x", 1): ["x-11"], ("x", 2): ["x-13"], ("y", 1): ["y-11"], ("y", 2): ["y-13"]}


def test_a_fixed_due_stands_for_no_event(published: App) -> None:
    """It says so instead of showing the event that happened to come first."""
    ingest(published, [call("a", "2026-10-05T12:00:00Z")])
    (due,) = items_of(published, "a", kind="recurring")
    found = why(published, due)
    assert (due["quantity"], due["amount"]) == ("0", "0.5")
    assert (found["events"]["total"], found["events"]["items"]) == (0, [])
    assert "no event" in found["events"]["note"]


def test_a_retracted_event_is_shown_with_its_reason(published: App) -> None:
    """Both the line item it made and the one that takes it back lead to it."""
    ingest(published, [event("a", 10), event("a", 7, id="wrong")])
    published.retract("default", "/test", "wrong", "sent by a test run")
    usage, retraction = items_of(published, "a", event_id="wrong")
    if usage["kind"] == "retraction":
        usage, retraction = retraction, usage
    assert (retraction["kind"], retraction["quantity"]) == ("retraction", "-7")
    for item in (usage, retraction):
        (shown,) = why(published, item)["events"]["items"]
        assert shown["id"] == "wrong"
        assert shown["retracted"] == "sent by a test run"


def test_a_price_that_no_version_in_force_holds_is_still_explained(published: App) -> None:
    """What the newest version no longer bills, the one in force at the event's time explains; its meter cannot leave."""
    ingest(published, [event("a", 10), event("a", 7, id="wrong")])
    gone = CATALOG.replace("  - {id: tokens,", "  - {id: spare,").replace("version: 1", "version: 2")
    gone = gone.replace("meter: tokens", "meter: spare").replace("2020-01-01", "2026-10-20")
    with pytest.raises(Refused, match="can neither change nor leave"):
        published.publish("default", parse_catalog(gone, "catalog"))
    meter = next(line for line in CATALOG.splitlines() if "{id: tokens," in line)
    spare = next(line for line in gone.splitlines() if "{id: spare," in line)
    published.publish("default", parse_catalog(gone.replace(spare, f"{meter}\n{spare}"), "catalog"))
    published.retract("default", "/test", "wrong", "sent by a test run")
    (retraction,) = items_of(published, "a", kind="retraction")
    found = why(published, retraction)
    assert found["price"]["meter"]["id"] == "tokens"
    assert found["price"]["version"] == 1
    assert found["events"]["items"][0]["value"] == "7"


def test_missing_and_altered_segments_are_named(published: App) -> None:
    """What cannot be shown is not made up."""
    ingest(published, [event("a", 10)])
    (item,) = items_of(published, "a")
    (name,) = published.segments.names()
    path = published.config.data_dir / "segments" / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(IntegrityError, match="damaged"):
        why(published, item)
    path.unlink()
    with pytest.raises(IntegrityError, match="missing"):
        why(published, item)


def test_an_invoice_line_adds_up_and_leads_to_its_events(published: App) -> None:
    """Every line is counted and summed again; a supplementary invoice claims what came after the first."""
    ingest(
        published, [*[event("a", n) for n in range(1, 31)], *[call("a", f"2026-10-05T1{n}:00:00Z") for n in range(5)]]
    )
    (first,) = published.bill("default", Month(2026, 10), None).invoices
    ingest(published, [event("a", 1000, id="afterwards", traceparent=TRACE)])
    (second,) = published.bill("default", Month(2026, 10), None).invoices

    def ask(reference: str) -> Document:
        return explain_any(published.control, published.segments, "default", reference)

    whole = ask(first["number"])
    assert [line["line"] for line in whole["lines"]] == whole["invoice"]["lines"]
    assert all(line["adds_up"] for line in whole["lines"])
    assert [(line["items"]["count"], line["items"]["shown"]) for line in whole["lines"]] == [(30, 20), (6, 6)]
    later = ask(f"{second['number']}#1")
    (line,) = later["lines"]
    assert later["claim"]["predecessor"] == first["number"]
    assert line["adds_up"]
    assert line["items"]["count"] == 1
    (explained,) = line["explained"]
    assert events_of(explained) == ["afterwards"]
    assert explained["events"]["items"][0]["trace_id"] == TRACE.split("-")[1]
    assert ask(line["items"]["ids"][0])["line_item"] == explained["line_item"]
    json.dumps(whole)


@pytest.mark.parametrize("reference", ["INV-2026-000009", "INV-2026-000001#9", "INV-2026-000001#x", "#1", "", "?"])
def test_a_reference_to_nothing_is_named(published: App, reference: str) -> None:
    """Neither an invoice nor a line of one."""
    ingest(published, [event("a", 1000)])
    published.bill("default", Month(2026, 10), None)
    with pytest.raises(InputError):
        explain_any(published.control, published.segments, "default", reference)


def test_an_invoice_line_that_does_not_add_up_says_so(published: App) -> None:
    """A superuser who adds to the ledger below an invoice's cut is seen at the line."""
    ingest(published, [event("a", 1000)])
    (made,) = published.bill("default", Month(2026, 10), None).invoices
    with connect(published.dsn) as superuser:
        superuser.execute("insert into ledger.line_item select * from ledger.line_item limit 1")
    found = explain_any(published.control, published.segments, "default", made["number"])
    assert [line["adds_up"] for line in found["lines"]] == [False]


@pytest.fixture
def many(published: App) -> App:
    """Several batches and accounts, leaves with one and with many rows, a wide number, windows, facts."""
    events = [event(f"acct-{n % 3}", n, id=f"id-{n:0{1 + n % 5}d}") for n in range(90)]
    ingest(published, [*events, call("acct-0", "2026-10-05T12:00:00Z"), event("acct-1", "9" * 25)], records=50)
    published.retract("default", "/test", "id-0", "a reason")
    return published


def proofs(ledger: App) -> Iterator[Document]:
    for item in line_items(ledger.control, "default"):
        made = proof(ledger.control, ledger.notary, "default", item["id"])
        assert json.loads(json.dumps(made)) == made
        assert made["line_item"] == item
        yield made


def test_every_line_item_can_be_proven(many: App) -> None:
    """From its row to a signed checkpoint, by the document alone; nobody else's rows are shown."""
    count = 0
    for made in proofs(many):
        assert check_proof(made)
        assert made["checkpoint"] is not None
        assert made["rows"][made["row"]]["id"] == made["line_item"]["id"]
        assert {row["account"] for row in made["rows"]} == {made["line_item"]["account"]}
        assert len(made["rows"]) <= 16
        count += 1
    assert count == 94


def altered(value: Any) -> Iterator[Any]:
    """``value`` with one thing in it changed, for every thing in it."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            for change in altered(value[key]):
                made = copy.copy(value)
                made[key] = change
                yield made
    elif isinstance(value, str):
        yield value[:-1] + ("0" if value[-1:] != "0" else "1")
        yield value + "0"
    elif isinstance(value, int):
        yield value + 1
    elif value is None:
        yield "x"


def test_no_part_of_a_proof_can_be_altered(many: App) -> None:
    """Whatever the document says, changed anywhere, no longer holds."""
    made = next(one for one in proofs(many) if len(one["rows"]) > 1 and one["path"])
    for part in made:
        for change in altered(made[part]):
            assert not check_proof({**made, part: change}), (part, change)
    assert not check_proof({**made, "row": made["row"] - len(made["rows"])})
    assert not check_proof({**made, "rows": made["rows"][:-1]})
    assert not check_proof({**made, "path": made["path"][:-1]})
    assert not check_proof({**made, "batches": []})
    assert not check_proof({})
    assert not check_proof(None)


def test_an_altered_ledger_proves_nothing(many: App) -> None:
    """A superuser's change of a row, and of the text behind it, breaks the proof."""
    (item,) = [one for one in line_items(many.control, "default", account="acct-2") if one["quantity"] == "5"]
    with connect(many.dsn) as superuser:
        superuser.execute("set session_replication_role = replica")
        superuser.execute("alter table catalog.account disable trigger all")
        superuser.execute("update catalog.account set account = 'acct-x' where account = 'acct-2'")
    assert not check_proof(proof(many.control, many.notary, "default", item["id"]))


def test_without_a_checkpoint_the_chain_ends_at_the_head(many: App) -> None:
    """The proof says that nothing is signed yet."""
    for path in many.config.checkpoint_dir.glob("*.json"):
        path.unlink()
    made = next(proofs(many))
    assert made["checkpoint"] is None
    assert check_proof(made)


def test_the_program_of_the_reference_page_checks_every_proof(many: App, repository: Path, tmp_path: Path) -> None:
    """With nothing but the standard library; an altered document stops it."""
    page = (repository / "docs" / "reference" / "chain.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert set(re.findall(r"^(?:import|from) (.+?)(?: import .*)?$", program, re.MULTILINE)) == {
        "json, sys", "hashlib", "uuid",
    }  # fmt: skip
    script, document = tmp_path / "check.py", tmp_path / "proof.json"
    script.write_text(program)

    def run(made: Document) -> subprocess.CompletedProcess[str]:
        document.write_text(json.dumps(made, ensure_ascii=False))
        return subprocess.run(
            [sys.executable, "-I", script, document], capture_output=True, text=True, check=False, timeout=60
        )

    made = list(proofs(many))
    kinds = {one["line_item"]["kind"] + str(one["rows"][one["row"]]["layout"]): one for one in made}
    assert {"usage1", "usage2", "recurring1", "retraction1"} <= kinds.keys()
    for one in kinds.values():
        done = run(one)
        assert done.returncode == 0, done.stderr
        assert one["checkpoint"]["root"] in done.stdout
    made[0]["rows"][0]["amount_nano"] += "1"
    assert "the line item is not in its batch" in run(made[0]).stderr
