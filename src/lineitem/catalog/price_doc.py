"""One price document (a mapping, as YAML or JSON decodes it) into a checked ``Price``; every defect is told.

A problem is a value, ``(path, text)``: the path leads from the document's root to the defect, so that a loader can add
the line and a caller of ``quote`` can read it as it is. What each model needs stands in ``MODEL_FIELDS`` alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from difflib import get_close_matches
from functools import cache
from typing import NamedTuple, TypeVar

from lineitem.catalog.model import Itemize, Price, Rounding, Tier, Transform
from lineitem.core.limits import FIELD_CHARS_MAX, QUANTITY_DIGITS_MAX

Path = tuple[str | int, ...]
Choice = TypeVar("Choice", Itemize, Rounding)

DECIMALS_MAX = 18
"""Decimals of a price, a bound, a rate or a quoted quantity."""

_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?", re.ASCII)
_DECIMAL_CHARS_MAX = 128


class Problem(NamedTuple):
    """One defect: where it is (keys and list indexes from the document's root) and what is wrong."""

    path: Path
    text: str

    def __str__(self) -> str:
        return f"{path_text(self.path)}: {self.text}" if self.path else self.text


class ModelFields(NamedTuple):
    """The keys a price model reads: all of ``required`` must be there; ``tier`` are the amounts a tier may carry."""

    required: tuple[str, ...]
    tier: tuple[str, ...] = ()


MODEL_FIELDS: dict[str, ModelFields] = {
    "per_unit": ModelFields(("unit_price",)),
    "graduated": ModelFields(("tiers",), tier=("unit_price", "flat_price")),
    "volume": ModelFields(("tiers",), tier=("unit_price", "flat_price")),
    "package": ModelFields(("package_size", "package_price")),
}
"""Every price model by name. ``rate.models`` holds one entry for each; a test keeps the two equal."""

COMMON_FIELDS = (
    "id", "meter", "model", "currency", "itemize", "description", "included", "maximum", "discount_rate", "transform",
    "on_change",
)  # fmt: skip


def path_text(path: Path) -> str:
    """A path as people write it: ``("tiers", 2, "up_to") -> "tiers[2].up_to"``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def shorten(value: object) -> str:
    """A value for a message, at most 40 characters of it."""
    if isinstance(value, int) and abs(value) >= 10**QUANTITY_DIGITS_MAX:
        return "a number of more than 38 digits"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def decimal_of(value: object, *, negative: bool = False) -> tuple[Decimal, None] | tuple[None, str]:
    """A decimal from an int, a decimal text or a Decimal: ``(value, None)``, or ``(None, what is wrong)``.

    A binary float is refused: what was written as 0.1 is no longer 0.1 by the time it arrives here. At most 38 digits
    and 18 decimals; below zero only with ``negative``.
    """
    if isinstance(value, bool) or value is None:
        return None, f"{shorten(value)} is not a number"
    if isinstance(value, float):
        return None, f"{value!r} was read as a binary fraction, which cannot hold it exactly; write it in quotes"
    if isinstance(value, int):
        if abs(value) >= 10**QUANTITY_DIGITS_MAX:
            return None, f"more than {QUANTITY_DIGITS_MAX} digits"
        value = str(value)
    if isinstance(value, str):
        if len(value) > _DECIMAL_CHARS_MAX or not _DECIMAL.fullmatch(value):
            return None, f"{shorten(value)} is not a decimal number"
        value = Decimal(value)
    if not isinstance(value, Decimal):
        return None, f"{shorten(value)} is not a number"
    return _within_limits(value, negative)


def _within_limits(value: Decimal, negative: bool) -> tuple[Decimal, None] | tuple[None, str]:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        return None, f"{value} is not a finite number"
    if not any(digits):
        return Decimal(0), None
    if sign and not negative:
        return None, f"{shorten(str(value))} is negative"
    trailing = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    if -(exponent + trailing) > DECIMALS_MAX:
        return None, f"more than {DECIMALS_MAX} decimals"
    if len(digits) + max(exponent, -trailing) > QUANTITY_DIGITS_MAX:
        return None, f"more than {QUANTITY_DIGITS_MAX} digits"
    return value, None


@cache
def currency_problem(code: str) -> str | None:
    """Why ``code`` cannot be a price's currency, or None if it can: ISO 4217, with a minor unit to round to."""
    from iso4217 import Currency  # reads an XML table: only once a price is really parsed

    try:
        known = Currency(code)
    except ValueError:
        return f"{shorten(code)} is not an ISO 4217 currency code"
    return None if known.exponent is not None else f"{code} has no minor unit, so it cannot be invoiced"


def parse_price(
    doc: object, *, default_currency: str | None = None, where: Path = (), standalone: bool = False
) -> tuple[Price | None, list[Problem]]:
    """Read one price. Returns ``(price, [])``, or ``(None, problems)`` with every defect in document order.

    ``where`` is put before each problem's path. ``standalone`` (a quote) leaves ``id`` and ``meter`` optional.
    """
    if not isinstance(doc, Mapping):
        return None, [Problem(where, f"a price is a mapping of keys, not {shorten(doc)}")]
    reader = _Reader(doc, where, [])
    price = _read_price(reader, default_currency, required=not standalone)
    return (None, reader.problems) if reader.problems else (price, [])


def _read_price(reader: _Reader, default_currency: str | None, *, required: bool) -> Price | None:
    model = reader.text("model", required=True)
    if model is None:
        return None
    fields = MODEL_FIELDS.get(model)
    if fields is None:
        reader.problem("model", f"unknown price model {shorten(model)}; known are {', '.join(MODEL_FIELDS)}")
        return None
    reader.check_keys((*COMMON_FIELDS, *fields.required), f"a {model} price")
    for key in fields.required:
        reader.require(key)
    _check_on_change(reader)
    return Price(
        id=reader.text("id", required=required) or "",
        meter=reader.text("meter", required=required) or "",
        model=model,
        currency=_read_currency(reader, default_currency),
        itemize=reader.choice("itemize", Itemize) or Itemize.EACH,
        unit_price=reader.decimal("unit_price"),
        tiers=_read_tiers(reader, fields) if "tiers" in fields.required else (),
        package_size=reader.decimal("package_size", positive=True),
        package_price=reader.decimal("package_price"),
        included=reader.decimal("included"),
        maximum=reader.decimal("maximum"),
        discount_rate=_read_discount_rate(reader),
        transform=_read_transform(reader),
        description=reader.text("description") or "",
    )


def _check_on_change(reader: _Reader) -> None:
    """``restart`` says what happens anyway, and is not kept: writing it makes no other content."""
    value = reader.doc.get("on_change")
    if value == "continue":
        text = "continue is not supported yet: where a price changes inside a month its tiers restart; write restart"
        reader.problem("on_change", text)
    elif value is not None and value != "restart":
        reader.problem("on_change", f"{shorten(value)} is not one of restart, continue")


def _read_currency(reader: _Reader, default: str | None) -> str:
    code = reader.text("currency", required=default is None) or default or ""
    defect = currency_problem(code) if code else None
    if defect:
        reader.problem("currency", defect)
    return code


def _read_discount_rate(reader: _Reader) -> Decimal | None:
    rate = reader.decimal("discount_rate")
    if rate is not None and rate > 1:
        reader.problem("discount_rate", f'{rate} is more than 1; it is a share: 15 % off is "0.15"')
    return rate


def _read_transform(reader: _Reader) -> Transform | None:
    inner = reader.mapping("transform")
    if inner is None:
        return None
    inner.check_keys(("divide_by", "round"), "a transform")
    inner.require("divide_by")
    divide_by = inner.decimal("divide_by", positive=True)
    rounding = inner.choice("round", Rounding) or Rounding.NONE
    return None if divide_by is None else Transform(divide_by, rounding)


def _read_tiers(reader: _Reader, fields: ModelFields) -> tuple[Tier, ...]:
    documents = reader.doc.get("tiers")
    if documents is None:
        return ()
    if not isinstance(documents, list | tuple) or not documents:
        reader.problem("tiers", "tiers are a list of at least one tier")
        return ()
    tiers: list[Tier] = []
    below: Decimal | None = None
    for index, doc in enumerate(documents):
        if not isinstance(doc, Mapping):
            reader.problem(("tiers", index), f"a tier is a mapping of keys, not {shorten(doc)}")
            continue
        inner = _Reader(doc, (*reader.where, "tiers", index), reader.problems)
        tiers.append(_read_tier(inner, fields, below, last=index == len(documents) - 1))
        below = tiers[-1].up_to if tiers[-1].up_to is not None else below
    return tuple(tiers)


def _read_tier(reader: _Reader, fields: ModelFields, below: Decimal | None, *, last: bool) -> Tier:
    reader.check_keys(("up_to", *fields.tier), "a tier")
    if not any(reader.doc.get(key) is not None for key in fields.tier):
        reader.problem((), f'a tier says its price ({" or ".join(fields.tier)}); a free tier says "0"')
    up_to = reader.decimal("up_to")
    if last and up_to is not None:
        reader.problem("up_to", "the last tier has no upper bound: up_to is null")
    elif not last and reader.doc.get("up_to") is None:
        reader.problem("up_to", "only the last tier may be without an upper bound")
    elif up_to is not None and below is not None and up_to <= below:
        reader.problem("up_to", f"tiers must ascend: {up_to} does not lie above {below}, where the tier before it ends")
    return Tier(up_to, reader.decimal("unit_price") or Decimal(0), reader.decimal("flat_price") or Decimal(0))


class _Reader(NamedTuple):
    """One mapping being read; defects go to the shared list and the reading goes on."""

    doc: Mapping[object, object]
    where: Path
    problems: list[Problem]

    def problem(self, key: str | Path, text: str) -> None:
        tail = (key,) if isinstance(key, str) else key
        self.problems.append(Problem((*self.where, *tail), text))

    def check_keys(self, known: Collection[str], what: str) -> None:
        for key in self.doc:
            if key not in known:
                near = get_close_matches(str(key)[:FIELD_CHARS_MAX], known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
                self.problem((str(key)[:40],), f"unknown key of {what}; {hint}")

    def require(self, key: str) -> None:
        if self.doc.get(key) is None:
            self.problem(key, "is missing")

    def text(self, key: str, *, required: bool = False) -> str | None:
        value = self.doc.get(key)
        if value is None:
            if required:
                self.require(key)
            return None
        if not isinstance(value, str) or not value.strip() or len(value) > FIELD_CHARS_MAX:
            self.problem(key, f"{shorten(value)} is not a text of 1 to {FIELD_CHARS_MAX} characters")
            return None
        return value

    def decimal(self, key: str, *, positive: bool = False) -> Decimal | None:
        if self.doc.get(key) is None:
            return None
        value, defect = decimal_of(self.doc[key])
        if defect is None and positive and value == 0:
            defect = "must be more than 0"
        if defect is not None:
            self.problem(key, defect)
            return None
        return value

    def choice(self, key: str, options: type[Choice]) -> Choice | None:
        value = self.doc.get(key)
        if value is None:
            return None
        if value not in list(options):
            self.problem(key, f"{shorten(value)} is not one of {', '.join(options)}")
            return None
        return options(str(value))

    def mapping(self, key: str) -> _Reader | None:
        value = self.doc.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            self.problem(key, f"{shorten(value)} is not a mapping of keys")
            return None
        return _Reader(value, (*self.where, key), self.problems)
