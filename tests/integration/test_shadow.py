"""Shadow rating: drafts priced over real usage agree with the ledger and the oracle, and leave no trace."""

from __future__ import annotations

import copy
import json
import random
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lineitem.app import App
from lineitem.catalog.load import parse_catalog
from lineitem.catalog.model import Catalog
from lineitem.core.errors import InputError, IntegrityError, Refused, UsageError
from lineitem.core.money import nano_to_text
from lineitem.core.period import Month
from lineitem.ledger.shadow import Candidate, Wanted
from lineitem.ledger.shadow_rows import Comparison, Trial
from tests.acceptance.command import Command
from tests.integration.drive import Space, World
from tests.integration.oracle import FOLDS, Oracle
from tests.integration.test_read import CATALOG, SECOND_VERSION, event, ingest
from tests.strategies import ACCOUNTS, CHANGE, EDGES, START, catalogs, cut, file_of, prices, repeated, usage

NOW = datetime(2026, 12, 15, tzinfo=UTC)
MIDWAY = datetime(2026, 10, 31, 23, 20, 30, tzinfo=UTC)
LATELY = Wanted()
EVERYTHING = Wanted(Month(2026, 9), Month(2026, 11))
law = settings(suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.reuse, Phase.generate])

Amounts = dict[tuple[str, str], int]
"""(account, price) -> nano-units; zeros left out."""


@pytest.fixture
def world(ledger: App) -> World:
    """A ledger to live in."""
    return World(ledger)


def without_minimums(catalog: dict[str, Any]) -> dict[str, Any]:
    """The catalog without the least that months cost, which shadow counts of months that have not ended, too."""
    for book in (
        *catalog["pricebooks"],
        *(own for one in catalog["accounts"]["list"] for own in one.get("overrides", [])),
    ):
        for price in book["prices"]:
            price.pop("minimum", None)
    return catalog


def tried(app: App, text: str | Catalog, wanted: Wanted = LATELY, namespace: str = "default") -> Comparison:
    """One draft, rated."""
    catalog = parse_catalog(text, "draft") if isinstance(text, str) else text
    return app.shadow(namespace, [Candidate("draft", catalog)], wanted, lambda done, total: None)


