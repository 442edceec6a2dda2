"""``lineitem tags``: how well line items are tagged, how that moved, and what each cost centre comes to."""

from __future__ import annotations

from typing import Any

import click

from lineitem.cli.output import Scope, ledger_command, print_json, say, table

_TOP = click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Values listed of each key.")
_KEY = click.option("--key", help="Only this tag.")


@click.group()
def tags() -> None:
    """Tags of line items: coverage, drift, cost centres. Periods are posting periods."""


@tags.command()
@click.option("--period", help="Only line items posted to this period, e.g. 2026-10.")
@_KEY
@_TOP
@ledger_command
def coverage(period: str | None, key: str | None, top: int, scope: Scope) -> None:
    """How much of the amounts has each tag, and its largest values."""
    from lineitem.core.period import Month
    from lineitem.ledger.tags import coverage as find

    month = None if period is None else Month.parse(period)
    with scope.app() as app:
        found = find(app.control, scope.namespace, month=month, key=key, top=top)
    if scope.as_json:
        print_json(found)
        return
    columns = ["key", "currency", "amount", "untagged", "coverage %", "line items", "largest values"]
    rows = [
        [
            one["key"] + ("" if one["registered"] else " (not registered)"),
            *(one[name] for name in ("currency", "amount", "untagged", "coverage", "line_items")),
            _listed([f"{value['value']} {value['amount']}" for value in one["values"]], one["distinct_values"]),
        ]
        for one in found["keys"]
    ]
    table(f"Coverage, {period or 'all periods'}", columns, rows, right=columns[2:6])


@tags.command()
@click.option("--period", required=True, help="The period to look at, e.g. 2026-10.")
@click.option("--against", required=True, help="The period to compare it with, e.g. 2026-09.")
@_KEY
@_TOP
@ledger_command
def drift(period: str, against: str, key: str | None, top: int, scope: Scope) -> None:
    """Which values of a tag are new or gone, and how their shares moved, largest changes first."""
    from lineitem.core.period import Month
    from lineitem.ledger.tags import drift as find

    month, before = Month.parse(period), Month.parse(against)
    with scope.app() as app:
        found = find(app.control, scope.namespace, month, before, key=key, top=top)
    if scope.as_json:
        print_json(found)
        return
    columns = ["key", "currency", "value", "state", f"% in {against}", f"% in {period}", "change"]
    rows = [
        [
            one["key"],
            one["currency"],
            row["value"],
            _state(one, row),
            row["share_then"],
            row["share_now"],
            row["change"],
        ]
        for one in found["keys"]
        for row in one["values"]
    ]
    table(f"Drift from {against} to {period}", columns, rows, right=columns[4:])


@tags.command("cost-centers")
@click.option("--period", required=True, help="The posting period, e.g. 2026-10.")
@ledger_command
def cost_centers(period: str, scope: Scope) -> None:
    """What the line items of a period come to by cost centre, with what no rule is for as a line of its own."""
    from lineitem.core.period import Month
    from lineitem.ledger.tags import cost_centers as find

    month = Month.parse(period)
    with scope.app() as app:
        found = find(app.control, scope.namespace, month)
    if scope.as_json:
        print_json(found)
        return
    columns = ["cost_center", "currency", "amount", "share", "line_items"]
    rows = [[row[name] for name in columns] for row in found["cost_centers"]]
    table(f"Cost centres, {period}", columns, rows, right=columns[2:])
    for total in found["totals"]:
        say(f"{total['amount']} {total['currency']} in {total['line_items']} line items.")


def _listed(texts: list[str], count: int) -> str:
    return ", ".join(texts) + (f", and {count - len(texts)} more" if count > len(texts) else "")


def _state(one: dict[str, Any], row: dict[str, Any]) -> str:
    return "new" if row["value"] in one["new"] else "vanished" if row["value"] in one["vanished"] else ""
