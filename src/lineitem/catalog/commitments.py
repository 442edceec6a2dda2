"""Which prices count towards a commitment, and what is wrong with the ones it names. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from lineitem.catalog.fields import suggestion
from lineitem.catalog.model import Price


def counts(commitment: Price, price_id: str, currency: str) -> bool:
    """Whether what a price comes to counts, where it is no commitment itself."""
    return currency == commitment.currency and (not commitment.prices or price_id in commitment.prices)


def problems(prices: Iterable[Price], elsewhere: Collection[str] = ()) -> Iterator[tuple[Price, str]]:
    """Commitments of one pricebook version that name prices they cannot count, and why.

    ``elsewhere``: ids of the prices that the version, being an account's overrides, stands in front of.
    """
    by_id = {price.id: price for price in prices}
    for price in by_id.values():
        for name in price.prices:
            other = by_id.get(name)
            if other is None and name not in elsewhere:
                known = {one.id for one in by_id.values() if not one.is_commitment} | set(elsewhere)
                yield price, f"there is no price {name!r} in this version; {suggestion(name, known)}"
            elif other is not None and other.is_commitment:
                yield price, f"{name!r} is a commitment itself; name the prices it counts"
            elif other is not None and other.currency != price.currency:
                yield price, f"{name!r} is in {other.currency}, the commitment in {price.currency}; one commitment each"
