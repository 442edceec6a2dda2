"""Reads a catalog file: YAML into a checked ``Catalog``, or every problem it has with its line.

``examples/catalogs/sample.yaml`` shows and explains the keys. Meters, pricebooks, prices and accounts come out sorted
by id, so the order in which a file lists them means nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from lineitem.catalog import commitments, pools, promotion
from lineitem.catalog.continuing import change_problem, meter_problem, version_before
from lineitem.catalog.currencies import currency_problem
from lineitem.catalog.currency_fields import Money, read_conversion, read_currencies, read_invoice_currency
from lineitem.catalog.document import catalog_document, catalog_from_document, content_digest, price_digest
from lineitem.catalog.expression import check_filter, dimension_name, parse_path, parse_value
from lineitem.catalog.expression_words import ExpressionError
from lineitem.catalog.fields import ID_CHARS_MAX, ID_PATTERN, ID_RULE, Fields, Problems, suggestion, unique
from lineitem.catalog.levels import level_problems
from lineitem.catalog.model import (
    Account,
    AccountDefaults,
    Aggregation,
    Approval,
    Catalog,
    Meter,
    Price,
    Pricebook,
    Publishing,
    own_pricebook,
)
from lineitem.catalog.price_doc import MODEL_FIELDS, parse_price
from lineitem.catalog.price_reader import path_text, shorten
from lineitem.catalog.tag_reader import check_account_tags, read_cost_centers, read_tags
from lineitem.catalog.yaml_lines import KeyPath, read_yaml
from lineitem.core.errors import CatalogError, InputError
from lineitem.core.limits import CATALOG_BYTES_MAX, FIELD_CHARS_MAX, QUANTITY_SCALE_DEFAULT

__all__ = [
    "catalog_document",
    "catalog_from_document",
    "content_digest",
    "load_catalog",
    "parse_catalog",
    "price_digest",
]

SCALE_MAX = 18
"""Decimals a meter may keep."""
DIMENSIONS_MAX = 8
"""Dimensions of one meter."""
VERSION_MAX = (1 << 31) - 1
"""Highest version of a pricebook."""
HORIZON_DAYS_MAX = 36_525
"""How far back a horizon may lie."""
BILLING_CYCLES = ("monthly",)
"""How often an account can be billed."""

_TOP_KEYS = (
    "currency", "currencies", "meters", "pricebooks", "accounts", "issuer", "publishing", "conversion", "tags",
    "cost_centers", "horizon_days",
)  # fmt: skip
_METER_KEYS = ("id", "event_type", "aggregation", "value", "unit", "scale", "dimensions", "filter")
_PRICEBOOK_KEYS = ("id", "version", "effective_from", "effective_until", "prices")
_DEFAULTS_KEYS = ("pricebook", "timezone", "billing", "open", "invoice_currency")
_ACCOUNT_KEYS = (
    "id",
    "name",
    "timezone",
    "tags",
    "pricebook",
    "billing",
    "overrides",
    "invoice_currency",
    "active_from",
    "active_until",
)
_PUBLISHING_KEYS = ("approval",)
_APPROVAL_KEYS = ("required", "four_eyes")
_OVERRIDE_KEYS = ("version", "effective_from", "effective_until", "prices")


def load_catalog(path: Path) -> Catalog:
    """Read and check the catalog file at ``path``.

    Raises InputError when it cannot be read, is empty or too large, CatalogError with every problem when it is wrong.
    """
    do = "Name a YAML file; `lineitem demo` leaves one to start from."
    try:
        with path.open("rb") as file:
            raw = file.read(CATALOG_BYTES_MAX + 1)
    except FileNotFoundError:
        raise InputError("there is no such catalog file", where=str(path), do=do) from None
    except IsADirectoryError:
        raise InputError("is a folder, not a catalog file", where=str(path), do=do) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path), do="Check its permissions.") from None
    return parse_catalog(raw, str(path))


def parse_catalog(text: str | bytes, name: str) -> Catalog:
    """Read and check a catalog; ``name`` stands for the file in messages.

    Raises InputError when it is empty or larger than ``CATALOG_BYTES_MAX``, CatalogError when it is wrong.
    """
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(raw) > CATALOG_BYTES_MAX:
        raise InputError(f"is larger than {CATALOG_BYTES_MAX >> 20} MiB", where=name, do="Split it by namespace.")
    document = read_yaml(raw)
    if document.value is None and not document.problems:
        raise InputError("is empty", where=name, do="Start from the one `lineitem demo` leaves.")
    problems = Problems(document, name)
    catalog = None if document.value is None else _catalog(Fields(document.value, (), problems, _TOP_KEYS))
    listed = problems.listed()
    if listed or catalog is None:
        raise CatalogError(listed, do="Correct these lines; nothing was published.")
    return catalog


@dataclass(frozen=True, slots=True)
class _Written:
    """A pricebook beside the mapping it was read from; ``dated`` when its version and start are well-formed."""

    book: Pricebook
    fields: Fields
    dated: bool


def _catalog(top: Fields) -> Catalog:
    own = read_currencies(top)
    codes = frozenset(one.code for one in own)
    currency = _currency(top, codes)
    conversion = read_conversion(top, codes)
    for key, example in (("meters", "[]"), ("pricebooks", "[]")):
        top.require(key, example)
    meters = _meters(top)
    prices = _PriceReader(currency, {meter.id: meter for meter in meters if meter.id}, codes)
    books = _pricebooks(top, prices)
    book_ids = {book.id for book in books if book.id}
    defaults, accounts = _accounts(top, book_ids, Money(codes, "conversion" in top))
    books += _overrides(top, accounts, books, prices)
    tags = read_tags(top, {meter.event_type for meter in meters if meter.event_type})
    check_account_tags(top, accounts, tags)
    return Catalog(
        currency=currency,
        meters=tuple(sorted(meters, key=lambda meter: meter.id)),
        pricebooks=tuple(sorted(books, key=lambda book: (book.id, book.version))),
        defaults=defaults,
        accounts=tuple(sorted(accounts, key=lambda account: account.id)),
        issuer=_issuer(top),
        publishing=_publishing(top),
        tags=tags,
        cost_centers=read_cost_centers(top),
        currencies=own,
        conversion=conversion,
        horizon_days=_horizon_days(top),
    )


def _currency(top: Fields, own: Collection[str]) -> str:
    if not top.require("currency", "USD"):
        return ""
    currency = top.text("currency")
    defect = currency_problem(currency, own) if currency else None
    if defect:
        top.at("currency", f"{defect}; use a code such as EUR or USD")
        return ""
    return currency


def _horizon_days(top: Fields) -> int | None:
    if "horizon_days" not in top:
        return None
    return top.integer("horizon_days", 1, HORIZON_DAYS_MAX, 1)


# --- meters


def _meters(top: Fields) -> list[Meter]:
    found: list[tuple[str, KeyPath]] = []
    meters = []
    for item, path in top.items("meters"):
        meter = _meter(Fields(item, path, top.problems, _METER_KEYS))
        meters.append(meter)
        if meter.id:
            found.append((meter.id, (*path, "id")))
    unique(found, top.problems, lambda id_: f"the meter {id_!r}")
    return meters


def _meter(fields: Fields) -> Meter:
    fields.require("event_type", "http.request")
    aggregation = fields.choice("aggregation", Aggregation)
    return Meter(
        id=fields.identifier("id", "requests"),
        event_type=fields.text("event_type"),
        aggregation=aggregation or Aggregation.COUNT,
        value=_value(fields, aggregation),
        unit=fields.text("unit", "unit", chars_max=64),
        scale=fields.integer("scale", 0, SCALE_MAX, QUANTITY_SCALE_DEFAULT),
        dimensions=_dimensions(fields, aggregation),
        filter=_filter(fields),
    )


def _value(fields: Fields, aggregation: Aggregation | None) -> str | None:
    if aggregation is Aggregation.COUNT:
        if "value" in fields:
            fields.at("value", "count counts events and reads no value; remove `value`, or choose another aggregation")
        return None
    if aggregation is None or not fields.require("value", "data.tokens"):
        return None
    value = fields.raw("value")
    if not isinstance(value, str) or aggregation is Aggregation.UNIQUE:  # unique counts members: there is no arithmetic
        return _path(fields, (*fields.path, "value"), value)
    try:
        parse_value(value)
    except ExpressionError as error:
        fields.at("value", f"the value {error}")
        return None
    return value


def _path(fields: Fields, path: KeyPath, value: Any) -> str | None:
    if not isinstance(value, str):
        fields.problems.at(path, "a path must be text; write for example data.tokens")
        return None
    try:
        parse_path(value)
    except ExpressionError as error:
        fields.problems.at(path, f"the path {error}")
        return None
    return value


def _dimensions(fields: Fields, aggregation: Aggregation | None) -> tuple[str, ...]:
    items = fields.items("dimensions")
    if items and aggregation is Aggregation.TIME_WEIGHTED:
        text = "a level is one for each account, whatever its readings say beside it; remove `dimensions`, or write a meter"
        fields.at("dimensions", f"{text} with a `filter` for each value")
        return ()
    if len(items) > DIMENSIONS_MAX:
        fields.at("dimensions", f"{len(items)} dimensions are too many; keep at most {DIMENSIONS_MAX}")
        return ()
    paths = [(_path(fields, path, item), path) for item, path in items]
    good = [(text, path) for text, path in paths if text is not None]
    names = [(dimension_name(text), path) for text, path in good]
    unique(names, fields.problems, lambda name: f"the dimension {name!r}")
    return tuple(text for text, _ in good)


def _filter(fields: Fields) -> str | None:
    text = fields.text("filter", chars_max=CATALOG_BYTES_MAX)  # the parser has a limit, and says so
    if not text:
        return None
    try:
        check_filter(text)
    except ExpressionError as error:
        fields.at("filter", f"the filter {error}")
        return None
    return text


# --- pricebooks


@dataclass(frozen=True, slots=True)
class _PriceReader:
    """What prices may name: the catalog's currency ("" when it is wrong), the meters there are, currencies of its own."""

    currency: str
    meters: Mapping[str, Meter]
    own: Collection[str]

    def read(self, fields: Fields) -> tuple[Price, ...]:
        """The entries of ``prices``, sorted by id."""
        prices: list[Price] = []
        ids: list[tuple[str, KeyPath]] = []
        for item, path in fields.items("prices"):
            # Without a currency of the catalog any stands in: that defect is told once, not once per price.
            price, defects = parse_price(
                item, default_currency=self.currency or "USD", where=path, own_currencies=self.own
            )
            for defect in defects:
                fields.problems.at(defect.path, _price_problem(item, path, defect.path, defect.text))
            if price is None:
                continue
            prices.append(price)
            ids.append((price.id, (*path, "id")))
            if not ID_PATTERN.fullmatch(price.id):
                fields.problems.at((*path, "id"), f"{shorten(price.id)} is not an id; {ID_RULE}")
            if not MODEL_FIELDS[price.model].metered:
                continue
            if price.meter not in self.meters:
                text = f"price {price.id!r} bills the meter {price.meter!r}, which does not exist; "
                fields.problems.at((*path, "meter"), text + suggestion(price.meter, self.meters))
            elif MODEL_FIELDS[price.model].per_event:
                _check_per_event(fields, path, price, self.meters[price.meter].aggregation)
            elif problem := meter_problem(price, self.meters[price.meter].aggregation):
                fields.problems.at((*path, "on_change"), problem)
            elif problem := promotion.meter_problem(price, self.meters[price.meter].aggregation):
                fields.problems.at((*path, "promotion"), problem)
            elif problem := pools.price_problem(price, self.meters[price.meter]):
                fields.problems.at((*path, "included"), problem)
            meter = self.meters.get(price.meter)
            for key, problem in level_problems(price, None if meter is None else meter.aggregation):
                fields.problems.at((*path, key), problem)
        unique(ids, fields.problems, lambda id_: f"the price {id_!r}")
        return tuple(sorted(prices, key=lambda price: price.id))


