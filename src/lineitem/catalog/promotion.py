"""The promotion of a price: a discount with a window, for prices that charge each event."""

from __future__ import annotations

from lineitem.catalog.fields import instant_us
from lineitem.catalog.model import Promotion
from lineitem.catalog.price_reader import Reader, shorten


def read_promotion(reader: Reader, model: str, *, per_event: bool) -> Promotion | None:
    """``{discount_rate, from, until}`` of a price; defects go to the reader.

    Refused where the price is a function of the month's quantity, which does not know when its units were used.
    """
    inner = reader.mapping("promotion")
    if inner is None:
        return None
    if not per_event:
        text = f"a {model} price charges the month's quantity, whatever the time of its events; a promotion goes with per_unit "
        reader.problem("promotion", text + "and models that charge each event, or start a version of the pricebook")
        return None
    if reader.doc.get("free_events") is not None or reader.doc.get("free_units") is not None:
        reader.problem("promotion", "a promotion does not go with free_events and free_units; keep one of the two")
    inner.check_keys(("discount_rate", "from", "until"), "a promotion")
    inner.require("discount_rate")
    rate = inner.decimal("discount_rate")
    if rate is not None and rate > 1:
        inner.problem("discount_rate", f'{rate} is more than 1; it is a share: 15 % is "0.15"')
    from_us, until_us = _instant(inner, "from"), _instant(inner, "until")
    if "from" not in inner.doc and "until" not in inner.doc:
        inner.problem((), "a promotion has a window; add from, until or both")
    if from_us is not None and until_us is not None and until_us <= from_us:
        inner.problem("until", "until must lie after from; correct one of the two")
    return None if rate is None else Promotion(rate, from_us, until_us)


def _instant(reader: Reader, key: str) -> int | None:
    text = reader.text(key)
    if text is None:
        return None
    found, defect = instant_us(text)
    if defect is not None:
        reader.problem(key, f"{shorten(text)} {defect}")
    return found
