"""What accounts owed when a grant began or ceased to pay inside a month: folded again from the raw segments up to there.

What a price asks at the end of a month is no sum over its events (tiers, maximums, distinct members), so what had been owed
by an instant is T of the events before it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lineitem.catalog.snapshot import TierChains
from lineitem.core.period import month_start_us
from lineitem.ledger.carried import Key, of_namespace
from lineitem.ledger.credit_months import Month
from lineitem.ledger.rating import Rater
from lineitem.ledger.refold import PriceFold, Replay, bases
from lineitem.rate.credits import Covered
from lineitem.rate.targets import NOT_SETTLED, totals

Owed = dict[tuple[int, int, int], dict[Covered, int]]
"""(account key, service month, cut in microseconds since the epoch) -> price and currency -> nano-units."""
_ZONE_US = 24 * 3600 * 1_000_000
"""Zones lie less than a day apart from UTC."""


def owed_at(replay: Replay, chains: TierChains | None, rater: Rater, wanted: Mapping[Month, tuple[int, ...]]) -> Owed:
    """What was owed at each cut of each month for the usage before it, minimums and base fees left aside.

    Reads the segments of each month once. Raises BatchDamaged where one cannot be read.
    """
    found: Owed = {}
    carried = of_namespace(replay.connection, replay.namespace)
    for month in sorted({month for _, month in wanted}):
        accounts_of: dict[int, list[int]] = {}
        for (account, of), some in wanted.items():
            for cut in some if of == month else ():
                accounts_of.setdefault(cut, []).append(account)
        for cut, folds in _fold(replay, month, accounts_of).items():
            for covered, account, nano in _totals(folds, chains, rater, carried):
                owed = found.setdefault((account, month, cut), {})
                owed[covered] = owed.get(covered, 0) + nano
    return found


def _fold(replay: Replay, month: int, accounts_of: Mapping[int, list[int]]) -> dict[int, dict[int, PriceFold]]:
    """Cut -> price key -> the folds of the events before it, of the accounts that have this cut."""
    folds: dict[int, dict[int, PriceFold]] = {cut: {} for cut in accounts_of}
    for batch in replay.batches(month_start_us(month, "UTC") - _ZONE_US, max(accounts_of, default=0)):
        for usage in (one for one in batch.usage if not one.row.is_level):
            for cut, accounts in accounts_of.items():
                before = (usage.service_month == month) & (usage.time_us < cut)
                some = usage.select(before & np.isin(usage.account_key, accounts))
                if len(some.event):
                    folds[cut].setdefault(some.row.price_key, PriceFold.empty(some.row)).add(some)
    return folds


def _totals(
    folds: Mapping[int, PriceFold], chains: TierChains | None, rater: Rater, carried: Mapping[Key, int]
) -> list[tuple[Covered, int, int]]:
    """Price and currency, account key, T."""
    base_of, found = bases(folds, chains, carried), []
    for price_key, fold in folds.items():
        price = fold.row.price
        settled = np.full(len(fold.code), NOT_SETTLED, dtype=np.int64)
        total = totals(rater.compile(fold.row), fold.billed, fold.events, settled, base=base_of.get(price_key))
        for code, nano in zip(fold.code.tolist(), total.tolist(), strict=True):
            found.append(((price.id, price.currency), code >> 20, int(nano)))
    return found
