"""Which prepaid grant pays for what: draws as a pure function of an account's grants and of what it owes, month by month."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Covered = tuple[str, str]
"""Price id and currency: what is owed under one price, whichever of its versions asks for it."""
Draws = dict[tuple[str, int], dict[str, int]]
"""(grant id, service month) -> price id -> nano-units drawn, above zero."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Money an account has paid already, or was given. Instants are microseconds since the epoch."""

    id: str
    currency: str
    amount_nano: int
    """What may be drawn: of a void grant what had been drawn by then."""
    priority: int
    effective_us: int
    expires_us: int | None
    """First instant it pays for no more; None: never."""
    prices: frozenset[str] = frozenset()
    """Price ids it pays for; empty: all."""

    @property
    def order(self) -> tuple[int, bool, int, int, str]:
        """Lower is drawn first: priority, what expires soonest, what began first, id."""
        return self.priority, self.expires_us is None, self.expires_us or 0, self.effective_us, self.id

    def pays_in(self, start_us: int, end_us: int) -> bool:
        """Whether it pays for anything in ``[start_us, end_us)``."""
        return self.effective_us < end_us and (self.expires_us is None or self.expires_us > start_us)

    def pays_for(self, covered: Covered) -> bool:
        """Whether it pays for a price in a currency."""
        return covered[1] == self.currency and (not self.prices or covered[0] in self.prices)


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a service month in which the same grants pay, and what was owed in it, in nano-units."""

    month: int  # core.period.Month.index
    start_us: int
    end_us: int
    owed: Mapping[Covered, int]


def cuts(grants: Iterable[Grant], start_us: int, end_us: int) -> list[int]:
    """Where inside ``(start_us, end_us)`` a grant begins or ends to pay, in order."""
    bounds = {bound for grant in grants for bound in (grant.effective_us, grant.expires_us) if bound is not None}
    return sorted(bound for bound in bounds if start_us < bound < end_us)


def shares(owed_by: Sequence[int], total: int) -> list[int]:
    """What falls to each part of a month: ``owed_by[i]`` was owed at the i-th cut, ``total`` in the end.

    Never below zero, and together ``total``: where later usage made earlier usage cheaper (a volume price), what was owed
    at a cut counts as at most what was owed at any later one.
    """
    running, least = [], max(total, 0)
    for owed in reversed([*owed_by, total]):
        least = max(min(least, owed), 0)
        running.append(least)
    running.reverse()
    return [after - before for before, after in zip([0, *running], running, strict=False)]


def draw(grants: Sequence[Grant], slices: Iterable[Slice]) -> Draws:
    """What each grant pays of each service month.

    Slices are gone through in order of time, in each the grants in their ``order``. A grant pays first what the fewest
    grants behind it could pay, so that one for some prices only is not left over; then by price id.
    """
    left = {grant.id: grant.amount_nano for grant in grants}
    ordered = sorted(grants, key=lambda grant: grant.order)
    draws: Draws = {}
    for part in sorted(slices, key=lambda one: (one.month, one.start_us)):
        owed = {covered: nano for covered, nano in part.owed.items() if nano > 0}
        paying = [grant for grant in ordered if grant.pays_in(part.start_us, part.end_us)]
        for at, grant in enumerate(paying):
            behind = [other for other in paying[at + 1 :] if left[other.id] > 0]
            rivals = {
                covered: sum(other.pays_for(covered) for other in behind)
                for covered, nano in owed.items()
                if nano > 0 and grant.pays_for(covered)
            }
            for covered in sorted(rivals, key=lambda one: (rivals[one], one)):
                paid = min(left[grant.id], owed[covered])
                if paid > 0:
                    owed[covered] -= paid
                    left[grant.id] -= paid
                    by_price = draws.setdefault((grant.id, part.month), {})
                    by_price[covered[0]] = by_price.get(covered[0], 0) + paid
    return draws
