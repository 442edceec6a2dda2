"""Bill a month: one invoice per account and currency, or one in the currency it asks for, over what none has claimed yet.

Sums are read first, without any lock, up to a cut that cannot change any more. Then invoices are written in chunks,
each one transaction that holds lane 0: the numbers (so they have no gaps), the documents, and a batch whose facts bind
the two. A crash leaves whole chunks; the next run goes on with what is left. Two runs at once wait for each other chunk
by chunk, and each makes sure under the lock that nobody else has billed the account since it read the sums.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple

from lineitem.billing.conversion import NoRate, RateTable, conversion_day
from lineitem.billing.history import Claimed, History, cut_text, parse_cut
from lineitem.billing.invoice import (
    Invoice,
    PricedSum,
    build_invoice,
    canonical_json,
    finalise,
    invoice_from_json,
    invoice_to_json,
    issuer_zone,
)
from lineitem.catalog import published
from lineitem.catalog.model import OwnCurrency
from lineitem.catalog.published import GRANT_BOOK, GRANT_VERSION
from lineitem.catalog.rates import rates_at
from lineitem.catalog.snapshot import Snapshot
from lineitem.core.errors import InputError, IntegrityError, Refused
from lineitem.core.period import Month, local_day
from lineitem.kit.db import Connection, explained, retried
from lineitem.kit.sqlfiles import load_queries
from lineitem.ledger import claims, grants
from lineitem.ledger.chain import BatchKind
from lineitem.ledger.claims import ClaimedSum, Cut
from lineitem.ledger.post import Fact, canonical, lock_lane, write_batch

SQL = load_queries("lineitem.billing", "billing.sql")

INVOICES_PER_BATCH = 500
"""Invoices of one transaction: enough that the chain costs nothing, few enough that a publish need not wait long."""
SERIES_DEFAULT = "INV"
FACT = "invoice"
"""Kind of the fact that binds an invoice's number to its digest."""

Key = tuple[int, str]
"""(account key, currency): what has at most one invoice per month and ordinal."""


@dataclass(slots=True)
class BillingResult:
    """What a run made.

    ``invoices`` in the order of their numbers, each as invoice JSON (docs/reference/invoice-json.md) with
    ``open_period`` beside it: true where the month has not ended in the account's zone. ``carried``: account, period,
    currency and total (text, negative) of what is not invoiced but nets with the next run. ``refused``: account, period,
    currency and why it has no invoice, though there is something to bill: a rate is missing.
    """

    invoices: list[dict[str, Any]] = field(default_factory=list)
    carried: list[dict[str, str]] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)

    @property
    def open_periods(self) -> list[str]:
        """Numbers of the invoices whose period has not ended: later usage gets a supplementary invoice."""
        return [one["number"] for one in self.invoices if one["open_period"]]


class PriceInfo(NamedTuple):
    """What a price version is called and measures; ``scale``: decimals of its quantities."""

    namespace_key: int
    pricebook: str
    version: int
    price: str
    meter: str
    unit: str
    scale: int
    currency: str


@dataclass(frozen=True, slots=True)
class _Draft:
    """An invoice about to be numbered."""

    account_key: int
    ordinal: int
    after: int  # invoices of the account and month that there were when it was built
    invoice: Invoice

    @property
    def key(self) -> Key:
        return self.account_key, self.invoice.currency


@dataclass(frozen=True, slots=True)
class _Run:
    """What stays the same while a month is billed."""

    connection: Connection
    snapshot: Snapshot
    prices: Mapping[int, PriceInfo]
    descriptions: Mapping[tuple[str, int, str], str]
    month: Month
    now_us: int
    per_batch: int
    rates: RateTable | None
    wanted: Mapping[str, str | None]  # account -> invoice currency, of those the catalog lists
    own: Mapping[str, OwnCurrency]

    @property
    def currencies(self) -> frozenset[str]:
        """What the prices of the namespace are in."""
        return frozenset(price.currency for price in self.prices.values() if price.namespace_key == self.namespace_key)

    @property
    def namespace_key(self) -> int:
        return self.snapshot.namespace_key

    @property
    def issuer(self) -> dict[str, str]:
        return dict(self.snapshot.catalog.issuer)

    @property
    def series(self) -> str:
        return series_of(self.issuer, self.month)