def _pricebooks(top: Fields, prices: _PriceReader) -> list[Pricebook]:
    written = []
    for item, path in top.items("pricebooks"):
        fields = Fields(item, path, top.problems, _PRICEBOOK_KEYS)
        written.append(_version(fields, fields.identifier("id", "standard"), prices))
    by_id: dict[str, list[_Written]] = {}
    for one in written:
        by_id.setdefault(one.book.id, []).append(one)
    for id_, versions in by_id.items():
        if id_:
            _check_versions(versions)
            _check_continuing(versions, own=False)
            _check_pools(versions, prices.meters)
        for one in versions:
            _check_commitments(one, ())
    return [one.book for one in written]


def _version(fields: Fields, id_: str, prices: _PriceReader) -> _Written:
    fields.require("version", "1")
    fields.require("effective_from", "2026-01-01T00:00:00Z")
    from_us = fields.instant_us("effective_from")
    until_us = fields.instant_us("effective_until")
    if from_us is not None and until_us is not None and until_us <= from_us:
        fields.at("effective_until", "effective_until must lie after effective_from; correct one of the two")
    fields.require("prices", "[]")
    book = Pricebook(
        id=id_,
        version=fields.integer("version", 1, VERSION_MAX, 0),
        effective_from_us=from_us or 0,
        effective_until_us=until_us,
        prices=prices.read(fields),
    )
    return _Written(book, fields, dated=from_us is not None and book.version > 0)


