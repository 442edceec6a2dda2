"""One price document (a mapping, as YAML or JSON decodes it) into a checked ``Price``; every defect is told.

A problem is a value, ``(path, text)``: the path leads from the document's root to the defect, so that a loader can add
the line and a caller of ``quote`` can read it as it is. What each model needs stands in ``MODEL_FIELDS`` alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import NamedTuple

from lineitem.catalog.currencies import currency_problem
from lineitem.catalog.document import decimal_text
from lineitem.catalog.matrix import read_matrix
from lineitem.catalog.model import Charge, Itemize, Price, Prorate, Rounding, Tier, Transform
from lineitem.catalog.price_reader import DECIMALS_MAX, Path, Problem, Reader, shorten
from lineitem.catalog.promotion import read_promotion
from lineitem.catalog.telecom import TERM_KEYS, read_telecom
from lineitem.core.limits import QUANTITY_DIGITS_MAX

DUE_MAX = Decimal(10) ** (QUANTITY_DIGITS_MAX - 9)
"""What is due without usage lies below: the ledger holds 38 digits of nano-units."""
PRICES_MAX = 1_000
"""Prices one commitment may name."""
FREE_EVENTS_MAX = 1_000_000
"""Free events of one price: a ledger remembers each of them."""


class ModelFields(NamedTuple):
    """The keys a price model reads.

    All of ``required`` must be there, ``optional`` may be; ``tier`` are the amounts a tier may carry. ``per_event``:
    the model prices each event by itself, so nothing that works on the period's quantity goes with it. ``metered``: there is
    usage to price; without, nothing goes with it that works on usage. ``level``: it prices a level by the month, so nothing
    goes with it that works on events or on parts of a month. ``without``: further common keys it does not have.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    tier: tuple[str, ...] = ()
    per_event: bool = False
    metered: bool = True
    level: bool = False
    without: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key that a price of the model may have."""
        without = (
            *(QUANTITY_FIELDS if self.per_event else ()),
            *(() if self.metered else USAGE_FIELDS),
            *(LEVEL_FIELDS if self.level else ()),
            *self.without,
        )
        common = (key for key in COMMON_FIELDS if key not in without)
        return (*common, *self.required, *self.optional)


MODEL_FIELDS: dict[str, ModelFields] = {
    "per_unit": ModelFields(("unit_price",)),
    "graduated": ModelFields(("tiers",), tier=("unit_price", "flat_price")),
    "volume": ModelFields(("tiers",), tier=("unit_price", "flat_price")),
    "package": ModelFields(("package_size", "package_price")),
    "stairstep": ModelFields(("tiers",), tier=("flat_price",)),
    "graduated_percentage": ModelFields(("tiers",), tier=("rate", "flat_price")),
    "percentage": ModelFields(
        ("rate",),
        optional=("per_event", "minimum_per_event", "maximum_per_event", "free_events", "free_units"),
        per_event=True,
    ),
    "dynamic": ModelFields((), optional=("price", "amount", "multiplier", "scale", "currency_from"), per_event=True),
    "cost_plus": ModelFields(("cost", "multiplier"), optional=("scale", "currency_from"), per_event=True),
    "matrix": ModelFields(("dimensions", "cells"), per_event=True),
    "telecom": ModelFields(
        (),
        optional=("destination", "rates", *TERM_KEYS, "connect_fee_unanswered", "peak", "zone", "round"),
        per_event=True,
    ),
    "flat": ModelFields(("amount",), optional=("charge", "prorate"), metered=False),
    "commitment": ModelFields(("amount",), optional=("prices", "prorate"), metered=False, without=("discount_rate",)),
    "per_seat": ModelFields(("unit_price",), optional=("charge", "prorate"), level=True),
}
"""Every price model by name. ``rate.models`` holds one entry for each; a test keeps the two equal."""

COMMON_FIELDS = (
    "id", "meter", "model", "currency", "itemize", "description", "included", "maximum", "minimum", "discount_rate",
    "transform", "on_change", "promotion", "pool", "rollover_max",
)  # fmt: skip
QUANTITY_FIELDS = ("included", "transform", "pool", "rollover_max")
"""Common keys that work on the period's quantity, which a per-event price does not have."""
USAGE_FIELDS = (
    "meter", "itemize", "included", "transform", "maximum", "minimum", "on_change", "promotion", "pool", "rollover_max",
)  # fmt: skip
"""Common keys that work on usage, which a price without a meter does not have."""
LEVEL_FIELDS = ("itemize", "on_change", "promotion", "transform")
"""Common keys that a price of a level by the month has no use for."""