def bill(
    connection: Connection,
    namespace: str,
    month: Month,
    *,
    account: str | None = None,
    now_us: int,
    per_batch: int = INVOICES_PER_BATCH,
) -> BillingResult:
    """Invoice everything posted to ``month`` that no invoice has claimed, of all accounts or of one.

    Billing again yields nothing; what was posted since gets a supplementary invoice over just that. The caller has
    flushed ended windows, and ``connection`` is in autocommit mode. Names, tags and issuer are those of the catalog in
    force when the run starts. Raises Refused where there is none, InputError for an account nobody has heard of.
    """
    with explained():
        run = _start(connection, namespace, month, now_us, per_batch)
        accounts = None if account is None else [_account_key(run, account)]
        made: list[dict[str, Any]] = []
        carried: dict[Key, dict[str, str]] = {}
        refused: dict[Key, dict[str, str]] = {}
        while accounts is None or accounts:
            moved = _bill_once(run, accounts, made, carried, refused)
            # Another run has billed these meanwhile: read again what is left of them.
            accounts = sorted({account_key for account_key, _ in moved})
    return BillingResult(made, list(carried.values()), list(refused.values()))


def series_of(issuer: Mapping[str, str], month: Month) -> str:
    """Which run of numbers a month's invoices belong to: ``INV-2026``, or ``issuer.series`` of the catalog for ``INV``.

    The year is the posting period's, so that a year's books hold one run of numbers.
    """
    return f"{issuer.get('series', '').strip() or SERIES_DEFAULT}-{month.year:04d}"


def number_text(series: str, serial: int) -> str:
    """The invoice's number as people write it: ``("INV-2026", 1) -> "INV-2026-000001"``."""
    return f"{series}-{serial:06d}"


def price_infos(connection: Connection) -> dict[int, PriceInfo]:
    """Every price version by its key."""
    return {key: PriceInfo(*rest) for key, *rest in connection.execute(SQL.prices).fetchall()}


def invoice(connection: Connection, namespace: str, number: str) -> Invoice:
    """One invoice as it was sent. Raises InputError for an unknown number, IntegrityError for an altered document."""
    with explained():
        row = connection.execute(SQL.invoice, {"namespace": namespace, "number": number}).fetchone()
    if row is None:
        raise InputError(
            f"namespace {namespace!r} has no invoice {number!r}", do="See which there are: lineitem invoice list"
        )
    return invoice_from_json(_document(number, *row))


def invoices(
    connection: Connection, namespace: str, month: Month | None = None, account: str | None = None
) -> list[dict[str, Any]]:
    """Invoices as they were sent (invoice JSON), by number. Raises IntegrityError for altered ones."""
    values = {"namespace": namespace, "month": None if month is None else month.index, "account": account}
    with explained():
        rows = connection.execute(SQL.invoices, values).fetchall()
    return [_document(*row) for row in rows]


def _document(number: str, document: str, digest: bytes) -> dict[str, Any]:
    if sha256(document.encode()).digest() != digest:
        raise IntegrityError(
            "the stored document is not what was sent", where=f"invoice {number}", do="Run `lineitem verify`."
        )
    found: dict[str, Any] = json.loads(document)
    return found


def _start(connection: Connection, namespace: str, month: Month, now_us: int, per_batch: int) -> _Run:
    snapshot = published.load_snapshot(connection, namespace)
    if snapshot is None:
        raise Refused(f"namespace {namespace!r} has no catalog", do="Publish one: lineitem catalog publish FILE")
    descriptions = {
        (book.id, book.version, price.id): price.description or price.id
        for book in snapshot.pricebooks
        for price in book.prices
    }
    descriptions |= {
        (GRANT_BOOK, GRANT_VERSION, one.terms.id): one.terms.reason or f"Prepaid credit {one.terms.id}"
        for one in grants.kept(connection, snapshot.namespace_key)
    }
    rates = _rates(connection, snapshot, month, now_us)
    wanted = {account.id: account.invoice_currency for account in snapshot.catalog.accounts}
    own = {one.code: one for one in snapshot.catalog.currencies}
    prices = price_infos(connection)
    return _Run(connection, snapshot, prices, descriptions, month, now_us, per_batch, rates, wanted, own)


