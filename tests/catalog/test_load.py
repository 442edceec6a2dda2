"""A catalog file: what it comes to, and every problem it can have with the line it is on."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import pytest

from lineitem.catalog.document import catalog_document, catalog_from_document
from lineitem.catalog.load import load_catalog, parse_catalog
from lineitem.catalog.model import (
    Account,
    AccountDefaults,
    Aggregation,
    Approval,
    Catalog,
    Itemize,
    Meter,
    Publishing,
    Tier,
)
from lineitem.core.errors import CatalogError, InputError
from lineitem.core.limits import CATALOG_BYTES_MAX

CONTRACT = """\
currency: USD
meters:
  - {id: prompt_tokens, event_type: llm.completion, aggregation: sum, value: data.prompt_tokens, unit: token, dimensions: [data.model]}
  - {id: requests, event_type: http.request, aggregation: count, filter: 'data.status < 500'}
pricebooks:
  - id: standard
    version: 1
    effective_from: 2020-01-01T00:00:00Z
    prices:
      - {id: prompt, meter: prompt_tokens, model: per_unit, currency: USD, unit_price: "0.0000025", itemize: each}
      - {id: web, meter: requests, model: graduated, itemize: hour, tiers: [{up_to: "1000", unit_price: "0", flat_price: "0"}, {up_to: null, unit_price: "0.004", flat_price: "0"}]}
accounts:
  defaults: {pricebook: standard, timezone: UTC, billing: monthly}
  list: [{id: team-1, name: Team One, timezone: Europe/Paris, tags: {cost_center: "42"}}]
"""  # noqa: E501 (the published shape, as it was published)


def problems_of(text: str | bytes) -> list[str]:
    with pytest.raises(CatalogError) as caught:
        parse_catalog(text, "c.yaml")
    return caught.value.problems


def test_the_published_shape_is_read() -> None:
    """The contract's example, entry by entry."""
    catalog = parse_catalog(CONTRACT, "c.yaml")
    assert catalog.currency == "USD"
    assert catalog.meters == (
        Meter("prompt_tokens", "llm.completion", Aggregation.SUM, "data.prompt_tokens", "token", 9, ("data.model",)),
        Meter("requests", "http.request", Aggregation.COUNT, filter="data.status < 500"),
    )
    (book,) = catalog.pricebooks
    assert (book.id, book.version, book.effective_from_us) == ("standard", 1, 1_577_836_800_000_000)
    assert book.effective_until_us is None
    prompt, web = book.prices
    assert (prompt.unit_price, prompt.itemize, prompt.currency) == (Decimal("0.0000025"), Itemize.EACH, "USD")
    assert (web.tiers, web.itemize) == ((Tier(Decimal(1000)), Tier(None, Decimal("0.004"))), Itemize.HOUR)
    assert catalog.defaults == AccountDefaults("standard", "UTC", "monthly", open=True)
    assert catalog.accounts == (
        Account("team-1", "Team One", "standard", "Europe/Paris", "monthly", (("cost_center", "42"),)),
    )


def test_the_sample_is_a_catalog(repository: Path) -> None:
    """What the documentation tells a newcomer to start from is right."""
    catalog = load_catalog(repository / "examples/catalogs/sample.yaml")
    assert [meter.id for meter in catalog.meters] == ["bytes_served", "completion_tokens", "prompt_tokens", "requests"]
    assert [(book.id, book.version) for book in catalog.pricebooks] == [("standard", 1), ("standard", 2)]
    assert {account.timezone for account in catalog.accounts} >= {"Europe/Paris", "Asia/Tokyo"}
    assert dict(catalog.issuer)["timezone"] == "Europe/Dublin"


def test_a_minimal_catalog_needs_no_accounts() -> None:
    """Accounts, issuer and lists may be left out or empty."""
    catalog = parse_catalog("currency: EUR\nmeters: []\npricebooks: []\n", "c.yaml")
    assert catalog == Catalog("EUR", (), ())


