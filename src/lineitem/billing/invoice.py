"""An invoice as a value: built from sums of line items, rounded once per line, written as JSON and read back."""

from __future__ import annotations

import json
import re
from calendar import timegm
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from hashlib import sha256
from typing import Any

from whenever import Instant

from lineitem.billing.conversion import Applied, Original, RateTable, convert, totals
from lineitem.billing.credits import CREDIT, credits_minor
from lineitem.billing.currency import minor_digits, minor_from_text, minor_to_text
from lineitem.billing.rounding import RoundingMode, round_to_minor
from lineitem.catalog.model import Account, Conversion, ConversionDate, OwnCurrency
from lineitem.catalog.rate_file import Rate
from lineitem.core.errors import InputError, IntegrityError, LineitemError
from lineitem.core.limits import AMOUNT_SCALE
from lineitem.core.money import nano_to_text, scaled_to_text, text_to_scaled
from lineitem.core.period import Month, us_to_text, zone_exists

SCHEMA = 1
"""Version of the JSON shape and of the bytes the digest covers; never changed for an invoice that exists."""
NET_DAYS_DEFAULT = 30
USAGE = "usage"
CORRECTION = "correction"
Pairs = tuple[tuple[str, str], ...]
_SORTS_OTHERWISE = re.compile("[\ue000-\U0010ffff]")
"""Characters whose order as code points may differ from their order in UTF-16."""


class Status(StrEnum):
    """Where an invoice stands."""

    REVIEW = "review"
    """Not numbered yet; may still be thrown away and built again."""
    FINAL = "final"
    """Numbered and sent; never changes."""