def _check_per_event(fields: Fields, path: KeyPath, price: Price, aggregation: Aggregation) -> None:
    label = f"price {price.id!r} charges each event"
    if aggregation not in (Aggregation.SUM, Aggregation.COUNT):
        text = f"{label}, but the meter {price.meter!r} is a {aggregation}; use a meter that is a sum or a count"
        fields.problems.at((*path, "meter"), text)


def _price_problem(item: Any, path: KeyPath, defect_path: KeyPath, text: str) -> str:
    id_ = item.get("id") if isinstance(item, dict) else None
    label = f"price {id_!r}" if isinstance(id_, str) else path_text(path)
    inner = path_text(defect_path[len(path) :])
    return f"{label}, {inner}: {text}" if inner else f"{label}: {text}"


def _check_continuing(versions: list[_Written], *, own: bool) -> None:
    """A price that continues has something it can go on with. ``own``: the versions are an account's overrides."""
    books = [one.book for one in versions if one.dated]
    for one in versions if any(price.continues for book in books for price in book.prices) else ():
        paths = _paths(one)
        for price in one.book.prices if one.dated else ():
            problem = change_problem(one.book, price, books)
            if own and price.continues and version_before(one.book, price, books) is None:
                problem = (
                    f"the override {price.id!r} continues, but no override of it comes before: an account's own price"
                    " starts tiers of its own; write restart"
                )
            if problem:
                one.fields.problems.at((*paths.get(price.id, one.fields.path), "on_change"), problem)


