"""A canary: a pricebook version that bills chosen accounts only. Who is in it, since when, and what may start. Pure.

An account's service period has one arm from its first event to its last, so tiers are never mixed: a step (start, ramp,
stop, finish) counts from a service month on, and for an account whose usage in such months is rated already, from the
month after (``Step.holds``). Which arm bills is a function of the steps, the account and the service month alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from hashlib import sha256

import msgspec

from lineitem.catalog.diff import diff
from lineitem.catalog.document import content_digest, plain
from lineitem.catalog.fields import ID_PATTERN, ID_RULE
from lineitem.catalog.model import Aggregation, Catalog, Price, Pricebook, owner
from lineitem.core.errors import IntegrityError, Refused, UsageError
from lineitem.core.ids import length_prefixed
from lineitem.core.period import Month

_BOOK = "@canary/"
"""What the name of a canary's pricebook begins with; no pricebook of a file can have it."""
PERCENT_DECIMALS = 6
"""Decimals a percentage may have."""
_WHOLE = 100_000_000
"""100 % at that many decimals."""


class CanaryAct(StrEnum):
    """What can be done to a canary."""

    START = "start"
    RAMP = "ramp"
    STOP = "stop"
    FINISH = "finish"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far members may pay more or less than without the canary, in percent: in total, and each account."""

    total_percent: Decimal | None = None
    account_percent: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a canary, whole: a later one repeats what it leaves as it was.

    Members are a ``percent`` of accounts, by hash, or ``accounts``; nobody after a stop or finish. ``from_month``
    (``Month.index``): the first service month it counts for. ``book``: the candidate's prices, at the start only.
    """

    canary: str
    act: CanaryAct
    pricebook: str
    version: int
    from_month: int
    chosen: str
    percent: Decimal | None = None
    salt: str = ""
    accounts: tuple[str, ...] = ()
    bounds: Bounds = field(default_factory=Bounds)
    reason: str = ""
    book: Pricebook | None = None

    @property
    def running(self) -> bool:
        """Whether it has members."""
        return self.act in (CanaryAct.START, CanaryAct.RAMP)

    def document(self) -> str:
        """Canonical JSON; ``change_from_document`` is the inverse."""
        return msgspec.json.encode(plain(self), order="sorted").decode()


def change_from_document(document: str) -> Change:
    """Read a stored step. Raises IntegrityError when it is damaged."""
    try:
        return msgspec.json.decode(document, type=Change)
    except msgspec.MsgspecError as error:
        raise IntegrityError(f"not a step of a canary: {error}", do="Run `lineitem verify`.") from error


def canary_book(name: str) -> str:
    """The pricebook that holds a canary's prices."""
    return _BOOK + name


def canary_of(pricebook: str) -> str | None:
    """The canary whose prices a pricebook holds; None for any other."""
    return pricebook.removeprefix(_BOOK) if pricebook.startswith(_BOOK) else None


@dataclass(frozen=True)
class Step:
    """A change as it was put in force: its revision, and the accounts it counts for only from a later month on."""

    revision: int
    change: Change
    holds: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def _named(self) -> frozenset[str]:
        return frozenset(self.change.accounts)

    @cached_property
    def _share(self) -> int:
        """The percentage of all 64-bit numbers, as many hundredths and decimals larger: whole numbers compare exactly."""
        percent = self.change.percent
        return int(percent.scaleb(PERCENT_DECIMALS)) << 64 if self.change.running and percent is not None else 0

    @cached_property
    def _hashed_first(self) -> bytes:
        return length_prefixed(self.change.salt.encode(), self.change.pricebook.encode())

    def has(self, account: str) -> bool:
        """Whether ``account`` is a member. A higher percentage keeps the members of a lower one.

        Where an account stands among all: 64 bits of SHA-256 over salt, pricebook and account, each behind its length.
        """
        if self.change.percent is None:
            return self.change.running and account in self._named
        digest = sha256(self._hashed_first + length_prefixed(account.encode())).digest()
        return int.from_bytes(digest[:8], "big") * _WHOLE < self._share