def test_an_account_takes_what_the_defaults_say() -> None:
    """Pricebook, zone and billing of the defaults hold unless the account says otherwise; the id is also the name."""
    text = CONTRACT[: CONTRACT.index("accounts:")]
    text += "accounts: {defaults: {pricebook: standard, timezone: Asia/Tokyo, open: false}, list: [{id: a@b.example}]}"
    catalog = parse_catalog(text, "c.yaml")
    assert catalog.accounts == (Account("a@b.example", "a@b.example", "standard", "Asia/Tokyo"),)
    assert not catalog.defaults.open


def test_a_value_may_be_an_expression() -> None:
    """It is kept as it is written; `sum`, `max` and `latest` take one."""
    for aggregation in ("sum", "max", "latest"):
        text = CONTRACT.replace("sum, value: data.prompt_tokens", f"{aggregation}, value: 'ceil(data.ms, 100) / 1000'")
        (meter,) = (meter for meter in parse_catalog(text, "c.yaml").meters if meter.id == "prompt_tokens")
        assert (meter.aggregation.value, meter.value) == (aggregation, "ceil(data.ms, 100) / 1000")


def test_several_prices_may_bill_one_meter() -> None:
    """A base price and a surcharge read the same usage."""
    text = CONTRACT.replace("- {id: web, meter: requests", "- {id: web, meter: prompt_tokens")
    assert [price.meter for price in parse_catalog(text, "c.yaml").pricebooks[0].prices] == ["prompt_tokens"] * 2


@pytest.mark.parametrize(
    ("instant", "us"),
    [
        ("2026-01-01T00:00:00Z", 1_767_225_600_000_000),
        ("2026-01-01 01:00:00+01:00", 1_767_225_600_000_000),
        ("2025-12-31t19:00:00.000001-05:00", 1_767_225_600_000_001),
        ('"2026-01-01T00:00:00Z"', 1_767_225_600_000_000),
    ],
)
def test_an_instant_is_read_with_its_offset(instant: str, us: int) -> None:
    """The producer's spelling may vary, the instant is one."""
    catalog = parse_catalog(CONTRACT.replace("2020-01-01T00:00:00Z", instant), "c.yaml")
    assert catalog.pricebooks[0].effective_from_us == us


METERS, BOOK, PRICE, ACCOUNTS = 3, 6, 10, 13
"""Lines of the contract's example."""


