"""What prepaid grants must pay, worked out by slow, plain Python from the oracle's events: month by month, part by part."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from tests.integration.oracle import Oracle, Totals, Usage, _bounds, _following

Under = tuple[str, str]
"""Price and currency."""
FOREVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Grant:
    """What was granted; ``nano`` is what may be drawn."""

    id: str
    account: str
    currency: str
    nano: int
    priority: int
    since: datetime
    until: datetime = FOREVER
    prices: tuple[str, ...] = ()

    def pays(self, under: Under) -> bool:
        """Whether it pays for a price."""
        return under[1] == self.currency and (not self.prices or under[0] in self.prices)


def draws(oracle: Oracle, grants: Iterable[Grant], asked: Iterable[str]) -> dict[tuple[str, str], int]:
    """(grant, service month) -> nano-units, of the months somebody billed; what is due in advance for the next included."""
    found: dict[tuple[str, str], int] = defaultdict(int)
    months = sorted({*asked, *map(_following, asked)})
    granted = list(grants)
    for account in {grant.account for grant in granted}:
        mine = sorted(
            (grant for grant in granted if grant.account == account),
            key=lambda one: (one.priority, one.until, one.since, one.id),
        )
        left = {grant.id: grant.nano for grant in mine}
        for month in months:
            for start, end, owed in _parts(oracle, account, month, mine, whole=month in asked):
                paying = [one for one in mine if one.since < end and one.until > start]
                for grant in paying:
                    _pay(grant, paying, owed, left, found, month)
    return {key: nano for key, nano in found.items() if nano}


def _pay(
    grant: Grant, paying: list[Grant], owed: dict[Under, int], left: dict[str, int], found: dict[tuple[str, str], int],
    month: str,
) -> None:  # fmt: skip
    """First what the fewest grants that come later could pay, then by name."""
    later = [one for one in paying[paying.index(grant) + 1 :] if left[one.id]]
    able = [under for under in owed if owed[under] > 0 and grant.pays(under)]
    for under in sorted(able, key=lambda under: (len([one for one in later if one.pays(under)]), under)):
        paid = min(left[grant.id], owed[under])
        owed[under] -= paid
        left[grant.id] -= paid
        found[(grant.id, month)] += paid


def _parts(
    oracle: Oracle, account: str, month: str, grants: list[Grant], *, whole: bool
) -> list[tuple[datetime, datetime, dict[Under, int]]]:
    """The month cut where grants begin and end, each part with what fell due in it."""
    start, end = _bounds(month, oracle._account(account))
    inside = sorted({at for one in grants for at in (one.since, one.until) if start < at < end})
    levels = [_owed(oracle, account, month, cut, whole=whole) for cut in [*inside, end]]
    least = dict(levels[-1])
    for level in reversed(levels):  # what was owed early counts as at most what was owed later
        for under in least:
            least[under] = level[under] = min(max(level.get(under, 0), 0), max(least[under], 0))
    parts, before = [], dict.fromkeys(least, 0)
    for since, until, level in zip([start, *inside], [*inside, end], levels, strict=True):
        parts.append((since, until, {under: level[under] - before[under] for under in least}))
        before = level
    return parts


def _owed(oracle: Oracle, account: str, month: str, cut: datetime, *, whole: bool) -> dict[Under, int]:
    """What was owed at an instant: usage before it, base fees from the start, minimums only in the end."""
    ended = cut == _bounds(month, oracle._account(account))[1]

    def counts(content: str) -> bool:
        fee = _price(content)["model"] == "flat"
        return (ended or fee) and (whole or _price(content).get("charge") == "in_advance")

    found: dict[Under, int] = {}
    for currency in currencies(oracle):
        seen = in_currency(oracle, currency, lambda one: whole and one.time < cut, counts)
        for (who, name, when), (_, nano) in seen.items():
            if (who, when) == (account, month):
                found[(name, currency)] = nano
    return found


def currencies(oracle: Oracle) -> list[str]:
    """What anything accepted or settled is in."""
    contents = {one.content for event in oracle.accepted.values() for one in event.usage}
    return sorted(
        {
            _currency(oracle, content)
            for content in contents | {target[3] for target in (*oracle.settled, *oracle.committed)}
        }
    )


def in_currency(oracle: Oracle, currency: str, used: Callable[[Usage], bool], settled: Callable[[str], bool]) -> Totals:
    """The totals of prices in one currency: of usage that ``used`` counts, settled where ``settled`` says so of a content.

    Usage in other currencies counts where prices share their included units.
    """
    accepted = {
        identity: replace(event, usage=[one for one in event.usage if used(one)])
        for identity, event in oracle.accepted.items()
    }
    shares = {target: share for target, share in oracle.settled.items() if settled(target[3])}
    committed = {target: held for target, held in oracle.committed.items() if settled(target[3])}
    return replace(oracle, accepted=accepted, settled=shares, committed=committed).totals(currency)


def _price(content: str) -> dict[str, Any]:
    price: dict[str, Any] = json.loads(content)[1]
    return price


def _currency(oracle: Oracle, content: str) -> str:
    return str(_price(content).get("currency", oracle.catalog["currency"]))
