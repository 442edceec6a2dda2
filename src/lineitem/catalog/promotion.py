"""The promotion of a price: a discount on what is used in a window of time."""

from __future__ import annotations

from lineitem.catalog.continuing import CONTINUED
from lineitem.catalog.fields import DAY, instant_us
from lineitem.catalog.model import Aggregation, Price, Promotion
from lineitem.catalog.price_reader import Reader, shorten
from lineitem.core.period import day_start_us, zone_exists

WHOLE = ("volume", "stairstep")
"""Models whose tier reached prices the whole quantity; a test holds them against ``Model.whole``."""


def read_promotion(reader: Reader, model: str, *, by_time: bool) -> Promotion | None:
    """``{discount_rate, from, until, zone}`` of a price; defects go to the reader. ``by_time``: it prices usage at a time.

    With a ``zone`` the window may begin and end with days of its calendar.
    """
    inner = reader.mapping("promotion")
    if inner is None:
        return None
    if not by_time:
        text = f"a {model} price charges the month, and no usage at a time that could lie in a window; leave it out, or start"
        reader.problem("promotion", f"{text} a version of the pricebook with another price")
        return None
    if model in WHOLE and any(reader.doc.get(key) is not None for key in ("pool", "rollover_max")):
        text = f"the tier reached by a {model} price sets the price of all units, also of those that others took from the pool;"
        reader.problem("promotion", f"{text} keep one of promotion and shared or carried units")
    if reader.doc.get("free_events") is not None or reader.doc.get("free_units") is not None:
        reader.problem("promotion", "a promotion does not go with free_events and free_units; keep one of the two")
    inner.check_keys(("discount_rate", "from", "until", "zone"), "a promotion")
    inner.require("discount_rate")
    rate = inner.decimal("discount_rate")
    if rate is not None and rate > 1:
        inner.problem("discount_rate", f'{rate} is more than 1; it is a share: 15 % is "0.15"')
    zone = inner.text("zone")
    if zone is not None and not zone_exists(zone):
        inner.problem("zone", f"the time zone {shorten(zone)} does not exist; use an IANA name such as Europe/Paris")
        return None
    from_us, until_us = (_instant(inner, key, zone) for key in ("from", "until"))
    if inner.doc.get("from") is None and inner.doc.get("until") is None:
        inner.problem((), "a promotion has a window; add from, until or both")
    if from_us is not None and until_us is not None and until_us <= from_us:
        inner.problem("until", "until must lie after from; correct one of the two")
    return None if rate is None else Promotion(rate, from_us, until_us)


def meter_problem(price: Price, aggregation: Aggregation) -> str:
    """Why a price cannot have its promotion under its meter; "" when it can, or has none."""
    if price.promotion is None or aggregation in CONTINUED:
        return ""
    return (
        f"price {price.id!r} has a promotion, but the meter {price.meter!r} is a {aggregation}, of which no part belongs to a"
        " window; use a meter that is a sum or a count"
    )


def _instant(reader: Reader, key: str, zone: str | None) -> int | None:
    text = reader.text(key)
    if text is None:
        return None
    if zone is not None and DAY.fullmatch(text):
        try:
            return day_start_us(text, zone)
        except ValueError:
            reader.problem(key, f"{shorten(text)} is no day; write it as 2026-10-01")
            return None
    found, defect = instant_us(text)
    if defect is not None:
        of_zone = "; a day alone asks for the promotion's zone" if zone is None and DAY.fullmatch(text) else ""
        reader.problem(key, f"{shorten(text)} {defect}{of_zone}")
    return found