@pytest.mark.parametrize(
    ("old", "new", "line", "text"),
    [
        # the whole
        ("currency: USD\n", "currency: XYZ\n", 1, "'XYZ' is not an ISO 4217 currency code"),
        ("currency: USD\n", "currency: XAU\n", 1, "XAU"),
        ("currency: USD\n", "currency: \n", 1, "the catalog needs 'currency'"),
        ("currency: USD\n", "curency: USD\ncurrency: USD\n", 1, "no key 'curency'; did you mean 'currency'?"),
        ("currency: USD\n", "<<: {a: b}\ncurrency: USD\n", 1, "no key '<<'"),
        # meters
        ("id: requests", "id: a b", METERS + 1, "'a b' is not an id"),
        ("id: requests", "id: 42", METERS + 1, "'id' must be text, not a number; write it in quotes"),
        ("id: requests", f"id: {'x' * 129}", METERS + 1, "is not an id"),
        ("id: requests", "id: prompt_tokens", METERS + 1, "'prompt_tokens' is already defined on line 3"),
        ("id: requests, ", "", METERS + 1, "meters[1] needs 'id'"),
        ("event_type: http.request, ", "", METERS + 1, "meters[1] needs 'event_type'"),
        ("event_type: http.request", "event_type: ' '", METERS + 1, "'event_type' is empty"),
        ("aggregation: count, ", "", METERS + 1, "meters[1] needs 'aggregation'"),
        ("aggregation: count", "aggregation: sum", METERS + 1, "meters[1] needs 'value'"),
        ("aggregation: count", "aggregation: cuont", METERS + 1, "not a known aggregation; did you mean 'count'?"),
        ("aggregation: count", "aggregation: [sum]", METERS + 1, "a list is not a known aggregation"),
        ("aggregation: count", "aggregation: count, value: data.x", METERS + 1, "count counts events"),
        ("value: data.prompt_tokens", "value: tokens", METERS, "did you mean data.tokens?"),
        ("value: data.prompt_tokens", "value: 5", METERS, "a path must be text"),
        ("value: data.prompt_tokens", "value: data.", METERS, "column 6"),
        ("value: data.prompt_tokens", "value: data.a / 0", METERS, "the value is wrong at column 10: divides by zero"),
        ("value: data.prompt_tokens", "value: subject * 2", METERS, "subject is a text, and arithmetic takes numbers"),
        ("value: data.prompt_tokens", f"value: data.a{' + 1' * 201}", METERS, "has more than 200 operations"),
        ("sum, value: data.prompt_tokens", "unique, value: data.a + 1", METERS, "the path is wrong at column 8"),
        ("unit: token", "unit: token, scale: 19", METERS, "'scale' must be a whole number from 0 to 18, not 19"),
        ("unit: token", "unit: token, scale: -1", METERS, "'scale' must be a whole number"),
        ("unit: token", 'unit: token, scale: "2"', METERS, "'scale' must be a whole number"),
        ("unit: token", "unit: token, scale: true", METERS, "'scale' must be a whole number"),
        ("unit: token", "unit: token, filtre: x", METERS, "no key 'filtre'; did you mean 'filter'?"),
        ("[data.model]", "[data.model, data.model]", METERS, "the dimension 'model' is already defined"),
        ("[data.model]", "[data.source, source]", METERS, "the dimension 'source' is already defined"),
        ("[data.model]", "data.model", METERS, "'dimensions' must be a list, not text"),
        ("[data.model]", "[model]", METERS, "did you mean data.model?"),
        ("[data.model]", f"[{', '.join(f'data.d{i}' for i in range(9))}]", METERS, "at most 8"),
        ("data.status < 500", "data.status <", METERS + 1, "the filter is wrong at column 14"),
        ("data.status < 500", "subject < 500", METERS + 1, "subject is a text, and < compares numbers"),
        ("data.status < 500", "data.status < true", METERS + 1, "< compares numbers only"),
        ("data.status < 500", "data.status", METERS + 1, "is a value, not a condition"),
        ("data.status < 500", "x" * 1001, METERS + 1, "at most 1000 are read"),
        ("data.status < 500", "", METERS + 1, "'filter' is empty"),
        # pricebooks
        ("version: 1", "version: 0", BOOK + 1, "'version' must be a whole number from 1"),
        ("version: 1", "version: 1.0", BOOK + 1, "write it in quotes"),
        ("    version: 1\n", "", BOOK, "pricebooks[0] needs 'version'"),
        ("    effective_from: 2020-01-01T00:00:00Z\n", "", BOOK, "pricebooks[0] needs 'effective_from'"),
        ("2020-01-01T00:00:00Z", "2020-01-01", BOOK + 2, "is not an instant with an offset"),
        ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00", BOOK + 2, "is not an instant with an offset"),
        ("2020-01-01T00:00:00Z", "2020-02-30T00:00:00Z", BOOK + 2, "names a time that does not exist"),
        ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00+99:00", BOOK + 2, "names a time that does not exist"),
        (
            "2020-01-01T00:00:00Z\n",
            "2020-01-01T00:00:00Z\n    effective_until: 2020-01-01T00:00:00Z\n",
            BOOK + 3,
            "effective_until must lie after effective_from",
        ),
        # prices
        ("id: prompt, ", "id: _p, ", PRICE, "'_p' is not an id"),
        ("id: web", "id: prompt", PRICE + 1, "the price 'prompt' is already defined on line 10"),
        ("meter: requests", "meter: request", PRICE + 1, "'request', which does not exist; did you mean 'requests'?"),
        ("model: per_unit", "model: perunit", PRICE, "price 'prompt', model: "),
        ('"0.0000025"', "0.0000025", PRICE, "0.0000025 would be read as a binary float; write it in quotes"),
        ('"0.0000025"', '"x"', PRICE, "price 'prompt', unit_price: "),
        ('up_to: "1000"', "up_to: null", PRICE + 1, "price 'web', tiers[0].up_to: "),
        ("currency: USD, ", "currency: USX, ", PRICE, "price 'prompt', currency: "),
        ("itemize: hour", "itemize: weekly", PRICE + 1, "price 'web', itemize: "),
        # accounts and issuer
        ("pricebook: standard", "pricebook: standrad", ACCOUNTS, "'standrad' does not exist; did you mean 'standard'?"),
        ("timezone: UTC", "timezone: Mars/Olympus", ACCOUNTS, "the time zone 'Mars/Olympus' does not exist"),
        ("billing: monthly", "billing: weekly", ACCOUNTS, "billing 'weekly' is not supported; use monthly"),
        ("billing: monthly", "open: no", ACCOUNTS, "'open' must be true or false, not 'no'"),
        ("billing: monthly", "billling: monthly", ACCOUNTS, "accounts.defaults has no key 'billling'"),
        ("id: team-1", "id: team-1, pricebook: x", ACCOUNTS + 1, "the pricebook 'x' does not exist"),
        ("id: team-1, ", "", ACCOUNTS + 1, "accounts.list[0] needs 'id'"),
        ("[{id: team-1", "[{id: team-1}, {id: team-1", ACCOUNTS + 1, "account 'team-1' is already defined on line 14"),
        ("Europe/Paris", "Europe/Pariss", ACCOUNTS + 1, "the time zone 'Europe/Pariss' does not exist"),
        ('"42"', "42", ACCOUNTS + 1, "'cost_center' must be text, not a number; write it in quotes"),
        ('"42"', "", ACCOUNTS + 1, "'cost_center' has no value"),
        ('{cost_center: "42"}', "[a]", ACCOUNTS + 1, "must be a mapping, not a list"),
        ("name: Team One", f"name: {'x' * 300}", ACCOUNTS + 1, "at most 256"),
        ("currency: USD\n", "currency: USD\nissuer: {name: 5}\n", 2, "'name' must be text"),
        ("currency: USD\n", "currency: USD\nissuer: {timezone: X}\n", 2, "the time zone 'X' does not exist"),
    ],
)
def test_each_problem_is_told_with_its_line(old: str, new: str, line: int, text: str) -> None:
    """One change to a good catalog, the line it is on, and what the message says."""
    assert old in CONTRACT
    problems = problems_of(CONTRACT.replace(old, new, 1))
    assert any(problem.startswith(f"c.yaml:{line}: ") and text in problem for problem in problems), problems


