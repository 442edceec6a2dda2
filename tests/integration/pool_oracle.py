"""Pools of included units, told independently: who comes before whom, and what a month leaves for the next."""

from __future__ import annotations

import json
from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.integration.oracle import Document, Oracle, Target, Usage

Pool = tuple[str, str, str, str]
"""Account, pricebook, name of the pool, service month."""


def name_of(price: Document, id_: str) -> str | None:
    """The pool a price shares; its own where it only carries units over."""
    return price.get("pool") or (f"@{id_}" if "rollover_max" in price else None)


def counted(oracle: Oracle, target: Target, price: Document, quantity: Fraction) -> Fraction:
    """The quantity as the price counts it: behind what others have taken of the included units."""
    if name_of(price, target[1]) is None:
        return quantity
    return max(Fraction(0), max(quantity, Fraction(0)) + behind(oracle, target, price))


def behind(oracle: Oracle, target: Target, price: Document) -> Fraction:
    """What others have taken of the included units, less what came from the month before; 0 without a pool."""
    account, id_, month, content = target
    book, name = json.loads(content)[0], name_of(price, id_)
    if name is None:
        return Fraction(0)
    taken = Fraction(0)
    usage = oracle.with_usage()
    for other_id, other in parts(oracle, account, book, name, month):
        if (other_id, other) == (id_, content):
            break
        taken += _used(oracle, usage.get((account, other_id, month, other), []), other)
    net = taken - oracle.carried.get((account, book, name, month), Fraction(0))
    return min(net, _units(price, "included"))


def parts(oracle: Oracle, account: str, book: str, name: str, month: str) -> list[tuple[str, str]]:
    """Id and content of everything that shares a pool in a month: as it came into force, then by id."""
    start, end = oracle.bounds(month, account)
    inside = [
        (max(since, start), price["id"], oracle.content(book, price))
        for since, until, version in oracle.versions(book)
        if since < end and until > start
        for price in version["prices"]
        if name_of(price, price["id"]) == name
    ]
    found: list[tuple[str, str]] = []
    for _, id_, content in sorted(inside):
        if content not in [other for other_id, other in found if other_id == id_]:
            found.append((id_, content))
    return found


def carry_over(oracle: Oracle, months: Iterable[str]) -> None:
    """Give the month after each of ``months`` that has ended what it left."""
    for month in sorted(months):
        usage = oracle.with_usage()
        pools = {
            (account, json.loads(content)[0], name)
            for account, id_, of, content in usage
            if of == month and usage[account, id_, of, content]
            and (name := name_of(json.loads(content)[1], id_)) is not None
        }  # fmt: skip
        pools |= {pool[:3] for pool, units in oracle.carried.items() if pool[3] == month and units}
        pools |= {(account, book, name) for account, book, name in oracle.active_pools(month)}
        for account, book, name in pools:
            if oracle.bounds(month, account)[1] > oracle.now:
                continue
            shared = parts(oracle, account, book, name, month)
            if not shared or "rollover_max" not in json.loads(shared[-1][1])[1]:
                left = Fraction(0)
            else:
                last = json.loads(shared[-1][1])[1]
                had = oracle.carried.get((account, book, name, month), Fraction(0))
                used = sum(
                    (_used(oracle, usage.get((account, *_place(one, month)), []), one[1]) for one in shared),
                    Fraction(0),
                )
                left = min(max(_units(last, "included") + had - used, Fraction(0)), _units(last, "rollover_max"))
            oracle.carried[account, book, name, following(month)] = left


def following(month: str) -> str:
    """The month after."""
    year, number = map(int, month.split("-"))
    return f"{year + number // 12}-{number % 12 + 1:02}"


def _place(part: tuple[str, str], month: str) -> tuple[str, str, str]:
    return part[0], month, part[1]


def _used(oracle: Oracle, usage: list[Usage], content: str) -> Fraction:
    return max(oracle.folded(usage, content), Fraction(0))


def _units(price: Document, key: str) -> Fraction:
    return Fraction(price[key]) * Fraction(price.get("transform", {}).get("divide_by", "1"))
