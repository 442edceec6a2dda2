"""What an invoice document says, as text: amounts, dates, notes and the order of things; no layout, no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

from babel.dates import format_date

from lineitem.billing.conversion import Original, totals
from lineitem.billing.credits import CREDIT
from lineitem.billing.currency import format_amount, format_exact, format_money
from lineitem.billing.invoice import CORRECTION, USAGE, Invoice, InvoiceLine, Status
from lineitem.billing.rounding import RoundingMode
from lineitem.catalog.rate_file import Rate
from lineitem.core.limits import AMOUNT_SCALE
from lineitem.core.money import nano_to_text
from lineitem.core.period import Month, local_day, us_to_text

LINES_MAX = 2_000
"""Lines a PDF shows; 40,000 would take typst 3.8 GB. The rest is summed in one row, the JSON has every line."""
DESCRIPTION_CHARS_MAX = 600
"""A name or a line's description is cut here, so that no row is taller than a page."""

_NUMBER_CHARS_MAX = 24
_SHORT_NAME_CHARS_MAX = 60
_UNSHOWABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_ISSUER_FIRST = ("address", "tax_id", "registration", "email", "phone", "website")
_ISSUER_ELSEWHERE = ("name", "payment", "timezone")
_BILL_TO_TAGS = ("address", "tax_id", "email", "po_number", "cost_center")
_LABELS = {"tax_id": "Tax ID", "po_number": "PO number", "registration": "Registered"}
_UNLABELLED = ("address", "email", "phone", "website")
_MODES = {RoundingMode.HALF_UP: "halves away from zero", RoundingMode.HALF_EVEN: "halves to the even unit"}


def invoice_view(invoice: Invoice) -> dict[str, Any]:
    """Everything the template shows, as text (and lists of text): the document without its layout."""
    issuer = dict(invoice.issuer)
    zone = issuer.get("timezone", "UTC")
    final = invoice.status is Status.FINAL
    issued, due = local_day(invoice.issued_at_us, zone), invoice.due_at_us
    facts = [["Number", invoice.number or "not given yet"], ["Issued", _day_text(issued)]]
    if due is not None:
        facts.append(["Due", _day_text(local_day(due, zone))])
    facts.append(["Period", _period_text(invoice)])
    facts.append(["Time zone", invoice.timezone])
    issuer_name = issuer.get("name", "")
    total = _money(invoice.total_minor, invoice)
    return {
        "title": "Invoice" if final else "Draft invoice",
        "number": _plain(invoice.number or "Draft"),
        "issuer_name": _plain(issuer_name),
        "author": _cut(_plain(issuer_name), _SHORT_NAME_CHARS_MAX),
        "facts": [[label, _plain(text)] for label, text in facts],
        "from": _party(issuer_name, issuer, _issuer_keys(issuer)),
        "bill_to": _party(
            invoice.account_name or invoice.account,
            {"account": invoice.account, **dict(invoice.tags)},
            ("account", *_BILL_TO_TAGS),
        ),
        "headline": _headline(invoice, zone),
        "currency": invoice.currency,
        "column_chars": _NUMBER_CHARS_MAX,
        "sections": list(_sections(invoice)),
        "rates": _rates(invoice),
        "originals": _originals(invoice),
        "totals": _totals(invoice, total),
        "total": ["Total" if invoice.total_minor >= 0 else "Total credit", total],
        "payment": _plain(issuer.get("payment", "")) if final and due is not None else "",
        "notes": _notes(invoice),
        "proof": _proof(invoice),
    }


def _totals(invoice: Invoice, total: str) -> list[list[str]]:
    if not invoice.credit_lines:
        return [["Subtotal", total]]
    owed, credit = invoice.total_minor - invoice.credits_minor, invoice.credits_minor
    return [["Subtotal", _money(owed, invoice)], ["Prepaid credit", _money(credit, invoice)]]


def _headline(invoice: Invoice, zone: str) -> dict[str, str]:
    amount = _money(abs(invoice.total_minor), invoice)
    if invoice.status is not Status.FINAL:
        return {"label": "Amount under review", "amount": amount, "aside": "A draft is not a request for payment."}
    if invoice.total_minor < 0:
        return {"label": "Credit in your favour", "amount": amount, "aside": "Nothing to pay."}
    if invoice.due_at_us is None:
        return {"label": "Amount due", "amount": amount, "aside": "Nothing to pay for this period."}
    return {"label": "Amount due", "amount": amount, "aside": f"by {_day_text(local_day(invoice.due_at_us, zone))}"}