def _check_commitments(written: _Written, elsewhere: Collection[str]) -> None:
    for price, problem in commitments.problems(written.book.prices, elsewhere):
        path = _paths(written).get(price.id, written.fields.path)
        written.fields.problems.at((*path, "prices"), f"commitment {price.id!r}: {problem}")


def _check_pools(versions: list[_Written], meters: Mapping[str, Meter]) -> None:
    written = {(one.book.id, one.book.version): one for one in versions if one.dated}
    for book, price, problem in pools.book_problems([one.book for one in written.values()], meters):
        one = written[(book.id, book.version)]
        one.fields.problems.at((*_paths(one).get(price.id, one.fields.path), "pool"), problem)


def _paths(written: _Written) -> dict[str, KeyPath]:
    """Where each price of a version stands in the file."""
    return {str(item.get("id")): path for item, path in written.fields.items("prices") if isinstance(item, dict)}


def _check_versions(versions: list[_Written]) -> None:
    """Versions of one pricebook ascend with their start, and no instant has two of them.

    A version without ``effective_until`` ends where the next one starts.
    """
    dated = [one for one in versions if one.dated]
    dated.sort(key=lambda one: (one.book.effective_from_us, one.book.version))
    for before, after in pairwise(dated):
        label = f"pricebook {after.book.id!r}"
        line = before.fields.problems.line(before.fields.path)
        if after.book.version == before.book.version:
            after.fields.at("version", f"{label} version {after.book.version} is already on line {line}; count it up")
        elif after.book.effective_from_us == before.book.effective_from_us:
            text = f"{label} version {before.book.version} (line {line}) starts at the same time; move one of the two"
            after.fields.at("effective_from", text)
        elif after.book.version < before.book.version:
            text = f"{label} version {before.book.version} (line {line}) starts earlier; number versions by their start"
            after.fields.at("version", text)
        until_us = before.book.effective_until_us
        if until_us is not None and before.book.effective_from_us < after.book.effective_from_us < until_us:
            text = f"{label} version {before.book.version} (line {line}) is still in effect then; end it earlier"
            after.fields.at("effective_from", text)