def _rates(connection: Connection, snapshot: Snapshot, month: Month, now_us: int) -> RateTable | None:
    """What the rule of the catalog in force may convert a month's lines by; None without a rule."""
    rule = snapshot.catalog.conversion
    if rule is None:
        return None
    issued_on = local_day(now_us, issuer_zone(dict(snapshot.catalog.issuer)))
    on = conversion_day(rule, month, issued_on)
    return RateTable(rule, on, [kept.rate for kept in rates_at(connection, snapshot.namespace_key, on, rule.source)])


def _account_key(run: _Run, account: str) -> int:
    found = published.accounts(run.connection, run.namespace_key, [account])
    if account not in found:
        raise InputError(
            f"namespace {run.snapshot.namespace!r} has no account {account!r}",
            do="An account exists once the catalog lists it or an event names it.",
        )
    return found[account].account_key


def _bill_once(
    run: _Run,
    accounts: Sequence[int] | None,
    made: list[dict[str, Any]],
    carried: dict[Key, dict[str, str]],
    refused: dict[Key, dict[str, str]],
) -> list[Key]:
    """Bill what is unclaimed now; returns what another run has billed in between."""
    before, currencies = _histories(run, accounts), run.currencies
    # After the predecessors, so that the cut is never behind one of theirs.
    cut = claims.heads(run.connection)
    sums = claims.unclaimed(
        run.connection,
        run.namespace_key,
        run.month.index,
        cut,
        {
            (account_key, currency): low
            for account_key, history in before.items()
            for currency, low in history.above(currencies).items()
        },
        accounts,
    )
    moved: list[Key] = []
    chunk: list[_Draft] = []
    for draft in _drafts(run, sums, cut, before, refused):
        if draft.invoice.total_minor < 0:
            carried[draft.key] = _carried(draft.invoice)
            continue
        carried.pop(draft.key, None)
        chunk.append(draft)
        if len(chunk) == run.per_batch:
            moved += _write_chunk(run, chunk, made)
            chunk = []
    return moved + _write_chunk(run, chunk, made)


def _histories(run: _Run, accounts: Sequence[int] | None) -> dict[int, History]:
    """What the invoices of each account have claimed of the month so far."""
    values = {"namespace_key": run.namespace_key, "month": run.month.index, "accounts": accounts}
    found: dict[int, History] = {}
    for account_key, currency, converted, cut in run.connection.execute(SQL.claimed_before, values).fetchall():
        found.setdefault(account_key, History()).add(Claimed(currency, converted, parse_cut(cut)))
    return found


def _drafts(
    run: _Run,
    sums: Mapping[int, Sequence[ClaimedSum]],
    cut: Cut,
    before: Mapping[int, History],
    refused: dict[Key, dict[str, str]],
) -> Iterator[_Draft]:
    """Invoices in the order they will be numbered: by account, then currency. One at a time, to keep memory small."""
    accounts = published.accounts_by_key(run.connection, list(sums))
    issuer = {name: value for name, value in run.issuer.items() if name != "series"}
    for account_key in sorted(sums, key=lambda key: accounts[key].id):
        account = accounts[account_key]
        history = before.get(account_key, History())
        wanted = run.wanted.get(account.id, run.snapshot.catalog.defaults.invoice_currency)
        by_currency: dict[str, list[PricedSum]] = {}
        for one in sums[account_key]:
            priced = _priced(run, one)
            by_currency.setdefault(wanted or priced.currency, []).append(priced)
        for currency, priced_sums in sorted(by_currency.items()):
            try:
                built = build_invoice(
                    priced_sums,
                    account=account,
                    issuer=issuer,
                    period=run.month,
                    bounds_us=run.month.bounds_us(account.timezone),
                    currency=currency,
                    cut=cut,
                    issued_at_us=run.now_us,
                    own=run.own.get(currency),
                    rates=run.rates if wanted else None,
                )
            except NoRate as error:
                told = {"account": account.id, "period": str(run.month), "currency": currency}
                refused[(account_key, currency)] = told | {"reason": error.what, "do": error.do}
                continue
            yield _Draft(account_key, history.next_ordinal(currency), len(history), built)