def test_a_price_per_event_wants_a_sum_or_a_count() -> None:
    """Only events of such meters have a value of their own to be charged."""
    text = """
currency: USD
meters:
  - {id: paid, event_type: payment, aggregation: max, value: data.amount}
pricebooks:
  - id: standard
    version: 1
    effective_from: 2026-01-01T00:00:00Z
    prices:
      - {id: fee, meter: paid, model: percentage, rate: "0.029"}
"""
    problems = problems_of(text)
    assert any("a sum or a count" in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("meter", "price", "line", "said"),
    [
        ("aggregation: sum", 'model: per_seat, unit_price: "1"', 9, "use a meter that is time_weighted"),
        ("aggregation: time_weighted", 'model: per_unit, unit_price: "1", itemize: day', 9, "leave itemize out"),
        ("aggregation: time_weighted", 'model: percentage, rate: "0.1"', 9, "a sum or a count"),
        ("aggregation: time_weighted", 'model: per_unit, unit_price: "1", on_change: continue', 9, "write restart"),
        (
            "aggregation: time_weighted, dimensions: [data.x]",
            'model: per_seat, unit_price: "1"',
            4,
            "remove `dimensions`",
        ),
        (
            "aggregation: time_weighted",
            'model: per_seat, unit_price: "1", itemize: day',
            9,
            "unknown key of a per_seat price",
        ),
        ("aggregation: time_weighted", 'model: per_seat, unit_price: "1", prorate: week', 9, "none, day, second"),
    ],
)
def test_levels_and_their_prices(meter: str, price: str, line: int, said: str) -> None:
    """A level is billed by the month, and per_seat bills nothing else."""
    text = f"""
currency: USD
meters:
  - {{id: seats, event_type: seats.changed, value: data.seats, {meter}}}
pricebooks:
  - id: standard
    version: 1
    effective_from: 2026-01-01T00:00:00Z
    prices: [{{id: seat, meter: seats, {price}}}]
"""
    (problem,) = problems_of(text)
    assert said in problem
    assert f":{line}: " in problem