# --- accounts and issuer


def _accounts(top: Fields, book_ids: Collection[str], money: Money) -> tuple[AccountDefaults, list[Account]]:
    if "accounts" not in top:
        return AccountDefaults(), []
    section = Fields(top.raw("accounts"), ("accounts",), top.problems, ("defaults", "list"))
    written = section.raw("defaults")
    fields = Fields({} if written is None else written, ("accounts", "defaults"), top.problems, _DEFAULTS_KEYS)
    defaults = AccountDefaults(
        pricebook=_book_of(fields, None, book_ids),
        timezone=fields.zone("timezone", "UTC"),
        billing=_billing(fields, "monthly"),
        open=fields.boolean("open", True),
        invoice_currency=read_invoice_currency(fields, None, money),
    )
    accounts = []
    ids: list[tuple[str, KeyPath]] = []
    for item, path in section.items("list"):
        account = _account(Fields(item, path, top.problems, _ACCOUNT_KEYS), defaults, book_ids, money)
        accounts.append(account)
        if account.id:
            ids.append((account.id, (*path, "id")))
    unique(ids, top.problems, lambda id_: f"the account {id_!r}")
    return defaults, accounts


def _account(fields: Fields, defaults: AccountDefaults, book_ids: Collection[str], money: Money) -> Account:
    # Not a catalog id: it is the subject other people's events carry, be it an address or an e-mail.
    fields.require("id", "team-1")
    id_ = fields.text("id", chars_max=FIELD_CHARS_MAX)
    zone = fields.zone("timezone", defaults.timezone)
    from_us, until_us = (fields.day_or_instant_us(key, zone) for key in ("active_from", "active_until"))
    if "active_until" in fields and "active_from" not in fields:
        fields.at("active_until", "active_until ends what active_from begins; add active_from")
    elif from_us is not None and until_us is not None and until_us <= from_us:
        fields.at("active_until", "active_until must lie after active_from; correct one of the two")
    return Account(
        id=id_,
        name=fields.text("name", id_, chars_max=256),
        pricebook=_book_of(fields, defaults.pricebook, book_ids),
        timezone=zone,
        billing=_billing(fields, defaults.billing),
        tags=fields.text_pairs("tags"),
        invoice_currency=read_invoice_currency(fields, defaults.invoice_currency, money),
        active_from_us=from_us,
        active_until_us=until_us,
    )