def holds_digest(holds: Mapping[str, int]) -> str:
    """What a fact says of a step's held accounts: SHA-256, hex."""
    return sha256(msgspec.json.encode(sorted(holds.items()))).hexdigest()


Arms = tuple[tuple[int, str | None], ...]
"""From which service month on which canary's pricebook bills (None: the account's own pricebook), in order of time."""


def arms_of(steps: Sequence[Step], account: str) -> Arms:
    """The arms of an account, given all steps about its pricebook, oldest first; () where no canary ever bills it."""
    found: list[tuple[int, str | None]] = []
    for month in sorted({step.holds.get(account, step.change.from_month) for step in steps}):
        step = counting(steps, account, month)
        book = canary_book(step.change.canary) if step is not None and step.has(account) else None
        if book != (found[-1][1] if found else None):
            found.append((month, book))
    return tuple(found)


def arm_at(arms: Arms, month: int) -> str | None:
    """The canary's pricebook that bills a service month, if one does."""
    return next((book for since, book in reversed(arms) if since <= month), None)


def counting(steps: Sequence[Step], account: str, month: int) -> Step | None:
    """The step that decides an account's service month; None before any counts. ``steps``: as ``arms_of`` takes them."""
    return next((step for step in reversed(steps) if step.holds.get(account, step.change.from_month) <= month), None)


