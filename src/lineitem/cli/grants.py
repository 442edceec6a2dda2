"""``lineitem grant``: prepaid credit of accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lineitem.cli.lifecycle import acting
from lineitem.cli.output import Scope, ledger_command, print_json, say, table

if TYPE_CHECKING:
    from lineitem.app import App

_PRIORITY_MAX = 1_000_000


@click.group()
def grant() -> None:
    """Prepaid credit of accounts, drawn when a month is billed or closed."""


@grant.command()
@click.option("--account", required=True, help="Whose credit.")
@click.option("--amount", required=True, help="How much, for example 100 or 99.50.")
@click.option("--currency", required=True, help="It pays for prices in this currency only.")
@click.option("--id", "id_", help="Its name; the same again does nothing.  [default: grant-N]")
@click.option(
    "--priority", type=click.IntRange(0, _PRIORITY_MAX), default=10, show_default=True, help="Lower is drawn first."
)
@click.option(
    "--effective",
    metavar="DAY|INSTANT",
    help="Pays for usage from here on; a day is the account's.  [default: the start of this month]",
)
@click.option("--expires", metavar="DAY|INSTANT", help="Pays for usage before this only.  [default: never]")
@click.option("--prices", default="", help="Only for these prices, ids with commas between.  [default: all]")
@click.option("--reason", default="", help="What it is for; invoices show it.")
@acting
@ledger_command
def add(
    account: str, amount: str, currency: str, id_: str | None, priority: int, effective: str | None,
    expires: str | None, prices: str, reason: str, actor: str | None, scope: Scope,
) -> None:  # fmt: skip
    """Grant credit to an account. Adding the same grant again does nothing, another one under its id is refused."""
    from lineitem.ledger.grant_terms import Asked

    asked = Asked(account, amount, currency, id_, priority, effective, expires, prices, reason)
    with scope.app() as app:
        made, new = app.grant_add(scope.namespace, asked, actor)
        shown = made.shown(app.clock.now_us())
        _warn(app, scope.namespace, currency)
    if scope.as_json:
        print_json(shown | {"added": new})
        return
    if not new:
        click.echo(f"Nothing to do: {shown['id']} was granted in batch {shown['batch']}.")
        return
    since, until = (_when(shown, name) for name in ("effective", "expires"))
    click.echo(
        f"Granted {shown['granted']} {shown['currency']} to {account} as {shown['id']}, for usage from {since}"
        f" {f'until {until} (excluded)' if shown['expires'] else 'on'}, in batch {shown['batch']}."
    )


def _warn(app: App, namespace: str, currency: str) -> None:
    """Say so where nothing can ever be paid with it."""
    from lineitem.catalog import published

    known = published.price_ids(app.control, published.namespace_key(app.control, namespace))
    if currency not in {code for _, code in known}:
        say(f"No price is in {currency} so far: the grant pays for nothing until one is.")


@grant.command("list")
@click.option("--account", help="Only this account's.")
@ledger_command
def list_(account: str | None, scope: Scope) -> None:
    """List grants: how much was granted, drawn by what has been billed so far, left, and lost by expiry or void."""
    from lineitem.ledger.grants import kept
    from lineitem.ledger.read import keys_of

    with scope.app() as app:
        key, _ = keys_of(app.control, scope.namespace, account)
        found = [one.shown(app.clock.now_us()) for one in kept(app.control, key, account)]
    if scope.as_json:
        print_json({"grants": found})
        return
    columns = [
        "id",
        "account",
        "state",
        "granted",
        "drawn",
        "left",
        "lost",
        "currency",
        "priority",
        "effective",
        "expires",
    ]
    rows = [[_cell(one, name) for name in columns] for one in found]
    table("Grants", columns, rows, right=["granted", "drawn", "left", "lost", "priority"])
    if any(one["state"] == "expired" for one in found):
        say("An expired grant still pays for usage from before, once that is billed; `lost` is then less.")


def _cell(one: dict[str, Any], name: str) -> object:
    return _when(one, name) if name in ("effective", "expires") else one[name]


def _when(one: dict[str, Any], name: str) -> str:
    """The day of the account that begins at an instant, where one does; else the instant."""
    from datetime import datetime
    from zoneinfo import ZoneInfo

    if one[name] is None:
        return "never"
    local = datetime.fromisoformat(one[name]).astimezone(ZoneInfo(one["timezone"]))
    return str(one[name]) if local.time().replace(tzinfo=None) != datetime.min.time() else local.date().isoformat()


@grant.command()
@click.argument("id_", metavar="ID")
@click.option("--reason", required=True, help="Why; it stays in the audit trail.")
@acting
@ledger_command
def void(id_: str, reason: str, actor: str | None, scope: Scope) -> None:
    """Take back what is not drawn of a grant. What was drawn stays."""
    with scope.app() as app:
        made, done = app.grant_void(scope.namespace, id_, reason, actor)
        shown = made.shown(app.clock.now_us())
    if scope.as_json:
        print_json(shown | {"voided": done})
    elif done:
        click.echo(
            f"Took back {shown['lost']} {shown['currency']} of {id_}; {shown['drawn']} had been drawn and stays."
        )
    else:
        click.echo(f"Nothing to do: {id_} is void already.")