@pytest.mark.parametrize("key", ["currency", "meters", "pricebooks"])
def test_required_keys(key: str) -> None:
    """Nothing can be billed without these three."""
    whole = {"currency": "USD", "meters": "[]", "pricebooks": "[]"}
    text = "".join(f"{name}: {value}\n" for name, value in whole.items() if name != key)
    (problem,) = problems_of(text)
    assert problem.startswith(f"c.yaml:1: the catalog needs '{key}'")


@pytest.mark.parametrize("text", ["[1]", "text", "42", "currency: USD\nmeters: 5\npricebooks: {}\naccounts: []"])
def test_other_shapes_are_refused(text: str) -> None:
    """A list, a text, a number, and sections of the wrong kind."""
    assert all("must be a" in problem or "needs" in problem for problem in problems_of(text))


def test_all_problems_are_told_at_once() -> None:
    """In the order of the file, each once; nobody corrects a file one message at a time."""
    text = CONTRACT.replace("count, filter", "cuont, filter").replace("UTC", "UTZ").replace("version: 1", "version: x")
    problems = problems_of(text)
    assert [problem.split(":")[1] for problem in problems] == ["4", "7", "13"]


def test_a_syntax_error_is_one_problem() -> None:
    """What cannot be read is not checked further."""
    (problem,) = problems_of("currency: USD\nmeters: [")
    assert problem.startswith("c.yaml:")
    assert "not well-formed YAML" in problem


def book(version: int, start: int, until: int | None = None) -> str:
    """One line of the pricebooks list; times are days of January 2026."""
    end = "" if until is None else f", effective_until: 2026-01-{until:02d}T00:00:00Z"
    return f"  - {{id: std, version: {version}, effective_from: 2026-01-{start:02d}T00:00:00Z{end}, prices: []}}\n"


def books(*lines: str) -> str:
    return "currency: USD\nmeters: []\npricebooks:\n" + "".join(lines)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((book(1, 1), book(1, 2)), ("c.yaml:5", "version 1 is already on line 4")),
        ((book(1, 1), book(2, 1)), ("c.yaml:5", "starts at the same time")),
        ((book(2, 1), book(1, 5)), ("c.yaml:5", "number versions by their start")),
        ((book(1, 1, 10), book(2, 5)), ("c.yaml:5", "is still in effect then; end it earlier")),
        ((book(2, 5), book(1, 1, 10)), ("c.yaml:4", "is still in effect then; end it earlier")),
    ],
)
def test_versions_that_contradict_each_other(lines: tuple[str, ...], expected: tuple[str, str]) -> None:
    """No instant has two versions, and later versions start later."""
    (problem,) = problems_of(books(*lines))
    assert problem.startswith(expected[0])
    assert expected[1] in problem


def test_versions_may_follow_touch_and_leave_gaps() -> None:
    """A version ends where the next starts, at its own end, or earlier; other pricebooks do not matter."""
    other = book(1, 1).replace("std", "other")
    catalog = parse_catalog(books(book(3, 20), book(1, 1), book(2, 5, 20), other), "c.yaml")
    assert [(one.id, one.version) for one in catalog.pricebooks] == [("other", 1), ("std", 1), ("std", 2), ("std", 3)]


