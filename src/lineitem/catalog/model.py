"""The catalog as values: what the YAML says, checked and typed. No I/O.

Decimals stay ``Decimal``; instants are microseconds since the epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from lineitem.core.limits import QUANTITY_SCALE_DEFAULT


class Aggregation(StrEnum):
    """How a meter folds events into one quantity."""

    SUM = "sum"
    COUNT = "count"
    MAX = "max"
    UNIQUE = "unique"
    LATEST = "latest"
    TIME_WEIGHTED = "time_weighted"
    """The event is a reading: the level from its time on, over months, until the next one."""


class Itemize(StrEnum):
    """How much usage one line item stands for."""

    EACH = "each"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"

    @property
    def window_us(self) -> int:
        """Length of the window in microseconds (windows are aligned to UTC); 0 for ``each``."""
        return {"each": 0, "minute": 60_000_000, "hour": 3_600_000_000, "day": 86_400_000_000}[self.value]


class Rounding(StrEnum):
    """How a transformed quantity is rounded to whole units."""

    NONE = "none"
    UP = "up"
    DOWN = "down"
    HALF_UP = "half_up"


class Charge(StrEnum):
    """When a recurring price is due: once its month has ended, or once the month before has."""

    IN_ARREARS = "in_arrears"
    IN_ADVANCE = "in_advance"


class Prorate(StrEnum):
    """In what a month is counted of which the account is active for a part."""

    NONE = "none"
    DAY = "day"
    SECOND = "second"


@dataclass(frozen=True, slots=True)
class Meter:
    """How events of one type become a quantity.

    ``dimensions`` are paths such as ``data.tokens``; ``value`` is one, or an expression over paths (never for ``unique``).
    """

    id: str
    event_type: str
    aggregation: Aggregation
    value: str | None = None
    unit: str = "unit"
    scale: int = QUANTITY_SCALE_DEFAULT
    dimensions: tuple[str, ...] = ()
    filter: str | None = None

    @property
    def quantity_scale(self) -> int:
        """Decimals of the meter's quantity: counts of events or members are whole whatever ``scale`` says.

        Of a ``time_weighted`` meter those of a level; what a price makes of it over time has more (``levels.measured``).
        """
        return 0 if self.aggregation in (Aggregation.COUNT, Aggregation.UNIQUE) else self.scale


NO_METER = Meter(id="", event_type="", aggregation=Aggregation.COUNT, unit="")
"""Stands in for the meter of a price that has none: no event matches it."""


@dataclass(frozen=True, slots=True)
class Tier:
    """One tier; ``up_to`` is inclusive and None in the last tier."""

    up_to: Decimal | None
    unit_price: Decimal = Decimal(0)
    flat_price: Decimal = Decimal(0)
    rate: Decimal | None = None
    """Share of the money that lies in the tier (``graduated_percentage``)."""


@dataclass(frozen=True, slots=True)
class Transform:
    """Conversion of the metered quantity before pricing: divide, then round to whole units."""

    divide_by: Decimal
    round: Rounding = Rounding.NONE


@dataclass(frozen=True, slots=True)
class Cell:
    """One price of a matrix, for events whose dimensions have the values ``when`` names (sorted pairs)."""

    unit_price: Decimal
    when: tuple[tuple[str, str], ...] = ()


class PeakMode(StrEnum):
    """What decides the rate of a call that begins in peak hours and ends outside of them, or the other way round."""

    SPLIT = "split"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Peak:
    """Peak hours on the clock of the price's ``zone``: ``(("08:00", "18:00"),)`` on each of ``days`` (``mon`` to ``sun``).

    Hours that end at or before their start reach into the next day.
    """

    hours: tuple[tuple[str, str], ...]
    days: tuple[str, ...]
    mode: PeakMode


@dataclass(frozen=True, slots=True)
class CallStep:
    """What a call costs up to an offset in it (inclusive; None: to its end): ``rate`` for each ``per`` units.

    Begun increments count whole. ``off_peak_rate`` is there exactly where the price has peak hours.
    """

    up_to: Decimal | None
    rate: Decimal
    per: Decimal
    increment: Decimal
    off_peak_rate: Decimal | None = None


@dataclass(frozen=True, slots=True)
class CallRate:
    """One row of a rate table: calls to numbers that begin with ``prefix`` (digits), unless a longer one matches."""

    prefix: str
    steps: tuple[CallStep, ...]
    connect_fee: Decimal | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class ChargeRounding:
    """How each event's charge is rounded, once: to ``decimals``, UP, DOWN or HALF_UP."""

    decimals: int
    mode: Rounding


