"""Reading the ledger: line items, usage, why, whether it is intact; and retracting an event."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

import click

from lineitem.cli.output import (
    Scope,
    console,
    fields,
    ledger_command,
    print_json,
    print_json_lines,
    progress_bar,
    say,
    table,
)

_ROWS_SHOWN = 50


@click.command("line-items")
@click.option("--account", help="Only this account's.")
@click.option("--period", help="Only those posted to this period, e.g. 2026-10.")
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
@ledger_command
def line_items(account: str | None, period: str | None, limit: int | None, scope: Scope) -> None:
    """List priced line items, in the order they were posted. With --json: JSON Lines, one line item a line."""
    from lineitem.core.period import Month
    from lineitem.ledger import read

    month = None if period is None else Month.parse(period)
    with scope.app() as app:
        found = read.line_items(app.control, scope.namespace, account=account, month=month)
        if scope.as_json:
            print_json_lines(islice(found, limit))
            return
        shown = list(islice(found, (limit or _ROWS_SHOWN) + 1))
    columns = [
        "id",
        "account",
        "price",
        "kind",
        "quantity",
        "unit",
        "amount",
        "currency",
        "event_time",
        "posting_period",
    ]
    rows = shown[: limit or _ROWS_SHOWN]
    table("Line items", columns, [[row[name] for name in columns] for row in rows], right=["quantity", "amount"])
    if len(shown) > len(rows):
        say(f"The first {len(rows)} are shown; --limit shows more, --json all.")


@click.command()
@click.option("--account", required=True, help="Whose usage.")
@click.option("--period", required=True, help="The service period, e.g. 2026-10.")
@ledger_command
def usage(account: str, period: str, scope: Scope) -> None:
    """What an account used and owes in a period so far."""
    from lineitem.core.period import Month
    from lineitem.ledger import read

    month = Month.parse(period)
    with scope.app() as app:
        found = read.usage(app.control, scope.namespace, account, month)
    if scope.as_json:
        print_json(found)
        return
    columns = ["price", "meter", "quantity", "unit", "amount", "currency"]
    rows = [[price.get(name, "") for name in columns] for price in found["prices"]]
    rows += [[one["grant"], "", "", "credit", f"-{one['drawn']}", one["currency"]] for one in found.get("credits", ())]
    table(f"{account}, {period}", columns, rows, right=["quantity", "amount"])
    waiting = [price["price"] for price in found["prices"] if "pending_readings" in price]
    if waiting:
        names = ", ".join(dict.fromkeys(waiting))
        click.echo(f"Readings of {names} count once the month is billed or closed; that is not in these amounts.")


@click.command()
@click.argument("id_", metavar="ID")
@ledger_command
def explain(id_: str, scope: Scope) -> None:
    """Why a line item or an invoice says what it says, down to the raw events.

    ID is a line item's id, an invoice's number, or a line of one: INV-2026-000001#2.
    """
    from lineitem.billing.explain import explain as explain_any
    from lineitem.cli.explained import show

    with scope.app() as app:
        found = explain_any(app.control, app.segments, scope.namespace, id_)
    if scope.as_json:
        print_json(found)
    else:
        show(found)


@click.command()
@click.option("--deep", is_flag=True, help="Also fold everything again from the raw segments.")
@ledger_command
def verify(deep: bool, scope: Scope) -> int:
    """Recompute the ledger and name whatever was altered.

    Checks every batch's hash and place in its chain, every line item against its batch's Merkle root, accepted events,
    dead letters, totals, invoices, published catalogs, and all signed checkpoints. Exit code 1 when something is wrong.
    """
    from lineitem.ledger.gaps import in_words

    with scope.app() as app, progress_bar("Verifying", None, quiet=scope.as_json) as show:
        report = app.verify(deep=deep, progress=lambda _, rows: show(rows))
    document = report.document()
    findings = document["findings"]
    if scope.as_json:
        print_json(document)
        return int(not report.ok)
    for finding in findings:
        click.echo(f"batch {finding['batch']}: {finding['what']}" if finding["batch"] else finding["what"])
    fields(
        {"batches": report.batches, "line items": report.line_items, "accepted events": report.events} | report.counts
    )
    if report.gaps is not None and report.gaps["gaps"]:
        click.echo(f"Gaps in producers' sequences: {in_words(report.gaps)}")
    click.echo(
        f"Nothing was altered; the ledger extends all {report.checkpoints} signed checkpoints."
        if report.ok
        else f"{len(findings)} things are not as they were written. First: {findings[0]['what']}"
    )
    return int(not report.ok)


@click.command()
@click.argument("id_", metavar="ID")
@ledger_command
def proof(id_: str, scope: Scope) -> None:
    """Prove that one line item is in the signed ledger: its leaf, the path to the root, the chain, a checkpoint."""
    from lineitem.ledger.proof import check_proof
    from lineitem.ledger.proof import proof as prove

    with scope.app() as app:
        found = prove(app.control, app.notary, scope.namespace, id_)
    if scope.as_json:
        print_json(found)
        return
    click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    say("The proof holds." if check_proof(found) else "The proof does NOT hold: run `lineitem verify`.")


@click.command()
@click.option("--source", required=True, help="The event's source.")
@click.option("--id", "event_id", required=True, help="The event's id.")
@click.option("--reason", required=True, help="Why; stays in the audit trail.")
@ledger_command
def retract(source: str, event_id: str, reason: str, scope: Scope) -> None:
    """Say that an event did not happen: its period is folded again without it and the difference is posted."""
    with scope.app() as app:
        made = app.retract(scope.namespace, source, event_id, reason)
    answer: dict[str, Any] = {"source": source, "id": event_id, "line_items": made}
    if scope.as_json:
        print_json(answer)
    else:
        console().print(f"Retracted; {made} line items post the difference.")