def held(before: Sequence[Step], new: Step, used: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Accounts whose arm the step would change under rated usage, and the month after it. ``used``: months with usage."""
    after = [*before, new]
    found = {}
    for account, months in used.items():
        old, then = arms_of(before, account), arms_of(after, account)
        if old != then and any(arm_at(old, month) != arm_at(then, month) for month in months):
            found[account] = max(months) + 1
    return found


# --- what may start


@dataclass(frozen=True, slots=True)
class Chosen:
    """Who shall be in a canary: a percentage by hash, or accounts; ``how`` says where the choice came from."""

    how: str
    percent: Decimal | None = None
    salt: str = ""
    accounts: tuple[str, ...] = ()


def percentage(text: str, option: str = "--percent") -> Decimal:
    """A percentage above 0 and up to 100. Raises UsageError for anything else."""
    try:
        found = Decimal(text)
    except ArithmeticError:
        found = Decimal(-1)
    if not found.is_finite() or not 0 < found <= 100 or -int(found.as_tuple().exponent) > PERCENT_DECIMALS:
        raise UsageError(
            f"{option} {text} is not a percentage",
            do=f"Give one above 0 and up to 100, with {PERCENT_DECIMALS} decimals at most.",
        )
    return found


def started(
    current: Catalog, file: Catalog, published: Sequence[Pricebook], name: str | None, chosen: Chosen, bounds: Bounds,
    from_us: int | None,
) -> Change:  # fmt: skip
    """The start of a canary from a file whose new pricebook version is the candidate. Raises Refused where it has none,
    several, or changes anything else: a canary tries prices, everything else is published.
    """
    known = {(book.id, book.version) for book in published}
    new = [book for book in file.pricebooks if (book.id, book.version) not in known]
    if len(new) != 1:
        found = ", ".join(f"{book.id} version {book.version}" for book in new) or "none"
        raise Refused(
            f"a canary needs a file with exactly one new pricebook version; it has {found}",
            do="Write the prices to try as the next version of one pricebook.",
        )
    candidate = new[0]
    if owner(candidate.id) is not None:
        raise Refused("the new version is an override of one account", do="Publish it: a canary is for a pricebook.")
    if candidate.id not in {book for book, _ in known}:
        raise Refused(f"pricebook {candidate.id} is not published", do="Publish its first version.")
    others = diff(current, replace(file, pricebooks=current.pricebooks))
    if others:
        what = ", ".join(f"{change.what} {change.id}".rstrip() for change in others[:5])
        raise Refused(
            f"the file changes more than the prices of {candidate.id}: {what}", do="Publish the other changes first."
        )
    newest = max((book for book in published if book.id == candidate.id), key=lambda book: book.version)
    changed = sorted({price.id for price in level_prices(current, newest) ^ level_prices(current, candidate)})
    if changed:
        raise Refused(
            f"the new version changes the price of a level ({', '.join(changed)}), which no check could compare: what a month"
            " owes depends on readings before the canary",
            do="Publish that change, and try the others.",
        )
    lost = sorted({price.id for book in (newest, candidate) for price in book.prices if price.rollover_max is not None})
    if lost:
        raise Refused(
            f"the pricebook carries included units over ({', '.join(lost)}): members would begin and end the canary without"
            " theirs",
            do="Try it with `lineitem catalog shadow`, and publish it.",
        )
    if {price for price in newest.prices if price.is_commitment} != {p for p in candidate.prices if p.is_commitment}:
        raise Refused(
            "the new version changes a commitment, which no check could compare before the month ends",
            do="Publish that change, and try the others.",
        )
    name = name or f"{candidate.id}-{candidate.version}"
    if not ID_PATTERN.fullmatch(name):
        raise UsageError(f"--name {name!r} is no id", do=ID_RULE)
    book = replace(candidate, id=canary_book(name), version=1, effective_from_us=0, effective_until_us=None)
    return Change(
        canary=name,
        act=CanaryAct.START,
        pricebook=candidate.id,
        version=candidate.version,
        from_month=first_month(candidate.effective_from_us if from_us is None else from_us),
        chosen=chosen.how,
        percent=chosen.percent,
        salt=chosen.salt or name,
        accounts=chosen.accounts,
        bounds=bounds,
        book=book,
    )


def level_prices(current: Catalog, book: Pricebook) -> set[Price]:
    """The prices of a pricebook version that bill a level."""
    of_levels = {meter.id for meter in current.meters if meter.aggregation is Aggregation.TIME_WEIGHTED}
    return {price for price in book.prices if price.meter in of_levels}


def first_month(us: int) -> int:
    """The first month (``Month.index``) that starts, in UTC, at or after an instant in microseconds since the epoch."""
    month = Month.of_us(us)
    return month.index if us == month.bounds_us("UTC")[0] else month.index + 1


def check_change(change: Change, steps: Sequence[Step]) -> None:
    """Raise Refused when a change cannot follow the steps there are."""
    last = {step.change.canary: step.change for step in steps}
    if change.act is CanaryAct.START:
        if change.canary in last:
            raise Refused(f"there was a canary {change.canary!r} already", do="Name this one otherwise: --name NAME")
        for other in last.values():
            if other.running and other.pricebook == change.pricebook:
                raise Refused(
                    f"canary {other.canary} is running on pricebook {change.pricebook}",
                    do=f"Stop or finish it first: lineitem canary stop {other.canary} --reason TEXT",
                )
        return
    now = running(steps, change.canary)
    if change.act is CanaryAct.RAMP and change == replace(now, act=CanaryAct.RAMP, book=None):
        raise Refused(f"canary {change.canary} has these members already", do="Nothing was changed.")


def running(steps: Sequence[Step], name: str) -> Change:
    """The last step of a canary that runs. Raises Refused where it does not."""
    last = next((step.change for step in reversed(steps) if step.change.canary == name), None)
    if last is None:
        raise Refused(f"there is no canary {name!r}", do="`lineitem canary status` lists them.")
    if not last.running:
        word = "stopped" if last.act is CanaryAct.STOP else "finished"
        raise Refused(f"canary {name} has been {word}", do="Start another one: lineitem canary start FILE")
    return last


def promoted(
    current: Catalog, steps: Sequence[Step], published: Sequence[Pricebook], name: str, from_us: int
) -> Catalog:
    """``current`` with a canary's prices as the next ordinary version of its pricebook, from an instant on."""
    change = running(steps, name)
    book = next(step.change.book for step in steps if step.change.canary == name and step.change.book is not None)
    number = max(one.version for one in published if one.id == change.pricebook) + 1
    new = replace(book, id=change.pricebook, version=number, effective_from_us=from_us)
    made = replace(current, pricebooks=tuple(sorted((*current.pricebooks, new), key=lambda one: (one.id, one.version))))
    assert content_digest(made) != content_digest(current)
    return made
