"""Check every invoice against what it was made from: its own digest, its fact in lane 0, its number, its line items."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from itertools import groupby
from typing import Any, NamedTuple

from lineitem.billing.conversion import convert, defects
from lineitem.billing.credits import CREDIT
from lineitem.billing.history import Claimed, History, parse_cut
from lineitem.billing.invoice import Invoice, invoice_from_json, rounded_credits
from lineitem.billing.rounding import round_to_minor
from lineitem.billing.run import FACT, SQL, PriceInfo, fact_body, number_text, price_infos
from lineitem.catalog import rates as fx_rates
from lineitem.catalog.rate_file import Rate
from lineitem.core.errors import IntegrityError
from lineitem.core.limits import AMOUNT_SCALE
from lineitem.core.money import nano_to_text
from lineitem.core.period import Month
from lineitem.kit.db import Connection, explained
from lineitem.ledger import claims
from lineitem.ledger.claims import NOTHING, Claim, ClaimedSum, Cut


class _Stored(NamedTuple):
    """A row of ``billing.invoice`` with its namespace and account resolved."""

    namespace_key: int
    namespace: str
    number: str
    series: str
    serial: int
    account_key: int
    account: str
    posting_month: int
    currency: str
    ordinal: int
    cut: str
    document: str
    digest: bytes
    lane: int
    batch: int
    converted: bool

    @property
    def claimed(self) -> Claimed:
        """What it has claimed, as the next one sees it."""
        return Claimed(self.currency, self.converted, _cut(self))


class _Recorded(NamedTuple):
    """An invoice's fact and the batch it stands in."""

    lane: int
    batch: int
    body: dict[str, Any]


class _LineKey(NamedTuple):
    """What makes line items one line."""

    service_month: int
    pricebook: str
    price: str
    meter: str
    unit: str
    currency: str


class _LineSum(NamedTuple):
    """What a line says, or its line items come to; ``quantity`` in units."""

    line_items: int
    quantity: Fraction
    amount_nano: int


def check_invoices(connection: Connection) -> list[str]:
    """Everything that is wrong with the invoices of all namespaces, a sentence each; reads the ledger once.

    That the facts themselves are unaltered is the chain's to say (``ledger.verify``). Invoices are read a month at a
    time, so memory holds the lines of one month's invoices and the facts of all.
    """
    problems: list[str] = []
    with explained(), connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        prices = price_infos(connection)
        rates = _rates(connection)
        recorded, twice = _recorded(connection)
        problems += twice
        for rows in _by_month(connection):
            read = [_check_document(row, recorded.pop((row.namespace, row.number), None), problems) for row in rows]
            for one, found in zip(rows, read, strict=True):
                if found is not None and found.converted is not None:
                    problems += [f"{_named(one)}: {what}" for what in _check_conversion(found, one, rates)]
            above = list(_check_sequence(rows, problems, {price.currency for price in prices.values()}))
            try:
                problems += _check_lines(connection, rows, read, above, prices)
            except IntegrityError as error:  # line items that make no sense; whose they are `ledger.verify` says
                problems.append(
                    f"invoices of {rows[0].namespace} cannot be compared with their line items: {error.what}"
                )
        for (namespace, number), fact in recorded.items():
            problems.append(f"invoice {number} of {namespace}, recorded in batch {fact.lane}-{fact.batch}, is missing")
        for row in connection.execute(SQL.counters).fetchall():
            problems += _check_counter(*row)
    return problems


def _recorded(connection: Connection) -> tuple[dict[tuple[str, str], _Recorded], list[str]]:
    recorded: dict[tuple[str, str], _Recorded] = {}
    problems = []
    for namespace, lane, batch, text in claims.facts(connection, FACT):
        try:
            body = json.loads(text)
            key = (namespace, str(body["number"]))
        except (ValueError, KeyError, TypeError):
            problems.append(f"batch {lane}-{batch} of {namespace} records an invoice that cannot be read")
            continue
        if key in recorded:
            problems.append(f"invoice {key[1]} of {namespace} is recorded twice, in batch {lane}-{batch} again")
        recorded[key] = _Recorded(lane, batch, body)
    return recorded, problems


def _by_month(connection: Connection) -> Iterator[list[_Stored]]:
    with connection.cursor(name="stored_invoices") as cursor:
        cursor.itersize = 1000
        rows = (_Stored(*row) for row in cursor.execute(SQL.stored_invoices))
        for _, month in groupby(rows, key=lambda row: (row.namespace_key, row.posting_month)):
            yield list(month)


def _named(row: _Stored) -> str:
    return f"invoice {row.number} of {row.namespace}"