def parse_price(
    doc: object,
    *,
    default_currency: str | None = None,
    where: Path = (),
    standalone: bool = False,
    own_currencies: Collection[str] = (),
) -> tuple[Price | None, list[Problem]]:
    """Read one price. Returns ``(price, [])``, or ``(None, problems)`` with every defect in document order.

    ``where`` is put before each problem's path. ``standalone`` (a quote) leaves ``id`` and ``meter`` optional.
    ``own_currencies``: codes beside ISO 4217 that the price may be in.
    """
    if not isinstance(doc, Mapping):
        return None, [Problem(where, f"a price is a mapping of keys, not {shorten(doc)}")]
    reader = Reader(doc, where, [])
    price = _read_price(reader, default_currency, own_currencies, required=not standalone)
    return (None, reader.problems) if reader.problems else (price, [])


def _read_price(
    reader: Reader, default_currency: str | None, own_currencies: Collection[str], *, required: bool
) -> Price | None:
    model = reader.text("model", required=True)
    if model is None:
        return None
    fields = MODEL_FIELDS.get(model)
    if fields is None:
        reader.problem("model", f"unknown price model {shorten(model)}; known are {', '.join(MODEL_FIELDS)}")
        return None
    reader.check_keys((*fields.keys, "promotion"), f"a {model} price")  # which says itself where it does not go
    for key in fields.required:
        reader.require(key)
    on_change = _read_on_change(reader, fields)
    if model == "dynamic" and (reader.doc.get("price") is None) == (reader.doc.get("amount") is None):
        reader.problem(
            (), "a dynamic price reads either price (of one unit) or amount (of the event): name one of them"
        )
    prorate = reader.choice("prorate", Prorate)
    telecom = read_telecom(reader) if model == "telecom" else {}
    dimensions, cells = read_matrix(reader) if "cells" in fields.required else ((), ())
    price = Price(
        id=reader.text("id", required=required) or "",
        meter=(reader.text("meter", required=required) or "") if fields.metered else "",
        model=model,
        currency=_read_currency(reader, default_currency, own_currencies),
        itemize=reader.choice("itemize", Itemize) or Itemize.EACH,
        unit_price=reader.decimal("unit_price"),
        tiers=_read_tiers(reader, fields) if "tiers" in fields.required else (),
        package_size=reader.decimal("package_size", positive=True),
        package_price=reader.decimal("package_price"),
        included=reader.decimal("included"),
        maximum=reader.decimal("maximum"),
        minimum=reader.decimal("minimum"),
        discount_rate=_read_share(reader, "discount_rate"),
        transform=_read_transform(reader),
        description=reader.text("description") or "",
        rate=None if telecom else _read_share(reader, "rate"),
        per_event=reader.decimal("per_event"),
        minimum_per_event=reader.decimal("minimum_per_event"),
        maximum_per_event=reader.decimal("maximum_per_event"),
        free_events=reader.integer("free_events", FREE_EVENTS_MAX),
        free_units=reader.decimal("free_units"),
        price=reader.event_path("price"),
        amount=reader.event_path("amount") if fields.metered else _read_amount(reader),
        cost=reader.event_path("cost"),
        multiplier=reader.decimal("multiplier"),
        scale=reader.integer("scale", DECIMALS_MAX),
        currency_from=reader.event_path("currency_from"),
        dimensions=dimensions,
        cells=cells,
        on_change=on_change,
        charge=Charge.IN_ADVANCE if reader.choice("charge", Charge) is Charge.IN_ADVANCE else None,
        prorate=None if prorate is Prorate.NONE else prorate,
        promotion=read_promotion(reader, model, by_time="promotion" in fields.keys),
        prices=reader.texts("prices", PRICES_MAX),
        pool=reader.text("pool"),
        rollover_max=reader.decimal("rollover_max", positive=True),
        **telecom,
    )
    _check_pool(reader, price)
    low, high = price.minimum_per_event, price.maximum_per_event
    if low is not None and high is not None and low > high:
        reader.problem("minimum_per_event", f"{low} is more than maximum_per_event, {high}")
    dues = {"minimum": price.minimum, "amount": None if fields.metered else Decimal(price.amount or 0)}
    for key, due in dues.items():
        if due is not None and due >= DUE_MAX:
            reader.problem(key, f"{due:f} is more than a ledger holds")
    if price.minimum is not None and price.maximum is not None and price.minimum > price.maximum:
        reader.problem("minimum", f"{price.minimum} is more than maximum, {price.maximum}")
    return price