def test_files_that_are_none(tmp_path: Path) -> None:
    """Missing, a folder, empty, only comments, too large, unreadable bytes: each has its sentence."""
    empty, comments, large = tmp_path / "empty.yaml", tmp_path / "comments.yaml", tmp_path / "large.yaml"
    empty.write_bytes(b"")
    comments.write_bytes(b"# later\n")
    with large.open("wb") as file:
        file.truncate(CATALOG_BYTES_MAX + 1)
    cases = {tmp_path / "none.yaml": "no such", tmp_path: "folder", empty: "empty", comments: "empty", large: "16 MiB"}
    for path, text in cases.items():
        with pytest.raises(InputError, match=text) as caught:
            load_catalog(path)
        assert caught.value.where == str(path)
        assert caught.value.do


def test_a_folder_in_the_way_is_told(tmp_path: Path) -> None:
    """A path through a file is an input error, not a traceback."""
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(InputError, match="cannot be read"):
        load_catalog(tmp_path / "file" / "catalog.yaml")


@pytest.mark.parametrize("length", range(0, len(CONTRACT), 23))
def test_a_truncated_file_never_ends_in_a_traceback(length: int) -> None:
    """Cut anywhere, it is a catalog or an input error."""
    with suppress(InputError):
        assert parse_catalog(CONTRACT[:length], "c.yaml").currency == "USD"


OVERRIDE = """\
currency: USD
meters: [{id: m, event_type: a, aggregation: count}, {id: n, event_type: a, aggregation: count}]
pricebooks:
  - {id: std, version: 1, effective_from: 2026-01-01T00:00:00Z, prices: [{id: p, meter: m, model: per_unit, unit_price: 1}]}
accounts:
  list:
    - id: a
      pricebook: std
      overrides:
        - {version: 1, effective_from: 2026-02-01T00:00:00Z, effective_until: 2026-03-01T00:00:00Z, prices: [
           {id: p, meter: m, model: per_unit, unit_price: 2}]}
        - {version: 2, effective_from: 2026-04-01T00:00:00Z, prices: []}
publishing: {approval: {required: true, four_eyes: true}}
"""


def test_overrides_are_a_pricebook_of_the_account() -> None:
    """A reserved one; versions, ranges and prices as in any other."""
    found = parse_catalog(OVERRIDE, "c.yaml")
    assert [(book.id, book.version) for book in found.pricebooks] == [
        ("@account/a", 1), ("@account/a", 2), ("std", 1),
    ]  # fmt: skip
    assert [len(book.prices) for book in found.pricebooks] == [1, 0, 1]
    assert catalog_from_document(catalog_document(found)) == found


def test_publishing_asks_for_approval() -> None:
    """Without the key nothing is asked, and the document is what it was before there was such a key."""
    assert parse_catalog(OVERRIDE, "c.yaml").publishing == Publishing(Approval(required=True, four_eyes=True))
    plain = parse_catalog(OVERRIDE.partition("publishing")[0], "c.yaml")
    assert plain.publishing is None
    assert b"publishing" not in catalog_document(plain)


