"""What a draft would change, account by account and price by price: rows, sums and how JSON has them. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lineitem.core.money import nano_to_text, round_half_away, scaled_to_text
from lineitem.core.period import Month
from lineitem.core.reasons import Reason

LOSSES = ("unpriced", "not_billable", "dead_lettered")
"""Why a draft would not bill an event that the ledger bills: no price for a meter that counts it, no meter that
counts it, a flaw a meter finds in it."""


@dataclass(slots=True)
class Difference:
    """One price of one account: what the ledger charges and what the draft would. Amounts in nano-units.

    ``events`` and ``draft_events`` are billed under the price, by the ledger and by the draft. ``zero_priced`` of the
    latter lie in months whose amount is 0 for a quantity above 0. The losses (``LOSSES``) are of ``events``.
    """

    account: str
    price: str
    currency: str
    live_nano: int = 0
    draft_nano: int = 0
    events: int = 0
    draft_events: int = 0
    zero_priced: int = 0
    unpriced: int = 0
    not_billable: int = 0
    dead_lettered: int = 0

    @property
    def delta_nano(self) -> int:
        """What the account would pay more."""
        return self.draft_nano - self.live_nano

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        counts = ("events", "draft_events", "zero_priced", *LOSSES)
        return (
            {"account": self.account, "price": self.price, "currency": self.currency}
            | amounts(self.live_nano, self.draft_nano)
            | {name: getattr(self, name) for name in counts}
        )


@dataclass(slots=True)
class Total:
    """The sums of one currency. ``max_delta_nano`` is the largest change of one account and price, with its sign."""

    currency: str
    live_nano: int = 0
    draft_nano: int = 0
    max_delta_nano: int = 0
    accounts: int = 0
    accounts_changed: int = 0

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return (
            {"currency": self.currency}
            | amounts(self.live_nano, self.draft_nano)
            | {"max_delta": nano_to_text(self.max_delta_nano)}
            | {"accounts": self.accounts, "accounts_changed": self.accounts_changed}
        )


@dataclass(slots=True)
class Trial:
    """What became of one draft.

    ``refusals``: why it could not be published as it is. ``rows``: the largest change first. ``losses``: events the
    ledger bills and the draft would not, each counted once. ``reasons``: why it would set events aside.
    """

    draft: str
    refusals: list[str]
    rows: list[Difference]
    events: int
    losses: dict[str, int]
    reasons: Counter[Reason] = field(default_factory=Counter)

    @property
    def zero_priced(self) -> int:
        """Events priced zero, once for each price."""
        return sum(row.zero_priced for row in self.rows)

    def totals(self) -> list[Total]:
        """Sums per currency, by its code."""
        return totals(self.rows)

    def document(self) -> dict[str, Any]:
        """As JSON has it, without the rows."""
        return {
            "draft": self.draft,
            "publishable": not self.refusals,
            "refusals": self.refusals,
            "draft_events": self.events,
            "zero_priced": self.zero_priced,
            **self.losses,
            "reasons": {reason.code: number for reason, number in sorted(self.reasons.items())},
            "totals": [total.document() for total in self.totals()],
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Drafts beside the ledger over the service months ``since`` to ``until``, both included.

    ``chosen``: nobody named the months. ``events``: what the ledger bills in them, each counted once. ``not_compared``:
    prices that stand in no row and no sum, ``in_part`` those of which some months do, by id and with the reason.
    """

    namespace: str
    since: Month
    until: Month
    chosen: bool
    as_dated: bool
    events: int
    trials: Sequence[Trial]
    in_part: Mapping[str, str] = field(default_factory=dict)
    not_compared: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """What all drafts have in common, as JSON has it."""
        return {
            "namespace": self.namespace,
            "since": str(self.since),
            "until": str(self.until),
            "as_dated": self.as_dated,
            "events": self.events,
            "not_compared": list(self.not_compared),
            "compared_in_part": list(self.in_part),
            "reasons_not_compared": dict(self.not_compared) | dict(self.in_part),
        }


def totals(rows: Iterable[Difference]) -> list[Total]:
    """Sums per currency, by its code."""
    found: dict[str, Total] = {}
    accounts: dict[str, dict[str, bool]] = {}
    for row in rows:
        total = found.setdefault(row.currency, Total(row.currency))
        total.live_nano += row.live_nano
        total.draft_nano += row.draft_nano
        if abs(row.delta_nano) > abs(total.max_delta_nano):
            total.max_delta_nano = row.delta_nano
        changed = accounts.setdefault(row.currency, {})
        changed[row.account] = changed.get(row.account, False) or row.delta_nano != 0
    for currency, total in found.items():
        total.accounts, total.accounts_changed = len(accounts[currency]), sum(accounts[currency].values())
    return [found[currency] for currency in sorted(found)]


def largest_first(rows: Iterable[Difference]) -> list[Difference]:
    """By the size of the change, whatever its sign and currency; equal ones by name."""
    return sorted(rows, key=lambda row: (-abs(row.delta_nano), row.account, row.price, row.currency))


def amounts(live_nano: int, draft_nano: int) -> dict[str, str | None]:
    """Live, draft, their difference and what that is in percent of live."""
    delta_nano = draft_nano - live_nano
    return {
        "live": nano_to_text(live_nano),
        "draft": nano_to_text(draft_nano),
        "delta": nano_to_text(delta_nano),
        "delta_percent": percent(delta_nano, live_nano),
    }


def percent(part: int, whole: int) -> str | None:
    """``part`` in percent of ``whole``, which is not negative, to two decimals; None where there is no whole."""
    return scaled_to_text(round_half_away(part * 10_000, whole), 2) if whole > 0 else None
