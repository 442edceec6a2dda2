"""What a prepaid grant says, and reading it from what a person wrote."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from lineitem.catalog import published
from lineitem.catalog.currencies import currency_problem
from lineitem.catalog.fields import ID_PATTERN, ID_RULE, instant_us, suggestion
from lineitem.catalog.snapshot import AccountRow
from lineitem.core.errors import InputError
from lineitem.core.limits import AMOUNT_SCALE, EVENT_YEAR_MIN, FIELD_CHARS_MAX, GRANT_PRICES_MAX
from lineitem.core.money import nano_to_text, text_to_scaled
from lineitem.core.period import day_start_us, local_day, month_start_us, us_to_datetime, us_to_text
from lineitem.kit.db import Connection
from lineitem.ledger.post import canonical
from lineitem.rate.credits import Grant

_AMOUNT = re.compile(r"[0-9]{1,18}(\.[0-9]{1,9})?", re.ASCII)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_YEAR_MAX = 2999


@dataclass(frozen=True, slots=True)
class GrantTerms:
    """What was granted: everything that makes two grants the same. Instants in microseconds since the epoch."""

    id: str
    account: str
    currency: str
    amount_nano: int
    priority: int
    effective_us: int
    expires_us: int | None
    prices: tuple[str, ...]  # sorted; empty: all
    reason: str

    def document(self) -> dict[str, Any]:
        """As facts have it and its digest covers it; money is text."""
        return {
            "id": self.id, "account": self.account, "currency": self.currency,
            "amount": nano_to_text(self.amount_nano), "priority": self.priority, "effective_us": self.effective_us,
            "expires_us": self.expires_us, "prices": list(self.prices), "reason": self.reason,
        }  # fmt: skip

    def grant(self) -> Grant:
        """As it is drawn."""
        return Grant(
            self.id,
            self.currency,
            self.amount_nano,
            self.priority,
            self.effective_us,
            self.expires_us,
            frozenset(self.prices),
        )

    def digest(self) -> bytes:
        """SHA-256 of the canonical document: the content of the price that line items of the grant name."""
        return sha256(canonical(self.document()).encode()).digest()


@dataclass(frozen=True, slots=True)
class Asked:
    """A grant as somebody asks for it. ``effective`` and ``expires`` are days, in the account's zone, or instants.

    ``id`` None: the next free number. ``effective`` None: from the start of the account's present month.
    """

    account: str
    amount: str
    currency: str
    id: str | None = None
    priority: int = 10
    effective: str | None = None
    expires: str | None = None
    prices: str = ""
    reason: str = ""


def read_terms(
    connection: Connection, namespace: str, key: int, asked: Asked, effective_us: int | None, now_us: int
) -> tuple[AccountRow, GrantTerms]:
    """The account and the terms; ``effective_us``: what counts where ``asked`` does not say.

    Raises InputError that says what to write instead.
    """
    account = published.accounts(connection, key, [asked.account]).get(asked.account)
    if account is None:
        raise InputError(
            f"there is no account {asked.account!r} in namespace {namespace!r}",
            do="An account exists once a catalog lists it or an event names it; ids are case-sensitive. List it under"
            " accounts.list and publish, then add the grant.",
        )
    if asked.id is not None and not ID_PATTERN.fullmatch(asked.id):
        raise InputError(f"{asked.id!r} is not an id", do=f"Ids: {ID_RULE}.")
    if len(asked.reason) > FIELD_CHARS_MAX or not asked.reason.isprintable():
        raise InputError(
            "the reason is too long or has control characters", do=f"At most {FIELD_CHARS_MAX} characters."
        )
    zone = account.timezone
    if asked.effective is not None:
        effective_us = _instant_us(asked.effective, zone, "--effective")
    elif effective_us is None:
        today = local_day(now_us, zone)
        effective_us = month_start_us(today.year * 12 + today.month - 1, zone)
    expires_us = None if asked.expires is None else _instant_us(asked.expires, zone, "--expires")
    if expires_us is not None and expires_us <= effective_us:
        raise InputError(
            f"the grant would expire at {us_to_text(expires_us)}, before it counts from {us_to_text(effective_us)} on",
            do="Give a later --expires or an earlier --effective; a day given to --expires is excluded.",
        )
    currency = _currency(connection, key, asked.currency)
    prices = _prices(connection, key, asked.prices, currency)
    amount = _amount_nano(asked.amount)
    return account, GrantTerms(
        asked.id or "",
        account.account,
        currency,
        amount,
        asked.priority,
        effective_us,
        expires_us,
        prices,
        asked.reason,
    )


def _amount_nano(text: str) -> int:
    found = text_to_scaled(text, AMOUNT_SCALE) if _AMOUNT.fullmatch(text) else 0
    if found == 0:
        raise InputError(
            f"{text!r} is not an amount to grant",
            do="Write a number above 0 with at most 18 digits and 9 decimals, for example 100 or 99.50.",
        )
    return found


def _instant_us(text: str, zone: str, option: str) -> int:
    defect: str | None = "is no day"
    found: int | None = None
    with suppress(ValueError):
        found, defect = (day_start_us(text, zone), None) if _DAY.fullmatch(text) else instant_us(text)
    if found is None or not EVENT_YEAR_MIN <= us_to_datetime(found).year <= _YEAR_MAX:
        raise InputError(
            f"{option} {text!r} {defect or f'is not between {EVENT_YEAR_MIN} and {_YEAR_MAX}'}",
            do="Write a day of the account's calendar (2026-12-31) or an instant with an offset (2026-12-31T12:00:00Z).",
        )
    return found


def _currency(connection: Connection, key: int, code: str) -> str:
    catalog = published.current(connection, key)
    problem = currency_problem(code, [one.code for one in catalog.currencies] if catalog else [])
    if problem is not None:
        raise InputError(problem, do="Use an ISO 4217 code such as USD, or a currency that the catalog defines.")
    return code


def _prices(connection: Connection, key: int, text: str, currency: str) -> tuple[str, ...]:
    """The price ids of a list with commas, sorted; each is one there was in this currency."""
    wanted = sorted({part.strip() for part in text.split(",") if part.strip()})
    if len(wanted) > GRANT_PRICES_MAX:
        raise InputError(f"{len(wanted)} prices are too many", do=f"At most {GRANT_PRICES_MAX}; none means all.")
    known = published.price_ids(connection, key)
    for price in wanted:
        if (price, currency) not in known:
            others = sorted(code for name, code in known if name == price)
            if others:
                raise InputError(
                    f"price {price!r} is in {', '.join(others)}, and a grant in {currency} pays in {currency} only",
                    do="Grant in the currency of the price.",
                )
            raise InputError(f"there is no price {price!r}", do=suggestion(price, {name for name, _ in known}))
    return tuple(wanted)
