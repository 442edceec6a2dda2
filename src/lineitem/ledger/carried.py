"""Included units that months got from the month before: read by whoever rates a pool, changed by settling alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lineitem.core.period import Month
from lineitem.kit.db import Connection
from lineitem.kit.sqlfiles import load_queries

SQL = load_queries("lineitem.ledger", "rollover.sql")

FACT = "carry"
"""Kind of the fact that says what a batch of settling carried over."""


class Key(NamedTuple):
    """Whose units, of which pool, in the month that gets them."""

    account_key: int
    pricebook: str
    pool: str
    month: int  # core.period.Month.index


def share(connection: Connection, namespace_key: int, keys: Sequence[Key]) -> dict[Key, int]:
    """Units of those keys that got any; nobody changes them until this transaction ends."""
    if not keys:
        return {}
    values = _columns(keys) | {"namespace_key": namespace_key}
    connection.execute(SQL.share_pools, values)
    return {Key(*row[:4]): int(row[4]) for row in connection.execute(SQL.carried_to, values).fetchall()}


def change(connection: Connection, namespace_key: int, units: Mapping[Key, int]) -> None:
    """Set the units of each key, once nobody who has read them is at work any more."""
    keys = sorted(units)
    values = _columns(keys) | {"namespace_key": namespace_key, "units": [units[key] for key in keys]}
    connection.execute(SQL.lock_pools, values)
    connection.execute(SQL.set_carried, values)


def of_months(
    connection: Connection, namespace_key: int, months: Iterable[int], account: str | None = None
) -> dict[Key, int]:
    """All there is in some months; ``account`` narrows to one."""
    where = {"namespace_key": namespace_key, "months": sorted(set(months)), "account": account}
    return {Key(*row[:4]): int(row[4]) for row in connection.execute(SQL.carried, where).fetchall()}


def of_namespace(connection: Connection, namespace: str) -> dict[Key, int]:
    """All there is in a namespace."""
    rows = connection.execute(SQL.all_carried).fetchall()
    return {Key(row[6], row[2], row[3], row[4]): int(row[5]) for row in rows if row[0] == namespace}


def check_carried(
    connection: Connection, recorded: Mapping[tuple[int, int], tuple[dict[str, Any], str]]
) -> Iterator[tuple[tuple[int, int] | None, str]]:
    """What months got is what settling recorded last: (batch to blame, what is wrong). ``recorded``: facts by place."""
    expected: dict[tuple[Any, ...], tuple[tuple[int, int], int]] = {}
    for place, (fact, _) in sorted(recorded.items()):
        for one in fact["carried"] if isinstance(fact["carried"], list) else ():
            if (
                isinstance(one, list)
                and [type(part) for part in one] == [str] * 3 + [int] + [str]
                and one[4].isdecimal()
            ):
                expected[(fact["namespace"], *one[:4])] = place, int(one[4])
    for *stored, units, _ in connection.execute(SQL.all_carried).fetchall():
        known = expected.pop(tuple(stored), None)
        if known is None or units != known[1]:
            yield known and known[0], f"{_named(stored)} got other units from the month before than recorded"
    for key, (place, _) in expected.items():
        yield place, f"{_named(key)} no longer has the units it got from the month before"


def _named(key: Sequence[Any]) -> str:
    """A key in words: namespace, account, pricebook, pool, month."""
    return f"account {key[1]}, {key[3]}, {Month.from_index(key[4])}"


def _columns(keys: Sequence[Key]) -> dict[str, Any]:
    accounts, books, names, months = (list(column) for column in zip(*keys, strict=True))
    pools = [f"{len(book)}:{book}{name} {month}" for _, book, name, month in keys]
    return {"accounts": accounts, "books": books, "names": names, "months": months, "pools": pools}