def _check_document(row: _Stored, fact: _Recorded | None, problems: list[str]) -> Invoice | None:
    """The row, its document and its fact say the same. Returns the invoice where it can be read at all."""
    name = _named(row)
    if sha256(row.document.encode()).digest() != row.digest:
        problems.append(f"{name}: the stored document is not what was sent (its digest differs)")
    if fact is None:
        problems.append(f"{name}: no batch of the ledger records it")
    elif (fact.lane, fact.batch) != (row.lane, row.batch):
        problems.append(f"{name}: it names batch {row.lane}-{row.batch}, but {fact.lane}-{fact.batch} records it")
    elif fact.body.get("digest") != row.digest.hex():
        problems.append(f"{name}: it is not the document that batch {fact.lane}-{fact.batch} recorded")
    try:
        document = json.loads(row.document)
        found = invoice_from_json(document)
    except (IntegrityError, ValueError, AttributeError) as error:
        problems.append(f"{name}: {error.what if isinstance(error, IntegrityError) else 'the document is not JSON'}")
        return None
    stored = (row.number, row.account, Month.from_index(row.posting_month), row.currency, _cut(row), row.converted)
    said = (found.number, found.account, found.period, found.currency, dict(found.cut), found.converted is not None)
    if stored != said:
        problems.append(f"{name}: number, account, period, currency or cut beside the document are not the document's")
    if row.number != number_text(row.series, row.serial):
        problems.append(f"{name}: the number is not number {row.serial} of series {row.series}")
    if fact is not None and fact.body != fact_body(row.namespace, document, row.ordinal, row.digest):
        problems.append(f"{name}: it is not what batch {fact.lane}-{fact.batch} recorded of it")
    problems += [f"{name}: {what}" for what in _check_arithmetic(found)]
    return found


def _cut(row: _Stored) -> dict[int, int]:
    try:
        return parse_cut(row.cut)
    except (ValueError, AttributeError):
        return {}


def _check_arithmetic(found: Invoice) -> Iterator[str]:
    """Every line is its exact amount rounded, the total is the sum of the lines (docs/reference/invoice-json.md)."""
    unit_nano = 10 ** (AMOUNT_SCALE - found.minor_digits)
    credit = rounded_credits(found.lines, found.minor_digits, found.rounding_mode)
    for line in found.lines:
        rounded = line.amount_minor * unit_nano
        near = 2 * abs(line.residual_nano) <= unit_nano
        if line.line in credit:
            near = line.amount_minor == credit[line.line]
        if rounded + line.residual_nano != line.amount_nano or not near:
            yield f"line {line.line} is not its exact amount rounded"
    if found.total_minor != sum(line.amount_minor for line in found.lines):
        yield "the total is not the sum of its lines"


Rates = Mapping[tuple[str, Rate], int]
"""(namespace, rate) -> the batch of lane 0 that recorded it first."""


def _rates(connection: Connection) -> Rates:
    found: dict[tuple[str, Rate], int] = {}
    for namespace, (rate, batch) in fx_rates.stored(connection):
        key = (namespace, rate)
        found[key] = min(batch, found.get(key, batch))
    return found


def _check_conversion(found: Invoice, row: _Stored, rates: Rates) -> Iterator[str]:
    """Every line was converted once, as the rule says, by rates the ledger had then, and rounded from the exact result."""
    assert found.converted is not None
    for line in found.lines:
        if line.original is None:
            yield f"line {line.line} does not say what it was converted from"
            continue
        wrong = defects(line.original, found.currency, found.converted)
        yield from (f"line {line.line}: {what}" for what in wrong)
        if wrong:
            continue
        exact, _ = convert(line.original.amount_nano, line.original.currency, line.original.rates)
        rounded = round_to_minor(exact, found.minor_digits, found.rounding_mode)
        # Credit is rounded with other lines (``_check_arithmetic``): only its exact amount is its own.
        exact_nano = rounded.minor * 10 ** (AMOUNT_SCALE - found.minor_digits) + rounded.residual_nano
        same = line.amount_nano == exact_nano and (
            line.kind == CREDIT or (line.amount_minor, line.residual_nano) == rounded
        )
        if not same:
            yield f"line {line.line} is not its original amount converted and rounded"
        for rate in line.original.rates:
            if rates.get((row.namespace, rate), row.batch) >= row.batch:
                yield f"line {line.line}: the rate {rate.what}, {rate.text}, is not one the ledger had"


