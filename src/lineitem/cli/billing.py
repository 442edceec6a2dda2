"""``lineitem bill`` and ``lineitem invoice``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lineitem.cli.canary import check_canaries
from lineitem.cli.explained import rate_text
from lineitem.cli.output import Scope, ledger_command, print_json, say, table


@click.command()
@click.option("--period", required=True, help="The month to bill, e.g. 2026-10.")
@click.option("--account", help="Only this account.")
@ledger_command
def bill(period: str, account: str | None, scope: Scope) -> int:
    """Make the invoices of a period. Billing again adds nothing; late usage gets a supplementary invoice."""
    from lineitem.core.period import Month

    month = Month.parse(period)
    with scope.app() as app:
        done = app.bill(scope.namespace, month, account)
        check_canaries(app, scope.namespace)
    for invoice in done.open_periods:
        say(f"{invoice}: the period has not ended; later usage gets a supplementary invoice")
    for one in done.refused:
        say(f"{one['account']} has no invoice for {period}: {one['reason']}\n  {one['do']}")
    if scope.as_json:
        print_json({"invoices": done.invoices, "carried": done.carried, "refused": done.refused})
        return 1 if done.refused else 0
    columns = ["number", "account", "currency", "total"]
    table(f"Invoices of {period}", columns, [[one[name] for name in columns] for one in done.invoices], right=["total"])
    for one in done.carried:
        say(f"{one['account']}: {one['total']} {one['currency']} is negative and carried forward")
    return 1 if done.refused else 0


@click.group()
def invoice() -> None:
    """Show invoices and write them as PDF."""


@invoice.command("list")
@click.option("--period", help="Only this month's.")
@click.option("--account", help="Only this account's.")
@ledger_command
def list_(period: str | None, account: str | None, scope: Scope) -> None:
    """List invoices."""
    from lineitem.billing import run
    from lineitem.core.period import Month

    month = None if period is None else Month.parse(period)
    with scope.app() as app:
        found = run.invoices(app.control, scope.namespace, month, account)
    if scope.as_json:
        print_json({"invoices": found})
        return
    columns = ["number", "account", "period", "currency", "total"]
    table("Invoices", columns, [[one[name] for name in columns] for one in found], right=["total"])


@invoice.command()
@click.argument("number")
@ledger_command
def show(number: str, scope: Scope) -> None:
    """Show one invoice."""
    from lineitem.billing import run
    from lineitem.billing.invoice import invoice_to_json

    with scope.app() as app:
        found = invoice_to_json(run.invoice(app.control, scope.namespace, number))
    if scope.as_json:
        print_json(found)
        return
    columns = ["line", "description", "quantity", "unit", "amount"]
    rows = [[_cell(line, name) for name in columns] for line in found["lines"]]
    if "conversion" in found:
        columns[4:4] = ["original", "rates"]
        for row, line in zip(rows, found["lines"], strict=True):
            before = line["original"]
            row[4:4] = [f"{before['amount_exact']} {before['currency']}", ", ".join(map(rate_text, before["rates"]))]
    right = ["quantity", "original", "amount"]
    table(f"{found['number']}  {found['account_name']}  {found['period']}", columns, rows, right=right)
    click.echo(f"Total {found['total']} {found['currency']}")


def _cell(line: dict[str, Any], name: str) -> object:
    return "" if name == "quantity" and line["kind"] == "credit" else line[name]


@invoice.command()
@click.argument("number")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write.  [default: NUMBER.pdf]")
@ledger_command
def pdf(number: str, output: Path | None, scope: Scope) -> None:
    """Write one invoice as PDF."""
    from lineitem.billing import run
    from lineitem.billing.document import render_pdf
    from lineitem.cli.output import write_file

    with scope.app() as app:
        found = run.invoice(app.control, scope.namespace, number)
    path = output or Path(f"{number.replace('/', '-')}.pdf")
    write_file(path, render_pdf(found))
    if scope.as_json:
        print_json({"number": number, "file": str(path)})
    else:
        click.echo(f"Wrote {path}.")
