"""``lineitem backfill``: what a named backfill brought in, and taking it out again as one."""

from __future__ import annotations

from typing import Any

import click

from lineitem.cli.lifecycle import acting
from lineitem.cli.output import Scope, fields, ledger_command, print_json, progress_bar, table

_COLUMNS = ["account", "price", "service_period", "quantity", "unit", "amount", "currency"]
_ROWS_SHOWN = 50


@click.group()
def backfill() -> None:
    """Named backfills: old usage that `lineitem ingest --backfill NAME` brought in."""


@backfill.command("list")
@ledger_command
def list_(scope: Scope) -> None:
    """List backfills: how much each brought in, and whether it was reverted."""
    from lineitem.ledger.backfills import listed

    with scope.app() as app:
        found = listed(app.control, scope.namespace)
    if scope.as_json:
        print_json({"backfills": found})
        return
    if not found:
        click.echo("No backfills.")
        return
    columns = [
        "name",
        "state",
        "received",
        "accepted",
        "duplicate",
        "dead_lettered",
        "retracted",
        "reverted",
        "batches",
    ]
    rows = [[one[name] for name in columns] for one in found]
    table("Backfills", columns, rows, right=columns[2:])


@backfill.command()
@click.argument("name", metavar="NAME")
@ledger_command
def show(name: str, scope: Scope) -> None:
    """Show one backfill: what it brought in, what that came to by account and price, how it was reverted."""
    from lineitem.ledger.backfills import shown

    check_name(name)
    with scope.app() as app:
        found = shown(app.control, scope.namespace, name)
    if scope.as_json:
        print_json(found)
        return
    changes, reverts = found.pop("changes"), found.pop("reverts")
    fields({name.replace("_", " "): value for name, value in found.items() if value is not None})
    show_changes("What its batches posted", changes)
    if reverts:
        rows = [
            [one["at"], one["by"], one["reason"], one["events"], one["line_items"], one["batch"]] for one in reverts
        ]
        columns = ["when", "by", "why", "events", "line items", "batch"]
        table("Reverted", columns, rows, right=columns[3:5])


@backfill.command()
@click.argument("name", metavar="NAME")
@click.option("--reason", help="Why; stays in the audit trail. Needed unless --dry-run.")
@click.option("--dry-run", is_flag=True, help="Only say what would change, by account and price.")
@acting
@ledger_command
def revert(name: str, reason: str | None, dry_run: bool, actor: str | None, scope: Scope) -> None:
    """Take everything a backfill brought in out again: its periods are folded without it, the differences posted.

    No row is changed. What stops half way goes on when the same command is run again; once done it does nothing. The name
    is spent then; the events may come in again under another one.
    """
    from lineitem.core.errors import UsageError

    check_name(name)
    if reason is None and not dry_run:
        raise UsageError(
            "reverting a backfill needs a reason", do="Say why with --reason, or look first with --dry-run."
        )
    with scope.app() as app, progress_bar("Reverting", None, quiet=scope.as_json) as show_progress:
        done = app.backfill_revert(scope.namespace, name, actor, reason or "", show_progress, dry_run=dry_run)
    document = done.document()
    if scope.as_json:
        print_json(document)
        return
    if not done.events:
        click.echo(f"Nothing of backfill {name} is left to revert.")
        return
    title = "What reverting would change; nothing was written" if dry_run else "What reverting changed"
    show_changes(title, document["changes"])
    verb = "would be" if dry_run else "were"
    click.echo(f"{done.events} events {verb} taken out; {done.line_items} line items post the difference.")


def show_changes(title: str, changes: Any) -> None:
    """Changes by account and price, for people."""
    if not changes:
        return
    rows = [[one[name] for name in _COLUMNS] for one in changes[:_ROWS_SHOWN]]
    table(title, [name.replace("_", " ") for name in _COLUMNS], rows, right=["quantity", "amount"])
    if len(changes) > _ROWS_SHOWN:
        click.echo(f"... and {len(changes) - _ROWS_SHOWN} more: --json lists them all.")


def check_name(name: str) -> None:
    """Raises UsageError for what cannot name a backfill."""
    from lineitem.catalog.fields import ID_PATTERN, ID_RULE
    from lineitem.core.errors import UsageError

    if not ID_PATTERN.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a backfill", do=f"{ID_RULE[:1].upper()}{ID_RULE[1:]}.")