def rows_of(found: Comparison) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows of the only draft by account and price."""
    (trial,) = found.trials
    rows = [row.document() for row in trial.rows]
    assert len({(row["account"], row["price"], row["currency"]) for row in rows}) == len(rows)
    return {(row["account"], row["price"]): row for row in rows}


def summed(trial: Trial, side: str) -> Amounts:
    """One side of all rows, whatever their currency."""
    sums: Amounts = {}
    for row in trial.rows:
        key = (row.account, row.price)
        sums[key] = sums.get(key, 0) + getattr(row, side)
    return {key: nano for key, nano in sums.items() if nano}


def expected(oracle: Oracle) -> Amounts:
    """What the oracle says of all months, those that have ended settled."""
    months = ["2026-09", "2026-10", "2026-11"]
    for month in months:
        oracle.settle(month)
    sums: Amounts = {}
    for (account, price, month), (_, nano) in oracle.totals().items():
        if month in months:  # what is due in advance for December is not asked for
            sums[(account, price)] = sums.get((account, price), 0) + nano
    return {key: nano for key, nano in sums.items() if nano}


def running_events(space: Space) -> dict[tuple[str, str, str], int]:
    """Events of running usage by account, price and currency."""
    found = space.rows(
        "select a.account, p.price, p.currency, sum(x.events)::bigint from ledger.accumulator x"
        " join catalog.namespace n on n.namespace_key = x.namespace_key and n.namespace = %(namespace)s"
        " join catalog.account a using (account_key) join catalog.price p using (price_key) group by 1, 2, 3"
    )
    return {(account, price, currency): events for account, price, currency, events in found if events}


def contents(app: App) -> tuple[dict[str, list[Any]], dict[str, bytes]]:
    """Every row of every table, the state of every sequence, and every file of the data folder."""
    names = app.control.execute(
        "select format('%I.%I', schemaname, relname) from pg_stat_user_tables order by 1"
    ).fetchall()
    tables = {
        name: app.control.execute(f"select t::text from {name} t order by 1").fetchall()
        for (name,) in names
        if app.control.execute("select has_table_privilege(%s, 'select')", (name,)).fetchone() == (True,)
    }
    assert {"ledger.line_item", "ledger.batch", "ledger.accumulator", "ingest.identity", "catalog.price"} <= set(tables)
    tables["sequences"] = app.control.execute(
        "select schemaname, sequencename, last_value from pg_sequences"
    ).fetchall()
    folder = app.config.data_dir
    return tables, {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- laws


def test_what_is_in_force_tried_on_itself_changes_nothing(world: World) -> None:
    """Any meters, folds, models, windows, late and repeated and retracted events: no delta, and live is running usage."""
    events = 0

    @settings(law, max_examples=14)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        nonlocal events
        catalog, sent = data.draw(catalogs()), data.draw(usage(40))
        now = data.draw(st.sampled_from([NOW, MIDWAY]))
        catalog = catalog if now == NOW else without_minimums(catalog)
        space = world.space(catalog, now)
        oracle = Oracle(space.name, catalog, now)
        for number, part in enumerate(data.draw(cut(data.draw(repeated(sent))))):
            space.send(file_of(part), f"stream-{number}", data.draw(st.sampled_from([1, 3, 1000])))
            oracle.send(file_of(part), f"stream-{number}")
        named = sorted(identity for identity in oracle.accepted if identity[1].startswith("e-"))
        for identity in data.draw(st.lists(st.sampled_from(named), max_size=2, unique=True)) if named else ():
            space.retract(*identity)
            oracle.retract(identity)
        draft = parse_catalog(json.dumps(catalog), "draft")
        for as_dated in (False, True):
            wanted = Wanted(EVERYTHING.since, EVERYTHING.until, as_dated=as_dated)
            if not running_events(space):
                with pytest.raises(InputError, match="usage"):
                    tried(world.app, draft, wanted, space.name)
                continue
            found = tried(world.app, draft, wanted, space.name)
            (trial,) = found.trials
            assert all(row.delta_nano == 0 for row in trial.rows)
            assert all(row.events == row.draft_events for row in trial.rows)
            assert found.not_compared == {}
            assert (trial.refusals, sum(trial.losses.values())) == ([], 0)
            assert summed(trial, "live_nano") == expected(oracle)
            billed = {(row.account, row.price, row.currency): row.events for row in trial.rows if row.events}
            assert billed == running_events(space)
            assert found.events == trial.events
            events += found.events

    holds()
    assert events > 20, "the examples are too tame"


def test_other_prices_come_to_what_the_oracle_says_of_them(world: World) -> None:
    """A draft that changes every price, over both versions, charges what the oracle charges under that catalog."""
    changed = 0

    @settings(law, max_examples=15)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        nonlocal changed
        catalog, sent = data.draw(catalogs()), data.draw(usage())
        draft = copy.deepcopy(catalog)
        for book in draft["pricebooks"]:
            book["prices"] = [
                data.draw(prices(price["id"], price["meter"])) if "meter" in price else price
                for price in book["prices"]
            ]
        space, oracle = world.space(catalog, NOW), Oracle(f"n-{changed}", draft, NOW)
        for number, part in enumerate(data.draw(cut(data.draw(repeated(sent))))):
            space.send(file_of(part), f"stream-{number}", data.draw(st.sampled_from([1, 3, 1000])))
            oracle.send(file_of(part), f"stream-{number}")
        if running_events(space):
            wanted = Wanted(EVERYTHING.since, EVERYTHING.until, as_dated=True)
            (trial,) = tried(world.app, parse_catalog(json.dumps(draft), "draft"), wanted, space.name).trials
            assert summed(trial, "draft_nano") == expected(oracle)
            changed += summed(trial, "draft_nano") != summed(trial, "live_nano")

    holds()
    assert changed > 5, "the examples are too tame"


TIERS = [{"up_to": "40", "unit_price": "0.3", "flat_price": "1.5"}, {"up_to": None, "unit_price": "0.07"}]
MODELS: list[dict[str, Any]] = [
    {"model": "per_unit", "unit_price": "0.0000000015"},
    {"model": "package", "package_size": "7", "package_price": "2"},
    {"model": "graduated", "tiers": TIERS, "included": "3"},
    {"model": "volume", "tiers": TIERS, "maximum": "9", "transform": {"divide_by": "3", "round": "up"}},
]


def every_fold_and_model() -> dict[str, Any]:
    """Twenty meters, each with a price that changes within October for half of them; three accounts in three zones."""
    meters, first, second = [], [], []
    for aggregation in FOLDS:
        for number, model in enumerate(MODELS):
            name = f"{aggregation}-{model['model']}"
            meter = {"id": name, "event_type": "a.used", "aggregation": aggregation}
            meters.append(meter if aggregation == "count" else meter | {"value": "data.v"})
            first.append({"id": name, "meter": name, "itemize": ["each", "day"][number % 2]} | model)
            second.append(first[-1] | ({"discount_rate": "0.15"} if number % 2 else {}))
    zones = {"paris": "Europe/Paris", "tokyo": "Asia/Tokyo", "chatham": "Pacific/Chatham"}
    return {
        "currency": "EUR",
        "meters": meters,
        "pricebooks": [
            {"id": "b", "version": 1, "effective_from": "2020-01-01T00:00:00+00:00", "prices": first},
            {"id": "b", "version": 2, "effective_from": CHANGE.isoformat(), "prices": second},
        ],
        "accounts": {
            "defaults": {"pricebook": "b"},
            "list": [{"id": account, "timezone": zone} for account, zone in zones.items()],
        },
    }


def many_events(number: int) -> list[bytes]:
    """Events around the edges of October, in no order, with repeats and records that are none."""
    made = random.Random(number)
    lines = []
    for n in range(150):
        at = made.choice([*EDGES, START + timedelta(minutes=made.randrange(70_000))])
        about = f'"type":"a.used","subject":"{made.choice(ACCOUNTS)}","time":"{at.isoformat()}"'
        value = made.choice([made.randrange(-5, 60), "7.25", '"x"' if made.random() < 0.2 else 3])
        lines.append(f'{{"specversion":"1.0","id":"{n}","source":"/s",{about},"data":{{"v":{value}}}}}\n'.encode())
    return made.sample(lines + lines[:20] + [b"nonsense\n"], 171)


def test_every_fold_and_model_over_late_repeated_and_retracted_events(world: World) -> None:
    """In force: no delta in any month. Doubled: what the oracle says of the doubled catalog, month by month."""
    catalog, lines = every_fold_and_model(), many_events(1)
    doubled = json.loads(json.dumps(catalog).replace('"0.07"', '"0.14"').replace('"0.0000000015"', '"0.000000003"'))
    space = world.space(catalog, NOW)
    oracles = [Oracle(space.name, catalog, NOW), Oracle(space.name, doubled, NOW)]
    for number, part in enumerate((lines[:50], lines[50:90], lines[90:])):
        if number == 2:
            space.close("2026-09")  # usage of September that comes now is late
        space.send(b"".join(part), f"stream-{number}", 60)
        for oracle in oracles:
            oracle.send(b"".join(part), f"stream-{number}")
    for identity in sorted(oracles[0].accepted)[::45]:
        space.retract(*identity)
        for oracle in oracles:
            oracle.retract(identity)
    for month in (Month(2026, 9), Month(2026, 10), Month(2026, 11)):
        wanted = Wanted(month, month, as_dated=True)
        drafts = [
            Candidate("same", parse_catalog(json.dumps(catalog), "")),
            Candidate("d", parse_catalog(json.dumps(doubled), "")),
        ]
        same, other = world.app.shadow(space.name, drafts, wanted, lambda done, total: None).trials
        assert len(same.rows) >= 40
        assert all(row.delta_nano == 0 and row.events == row.draft_events for row in same.rows)
        for trial, oracle in zip((same, other), oracles, strict=True):
            wanted_nano = {(a, p): nano for (a, p, m), (_, nano) in oracle.totals().items() if m == str(month) and nano}
            assert summed(trial, "draft_nano") == wanted_nano
        assert summed(other, "draft_nano") != summed(other, "live_nano")
    whole = tried(world.app, parse_catalog(json.dumps(catalog), ""), EVERYTHING, space.name).trials[0]
    assert {(row.account, row.price, row.currency): row.events for row in whole.rows} == running_events(space)


# --- examples


@pytest.fixture
def used(ledger: App) -> App:
    """The catalog of ``test_read`` and usage of two accounts, one of them in Paris."""
    ledger.publish("default", parse_catalog(CATALOG, "catalog"))
    events = [event("team-1", n) for n in range(1, 11)] + [event("b", 100), event("b", 0, at="2026-10-06T00:00:00Z")]
    calls = [event("b", 0, type="call", data={}, at=f"2026-10-05T{n:02d}:00:00Z") for n in range(5)]
    ingest(ledger, [*events, *calls, "not json", events[0], event("b", "many"), event("b", 1, type="other")])
    return ledger


DOUBLED = CATALOG.replace('"0.0000025"', '"0.000005"').replace("version: 1", "version: 2").replace("2020-", "2027-")


def test_twice_the_price_is_twice_the_amount(used: App) -> None:
    """To the last digit, in the rows and in the sums, whatever date the draft gives its prices."""
    found = tried(used, DOUBLED)
    rows = rows_of(found)
    assert rows[("team-1", "prompt")] == {
        "account": "team-1", "price": "prompt", "currency": "USD", "live": "0.0001375", "draft": "0.000275",
        "delta": "0.0001375", "delta_percent": "100", "events": 10, "draft_events": 10, "zero_priced": 0,
        "unpriced": 0, "not_billable": 0, "dead_lettered": 0,
    }  # fmt: skip
    assert rows[("b", "web")]["delta"] == "0"
    assert [row.account for row in found.trials[0].rows] == ["b", "team-1", "b"]
    (total,) = found.trials[0].document()["totals"]
    live = Fraction("0.0001375") + Fraction("0.00025") + Fraction("0.503") + 2 * Fraction("0.0333333335")
    assert Fraction(total["live"]) == live
    assert total["delta"] == "0.0003875"
    assert (total["max_delta"], total["accounts"], total["accounts_changed"]) == ("0.00025", 2, 2)
    assert (found.since, found.until, found.chosen) == (Month(2026, 10), Month(2026, 10), True)
    dated = tried(used, DOUBLED, Wanted(as_dated=True))
    assert [row.delta_nano for row in dated.trials[0].rows] == [0, 0, 0]


def test_a_price_that_is_missing_leaves_events_unpriced(used: App) -> None:
    """They are counted at the price that billed them; where meter and price are gone, nothing would count them."""
    line = next(line for line in DOUBLED.splitlines() if "{id: prompt," in line)
    found = tried(used, DOUBLED.replace(line + "\n", ""))
    row = rows_of(found)[("team-1", "prompt")]
    assert (row["draft"], row["delta"], row["delta_percent"]) == ("0", "-0.0001375", "-100")
    assert (row["events"], row["draft_events"], row["unpriced"]) == (10, 0, 10)
    assert found.trials[0].document()["reasons"] == {"no_price": 12}
    assert found.trials[0].losses == {"unpriced": 12, "not_billable": 0, "dead_lettered": 0}
    meter = next(line for line in DOUBLED.splitlines() if "{id: tokens," in line)
    gone = tried(used, DOUBLED.replace(line + "\n", "").replace(meter + "\n", "")).trials[0]
    assert gone.losses == {"unpriced": 0, "not_billable": 12, "dead_lettered": 0}
    assert gone.refusals == ["meter tokens has usage and can neither change nor leave: give a changed meter a new id"]


def test_a_price_of_zero_is_counted(used: App) -> None:
    """Events of months that used something and would cost nothing."""
    rows = rows_of(tried(used, DOUBLED.replace('"0.000005"', '"0"')))
    assert [rows[(account, "prompt")]["zero_priced"] for account in ("team-1", "b")] == [10, 2]
    assert rows[("b", "web")]["zero_priced"] == 0
    assert rows[("b", "prompt")]["draft_events"] == 2


def test_a_meter_that_finds_flaws_dead_letters(used: App) -> None:
    """A draft whose meter reads something the events do not have."""
    found = tried(used, DOUBLED.replace("value: data.tokens", "value: data.words"))
    row = rows_of(found)[("team-1", "prompt")]
    assert (row["dead_lettered"], row["unpriced"], row["draft"]) == (10, 0, "0")
    assert found.trials[0].document()["reasons"] == {"missing_value": 12}
    assert not found.trials[0].document()["publishable"]


def test_a_meter_that_is_new_counts_what_nothing_counted(used: App) -> None:
    """Accepted events that are not billable today stand in rows of their own."""
    more = DOUBLED.replace("pricebooks:", "  - {id: others, event_type: other, aggregation: count}\npricebooks:")
    more = more.replace(
        "    prices:\n", '    prices:\n      - {id: new, meter: others, model: per_unit, unit_price: "3"}\n'
    )
    row = rows_of(tried(used, more))[("b", "new")]
    assert (row["live"], row["draft"], row["delta"], row["delta_percent"]) == ("0", "3", "3", None)
    assert (row["events"], row["draft_events"]) == (0, 1)


def test_the_account_list_of_a_draft_moves_accounts(used: App) -> None:
    """An account it lists is priced by the pricebook it says; publishing that would be refused, and why is said."""
    book = "  - {id: vip, version: 1, effective_from: 2020-01-01T00:00:00Z, prices: [{id: prompt, meter: tokens, model:"
    moved = CATALOG.replace("accounts:", book + ' per_unit, unit_price: "1"}]}\naccounts:')
    moved = moved.replace("{id: team-1,", "{id: team-1, pricebook: vip,")
    found = tried(used, moved)
    rows = rows_of(found)
    assert (rows[("team-1", "prompt")]["draft"], rows[("b", "prompt")]["delta"]) == ("55", "0")
    assert [problem[:38] for problem in found.trials[0].refusals] == ["account team-1 has usage under pricebo"]


def test_what_publishing_would_refuse_is_said(used: App) -> None:
    """A published version with other content is tried all the same."""
    found = tried(used, CATALOG.replace('"0.0000025"', '"0.000005"'))
    assert rows_of(found)[("team-1", "prompt")]["draft"] == "0.000275"
    assert [problem.split(":")[0] for problem in found.trials[0].refusals] == [
        "pricebook standard version 1 is already published with other content"
    ]


def test_the_first_new_version_reaches_back_and_the_last_one_on(ledger: App) -> None:
    """Two new versions share the time where the second starts; those published before count no more."""
    ledger.publish("default", parse_catalog(CATALOG, "catalog"))
    ingest(ledger, [event("a", 1, at=f"2026-10-{day}T00:00:00Z") for day in (10, 15, 25)])
    third = SECOND_VERSION[SECOND_VERSION.index("  - id: standard\n    version: 2") : SECOND_VERSION.index("accounts:")]
    third = third.replace("version: 2", "version: 3").replace("0.000003", "0.000007").replace("10-20T", "10-12T")
    draft = SECOND_VERSION.replace("2026-10-20", "2026-10-11").replace("accounts:", third + "accounts:")
    assert rows_of(tried(ledger, draft))[("a", "prompt")]["draft"] == nano_to_text(3000 + 7000 + 7000)
    dated = Wanted(as_dated=True)
    assert rows_of(tried(ledger, draft, dated))[("a", "prompt")]["draft"] == nano_to_text(2500 + 7000 + 7000)


def test_months_are_those_of_the_accounts(used: App) -> None:
    """An event in the last hour of October in UTC is of November in Paris."""
    at = "2026-10-31T23:30:00Z"
    ingest(used, [event("team-1", 1000, at=at), event("b", 2000, at=at)])
    october, november = (rows_of(tried(used, DOUBLED, Wanted(m, m))) for m in (Month(2026, 10), Month(2026, 11)))
    assert (october[("team-1", "prompt")]["live"], october[("b", "prompt")]["live"]) == ("0.0001375", "0.00525")
    assert {key: row["live"] for key, row in november.items()} == {("team-1", "prompt"): "0.0025"}
    both = tried(used, DOUBLED)
    assert (both.since, both.until) == (Month(2026, 10), Month(2026, 11))
    assert rows_of(both)[("team-1", "prompt")]["draft"] == "0.005275"


def test_only_the_accounts_asked_for(used: App) -> None:
    """Their rows are the same as without the choice."""
    everybody, only = rows_of(tried(used, DOUBLED)), tried(used, DOUBLED, Wanted(accounts=("b",)))
    assert rows_of(only) == {key: row for key, row in everybody.items() if key[0] == "b"}
    assert only.events == 7


def test_drafts_side_by_side_are_each_as_alone(used: App) -> None:
    """Several drafts in one pass do not see each other."""
    texts = [DOUBLED, CATALOG, DOUBLED.replace('"0.000005"', '"1"'), SECOND_VERSION.replace("data.tokens", "data.x")]
    drafts = [Candidate(str(number), parse_catalog(text, "draft")) for number, text in enumerate(texts)]
    together = used.shadow("default", drafts, Wanted(), lambda done, total: None)
    assert len({str(trial.rows) for trial in together.trials}) == len(texts)
    for draft, trial in zip(drafts, together.trials, strict=True):
        (alone,) = used.shadow("default", [draft], Wanted(), lambda done, total: None).trials
        assert trial == alone


def test_nothing_is_written(used: App) -> None:
    """Every table, sequence and file is as it was, also after drafts with new meters, accounts and namespaces."""
    more = DOUBLED.replace("list: [", "list: [{id: newcomer, name: New}, ").replace("id: calls,", "id: rings,")
    before = contents(used)
    tried(used, more.replace("meter: calls", "meter: rings"))
    with pytest.raises(Refused, match="no catalog"):
        tried(used, DOUBLED, namespace="unheard-of")
    assert contents(used) == before


def test_progress_goes_up_to_all_records(used: App) -> None:
    """Records decoded so far, of how many."""
    seen: list[tuple[int, int]] = []
    ingest(used, [event("a", 1)])
    used.shadow("default", [Candidate("d", parse_catalog(DOUBLED, "d"))], Wanted(), lambda *both: seen.append(both))
    assert sorted(done for done, _ in seen)[-1] == 22
    assert {total for _, total in seen} == {22}
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("wanted", "error", "text"),
    [
        (Wanted(Month(2026, 11), Month(2026, 10)), UsageError, "lies after"),
        (Wanted(Month(2025, 1), Month(2025, 12)), InputError, "no usage from 2025-01 to 2025-12"),
        (Wanted(since=Month(2027, 1)), InputError, "no usage from 2027-01 to 2027-01"),
        (Wanted(accounts=("b", "nobody")), InputError, "no account 'nobody'"),
    ],
)
def test_what_cannot_be_rated_is_named(used: App, wanted: Wanted, error: type[Exception], text: str) -> None:
    """Months the wrong way round, months without usage, accounts nobody knows."""
    with pytest.raises(error, match=text):
        tried(used, DOUBLED, wanted)


def test_a_ledger_without_usage_says_so(ledger: App) -> None:
    """There is nothing to try a price on."""
    ledger.publish("default", parse_catalog(CATALOG, "catalog"))
    with pytest.raises(InputError, match="has no usage"):
        tried(ledger, DOUBLED)


def test_an_altered_segment_is_no_usage(used: App) -> None:
    """What cannot be read again as it was is named, not rated."""
    (name,) = used.segments.names()
    path = used.config.data_dir / "segments" / name
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(IntegrityError, match="damaged"):
        tried(used, DOUBLED)


# --- the command


@pytest.fixture
def command(used: App, tmp_path: Path) -> Command:
    """The program on the ledger of ``used``; ``draft.yaml``, ``same.yaml`` and ``wrong.yaml`` lie in its folder."""
    assert used.config.database_url is not None
    (tmp_path / "draft.yaml").write_text(DOUBLED)
    (tmp_path / "same.yaml").write_text(CATALOG)
    (tmp_path / "wrong.yaml").write_text(DOUBLED.replace("model: per_unit", "model: per_unlt"))
    return Command(used.config.data_dir, {"LINEITEM_DATABASE_URL": used.config.database_url})


def test_the_answer_as_json(command: Command, tmp_path: Path) -> None:
    """One document; money is text, counts are numbers, `--top` cuts nothing off."""
    document = command.run("catalog", "shadow", tmp_path / "draft.yaml", "--json", "--top", "1").document
    rows, totals = document.pop("rows"), document.pop("totals")
    assert document == {
        "namespace": "default", "since": "2026-10", "until": "2026-10", "as_dated": False, "events": 17,
        "draft": str(tmp_path / "draft.yaml"), "publishable": True, "refusals": [], "draft_events": 17,
        "zero_priced": 0, "unpriced": 0, "not_billable": 0, "dead_lettered": 0, "reasons": {}, "not_compared": [],
            "compared_in_part": [], "reasons_not_compared": {},
    }  # fmt: skip
    assert [(row["account"], row["price"], row["delta"]) for row in rows] == [
        ("b", "prompt", "0.00025"), ("team-1", "prompt", "0.0001375"), ("b", "web", "0"),
    ]  # fmt: skip
    assert totals == [
        {"currency": "USD", "live": "0.570054167", "draft": "0.570441667", "delta": "0.0003875",
         "delta_percent": "0.07", "max_delta": "0.00025", "accounts": 2, "accounts_changed": 2},
    ]  # fmt: skip
    both = command.run("catalog", "simulate", tmp_path / "draft.yaml", tmp_path / "same.yaml", "--json").document
    assert [[total["delta"] for total in draft["totals"]] for draft in both["drafts"]] == [["0.0003875"], ["0"]]
    assert both["drafts"][0] == {name: document[name] for name in both["drafts"][0] if name != "totals"} | {
        "totals": totals
    }


def test_the_answer_for_people(command: Command, tmp_path: Path) -> None:
    """The largest changes, the sums, whether the draft could be published; which months were chosen on stderr."""
    answer = command.run("catalog", "shadow", tmp_path / "draft.yaml", "--top", "1")
    assert "b         prompt   USD" in answer.out
    assert "team-1" not in answer.out
    assert "The 1 largest changes of 3" in answer.out
    assert "can be published as it is" in answer.out
    assert "2026-10 to 2026-10" in answer.err
    side = command.run("catalog", "simulate", tmp_path / "draft.yaml", tmp_path / "same.yaml", "--since", "2026-10")
    assert [line.split() for line in side.out.splitlines() if "delta %" in line] == [["delta", "%", "0.07", "0"]]
    assert side.err == ""


def test_wrong_calls_are_named(command: Command, tmp_path: Path) -> None:
    """A wrong draft says what `check` says; nothing leaves a traceback."""
    draft, wrong = tmp_path / "draft.yaml", tmp_path / "wrong.yaml"
    answers: list[tuple[int, list[str | Path], str]] = [
        (1, [tmp_path / "none.yaml"], "there is no such catalog file"),
        (2, [draft, "--since", "October"], "is not a period"),
        (2, [draft, "--since", "2026-11", "--until", "2026-10"], "lies after"),
        (1, [draft, "--namespace", "unheard-of"], "has no catalog"),
    ]
    for code, arguments, text in answers:
        assert text in command.refused("catalog", "shadow", *arguments, code=code)
    assert "unknown price model 'per_unlt'" in command.refused("catalog", "simulate", draft, wrong)
    said = [command.run("catalog", what, wrong) for what in ("check", "shadow", "simulate")]
    assert {(one.code, one.err) for one in said} == {(1, said[0].err)}
