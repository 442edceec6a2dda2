"""An exchange rate of a day and source, and the CSV files rates are read from."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Sequence
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from lineitem.catalog.currencies import is_iso
from lineitem.catalog.document import decimal_text
from lineitem.catalog.fields import ID_PATTERN, ID_RULE
from lineitem.catalog.price_reader import decimal_of, shorten
from lineitem.core.errors import InputError

COLUMNS = ("date", "base", "quote", "rate", "source")
"""The columns of a rates file, in any order."""
RATES_MAX = 100_000
"""Rates of one file; each stands in the chain."""
RATES_BYTES_MAX = 16 << 20
"""Bytes of one file."""
WHOLE_DIGITS_MAX = 20
"""Digits before the point, beside the 18 behind it."""
_PROBLEMS_MAX = 20
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


class Rate(NamedTuple):
    """One unit of ``base`` is worth ``rate`` units of ``quote`` on ``day``, says ``source``. Exact, above zero."""

    source: str
    base: str
    quote: str
    day: date
    rate: Decimal

    @property
    def pair(self) -> str:
        """As people write it: ``EUR/USD``."""
        return f"{self.base}/{self.quote}"

    @property
    def text(self) -> str:
        """The rate as shortest plain text."""
        return decimal_text(self.rate)

    @property
    def what(self) -> str:
        """What it is the rate of, for messages."""
        return f"{self.pair} of {self.day} from {self.source}"


class KeptRate(NamedTuple):
    """A rate, and the batch of lane 0 that recorded it."""

    rate: Rate
    batch: int


def parse_rates(raw: bytes, name: str, own_currencies: Collection[str] = ()) -> list[Rate]:
    """The rates of a CSV file with a header of ``COLUMNS``, sorted; a row that says the same twice counts once.

    Raises InputError naming every bad line (the first 20): a rate that is not a plain decimal above zero of at most 18
    decimals, a date that is none, a code that is neither ISO 4217 nor one of ``own_currencies``, two rates for one thing.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("is not UTF-8 text", where=name, do="Save it as UTF-8.") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    problems: list[str] = []
    found: dict[tuple[str, str, str, date], Rate] = {}
    try:
        _check_header(reader.fieldnames, name)
        for row in reader:
            rate, defects = _rate(row, own_currencies)
            if rate is not None:
                before = found.setdefault(rate[:4], rate)
                if before.rate != rate.rate:
                    defects.append(f"{rate.what} is {rate.text} here and {before.text} above")
            problems += [f"{name}:{reader.line_num}: {defect}" for defect in defects]
            if len(found) > RATES_MAX:
                raise InputError(f"has more than {RATES_MAX} rates", where=name, do="Split it.")
    except csv.Error as error:
        problems.append(f"{name}:{reader.line_num}: {error}")
    if problems:
        raise InputError("\n".join(problems[:_PROBLEMS_MAX]), do="Correct these lines; nothing was loaded.")
    return sorted(found.values())


def _check_header(names: Sequence[str] | None, name: str) -> None:
    if sorted(names or ()) != sorted(COLUMNS):
        said = ", ".join(names or ()) or "nothing"
        raise InputError(f"its columns are {shorten(said)}", where=name, do=f"Name them {', '.join(COLUMNS)}.")


def _rate(row: dict[str, str | None], own: Collection[str]) -> tuple[Rate | None, list[str]]:
    if None in row or None in row.values():
        return None, [f"the line has not {len(COLUMNS)} values"]
    cell = {key: (value or "").strip() for key, value in row.items()}
    value, defect = decimal_of(cell["rate"])
    if value is not None and value <= 0:
        defect = "it must be above zero"
    elif value is not None and value >= 10**WHOLE_DIGITS_MAX:
        defect = f"more than {WHOLE_DIGITS_MAX} digits before the point"
    defects = [] if defect is None else [f"the rate {shorten(cell['rate'])} cannot be used: {defect}"]
    for key in ("base", "quote"):
        if cell[key] not in own and not is_iso(cell[key]):
            defects.append(f"{key}: {shorten(cell[key])} is neither an ISO 4217 code nor a currency of the catalog")
    if cell["base"] == cell["quote"]:
        defects.append("base and quote are the same currency")
    if not ID_PATTERN.fullmatch(cell["source"]):
        defects.append(f"the source {shorten(cell['source'])} is no name; {ID_RULE}")
    day = parse_day(cell["date"])
    if day is None:
        defects.append(f"{shorten(cell['date'])} is not a date; write YYYY-MM-DD")
    if defects or day is None or value is None:
        return None, defects
    return Rate(cell["source"], cell["base"], cell["quote"], day, value), []


def parse_day(text: str) -> date | None:
    """``"2026-10-31"`` as a date; None for anything else."""
    if not _DATE.fullmatch(text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