@pytest.mark.parametrize(
    ("old", "new", "line", "text"),
    [
        ("{id: p, meter: m, model: per_unit, unit_price: 2}", "{id: q, meter: m, model: per_unit, unit_price: 2}", 10,
         "the override 'q' replaces no price of pricebook 'std'; use one of p"),
        ("{id: p, meter: m, model: per_unit, unit_price: 2}", "{id: p, meter: n, model: per_unit, unit_price: 2}", 10,
         "the override 'p' bills the meter 'n', the price it replaces m; use the same meter"),
        ("2026-04-01", "2026-02-15", 12, "version 1 (line 10) is still in effect then"),
        ("2026-04-01", "2026-02-01", 12, "version 1 (line 10) starts at the same time"),
        ("version: 2", "version: 1", 12, "version 1 is already on line 10"),
        ("prices: []", "prices: [], id: x", 12, "has no key 'id'"),
        ("overrides:\n", "override:\n", 9, "did you mean 'overrides'?"),
        ("pricebook: std", "pricebook: '@account/a'", 8, "the pricebook '@account/a' does not exist"),
        ("required: true, ", "", 13, "four_eyes says who may approve; add `required: true`"),
        ("required: true", "required: 1", 13, "'required' must be true or false"),
        ("approval:", "aproval:", 13, "did you mean 'approval'?"),
    ],
)  # fmt: skip
def test_each_problem_of_overrides_and_publishing(old: str, new: str, line: int, text: str) -> None:
    """With its line, as everything else."""
    assert old in OVERRIDE
    problems = problems_of(OVERRIDE.replace(old, new, 1))
    assert any(problem.startswith(f"c.yaml:{line}: ") and text in problem for problem in problems), problems


def test_an_account_with_overrides_needs_no_pricebook() -> None:
    """Its own prices are then all it has."""
    found = parse_catalog(OVERRIDE.replace("      pricebook: std\n", ""), "c.yaml")
    assert found.accounts[0].pricebook is None
    assert found.pricebooks[0].id == "@account/a"


def test_an_account_may_say_when_it_is_active() -> None:
    """A day is one of its zone; an instant is what it says."""
    active = "timezone: Europe/Paris, active_from: 2026-10-01, active_until: 2026-11-05T12:00:00Z,"
    (account,) = parse_catalog(CONTRACT.replace("timezone: Europe/Paris,", active), "c.yaml").accounts
    assert (account.active_from_us, account.active_until_us) == (1_790_805_600_000_000, 1_793_880_000_000_000)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("active_until: 2026-10-01", "active_until ends what active_from begins"),
        ("active_from: 2026-10-02, active_until: 2026-10-02", "must lie after active_from"),
        ("active_from: 2026-02-30", "is no day"),
        ("active_from: soon", "is not an instant"),
    ],
)
def test_when_an_account_is_active_is_checked(written: str, text: str) -> None:
    """Two ends that make no range, and what is no time."""
    (problem,) = problems_of(CONTRACT.replace("timezone: Europe/Paris,", f"timezone: Europe/Paris, {written},"))
    assert text in problem


def test_a_flat_price_needs_no_meter() -> None:
    """And comes back as it was written."""
    text = CONTRACT.replace("      - {id: web", '      - {id: base, model: flat, amount: "49"}\n      - {id: web')
    catalog = parse_catalog(text, "c.yaml")
    assert [(price.id, price.meter) for price in catalog.pricebooks[0].prices if price.model == "flat"] == [
        ("base", "")
    ]
    assert catalog_from_document(catalog_document(catalog)) == catalog


def problems_if_any(text: str) -> list[str]:
    """The problems of a catalog; [] where it is well."""
    try:
        parse_catalog(text, "c.yaml")
    except CatalogError as error:
        return error.problems
    return []


def committed(*prices: str) -> list[str]:
    """The problems of a pricebook with two prices, in two currencies, and some commitments."""
    two = ["{id: a, meter: requests, model: per_unit, unit_price: 1}"]
    two.append("{id: b, meter: requests, model: per_unit, unit_price: 1, currency: EUR}")
    lines = "".join(f"      - {one}\n" for one in (*two, *prices))
    text = f"""currency: USD
meters: [{{id: requests, event_type: r, aggregation: count}}]
pricebooks:
  - id: standard
    version: 1
    effective_from: 2020-01-01T00:00:00Z
    prices:
{lines}"""
    return problems_if_any(text)