def _issuer_keys(issuer: dict[str, str]) -> tuple[str, ...]:
    known = (*_ISSUER_FIRST, *_ISSUER_ELSEWHERE)
    return (*_ISSUER_FIRST, *sorted(key for key in issuer if key not in known))


def _party(name: str, values: dict[str, str], keys: Sequence[str]) -> dict[str, Any]:
    details = []
    for key in keys:
        if value := values.get(key, "").strip():
            label = _LABELS.get(key, key.replace("_", " ").capitalize())
            details.append(_plain(value if key in _UNLABELLED else f"{label} {value}"))
    return {"name": _plain(_cut(name, DESCRIPTION_CHARS_MAX)), "details": details}


def _sections(invoice: Invoice) -> Iterator[dict[str, Any]]:
    """The table's parts, each under its heading: this period, corrections, and what did not fit."""
    shown, rest = invoice.lines[:LINES_MAX], invoice.lines[LINES_MAX:]
    current = [line for line in shown if line.kind not in (CORRECTION, CREDIT)]
    corrections = [line for line in shown if line.kind == CORRECTION]
    quantity_fraction = max((len(_fraction(line.quantity)) for line in shown), default=0)
    exact_fraction = max((len(_fraction(nano_to_text(line.amount_nano))) for line in shown if _moved(line)), default=0)
    widths = (quantity_fraction, exact_fraction)
    if current:
        yield {"heading": "", "rows": [_row(line, invoice, widths) for line in current]}
    if corrections:
        yield {
            "heading": "Corrections to earlier periods",
            "rows": [_row(line, invoice, widths) for line in corrections],
        }
    credit = [line for line in shown if line.kind == CREDIT]
    if credit:
        yield {"heading": "Prepaid credit", "rows": [_row(line, invoice, widths) for line in credit]}
    if rest:
        yield {"heading": "Further lines", "rows": [_rest_row(rest, invoice)]}


def _row(line: InvoiceLine, invoice: Invoice, widths: tuple[int, int]) -> dict[str, Any]:
    detail = [] if line.description in ("", line.price) else [line.price]
    if line.kind not in (USAGE, CORRECTION, CREDIT):
        detail.append(line.kind.replace("_", " "))
    if line.service_period != invoice.period:
        detail.append(f"service period {_month_text(line.service_period)}")
    if line.kind != CREDIT:
        detail.append(f"{line.pricebook} {', '.join(f'v{version}' for version in line.versions)}".strip())
    if line.original is not None and line.original.currency != invoice.currency:
        detail.append(_original_text(line.original))
    detail.append(f"{line.line_items:,}\u00a0line\u00a0item{'' if line.line_items == 1 else 's'}")
    return {
        "description": _plain(_cut(line.description or line.price, DESCRIPTION_CHARS_MAX)),
        "detail": _plain("  ·  ".join(detail)),
        "quantity": _aligned(line.quantity, widths[0]) if line.kind != CREDIT else ["", ""],
        "unit": _plain(_cut(line.unit, _NUMBER_CHARS_MAX)),
        "exact": _aligned(nano_to_text(line.amount_nano), widths[1]) if _moved(line) else ["", ""],
        "amount": _number(format_amount(line.amount_minor, invoice.minor_digits)),
    }


def _original_text(original: Original) -> str:
    amount = f"{format_exact(nano_to_text(original.amount_nano))}\u00a0{original.currency}"
    return f"{amount} at {', '.join(_rate_text(rate) for rate in original.rates)}"


def _rate_text(rate: Rate) -> str:
    return f"1\u00a0{rate.base}\u00a0=\u00a0{rate.text}\u00a0{rate.quote}"


def _rates(invoice: Invoice) -> list[list[str]]:
    """The rates of all lines, each once, as rows: what, day, source."""
    found = {rate for line in invoice.lines if line.original is not None for rate in line.original.rates}
    return [
        [_plain(_number(_rate_text(rate))), _day_text(rate.day), _plain(_cut(rate.source, _SHORT_NAME_CHARS_MAX))]
        for rate in sorted(found)
    ]


def _originals(invoice: Invoice) -> list[list[str]]:
    """Of each currency the line items are in: the exact sum, and what its lines come to on the invoice."""
    lines = [(line.original, line.amount_minor) for line in invoice.lines if line.original is not None]
    return [
        [currency, _number(format_exact(nano_to_text(nano))), _money(minor, invoice)]
        for currency, (nano, minor) in totals(lines).items()
    ]


def _moved(line: InvoiceLine) -> bool:
    """Whether rounding moved the amount, so that the exact one is worth showing under it."""
    return line.residual_nano != 0