@dataclass(frozen=True, slots=True)
class PricedSum:
    """The sum of the line items an invoice claims for one price and service month.

    ``quantity`` has ``scale`` decimals; ``versions`` are the pricebook versions that priced it; ``line_item_count``
    says how many ledger rows it sums.
    """

    price: str
    meter: str
    description: str
    unit: str
    quantity: int
    scale: int
    amount_nano: int
    pricebook: str
    versions: tuple[int, ...]
    line_item_count: int
    service_month: Month
    kind: str = USAGE
    currency: str = ""
    """What the amount is in; "": the invoice's."""


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """One line: ``amount_nano`` is exact, ``amount_minor`` rounded, ``residual_nano`` what rounding took away.

    ``original`` is None but on an invoice that is converted: there ``amount_nano`` is the converted amount to 9 decimals.
    """

    line: int
    price: str
    description: str
    meter: str
    unit: str
    quantity: str
    amount_nano: int
    amount_minor: int
    residual_nano: int
    pricebook: str
    versions: tuple[int, ...]
    line_items: int
    service_period: Month
    kind: str
    original: Original | None = None


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice of one account, posting period and currency. Instants are microseconds since the epoch, UTC.

    ``own_currency``: name and symbol of a currency of the catalog's own. ``converted``: the rule by which line items of
    any currency came into this invoice's; None on an invoice over line items of its own currency alone.

    ``number`` is None until it is final. ``cut`` is the (lane, batch) vector up to which the ledger was read,
    ``digest`` the SHA-256 (hex) of ``canonical_bytes``.
    """

    number: str | None
    status: Status
    account: str
    account_name: str
    tags: Pairs
    timezone: str
    period: Month
    period_start_us: int
    period_end_us: int
    currency: str
    minor_digits: int
    rounding_mode: RoundingMode
    issued_at_us: int
    due_at_us: int | None
    issuer: Pairs
    lines: tuple[InvoiceLine, ...]
    total_minor: int
    residual_total_nano: int
    cut: tuple[tuple[int, int], ...]
    digest: str = ""
    own_currency: tuple[str, str] | None = None
    converted: Applied | None = None

    @property
    def credit_lines(self) -> tuple[InvoiceLine, ...]:
        """The lines that stand for prepaid credit."""
        return tuple(line for line in self.lines if line.kind == CREDIT)

    @property
    def credits_minor(self) -> int:
        """What they come to, mostly below zero."""
        return sum(line.amount_minor for line in self.credit_lines)


def build_invoice(
    sums: Iterable[PricedSum],
    *,
    account: Account,
    issuer: Mapping[str, str],
    period: Month,
    bounds_us: tuple[int, int],
    currency: str,
    cut: Mapping[int, int],
    issued_at_us: int,
    mode: RoundingMode = RoundingMode.HALF_UP,
    net_days: int = NET_DAYS_DEFAULT,
    own: OwnCurrency | None = None,
    rates: RateTable | None = None,
) -> Invoice:
    """The invoice in review for ``sums``, all of which are in ``currency`` unless there are ``rates``; order means nothing.

    One line per price and service month, whatever kinds of line items it sums, so that rounding happens once: its kind
    is theirs if they agree, else ``usage``. Earlier service months come behind, as ``correction``; last what was drawn
    of each prepaid grant, as ``credit``. The total is the sum of the rounded lines. An invoice with something to pay is
    due ``net_days`` calendar days after it is issued, in the issuer's zone (``issuer["timezone"]``, else UTC); any other
    has no due date. ``own``: what the catalog says of a currency that is not ISO's. With ``rates`` each line is converted
    once, from its exact amount, unless it is in ``currency`` already. Raises InputError for an unknown currency or issuer
    zone, NoRate where a rate is missing.
    """
    digits = minor_digits(currency) if own is None else own.exponent
    zone = issuer_zone(issuer)
    make = _Lines(period, currency, digits, mode, rates)
    lines = make.rounded_together([make.line(at, group) for at, group in enumerate(_grouped(sums, period), start=1)])
    total_minor = sum(line.amount_minor for line in lines)
    invoice = Invoice(
        number=None,
        status=Status.REVIEW,
        account=account.id,
        account_name=account.name,
        tags=tuple(sorted(account.tags)),
        timezone=account.timezone,
        period=period,
        period_start_us=bounds_us[0],
        period_end_us=bounds_us[1],
        currency=currency,
        minor_digits=digits,
        rounding_mode=mode,
        issued_at_us=issued_at_us,
        due_at_us=_due_at_us(issued_at_us, net_days, zone) if total_minor > 0 else None,
        issuer=tuple(sorted(issuer.items())),
        lines=lines,
        total_minor=total_minor,
        residual_total_nano=sum(line.residual_nano for line in lines),
        cut=tuple(sorted(cut.items())),
        own_currency=None if own is None else (own.name, own.symbol),
        converted=None if rates is None else rates.applied,
    )
    return replace(invoice, digest=sha256(canonical_bytes(invoice)).hexdigest())


def issuer_zone(issuer: Mapping[str, str]) -> str:
    """The issuer's time zone, else UTC. Raises InputError where there is no such zone."""
    zone = issuer.get("timezone", "UTC")
    if not zone_exists(zone):
        raise InputError(f"the issuer's time zone {zone!r} is not known", do="Use an IANA name such as Europe/Paris.")
    return zone


def finalise(invoice: Invoice, number: str) -> Invoice:
    """The same invoice under its number; content and digest stay. Raises InputError if it already has one."""
    if invoice.number is not None:
        raise InputError(f"invoice {invoice.number} is final", do="Answer a final invoice with a credit note.")
    return replace(invoice, number=number, status=Status.FINAL)


def canonical_bytes(invoice: Invoice) -> bytes:
    """What the ledger hashes: the canonical JSON of everything but ``number``, ``status`` and ``digest``.

    The number is given inside the finalising transaction, after the content is fixed; the ledger's row binds it.
    """
    content = invoice_to_json(invoice)
    return canonical_json({key: value for key, value in content.items() if key not in ("number", "status", "digest")})