def _overrides(
    top: Fields, accounts: Sequence[Account], books: Sequence[Pricebook], prices: _PriceReader
) -> list[Pricebook]:
    """The pricebooks of accounts with prices of their own; ``accounts`` in the order of the file."""
    meter_of: dict[str, dict[str, set[str]]] = {}  # pricebook -> price -> meters
    for book in books:
        for price in book.prices:
            meter_of.setdefault(book.id, {}).setdefault(price.id, set()).add(price.meter)
    found = []
    section = Fields(top.raw("accounts") or {}, ("accounts",), top.problems, None)
    for account, (item, path) in zip(accounts, section.items("list"), strict=True):
        fields = Fields(item, path, top.problems, None) if isinstance(item, dict) else None
        if fields is None or "overrides" not in fields:
            continue
        if len(account.id) > ID_CHARS_MAX:
            fields.at("id", f"an account with overrides has an id of at most {ID_CHARS_MAX} characters; shorten it")
            continue
        replaced = meter_of.get(account.pricebook or "")
        written = []
        for version, where in fields.items("overrides"):
            inner = Fields(version, where, top.problems, _OVERRIDE_KEYS)
            written.append(_version(inner, own_pricebook(account.id), prices))
            if replaced is not None:
                _check_replaced(inner, account, written[-1].book, replaced)
        _check_versions(written)
        _check_continuing(written, own=True)
        _check_pools(written, prices.meters)
        for one in written:
            _check_commitments(one, replaced or {})
        found += [one.book for one in written]
    return found


def _check_replaced(fields: Fields, account: Account, book: Pricebook, replaced: dict[str, set[str]]) -> None:
    """An override stands in for a price of the account's pricebook: under another id or meter both would bill."""
    for price in book.prices:
        meters = replaced.get(price.id)
        if meters is None:
            text = f"the override {price.id!r} replaces no price of pricebook {account.pricebook!r}; "
            fields.at("prices", text + suggestion(price.id, replaced))
        elif price.meter not in meters:
            text = f"the override {price.id!r} bills the meter {price.meter!r}, the price it replaces "
            fields.at("prices", f"{text}{' and '.join(sorted(meters))}; use the same meter")


def _book_of(fields: Fields, default: str | None, book_ids: Collection[str]) -> str | None:
    if "pricebook" not in fields:
        return default
    id_ = fields.text("pricebook")
    if id_ and id_ not in book_ids:
        fields.at("pricebook", f"the pricebook {shorten(id_)} does not exist; {suggestion(id_, book_ids)}")
    return id_


def _billing(fields: Fields, default: str) -> str:
    billing = fields.text("billing", default)
    if billing not in BILLING_CYCLES:
        fields.at("billing", f"billing {shorten(billing)} is not supported; use {' or '.join(BILLING_CYCLES)}")
        return default
    return billing


def _issuer(top: Fields) -> tuple[tuple[str, str], ...]:
    """Any text entries (name, address, tax_id, email, ...); ``timezone`` decides the posting months."""
    pairs = top.text_pairs("issuer")
    if any(key == "timezone" for key, _ in pairs):
        Fields(top.raw("issuer"), ("issuer",), top.problems, None).zone("timezone", "UTC")
    return pairs


def _publishing(top: Fields) -> Publishing | None:
    if "publishing" not in top:
        return None
    path: KeyPath = ("publishing",)
    section = Fields(top.raw("publishing"), path, top.problems, _PUBLISHING_KEYS)
    fields = Fields(section.raw("approval") or {}, (*path, "approval"), top.problems, _APPROVAL_KEYS)
    approval = Approval(fields.boolean("required", False), fields.boolean("four_eyes", False))
    if approval.four_eyes and not approval.required:
        fields.at("four_eyes", "four_eyes says who may approve; add `required: true`")
    return Publishing(approval)
