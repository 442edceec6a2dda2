"""The PDF says what the invoice says, looks the same every time, and takes any text as text."""

from __future__ import annotations

import io
from dataclasses import replace
from threading import Thread

import pytest
from pypdf import PdfReader

from lineitem.billing import document_text
from lineitem.billing.document import PdfRenderer, render_pdf
from lineitem.billing.document_text import invoice_view
from lineitem.billing.invoice import Invoice
from tests.billing.samples import ACCOUNT, ISSUER, SEPTEMBER, final, priced, review


def pages(invoice: Invoice) -> list[str]:
    """The text of each page, white space evened out."""
    return [" ".join(page.extract_text().split()) for page in PdfReader(io.BytesIO(render_pdf(invoice))).pages]


def test_what_an_invoice_has_to_say():
    """Number, both parties, dates, period and zone, lines, total, payment, rounding and the ledger's proof."""
    invoice = final([priced("a", 1_234_567_894_321, quantity=9_876_543), priced("b", 10**9)])
    (text,) = pages(invoice)
    for part in [
        "INV-2026-000042",
        "Northwind Compute GmbH",
        "Torstraße 140",
        "Team One SAS",
        "Account team-1",
        "Cost center 42",
        "2 November 2026",
        "by 2 December 2026",
        "October 2026",
        "Europe/Paris",
        "Usage of a",
        "9,876,543",
        "1,234.57",
        "1,234.567894321",
        "$1,235.57",
        "IBAN DE02 1203 0000 0000 2020 51",
        "rounding residual -0.002105679 USD",
        "Ledger cut 0:12 1:845 10:7",
        f"SHA-256 {invoice.digest[:8]}",
        "1 / 1",
    ]:
        assert part in text, part


def test_pages_repeat_the_header_and_are_numbered():
    """Sixty lines take several pages; each has the table's header, its number and the invoice's, none loses a line."""
    every = pages(final([priced(f"price-{i:02}", 10**9 + i) for i in range(60)]))
    assert len(every) > 2
    for number, text in enumerate(every, start=1):
        assert f"{number} / {len(every)}" in text
        assert "INV-2026-000042" in text
        assert "Quantity" in text or number == len(every)
    whole = " ".join(every)
    assert all(f"Usage of price-{i:02}" in whole for i in range(60))


def test_same_invoice_same_bytes():
    """Rendering again, in another renderer, after other invoices, from a stored copy, gives the same bytes."""
    invoice, other = final([priced("a", 10**9)]), final([priced("b", 10**9)])
    first = render_pdf(invoice)
    renderer = PdfRenderer()
    renderer.render(other)
    assert renderer.render(replace(invoice)) == first
    assert renderer.render(other) != first


def test_dates_come_from_the_invoice():
    """The PDF's own creation date is the date of issue, its title the number."""
    meta = PdfReader(io.BytesIO(render_pdf(final([priced("a", 10**9)])))).metadata
    assert meta is not None
    assert meta.creation_date is not None
    assert meta.creation_date.isoformat() == "2026-11-02T00:00:00+00:00"
    assert (meta.title, meta.author) == ("Invoice INV-2026-000042", "Northwind Compute GmbH")


HOSTILE = [
    "#panic() #set page(fill: red) $x^2$ @nobody <label> *b* _i_ `raw` // # \\ \" ' { } [ ]",
    "Ampère & Söhne – “quoted” … ™",  # noqa: RUF001
    "שלום עולם مرحبا بالعالم",
    "👋🏽👨‍👩‍👧 漢字かな ไทย",
    "W" * 300,
    "word " * 60,
    "tab\tnull\x00bell\x07newline\nreturn\r",
    "",
    " ",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_is_only_text(text):
    """Markup of typst, right-to-left text, emoji, long words and control characters do no harm anywhere."""
    account = replace(ACCOUNT, id=text or "a", name=text, tags=(("address", text), ("po_number", text)))
    issuer = {**ISSUER, "name": text, "payment": text, text or "x": text}
    one = priced(text, 10**9, description=text, unit=text, pricebook=text)
    every = " ".join(pages(final([one], account=account, issuer=issuer)))
    assert "$1.00" in every
    assert "INV-2026-000042" in every


def test_markup_is_printed_as_it_is():
    """A name that looks like code is shown, not run."""
    (text,) = pages(final([priced("a", 10**9, description="#panic() $x$ @y <z>")]))
    assert "#panic() $x$ @y <z>" in text


def test_archival_where_the_fonts_allow():
    """Ordinary text gives PDF/A-2u; a character no shipped font has still gives a PDF."""
    assert b"pdfaid:part>2<" in render_pdf(final([priced("a", 10**9)]))
    assert b"pdfaid:part" not in render_pdf(final([priced("a", 10**9, description="漢字")]))


def test_no_usage_and_drafts():
    """An empty invoice says so; a draft says that it is one."""
    assert "No usage was billed in this period." in pages(final([]))[0]
    draft = pages(review([priced("a", 10**9)]))[0]
    assert "Draft invoice" in draft
    assert "not a request for payment" in draft


def test_corrections_name_their_service_period():
    """Earlier usage stands under its own heading with the month it belongs to."""
    (text,) = pages(final([priced("a", 10**9), priced("a", -(10**9), service_month=SEPTEMBER)]))
    assert "Corrections to earlier periods" in text
    assert "service period September 2026" in text


def test_long_invoices_are_cut_with_the_rest_summed(monkeypatch):
    """Past the cap one row holds the sum of the rest, so that the document still adds up to its total."""
    monkeypatch.setattr(document_text, "LINES_MAX", 3)
    invoice = final([priced(f"p{i}", 10**9 * (i + 1)) for i in range(6)])
    current, further = invoice_view(invoice)["sections"]
    assert [row["amount"] for row in current["rows"]] == ["1.00", "2.00", "3.00"]
    assert (further["rows"][0]["description"], further["rows"][0]["amount"]) == ("3 further lines", "15.00")
    assert "first 3 lines" in " ".join(pages(invoice))


def test_one_renderer_for_many_threads():
    """Threads that share a renderer each get their own invoice."""
    renderer = PdfRenderer()
    invoices = [final([priced("a", 10**9 * i)]) for i in range(1, 5)]
    made: dict[int, bytes] = {}

    def work(index: int) -> None:
        made[index] = renderer.render(invoices[index])

    threads = [Thread(target=work, args=(index,)) for index in range(len(invoices))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [made[index] for index in range(len(invoices))] == [render_pdf(invoice) for invoice in invoices]