def _check_sequence(
    rows: Sequence[_Stored], problems: list[str], currencies: Collection[str]
) -> Iterator[Mapping[str, Cut]]:
    """The cuts above which each of a month's invoices claims, by currency; ordinals have no gap and cuts never go back."""
    for _, same in groupby(rows, key=lambda row: row.account_key):
        history = History()
        for row in same:
            ordinal = history.next_ordinal(row.currency)
            if row.ordinal != ordinal:
                problems.append(f"{_named(row)}: it is invoice {row.ordinal} of its account and month, not {ordinal}")
            cut = _cut(row)
            taken = {row.currency, *currencies} if row.converted else {row.currency}
            above = history.above(taken)
            if any(cut.get(lane, 0) < batch for low in above.values() for lane, batch in low.items()):
                problems.append(f"{_named(row)}: it claims line items of the invoice before it")
            yield {currency: above.get(currency, NOTHING) for currency in taken}
            history.add(row.claimed)


def _check_lines(
    connection: Connection,
    rows: Sequence[_Stored],
    read: Sequence[Invoice | None],
    above: Sequence[Mapping[str, Cut]],
    prices: Mapping[int, PriceInfo],
) -> Iterator[str]:
    """The lines of a month's invoices are the sums of the line items they claim."""
    claimed = [
        (at, Claim(row.account_key, currency, low, _cut(row)))
        for at, row in enumerate(rows)
        for currency, low in above[at].items()
    ]
    found_sums = claims.claimed(connection, rows[0].namespace_key, rows[0].posting_month, [one for _, one in claimed])
    sums: list[list[ClaimedSum]] = [[] for _ in rows]
    for (at, _), part in zip(claimed, found_sums, strict=True):
        sums[at] += part
    for row, found, ledger in zip(rows, read, sums, strict=True):
        if found is not None:
            for what in _compare(_said(found), _added_up(ledger, prices)):
                yield f"{_named(row)}: {what}"


def _said(found: Invoice) -> dict[_LineKey, _LineSum]:
    """What the lines say of their line items: of a converted line, what it was before."""
    said = {}
    for line in found.lines:
        before = line.original
        currency, nano = (found.currency, line.amount_nano) if before is None else (before.currency, before.amount_nano)
        key = _LineKey(line.service_period.index, line.pricebook, line.price, line.meter, line.unit, currency)
        said[key] = _LineSum(line.line_items, Fraction(Decimal(line.quantity)), nano)
    return said


def _added_up(sums: Iterable[ClaimedSum], prices: Mapping[int, PriceInfo]) -> dict[_LineKey, _LineSum]:
    found: dict[_LineKey, _LineSum] = {}
    for one in sums:
        price = prices[one.price_version_key]
        key = _LineKey(one.service_month, price.pricebook, price.price, price.meter, price.unit, price.currency)
        before = found.get(key, _LineSum(0, Fraction(0), 0))
        found[key] = _LineSum(
            before.line_items + one.line_items,
            before.quantity + Fraction(one.quantity, 10**price.scale),
            before.amount_nano + one.amount_nano,
        )
    return found


def _compare(said: Mapping[_LineKey, _LineSum], ledger: Mapping[_LineKey, _LineSum]) -> Iterator[str]:
    """Where the invoice's lines and the ledger's line items differ."""
    for key in sorted(said.keys() | ledger.keys()):
        line, rows = said.get(key), ledger.get(key)
        if line == rows:
            continue
        name = f"line {key.price} of {Month.from_index(key.service_month)}"
        if rows is None:
            yield f"{name} has no line items in the ledger"
        elif line is None:
            yield f"{name} is missing, the ledger has {rows.line_items} line items for it"
        elif line.amount_nano != rows.amount_nano:
            amounts = (nano_to_text(line.amount_nano), nano_to_text(rows.amount_nano))
            yield f"{name} says {amounts[0]} {key.currency}, its line items come to {amounts[1]}"
        else:
            yield f"{name} states another quantity or count of line items than the ledger has"


def _check_counter(namespace: str, series: str, last_number: int, numbers: Sequence[int] | None) -> Iterator[str]:
    """A series runs from 1 to its counter without a gap."""
    taken = numbers or []
    expected = 1
    for serial in [*taken, last_number + 1]:
        if serial == expected + 1:
            yield f"invoice {number_text(series, expected)} of {namespace} is missing from its series"
        elif serial > expected:
            first, last = number_text(series, expected), number_text(series, serial - 1)
            yield f"invoices {first} to {last} of {namespace} are missing from their series"
        expected = serial + 1
    if taken and max(taken) > last_number:
        last = number_text(series, max(taken))
        yield f"invoice {last} of {namespace} is beyond its series' counter, which says {last_number}"
