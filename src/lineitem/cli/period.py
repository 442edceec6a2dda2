"""``lineitem period``: close and show posting periods."""

from __future__ import annotations

import click

from lineitem.cli.output import Scope, fields, ledger_command, print_json


@click.group()
def period() -> None:
    """Close and show posting periods."""


@period.command()
@click.argument("period")
@ledger_command
def close(period: str, scope: Scope) -> None:
    """Close a month: it takes no more line items, late usage posts to the next open one as a correction."""
    from lineitem.core.period import Month

    month = Month.parse(period)
    with scope.app() as app:
        found = app.close_period(scope.namespace, month)
    _print(found, scope)


@period.command()
@click.argument("period")
@ledger_command
def show(period: str, scope: Scope) -> None:
    """Show a month's state and what was posted to it."""
    from lineitem.core.period import Month
    from lineitem.ledger.closing import show_period

    month = Month.parse(period)
    with scope.app() as app:
        found = show_period(app.control, scope.namespace, month)
    _print(found, scope)


def _print(found: dict[str, object], scope: Scope) -> None:
    if scope.as_json:
        print_json(found)
    else:
        fields(found)