def _check_pool(reader: Reader, price: Price) -> None:
    for key in ("pool", "rollover_max"):
        if reader.doc.get(key) is None:
            continue
        if price.included is None:
            reader.problem(key, "there is nothing to share or carry over without included units; add included")
        if price.continues:
            reader.problem(key, "a pool goes on through a month as it is; leave on_change out")


def _read_amount(reader: Reader) -> str | None:
    amount = reader.decimal("amount")
    return None if amount is None else decimal_text(amount)


def _read_on_change(reader: Reader, fields: ModelFields) -> str | None:
    """``restart`` says what happens anyway, and is not kept: writing it makes no other content."""
    value = reader.doc.get("on_change")
    if value is None or value == "restart":
        return None
    if value != "continue":
        reader.problem("on_change", f"{shorten(value)} is not one of restart, continue")
    elif fields.per_event:
        reader.problem(
            "on_change", "this model charges each event by itself and has no tiers to continue; leave it out"
        )
    elif reader.doc.get("minimum") is not None:
        reader.problem("on_change", "a part of a month that continues has no minimum of its own; write restart")
    return "continue"


def _read_currency(reader: Reader, default: str | None, own: Collection[str]) -> str:
    code = reader.text("currency", required=default is None) or default or ""
    defect = currency_problem(code, own) if code else None
    if defect:
        reader.problem("currency", defect)
    return code


def _read_share(reader: Reader, key: str) -> Decimal | None:
    share = reader.decimal(key)
    if share is not None and share > 1:
        reader.problem(key, f'{share} is more than 1; it is a share: 15 % is "0.15"')
    return share


def _read_transform(reader: Reader) -> Transform | None:
    inner = reader.mapping("transform")
    if inner is None:
        return None
    inner.check_keys(("divide_by", "round"), "a transform")
    inner.require("divide_by")
    divide_by = inner.decimal("divide_by", positive=True)
    rounding = inner.choice("round", Rounding) or Rounding.NONE
    return None if divide_by is None else Transform(divide_by, rounding)


def _read_tiers(reader: Reader, fields: ModelFields) -> tuple[Tier, ...]:
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
        inner = Reader(doc, (*reader.where, "tiers", index), reader.problems)
        tiers.append(_read_tier(inner, fields, below, last=index == len(documents) - 1))
        below = tiers[-1].up_to if tiers[-1].up_to is not None else below
    return tuple(tiers)


def _read_tier(reader: Reader, fields: ModelFields, below: Decimal | None, *, last: bool) -> Tier:
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
    amounts = (reader.decimal("unit_price") or Decimal(0), reader.decimal("flat_price") or Decimal(0))
    return Tier(up_to, *amounts, rate=_read_share(reader, "rate"))