@dataclass(frozen=True, slots=True)
class Promotion:
    """A discount on what the usage in ``[from_us, until_us)`` costs, by event time; None is open."""

    discount_rate: Decimal
    from_us: int | None = None
    until_us: int | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """How one meter's quantity becomes an amount. Order: transform, included, model, promotion, discount_rate, maximum,
    and minimum once the period is settled.

    Which fields a model reads stands in ``price_doc.MODEL_FIELDS``. ``price``, ``amount``, ``cost``, ``currency_from``,
    ``destination`` and ``dimensions`` are paths into the event, such as ``data.unit_price``; of a ``flat`` price, which
    has no meter (""), ``amount`` is the amount itself.
    """

    id: str
    meter: str
    model: str
    currency: str
    itemize: Itemize = Itemize.EACH
    unit_price: Decimal | None = None
    tiers: tuple[Tier, ...] = ()
    package_size: Decimal | None = None
    package_price: Decimal | None = None
    included: Decimal | None = None
    maximum: Decimal | None = None
    discount_rate: Decimal | None = None
    transform: Transform | None = None
    description: str = ""
    rate: Decimal | None = None
    per_event: Decimal | None = None
    minimum_per_event: Decimal | None = None
    maximum_per_event: Decimal | None = None
    free_events: int | None = None
    free_units: Decimal | None = None
    price: str | None = None
    amount: str | None = None
    cost: str | None = None
    multiplier: Decimal | None = None
    scale: int | None = None
    currency_from: str | None = None
    dimensions: tuple[str, ...] = ()
    cells: tuple[Cell, ...] = ()
    destination: str | None = None
    rates: tuple[CallRate, ...] = ()
    connect_fee_unanswered: bool | None = None
    peak: Peak | None = None
    zone: str | None = None
    round: ChargeRounding | None = None
    on_change: str | None = None
    """``continue``: inside a period it goes on with the tiers of the version before it. None: it starts its own."""
    minimum: Decimal | None = None
    charge: Charge | None = None
    prorate: Prorate | None = None
    promotion: Promotion | None = None
    prices: tuple[str, ...] = ()
    """Of a commitment: the ids of the prices whose amounts count towards it, sorted; none: all others of the currency."""

    pool: str | None = None
    """Prices of a version with one pool share their included units: in order of their ids, or as they came into force."""
    rollover_max: Decimal | None = None
    """How many unused included units the next month gets at most."""

    @property
    def pool_name(self) -> str | None:
        """The pool of its included units, its own where it only carries them over; None where they are plain."""
        return self.pool if self.pool is not None or self.rollover_max is None else f"@{self.id}"

    @property
    def is_commitment(self) -> bool:
        """Whether its quantity is what other prices came to."""
        return self.model == "commitment"

    @property
    def continues(self) -> bool:
        """Whether it goes on with the tiers of the version before it."""
        return self.on_change == "continue"

    def meter_of(self, meters: Mapping[str, Meter]) -> Meter | None:
        """Its meter; ``NO_METER`` where it needs none, None where ``meters`` lacks it."""
        if self.is_commitment:
            return Meter(id="", event_type="", aggregation=Aggregation.SUM, unit=self.currency)
        return meters.get(self.meter) if self.meter else NO_METER


@dataclass(frozen=True, slots=True)
class Pricebook:
    """One immutable version of a pricebook, valid for event times in ``[effective_from, effective_until)``."""

    id: str
    version: int
    effective_from_us: int
    effective_until_us: int | None
    prices: tuple[Price, ...]


_ACCOUNT_BOOK = "@account/"
"""What the name of an account's own pricebook begins with; no other can, for ids begin with a letter or a digit."""


def own_pricebook(account: str) -> str:
    """The pricebook of an account's overrides: its prices take the place of those with the same id, for it alone."""
    return _ACCOUNT_BOOK + account


def owner(pricebook: str) -> str | None:
    """The account whose overrides a pricebook holds; None for a pricebook that anybody may have."""
    return pricebook.removeprefix(_ACCOUNT_BOOK) if pricebook.startswith(_ACCOUNT_BOOK) else None