def _priced(run: _Run, one: ClaimedSum) -> PricedSum:
    price = run.prices[one.price_version_key]
    return PricedSum(
        price=price.price,
        meter=price.meter,
        description=run.descriptions.get((price.pricebook, price.version, price.price), price.price),
        unit=price.unit,
        quantity=one.quantity,
        scale=price.scale,
        amount_nano=one.amount_nano,
        pricebook=price.pricebook,
        versions=(price.version,),
        line_item_count=one.line_items,
        service_month=Month.from_index(one.service_month),
        kind=one.kind.word,
        currency=price.currency,
    )


def _carried(invoice: Invoice) -> dict[str, str]:
    total = invoice_to_json(invoice)["total"]
    return {
        "account": invoice.account,
        "period": str(invoice.period),
        "currency": invoice.currency,
        "total": total,
    }


def _write_chunk(run: _Run, chunk: Sequence[_Draft], made: list[dict[str, Any]]) -> list[Key]:
    """Finalise a chunk in one transaction; returns the drafts that are no longer valid."""
    if not chunk:
        return []
    done, moved = retried(lambda: _finalise(run, chunk))
    for document in done:
        ended = run.month.bounds_us(document["timezone"])[1] <= run.now_us
        made.append({**document, "open_period": not ended})
    return moved


def _finalise(run: _Run, chunk: Sequence[_Draft]) -> tuple[list[dict[str, Any]], list[Key]]:
    connection = run.connection
    with connection.transaction():
        head = lock_lane(connection, 0)
        now = _histories(run, sorted({draft.account_key for draft in chunk}))
        ready = [draft for draft in chunk if _still_true(draft, now.get(draft.account_key, History()))]
        if not ready:
            return [], [draft.key for draft in chunk]
        documents, rows, facts = _numbered(run, ready, head.lane, head.batch + 1)
        with connection.cursor() as cursor, cursor.copy(SQL.copy_invoices) as copy:
            for row in rows:
                copy.write_row(row)
        with connection.pipeline():  # a fact is a statement; waiting for each would double the time lane 0 is held
            write_batch(
                connection, head, run.snapshot.namespace, run.namespace_key, BatchKind.INVOICE,
                facts=facts, catalog_revision=run.snapshot.revision, recorded_us=run.now_us,
            )  # fmt: skip
    written = {draft.key for draft in ready}
    return documents, [draft.key for draft in chunk if draft.key not in written]


def _still_true(draft: _Draft, history: History) -> bool:
    """Whether nobody has billed since what the draft bills: an invoice in another currency alone is no matter."""
    return history.unmoved(draft.invoice.currency, draft.invoice.converted is not None, draft.after)


def _numbered(
    run: _Run, ready: Sequence[_Draft], lane: int, batch: int
) -> tuple[list[dict[str, Any]], list[tuple[object, ...]], list[Fact]]:
    """Take numbers; each invoice as its document, its row to copy, and the fact that binds number and digest."""
    values = {"namespace_key": run.namespace_key, "series": run.series, "count": len(ready)}
    row = run.connection.execute(SQL.take_numbers, values).fetchone()
    assert row is not None
    documents: list[dict[str, Any]] = []
    rows: list[tuple[object, ...]] = []
    facts: list[Fact] = []
    cut = cut_text(dict(ready[0].invoice.cut))  # of one reading of the heads, so the same for all
    for serial, draft in enumerate(ready, start=row[0] - len(ready) + 1):
        number = number_text(run.series, serial)
        document = invoice_to_json(finalise(draft.invoice, number))
        text = canonical_json(document).decode()
        digest = sha256(text.encode()).digest()
        documents.append(document)
        place = (number, run.namespace_key, run.series, serial, draft.account_key, run.month.index)
        claim = (draft.invoice.currency, draft.ordinal, cut)
        rows.append((*place, *claim, text, digest, lane, batch, draft.invoice.converted is not None))
        facts.append(Fact(FACT, canonical(fact_body(run.snapshot.namespace, document, draft.ordinal, digest))))
    return documents, rows, facts


def fact_body(namespace: str, document: Mapping[str, Any], ordinal: int, digest: bytes) -> dict[str, Any]:
    """What lane 0 records of an invoice: which number was given to which document over which line items."""
    told = {name: document[name] for name in ("number", "account", "period", "currency", "total", "cut")}
    return {"namespace": namespace, **told, "ordinal": ordinal, "digest": digest.hex()}
