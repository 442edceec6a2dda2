"""What the invoices of an account have claimed of a month so far, and above which cut the next one claims. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field

from lineitem.ledger.claims import Cut
from lineitem.ledger.post import canonical


def parse_cut(text: str) -> dict[int, int]:
    """A stored cut: ``'{"1":7}' -> {1: 7}``."""
    return {int(lane): int(batch) for lane, batch in json.loads(text).items()}


def cut_text(cut: Cut) -> str:
    """Inverse of ``parse_cut``, canonical."""
    return canonical({str(lane): batch for lane, batch in cut.items()})


@dataclass(frozen=True, slots=True)
class Claimed:
    """One invoice: it claims the line items of its currency, or where it is ``converted`` those of every currency."""

    currency: str
    converted: bool
    cut: Cut
    number: str = ""

    def takes(self, currency: str) -> bool:
        """Whether it claims line items in ``currency``."""
        return self.converted or self.currency == currency


@dataclass(slots=True)
class History:
    """The invoices of one account and month in the order they were made."""

    invoices: list[Claimed] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.invoices)

    def add(self, invoice: Claimed) -> None:
        """The next one."""
        self.invoices.append(invoice)

    def next_ordinal(self, currency: str) -> int:
        """1, 2, ... among the invoices in ``currency``."""
        return 1 + sum(one.currency == currency for one in self.invoices)

    def last(self, currency: str) -> Claimed | None:
        """The last invoice that took line items in ``currency``; cuts only grow, so its cut is the highest."""
        return next((one for one in reversed(self.invoices) if one.takes(currency)), None)

    def above(self, currencies: Collection[str]) -> dict[str, Cut]:
        """Of each of ``currencies`` that was claimed: the cut above which the next invoice claims."""
        found = {currency: self.last(currency) for currency in currencies}
        return {currency: one.cut for currency, one in found.items() if one is not None}

    def unmoved(self, currency: str, converted: bool, length: int) -> bool:
        """Whether, since there were ``length`` invoices, none has claimed what such an invoice would."""
        return not any(converted or one.takes(currency) for one in self.invoices[length:])