def canonical_json(value: object) -> bytes:
    """One JSON text per value (RFC 8785): keys in UTF-16 order, no blanks, UTF-8. For text and integers below 2^53."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # Below the surrogates code points sort as UTF-16 does; nearly every document ends here, five times sooner.
    if _SORTS_OTHERWISE.search(text):
        text = json.dumps(_key_ordered(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def invoice_to_json(invoice: Invoice) -> dict[str, Any]:
    """The invoice as a JSON document (``docs/reference/invoice-json.md``); money and quantities are strings."""
    digits = invoice.minor_digits
    total = minor_to_text(invoice.total_minor, digits)
    # What an invoice does not have is not in its document: those sent before there was such a thing keep their digests.
    more: dict[str, Any] = {}
    if invoice.own_currency is not None:
        more["own_currency"] = {"name": invoice.own_currency[0], "symbol": invoice.own_currency[1]}
    if invoice.credit_lines:
        more["credits"] = minor_to_text(invoice.credits_minor, digits)
    if invoice.converted is not None:
        more["conversion"] = _conversion_to_json(invoice, invoice.converted)
    return more | {
        "schema": SCHEMA,
        "number": invoice.number,
        "status": invoice.status.value,
        "account": invoice.account,
        "account_name": invoice.account_name,
        "tags": dict(invoice.tags),
        "currency": invoice.currency,
        "period": str(invoice.period),
        "period_start": us_to_text(invoice.period_start_us),
        "period_end": us_to_text(invoice.period_end_us),
        "timezone": invoice.timezone,
        "issued_at": us_to_text(invoice.issued_at_us),
        "due_at": None if invoice.due_at_us is None else us_to_text(invoice.due_at_us),
        "issuer": dict(invoice.issuer),
        "lines": [_line_to_json(line, digits) for line in invoice.lines],
        "rounding": {"mode": invoice.rounding_mode.value, "minor_digits": digits},
        "subtotal": total,
        "total": total,
        "residual_total": nano_to_text(invoice.residual_total_nano),
        "cut": {str(lane): batch for lane, batch in invoice.cut},
        "digest": invoice.digest,
    }


def invoice_from_json(document: Mapping[str, Any]) -> Invoice:
    """Inverse of ``invoice_to_json``, so that a stored invoice is shown exactly as it was sent.

    Raises IntegrityError when the document is not a whole invoice of this schema or no longer has its digest.
    """
    where = f"invoice {document.get('number') or '(not numbered)'}"
    try:
        invoice = _parse(document)
    except (KeyError, TypeError, ValueError, AttributeError, LineitemError) as error:
        raise IntegrityError(
            f"the stored document cannot be read: {error!r}", where=where, do="Run `lineitem verify`."
        ) from error
    # The digest covers what was parsed; comparing the whole document finds what parsing does not look at.
    if invoice_to_json(invoice) != document or sha256(canonical_bytes(invoice)).hexdigest() != invoice.digest:
        raise IntegrityError("the stored document is not what was written", where=where, do="Run `lineitem verify`.")
    return invoice


def _grouped(sums: Iterable[PricedSum], period: Month) -> list[list[PricedSum]]:
    """The sums of each line, lines in their order: this period first, then corrections by month, then credit alike."""
    groups: dict[tuple[bool, bool, Month, str, str, str, str, str], list[PricedSum]] = {}
    for one in sums:
        month, credit = one.service_month, one.kind == CREDIT
        key = (credit, month < period, month, one.pricebook, one.price, one.meter, one.unit, one.currency)
        groups.setdefault(key, []).append(one)
    return [groups[key] for key in sorted(groups)]


def _kind(group: list[PricedSum], period: Month) -> str:
    if group[0].kind == CREDIT:
        return CREDIT
    if group[0].service_month < period:
        return CORRECTION
    kinds = {one.kind for one in group}
    return kinds.pop() if len(kinds) == 1 else USAGE


@dataclass(frozen=True, slots=True)
class _Lines:
    """How the lines of one invoice are made."""

    period: Month
    currency: str
    digits: int
    mode: RoundingMode
    rates: RateTable | None

    def line(self, number: int, group: list[PricedSum]) -> InvoiceLine:
        """The line of sums that belong together: converted at most once, rounded once."""
        amount_nano = sum(one.amount_nano for one in group)
        original = self._original(group[0], amount_nano)
        exact = amount_nano if original is None else convert(amount_nano, original.currency, original.rates)[0]
        rounded = round_to_minor(exact, self.digits, self.mode)
        scale = max(one.scale for one in group)
        first = group[0]
        return InvoiceLine(
            line=number,
            price=first.price,
            # A description may change between versions: the newest speaks for the line.
            description=max(group, key=lambda one: (max(one.versions, default=0), one.description)).description,
            meter=first.meter,
            unit=first.unit,
            quantity=scaled_to_text(sum(one.quantity * 10 ** (scale - one.scale) for one in group), scale),
            amount_nano=rounded.minor * 10 ** (AMOUNT_SCALE - self.digits) + rounded.residual_nano,
            amount_minor=rounded.minor,
            residual_nano=rounded.residual_nano,
            pricebook=first.pricebook,
            versions=tuple(sorted({version for one in group for version in one.versions})),
            line_items=sum(one.line_item_count for one in group),
            service_period=first.service_month,
            kind=_kind(group, self.period),
            original=original,
        )

    def rounded_together(self, lines: list[InvoiceLine]) -> tuple[InvoiceLine, ...]:
        """The lines, credit rounded together with what it pays."""
        minors = rounded_credits(lines, self.digits, self.mode)
        unit_nano = 10 ** (AMOUNT_SCALE - self.digits)
        return tuple(
            replace(
                line,
                amount_minor=minors[line.line],
                residual_nano=line.amount_nano - minors[line.line] * unit_nano,
            )
            if line.line in minors
            else line
            for line in lines
        )

    def _original(self, first: PricedSum, amount_nano: int) -> Original | None:
        currency = first.currency or self.currency
        if self.rates is None:
            if currency != self.currency:
                raise InputError(f"{first.price} is in {currency}, not in {self.currency}", do="Convert it by a rule.")
            return None
        return Original(currency, amount_nano, self.rates.path(currency, self.currency))


def rounded_credits(lines: Iterable[InvoiceLine], digits: int, mode: RoundingMode) -> dict[int, int]:
    """Line number -> minor units, of the lines that stand for credit."""
    credit: list[InvoiceLine] = []
    other: list[InvoiceLine] = []
    for line in lines:
        (credit if line.kind == CREDIT else other).append(line)
    owed = sum(line.amount_nano for line in other), sum(line.amount_minor for line in other)
    minors = credits_minor(*owed, [line.amount_nano for line in credit], digits, mode)
    return {line.line: minor for line, minor in zip(credit, minors, strict=True)}


def _due_at_us(issued_at_us: int, net_days: int, zone: str) -> int:
    issued = Instant.from_timestamp(issued_at_us // 1_000_000)
    return issued.to_tz(zone).add(days=net_days).timestamp() * 1_000_000


def _key_ordered(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _key_ordered(value[key]) for key in sorted(value, key=lambda key: key.encode("utf-16-be"))}
    if isinstance(value, list):
        return [_key_ordered(item) for item in value]
    return value


def _conversion_to_json(invoice: Invoice, applied: Applied) -> dict[str, Any]:
    rule, digits = applied.rule, invoice.minor_digits
    sums = totals((line.original, line.amount_minor) for line in invoice.lines if line.original is not None)
    return {
        "source": rule.source,
        "date_rule": rule.date.value,
        "date": applied.on.isoformat(),
        "max_age_days": rule.max_age_days,
        "pivot": rule.pivot,
        "totals": [
            {"currency": currency, "amount_exact": nano_to_text(nano), "amount": minor_to_text(minor, digits)}
            for currency, (nano, minor) in sums.items()
        ],
    }


def _original_to_json(original: Original) -> dict[str, Any]:
    return {
        "currency": original.currency,
        "amount_exact": nano_to_text(original.amount_nano),
        "rates": [
            {"base": one.base, "quote": one.quote, "rate": one.text, "date": one.day.isoformat(), "source": one.source}
            for one in original.rates
        ],
    }


def _line_to_json(line: InvoiceLine, digits: int) -> dict[str, Any]:
    more = {} if line.original is None else {"original": _original_to_json(line.original)}
    return more | {
        "line": line.line,
        "price": line.price,
        "description": line.description,
        "meter": line.meter,
        "unit": line.unit,
        "quantity": line.quantity,
        "amount_exact": nano_to_text(line.amount_nano),
        "amount": minor_to_text(line.amount_minor, digits),
        "residual": nano_to_text(line.residual_nano),
        "pricebook": line.pricebook,
        "versions": list(line.versions),
        "line_items": line.line_items,
        "service_period": str(line.service_period),
        "kind": line.kind,
    }


def _parse(document: Mapping[str, Any]) -> Invoice:
    if document["schema"] != SCHEMA:
        raise ValueError(f"schema {document['schema']!r} is not {SCHEMA}")
    digits = document["rounding"]["minor_digits"]
    due_at = document["due_at"]
    own = document.get("own_currency")
    return Invoice(
        number=document["number"],
        status=Status(document["status"]),
        account=document["account"],
        account_name=document["account_name"],
        tags=tuple(sorted(document["tags"].items())),
        timezone=document["timezone"],
        period=Month.parse(document["period"]),
        period_start_us=_text_to_us(document["period_start"]),
        period_end_us=_text_to_us(document["period_end"]),
        currency=document["currency"],
        minor_digits=digits,
        rounding_mode=RoundingMode(document["rounding"]["mode"]),
        issued_at_us=_text_to_us(document["issued_at"]),
        due_at_us=None if due_at is None else _text_to_us(due_at),
        issuer=tuple(sorted(document["issuer"].items())),
        lines=tuple(_line_from_json(line, digits) for line in document["lines"]),
        total_minor=minor_from_text(document["total"], digits),
        residual_total_nano=_nano(document["residual_total"]),
        cut=tuple(sorted((int(lane), batch) for lane, batch in document["cut"].items())),
        digest=document["digest"],
        own_currency=None if own is None else (own["name"], own["symbol"]),
        converted=_applied_from_json(document["conversion"]) if "conversion" in document else None,
    )


def _applied_from_json(found: Mapping[str, Any]) -> Applied:
    rule = Conversion(found["source"], ConversionDate(found["date_rule"]), found["max_age_days"], found["pivot"])
    return Applied(rule, date.fromisoformat(found["date"]))


def _original_from_json(found: Mapping[str, Any]) -> Original:
    rates = tuple(
        Rate(one["source"], one["base"], one["quote"], date.fromisoformat(one["date"]), Decimal(one["rate"]))
        for one in found["rates"]
    )
    if any(one.rate <= 0 for one in rates):
        raise ValueError("a rate is not above zero")
    return Original(found["currency"], _nano(found["amount_exact"]), rates)


def _line_from_json(line: Mapping[str, Any], digits: int) -> InvoiceLine:
    return InvoiceLine(
        line=line["line"],
        price=line["price"],
        description=line["description"],
        meter=line["meter"],
        unit=line["unit"],
        quantity=line["quantity"],
        amount_nano=_nano(line["amount_exact"]),
        amount_minor=minor_from_text(line["amount"], digits),
        residual_nano=_nano(line["residual"]),
        pricebook=line["pricebook"],
        versions=tuple(line["versions"]),
        line_items=line["line_items"],
        service_period=Month.parse(line["service_period"]),
        kind=line["kind"],
        original=_original_from_json(line["original"]) if "original" in line else None,
    )


def _nano(text: str) -> int:
    return text_to_scaled(text, AMOUNT_SCALE)


def _text_to_us(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return timegm(moment.utctimetuple()) * 1_000_000 + moment.microsecond
