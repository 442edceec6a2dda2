"""The invoice as a PDF one would send, laid out by a typst template with shipped fonts.

Everything the template shows arrives as JSON text, never as typst source, so no name or description can be markup.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from threading import Lock

import typst

from lineitem.billing.document_text import invoice_view
from lineitem.billing.invoice import Invoice

_HERE = Path(__file__).parent
_FONTS = _HERE / "fonts"
_TEMPLATE = _HERE / "templates" / "invoice.typ"
_ARCHIVAL: typst.PDFStandard = "a-2u"


class PdfRenderer:
    """Lays invoices out; made once and reused, because typst keeps what it parsed and loaded between calls.

    ``font_folders`` add fonts for scripts the shipped ones lack (Chinese, Japanese, Korean, Indic, Thai): their
    families are used for the characters Inter and DejaVu Sans do not have. Safe to share between threads.
    """

    def __init__(self, font_folders: Sequence[Path] = ()) -> None:
        fonts = typst.Fonts(
            include_system_fonts=False,
            include_embedded_fonts=False,
            font_paths=[_FONTS, *font_folders],
        )
        shipped = ("Inter", "DejaVu Sans")
        self._families = [*shipped, *(family for family in fonts.families() if family not in shipped)]
        self._compiler = typst.Compiler(root=_TEMPLATE.parent, font_paths=fonts, ignore_system_fonts=True)
        self._lock = Lock()  # a compiler keeps its inputs between calls

    def render(self, invoice: Invoice) -> bytes:
        """The PDF, as PDF/A-2u where the fonts have every character, else as plain PDF with boxes for the missing ones.

        The same invoice gives the same bytes: dates come from it, never from the clock.
        """
        try:
            pdf = self.lay_out(invoice, "pdf", [_ARCHIVAL])
        except typst.TypstError:
            # The standard forbids characters without a glyph; anything else that is wrong is raised again here.
            pdf = self.lay_out(invoice, "pdf", [])
        assert isinstance(pdf, bytes)
        return pdf

    def lay_out(
        self, invoice: Invoice, form: typst.OutputFormat, standards: list[typst.PDFStandard]
    ) -> bytes | list[bytes] | None:
        """Compile to ``form`` (``png`` gives one image a page) under PDF ``standards``."""
        view = {**invoice_view(invoice), "families": self._families}
        with self._lock:
            return self._compiler.compile(
                input=_TEMPLATE,
                format=form,
                sys_inputs={"view": json.dumps(view)},
                pdf_standards=standards,
                timestamp=invoice.issued_at_us // 1_000_000,
            )


@cache
def _shared_renderer() -> PdfRenderer:
    return PdfRenderer()


def render_pdf(invoice: Invoice) -> bytes:
    """The invoice as PDF bytes, with the shipped fonts; see ``PdfRenderer`` for more scripts."""
    return _shared_renderer().render(invoice)