def _rest_row(rest: Sequence[InvoiceLine], invoice: Invoice) -> dict[str, Any]:
    total_minor = sum(line.amount_minor for line in rest)
    return {
        "description": f"{len(rest):,} further {'line' if len(rest) == 1 else 'lines'}",
        "detail": f"This document shows the first {LINES_MAX:,} lines; the invoice's data file has every line.",
        "quantity": ["", ""],
        "unit": "",
        "exact": ["", ""],
        "amount": _number(format_amount(total_minor, invoice.minor_digits)),
    }


def _notes(invoice: Invoice) -> list[str]:
    decimals = {0: "whole units", 1: "1 decimal"}.get(invoice.minor_digits, f"{invoice.minor_digits} decimals")
    priced_in = "its currency" if invoice.converted else invoice.currency
    notes = [
        (
            f"Usage is priced exactly, to {AMOUNT_SCALE} decimals of {priced_in}. Each line is rounded once to "
            f"{decimals}, {_MODES[invoice.rounding_mode]}; the total is the sum of the rounded lines. "
            f"{_rounding_text(invoice)}"
        ),
        (
            f"The service period runs from {us_to_text(invoice.period_start_us)} up to, not including, "
            f"{us_to_text(invoice.period_end_us)}: calendar days in {invoice.timezone}."
        ),
    ]
    if invoice.own_currency is not None and invoice.own_currency[0]:
        notes.append(f"{invoice.currency} stands for {invoice.own_currency[0]}.")
    if invoice.converted is not None:
        rule = invoice.converted
        notes.append(
            f"Amounts in other currencies are converted to {invoice.currency} once, line by line, from their exact sum "
            f"and before rounding, by the rate of {rule.rule.source} of {_day_text(rule.on)} or the latest before it, at "
            f"most {rule.rule.max_age_days} days older."
        )
    if invoice.credit_lines:
        notes.append(
            "Prepaid credit pays for the lines above as far as it goes. It is rounded together with what is left to pay, so "
            "that lines it pays in full leave nothing."
        )
    if any(line.kind == CORRECTION for line in invoice.lines):
        notes.append(
            "Corrections are differences for usage of earlier periods that arrived, or was corrected, after their "
            "invoice was final; each names its service period."
        )
    return [_plain(note) for note in notes]


def _rounding_text(invoice: Invoice) -> str:
    if not any(_moved(line) for line in invoice.lines):
        return "Rounding changed nothing here."
    exact = format_exact(nano_to_text(sum(line.amount_nano for line in invoice.lines)))
    residual = format_exact(nano_to_text(invoice.residual_total_nano))
    return (
        "Where rounding moved an amount, the exact one stands under it: "
        f"exact sum {exact}, rounding residual {residual} {invoice.currency}."
    )


def _proof(invoice: Invoice) -> str:
    cut = "  ".join(f"{lane}:{batch}" for lane, batch in invoice.cut)
    digest = f"SHA-256 {invoice.digest[:8]} {invoice.digest[8:16]}"
    return f"Ledger cut {cut}  ·  {digest}" if cut else digest


def _period_text(invoice: Invoice) -> str:
    first = local_day(invoice.period_start_us, invoice.timezone)
    last = local_day(invoice.period_end_us - 1, invoice.timezone)
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day} \N{EN DASH} {_day_text(last)}"
    return f"{_day_text(first)} \N{EN DASH} {_day_text(last)}"


def _month_text(month: Month) -> str:
    return format_date(date(month.year, month.month, 1), "MMMM y", locale="en")


def _day_text(day: date) -> str:
    return format_date(day, "d MMMM y", locale="en")


def _fraction(text: str) -> str:
    return text.partition(".")[2]


def _aligned(text: str, fraction_digits: int) -> list[str]:
    """``[number, padding]``: laid out together, with the padding invisible, decimal points stand under each other."""
    fraction = _fraction(text)
    missing = fraction_digits - len(fraction)
    padding = "" if fraction_digits == 0 else ("0" * missing if fraction else "." + "0" * missing)
    number = format_exact(text)
    return [_number(number), "" if _too_wide(number) else padding]


def _money(minor: int, invoice: Invoice) -> str:
    symbol = None if invoice.own_currency is None else invoice.own_currency[1]
    return _number(format_money(minor, invoice.currency, digits=invoice.minor_digits, symbol=symbol))


def _number(text: str) -> str:
    """A number too wide for its column may break after a group of digits; any other stays whole."""
    return text.replace(",", ",\u200b") if _too_wide(text) else text


def _too_wide(number: str) -> bool:
    return len(number) > _NUMBER_CHARS_MAX


def _cut(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"


def _plain(text: str) -> str:
    """Text a page can show: control characters become the replacement character."""
    return _UNSHOWABLE.sub("\ufffd", text)