@dataclass(frozen=True, slots=True)
class AccountDefaults:
    """What an account gets that is seen first in an event; ``open`` False refuses such accounts."""

    pricebook: str | None = None
    timezone: str = "UTC"
    billing: str = "monthly"
    open: bool = True
    invoice_currency: str | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """Who is billed: an event's ``subject``.

    In the months that ``[active_from_us, active_until_us)`` touches it owes what its prices ask without usage; without
    ``active_from_us`` it owes nothing until an event comes.
    """

    id: str
    name: str
    pricebook: str | None
    timezone: str
    billing: str = "monthly"
    tags: tuple[tuple[str, str], ...] = ()
    invoice_currency: str | None = None
    """What its one invoice of a month is in; None: one invoice for each currency of its prices."""
    active_from_us: int | None = None
    active_until_us: int | None = None


@dataclass(frozen=True, slots=True)
class OwnCurrency:
    """A currency beside ISO 4217 (credits, tokens); ``exponent``: decimals of its minor unit."""

    code: str
    exponent: int
    name: str = ""
    symbol: str = ""


class ConversionDate(StrEnum):
    """Whose day's rate converts an invoice line."""

    PERIOD_END = "period_end"
    """The last day of the posting month."""
    INVOICE_DATE = "invoice_date"
    """The day the invoice is issued, in the issuer's zone."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """How amounts come into an invoice's currency: by rates of ``source``, at most ``max_age_days`` older than the date.

    ``pivot``: where there is no rate between two currencies, the one both have a rate with.
    """

    source: str
    date: ConversionDate
    max_age_days: int
    pivot: str | None = None


@dataclass(frozen=True, slots=True)
class Approval:
    """Whether a publish needs an approved draft, and whether its author may be who approves it."""

    required: bool = False
    four_eyes: bool = False


@dataclass(frozen=True, slots=True)
class Publishing:
    """How the next catalog comes into force."""

    approval: Approval = field(default_factory=Approval)


class Normalize(StrEnum):
    """What is done to a tag's value before it is looked at."""

    TRIM = "trim"
    LOWER = "lower"
    UPPER = "upper"


class Missing(StrEnum):
    """What becomes of an event without a tag it must have."""

    DEAD_LETTER = "dead_letter"
    UNTAGGED = "untagged"
    ACCOUNT = "account"


class Unknown(StrEnum):
    """What becomes of an event whose tag has a value that is not registered."""

    DEAD_LETTER = "dead_letter"
    UNTAGGED = "untagged"
    ACCEPT = "accept"


@dataclass(frozen=True, slots=True)
class TagRule:
    """What a tag may say while ``[effective_from, effective_until)`` (event time) lasts; None: without a bound.

    ``values`` and ``pattern`` (RE2, matched from end to end) exclude each other; without either every value is known.
    ``missing`` None: nobody must have the tag. ``required_for``: of whom it is asked; empty: of all. ``read_from``: sorted
    pairs of event type and path into the event; the type "" stands for every type.
    """

    key: str
    owner: str = ""
    description: str = ""
    values: tuple[str, ...] = ()
    pattern: str | None = None
    normalize: tuple[Normalize, ...] = ()
    required_for: tuple[str, ...] = ()
    missing: Missing | None = None
    unknown: Unknown = Unknown.ACCEPT
    read_from: tuple[tuple[str, str], ...] = ()
    effective_from_us: int | None = None
    effective_until_us: int | None = None

    def path_for(self, event_type: str) -> str | None:
        """The path the tag is read from in events of a type; None where it is not read from them."""
        paths = dict(self.read_from)
        return paths.get(event_type, paths.get(""))

    def is_required(self, event_type: str) -> bool:
        """Whether events of a type must have the tag."""
        return self.missing is not None and (not self.required_for or event_type in self.required_for)


@dataclass(frozen=True, slots=True)
class CostCenterRule:
    """The cost centre of line items that have the tags ``when`` (sorted pairs), for event times as in ``TagRule``."""

    cost_center: str
    when: tuple[tuple[str, str], ...] = ()
    effective_from_us: int | None = None
    effective_until_us: int | None = None


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything one catalog file says; the overrides of accounts are pricebooks of their own (``own_pricebook``)."""

    currency: str
    meters: tuple[Meter, ...]
    pricebooks: tuple[Pricebook, ...]
    defaults: AccountDefaults = field(default_factory=AccountDefaults)
    accounts: tuple[Account, ...] = ()
    issuer: tuple[tuple[str, str], ...] = ()
    publishing: Publishing | None = None
    tags: tuple[TagRule, ...] = ()
    cost_centers: tuple[CostCenterRule, ...] = ()
    currencies: tuple[OwnCurrency, ...] = ()
    conversion: Conversion | None = None
    horizon_days: int | None = None
    """Events older than so many days are dead letters `too_old`, unless a named backfill brings them; None: none is."""