def test_a_commitment_names_prices_there_are() -> None:
    """Of its version, in its currency, no commitment itself, each once; without names all count."""
    assert (
        committed("{id: c, model: commitment, amount: 5}", "{id: d, model: commitment, amount: 5, prices: [a]}") == []
    )
    cases = {
        "prices: [x]": "commitment 'c': there is no price 'x' in this version; use one of a, b",
        "prices: [b]": "'b' is in EUR, the commitment in USD",
        "prices: [c]": "'c' is a commitment itself",
        "prices: [a, a]": "'a' stands twice",
        "prices: []": "is not a list of 1 to 1000 texts",
        "prices: a": "is not a list of 1 to 1000 texts",
        "prices: [1]": "1 is not a text",
        'discount_rate: "0.5"': "unknown key of a commitment price",
        "meter: requests": "unknown key of a commitment price",
    }
    for more, text in cases.items():
        (problem,) = committed(f"{{id: c, model: commitment, amount: 5, {more}}}")
        assert problem.startswith("c.yaml:10: ")
        assert text in problem


def pooled(first: str, second: str) -> list[str]:
    """The problems of two prices over meters of two units."""
    text = f"""currency: USD
meters:
  - {{id: p, event_type: r, aggregation: sum, value: data.p, scale: 0}}
  - {{id: r, event_type: r, aggregation: sum, value: data.r, scale: 0}}
  - {{id: top, event_type: r, aggregation: max, value: data.p, scale: 0}}
  - {{id: bytes, event_type: r, aggregation: sum, value: data.b, scale: 0, unit: byte}}
pricebooks:
  - id: standard
    version: 1
    effective_from: 2020-01-01T00:00:00Z
    prices:
      - {{id: a, model: per_unit, unit_price: 1, {first}}}
      - {{id: b, model: per_unit, unit_price: 1, {second}}}
"""
    return problems_if_any(text)


def test_prices_of_a_pool_agree() -> None:
    """On their included units, what is carried over, conversion and unit; and they can be added up."""
    assert (
        pooled("meter: p, included: 5, pool: x, rollover_max: 3", "meter: r, included: 5, pool: x, rollover_max: 3")
        == []
    )
    assert pooled("meter: p, included: 5, rollover_max: 3", "meter: top, included: 5") == []
    cases = {
        "meter: r, included: 6, pool: x": "shares the pool 'x' with 'a', but not its included; write the same in both",
        "meter: r, included: 5, pool: x, rollover_max: 1": "but not its rollover_max",
        "meter: r, included: 5, pool: x, transform: {divide_by: 10}": "but not its transform",
        "meter: r, included: 5, pool: x, transform: {divide_by: 10, round: up}": "which does not go with rounding",
        "meter: bytes, included: 5, pool: x": "whose meter counts unit with 0 decimals, not byte with 0",
        "meter: top, included: 5, pool: x": "but the meter 'top' is a max; use a sum or a count",
        "meter: r, included: 5, pool: x, on_change: continue": "a pool goes on through a month as it is; leave on_change out",
        "meter: r, pool: x": "there is nothing to share or carry over without included units; add included",
        "meter: r, rollover_max: 4": "there is nothing to share or carry over without included units; add included",
        "meter: r, included: 5, rollover_max: 0": "must be more than 0",
        "meter: r, included: '5.5', rollover_max: 4": "has more decimals than the meter's 0; write fewer decimals",
    }
    for second, text in cases.items():
        found = pooled("meter: p, included: 5, pool: x", second)
        assert any(text in problem and problem.startswith("c.yaml:13: ") for problem in found), (second, found)


def test_how_far_back_an_event_may_lie() -> None:
    """A whole number of days, off where nothing is said; what is left out leaves the stored document as it was."""
    text = "currency: USD\nmeters: []\npricebooks: []\n"
    assert parse_catalog(text, "c").horizon_days is None
    assert b"horizon" not in catalog_document(parse_catalog(text, "c"))
    assert parse_catalog(text + "horizon_days: 90\n", "c").horizon_days == 90
    for wrong in ("0", "soon", "40000"):
        found = problems_if_any(text + f"horizon_days: {wrong}\n")
        assert [problem.partition(",")[0] for problem in found] == [
            "c.yaml:4: 'horizon_days' must be a whole number from 1 to 36525"
        ]
